//! What `setup` has people include in their ssh_config. One file says which hosts plain ssh asks for by itself; it
//! includes another with the certificates that the agent does not hold together with their keys. ssh opens that one
//! only after `ensure` has run, and so finds what came a moment ago.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::client::certificate;
use crate::domain::names::HostName;
use crate::domain::trust::Trust;

use super::person::Service;
use super::{Context, Failure};

/// Where the file lies that people include.
pub(super) fn path(context: &Context) -> PathBuf {
    context.environment.config.join("ssh_config")
}

/// Where the certificates are named.
fn certificates(context: &Context) -> PathBuf {
    context.environment.config.join("certificates")
}

/// Writes the file that people include, for hosts that plain ssh asks for by itself.
pub(super) fn write_snippet(context: &Context, hosts: &[HostName]) -> Result<(), Failure> {
    crate::files::make_private_folder(&context.environment.config)?;
    // ssh looks for relative paths in ~/.ssh.
    let certificates = std::path::absolute(certificates(context))?;
    crate::files::write_private(&path(context), snippet(&certificates, hosts).as_bytes())?;
    Ok(())
}

/// A shell reads the `exec` line; `%h` is put there only once it is one of the names before it, and those are host
/// names as this program knows them: letters, digits, dots and dashes.
fn snippet(certificates: &Path, hosts: &[HostName]) -> String {
    let mut text = String::from("# Written by ssh-jit setup.\n");
    if !hosts.is_empty() {
        let hosts = hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(",");
        // A connection that is kept open would outlive the certificate.
        let _ = writeln!(text, "Match host {hosts}\n    ControlPath none");
        let _ = writeln!(text, "Match host {hosts} exec \"ssh-jit ensure %h\"\n    ControlMaster no");
    }
    let _ = writeln!(text, "Match all\n    Include \"{}\"", certificates.display());
    text
}

/// Names the certificates that live; what is dead is forgotten.
pub(super) fn write(context: &Context, service: &Service) -> Result<(), Failure> {
    let now = service.now(context);
    let mut text = String::from("# Written by ssh-jit at each login. Certificates that live, and end by themselves.\n");
    for pending in service.state.all_pending()? {
        let Some(held) = &pending.certificate else { continue };
        if held.valid_before <= now {
            service.state.forget(&pending.id)?;
        } else if !held.in_agent {
            let certificate = service.state.certificate_path(&pending.id);
            let key = pending.emergency.clone().unwrap_or_else(|| service.state.key_path(&pending.id));
            // Writing to a String cannot fail. The paths hold an id of ours behind a folder of the person's.
            let _ = writeln!(text, "CertificateFile \"{}\"", certificate.display());
            if key.exists() {
                let _ = writeln!(text, "IdentityFile \"{}\"", key.display());
            }
        }
    }
    crate::files::make_private_folder(&context.environment.config)?;
    text += &known(context, &service.trust, &hosts(service)?)?;
    crate::files::write_private(&certificates(context), text.as_bytes())?;
    if path(context).exists() { Ok(()) } else { write_snippet(context, &[]) }
}

/// Writes the file by which ssh knows the hosts that the service certifies, and has it read for these. Not for others,
/// so that the CA vouches for no host that it has nothing to do with; and beside the person's own files, which stay.
fn known(context: &Context, trust: &Trust, hosts: &str) -> Result<String, Failure> {
    if hosts.is_empty() {
        return Ok(String::new());
    }
    let path = std::path::absolute(context.environment.config.join("known_hosts"))?;
    crate::files::write_private(&path, certified(trust, hosts).as_bytes())?;
    let usual = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2";
    Ok(format!("Match host {hosts}\n    GlobalKnownHostsFile {usual} \"{}\"\n", path.display()))
}

/// The lines of known_hosts by which these hosts are known by their certificates.
pub(super) fn certified(trust: &Trust, hosts: &str) -> String {
    trust.host_ca.iter().map(|key| format!("@cert-authority {hosts} {key} ssh-jit-host-ca\n")).collect()
}

/// The hosts of the person's roles and certificates, with commas between them.
pub(super) fn hosts(service: &Service) -> Result<String, Failure> {
    let mut hosts: BTreeSet<HostName> = service.state.roles()?.into_iter().flat_map(|role| role.hosts).collect();
    for held in service.state.all_pending()?.into_iter().filter_map(|pending| pending.certificate) {
        let Ok((_, principals)) = certificate::told(&held.certificate) else { continue };
        hosts.extend(principals.iter().filter_map(|principal| principal.split_once('@')?.1.parse().ok()));
    }
    Ok(hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snippet_asks_for_the_hosts_of_the_roles() {
        let hosts: Vec<HostName> = ["db1", "db2.example"].map(|host| host.parse().unwrap()).to_vec();
        let expected = "# Written by ssh-jit setup.\n\
            Match host db1,db2.example\n    ControlPath none\n\
            Match host db1,db2.example exec \"ssh-jit ensure %h\"\n    ControlMaster no\n\
            Match all\n    Include \"/home/alice/certificates\"\n";
        assert_eq!(snippet(Path::new("/home/alice/certificates"), &hosts), expected);
        assert!(!snippet(Path::new("/c"), &[]).contains("exec"));
    }

    /// H03: nothing that a service says becomes a directive, a pattern or a piece of a shell's line.
    #[test]
    fn only_host_names_get_into_the_snippet() {
        for name in [
            "db1\nProxyCommand evil",
            "db1\r\n",
            "db1 exec evil",
            "db1\" exec \"evil",
            "*",
            "db?",
            "!db1",
            "db1,db2",
            "$(evil)",
            "`evil`",
            "%h",
            "-oProxyCommand=evil",
            "db1;evil",
            "db1#",
            "",
        ] {
            let hosts = serde_json::to_string(&[name]).unwrap();
            assert!(serde_json::from_str::<Vec<HostName>>(&hosts).is_err(), "{name:?}");
        }
    }
}
