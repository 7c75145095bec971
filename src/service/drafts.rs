//! Drafts: statements as the web form has them signed. A draft decides nothing; what comes back signed
//! is judged like any other statement.

use std::sync::Arc;

use crate::domain::digest::Digest;
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, InstanceId, Nonce, PersonName, RequestId};
use crate::domain::passkey::LONGEST_ENROLMENT;
use crate::domain::policy::Duty;
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::statement::{
    Acknowledgement, Approval, Decision, Enrolment, Is, Outcome, Removal, Return, Review, Revocation, Session, Target,
    Version, Withdrawal,
};
use crate::domain::text::{Comment, Reason};
use crate::domain::time::{Patience, Seconds, Timestamp};
use crate::random;

use super::{Caller, Error, RequestInfo, Service};

/// What an approver chose on the form.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Yes or no.
    pub decision: Decision,
    /// Less than what was asked; `None` for all of it.
    pub seconds: Option<Seconds>,
    /// Fewer hosts than were asked for; empty for all of them.
    pub hosts: Vec<HostName>,
    /// A word to the requester; for a denial, the reason.
    pub comment: Comment,
}

impl Service {
    /// What every statement says of itself.
    fn preamble(&self) -> (InstanceId, Nonce, Timestamp) {
        (self.instance.clone(), random::nonce(), self.now().second())
    }

    /// A decision, complete but for its signature.
    pub async fn draft_decision(
        self: &Arc<Self>,
        caller: &Caller,
        id: &RequestId,
        choice: Choice,
    ) -> Result<Approval, Error> {
        let (info, _) = self.request(caller, id).await?;
        decidable(&info, caller)?;
        let terms = info
            .terms
            .ok_or(Refusal::NotEligible { person: info.request.person.clone(), role: info.request.role.clone() })?;
        let (mut principals, mut hosts) = (terms.principals, terms.hosts);
        if !choice.hosts.is_empty() {
            hosts.retain(|host| choice.hosts.contains(host));
            principals.retain(|p| p.host().is_none_or(|host| choice.hosts.contains(host)));
        }
        let (instance, nonce, at) = self.preamble();
        let claim_by = info.request.claimable_from(at).plus(info.claim_within.map_or(0, Patience::seconds));
        Ok(Approval {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            request: info.signed.digest(),
            id: id.clone(),
            decision: choice.decision,
            requester: info.request.person,
            role: info.request.role,
            principals,
            hosts,
            key: info.request.key.fingerprint(),
            seconds: choice.seconds.unwrap_or(terms.seconds),
            start: info.request.start,
            extensions: info.extensions,
            critical_options: info.critical_options,
            claim_by,
            policy: info.policy,
            comment: choice.comment,
            nonce,
            at,
        })
    }

    /// A withdrawal of the caller's own request.
    pub async fn draft_withdrawal(self: &Arc<Self>, caller: &Caller, id: &RequestId) -> Result<Withdrawal, Error> {
        let (info, _) = self.request(caller, id).await?;
        let (instance, nonce, at) = self.preamble();
        Ok(Withdrawal {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            request: info.signed.digest(),
            id: id.clone(),
            reason: Comment::default(),
            nonce,
            at,
        })
    }

    /// A return of what the caller has.
    pub async fn draft_return(self: &Arc<Self>, caller: &Caller, id: &RequestId) -> Result<Return, Error> {
        let (info, _) = self.request(caller, id).await?;
        let State::Active { serial, .. } = info.state else {
            return Err(Refusal::NotActive { state: info.state.name() }.into());
        };
        let (instance, nonce, at) = self.preamble();
        Ok(Return {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            request: info.signed.digest(),
            id: id.clone(),
            serial,
            nonce,
            at,
        })
    }

    /// A revocation of one request, by somebody with the duty.
    pub async fn draft_revocation(
        self: &Arc<Self>,
        caller: &Caller,
        id: &RequestId,
        reason: Reason,
    ) -> Result<Revocation, Error> {
        caller.needs(&[Duty::Revokers])?;
        let (info, _) = self.request(caller, id).await?;
        if info.state.is_final() {
            return Err(Refusal::NotActive { state: info.state.name() }.into());
        }
        let (instance, nonce, at) = self.preamble();
        Ok(Revocation {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            target: Target::Request(id.clone()),
            reason,
            nonce,
            at,
        })
    }

    /// The caller's word on a broken glass.
    pub async fn draft_review(
        self: &Arc<Self>,
        caller: &Caller,
        id: &RequestId,
        outcome: Outcome,
        comment: Reason,
    ) -> Result<Review, Error> {
        let (used, _) = self.emergency(id).await?;
        let (instance, nonce, at) = self.preamble();
        Ok(Review {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            break_glass: used.digest,
            id: id.clone(),
            outcome,
            comment,
            nonce,
            at,
        })
    }

    /// The caller has heard of a broken glass.
    pub async fn draft_acknowledgement(
        self: &Arc<Self>,
        caller: &Caller,
        id: &RequestId,
    ) -> Result<Acknowledgement, Error> {
        let (used, _) = self.emergency(id).await?;
        let (instance, nonce, at) = self.preamble();
        Ok(Acknowledgement {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            break_glass: used.digest,
            id: id.clone(),
            comment: Comment::default(),
            nonce,
            at,
        })
    }

    /// Takes one of the caller's passkeys away.
    pub fn draft_removal(&self, caller: &Caller, key: Digest) -> Removal {
        let (instance, nonce, at) = self.preamble();
        Removal {
            v: Version,
            kind: Is,
            instance,
            person: caller.person.clone(),
            key,
            reason: Comment::default(),
            nonce,
            at,
        }
    }

    /// An enrolment of a passkey that a browser just made. Nothing is known of who asks: the person's SSH
    /// key must sign it.
    pub fn draft_enrolment(&self, person: PersonName, ssh_key: Digest, key: PublicKey) -> Result<Enrolment, Refusal> {
        let (instance, nonce, at) = self.preamble();
        Ok(Enrolment {
            v: Version,
            kind: Is,
            instance,
            person,
            key,
            application: self.settings().relying_party().parse()?,
            ssh_key,
            until: at.plus(LONGEST_ENROLMENT),
            nonce,
            at,
        })
    }

    /// A session for a name that somebody typed. Whether there is such a person, nobody is told.
    pub fn draft_session(&self, person: PersonName) -> Session {
        let (instance, nonce, at) = self.preamble();
        Session { v: Version, kind: Is, instance, person, nonce, at }
    }
}

/// Says what stands against a decision before anybody touches a passkey for it.
fn decidable(info: &RequestInfo, caller: &Caller) -> Result<(), Refusal> {
    let person = caller.person.clone();
    match &info.state {
        State::Requested { .. } => {}
        State::Lapsed { at } => return Err(Refusal::Lapsed { at: *at }),
        other => return Err(Refusal::NotPending { state: other.name() }),
    }
    if info.request.person == person {
        return Err(Refusal::SelfApproval);
    }
    if info.decisions.iter().any(|decision| decision.person == person) {
        return Err(Refusal::DecidedAlready { person });
    }
    if !info.approvers.contains(&person) {
        return Err(Refusal::NotApprover { person, role: info.request.role.clone() });
    }
    Ok(())
}
