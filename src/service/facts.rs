//! Facts from outside: hearing them, believing them again whenever something hangs on them, and ending what did when
//! they end.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::facts::{Fact, Facts, LONGEST, Message};
use crate::domain::grant::Grant;
use crate::domain::names::{FactName, PersonName, RequestId, RoleName};
use crate::domain::policy::{Duty, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::time::{Moment, Timestamp};
use crate::domain::webhook::Delivery;
use crate::store::{StoreError, Tx, certificates, events, facts, requests, statements};

use super::cases::Case;
use super::claims::on_record;
use super::{Caller, Error, Service};

/// A request whose access ended, and who hears of it.
pub(super) type Ended = (RequestId, PersonName, RoleName);

/// A fact that counts now.
#[derive(Debug, Clone)]
pub struct FactInfo {
    /// What it is about.
    pub name: FactName,
    /// What is so, who says it, and until when.
    pub fact: Fact,
}

impl Service {
    /// Hears a message of a source. One that came before changes nothing. Gives how many facts it speaks of.
    pub async fn hear(self: &Arc<Self>, delivery: Delivery) -> Result<usize, Error> {
        let outcome = self.heard(&delivery).await;
        if let Err(Error::Refused(refusal)) = &outcome {
            self.record_unheard(refusal).await;
        }
        outcome
    }

    async fn heard(self: &Arc<Self>, delivery: &Delivery) -> Result<usize, Error> {
        let (now, policy) = (self.clock.now(), self.policy());
        let message = self.believe(&policy, delivery)?;
        delivery.fresh(now.second())?;
        let names = message.names().count();
        let (service, delivery) = (Arc::clone(self), delivery.clone());
        let heard = self.store.write(move |tx| service.stated(tx, &policy, &delivery, &message, now)).await?;
        let Some((message, ended)) = heard else { return Ok(names) };
        let mut known = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut known).hear(&message);
        drop(known);
        self.waiters.wake_all();
        for (id, person, role) in &ended {
            self.tell(id, person, role);
        }
        Ok(names)
    }

    /// Keeps a message, and ends what hung on what it ends. `None` when it came before.
    fn stated(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        delivery: &Delivery,
        message: &Message,
        now: Moment,
    ) -> Result<Option<(Message, Vec<Ended>)>, Error> {
        if let Some(before) = facts::sent(tx, &delivery.from, &delivery.id)? {
            return if before.body == delivery.body { Ok(None) } else { Err(Refusal::WebhookRepeated.into()) };
        }
        facts::keep(tx, delivery)?;
        let stated = Event {
            policy: Some(policy.digest()),
            detail: Some(format!("{} {}", message.source, message.digest)),
            ..Event::new(EventKind::FactsStated, now)
        };
        events::append(tx, stated)?;
        let mut ended = Vec::new();
        for name in message.names() {
            let known = self.latest(tx, policy, name)?.map(|known| known.order).max(self.facts().order(name));
            if known.is_none_or(|known| known <= message.order) {
                facts::point(tx, name, &message.digest)?;
                ended.extend(self.end_what_hung_on(tx, Some(name), now)?);
            }
        }
        Ok(Some((message.clone(), ended)))
    }

    /// Verifies a message by the keys that its source has now.
    fn believe(&self, policy: &Policy, delivery: &Delivery) -> Result<Message, Refusal> {
        let secrets = self.settings.sources.get(&delivery.from).map_or(&[][..], Vec::as_slice);
        Message::check(delivery, policy.sources().get(&delivery.from), secrets, &self.seen)
    }

    /// The latest word on a name, verified again; `None` where there is none that can be believed. A row that is
    /// older than what this process heard already is no latest word: somebody put it back.
    fn latest(&self, tx: &mut Tx<'_>, policy: &Policy, name: &FactName) -> Result<Option<Message>, StoreError> {
        let doubt = |why: &dyn std::fmt::Display| {
            tracing::error!(%name, error = %why, "a stored fact is not believed");
            Ok(None)
        };
        let delivery = match facts::latest(tx, name) {
            Err(StoreError::Nonsense { .. }) => return doubt(&"its row makes no sense"),
            other => other?,
        };
        let Some(delivery) = delivery else { return Ok(None) };
        let message = match self.believe(policy, &delivery) {
            Ok(message) => message,
            Err(refusal) => return doubt(&refusal),
        };
        if message.says(name).is_none() {
            return doubt(&"its message speaks of others");
        }
        if self.facts().order(name).is_some_and(|heard| heard > message.order) {
            return doubt(&"a later word was heard");
        }
        Ok(Some(message))
    }

    /// The facts of these names, from the rows and verified again.
    pub(super) fn facts_of(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        names: &BTreeSet<FactName>,
    ) -> Result<Arc<Facts>, StoreError> {
        let mut found = Facts::default();
        for name in names {
            if let Some(message) = self.latest(tx, policy, name)? {
                found.hear_of(name, &message);
            }
        }
        Ok(Arc::new(found))
    }

    /// The facts that a claim hung on, as its event names them, each from the message of then. What they were worth
    /// was judged then; that somebody's key signed them is judged again.
    pub(super) fn facts_then(&self, tx: &mut Tx<'_>, policy: &Policy, claimed: &Event) -> Result<Arc<Facts>, Error> {
        let mut found = Facts::default();
        for (name, digest) in &claimed.facts {
            let message = self.believe(policy, &facts::load(tx, digest)?)?;
            found.hear_of(name, &message);
        }
        Ok(Arc::new(found))
    }

    /// Ends the access that hung on a fact (or on any) and would not be given with the facts of now. Everything else
    /// is as it was at the claim: neither the hour nor the address ends anything.
    pub(super) fn end_what_hung_on(
        &self,
        tx: &mut Tx<'_>,
        name: Option<&FactName>,
        now: Moment,
    ) -> Result<Vec<Ended>, Error> {
        let mut ended = Vec::new();
        for (fact, value, id) in facts::hanging(tx, name)? {
            // Nothing changed: the sweep asks often.
            let so = |known: &Fact| name.is_none() && known.value.as_str() == value;
            if self.facts().at(&fact, now.second()).is_some_and(so) {
                continue;
            }
            let holds = match self.still_given(tx, &id, now.second()) {
                Ok(holds) => holds,
                // What cannot be shown to be given is over, and one bad row keeps nothing else alive.
                Err(Error::Refused(_) | Error::Store(StoreError::Nonsense { .. })) => false,
                Err(other) => return Err(other),
            };
            if !holds {
                ended.extend(self.end(tx, &id, &fact, now)?);
            }
        }
        Ok(ended)
    }

    fn still_given(&self, tx: &mut Tx<'_>, id: &RequestId, now: Timestamp) -> Result<bool, Error> {
        let case: Case = self.case(tx, id)?;
        let Some(serial) = case.state.serial() else { return Ok(false) };
        let nonsense = |column| StoreError::nonsense("certificates", id, column);
        let planned = certificates::load(tx, id, serial)?.ok_or_else(|| nonsense("request"))?;
        let claimed = on_record(tx, id, &Digest::of(&planned.tbs))?.ok_or_else(|| nonsense("tbs"))?;
        let claim = self.claim_of(&case, &statements::load(tx, &planned.claim)?)?;
        let today = self.policy();
        let then = self.policy_by_digest(&planned.policy).unwrap_or_else(|| Arc::clone(&today));
        let asked = case.request.get();
        let names = then.roles().get(&asked.role).map(|role| role.facts_asked(&asked.into())).unwrap_or_default();
        let facts = self.facts_of(tx, &today, &names)?;
        let around = super::circumstances::Around::at_claim(&claimed, Arc::new(facts.standing(now)));
        let skew = self.settings.clock_skew;
        Ok(Grant::access(&then, &case.request, &case.approvals, &claim, &around.get(), skew).is_ok())
    }

    /// Reads again what was heard and may still count: at the start, and when a policy may have changed who is believed.
    pub(super) async fn recall(&self) -> Result<(), Error> {
        let since = self.clock.now().second().plus(-LONGEST - 86_400);
        loop {
            let before = self.facts();
            let stored = self.store.read(move |tx| facts::since(tx, since)).await?;
            let recalled = Arc::new(self.recalled(&stored));
            let mut known = self.facts.write().unwrap_or_else(PoisonError::into_inner);
            // What was heard meanwhile must not be forgotten.
            if Arc::ptr_eq(&known, &before) {
                *known = recalled;
                return Ok(());
            }
        }
    }

    /// The newest word on each name, verified. What does not hold is left out, and the one before it counts.
    fn recalled(&self, stored: &[Delivery]) -> Facts {
        let (policy, mut heard) = (self.policy(), Facts::default());
        let read = stored.iter().filter_map(|delivery| Some((Message::read(delivery).ok()?.order, delivery)));
        let mut newest_last: Vec<_> = read.collect();
        newest_last.sort_by_key(|(order, _)| *order);
        for (_, delivery) in newest_last.into_iter().rev() {
            match self.believe(&policy, delivery) {
                Ok(message) => heard.recall(&message),
                Err(refusal) => {
                    let (source, id) = (&delivery.from, &delivery.id);
                    tracing::error!(%source, %id, error = %refusal, "a stored message of facts is not believed");
                }
            }
        }
        heard
    }

    /// What counts now, for auditors and administrators.
    pub fn facts_now(&self, caller: &Caller) -> Result<Vec<FactInfo>, Error> {
        caller.needs(&[Duty::Auditors, Duty::Admins])?;
        let (facts, now) = (self.facts(), self.now().second());
        let info = |(name, fact): (&FactName, &Fact)| FactInfo { name: name.clone(), fact: fact.clone() };
        Ok(facts.all_at(now).map(info).collect())
    }

    /// Every source that shares a secret with this service stands in the policy, and each in the policy has a key or a
    /// secret.
    pub(super) fn sources_fit(&self, policy: &Policy) -> Result<(), Error> {
        let unknown = self.settings.sources.keys().find(|name| !policy.sources().contains_key(*name));
        if let Some(name) = unknown {
            return Err(Error::Setup(format!(
                "sources.{name}: the policy has no [sources.{name}] to say what it may state"
            )));
        }
        let mute = |(name, source): &(_, &crate::domain::facts::Source)| {
            source.key.is_none() && !self.settings.sources.contains_key(*name)
        };
        match policy.sources().iter().find(mute) {
            Some((name, _)) => Err(Error::Setup(format!(
                "sources.{name}: it has neither a key in the policy nor a secret_file in the service's own file"
            ))),
            None => Ok(()),
        }
    }

    fn end(&self, tx: &mut Tx<'_>, id: &RequestId, fact: &FactName, now: Moment) -> Result<Option<Ended>, Error> {
        let Some(stored) = requests::load(tx, id)? else { return Ok(None) };
        // What ran out by itself is for the sweep.
        let Ok(next) = stored.state.clone().revoke(now.second()) else { return Ok(None) };
        if !requests::change(tx, id, &stored.state, &next)? {
            return Ok(None);
        }
        let asked: crate::domain::statement::Request = stored.signed.claims()?;
        let revoked = Event {
            person: Some(asked.person.clone()),
            request: Some(id.clone()),
            role: Some(asked.role.clone()),
            serial: next.serial(),
            detail: Some(format!("fact {fact}")),
            ..Event::new(EventKind::Revoked, now)
        };
        events::append(tx, revoked)?;
        self.cut.add(stored.state.certificate());
        Ok(Some((asked.id, asked.person, asked.role)))
    }
}
