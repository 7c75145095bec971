//! `ssh-jit ca`: the service's public keys, the lines that a host needs, and the keys that come and go.

mod folder;
mod others;
mod rotate;

use std::str::FromStr;

use crate::domain::key::PublicKey;
use crate::domain::names::Invalid;
use crate::domain::trust::Trust;

use super::person::Service;
use super::{Context, Exit, Failure, ssh_config};

/// What can be asked about the CA.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Print the trust document's keys
    Show {
        /// As the file that sshd's TrustedUserCAKeys names, with the configuration around it as comments
        #[arg(long)]
        sshd: bool,
        /// As a line of known_hosts: for the hosts of your roles, or for those that a pattern of OpenSSH's names
        #[arg(long, value_name = "PATTERN", num_args = 0..=1, conflicts_with = "sshd")]
        #[expect(clippy::option_option, reason = "clap's form of a flag that may have a value")]
        known_hosts: Option<Option<Pattern>>,
    },
    /// On the service's machine: have a new key take the place of a CA's, a step at a time
    Rotate(rotate::Args),
    /// On the service's machine: have hosts trust another break-glass CA, such as one in a security key
    Add(others::Args),
    /// On the service's machine: have hosts trust such a CA no longer
    Remove(others::Args),
}

pub(super) fn run(context: &Context, verb: &Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Show { sshd, known_hosts } => show(context, *sshd, known_hosts.as_ref()),
        Verb::Rotate(args) => rotate::run(context, args),
        Verb::Add(args) => others::add(context, args),
        Verb::Remove(args) => others::remove(context, args),
    }
}

fn show(context: &Context, sshd: bool, known_hosts: Option<&Option<Pattern>>) -> Result<Exit, Failure> {
    let service = Service::open(context)?;
    let (trust, ui) = (&service.trust, &context.ui);
    if let Some(pattern) = known_hosts {
        let pattern = pattern.as_ref().map_or_else(|| hosts_of_roles(&service), |pattern| Ok(pattern.0.clone()))?;
        let lines = ssh_config::certified(trust, &pattern);
        if ui.json { ui.data(&serde_json::json!({ "known_hosts": lines })) } else { ui.out(lines.trim_end()) }
    } else if ui.json {
        ui.data(trust);
    } else if sshd {
        ui.out(for_sshd(trust));
    } else {
        ui.out(format_args!("instance {}, trust document {}", trust.instance, trust.number));
        let line = |what: &str, keys: &[PublicKey]| {
            for key in keys {
                ui.out(format_args!("{what:<15} {}  {key}", key.fingerprint()));
            }
        };
        line("user CA", &trust.user_ca);
        line("break-glass CA", &trust.break_glass_ca);
        line("host CA", &trust.host_ca);
        line("log", std::slice::from_ref(&trust.log_key));
        line("journal", std::slice::from_ref(&trust.journal_key));
        line("revocations", std::slice::from_ref(&trust.krl_key));
    }
    Ok(Exit::Done)
}

/// Hosts, as known_hosts names them: a word of one line, that is neither a comment nor a marker.
#[derive(Debug, Clone)]
pub(super) struct Pattern(String);

impl FromStr for Pattern {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"*?!,.:[]_-".contains(&b);
        if !text.is_empty() && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("pattern", text, "write it as in known_hosts: db1,*.example.org"))
    }
}

fn hosts_of_roles(service: &Service) -> Result<String, Failure> {
    let hosts = ssh_config::hosts(service)?;
    if hosts.is_empty() {
        return Err(Failure::new("no host of your roles is known here")
            .hint("ssh-jit ca show --known-hosts '*.example.org' names them; * has this CA vouch for every host"));
    }
    Ok(hosts)
}

/// sshd reads `#` lines in this file as comments.
fn for_sshd(trust: &Trust) -> String {
    let mut lines = vec![
        "# Save this as /etc/ssh/ssh-jit-ca.pub, and in /etc/ssh/sshd_config.d/ssh-jit.conf write:".to_owned(),
        "#   TrustedUserCAKeys /etc/ssh/ssh-jit-ca.pub".to_owned(),
        "#   AuthorizedPrincipalsFile /etc/ssh/ssh-jit-principals/%u".to_owned(),
        "# In ssh-jit-principals/ACCOUNT write, for each role that opens the account, PRINCIPAL@THIS-HOST".to_owned(),
        "# (and PRINCIPAL alone for roles that are bound to no host). Then: sshd -t && systemctl reload ssh".to_owned(),
    ];
    lines.extend(trust.user_ca.iter().map(|key| format!("{key} ssh-jit-user-ca")));
    lines.push("# Without this line the host accepts no broken glass:".to_owned());
    lines.extend(trust.break_glass_ca.iter().map(|key| format!("{key} ssh-jit-break-glass-ca")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed is pasted into a file in which a line means something.
    #[test]
    fn a_pattern_is_one_word() {
        for good in ["db1", "*", "*.example.org,!db9", "[db1]:2222", "10.0.?.*"] {
            assert!(good.parse::<Pattern>().is_ok(), "{good}");
        }
        for bad in ["", "db1 db2", "db1\n* ssh-ed25519", "#db1", "@revoked", "db1\t", "|1|x|y"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
