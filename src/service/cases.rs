//! A case: a request and everything that was decided on it, verified again from the signed bytes and
//! against the policy of this moment. What the columns say only leads here.

use std::net::IpAddr;

use crate::domain::names::RequestId;
use crate::domain::policy::{Policy, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::statement::{Approval, Decision, Request};
use crate::domain::time::Timestamp;
use crate::domain::verify::Verified;
use crate::store::requests;
use crate::store::{StoreError, Tx};

use super::circumstances::Around;
use super::{Error, Service};

/// A request and the decisions on it.
pub(super) struct Case {
    pub(super) request: Verified<Request>,
    pub(super) approvals: Vec<Verified<Approval>>,
    /// Where it was when it was read; apply `at(now)`.
    pub(super) state: State,
    /// Where the request came from.
    pub(super) peer: Option<IpAddr>,
}

impl Case {
    /// What the policy makes of the request at a moment.
    pub(super) fn terms(&self, policy: &Policy, now: Timestamp, around: &Around) -> Result<Terms, Refusal> {
        terms(policy, self.request.get(), now, around)
    }

    /// This case, which was opened a moment ago beside the writer, with its state of now. Statements do not change,
    /// and a decision that came since shows in the state.
    pub(super) fn again(self, tx: &mut Tx<'_>) -> Result<Self, Error> {
        let asked = &self.request;
        let state = requests::state_of(tx, &asked.get().id, &asked.digest())?.ok_or(Refusal::UnknownRequest)?;
        Ok(Self { state, ..self })
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

/// What the policy makes of a request at a moment; at its start, while that is to come.
pub(super) fn terms(policy: &Policy, asked: &Request, now: Timestamp, around: &Around) -> Result<Terms, Refusal> {
    policy.terms(&asked.into(), asked.start.map_or(now, |start| start.max(now)), &around.get())
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
        Ok(Case { request, approvals, state: stored.state, peer: stored.peer })
    }
}
