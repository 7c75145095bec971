//! Breaking the glass: journal first, always; then the certificate; then the database catches up. The
//! path to the certificate touches no database, so that the way used in disasters is the way used
//! every day.

use std::sync::{Arc, MutexGuard, PoisonError};

use crate::domain::certificate::ToBeSigned;
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::Grant;
use crate::domain::journal::{Entry, NAMESPACE, Outcome};
use crate::domain::sshsig::Expect;
use crate::domain::statement::{BreakGlass, Dependency, Kind, Statement as _, Version};
use crate::domain::time::Moment;
use crate::domain::verify::{Signed, Verified};
use crate::random;
use crate::store::journal::Journal;
use crate::store::{StoreError, Tx, emergencies, events, statements};

use super::{Error, Issued, Service, aftermath, notices, reviews};

/// The epoch of the first journal's serials; the database has the one before.
const FIRST_EPOCH: u64 = 2;
/// So many refused attempts in a row are written to the journal; the log has the rest.
const MOST_REFUSED: usize = 1000;

/// Why no glass was broken, and whether the journal says so already.
struct Unbroken {
    error: Error,
    journaled: bool,
}

impl<E: Into<Error>> From<E> for Unbroken {
    fn from(error: E) -> Self {
        Self { error: error.into(), journaled: false }
    }
}

impl Service {
    /// Signs a short certificate for a registered emergency key, once its reason is durable.
    pub async fn break_glass(self: &Arc<Self>, signed: Signed) -> Result<Issued, Error> {
        let (service, statement) = (Arc::clone(self), signed.clone());
        let work = tokio::task::spawn_blocking(move || service.broken(&statement));
        let failed = |e| Unbroken { error: Error::Setup(format!("breaking the glass: {e}")), journaled: false };
        let outcome = work.await.map_err(failed).and_then(|outcome| outcome);
        let service = Arc::clone(self);
        // A drill may go without the database: this use is imported with whatever comes next, or by the sweep.
        let readonly = outcome.is_ok() && simulates(&signed, Dependency::DbReadonly);
        // What the journal does not hold is recorded as any refusal is.
        let refused = match &outcome {
            Err(Unbroken { error: Error::Refused(refusal), journaled: false }) => Some(refusal.clone()),
            _ => None,
        };
        // Nobody waits for the database here.
        tokio::spawn(async move {
            if let Some(refusal) = refused {
                service.record_refusal(Kind::BreakGlass, &signed, &refusal).await;
            }
            if readonly {
                return;
            }
            if let Err(error) = service.import_journal().await {
                tracing::error!(%error, "the journal was not imported; it will be tried again");
            }
        });
        outcome.map_err(|unbroken| unbroken.error)
    }

