//! Grants: permission to sign one certificate. A [`Grant`] has no public constructor and no public
//! field; [`Grant::access`] and [`Grant::break_glass`] make it from verified statements and the
//! policy, and nothing else can. Everything that the certificate will hold is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::approval;
use super::digest::Digest;
use super::key::PublicKey;
use super::names::{FactName, OptionName, PersonName, Principal, RoleName};
use super::policy::{Circumstances, Policy, Role, Terms};
use super::refusal::Refusal;
use super::sshsig::BadSignature;
use super::statement::{Approval, BreakGlass, Claim, Request, Seconding};
use super::time::{Seconds, Timestamp};
use super::verify::Verified;

/// Permission to sign one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    path: Path,
    person: PersonName,
    role: RoleName,
    key: PublicKey,
    key_id: String,
    principals: Vec<Principal>,
    seconds: Seconds,
    valid_after: Timestamp,
    extensions: BTreeSet<OptionName>,
    critical_options: BTreeMap<OptionName, String>,
    facts: BTreeMap<FactName, Digest>,
}

/// Which of the two ways led to a grant, and so which CA signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Asked, approved and claimed: the user CA.
    Access,
    /// Broken glass: the break-glass CA, which hosts can distrust alone.
    BreakGlass,
}

impl Grant {
    /// The ordinary way: a request, approvals of it by as many distinct people as the policy demands
    /// now (none where it approves by itself), and a claim by the subject key.
    ///
    /// Takes the least of all approvals. `skew` shifts the whole window early, by a quarter of its
    /// length at most, so that a host whose clock is behind lets people in at once.
    pub fn access(
        policy: &Policy,
        request: &Verified<Request>,
        approvals: &[Verified<Approval>],
        claim: &Verified<Claim>,
        around: &Circumstances<'_>,
        skew: u32,
    ) -> Result<Self, Refusal> {
        let asked = request.get();
        request.signer(policy)?;
        subject_key_is_fresh(policy, &asked.key)?;
        starts_within_reach(asked)?;
        let terms = policy.terms(&asked.into(), claim.get().at, around)?;
        let role = policy.role_for(&asked.person, &asked.role)?;
        claimed_by_subject(request, claim)?;
        for approval in approvals {
            approval::may_decide(policy, request, approval)?;
            approval::stays_within(role, &terms, asked, approval.get())?;
        }
        let would = || role.without_asking(&asked.into(), claim.get().at, around);
        enough(&terms, approvals, would).map_err(|refusal| why(refusal, asked, approvals.is_empty(), around))?;
        let claim_by = in_order(role, request, approvals, claim)?;
        if claim.get().at > claim_by {
            return Err(Refusal::Lapsed { at: claim_by });
        }
        if let Some(start) = asked.start.filter(|start| *start > claim.get().at) {
            return Err(Refusal::TooEarly { start });
        }
        let least = least(role, &terms, approvals)?;
        let seconds = while_it_is_so(&terms, least.seconds, claim.get().at)?;
        let evidence =
            evidence(approvals.iter().map(Verified::digest).chain([request.digest(), claim.digest(), policy.digest()]));
        Ok(Self {
            path: Path::Access,
            key_id: format!("ssh-jit/{}/{}/{}/{evidence}", asked.id, asked.person, asked.role),
            person: asked.person.clone(),
            role: asked.role.clone(),
            key: asked.key.clone(),
            principals: least.principals,
            seconds,
            valid_after: shifted(claim.get().at, seconds, skew),
            extensions: least.extensions,
            critical_options: least.critical_options,
            facts: terms.facts,
        })
    }

