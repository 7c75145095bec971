//! What follows on broken glass: the database catches up with the journal, and with who was told.

use std::sync::Arc;

use crate::domain::event::{Event, EventKind};
use crate::domain::journal::{Entry, Outcome};
use crate::domain::statement::{BreakGlass, Kind};
use crate::domain::time::Moment;
use crate::domain::verify::Signed;
use crate::store::{StoreError, Tx, emergencies, events, statements};

use super::{Attempt, Error, Issued, Service, aftermath, reviews};

/// The epoch of the first journal's serials; the database has the one before.
const FIRST_EPOCH: u64 = 2;

impl Service {
    /// Signs a short certificate for a registered emergency key, once its reason is durable, and has the database
    /// catch up. Nobody waits for that.
    pub async fn break_glass(self: &Arc<Self>, attempt: Attempt) -> Result<Issued, Error> {
        let readonly = attempt.is_without_database();
        let outcome = self.glass.break_glass(attempt).await;
        // A drill may go without the database: this use is imported with whatever comes next, or by the sweep.
        if !(outcome.is_ok() && readonly) {
            let service = Arc::clone(self);
            tokio::spawn(async move { service.catch_up().await });
        }
        outcome
    }

    /// Brings the database up to what was tried, and to who was told of it, for ever.
    pub async fn follow_glass(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.glass.changed() => {}
                () = self.glass.alerts().attempted() => {}
            }
            self.catch_up().await;
        }
    }

    /// Brings the database up to what was tried, and to who was told of it. What fails is tried again later.
    pub(super) async fn catch_up(self: &Arc<Self>) {
        for (signed, refusal) in self.glass.take_strangers() {
            // What the journal does not hold is recorded as any refusal is.
            self.record_refusal(Kind::BreakGlass, &signed, &refusal).await;
        }
        if let Err(error) = self.import_journal().await {
            tracing::error!(%error, "the journal was not imported; it will be tried again");
        }
    }

    /// Writes down who was alerted, and who could not be.
    async fn record_alerts(&self) -> Result<(), Error> {
        let attempts = self.glass.alerts().take_attempts();
        if attempts.is_empty() {
            return Ok(());
        }
        let attempts = Arc::new(attempts);
        let written = Arc::clone(&attempts);
        let outcome = self.store.write(move |tx| written.record(tx)).await;
        if outcome.is_err()
            && let Some(attempts) = Arc::into_inner(attempts)
        {
            self.glass.alerts().put_back(attempts);
        }
        Ok(outcome?)
    }

    /// Copies what the journal has and the database has not. Safe to call at any time.
    pub async fn import_journal(&self) -> Result<(), Error> {
        let epoch = self.glass.epoch();
        let imported = self.store.read(move |tx| emergencies::imported(tx, epoch)).await?;
        let (entries, end) = {
            let journal = self.glass.journal();
            (journal.after(imported).to_vec(), journal.replay().next().0 - 1)
        };
        if end < imported {
            return Err(Error::Setup(format!(
                "the break-glass journal ends at entry {end}, and entry {imported} of it was imported before; put the \
                 whole file back: a shorter one forgets what was used, and gives serials twice"
            )));
        }
        if entries.is_empty() {
            return self.record_alerts().await;
        }
        let (outbox, policy) = (Arc::clone(&self.outbox), self.policy());
        self.store
            .write(move |tx| {
                // Another import may have come first.
                let imported = emergencies::imported(tx, epoch)?;
                for entry in entries.iter().filter(|entry| entry.seq > imported) {
                    import(tx, entry)?;
                    aftermath::tell_of_overuse(&outbox, tx, &policy, entry)?;
                    emergencies::set_imported(tx, epoch, entry.seq)?;
                }
                Ok::<_, Error>(())
            })
            .await?;
        self.waiters.wake_all();
        self.outbox.wake();
        self.record_alerts().await
    }
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
        // The policy that names them is in the log already.
        Outcome::Keys(_) => Ok(()),
        Outcome::Reviewed => reviews::import(tx, entry),
        Outcome::Issued { serial, tbs } => {
            let (signed, statement, event) = tried(entry)?;
            statements::keep(tx, Kind::BreakGlass, &signed)?;
            if let Some(second) = entry.second_signed().map_err(|_| nonsense(entry))? {
                statements::keep(tx, Kind::Seconding, &second)?;
            }
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

fn nonsense(entry: &Entry) -> StoreError {
    StoreError::nonsense("journal", &entry.seq, "statement")
}

/// What was tried with an emergency key, and the event of its refusal.
fn tried(entry: &Entry) -> Result<(Signed, BreakGlass, Event), Error> {
    let signed = entry.signed().map_err(|_| nonsense(entry))?;
    let statement: BreakGlass = signed.claims().map_err(|_| nonsense(entry))?;
    let event = Event {
        person: Some(statement.person.clone()),
        request: Some(statement.id.clone()),
        role: Some(statement.role.clone()),
        statement: Some(signed.digest()),
        policy: Some(entry.policy),
        from: entry.from,
        ..Event::new(EventKind::BreakGlassRefused, entry.at)
    };
    Ok((signed, statement, event))
}
