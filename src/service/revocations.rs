//! Revocations: somebody with the duty ends what others hold, and what they could still get.

use std::sync::Arc;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::{PersonName, RequestId, RoleName};
use crate::domain::policy::{Duty, EMERGENCY_LONGEST, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{BreakGlass, Kind, Request, Revocation, Serial, Target};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::{Signed, Verified};
use crate::store::emergencies::{self, Emergency};
use crate::store::requests::{self, Filter, Stored};
use crate::store::{StoreError, Tx, events, passkeys, revocations, statements};

use super::krl::AFTER_THE_END;
use super::{Error, Service};

/// What a revocation ended.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// The request, or the broken glass.
    pub id: RequestId,
    /// Whose it was.
    pub person: PersonName,
    /// The role that it gave or would have given.
    pub role: RoleName,
    /// The certificate, if there was one.
    pub serial: Option<Serial>,
}

impl Service {
    /// Ends what a revocation names: certificates that live, and requests that could become one. Gives what that was;
    /// where there was nothing, nothing is written.
    pub async fn revoke(self: &Arc<Self>, signed: Signed) -> Result<Vec<Revoked>, Error> {
        self.audited(Kind::Revocation, &signed, async {
            // What the journal alone knows of could not be ended.
            if let Err(error) = self.import_journal().await {
                tracing::error!(%error, "the journal was not imported; only what was before is revoked");
            }
            let (now, policy) = (self.clock.now(), self.policy());
            let said = self.accept::<Revocation>(&policy, &signed, now).await?;
            let service = Arc::clone(self);
            let ended = self.store.write(move |tx| service.revoked(tx, &policy, &said, now)).await?;
            for revoked in &ended {
                self.tell(&revoked.id, &revoked.person, &revoked.role);
            }
            Ok(ended)
        })
        .await
    }

    fn revoked(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        said: &Verified<Revocation>,
        now: Moment,
    ) -> Result<Vec<Revoked>, Error> {
        if !policy.has_duty(&said.get().person, Duty::Revokers) {
            return Err(Refusal::NoDuty { duty: "revokers" }.into());
        }
        let target = &said.get().target;
        let (requests, broken) = (open(tx, target)?, unended(tx, target, now.second())?);
        if requests.is_empty() && broken.is_empty() {
            return Ok(Vec::new());
        }
        statements::spend(tx, Kind::Revocation, said.signed())?;
        let mut ended = Vec::with_capacity(requests.len() + broken.len());
        for stored in requests {
            ended.extend(self.cut_request(tx, policy, &stored, said.get(), now)?);
        }
        for emergency in broken {
            ended.extend(self.cut_emergency(tx, &emergency, &said.digest())?);
        }
        for revoked in &ended {
            events::append(tx, event(policy, said, revoked, now))?;
        }
        Ok(ended)
    }

    fn cut_request(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        stored: &Stored,
        said: &Revocation,
        now: Moment,
    ) -> Result<Option<Revoked>, Error> {
        let next = match stored.state.clone().revoke(now.second()) {
            Ok(next) => next,
            Err(refusal) if matches!(said.target, Target::Request(_)) => return Err(refusal.into()),
            // What ran out by itself is for the sweep.
            Err(_) => return Ok(None),
        };
        if !requests::change(tx, &stored.id, &stored.state, &next)? {
            return Ok(None);
        }
        self.cut.add(stored.state.certificate());
        let asked: Request = stored.signed.claims()?;
        self.tell_of_revocation(tx, policy, &asked, said, now.second())?;
        Ok(Some(Revoked { id: asked.id, person: asked.person, role: asked.role, serial: next.serial() }))
    }

    fn cut_emergency(
        &self,
        tx: &mut Tx<'_>,
        emergency: &Emergency,
        revocation: &Digest,
    ) -> Result<Option<Revoked>, Error> {
        if !revocations::cut_emergency(tx, &emergency.id, revocation)? {
            return Ok(None);
        }
        self.cut.add(Some((emergency.serial, latest_end(emergency))));
        let used: BreakGlass = emergency.signed.claims()?;
        Ok(Some(Revoked { id: used.id, person: used.person, role: used.role, serial: Some(emergency.serial) }))
    }

    /// Reads again what ended before its time and whose certificates live: at the start. What nobody's statement or
    /// fact ended is left out, whatever its row says.
    pub(super) async fn recall_revoked(self: &Arc<Self>) -> Result<(), Error> {
        let (service, now) = (Arc::clone(self), self.clock.now().second().plus(-AFTER_THE_END));
        let work = move |tx: &mut Tx<'_>| {
            for (id, serial, ends) in revocations::cut(tx, now)? {
                if is_on_record(tx, &id, serial)? {
                    service.cut.add(Some((serial, ends)));
                } else {
                    tracing::error!(%id, %serial, "its row says that it was ended, and nothing proves it");
                }
            }
            for emergency in emergencies::since(tx, now.plus(-longest_emergency()))? {
                if is_on_record(tx, &emergency.id, emergency.serial)? {
                    service.cut.add(Some((emergency.serial, latest_end(&emergency))));
                }
            }
            Ok::<_, Error>(())
        };
        self.store.read(work).await
    }
}

