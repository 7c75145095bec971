//! The log: reading it, signing its head, and recording what was refused.

use std::future::Future;
use std::sync::PoisonError;

use serde::Deserialize;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, HEAD_NAMESPACE, Head, HeadTag};
use crate::domain::names::{PersonName, RequestId};
use crate::domain::policy::Duty;
use crate::domain::refusal::Refusal;
use crate::domain::statement::{Kind, Version};
use crate::domain::time::Moment;
use crate::domain::tree::inclusion_proof;
use crate::domain::verify::Signed;
use crate::store::{StoreError, events, statements};

use super::{Caller, Error, Service};

/// So many refusals a minute become events, of people and of nobody in particular; a flood must not fill
/// the log, and strangers must not use up what is kept for people.
const OF_PEOPLE_A_MINUTE: u32 = 600;
const OF_STRANGERS_A_MINUTE: u32 = 60;
/// So many events come in one answer.
const PAGE: u32 = 1000;

/// Counts refusals within a minute.
#[derive(Debug, Default)]
pub(super) struct Budget {
    minute: i64,
    of_people: u32,
    of_strangers: u32,
}

/// A head of the log and the log key's signature over it.
#[derive(Debug, Clone)]
pub struct SignedHead {
    /// How many events it covers.
    pub size: u64,
    /// The document and its signature.
    pub signed: Signed,
}

/// An event as it is stored, with the statement it names.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The leaf's bytes, verbatim.
    pub leaf: Vec<u8>,
    /// The statement that the leaf names, unless it was never kept or is erased.
    pub statement: Option<Signed>,
}

impl Service {
    /// The log's head, signed: anew only when the log has grown.
    pub async fn head(&self) -> Result<SignedHead, Error> {
        let log = self.store.read(events::frontier).await?;
        let (size, root) = (log.size(), log.root());
        let mut last = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = last.as_ref().filter(|head| head.size == size) {
            return Ok(head.clone());
        }
        let instance = self.instance.clone();
        let head = Head { v: Version, kind: HeadTag::Head, instance, size, root, at: self.clock.now() };
        let document = serde_json::to_vec(&head).map_err(|e| Error::Setup(e.to_string()))?;
        let head = SignedHead { size, signed: self.authority().keys.log.sign(HEAD_NAMESPACE, document)? };
        *last = Some(head.clone());
        Ok(head)
    }

    /// Events from number `from`, with their statements, for auditors and administrators.
    pub async fn events(&self, caller: &Caller, from: u64, limit: u32) -> Result<Vec<StoredEvent>, Error> {
        caller.needs(&[Duty::Auditors, Duty::Admins])?;
        self.store
            .read(move |tx| {
                let leaves = events::page(tx, from, limit.min(PAGE))?;
                leaves.into_iter().map(|leaf| stored_event(tx, leaf.bytes)).collect()
            })
            .await
    }

    /// The events of one request, each with the proof that it is in the log of the given head's size.
    pub(super) async fn proven(&self, id: RequestId, size: u64) -> Result<Vec<(u64, StoredEvent, Vec<Digest>)>, Error> {
        self.store
            .read(move |tx| {
                let hashes = events::hashes(tx, size)?;
                let mine = events::of_request(tx, &id)?.into_iter().filter(|leaf| leaf.seq <= size);
                mine.map(|leaf| {
                    let index = usize::try_from(leaf.seq - 1).unwrap_or(usize::MAX);
                    Ok((leaf.seq, stored_event(tx, leaf.bytes)?, inclusion_proof(&hashes, index)))
                })
                .collect()
            })
            .await
    }

    /// Runs a verb, and records its refusal: an attempt leaves a trace even when nothing came of it.
    pub(super) async fn audited<T>(
        &self,
        kind: Kind,
        signed: &Signed,
        verb: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let outcome = verb.await;
        if let Err(Error::Refused(refusal)) = &outcome {
            self.record_refusal(kind, signed, refusal).await;
        }
        outcome
    }

    /// Records that something was tried and refused.
    pub(super) async fn record_refusal(&self, kind: Kind, signed: &Signed, refusal: &Refusal) {
        let (now, claims) = (self.clock.now(), self.proven_claims(signed));
        if !self.refusals.lock().unwrap_or_else(PoisonError::into_inner).allows(now, claims.person.is_some()) {
            return;
        }
        let event = Event {
            person: claims.person,
            request: claims.id,
            statement: Some(signed.digest()),
            detail: Some(format!("{}: {}", kind.as_str(), refusal.code())),
            ..Event::new(EventKind::Refused, now)
        };
        if let Err(error) = self.store.write(move |tx| events::append(tx, event)).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}

impl Service {
    /// Records that a message of facts was refused.
    pub(super) async fn record_unheard(&self, refusal: &Refusal) {
        let now = self.clock.now();
        if !self.refusals.lock().unwrap_or_else(PoisonError::into_inner).allows(now, false) {
            return;
        }
        let event = Event { detail: Some(format!("facts: {}", refusal.code())), ..Event::new(EventKind::Refused, now) };
        if let Err(error) = self.store.write(move |tx| events::append(tx, event)).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }

    /// What a refused statement says of itself, if a key of that person's really signed it: nobody can have
    /// others named in the log.
    fn proven_claims(&self, signed: &Signed) -> Claims {
        let claims: Claims = serde_json::from_slice(signed.bytes()).unwrap_or_default();
        let (policy, key) = (self.policy(), signed.signature().key());
        let theirs =
            |person: &PersonName| policy.signer(person, key).is_ok() || policy.emergency_key(person, key).is_ok();
        let proven = claims.person.as_ref().is_some_and(theirs) && signed.signature().check(signed.bytes()).is_ok();
        if proven { claims } else { Claims::default() }
    }
}

impl Budget {
    fn allows(&mut self, now: Moment, of_person: bool) -> bool {
        let minute = now.second().unix() / 60;
        if minute != self.minute {
            *self = Self { minute, ..Self::default() };
        }
        let (used, most) = if of_person {
            (&mut self.of_people, OF_PEOPLE_A_MINUTE)
        } else {
            (&mut self.of_strangers, OF_STRANGERS_A_MINUTE)
        };
        *used += 1;
        *used <= most
    }
}

/// Whom a refused statement speaks of.
#[derive(Deserialize, Default)]
struct Claims {
    person: Option<PersonName>,
    id: Option<RequestId>,
}

fn stored_event(tx: &mut crate::store::Tx<'_>, leaf: Vec<u8>) -> Result<StoredEvent, Error> {
    let event: Event = serde_json::from_slice(&leaf).map_err(|_| StoreError::nonsense("events", &"?", "leaf"))?;
    let statement = match event.statement {
        Some(digest) if event.kind != EventKind::Refused => statements::load(tx, &digest).ok(),
        _ => None,
    };
    Ok(StoredEvent { leaf, statement })
}
