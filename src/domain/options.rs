//! Certificate options. Restrictions live in critical options only (sshd ignores what it does not
//! know among the extensions), and each value is checked here, because sshd refuses the whole
//! certificate for some bad values and silently ignores others.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::names::{Invalid, OptionName};

/// PROTOCOL.certkeys, "Extensions": what a role may permit. `no-touch-required` is left out: it weakens FIDO keys.
const EXTENSIONS: &[&str] =
    &["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// Refuses an extension that stock sshd does not know: it would be silently ignored.
pub(super) fn check_extension(name: &OptionName) -> Result<(), Invalid> {
    if EXTENSIONS.contains(&name.as_str()) {
        return Ok(());
    }
    let rule = "use permit-pty, permit-port-forwarding, permit-agent-forwarding, permit-X11-forwarding or permit-user-rc; \
                restrictions belong in critical_options";
    Err(Invalid::new("extension", name.as_str(), rule))
}

/// Refuses critical options that sshd would refuse or ignore (PROTOCOL.certkeys, "Critical options").
pub(super) fn check_critical(options: &BTreeMap<OptionName, String>) -> Result<(), Invalid> {
    options.iter().try_for_each(|(name, value)| match name.as_str() {
        "force-command" => check_command(value),
        "source-address" => check_addresses(value),
        // verify-required is ignored on keys that are not FIDO keys, and subject keys are not.
        _ => Err(Invalid::new("critical option", name.as_str(), "use force-command or source-address")),
    })
}

/// A command that is empty would be no restriction at all.
fn check_command(command: &str) -> Result<(), Invalid> {
    if command.trim().is_empty() || command.len() > 1000 || command.chars().any(super::text::deceives) {
        return Err(Invalid::new("force-command", command, "write one line of 1 to 1000 visible characters"));
    }
    Ok(())
}

/// Comma-separated networks in canonical form: sshd refuses host bits, spaces, `!` and names.
fn check_addresses(list: &str) -> Result<(), Invalid> {
    let canonical = |part: &str| {
        let network: Option<IpNet> = part.parse().ok();
        // sshd never matches an IPv4 address that is written as IPv6.
        let mapped = |net: &IpNet| matches!(net, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
        network.is_some_and(|net| net.trunc().to_string() == part && net.prefix_len() > 0 && !mapped(&net))
    };
    if list.len() > 1000 || !list.split(',').all(canonical) {
        let rule = "write networks as 10.0.0.0/8,2001:db8::/32: no host bits, no spaces, not the whole internet";
        return Err(Invalid::new("source-address", list, rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn critical(name: &str, value: &str) -> Result<(), Invalid> {
        check_critical(&BTreeMap::from([(name.parse().unwrap(), value.to_owned())]))
    }

    /// O01: a restriction that nobody can honour is refused, never dropped.
    #[test]
    fn critical_options_hold_what_sshd_honours() {
        for value in ["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32,127.0.0.0/8"] {
            assert_eq!(critical("source-address", value), Ok(()));
        }
        for value in [
            "",
            " ",
            "10.0.0.0",
            "127.0.0.1/8",
            "10.0.0.0/8, 10.1.0.0/16",
            "10.0.0.0/8,",
            "!10.0.0.0/8",
            "host",
            "0.0.0.0/0",
            "::/0",
            "::ffff:127.0.0.1/128",
            "010.0.0.0/8",
        ] {
            assert!(critical("source-address", value).is_err(), "{value:?} must be refused");
        }
        for value in ["", " ", "\n", "ls\nrm", "ls\0"] {
            assert!(critical("force-command", value).is_err(), "{value:?} must be refused");
        }
        assert_eq!(critical("force-command", "/usr/bin/true"), Ok(()));
        assert!(critical("force-command", &"x".repeat(1001)).is_err());
        assert!(critical("source-address", &["10.0.0.0/8"; 92].join(",")).is_err(), "1011 characters");
        assert!(critical("verify-required", "").is_err());
        assert!(critical("x@y", "").is_err());
    }

    #[test]
    fn extensions_are_those_sshd_knows() {
        assert!(check_extension(&"permit-pty".parse().unwrap()).is_ok());
        for name in ["force-command", "no-touch-required", "permit-everything", "approval@ssh-jit"] {
            assert!(check_extension(&name.parse().unwrap()).is_err());
        }
    }
}
