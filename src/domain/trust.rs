//! The trust document: which service this is, and which keys speak for it. Clients and hosts pin the
//! instance at first contact, and go from one document to the next: each names the one before by its
//! SHA-256, and a CA key signed it that the one before trusts.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::key::PublicKey;
use super::names::{InstanceId, Invalid};
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
    /// From 1, without gaps: rotation is a new number.
    pub number: u64,
    /// The SHA-256 of the document before; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Signs certificates of the ordinary path, the first one of them. Several while one follows another.
    pub user_ca: Vec<PublicKey>,
    /// Signs certificates of broken glass, the first one of them; hosts can distrust it alone. Others may be keys
    /// that the service does not have.
    pub break_glass_ca: Vec<PublicKey>,
    /// Signs host certificates, the first one of them.
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

/// One of the CAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaRole {
    /// Certifies people on the ordinary path.
    User,
    /// Certifies emergency keys.
    BreakGlass,
    /// Certifies hosts.
    Host,
}

impl CaRole {
    /// As it is typed and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::BreakGlass => "break-glass",
            Self::Host => "host",
        }
    }
}

impl FromStr for CaRole {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::User, Self::BreakGlass, Self::Host];
        let named = all.into_iter().find(|role| role.as_str() == text);
        named.ok_or_else(|| Invalid::new("CA", text, "write user, break-glass or host"))
    }
}

impl Trust {
    /// Reads a document that vouches for itself: signed by one of the user CAs it names. Good for first
    /// contact, when there is nothing to compare it with.
    pub fn first_contact(signed: &Signed) -> Result<Self, Refusal> {
        let trust = Self::read(signed)?;
        trust.vouches_for(signed)?;
        Ok(trust)
    }

    /// The document that would follow this one, of which `digest` is the SHA-256: the same keys under the next number.
    #[must_use]
    pub fn next(&self, digest: Digest, at: Timestamp) -> Self {
        Self { number: self.number + 1, previous: Some(digest), at: at.max(self.at), ..self.clone() }
    }

    /// The keys of one of the CAs. The first one signs.
    pub fn cas(&self, role: CaRole) -> &[PublicKey] {
        match role {
            CaRole::User => &self.user_ca,
            CaRole::BreakGlass => &self.break_glass_ca,
            CaRole::Host => &self.host_ca,
        }
    }

    /// The same, to be changed.
    pub fn cas_mut(&mut self, role: CaRole) -> &mut Vec<PublicKey> {
        match role {
            CaRole::User => &mut self.user_ca,
            CaRole::BreakGlass => &mut self.break_glass_ca,
            CaRole::Host => &mut self.host_ca,
        }
    }

    /// Every key it names: none of them may be anybody's subject key.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        let cas = self.user_ca.iter().chain(&self.break_glass_ca).chain(&self.host_ca);
        cas.chain([&self.krl_key, &self.journal_key, &self.log_key])
    }

    fn read(signed: &Signed) -> Result<Self, Refusal> {
        serde_json::from_slice(signed.bytes()).map_err(|e| Refusal::Malformed { what: e.to_string() })
    }

    fn vouches_for(&self, signed: &Signed) -> Result<(), Refusal> {
        let mut outcome = Err(Refusal::UnknownKey);
        for key in self.user_ca.iter().filter(|key| *key == signed.signature().key()) {
            outcome = signed.is_by(key, NAMESPACE);
        }
        outcome
    }
}

/// Trust documents that are believed, each the one before the next. Never empty.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Oldest first.
    earlier: Vec<(Signed, Trust)>,
    newest: (Signed, Trust),
}

impl Chain {
    /// Begins with a document that vouches for itself.
    pub fn first_contact(signed: Signed) -> Result<Self, Refusal> {
        let trust = Trust::first_contact(&signed)?;
        Ok(Self { earlier: Vec::new(), newest: (signed, trust) })
    }

    /// Goes on to these documents, oldest first. Each must be for the same instance, have the next number, name the
    /// one before, and be signed by a CA that the one before trusts.
    pub fn forward(mut self, documents: &[Signed]) -> Result<Self, Refusal> {
        for signed in documents {
            let (known_signed, known) = &self.newest;
            let next = Trust::read(signed)?;
            if next.instance != known.instance {
                return Err(Refusal::OtherInstance);
            }
            if next.number <= known.number {
                return Err(Refusal::Certificate { what: "the trust document is older than the one known" });
            }
            if next.number != known.number + 1 || next.previous != Some(known_signed.digest()) {
                return Err(Refusal::Certificate { what: "the trust document does not follow the one known" });
            }
            known.vouches_for(signed)?;
            let before = std::mem::replace(&mut self.newest, (signed.clone(), next));
            self.earlier.push(before);
        }
        Ok(self)
    }

    /// Goes back to those of the `documents` that the oldest here leads to by SHA-256. Others are left out.
    #[must_use]
    pub fn backward(mut self, documents: &[Signed]) -> Self {
        while let Some(wanted) = self.earlier.first().unwrap_or(&self.newest).1.previous {
            let Some(signed) = documents.iter().find(|signed| signed.digest() == wanted) else { break };
            let Ok(trust) = Trust::first_contact(signed) else { break };
            self.earlier.insert(0, (signed.clone(), trust));
        }
        self
    }

    /// The newest document.
    pub fn newest(&self) -> &Trust {
        &self.newest.1
    }

    /// The newest document as it was signed.
    pub fn signed(&self) -> &Signed {
        &self.newest.0
    }

    /// The documents with higher numbers, oldest first.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Signed> {
        self.links().filter(move |(_, trust)| trust.number > number).map(|(signed, _)| signed)
    }

    /// Whether the document with this SHA-256 is one of them.
    pub fn has(&self, digest: &Digest) -> bool {
        self.links().any(|(signed, _)| signed.digest() == *digest)
    }

    /// Every key that one of the CAs ever had, newest document first.
    pub fn every(&self, role: CaRole) -> impl Iterator<Item = &PublicKey> {
        let documents: Vec<&Trust> = self.links().map(|(_, trust)| trust).collect();
        documents.into_iter().rev().flat_map(move |trust| trust.cas(role))
    }

    /// The number of the oldest document from which on, up to the newest, `holds` does. `None` when it does not hold
    /// for the newest.
    pub fn since(&self, holds: impl Fn(&Trust) -> bool) -> Option<u64> {
        let documents: Vec<&Trust> = self.links().map(|(_, trust)| trust).collect();
        documents.into_iter().rev().take_while(|trust| holds(trust)).last().map(|trust| trust.number)
    }

    fn links(&self) -> impl Iterator<Item = &(Signed, Trust)> {
        self.earlier.iter().chain([&self.newest])
    }
}

#[cfg(test)]
mod tests;
