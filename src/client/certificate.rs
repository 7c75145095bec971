//! What a client checks before it uses a certificate: a service that is wrong, or not the one that was
//! pinned, must not get the person to use something else than they asked for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::Certificate;
use ssh_key::certificate::CertType;

use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, Principal};
use crate::domain::text::deceives;
use crate::domain::time::{Seconds, Timestamp};

/// What was asked for, and so what the certificate may hold.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The CA keys that were pinned.
    pub cas: &'a [PublicKey],
    /// The key that is to be certified.
    pub key: &'a PublicKey,
    /// What the key id must begin with.
    pub key_id: &'a str,
    /// The principals that were asked for or told; empty when the service chose.
    pub principals: &'a [Principal],
    /// The hosts that were asked for; empty when the service chose.
    pub hosts: &'a [HostName],
    /// The longest that was asked for or told.
    pub longest: Option<Seconds>,
    /// Now.
    pub now: Timestamp,
}

/// A certificate that holds no more than was asked for.
#[derive(Debug)]
pub struct Checked {
    /// The wire form, as agents take it.
    pub blob: Vec<u8>,
    /// The first second in which it counts no more.
    pub valid_before: Timestamp,
    /// What it opens.
    pub principals: Vec<String>,
}

/// A host's certificate, as it may be shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfHost {
    /// Algorithm and base64.
    pub line: String,
    /// The first second in which it counts.
    pub valid_after: Timestamp,
    /// The first second in which it counts no more.
    pub valid_before: Timestamp,
    /// The names by which the host is reached.
    pub names: Vec<HostName>,
}

impl OfHost {
    /// Reads the certificate of this host and key, signed by one of these CAs. Whether its time is now is not asked.
    pub fn read(line: &str, cas: &[PublicKey], key: &PublicKey, host: &HostName) -> Result<Self, Surprise> {
        let certificate = blob(line).and_then(|blob| Certificate::from_bytes(&blob).ok()).ok_or(Surprise("form"))?;
        if certificate.cert_type() != CertType::Host {
            return Err(Surprise("type"));
        }
        if !is_signed(&certificate, cas) {
            return Err(Surprise("CA"));
        }
        if certificate.public_key() != key.data() {
            return Err(Surprise("key"));
        }
        let names: Result<Vec<HostName>, _> = certificate.valid_principals().iter().map(|name| name.parse()).collect();
        let names = names.ok().filter(|names| names.contains(host)).ok_or(Surprise("principals"))?;
        if certificate.critical_options().iter().chain(certificate.extensions().iter()).next().is_some() {
            return Err(Surprise("options"));
        }
        let time = |seconds| i64::try_from(seconds).map(Timestamp::from_unix).map_err(|_| Surprise("window"));
        Ok(Self {
            line: line.to_owned(),
            valid_after: time(certificate.valid_after())?,
            valid_before: time(certificate.valid_before())?,
            names,
        })
    }
}

