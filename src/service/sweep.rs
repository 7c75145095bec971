//! What time alone ends: requests that nobody decided or claimed, certificates that ran out. Nothing
//! waits for this; it writes down what is so already.

use std::sync::Arc;

use crate::domain::event::{Event, EventKind};
use crate::domain::request::State;
use crate::domain::statement::Request;
use crate::domain::time::Moment;
use crate::store::requests::{self, Stored};
use crate::store::{Tx, events};

use super::{Error, Service, notices};

/// So many requests are ended in one transaction.
const BATCH: u32 = 200;

impl Service {
    /// Records what has lapsed and expired, imports what the journal has, and has those told again who have not
    /// decided. Gives of how many requests it wrote something down.
    pub async fn sweep(self: &Arc<Self>) -> Result<usize, Error> {
        self.glass.alerts().wake();
        self.import_journal().await?;
        let (now, policy, outbox) = (self.clock.now(), self.policy(), Arc::clone(&self.outbox));
        let ended = Arc::new(self.store.read(move |tx| requests::ended(tx, now.second(), BATCH)).await?);
        if !ended.is_empty() {
            let ended = Arc::clone(&ended);
            let write = self.store.write(move |tx| {
                for request in ended.iter() {
                    if end(tx, request, now)? {
                        notices::tell_of_lapse(&outbox, tx, &policy, request, now.second())?;
                    }
                }
                Ok::<_, Error>(())
            });
            write.await?;
        }
        for request in ended.iter() {
            if let Ok(asked) = request.signed.claims::<Request>() {
                self.tell(&asked.id, &asked.person, &asked.role);
            }
        }
        let service = Arc::clone(self);
        // A fact that was stated anew for a shorter time ends sooner than what hung on it.
        let over = self.store.write(move |tx| service.end_what_hung_on(tx, None, now)).await?;
        for (id, person, role) in &over {
            self.tell(id, person, role);
        }
        let reminded = self.remind(now).await?;
        self.press(now).await?;
        self.outbox.wake();
        Ok(ended.len() + reminded)
    }
}

/// Ends a request. Gives whether it lapsed.
fn end(tx: &mut Tx<'_>, stored: &Stored, now: Moment) -> Result<bool, Error> {
    let next = stored.state.clone().at(now.second());
    if !requests::change(tx, &stored.id, &stored.state, &next)? {
        return Ok(false);
    }
    let asked: Request = stored.signed.claims()?;
    let kind = if matches!(next, State::Lapsed { .. }) { EventKind::Lapsed } else { EventKind::Expired };
    let event = Event {
        person: Some(asked.person),
        request: Some(asked.id),
        role: Some(asked.role),
        serial: next.serial(),
        ..Event::new(kind, now)
    };
    events::append(tx, event)?;
    Ok(kind == EventKind::Lapsed)
}
