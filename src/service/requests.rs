//! Asking, waiting, and taking a request back.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::extension;
use crate::domain::grant;
use crate::domain::names::RequestId;
use crate::domain::notice::News;
use crate::domain::policy::{Policy, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::statement::{Kind, Request, Withdrawal};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::{Signed, Verified};
use crate::random;
use crate::store::requests::{self, New, Stored};
use crate::store::{StoreError, Tx, events, statements};

use super::cases::terms;
use super::circumstances::Origin;
use super::{Error, RequestInfo, Service};

/// So many requests of one person may wait at a time.
const MOST_PENDING: u32 = 20;

impl Service {
    /// Takes a request. Gives what became of it, and the capability that waits on it.
    pub async fn submit(
        self: &Arc<Self>,
        signed: Signed,
        from: Option<IpAddr>,
    ) -> Result<(RequestInfo, Zeroizing<String>), Error> {
        self.audited(Kind::Request, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let request = self.accept::<Request>(&policy, &signed, now).await?;
            self.fits(&policy, request.get())?;
            let waiter = random::token();
            let tickets = self.tickets(&policy, request.get(), now.second()).await;
            let origin = Origin { from, tickets };
            let (service, verified, waits) = (Arc::clone(self), request.clone(), Digest::of(waiter.as_bytes()));
            let state =
                self.store.write(move |tx| service.asked(tx, &policy, &verified, (waits, &origin), now)).await?;
            self.taken.insert(request.get().id.clone(), request.get().key.clone());
            self.tell(&request.get().id, &request.get().person, &request.get().role);
            let stored = Stored {
                id: request.get().id.clone(),
                signed: request.signed().clone(),
                decisions: Vec::new(),
                waiter: waits,
                state,
                peer: from,
            };
            Ok((self.info_of(&self.policy(), stored)?, waiter))
        })
        .await
    }

    /// Decides what a request comes to before anyone is bothered, and keeps it.
    fn asked(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        request: &Verified<Request>,
        (waiter, origin): (Digest, &Origin),
        now: Moment,
    ) -> Result<State, Error> {
        let asked = request.get();
        let around = self.around(tx, policy, asked, origin, now.second())?;
        let terms = terms(policy, asked, now.second(), &around)?;
        grant::starts_within_reach(asked)?;
        self.may_extend(tx, request, now, extension::may_begin)?;
        if requests::count_waiting(tx, &asked.person)? >= i64::from(MOST_PENDING) {
            return Err(Error::from(Refusal::TooManyPending { most: MOST_PENDING }));
        }
        // From the signed time, as the grant counts it.
        let patience = policy.roles().get(&asked.role).map_or(0, |role| role.decide_within.seconds());
        let decide_by = asked.at.plus(patience);
        let state = first_state(policy, asked, &terms, decide_by);
        let new = New {
            id: &asked.id,
            person: &asked.person,
            role: &asked.role,
            subject_key: asked.key.fingerprint(),
            waiter,
            created: now.second(),
            peer: origin.from,
            state: &state,
            decide_by,
        };
        keep(tx, request, &new)?;
        let requested =
            Event { policy: Some(policy.digest()), from: origin.from, ..event(EventKind::Requested, request, now) };
        events::append(tx, requested.clone())?;
        if let Some(rule) = &terms.by {
            let detail = Some(rule.to_string());
            let (kind, facts, tickets) = (EventKind::ApprovedAutomatically, terms.facts.clone(), around.checked());
            events::append(tx, Event { kind, facts, tickets, detail, ..requested })?;
        }
        self.tell_of_request(tx, policy, asked, &terms, decide_by, now.second())?;
        Ok(state)
    }

    /// Refuses what no policy could ever lead to.
    fn fits(&self, policy: &Policy, request: &Request) -> Result<(), Refusal> {
        grant::subject_key_is_fresh(policy, &request.key)?;
        if self.authority().chain.newest().keys().any(|key| *key == request.key) {
            return Err(Refusal::SubjectKeyTaken { why: "it is a key of the service" });
        }
        Ok(())
    }

    /// Waits until a request is something else than `requested`, or until `longest` is over; then
    /// tells what it is. The capability waits on this request, and does nothing else.
    pub async fn wait(&self, id: &RequestId, waiter: &str, longest: Duration) -> Result<RequestInfo, Error> {
        let mut changed = self.waiters.listen(id);
        let end = tokio::time::Instant::now() + longest;
        loop {
            let digest = Digest::of(waiter.as_bytes());
            let (wanted, policy) = (id.clone(), self.policy());
            let stored =
                self.store.read(move |tx| requests::load(tx, &wanted)).await?.ok_or(Refusal::UnknownRequest)?;
            if !bool::from(stored.waiter.as_bytes().ct_eq(digest.as_bytes())) {
                return Err(Refusal::UnknownRequest.into());
            }
            let info = self.info_of(&policy, stored)?;
            let waiting = matches!(info.state, State::Requested { .. });
            let over = tokio::time::timeout_at(end, changed.changed());
            if !waiting || over.await.is_err() {
                return Ok(info);
            }
        }
    }

    /// Takes a request back, before it is claimed.
    pub async fn withdraw(self: &Arc<Self>, signed: Signed) -> Result<(RequestId, State), Error> {
        self.audited(Kind::Withdrawal, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let withdrawal = self.accept::<Withdrawal>(&policy, &signed, now).await?;
            let service = Arc::clone(self);
            let (asked, state) = self
                .store
                .write(move |tx| {
                    let (case, said) = (service.case(tx, &withdrawal.get().id)?, withdrawal.get());
                    if case.request.get().person != said.person {
                        // The same answer as for one that does not exist.
                        return Err(Error::from(Refusal::UnknownRequest));
                    }
                    if case.request.digest() != said.request {
                        return Err(Refusal::OtherRequest.into());
                    }
                    let next = case.state.clone().withdraw(now.second())?;
                    statements::spend(tx, Kind::Withdrawal, withdrawal.signed())?;
                    case.change(tx, &next)?;
                    let event = event(EventKind::Withdrawn, &case.request, now);
                    events::append(tx, Event { statement: Some(withdrawal.digest()), ..event })?;
                    service.tell_of_end(tx, &policy, &case, News::Withdrawn, now.second())?;
                    Ok((case.request.get().clone(), next))
                })
                .await?;
            self.tell(&asked.id, &asked.person, &asked.role);
            Ok((asked.id, state))
        })
        .await
    }
}