/// The service sent something else than what was asked for: named by the field.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is not used: its {0} is not what was asked for")]
pub struct Surprise(pub &'static str);

/// Checks a certificate in its one-line form.
pub fn check(line: &str, expected: &Expected<'_>) -> Result<Checked, Surprise> {
    let blob = blob(line).ok_or(Surprise("form"))?;
    let certificate = Certificate::from_bytes(&blob).map_err(|_| Surprise("form"))?;
    if certificate.cert_type() != CertType::User {
        return Err(Surprise("type"));
    }
    if !is_signed(&certificate, expected.cas) {
        return Err(Surprise("CA"));
    }
    if certificate.public_key() != expected.key.data() {
        return Err(Surprise("key"));
    }
    // Hosts write it into their logs.
    if !certificate.key_id().starts_with(expected.key_id) || certificate.key_id().chars().any(deceives) {
        return Err(Surprise("key id"));
    }
    let principals: Vec<String> = certificate.valid_principals().to_vec();
    let told: Vec<String> = expected.principals.iter().map(ToString::to_string).collect();
    let elsewhere = |p: &String| {
        let host = p.split_once('@').map(|(_, host)| host);
        !expected.hosts.is_empty() && !expected.hosts.iter().any(|asked| host == Some(asked.as_str()))
    };
    if principals.is_empty()
        || principals.iter().any(elsewhere)
        || !(told.is_empty() || principals.iter().all(|p| told.contains(p)))
    {
        return Err(Surprise("principals"));
    }
    let (after, before) = (certificate.valid_after(), certificate.valid_before());
    let length = before.checked_sub(after).and_then(Seconds::new).ok_or(Surprise("window"))?;
    let valid_before = i64::try_from(before).map(Timestamp::from_unix).map_err(|_| Surprise("window"))?;
    if expected.longest.is_some_and(|longest| length > longest) || valid_before <= expected.now {
        return Err(Surprise("window"));
    }
    let permitted = |(name, value): (&String, &String)| name.starts_with("permit-") && value.is_empty();
    // OpenSSH reads no certificate with a NUL in a value.
    let restricted = |(name, value): (&String, &String)| {
        let known = ["force-command", "source-address", "verify-required"].contains(&name.as_str());
        known && !value.chars().any(deceives)
    };
    let honest =
        certificate.extensions().iter().all(permitted) && certificate.critical_options().iter().all(restricted);
    if !honest {
        return Err(Surprise("options"));
    }
    Ok(Checked { blob, valid_before, principals })
}

fn is_signed(certificate: &Certificate, cas: &[PublicKey]) -> bool {
    cas.iter().any(|ca| ca.data() == certificate.signature_key()) && certificate.verify_signature().is_ok()
}

/// The wire form of a certificate in its one-line form.
pub fn blob(line: &str) -> Option<Vec<u8>> {
    line.split(' ').nth(1).and_then(|b64| STANDARD.decode(b64.trim()).ok())
}

/// The first second in which a certificate counts, and what it opens, where it was checked before.
pub fn told(line: &str) -> Result<(Timestamp, Vec<String>), Surprise> {
    let certificate = blob(line).and_then(|blob| Certificate::from_bytes(&blob).ok()).ok_or(Surprise("form"))?;
    let after = i64::try_from(certificate.valid_after()).map(Timestamp::from_unix).map_err(|_| Surprise("window"))?;
    Ok((after, certificate.valid_principals().to_vec()))
}

#[cfg(test)]
mod tests {
    use ssh_key::PrivateKey;
    use ssh_key::certificate::Builder;
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    fn pair(seed: u8) -> PrivateKey {
        Ed25519Keypair::from_seed(&[seed; 32]).into()
    }

    fn public(seed: u8) -> PublicKey {
        pair(seed).public_key().to_openssh().unwrap().parse().unwrap()
    }

    fn made(kind: CertType, key: u8, ca: u8, names: &[&str], option: Option<&str>) -> String {
        let mut builder = Builder::new([0; 16], pair(key).public_key(), 1000, 2000).unwrap();
        builder.cert_type(kind).unwrap().key_id("x").unwrap();
        for name in names {
            builder.valid_principal(*name).unwrap();
        }
        if let Some(option) = option {
            builder.extension(option, "").unwrap();
        }
        builder.sign(&pair(ca)).unwrap().to_openssh().unwrap()
    }

    /// Whatever a service sends, a host shows only its own certificate, by a CA that is pinned.
    #[test]
    fn a_host_takes_its_own_certificate_and_no_other() {
        let read = |line: &str| OfHost::read(line, &[public(1)], &public(2), &"db1".parse().unwrap());
        let good = made(CertType::Host, 2, 1, &["db1", "10.0.0.1"], None);
        let held = read(&good).unwrap();
        assert_eq!((held.valid_after, held.valid_before), (Timestamp::from_unix(1000), Timestamp::from_unix(2000)));
        let table = [
            ("form", "nonsense".to_owned()),
            ("form", good[..good.len() - 9].to_owned()),
            ("type", made(CertType::User, 2, 1, &["db1"], None)),
            ("CA", made(CertType::Host, 2, 3, &["db1"], None)),
            ("key", made(CertType::Host, 3, 1, &["db1"], None)),
            ("principals", made(CertType::Host, 2, 1, &["db2"], None)),
            ("principals", made(CertType::Host, 2, 1, &["db1", "*"], None)),
            ("options", made(CertType::Host, 2, 1, &["db1"], Some("permit-pty"))),
        ];
        for (what, line) in table {
            assert_eq!(read(&line).unwrap_err().0, what);
        }
        let mut altered = blob(&good).unwrap();
        let last = altered.len() - 1;
        altered[last] ^= 1;
        let altered = format!("ssh-ed25519-cert-v01@openssh.com {}", STANDARD.encode(altered));
        assert_eq!(read(&altered).unwrap_err().0, "CA");
    }
}
