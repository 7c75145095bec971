//! Whether somebody may decide on a request, and whether what they signed stays within it. Asked when
//! the decision arrives, and again, of the policy of that moment, when the request is claimed.

use std::collections::BTreeSet;

use super::names::{HostName, Principal};
use super::options;
use super::policy::{Policy, Role, Terms};
use super::refusal::Refusal;
use super::sshsig::BadSignature;
use super::statement::{Approval, Decision, Request};
use super::verify::Verified;

/// Whether the signer of a decision may decide on this request: a person other than the requester,
/// entitled by the policy, with a key of theirs.
pub fn may_decide(policy: &Policy, request: &Verified<Request>, approval: &Verified<Approval>) -> Result<(), Refusal> {
    let (asked, decided) = (request.get(), approval.get());
    if decided.request != request.digest() || decided.id != asked.id {
        return Err(Refusal::OtherRequest);
    }
    if decided.person == asked.person {
        return Err(Refusal::SelfApproval);
    }
    let person = approval.signer(policy)?;
    if person.service {
        return Err(Refusal::ServicesCannotDecide { person: decided.person.clone() });
    }
    let role = policy.roles().get(&asked.role).filter(|role| role.approvers.contains(&decided.person));
    let role = role.ok_or_else(|| Refusal::NotApprover { person: decided.person.clone(), role: asked.role.clone() })?;
    if role.verify_required && !approval.signed().signature().user_verified() {
        return Err(Refusal::Signature { why: BadSignature::NotVerified });
    }
    Ok(())
}

/// Whether an approval repeats the request, or narrows it, and gives nothing beyond `terms`, which is
/// what the policy makes of the request.
pub fn stays_within(role: &Role, terms: &Terms, request: &Request, approval: &Approval) -> Result<(), Refusal> {
    let wider = |field| Err(Refusal::Wider { field });
    if approval.decision != Decision::Approve {
        return Err(Refusal::Denied);
    }
    if approval.requester != request.person {
        return wider("requester");
    }
    if approval.role != request.role {
        return wider("role");
    }
    if approval.key != request.key.fingerprint() {
        return wider("key");
    }
    if approval.seconds > terms.seconds {
        return wider("seconds");
    }
    if approval.start != request.start {
        return wider("start");
    }
    if !is_part(&approval.hosts, &terms.hosts, "hosts")? {
        return wider("hosts");
    }
    if !is_part(&approval.principals, &terms.principals, "principals")?
        || !on_hosts(&approval.principals, &approval.hosts)
    {
        return wider("principals");
    }
    if !is_part(&approval.extensions, &role.extensions, "extensions")? {
        return wider("extensions");
    }
    options::check_critical(&approval.critical_options)?;
    if !role.critical_options.iter().all(|(name, value)| approval.critical_options.get(name) == Some(value)) {
        return wider("critical_options");
    }
    let latest = request.claimable_from(approval.at).plus(role.claim_within.seconds());
    if approval.claim_by < approval.at || approval.claim_by > latest {
        return wider("claim_by");
    }
    if approval.principals.is_empty() {
        return Err(Refusal::NothingLeft { field: "principals" });
    }
    Ok(())
}

/// Whether every element of `part`, each once, is in `whole`.
fn is_part<T: Ord>(part: &[T], whole: &[T], field: &'static str) -> Result<bool, Refusal> {
    let set: BTreeSet<&T> = part.iter().collect();
    if set.len() != part.len() {
        return Err(Refusal::Duplicate { field });
    }
    Ok(part.iter().all(|item| whole.contains(item)))
}

fn on_hosts(principals: &[Principal], hosts: &[HostName]) -> bool {
    principals.iter().all(|p| p.host().is_none_or(|host| hosts.contains(host)))
}
