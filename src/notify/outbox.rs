//! The channels and their workers. Each channel has one of its own, which delivers one entry after the other, waits
//! for the next where there is none, and for a while where the last attempt failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::domain::event::{Event, EventKind};
use crate::domain::names::{ChannelName, MailAddress};
use crate::domain::notice::{Item, News, Reader};
use crate::domain::time::{Moment, Timestamp};
use crate::store::outbox::{self, Entry};
use crate::store::{Store, StoreError, Tx, events};

use super::{Mail, Slack, Untold, Webhook};

/// The first wait after a failure, in seconds; each further one is twice as long.
const FIRST_WAIT: i64 = 5;
/// The longest wait, in seconds.
const LONGEST_WAIT: i64 = 15 * 60;
/// No entry waits longer than this by itself for a channel that did not work.
const LONGEST_STEP_BACK: i64 = 60;
/// After so many seconds an entry is given up.
const GIVEN_UP_AFTER: i64 = 24 * 3600;
/// Entries are kept so long, in seconds, whatever became of them.
const KEPT_FOR: i64 = 30 * 24 * 3600;
/// How long a worker waits when the store fails.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// What a channel speaks.
pub enum Via {
    /// To a program.
    Webhook(Webhook),
    /// To a room.
    Slack(Slack),
    /// To people.
    Mail(Mail),
}

/// One way to tell people.
pub struct Channel {
    /// What the operator calls it.
    pub name: ChannelName,
    via: Arc<Via>,
    within: Duration,
    wake: Notify,
}

impl Channel {
    /// A channel whose server may take so long for one message.
    pub fn new(name: ChannelName, via: Via, within: Duration) -> Self {
        Self { name, via: Arc::new(via), within, wake: Notify::new() }
    }

    /// A word for people.
    pub fn kind(&self) -> &'static str {
        match *self.via {
            Via::Webhook(_) => "webhook",
            Via::Slack(_) => "slack",
            Via::Mail(_) => "smtp",
        }
    }
}

/// All channels, and the address of the service, which messages link to.
pub struct Outbox {
    channels: Vec<Arc<Channel>>,
    origin: Arc<str>,
}

impl Outbox {
    /// Links lead to `origin`.
    pub fn new(channels: Vec<Channel>, origin: &str) -> Self {
        Self { channels: channels.into_iter().map(Arc::new).collect(), origin: origin.into() }
    }

    /// Whether there is nobody to tell: then nothing is written, and nothing costs anything.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The channels.
    pub fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    /// Writes an entry into this transaction for each room, and one for each of the people.
    pub fn insert(
        &self,
        tx: &mut Tx<'_>,
        notice: &(impl Clone + Into<Item>),
        people: &[(Reader, MailAddress)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let item: Item = notice.clone().into();
        for channel in &self.channels {
            if !matches!(*channel.via, Via::Mail(_)) {
                outbox::insert(tx, &channel.name, None, &item.to(Reader::Room), now)?;
                continue;
            }
            for (reader, address) in people {
                outbox::insert(tx, &channel.name, Some(address), &item.to(*reader), now)?;
            }
        }
        Ok(())
    }

    /// Entries were committed, or time went on.
    pub fn wake(&self) {
        for channel in &self.channels {
            channel.wake.notify_one();
        }
    }

    /// Delivers what a channel has to deliver, for ever.
    pub async fn deliver(&self, channel: &Channel, store: &Store, now: impl Fn() -> Moment) {
        loop {
            let pause = match self.step(channel, store, &now).await {
                Ok(None) => continue,
                Ok(Some(pause)) => pause,
                Err(error) => {
                    tracing::error!(%error, channel = %channel.name, "the outbox cannot be read or written");
                    Some(STORE_WAIT)
                }
            };
            let over = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = channel.wake.notified() => {}
                () = over => {}
            }
        }
    }

    /// One attempt where one is due. Otherwise: how long to wait for the next, if there is one.
    async fn step(
        &self,
        channel: &Channel,
        store: &Store,
        now: &impl Fn() -> Moment,
    ) -> Result<Option<Option<Duration>>, StoreError> {
        let name = channel.name.clone();
        let next = store.read(move |tx| outbox::next(tx, &name)).await?;
        let Some((entry, due)) = next else { return Ok(Some(None)) };
        let wait = due.since(now().second());
        if wait > 0 {
            return Ok(Some(Some(Duration::from_secs(wait.unsigned_abs()))));
        }
        let outcome = self.attempt(channel, &entry, now().second()).await;
        let (name, at) = (channel.name.clone(), now());
        match &outcome {
            Ok(()) => tracing::info!(channel = %name, id = entry.id, "told"),
            Err(untold) => tracing::warn!(channel = %name, id = entry.id, error = untold.error, "not told"),
        }
        store.write(move |tx| settle(tx, &name, &entry, outcome, at)).await?;
        Ok(None)
    }

