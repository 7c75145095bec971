//! `ssh-jit ca`: the service's public keys, the lines that a host needs, and the keys that come and go.

mod folder;
mod others;
mod rotate;

use crate::domain::key::PublicKey;
use crate::domain::trust::Trust;

use super::person::Service;
use super::{Context, Exit, Failure};

/// What can be asked about the CA.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Print the trust document's keys
    Show {
        /// As the file that sshd's TrustedUserCAKeys names, with the configuration around it as comments
        #[arg(long)]
        sshd: bool,
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
        Verb::Show { sshd } => show(context, *sshd),
        Verb::Rotate(args) => rotate::run(context, args),
        Verb::Add(args) => others::add(context, args),
        Verb::Remove(args) => others::remove(context, args),
    }
}

fn show(context: &Context, sshd: bool) -> Result<Exit, Failure> {
    let trust = Service::open(context)?.trust;
    let ui = &context.ui;
    if ui.json {
        ui.data(&trust);
    } else if sshd {
        ui.out(for_sshd(&trust));
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