    /// The emergency way: a statement by a registered emergency key, which certifies itself. Whether it was used
    /// before, how often, and what the last reason was, the journal knows; and so whether it takes a `second` person.
    pub fn break_glass(
        policy: &Policy,
        statement: &Verified<BreakGlass>,
        second: Option<&Verified<Seconding>>,
        from: Option<IpAddr>,
        skew: u32,
    ) -> Result<Self, Refusal> {
        let asked = statement.get();
        let emergency = policy.emergency_key(&asked.person, statement.key())?;
        let verified = statement.signed().signature().user_verified();
        if emergency.verify_required && !verified {
            return Err(Refusal::Signature { why: BadSignature::NotVerified });
        }
        asked.reason.fits_emergency()?;
        if asked.drill.is_some() && !policy.is_canary(&asked.role) {
            return Err(Refusal::NotADrill { role: asked.role.clone() });
        }
        let terms = policy.emergency_terms(emergency, asked, from)?;
        if let Some(second) = second {
            policy.may_second(asked, second)?;
        }
        let role = policy.roles().get(&asked.role).ok_or(Refusal::NotEmergencyKey)?;
        let evidence = evidence([statement.digest(), policy.digest()].into_iter().chain(second.map(Verified::digest)));
        let drill = if asked.drill.is_some() { DRILL } else { "" };
        let mut critical_options = role.critical_options.clone();
        if emergency.verify_required {
            critical_options.insert("verify-required".parse()?, String::new());
        }
        Ok(Self {
            path: Path::BreakGlass,
            key_id: format!("BREAK-GLASS/{}/{}/{}/{drill}{evidence}", asked.id, asked.person, asked.role),
            person: asked.person.clone(),
            role: asked.role.clone(),
            key: emergency.key.clone(),
            principals: terms.principals,
            seconds: terms.seconds,
            valid_after: shifted(asked.at, terms.seconds, skew),
            // Forwarding outlives the certificate on stock sshd, so an emergency gets a terminal only.
            extensions: role.extensions.iter().filter(|e| e.as_str() == "permit-pty").cloned().collect(),
            critical_options,
            facts: terms.facts,
        })
    }

    /// Which CA signs.
    pub fn path(&self) -> Path {
        self.path
    }
    /// Whom the certificate is for.
    pub fn person(&self) -> &PersonName {
        &self.person
    }
    /// The role it gives.
    pub fn role(&self) -> &RoleName {
        &self.role
    }
    /// The key that is certified.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
    /// `ssh-jit/<request>/<person>/<role>/<evidence>`: ASCII without spaces, for sshd's log.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }
    /// At least one, at most 256, sorted.
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }
    /// How long the certificate lasts, exactly.
    pub fn seconds(&self) -> Seconds {
        self.seconds
    }
    /// The first second in which the certificate is accepted.
    pub fn valid_after(&self) -> Timestamp {
        self.valid_after
    }
    /// The first second in which it is accepted no more.
    pub fn valid_before(&self) -> Timestamp {
        self.valid_after.plus(i64::from(self.seconds.get()))
    }
    /// What it permits, sorted.
    pub fn extensions(&self) -> &BTreeSet<OptionName> {
        &self.extensions
    }
    /// The facts that it hangs on, and the messages that stated them: access ends with them.
    pub fn facts(&self) -> &BTreeMap<FactName, Digest> {
        &self.facts
    }
    /// What it restricts, sorted.
    pub fn critical_options(&self) -> &BTreeMap<OptionName, String> {
        &self.critical_options
    }
}

/// A subject key is Ed25519, made for one request, and means nothing else to anybody.
pub fn subject_key_is_fresh(policy: &Policy, key: &PublicKey) -> Result<(), Refusal> {
    if key.algorithm() != "ssh-ed25519" {
        return Err(Refusal::SubjectKeyKind);
    }
    if policy.names_key(key) {
        return Err(Refusal::SubjectKeyTaken { why: "the policy names this key" });
    }
    Ok(())
}

/// How far ahead a start may lie, in seconds: 30 days. Until then an approval lives, and nobody remembers longer what
/// they approved.
const FURTHEST_START: i64 = 30 * 86_400;

/// Whether the start that a request asks for lies neither in the past nor too far ahead.
pub fn starts_within_reach(asked: &Request) -> Result<(), Refusal> {
    let reach = 0..=FURTHEST_START;
    match asked.start {
        Some(start) if !reach.contains(&start.since(asked.at)) => Err(Refusal::StartOutOfReach),
        _ => Ok(()),
    }
}

/// Design, "evidence": SHA-256 over the sorted hex digests, one a line. `printf '%s\n' ... | sort | sha256sum` makes the same.
pub fn evidence(digests: impl Iterator<Item = Digest>) -> Digest {
    let mut lines: Vec<String> = digests.map(|digest| format!("{}\n", digest.hex())).collect();
    lines.sort();
    Digest::of(lines.concat().as_bytes())
}

