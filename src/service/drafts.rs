//! Drafts: statements as the web form has them signed. A draft decides nothing; what comes back signed
//! is judged like any other statement.

use std::sync::Arc;

use crate::domain::names::{HostName, PersonName, RequestId};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{Approval, Decision, Is, Session, Version, Withdrawal};
use crate::domain::text::Comment;
use crate::domain::time::{Patience, Seconds};
use crate::random;

use super::{Caller, Error, Service};

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
    /// A decision, complete but for its signature.
    pub async fn draft_decision(
        self: &Arc<Self>,
        caller: &Caller,
        id: &RequestId,
        choice: Choice,
    ) -> Result<Approval, Error> {
        let (info, _) = self.request(caller, id).await?;
        let terms = info.terms.ok_or(Refusal::NotPending { state: info.state.name() })?;
        let (mut principals, mut hosts) = (terms.principals, terms.hosts);
        if !choice.hosts.is_empty() {
            hosts.retain(|host| choice.hosts.contains(host));
            principals.retain(|p| p.host().is_none_or(|host| choice.hosts.contains(host)));
        }
        let now = self.now().second();
        Ok(Approval {
            v: Version,
            kind: Is,
            instance: self.trust().instance.clone(),
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
            claim_by: now.plus(info.claim_within.map_or(0, Patience::seconds)),
            policy: info.policy,
            comment: choice.comment,
            nonce: random::nonce(),
            at: now,
        })
    }

    /// A withdrawal of the caller's own request.
    pub async fn draft_withdrawal(self: &Arc<Self>, caller: &Caller, id: &RequestId) -> Result<Withdrawal, Error> {
        let (info, _) = self.request(caller, id).await?;
        Ok(Withdrawal {
            v: Version,
            kind: Is,
            instance: self.trust().instance.clone(),
            person: caller.person.clone(),
            request: info.signed.digest(),
            id: id.clone(),
            reason: Comment::default(),
            nonce: random::nonce(),
            at: self.now().second(),
        })
    }

    /// A session for a name that somebody typed. Whether there is such a person, nobody is told.
    pub fn draft_session(&self, person: PersonName) -> Session {
        Session {
            v: Version,
            kind: Is,
            instance: self.trust().instance.clone(),
            person,
            nonce: random::nonce(),
            at: self.now().second(),
        }
    }
}