/// Whether the log says that this certificate was ended, by a statement that somebody signed or with a fact.
fn is_on_record(tx: &mut Tx<'_>, id: &RequestId, serial: Serial) -> Result<bool, Error> {
    let leaves = events::of_request(tx, id)?;
    let ended = leaves
        .iter()
        .filter_map(|leaf| serde_json::from_slice::<Event>(&leaf.bytes).ok())
        .find(|event| matches!(event.kind, EventKind::Returned | EventKind::Revoked) && event.serial == Some(serial));
    let Some(event) = ended else { return Ok(false) };
    // A fact that ended leaves no statement.
    let Some(digest) = event.statement else { return Ok(event.kind == EventKind::Revoked) };
    let Ok(signed) = statements::load(tx, &digest) else { return Ok(false) };
    // Who had the duty then may have it no more; what they ended stays ended.
    Ok(signed.signature().check(signed.bytes()).is_ok())
}

/// The revocation that ended a request, if one did and it is there.
pub(super) fn of_request(tx: &mut Tx<'_>, id: &RequestId) -> Result<Option<Signed>, StoreError> {
    let leaves = events::of_request(tx, id)?;
    let events = leaves.iter().filter_map(|leaf| serde_json::from_slice::<Event>(&leaf.bytes).ok());
    let named = events.filter(|event| event.kind == EventKind::Revoked).find_map(|event| event.statement);
    // It may have been erased.
    Ok(named.and_then(|digest| statements::load(tx, &digest).ok()))
}

fn event(policy: &Policy, said: &Verified<Revocation>, revoked: &Revoked, now: Moment) -> Event {
    Event {
        person: Some(said.get().person.clone()),
        request: Some(revoked.id.clone()),
        role: Some(revoked.role.clone()),
        serial: revoked.serial,
        statement: Some(said.digest()),
        policy: Some(policy.digest()),
        ..Event::new(EventKind::Revoked, now)
    }
}

/// The requests that a revocation is about and that are not over. A request that is named must exist.
fn open(tx: &mut Tx<'_>, target: &Target) -> Result<Vec<Stored>, Error> {
    if let Target::Request(id) = target {
        return match requests::load(tx, id)? {
            Some(stored) => Ok(vec![stored]),
            None if emergencies::load(tx, id)?.is_some() => Ok(Vec::new()),
            None => Err(Refusal::UnknownRequest.into()),
        };
    }
    let mut meant = Vec::new();
    // Whose they are is read from what was signed, not from a column.
    for stored in requests::list(tx, &Filter::Open, None, (0, u32::MAX))? {
        let is_meant = match target {
            Target::Request(id) => stored.id == *id,
            Target::Person(person) => stored.signed.claims::<Request>()?.person == *person,
            Target::Key(key) => rests_on(tx, &stored, key)?,
        };
        if is_meant {
            meant.push(stored);
        }
    }
    Ok(meant)
}

/// Whether a request was asked for or approved with a key, or is to be claimed with it.
fn rests_on(tx: &mut Tx<'_>, stored: &Stored, key: &Digest) -> Result<bool, Error> {
    let asked: Request = stored.signed.claims()?;
    if asked.key.fingerprint() == *key {
        return Ok(true);
    }
    for signature in stored.decisions.iter().chain([&stored.signed]).map(Signed::signature) {
        let signer = signature.key().fingerprint();
        // The SSH key behind a passkey vouched for it.
        let behind = if signature.is_passkey() { passkeys::load_any(tx, &signer)? } else { None };
        if signer == *key || behind.is_some_and(|passkey| passkey.signed.signature().key().fingerprint() == *key) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The broken glass that a revocation is about and whose certificates may live.
fn unended(tx: &mut Tx<'_>, target: &Target, now: Timestamp) -> Result<Vec<Emergency>, Error> {
    let mut found = Vec::new();
    for emergency in emergencies::since(tx, now.plus(-longest_emergency()))? {
        let meant = match target {
            Target::Request(id) => *id == emergency.id,
            Target::Person(person) => emergency.signed.claims::<BreakGlass>()?.person == *person,
            Target::Key(key) => emergency.signed.signature().key().fingerprint() == *key,
        };
        if meant && emergency.revocation.is_none() {
            found.push(emergency);
        }
    }
    Ok(found)
}

fn longest_emergency() -> i64 {
    i64::try_from(EMERGENCY_LONGEST).unwrap_or(i64::MAX)
}

/// No certificate of broken glass lives longer.
fn latest_end(emergency: &Emergency) -> Timestamp {
    emergency.at.plus(longest_emergency())
}