    async fn attempt(&self, channel: &Channel, entry: &Entry, now: Timestamp) -> Result<(), Untold> {
        let Some(notice) = entry.notice.clone() else { return Err(Untold::refused("the entry makes no sense")) };
        let (via, id, origin) = (Arc::clone(&channel.via), entry.id.clone(), Arc::clone(&self.origin));
        let late = || Untold::broken("it did not answer in time");
        if let Via::Mail(mail) = &*via {
            let Ok(Some(to)) = &entry.recipient else { return Err(Untold::refused("the entry makes no sense")) };
            let sent = tokio::time::timeout(channel.within, mail.send(&id, to, &notice, &origin, now)).await;
            return sent.unwrap_or_else(|_| Err(late()));
        }
        let (tell, told) = oneshot::channel();
        // A thread, not a blocking task: the end of the process does not wait for a server that hangs.
        let sending = std::thread::Builder::new().name("notify".to_owned()).spawn(move || {
            // Nobody listens any more when it took too long.
            let _ = tell.send(match &*via {
                Via::Webhook(webhook) => webhook.send(&id, &notice, &origin, now),
                Via::Slack(slack) => slack.send(&notice, &origin, now),
                Via::Mail(_) => Err(Untold::refused("mail goes elsewhere")),
            });
        });
        sending.map_err(|e| Untold::broken(&format!("no thread: {e}")))?;
        // The agent has the same limit; this one holds whatever it does.
        let told = tokio::time::timeout(channel.within + Duration::from_secs(1), told).await;
        told.map_err(|_| late())?.unwrap_or_else(|_| Err(late()))
    }
}

/// Records what came of an attempt.
fn settle(
    tx: &mut Tx<'_>,
    channel: &ChannelName,
    entry: &Entry,
    outcome: Result<(), Untold>,
    now: Moment,
) -> Result<(), StoreError> {
    let at = now.second();
    let Err(untold) = outcome else {
        outbox::delivered(tx, channel, entry, at)?;
        return alerted(tx, channel, entry, now);
    };
    let failures = outbox::failures(tx, channel)?;
    // What the server does not take waits by itself. What it cannot take makes the channel wait, and goes behind
    // the others: it may be what breaks the server.
    let (due, rests) = match wait(entry.attempts) {
        alone if untold.refused => (alone, 0),
        alone => (alone.min(LONGEST_STEP_BACK), wait(failures)),
    };
    outbox::postponed(tx, channel, entry, &untold.error, (at.plus(due), at.plus(rests)), at)?;
    if entry.notice.is_some() && at.since(entry.created) < GIVEN_UP_AFTER {
        return Ok(());
    }
    outbox::give_up(tx, entry, at)?;
    outbox::forget(tx, at.plus(-KEPT_FOR))?;
    let about = entry.notice.as_ref().and_then(Item::news);
    let event = Event {
        person: about.map(|notice| notice.person.clone()),
        request: about.map(|notice| notice.request.clone()),
        role: about.map(|notice| notice.role.clone()),
        detail: Some(channel.to_string()),
        ..Event::new(EventKind::Undelivered, now)
    };
    events::append(tx, event).map(|_| ())
}

/// Who was told of broken glass, and when, is on record.
fn alerted(tx: &mut Tx<'_>, channel: &ChannelName, entry: &Entry, now: Moment) -> Result<(), StoreError> {
    let about = entry.notice.as_ref().and_then(Item::news);
    let Some(notice) = about.filter(|notice| matches!(notice.news, News::BreakGlass { .. })) else {
        return Ok(());
    };
    let event = Event {
        person: Some(notice.person.clone()),
        request: Some(notice.request.clone()),
        role: Some(notice.role.clone()),
        detail: Some(channel.to_string()),
        ..Event::new(EventKind::Alerted, now)
    };
    events::append(tx, event).map(|_| ())
}

/// How long to wait after so many failures before this one, in seconds.
fn wait(failures: u32) -> i64 {
    FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let waits: Vec<i64> = (0..10).map(wait).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(wait(u32::MAX), 900);
    }
}