/// Whether a claim is of this request, by the key that it named.
pub fn claimed_by_subject(request: &Verified<Request>, claim: &Verified<Claim>) -> Result<(), Refusal> {
    let (asked, claimed) = (request.get(), claim.get());
    if claimed.request != request.digest() || claimed.id != asked.id {
        return Err(Refusal::OtherRequest);
    }
    if claimed.person != asked.person || claimed.key != asked.key.fingerprint() || *claim.key() != asked.key {
        return Err(Refusal::NotYours);
    }
    Ok(())
}

/// What stands before the evidence in the key id of a drill, so that it is known as one wherever it is seen.
pub const DRILL: &str = "DRILL/";

/// Says of the review that is overdue, where nobody was asked because the policy approved by itself.
fn why(refusal: Refusal, asked: &Request, unasked: bool, around: &Circumstances<'_>) -> Refusal {
    let overdue = around.overdue.filter(|_| unasked).cloned();
    overdue.map_or(refusal, |overdue| Refusal::ReviewOverdue { role: asked.role.clone(), overdue })
}

/// Whether enough people agree; `would` says what passes without them.
fn enough(terms: &Terms, approvals: &[Verified<Approval>], would: impl Fn() -> String) -> Result<(), Refusal> {
    let people: BTreeSet<_> = approvals.iter().map(|approval| approval.get().person.clone()).collect();
    let (have, need) = (terms.quorum.given_by(&Vec::from_iter(people)), terms.approvals());
    if have < need { Err(Refusal::NotEnoughApprovals { have, need, would: would() }) } else { Ok(()) }
}

/// `request.at <= approval.at <= claim.at`, decided in time. Gives the last moment to claim.
fn in_order(
    role: &Role,
    request: &Verified<Request>,
    approvals: &[Verified<Approval>],
    claim: &Verified<Claim>,
) -> Result<Timestamp, Refusal> {
    let (asked, claimed) = (request.get().at, claim.get().at);
    let follows = approvals.iter().all(|a| asked <= a.get().at && a.get().at <= claimed);
    if !follows || asked > claimed {
        return Err(Refusal::OutOfOrder);
    }
    // From signed bytes too: a row that keeps an old request open brings nothing.
    let decide_by = asked.plus(role.decide_within.seconds());
    if approvals.iter().any(|a| a.get().at > decide_by) {
        return Err(Refusal::Lapsed { at: decide_by });
    }
    let by_itself = request.get().claimable_from(asked).plus(role.claim_within.seconds());
    Ok(approvals.iter().map(|a| a.get().claim_by).min().unwrap_or(by_itself))
}

struct Least {
    principals: Vec<Principal>,
    seconds: Seconds,
    extensions: BTreeSet<OptionName>,
    critical_options: BTreeMap<OptionName, String>,
}

/// Minimum, intersection and union over all approvals; what contradicts itself or leaves nothing is refused.
fn least(role: &Role, terms: &Terms, approvals: &[Verified<Approval>]) -> Result<Least, Refusal> {
    let mut least = Least {
        principals: terms.principals.clone(),
        seconds: terms.seconds,
        extensions: role.extensions.iter().cloned().collect(),
        critical_options: role.critical_options.clone(),
    };
    for approval in approvals.iter().map(Verified::get) {
        least.seconds = least.seconds.min(approval.seconds);
        // Principals carry their hosts, so the intersection of hosts is in it.
        least.principals.retain(|p| approval.principals.contains(p));
        least.extensions.retain(|e| approval.extensions.contains(e));
        for (name, value) in &approval.critical_options {
            let before = least.critical_options.insert(name.clone(), value.clone());
            if before.is_some_and(|before| before != *value) {
                return Err(Refusal::Conflict { option: name.to_string() });
            }
        }
    }
    if least.principals.is_empty() {
        return Err(Refusal::NothingLeft { field: "principals" });
    }
    Ok(least)
}

/// Access that hangs on a fact ends with it.
fn while_it_is_so(terms: &Terms, seconds: Seconds, at: Timestamp) -> Result<Seconds, Refusal> {
    let Some(end) = terms.ends_by else { return Ok(seconds) };
    let left = u64::try_from(end.since(at)).ok().and_then(|left| Seconds::new(left.min(seconds.get().into())));
    left.ok_or(Refusal::NothingLeft { field: "seconds" })
}

fn shifted(at: Timestamp, seconds: Seconds, skew: u32) -> Timestamp {
    at.plus(-i64::from(skew.min(seconds.get() / 4)))
}

#[cfg(test)]
mod tests;
