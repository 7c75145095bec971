//! Enrolling and removing passkeys, and verifying what they sign.

use std::sync::{Arc, PoisonError};

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::PersonName;
use crate::domain::passkey::{Assertion, Enrolled};
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::{Expect, SshSig};
use crate::domain::statement::{Kind, Removal, Statement};
use crate::domain::time::Moment;
use crate::domain::verify::{Signed, Verified};
use crate::store::passkeys::{self, Stored};
use crate::store::{StoreError, Tx, events, statements};

use super::{Caller, Error, Service};

/// So many passkeys one person may have.
const MOST: usize = 10;

/// What browsers left for the terminals that wait for an enrolment, by code: a few, in memory.
pub(super) type Letters = std::collections::VecDeque<(String, serde_json::Value)>;

/// So many enrolments wait for their terminals.
const MOST_LETTERS: usize = 64;

/// A passkey as its owner and the browser see it.
#[derive(Debug, Clone)]
pub struct PasskeyInfo {
    /// The browser's name for it.
    pub credential: Vec<u8>,
    /// The enrolment, verified.
    pub enrolled: Enrolled,
}

impl Service {
    /// Binds a passkey to a person: `signed` carries the SSH key's signature over the enrolment, and
    /// `by_passkey` the passkey's over the same bytes.
    pub async fn enrol(
        self: &Arc<Self>,
        signed: Signed,
        by_passkey: SshSig,
        credential: Vec<u8>,
    ) -> Result<Enrolled, Error> {
        self.audited(Kind::Enrolment, &signed, async {
            let (now, policy) = (self.clock.now(), self.policy());
            let statement = self.accept::<crate::domain::statement::Enrolment>(&policy, &signed, now).await?;
            let asked = statement.get();
            if policy.people().get(&asked.person).is_some_and(|person| person.service) {
                return Err(Refusal::ServicesCannotDecide { person: asked.person.clone() }.into());
            }
            if asked.application.as_str() != self.settings.relying_party() || policy.names_key(&asked.key) {
                return Err(Refusal::UnknownKey.into());
            }
            if !(1..=1024).contains(&credential.len()) {
                return Err(Refusal::Malformed { what: "credential: from 1 to 1024 bytes".to_owned() }.into());
            }
            let stored = Stored { credential, signed: signed.clone(), by_passkey };
            let enrolled = self.enrolled(&stored)?;
            let kept = enrolled.clone();
            self.store.write(move |tx| keep(tx, &stored, &kept, now)).await?;
            Ok(enrolled)
        })
        .await
    }

    /// Takes a passkey away: signed by its owner, with any key or passkey of theirs.
    pub async fn remove_passkey(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        self.audited(Kind::Removal, &signed, async {
            let now = self.clock.now();
            let removal = self.accept::<Removal>(&self.policy(), &signed, now).await?;
            self.store
                .write(move |tx| {
                    let said = removal.get();
                    statements::spend(tx, Kind::Removal, removal.signed())?;
                    if !passkeys::remove(tx, &said.key, &said.person, &removal.digest())? {
                        return Err(Error::from(Refusal::UnknownKey));
                    }
                    let (person, statement) = (Some(said.person.clone()), Some(removal.digest()));
                    events::append(tx, Event { person, statement, ..Event::new(EventKind::PasskeyRemoved, now) })?;
                    Ok(())
                })
                .await
        })
        .await
    }

    /// Leaves what a passkey signed for the terminal that made up `code`. It is believed there or not.
    pub fn leave_letter(&self, code: String, letter: serde_json::Value) -> Result<(), Refusal> {
        if !(20..=64).contains(&code.len()) {
            return Err(Refusal::UnknownRequest);
        }
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.retain(|(known, _)| *known != code);
        letters.push_back((code, letter));
        if letters.len() > MOST_LETTERS {
            letters.pop_front();
        }
        Ok(())
    }

