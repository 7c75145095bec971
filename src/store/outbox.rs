//! The outbox: what people are to be told, how each channel does, and who is to be told again later.

use crate::domain::digest::Digest;
use crate::domain::names::{ChannelName, MailAddress, RequestId, hex};
use crate::domain::notice::Item;
use crate::domain::time::Timestamp;

use super::{Row, StoreError, Tx, Value};

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the row.
    pub seq: i64,
    /// The same over all attempts.
    pub id: String,
    /// To whom, where the channel is mail. `Err` is what the row holds that makes no sense.
    pub recipient: Result<Option<MailAddress>, String>,
    /// What. `None` when the row holds something else.
    pub notice: Option<Item>,
    /// Since when it waits.
    pub created: Timestamp,
    /// The next attempt is not before this.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// How a channel does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When somebody was last told.
    pub succeeded: Option<Timestamp>,
    /// Failures in a row: how many, since when, and why the last.
    pub failing: Option<Failing>,
    /// How many entries wait.
    pub waiting: u64,
    /// How many were given up.
    pub given_up: u64,
}

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// How many.
    pub failures: u32,
    /// When the first was.
    pub since: Timestamp,
    /// Why the last was, in short.
    pub error: String,
}

/// What happens to a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Those who can decide are told again.
    Remind,
    /// Those who stand behind them are told.
    Escalate,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Remind => "remind",
            Self::Escalate => "escalate",
        }
    }
}

