//! A case: a request and everything that was decided on it, verified again from the signed bytes and
//! against the policy of this moment. What the columns say only leads here.

use crate::domain::names::RequestId;
use crate::domain::policy::{Policy, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::statement::{Approval, Decision, Request};
use crate::domain::verify::Verified;
use crate::store::requests;
use crate::store::{StoreError, Tx};

use super::{Error, Service};

/// A request and the decisions on it.
pub(super) struct Case {
    pub(super) request: Verified<Request>,
    pub(super) approvals: Vec<Verified<Approval>>,
    /// Where it was when it was read; apply `at(now)`.
    pub(super) state: State,
}

impl Case {
    /// What the policy makes of the request now.
    pub(super) fn terms(&self, policy: &Policy) -> Result<Terms, Refusal> {
        let asked = self.request.get();
        policy.terms(&asked.person, &asked.role, &asked.hosts, &asked.principals, asked.seconds)
    }

    /// Moves the stored request on, if it still is where this case found it.
    pub(super) fn change(&self, tx: &mut Tx<'_>, to: &State) -> Result<(), Error> {
        if requests::change(tx, &self.request.get().id, &self.state, to)? {
            Ok(())
        } else {
            Err(Refusal::NotPending { state: "changed" }.into())
        }
    }
}

impl Service {
    /// Opens a case. A request that is not there and one that makes no sense are both refused. Whether the
    /// requester's key still counts is for those to ask who would give something for it: what takes away
    /// (a denial, a withdrawal, a return) must work for people who have left, too.
    pub(super) fn case(&self, tx: &mut Tx<'_>, id: &RequestId) -> Result<Case, Error> {
        let stored = requests::load(tx, id)?.ok_or(Refusal::UnknownRequest)?;
        let request: Verified<Request> = self.verified(tx, &stored.signed)?;
        if request.get().id != stored.id {
            return Err(StoreError::nonsense("requests", &stored.id, "statement").into());
        }
        let mut approvals = Vec::with_capacity(stored.decisions.len());
        for signed in &stored.decisions {
            let approval: Verified<Approval> = self.verified(tx, signed)?;
            if approval.get().decision == Decision::Deny {
                return Err(Refusal::Denied.into());
            }
            approvals.push(approval);
        }
        Ok(Case { request, approvals, state: stored.state })
    }
}
