//! What certificates were used for: which connections they opened, as the hosts say. A host signs it with its SSH host
//! key, and no certificate that a CA of ours did not sign is spoken of: what is an alarm proves itself.

use serde::{Deserialize, Serialize};
use ssh_key::Certificate;

use super::digest::Digest;
use super::host::EnrolledHost;
use super::host_word::{self, HostWord};
use super::key::PublicKey;
use super::names::{HostName, InstanceId};
use super::policy::Policy;
use super::refusal::Refusal;
use super::statement::Version;
use super::text::deceives;
use super::time::Timestamp;
use super::trust::{CaRole, Chain};
use super::verify::Signed;

/// The SSHSIG namespace of a host's word.
pub const NAMESPACE: &str = "use@ssh-jit";

/// Names of accounts and addresses are not longer.
const LONGEST_NAME: usize = 255;

/// A connection that a certificate opened, as its host states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct Use {
    pub v: Version,
    pub kind: UseTag,
    pub instance: InstanceId,
    pub host: HostName,
    pub connection: Connection,
    pub at: Timestamp,
}

/// Says that a document states a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UseTag {
    /// `"kind":"use"`.
    Use,
}

/// A connection that a certificate opened, as its host remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Which one, among all of the host's.
    pub session: Digest,
    /// Algorithm and base64.
    pub certificate: String,
    /// The account that it opened.
    pub account: String,
    /// Where it came from: an address, or a name where sshd looks names up.
    pub source: String,
    /// From when.
    pub began: Timestamp,
    /// Until when; `None` while it is open, and for ever when the host went down with it.
    pub ended: Option<Timestamp>,
}

/// A use as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of a connection")]
pub struct Seen {
    pub host: HostName,
    pub account: String,
    pub source: String,
    pub began: Timestamp,
    pub ended: Option<Timestamp>,
}

impl HostWord for Use {
    const NAMESPACE: &'static str = NAMESPACE;
    fn instance(&self) -> &InstanceId {
        &self.instance
    }
    fn host(&self) -> &HostName {
        &self.host
    }
    fn at(&self) -> Timestamp {
        self.at
    }
}

impl Use {
    /// A host's word, when the policy or the host's enrolment says now that the key which signed it is that host's, and
    /// it is fresh.
    pub fn check(
        signed: &Signed,
        by: (&Policy, Option<&EnrolledHost>),
        instance: &InstanceId,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let stated: Self = host_word::hear(signed, by, instance, now)?;
        for (field, name) in [("account", &stated.connection.account), ("source", &stated.connection.source)] {
            if name.len() > LONGEST_NAME || name.chars().any(deceives) {
                return Err(Refusal::Malformed { what: format!("{field}: a name of at most {LONGEST_NAME} bytes") });
            }
        }
        Ok(stated)
    }

    /// As it is shown.
    pub fn seen(&self) -> Seen {
        let Connection { account, source, began, ended, .. } = self.connection.clone();
        Seen { host: self.host.clone(), account, source, began, ended }
    }
}

/// A certificate that one of our CAs signed, those that were retired included.
#[derive(Debug)]
pub struct Ours {
    certificate: Certificate,
    blob: Vec<u8>,
    /// Whether the CA of broken glass signed it.
    pub emergency: bool,
}

impl Ours {
    /// Reads it in its one-line form.
    pub fn read(line: &str, chain: &Chain) -> Result<Self, Refusal> {
        let certificate = Certificate::from_openssh(line).ok();
        let blob = certificate.as_ref().and_then(|certificate| certificate.to_bytes().ok());
        let (Some(certificate), Some(blob)) = (certificate, blob) else {
            return Err(Refusal::Malformed { what: "certificate: it cannot be read".to_owned() });
        };
        let by = |role| chain.every(role).any(|ca| ca.data() == certificate.signature_key());
        let emergency = by(CaRole::BreakGlass);
        if !(emergency || by(CaRole::User)) || certificate.verify_signature().is_err() {
            return Err(Refusal::ForeignCertificate);
        }
        Ok(Self { certificate, blob, emergency })
    }

    /// The wire form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The serial that it carries, which may be one that the service never gives.
    pub fn serial(&self) -> u64 {
        self.certificate.serial()
    }

    /// The key id that it carries.
    pub fn key_id(&self) -> &str {
        self.certificate.key_id()
    }

    /// Whether it certifies this key.
    pub fn certifies(&self, key: &PublicKey) -> bool {
        key.data() == self.certificate.public_key()
    }

    /// Whether it is made of exactly these bytes and a signature over them.
    pub fn is_made_of(&self, tbs: &[u8]) -> bool {
        self.blob.starts_with(tbs)
    }
}

/// `used on 2 hosts, 14 min`, or `never used`.
pub fn summary(uses: &[Seen], now: Timestamp) -> String {
    let mut hosts: Vec<&HostName> = uses.iter().map(|seen| &seen.host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let seconds: i64 = uses.iter().map(|seen| seen.ended.unwrap_or(now).since(seen.began).max(0)).sum();
    let length = if seconds < 60 { format!("{seconds} s") } else { format!("{} min", seconds / 60) };
    match hosts.as_slice() {
        [] => "never used".to_owned(),
        [host] => format!("used on {host}, {length}"),
        many => format!("used on {} hosts, {length}", many.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_hosts_and_minutes() {
        let seen = |host: &str, began: i64, ended: Option<i64>| Seen {
            host: host.parse().unwrap(),
            account: "postgres".to_owned(),
            source: "::1".to_owned(),
            began: Timestamp::from_unix(began),
            ended: ended.map(Timestamp::from_unix),
        };
        let now = Timestamp::from_unix(10_000);
        assert_eq!(summary(&[], now), "never used");
        assert_eq!(summary(&[seen("db1", 0, Some(59))], now), "used on db1, 59 s");
        assert_eq!(
            summary(&[seen("db1", 0, Some(600)), seen("db2", 9_750, None), seen("db1", 0, Some(0))], now),
            "used on 2 hosts, 14 min"
        );
    }
}
