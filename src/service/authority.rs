//! Which keys the service signs with, and the trust documents that speak for them: exchanged as a whole while it runs.

use std::sync::{Arc, PoisonError};

use crate::ca::Keys;
use crate::domain::event::{Event, EventKind};
use crate::domain::key::PublicKey;
use crate::domain::time::Moment;
use crate::domain::trust::{CaRole, Chain, Trust};
use crate::domain::verify::Signed;
use crate::store::trust::{self, Taken};
use crate::store::{Store, Tx, events};

use super::{Error, Glass, Service};

/// Keys, and the documents that speak for them.
pub(super) struct Authority {
    pub(super) keys: Keys,
    pub(super) chain: Chain,
}

impl Authority {
    /// The documents follow from one another, the newest speaks for the keys in the folder, and for no others.
    pub(super) fn new(keys: Keys, documents: Vec<Signed>) -> Result<Self, Error> {
        let mut documents = documents.into_iter();
        let first = documents.next().ok_or_else(|| Error::Setup("there is no trust document".to_owned()))?;
        let chain = Chain::first_contact(first)?.forward(documents.as_slice())?;
        let foreign = || {
            Error::Setup("trust.json names other keys than ca-keys holds; put back what belongs together".to_owned())
        };
        Ok(Self { keys: keys.spoken_for_by(chain.newest()).ok_or_else(foreign)?, chain })
    }

    fn trust(&self) -> &Trust {
        self.chain.newest()
    }

    /// Records the documents that were not taken before, each with an event, but for the first of a new service.
    pub(super) async fn record(&self, store: &Store, now: Moment) -> Result<(), Error> {
        let chain = self.chain.clone();
        store.write(move |tx| record(tx, &chain, now)).await
    }
}

fn record(tx: &mut Tx<'_>, chain: &Chain, now: Moment) -> Result<(), Error> {
    let known = trust::taken(tx)?;
    if let Some(lost) = known.iter().find(|taken| !chain.has(&taken.sha256)) {
        return Err(Error::Setup(format!(
            "trust document {} was in force, and ca-keys holds another one or none; put back the whole folder: hosts \
             follow nothing that does not follow from it",
            lost.number
        )));
    }
    let mut before: Option<Trust> = None;
    for signed in chain.after(0) {
        let document: Trust = serde_json::from_slice(signed.bytes()).map_err(|e| Error::Setup(e.to_string()))?;
        let (number, sha256) = (document.number, signed.digest());
        if !known.iter().any(|taken| taken.sha256 == sha256) {
            trust::take(tx, &Taken { number, sha256, at: now.second() })?;
            if let Some(before) = &before {
                let detail = Some(format!("{number} {sha256}: {}", changes(before, &document)));
                events::append(tx, Event { detail, ..Event::new(EventKind::TrustChanged, now) })?;
            }
        }
        before = Some(document);
    }
    Ok(())
}

/// What one document has and the other has not, in words.
fn changes(before: &Trust, after: &Trust) -> String {
    let mut found = Vec::new();
    for role in [CaRole::User, CaRole::BreakGlass, CaRole::Host] {
        let (old, new) = (before.cas(role), after.cas(role));
        let mut tell = |verb: &str, key: &PublicKey| {
            found.push(format!("{} CA {} {verb}", role.as_str(), key.fingerprint()));
        };
        new.iter().filter(|key| !old.contains(key)).for_each(|key| tell("added", key));
        old.iter().filter(|key| !new.contains(key)).for_each(|key| tell("removed", key));
        new.first().filter(|key| old.first() != Some(key)).into_iter().for_each(|key| tell("signs", key));
    }
    found.join(", ")
}

impl Glass {
    pub(super) fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.authority.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest trust document.
    pub fn trust(&self) -> Trust {
        self.authority().trust().clone()
    }

    /// The same, and the signature over it.
    pub fn signed_trust(&self) -> Signed {
        self.authority().chain.signed().clone()
    }

    /// The trust documents with higher numbers, oldest first.
    pub fn trusts_after(&self, number: u64) -> Vec<Signed> {
        self.authority().chain.after(number).cloned().collect()
    }

    /// Takes keys and trust documents in place of those that it has, which the documents must follow from: as a whole,
    /// or not at all. For while there is no database, which hears of them at the start of what takes it.
    pub fn take_authority(&self, keys: Keys, documents: Vec<Signed>) -> Result<(), Error> {
        let next = self.following(keys, documents)?;
        self.set_authority(next);
        Ok(())
    }

    fn following(&self, keys: Keys, documents: Vec<Signed>) -> Result<Authority, Error> {
        let (now, next) = (self.authority(), Authority::new(keys, documents)?);
        let lost = || Error::Setup("the trust documents in ca-keys do not follow from the one in force".to_owned());
        if !next.chain.has(&now.chain.signed().digest()) {
            return Err(lost());
        }
        Ok(next)
    }

    fn set_authority(&self, next: Authority) {
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

impl Service {
    pub(super) fn authority(&self) -> Arc<Authority> {
        self.glass.authority()
    }

    /// The newest trust document.
    pub fn trust(&self) -> Trust {
        self.glass.trust()
    }

    /// The same, and the signature over it.
    pub fn signed_trust(&self) -> Signed {
        self.glass.signed_trust()
    }

    /// The trust documents with higher numbers, oldest first.
    pub fn trusts_after(&self, number: u64) -> Vec<Signed> {
        self.glass.trusts_after(number)
    }

    /// Takes keys and trust documents in place of those that it has, which the documents must follow from: as a whole,
    /// or not at all.
    pub async fn take_authority(&self, keys: Keys, documents: Vec<Signed>) -> Result<(), Error> {
        let next = self.glass.following(keys, documents)?;
        next.record(&self.store, self.clock.now()).await?;
        self.glass.set_authority(next);
        // The list of what is revoked speaks of each CA; and so every host that waits for one looks again now.
        self.cut.changed();
        Ok(())
    }
}
