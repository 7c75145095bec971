//! Events: the leaves of the log. A leaf's bytes are stored as they were written and hold no text of
//! a person's: statements stand beside and are named by SHA-256, so that a reason can be erased and
//! the log still verifies.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::names::{CheckName, FactName, InstanceId, PersonName, RequestId, RoleName};
use super::statement::{Serial, Version};
use super::time::Moment;

/// The SSHSIG namespace of a signed head.
pub const HEAD_NAMESPACE: &str = "head@ssh-jit";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The service began to answer; `detail` is its version.
    ServiceStarted,
    /// A break-glass journal was begun; `detail` is the epoch of its serials.
    JournalBegun,
    /// A policy was put into force; `detail` is the SHA-256 of the one before, unless the service just began.
    PolicyLoaded,
    /// Another trust document was put into force; `detail` is its number, its SHA-256, and what changed.
    TrustChanged,
    /// Somebody bought a bearer for reading; `detail` is `oidc` when an identity provider vouched for them.
    SessionOpened,
    /// A passkey was bound to a person.
    PasskeyEnrolled,
    /// A passkey was taken away.
    PasskeyRemoved,
    /// Somebody asked.
    Requested,
    /// The policy approved by itself; `detail` is the rule.
    ApprovedAutomatically,
    /// A person approved.
    Approved,
    /// A person refused.
    Denied,
    /// Those who can decide were told again.
    Reminded,
    /// Those who stand behind them were told, because nobody had decided.
    Escalated,
    /// Somebody could not be told in a day; `detail` is the channel.
    Undelivered,
    /// The requester took a request back.
    Withdrawn,
    /// Nobody decided, or nobody claimed, in time.
    Lapsed,
    /// A certificate is about to be signed; `tbs` is the SHA-256 of the bytes.
    Claimed,
    /// Access was given back early.
    Returned,
    /// Access was ended: by somebody with the duty, or with the fact that `detail` names.
    Revoked,
    /// The certificate ran out.
    Expired,
    /// Something was tried and refused; `detail` is the reason's code.
    Refused,
    /// The glass was broken; copied from the journal. `detail` says so where it was a drill.
    BreakGlass,
    /// Breaking the glass was tried and refused; copied from the journal.
    BreakGlassRefused,
    /// People were told of broken glass; `detail` is the channel.
    Alerted,
    /// An attempt to tell them failed; `detail` is the channel.
    Unalerted,
    /// Somebody has heard of broken glass.
    Acknowledged,
    /// The review of a break-glass was closed; `detail` is its outcome.
    Reviewed,
    /// The review of a break-glass is overdue, and those who can close it were told.
    ReviewOverdue,
    /// One person, or one group, breaks the glass too often; `detail` is who, how often and in how many days.
    BreakGlassOveruse,
    /// A drill was reported; `detail` is whether it passed.
    Drilled,
    /// Nobody has shown in time that an emergency key works; `detail` is its fingerprint.
    DrillOverdue,
    /// A source said what is so; `detail` is its name and the SHA-256 of what it signed.
    FactsStated,
    /// A host was opened with a certificate; `detail` is the account and the host.
    Used,
    /// The same with a certificate that a CA key of this service signed and this log does not know; `tbs` is the
    /// SHA-256 of all of it.
    UnknownCertificate,
    /// A host redeemed an invitation; `detail` is its name.
    HostEnrolled,
    /// A host's certificate is about to be signed; `tbs` is the SHA-256 of the bytes, `detail` the host's name.
    HostCertified,
    /// A host is certified no more; `detail` is its name.
    HostRemoved,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The one spelling is serde's.
        let json = serde_json::to_string(self).unwrap_or_default();
        f.write_str(json.trim_matches('"'))
    }
}

/// One leaf of the log. What does not apply is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct Event {
    pub v: Version,
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Moment,
    pub kind: EventKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tbs: Option<Digest>,
    /// Where it came from, where conditions of the policy may have looked at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The facts that it hangs on, each with the SHA-256 of the message that states it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<FactName, Digest>,
    /// The ticket checks that said yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tickets: Vec<CheckName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Event {
    /// An event with nothing but its kind and time; its number comes when it is appended.
    pub fn new(kind: EventKind, at: Moment) -> Self {
        Self {
            v: Version,
            seq: 0,
            at,
            kind,
            person: None,
            request: None,
            role: None,
            serial: None,
            statement: None,
            policy: None,
            tbs: None,
            from: None,
            facts: BTreeMap::new(),
            tickets: Vec::new(),
            detail: None,
        }
    }

    /// The leaf's bytes: one line of JSON.
    pub fn to_leaf(&self) -> Vec<u8> {
        // Strings and numbers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What the log key signs: the whole log at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct Head {
    pub v: Version,
    pub kind: HeadTag,
    pub instance: InstanceId,
    pub size: u64,
    pub root: Digest,
    pub at: Moment,
}

/// Says that a document is a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadTag {
    /// `"kind":"head"`.
    Head,
}

#[cfg(test)]
mod tests;
