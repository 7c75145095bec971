//! Hosts that have certificates of their own. The policy names a host's key, or an administrator signs an invitation. An
//! invitation names the key whose signature redeems it: the SSH host key itself, or one that was made for this once and
//! travels as a token. What the host then claims is signed by that key and by its host key, and both signatures are
//! verified again whenever the host asks for another certificate.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use ssh_key::certificate::CertType;

use super::certificate::{Certifies, Fields};
use super::digest::Digest;
use super::key::PublicKey;
use super::names::{HostName, InstanceId, PersonName};
use super::policy::{Duty, Policy};
use super::refusal::Refusal;
use super::sshsig::SshSig;
use super::statement::{self, Invitation, Version, present};
use super::time::{Patience, Timestamp};
use super::trust::Trust;
use super::verify::{AHEAD_BY, FRESH_FOR, Signed, Verified, is_fresh};

/// The SSHSIG namespace of what a host claims.
pub const NAMESPACE: &str = "host-claim@ssh-jit";
/// The longest that an invitation counts, in seconds.
pub const LONGEST_INVITATION: i64 = 12 * 3600;
/// So many names a host may have beside its own.
pub const MOST_ALIASES: usize = 32;
/// A host's certificate begins so much earlier than now, in seconds: for people whose clocks are behind.
const EARLY: u32 = 3600;

/// What a host claims: that it is this one, and holds this key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct HostClaim {
    pub v: Version,
    pub kind: HostClaimTag,
    pub instance: InstanceId,
    pub host: HostName,
    /// The SSH host key.
    pub key: PublicKey,
    /// What it redeems; null where it is known already.
    #[serde(deserialize_with = "present")]
    pub invitation: Option<Digest>,
    pub at: Timestamp,
}

/// Says that a document is a host's claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostClaimTag {
    /// `"kind":"host-claim"`.
    HostClaim,
}

/// A claim that the holder of the host key made for this service.
#[derive(Debug, Clone)]
pub struct Claimed {
    claim: HostClaim,
    digest: Digest,
}

/// A host that somebody with the duty invited, and the key that redeemed the invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledHost {
    host: HostName,
    aliases: Vec<HostName>,
    key: PublicKey,
    invited_by: PersonName,
    since: Timestamp,
}

/// What a host may be certified as. Like a [`Grant`](super::grant::Grant) it has one maker, which takes what was
/// verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGrant {
    host: HostName,
    names: BTreeSet<HostName>,
    key: PublicKey,
    key_id: String,
    valid_after: Timestamp,
    seconds: u32,
}

impl Claimed {
    /// Verifies that the host key which a claim names signed it, for this service and just now.
    pub fn check(signed: &Signed, instance: &InstanceId, now: Timestamp) -> Result<Self, Refusal> {
        let claim: HostClaim = statement::parse(signed.bytes())?;
        if claim.instance != *instance {
            return Err(Refusal::OtherInstance);
        }
        signed.is_by(&claim.key, NAMESPACE)?;
        is_fresh(claim.at, FRESH_FOR, now)?;
        Ok(Self { claim, digest: signed.digest() })
    }

    /// The claim.
    pub fn get(&self) -> &HostClaim {
        &self.claim
    }
}

impl EnrolledHost {
    /// Verifies what made a host one of ours, by the policy of this moment: the invitation, and the claim that redeemed
    /// it in its time, signed by the host key (in `claim`) and by the key that the invitation names (`by_token`).
    pub fn check(
        policy: &Policy,
        invitation: &Verified<Invitation>,
        claim: &Signed,
        by_token: &SshSig,
    ) -> Result<Self, Refusal> {
        let said = invitation.get();
        invitation.signer(policy)?;
        if !policy.has_duty(&said.person, Duty::Admins) {
            return Err(Refusal::NoDuty { duty: "admins" });
        }
        if !(1..=LONGEST_INVITATION).contains(&said.until.since(said.at)) {
            return Err(Refusal::InvitationTooLong);
        }
        are_names(&said.host, &said.aliases)?;
        let redeemed: HostClaim = statement::parse(claim.bytes())?;
        if redeemed.host != said.host || redeemed.invitation != Some(invitation.digest()) {
            return Err(Refusal::OtherInvitation { host: said.host.clone() });
        }
        if redeemed.at < said.at.plus(-AHEAD_BY) || redeemed.at > said.until {
            return Err(Refusal::InvitationEnded { from: said.at, until: said.until });
        }
        Signed::new(claim.bytes().to_vec(), by_token.clone()).is_by(&said.key, NAMESPACE)?;
        claim.is_by(&redeemed.key, NAMESPACE)?;
        policy.not_revoked(&said.key)?;
        policy.not_revoked(&redeemed.key)?;
        Ok(Self {
            host: said.host.clone(),
            aliases: said.aliases.clone(),
            key: redeemed.key,
            invited_by: said.person.clone(),
            since: redeemed.at,
        })
    }

