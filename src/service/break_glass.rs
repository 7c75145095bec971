//! What follows on broken glass: the database catches up with the journal, and with who was told.

use std::sync::Arc;

use crate::domain::event::{Event, EventKind};
use crate::domain::journal::{Entry, Outcome};
use crate::domain::statement::{BreakGlass, Kind};
use crate::domain::time::Moment;
use crate::store::{StoreError, Tx, emergencies, events, statements};

use super::{Attempt, Error, Issued, Service};

/// The epoch of the first journal's serials; the database has the one before.
const FIRST_EPOCH: u64 = 2;
impl Service {
    /// Signs a short certificate for a registered emergency key, once its reason is durable, and has the database
    /// catch up. Nobody waits for that.
    pub async fn break_glass(self: &Arc<Self>, attempt: Attempt) -> Result<Issued, Error> {
        let outcome = self.glass.break_glass(attempt).await;
        let service = Arc::clone(self);
        tokio::spawn(async move { service.catch_up().await });
        outcome
    }

    /// Brings the database up to what was tried, for ever.
    pub async fn follow_glass(self: Arc<Self>) {
        loop {
            self.glass.changed().await;
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
        self.store
            .write(move |tx| {
                // Another import may have come first.
                let imported = emergencies::imported(tx, epoch)?;
                for entry in entries.iter().filter(|entry| entry.seq > imported) {
                    import(tx, entry)?;
                    emergencies::set_imported(tx, epoch, entry.seq)?;
                }
                Ok::<_, Error>(())
            })
            .await?;
        self.waiters.wake_all();
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
    if let Outcome::Keys(_) = entry.outcome {
        // The policy that names them is in the log already.
        return Ok(());
    }
    let nonsense = || StoreError::nonsense("journal", &entry.seq, "statement");
    let signed = entry.signed().map_err(|_| nonsense())?;
    let statement: BreakGlass = signed.claims().map_err(|_| nonsense())?;
    let event = Event {
        person: Some(statement.person.clone()),
        request: Some(statement.id.clone()),
        role: Some(statement.role.clone()),
        statement: Some(signed.digest()),
        policy: Some(entry.policy),
        from: entry.from,
        ..Event::new(EventKind::BreakGlass, entry.at)
    };
    let event = match &entry.outcome {
        Outcome::Issued { serial, tbs } => {
            statements::keep(tx, Kind::BreakGlass, &signed)?;
            if let Some(second) = entry.second_signed().map_err(|_| nonsense())? {
                statements::keep(tx, Kind::Seconding, &second)?;
            }
            emergencies::insert(tx, &statement.id, *serial, &signed, entry.at.second())?;
            Event { serial: Some(*serial), tbs: Some(*tbs), ..event }
        }
        Outcome::Keys(_) => return Ok(()),
        Outcome::Refused { code } => Event { kind: EventKind::BreakGlassRefused, detail: Some(code.clone()), ..event },
    };
    events::append(tx, event)?;
    Ok(())
}
