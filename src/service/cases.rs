//! A case: a request and everything that was decided on it, verified again from the signed bytes and
//! against the policy of this moment. What the columns say only leads here.

use crate::domain::names::RequestId;
use crate::domain::policy::{Policy, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::sshsig::Expect;
use crate::domain::statement::{Approval, Decision, Request};
use crate::domain::verify::{Signed, Verified};
use crate::store::requests::{self, Stored};
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
    /// Opens a case. A request that is not there and one that makes no sense are both refused.
    pub(super) fn case(&self, tx: &mut Tx<'_>, policy: &Policy, id: &RequestId) -> Result<Case, Error> {
        let stored = requests::load(tx, id)?.ok_or(Refusal::UnknownRequest)?;
        self.verify_case(policy, stored)
    }

    fn verify_case(&self, policy: &Policy, stored: Stored) -> Result<Case, Error> {
        let request: Request = stored.signed.claims()?;
        if request.id != stored.id {
            return Err(StoreError::nonsense("requests", &stored.id, "statement").into());
        }
        policy.signer(&request.person, stored.signed.signature().key())?;
        let request = self.again(&stored.signed)?;
        let mut approvals = Vec::with_capacity(stored.decisions.len());
        for signed in &stored.decisions {
            let approval: Verified<Approval> = self.again(signed)?;
            if approval.get().decision == Decision::Deny {
                return Err(Refusal::Denied.into());
            }
            approvals.push(approval);
        }
        Ok(Case { request, approvals, state: stored.state })
    }

    /// Verifies a stored statement again, by the key that it was signed with. Whose key that is, is for
    /// the policy to say.
    pub(super) fn again<T: crate::domain::statement::Statement>(
        &self,
        signed: &Signed,
    ) -> Result<Verified<T>, Refusal> {
        let expect = Expect::SshKey { verified: false };
        Verified::check(signed, signed.signature().key(), expect, &self.trust.instance, &self.seen)
    }
}