/// An event about a request: who asked for which role.
pub(super) fn event(kind: EventKind, request: &Verified<Request>, now: Moment) -> Event {
    let asked = request.get();
    Event {
        person: Some(asked.person.clone()),
        request: Some(asked.id.clone()),
        role: Some(asked.role.clone()),
        statement: Some(request.digest()),
        ..Event::new(kind, now)
    }
}

/// Approved by the policy itself, or waiting for people.
fn first_state(policy: &Policy, request: &Request, terms: &Terms, decide_by: Timestamp) -> State {
    if terms.approvals() > 0 {
        return State::Requested { decide_by, approved_by: Vec::new() };
    }
    // From the signed time, as the grant counts it.
    let patience = policy.roles().get(&request.role).map_or(0, |role| role.claim_within.seconds());
    State::Approved { claim_by: request.claimable_from(request.at).plus(patience) }
}

fn keep(tx: &mut Tx<'_>, request: &Verified<Request>, new: &New<'_>) -> Result<(), Error> {
    statements::spend(tx, Kind::Request, request.signed())?;
    match requests::insert(tx, request.signed(), new) {
        Err(StoreError::Taken(column)) if column.ends_with("subject_key") => {
            Err(Refusal::SubjectKeyTaken { why: "another request has this key" }.into())
        }
        Err(StoreError::Taken(_)) => Err(Refusal::IdTaken.into()),
        other => Ok(other?),
    }
}