    /// Verify, decide, make durable, sign: in this order, and nothing else.
    fn broken(&self, signed: &Signed) -> Result<Issued, Unbroken> {
        let (now, policy) = (self.clock.now(), self.policy());
        let claimed: BreakGlass = signed.claims()?;
        // Only a registered key is worth a signature check, and only its attempts are journaled.
        policy.emergency_key(claimed.person(), signed.signature().key())?;
        let expect = Expect::SshKey { verified: false };
        let statement: Verified<BreakGlass> =
            Verified::check(signed, signed.signature().key(), expect, &self.instance, &self.seen)?;
        let statement = statement.fresh(now.second())?;
        let mut journal = self.journal();
        let decided = journal
            .replay()
            .allows(signed, statement.get())
            .and_then(|()| Grant::break_glass(&policy, &statement, self.settings.clock_skew));
        let grant = match decided {
            Ok(grant) => grant,
            Err(refusal) => {
                let refused =
                    journal.after(0).iter().rev().take_while(|e| matches!(e.outcome, Outcome::Refused { .. })).count();
                let journaled = refused < MOST_REFUSED;
                if journaled {
                    let outcome = Outcome::Refused { code: refusal.code().to_owned() };
                    self.write(&mut journal, signed, now, policy.digest(), outcome)?;
                }
                return Err(Unbroken { error: refusal.into(), journaled });
            }
        };
        let serial = journal
            .replay()
            .next_serial(self.journal_epoch)
            .ok_or_else(|| Error::Setup("the journal has no serials left".to_owned()))?;
        let authority = self.authority();
        let tbs = ToBeSigned::new(grant, serial, random::bytes(), authority.keys.break_glass_ca.public());
        self.write(&mut journal, signed, now, policy.digest(), Outcome::Issued { serial, tbs: tbs.digest() })?;
        drop(journal);
        let certificate = authority.keys.break_glass_ca.certify(&tbs)?;
        Ok(Issued { certificate, serial, grant: tbs.grant().clone() })
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(
        &self,
        journal: &mut Journal,
        signed: &Signed,
        at: Moment,
        policy: crate::domain::digest::Digest,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let (seq, prev) = journal.replay().next();
        let entry = Entry {
            v: Version,
            epoch: self.journal_epoch,
            seq,
            prev,
            at,
            statement: String::from_utf8_lossy(signed.bytes()).into_owned(),
            signature: signed.signature().armor(),
            policy,
            outcome,
        };
        let key = &self.authority().keys.journal;
        journal.append(&key.sign(NAMESPACE, entry.to_bytes())?, key.public())?;
        self.note_unreviewed(journal.replay());
        Ok(())
    }

    /// Copies what the journal has and the database has not. Safe to call at any time.
    pub async fn import_journal(&self) -> Result<(), Error> {
        let epoch = self.journal_epoch;
        let imported = self.store.read(move |tx| emergencies::imported(tx, epoch)).await?;
        let (entries, end) = {
            let journal = self.journal();
            (journal.after(imported).to_vec(), journal.replay().next().0 - 1)
        };
        if end < imported {
            return Err(Error::Setup(format!(
                "the break-glass journal ends at entry {end}, and entry {imported} of it was imported before; put the \
                 whole file back: a shorter one forgets what was used, and gives serials twice"
            )));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let (outbox, policy) = (Arc::clone(&self.outbox), self.policy());
        self.store
            .write(move |tx| {
                // Another import may have come first.
                let imported = emergencies::imported(tx, epoch)?;
                for entry in entries.iter().filter(|entry| entry.seq > imported) {
                    import(tx, entry)?;
                    notices::tell_of_emergency(&outbox, tx, &policy, entry)?;
                    aftermath::tell_of_overuse(&outbox, tx, &policy, entry)?;
                    emergencies::set_imported(tx, epoch, entry.seq)?;
                }
                Ok::<_, Error>(())
            })
            .await?;
        self.waiters.wake_all();
        self.outbox.wake();
        Ok(())
    }
}

/// Whether a drill goes without something.
fn simulates(signed: &Signed, dependency: Dependency) -> bool {
    let said = signed.claims::<BreakGlass>();
    said.is_ok_and(|said| said.drill.is_some_and(|without| without.contains(&dependency)))
}

/// The epoch of a journal: its entries say it, and an empty one gets the next that no journal had, so that
/// a new file never gives a serial twice.
pub(super) fn epoch_of(tx: &mut Tx<'_>, written: Option<u16>, now: Moment) -> Result<u16, Error> {
    let newest = emergencies::newest_epoch(tx)?;
    let next = newest.map_or(FIRST_EPOCH, |epoch| epoch + 1);
    let epoch = match written {
        Some(epoch) if newest.is_none_or(|newest| u64::from(epoch) >= newest) => epoch,
        Some(epoch) => {
            let message =
                format!("this break-glass journal is number {epoch}, and a newer one was begun; put that one back");
            return Err(Error::Setup(message));
        }
        None => u16::try_from(next).map_err(|_| Error::Setup("there were too many journals".to_owned()))?,
    };
    if newest != Some(u64::from(epoch)) {
        emergencies::set_newest_epoch(tx, epoch)?;
        events::append(tx, Event { detail: Some(epoch.to_string()), ..Event::new(EventKind::JournalBegun, now) })?;
    }
    Ok(epoch)
}

fn import(tx: &mut Tx<'_>, entry: &Entry) -> Result<(), Error> {
    match &entry.outcome {
        Outcome::Reviewed => reviews::import(tx, entry),
        Outcome::Issued { serial, tbs } => {
            let (signed, statement, event) = tried(entry)?;
            statements::keep(tx, Kind::BreakGlass, &signed)?;
            emergencies::insert(tx, &statement.id, *serial, &signed, entry.at.second())?;
            let detail = statement.drill.is_some().then(|| "DRILL".to_owned());
            let (kind, serial, tbs) = (EventKind::BreakGlass, Some(*serial), Some(*tbs));
            let event = Event { kind, serial, tbs, detail, ..event };
            Ok(events::append(tx, event).map(|_| ())?)
        }
        Outcome::Refused { code } => {
            let (_, _, event) = tried(entry)?;
            Ok(events::append(tx, Event { detail: Some(code.clone()), ..event }).map(|_| ())?)
        }
    }
}

/// What was tried with an emergency key, and the event of its refusal.
fn tried(entry: &Entry) -> Result<(Signed, BreakGlass, Event), Error> {
    let nonsense = || StoreError::nonsense("journal", &entry.seq, "statement");
    let signed = entry.signed().map_err(|_| nonsense())?;
    let statement: BreakGlass = signed.claims().map_err(|_| nonsense())?;
    let event = Event {
        person: Some(statement.person.clone()),
        request: Some(statement.id.clone()),
        role: Some(statement.role.clone()),
        statement: Some(signed.digest()),
        policy: Some(entry.policy),
        ..Event::new(EventKind::BreakGlassRefused, entry.at)
    };
    Ok((signed, statement, event))
}