/// Adds an entry, due at once.
pub fn insert(
    tx: &mut Tx<'_>,
    channel: &ChannelName,
    recipient: Option<&MailAddress>,
    notice: &Item,
    now: Timestamp,
) -> Result<(), StoreError> {
    let recipient = recipient.map_or("", MailAddress::as_str);
    // Strings and numbers always serialize.
    let json = serde_json::to_string(notice).unwrap_or_default();
    // Made of what it says, and to whom: another id would be another message.
    let digest = Digest::of_parts(&[channel.as_str().as_bytes(), recipient.as_bytes(), json.as_bytes()]);
    let id = format!("msg_{}", hex(&digest.as_bytes()[..16]));
    let sql = "INSERT INTO outbox (seq, id, channel, recipient, notice, created, due, attempts) \
               VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM outbox), ?1, ?2, ?3, ?4, ?5, ?5, 0) \
               ON CONFLICT (id) DO NOTHING";
    let values: [Value<'_>; 5] =
        [id.as_str().into(), channel.as_str().into(), recipient.into(), json.as_str().into(), now.unix().into()];
    tx.execute(sql, &values).map(|_| ())
}

/// The entry of a channel that is due next, and when it and the channel both are.
pub fn next(tx: &mut Tx<'_>, channel: &ChannelName) -> Result<Option<(Entry, Timestamp)>, StoreError> {
    let sql = "SELECT seq, id, recipient, notice, created, due, attempts FROM outbox \
               WHERE channel = ?1 AND failed IS NULL ORDER BY due, seq LIMIT 1";
    let Some(entry) = tx.first(sql, &[channel.as_str().into()], entry)? else { return Ok(None) };
    let sql = "SELECT rests_until FROM channels WHERE name = ?1";
    let rests = tx.first(sql, &[channel.as_str().into()], |row| row.int(0))?.unwrap_or(0);
    let due = entry.due.max(Timestamp::from_unix(rests));
    Ok(Some((entry, due)))
}

/// Somebody was told: the entry goes away, and the channel does well.
pub fn delivered(tx: &mut Tx<'_>, channel: &ChannelName, entry: &Entry, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM outbox WHERE id = ?1", &[entry.id.as_str().into()])?;
    let sql = "INSERT INTO channels (name, succeeded, failures, rests_until) VALUES (?1, ?2, 0, 0) \
               ON CONFLICT (name) DO UPDATE SET succeeded = ?2, failures = 0, since = NULL, error = NULL, \
               rests_until = 0";
    tx.execute(sql, &[channel.as_str().into(), now.unix().into()]).map(|_| ())
}

/// An attempt failed: the entry is tried again at `due`, the channel not before `rests_until`.
pub fn postponed(
    tx: &mut Tx<'_>,
    channel: &ChannelName,
    entry: &Entry,
    error: &str,
    (due, rests_until): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE outbox SET attempts = attempts + 1, due = ?2 WHERE id = ?1";
    tx.execute(sql, &[entry.id.as_str().into(), due.unix().into()])?;
    let sql = "INSERT INTO channels (name, failures, since, error, rests_until) VALUES (?1, 1, ?2, ?3, ?4) \
               ON CONFLICT (name) DO UPDATE SET failures = channels.failures + 1, \
               since = coalesce(channels.since, ?2), error = ?3, rests_until = ?4";
    let values = [channel.as_str().into(), now.unix().into(), error.into(), rests_until.unix().into()];
    tx.execute(sql, &values).map(|_| ())
}

/// An entry is not tried again. It stays for a while, to be counted.
pub fn give_up(tx: &mut Tx<'_>, entry: &Entry, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE outbox SET failed = ?2 WHERE id = ?1", &[entry.id.as_str().into(), now.unix().into()])?;
    Ok(())
}

/// Forgets what was written before: given up long ago, or for channels that are no more.
pub fn forget(tx: &mut Tx<'_>, before: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM outbox WHERE created < ?1", &[before.unix().into()]).map(|_| ())
}

/// How many failures in a row a channel has had.
pub fn failures(tx: &mut Tx<'_>, channel: &ChannelName) -> Result<u32, StoreError> {
    Ok(health(tx, channel)?.failing.map_or(0, |failing| failing.failures))
}

/// How a channel does.
pub fn health(tx: &mut Tx<'_>, channel: &ChannelName) -> Result<Health, StoreError> {
    let name = channel.as_str();
    let sql = "SELECT succeeded, failures, since, error FROM channels WHERE name = ?1";
    let known = tx.first(sql, &[name.into()], |row| {
        let failing = match (row.opt_int(2)?, row.opt_text(3)?) {
            (Some(since), Some(error)) => Some(Failing {
                failures: u32::try_from(row.int(1)?).unwrap_or(u32::MAX),
                since: Timestamp::from_unix(since),
                error,
            }),
            _ => None,
        };
        Ok::<_, StoreError>((row.opt_int(0)?.map(Timestamp::from_unix), failing))
    })?;
    let (succeeded, failing) = known.unwrap_or_default();
    let mut count = |condition: &str| {
        let sql = format!("SELECT count(*) FROM outbox WHERE channel = ?1 AND failed IS {condition}");
        Ok::<_, StoreError>(tx.first(&sql, &[name.into()], |row| row.int(0))?.unwrap_or(0).unsigned_abs())
    };
    Ok(Health { succeeded, failing, waiting: count("NULL")?, given_up: count("NOT NULL")? })
}

/// Notes when somebody is to be told again of a request.
pub fn remind(tx: &mut Tx<'_>, id: &RequestId, step: Step, due: Timestamp) -> Result<(), StoreError> {
    let sql = "INSERT INTO reminders (request, step, due) VALUES (?1, ?2, ?3)";
    tx.execute(sql, &[id.as_str().into(), step.as_str().into(), due.unix().into()]).map(|_| ())
}

/// The reminders that are due, the oldest first, at most `limit`. Whoever acts on one takes it.
pub fn due(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Vec<(RequestId, Step)>, StoreError> {
    let sql = "SELECT request, step FROM reminders WHERE due <= ?1 ORDER BY due, request LIMIT ?2";
    tx.query(sql, &[now.unix().into(), i64::from(limit).into()], |row| {
        let id = row.text(0)?;
        Ok((id.parse().map_err(|_| StoreError::nonsense("reminders", &id, "request"))?, step(row, 1)?))
    })
}

/// What will be done if nobody decides on a request, and when, in that order.
pub fn steps(tx: &mut Tx<'_>, id: &RequestId) -> Result<Vec<(Step, Timestamp)>, StoreError> {
    let sql = "SELECT step, due FROM reminders WHERE request = ?1 ORDER BY due";
    tx.query(sql, &[id.as_str().into()], |row| Ok((step(row, 0)?, Timestamp::from_unix(row.int(1)?))))
}

/// Takes a reminder. Gives whether it was there.
pub fn take(tx: &mut Tx<'_>, id: &RequestId, step: Step) -> Result<bool, StoreError> {
    let sql = "DELETE FROM reminders WHERE request = ?1 AND step = ?2";
    Ok(tx.execute(sql, &[id.as_str().into(), step.as_str().into()])? == 1)
}

/// Whether those who stand behind were not told yet.
pub fn is_to_escalate(tx: &mut Tx<'_>, id: &RequestId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM reminders WHERE request = ?1 AND step = 'escalate'";
    Ok(tx.first(sql, &[id.as_str().into()], |_| Ok::<_, StoreError>(()))?.is_some())
}

fn step(row: &Row<'_>, column: usize) -> Result<Step, StoreError> {
    Ok(if row.text(column)? == Step::Remind.as_str() { Step::Remind } else { Step::Escalate })
}

/// A row that makes no sense is read as far as it does: it must not stand in the way of the others.
fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let recipient = row.text(2)?;
    Ok(Entry {
        seq: row.int(0)?,
        id: row.text(1)?,
        recipient: match recipient.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|e: crate::domain::names::Invalid| e.to_string()),
        },
        notice: serde_json::from_str(&row.text(3)?).ok(),
        created: Timestamp::from_unix(row.int(4)?),
        due: Timestamp::from_unix(row.int(5)?),
        attempts: u32::try_from(row.int(6)?).unwrap_or(u32::MAX),
    })
}