    /// What was left under this code, as long as it is not pushed out by later ones.
    pub fn letter(&self, code: &str) -> Option<serde_json::Value> {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.iter().find(|(known, _)| known == code).map(|(_, letter)| letter.clone())
    }

    /// A caller's passkeys.
    pub async fn passkeys(&self, caller: &Caller) -> Result<Vec<PasskeyInfo>, Error> {
        self.passkeys_of(&caller.person).await
    }

    /// The passkeys that a browser may offer for a name. They are public keys and their names; for a
    /// person who has none, and for one who does not exist, there are none.
    pub async fn passkeys_of(&self, person: &PersonName) -> Result<Vec<PasskeyInfo>, Error> {
        let wanted = person.clone();
        let found = self.store.read(move |tx| passkeys::of_person(tx, &wanted)).await?;
        let info =
            |stored: Stored| Ok(PasskeyInfo { enrolled: self.enrolled(&stored)?, credential: stored.credential });
        found.into_iter().map(info).collect()
    }

    /// What a browser signed, as an SSH signature by the passkey of that name.
    pub async fn from_browser<T: Statement>(
        &self,
        text: String,
        credential: &[u8],
        assertion: &Assertion,
    ) -> Result<Signed, Error> {
        let statement: T = crate::domain::statement::parse(text.as_bytes())?;
        let mine = self.passkeys_of(statement.person()).await?;
        let passkey = mine.into_iter().find(|passkey| passkey.credential == credential).ok_or(Refusal::UnknownKey)?;
        let signature = assertion.to_sshsig(&passkey.enrolled.get().key, T::KIND.namespace()).map_err(Refusal::from)?;
        Ok(Signed::new(text.into_bytes(), signature))
    }

    /// The passkey with this fingerprint, verified again.
    pub(super) fn passkey(&self, tx: &mut Tx<'_>, fingerprint: &Digest) -> Result<Enrolled, Error> {
        let stored = passkeys::load(tx, fingerprint)?.ok_or(Refusal::UnknownKey)?;
        Ok(self.enrolled(&stored)?)
    }

    /// Verifies a stored passkey's two signatures again.
    fn enrolled(&self, stored: &Stored) -> Result<Enrolled, Refusal> {
        Enrolled::check(&stored.signed, &stored.by_passkey, &self.settings.origin, &self.instance, &self.seen)
    }

    /// Verifies a statement by the key that signed it, or by the passkey and what vouches for it. Whose it
    /// is, is for the policy to say: `Verified::signer`.
    pub(super) fn verified<T: Statement>(&self, tx: &mut Tx<'_>, signed: &Signed) -> Result<Verified<T>, Error> {
        let (key, instance) = (signed.signature().key(), &self.instance);
        if !signed.signature().is_passkey() {
            return Ok(Verified::check(signed, key, Expect::SshKey { verified: false }, instance, &self.seen)?);
        }
        let enrolled = self.passkey(tx, &key.fingerprint())?;
        Ok(Verified::check_passkey(signed, enrolled, &self.settings.origin, instance, &self.seen)?)
    }
}

fn keep(tx: &mut Tx<'_>, stored: &Stored, enrolled: &Enrolled, now: Moment) -> Result<(), Error> {
    let said = enrolled.get();
    if passkeys::of_person(tx, &said.person)?.len() >= MOST {
        return Err(Refusal::NotSupported { what: "key: you have ten passkeys; remove one first" }.into());
    }
    statements::spend(tx, Kind::Enrolment, &stored.signed)?;
    let key: Digest = said.key.fingerprint();
    match passkeys::insert(tx, &key, &said.person, stored) {
        Err(StoreError::Taken(_)) => return Err(Refusal::Replayed.into()),
        other => other?,
    }
    let (person, statement) = (Some(said.person.clone()), Some(enrolled.digest()));
    events::append(tx, Event { person, statement, ..Event::new(EventKind::PasskeyEnrolled, now) })?;
    Ok(())
}
