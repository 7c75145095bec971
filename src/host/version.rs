//! What is known about versions of OpenSSH: what older ones lack, and flaws of sshd that a new version ended.

/// As OpenSSH numbers itself: 9.9p2 is `(9, 9, 2)`.
type Version = (u32, u32, u32);

/// The oldest that this is tried with.
const OLDEST: Version = (8, 4, 1);

/// A flaw of sshd that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Its name, and what it is.
    pub(super) what: String,
    /// Whether its distribution builds it, and may have mended it under the same version.
    pub(super) vendor: Option<String>,
}

/// From, first version without it, and what it is.
const FLAWS: [(Version, Version, &str); 5] = [
    ((8, 5, 1), (9, 8, 1), "CVE-2024-6387: a race before the login lets strangers run code"),
    ((0, 0, 0), (9, 6, 1), "CVE-2023-48795: somebody in between can drop the first messages of a connection"),
    ((9, 5, 1), (9, 9, 2), "CVE-2025-26466: strangers can use up memory and time before the login"),
    ((7, 4, 1), (10, 0, 1), "CVE-2025-32728: DisableForwarding leaves X11 and agent forwarding on"),
    (
        (0, 0, 0),
        (10, 3, 1),
        "CVE-2026-35414: cert-authority lines of authorized_keys take certificates without principals, and commas in them",
    ),
];

/// From `OpenSSH_9.2p1 Debian-2+deb12u10`: version, and who built it.
fn parse(text: &str) -> Option<(Version, Option<String>)> {
    let rest = text.trim().strip_prefix("OpenSSH_")?;
    let (number, vendor) = rest.split_once(' ').map_or((rest, None), |(number, vendor)| (number, Some(vendor)));
    let (main, patch) = number.split_once('p').unwrap_or((number, "1"));
    let (major, minor) = main.split_once('.')?;
    let minor = minor.split('.').next()?;
    let vendor = vendor.map(|vendor| vendor.trim().to_owned()).filter(|vendor| !vendor.is_empty());
    Some(((major.parse().ok()?, minor.parse().ok()?, patch.parse().unwrap_or(1)), vendor))
}

/// What this version lacks of what a host should have, or does in another way.
pub(super) fn lacks(text: &str) -> Vec<String> {
    let Some((version, _)) = parse(text) else { return vec![format!("{text}: this version is not known")] };
    let mut lacks = Vec::new();
    if version < OLDEST {
        lacks.push(format!("{text} is older than 8.4, the oldest that this is tried with; 8.2 brought Include"));
    }
    if version < (10, 3, 1) {
        lacks.push(format!("{text} takes certificates without principals by cert-authority lines of authorized_keys"));
    }
    if version >= (9, 8, 1) {
        lacks.push(format!(
            "{text} drops an address for a while that was refused (PerSourcePenalties): think of bastions"
        ));
    }
    lacks
}

/// The flaws of this version that are known.
pub(super) fn flaws(text: &str) -> Vec<Flaw> {
    let Some((version, vendor)) = parse(text) else { return Vec::new() };
    let known = FLAWS.iter().filter(|(from, without, _)| (*from..*without).contains(&version));
    known.map(|(_, _, what)| Flaw { what: (*what).to_owned(), vendor: vendor.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_openssh_writes_them() {
        let cases = [
            ("OpenSSH_9.2p1 Debian-2+deb12u10", Some(((9, 2, 1), Some("Debian-2+deb12u10".to_owned())))),
            ("OpenSSH_9.9p2", Some(((9, 9, 2), None))),
            ("OpenSSH_10.0p2 ", Some(((10, 0, 2), None))),
            ("OpenSSH_9.2", Some(((9, 2, 1), None))),
            ("OpenSSH_for_Windows_9.5p1", None),
            ("dropbear", None),
        ];
        for (text, version) in cases {
            assert_eq!(parse(text), version, "{text}");
        }
    }

    /// CVE by CVE: the last version with it, and the first without.
    #[test]
    fn flaws_begin_and_end_with_their_versions() {
        let has = |version: &str, cve: &str| flaws(version).iter().any(|flaw| flaw.what.starts_with(cve));
        for (cve, with, without) in [
            ("CVE-2024-6387", "OpenSSH_8.5p1", "OpenSSH_8.4p1"),
            ("CVE-2024-6387", "OpenSSH_9.7p1", "OpenSSH_9.8p1"),
            ("CVE-2023-48795", "OpenSSH_9.5p1", "OpenSSH_9.6p1"),
            ("CVE-2025-26466", "OpenSSH_9.9p1", "OpenSSH_9.9p2"),
            ("CVE-2025-32728", "OpenSSH_9.9p2", "OpenSSH_10.0p1"),
            ("CVE-2026-35414", "OpenSSH_10.2p1", "OpenSSH_10.3p1"),
        ] {
            assert!(has(with, cve), "{cve} {with}");
            assert!(!has(without, cve), "{cve} {without}");
        }
        assert!(flaws("OpenSSH_10.5p1").is_empty());
    }

    #[test]
    fn old_and_new_ones_are_told_apart() {
        assert!(lacks("OpenSSH_8.3p1")[0].contains("older than 8.4"));
        assert!(lacks("OpenSSH_9.2p1 Debian-2+deb12u10").iter().all(|lack| !lack.contains("older than")));
        assert_eq!(lacks("OpenSSH_10.5p1").len(), 1);
        assert!(lacks("dropbear")[0].contains("not known"));
    }
}