    /// The host.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// Its other names.
    pub fn aliases(&self) -> &[HostName] {
        &self.aliases
    }

    /// Its SSH host key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Who invited it.
    pub fn invited_by(&self) -> &PersonName {
        &self.invited_by
    }

    /// When it redeemed its invitation.
    pub fn since(&self) -> Timestamp {
        self.since
    }
}

/// Whether this is a host's key: by the policy, or by its enrolment.
pub fn is_hosts_key(policy: &Policy, enrolled: Option<&EnrolledHost>, host: &HostName, key: &PublicKey) -> bool {
    aliases_of(policy, enrolled, host, key).is_some()
}

/// The other names of a host with this key; none where the key is not the host's.
fn aliases_of<'a>(
    policy: &'a Policy,
    enrolled: Option<&'a EnrolledHost>,
    host: &HostName,
    key: &PublicKey,
) -> Option<Vec<&'a HostName>> {
    let by_policy = policy.hosts().get(host).filter(|known| known.keys.contains(key));
    let invited = enrolled.filter(|enrolled| enrolled.host == *host && enrolled.key == *key);
    if by_policy.is_none() && invited.is_none() {
        return None;
    }
    let known = by_policy.into_iter().flat_map(|known| &known.aliases);
    Some(known.chain(invited.into_iter().flat_map(|enrolled| &enrolled.aliases)).collect())
}

/// Refuses a list of other names that has one twice, or too many.
pub fn are_names(host: &HostName, aliases: &[HostName]) -> Result<(), Refusal> {
    let distinct: BTreeSet<&HostName> = aliases.iter().chain([host]).collect();
    if distinct.len() != aliases.len() + 1 {
        return Err(Refusal::Duplicate { field: "aliases" });
    }
    if aliases.len() > MOST_ALIASES {
        return Err(Refusal::Malformed { what: format!("aliases: at most {MOST_ALIASES}") });
    }
    Ok(())
}

impl HostGrant {
    /// What the policy or the enrolment says of the host that claims: nothing else is certified. The certificate counts
    /// from an hour ago for so long from now on.
    pub fn new(
        (policy, trust): (&Policy, &Trust),
        enrolled: Option<&EnrolledHost>,
        claimed: &Claimed,
        (now, valid): (Timestamp, Patience),
    ) -> Result<Self, Refusal> {
        let HostClaim { host, key, .. } = &claimed.claim;
        policy.not_revoked(key)?;
        if policy.names_key(key) || trust.keys().any(|ours| ours == key) {
            return Err(Refusal::HostKeyTaken);
        }
        let aliases = aliases_of(policy, enrolled, host, key);
        let aliases =
            aliases.ok_or_else(|| Refusal::NotEnrolled { host: host.clone(), because: " with this key".to_owned() })?;
        Ok(Self {
            names: aliases.into_iter().chain([host]).cloned().collect(),
            key_id: format!("ssh-jit-host/{host}/{}", claimed.digest),
            host: host.clone(),
            key: key.clone(),
            valid_after: now.plus(-i64::from(EARLY)),
            seconds: EARLY + u32::try_from(valid.seconds()).unwrap_or_default(),
        })
    }

    /// The host.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The first second in which the certificate counts no more.
    pub fn valid_before(&self) -> Timestamp {
        self.valid_after.plus(i64::from(self.seconds))
    }
}

impl Certifies for HostGrant {
    fn fields(&self) -> Fields<'_> {
        Fields {
            kind: CertType::Host,
            key: &self.key,
            key_id: &self.key_id,
            principals: self.names.iter().map(ToString::to_string).collect(),
            valid_after: self.valid_after,
            valid_before: self.valid_before(),
            seconds: self.seconds,
            critical_options: BTreeMap::new(),
            extensions: BTreeMap::new(),
        }
    }
}
