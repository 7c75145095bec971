//! The trust document: which service this is, and which keys speak for it. Clients and hosts pin the
//! instance at first contact and accept only higher numbers, signed by a CA key they already trust.

use serde::{Deserialize, Serialize};

use super::key::PublicKey;
use super::names::InstanceId;
use super::refusal::Refusal;
use super::statement::Version;
use super::time::Timestamp;
use super::verify::Signed;

/// The SSHSIG namespace of a trust document.
pub const NAMESPACE: &str = "trust@ssh-jit";

/// Who speaks for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct Trust {
    pub v: Version,
    pub kind: TrustTag,
    pub instance: InstanceId,
    /// Only grows: rotation is a new number.
    pub number: u64,
    /// Signs certificates of the ordinary path. Several while one follows another.
    pub user_ca: Vec<PublicKey>,
    /// Signs certificates of broken glass; hosts can distrust it alone.
    pub break_glass_ca: Vec<PublicKey>,
    /// Signs host certificates.
    pub host_ca: Vec<PublicKey>,
    /// Signs the list of revoked keys and serials.
    pub krl_key: PublicKey,
    /// Signs the break-glass journal's entries.
    pub journal_key: PublicKey,
    /// Signs the log's heads.
    pub log_key: PublicKey,
    pub at: Timestamp,
}

/// Says that a document is a trust document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustTag {
    /// `"kind":"trust"`.
    Trust,
}

impl Trust {
    /// Reads a document that vouches for itself: signed by one of the user CAs it names. Good for first
    /// contact, when there is nothing to compare it with.
    pub fn first_contact(signed: &Signed) -> Result<Self, Refusal> {
        let trust: Self =
            serde_json::from_slice(signed.bytes()).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
        trust.vouches_for(signed)?;
        Ok(trust)
    }

    /// Reads the successor of this document: for the same instance, not older, and signed by a CA that
    /// this one already trusts.
    pub fn successor(&self, signed: &Signed) -> Result<Self, Refusal> {
        let next: Self =
            serde_json::from_slice(signed.bytes()).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
        self.vouches_for(signed)?;
        if next.instance != self.instance {
            return Err(Refusal::OtherInstance);
        }
        if next.number < self.number || next.number == self.number && next != *self {
            return Err(Refusal::Certificate { what: "the trust document is older than the one known" });
        }
        Ok(next)
    }

    /// Every key it names: none of them may be anybody's subject key.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        let cas = self.user_ca.iter().chain(&self.break_glass_ca).chain(&self.host_ca);
        cas.chain([&self.krl_key, &self.journal_key, &self.log_key])
    }

    fn vouches_for(&self, signed: &Signed) -> Result<(), Refusal> {
        let mut outcome = Err(Refusal::UnknownKey);
        for key in self.user_ca.iter().filter(|key| *key == signed.signature().key()) {
            outcome = signed.is_by(key, NAMESPACE);
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
