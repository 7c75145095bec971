//! Approving and denying.

use std::sync::Arc;

use crate::domain::approval;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::RequestId;
use crate::domain::policy::{Policy, Tickets};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::statement::{Approval, Decision, Kind, Request};
use crate::domain::text::Reason;
use crate::domain::time::Moment;
use crate::domain::verify::{Signed, Verified};
use crate::store::{StoreError, Tx, events, requests, statements};

use super::cases::Case;
use super::circumstances::{Around, Origin};
use super::requests::event;
use super::{Error, Service};

impl Service {
    /// Takes a decision. Gives which request it was on, and what it made of it.
    pub async fn decide(self: &Arc<Self>, signed: Signed) -> Result<(RequestId, State), Error> {
        self.audited(Kind::Approval, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let approval = self.accept::<Approval>(&policy, &signed, now).await?;
            let tickets = self.tickets_of(&policy, &approval.get().id, now.second()).await?;
            let service = Arc::clone(self);
            let decided = self.store.write(move |tx| service.decided(tx, &policy, &approval, tickets, now));
            let (asked, state) = decided.await?;
            self.tell(&asked.id, &asked.person, &asked.role);
            Ok((asked.id, state))
        })
        .await
    }

    fn decided(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        approval: &Verified<Approval>,
        tickets: Arc<Tickets>,
        now: Moment,
    ) -> Result<(Request, State), Error> {
        let said = approval.get();
        let case = self.case(tx, &said.id).map_err(|e| undecidable(e, approval))?;
        approval::may_decide(policy, &case.request, approval)?;
        let next = match said.decision {
            Decision::Approve => {
                let origin = Origin { from: case.peer, tickets };
                let around = self.around(tx, policy, case.request.get(), &origin, now.second())?;
                approve(policy, &case, approval, &around, now)?
            }
            Decision::Deny => {
                said.comment.as_str().parse::<Reason>().map_err(Refusal::from)?;
                case.state.clone().deny(now.second())?
            }
        };
        statements::spend(tx, Kind::Approval, approval.signed())?;
        match requests::decide(tx, &said.id, &said.person, said.decision.as_str(), approval.signed()) {
            Err(StoreError::Taken(_)) => return Err(Refusal::DecidedAlready { person: said.person.clone() }.into()),
            other => other?,
        }
        if next.name() != case.state.name() {
            case.change(tx, &next)?;
        }
        let kind = if said.decision == Decision::Approve { EventKind::Approved } else { EventKind::Denied };
        let happened = Event {
            person: Some(said.person.clone()),
            statement: Some(approval.digest()),
            policy: Some(policy.digest()),
            ..event(kind, &case.request, now)
        };
        events::append(tx, happened)?;
        self.tell_of_decision(tx, policy, &case, said, &next, now.second())?;
        Ok((case.request.get().clone(), next))
    }
}

/// A denied request has no case any more, but a second decision on it deserves the plain answer.
fn undecidable(error: Error, approval: &Verified<Approval>) -> Error {
    match error {
        Error::Refused(Refusal::Denied) if approval.get().decision == Decision::Approve => {
            Refusal::NotPending { state: "denied" }.into()
        }
        other => other,
    }
}

fn approve(
    policy: &Policy,
    case: &Case,
    approval: &Verified<Approval>,
    around: &Around,
    now: Moment,
) -> Result<State, Refusal> {
    let (asked, said) = (case.request.get(), approval.get());
    case.request.signer(policy)?;
    let terms = case.terms(policy, now.second(), around)?;
    let role = policy.role_for(&said.person, &asked.role)?;
    approval::stays_within(role, &terms, asked, said)?;
    if said.policy != policy.digest() {
        return Err(Refusal::PolicyChanged);
    }
    if said.at < asked.at {
        return Err(Refusal::OutOfOrder);
    }
    if said.claim_by < now.second() {
        return Err(Refusal::Lapsed { at: said.claim_by });
    }
    let claim_by =
        case.approvals.iter().map(|a| a.get().claim_by).chain([said.claim_by]).min().unwrap_or(said.claim_by);
    case.state.clone().approve(said.person.clone(), |by| terms.quorum.met_by(by), claim_by, now.second())
}
