//! Alerts: everybody hears of broken glass, again and again until somebody says that they have heard. The journal is
//! what they are told from, so that they go out while the database is away; what came of each attempt is kept until
//! the log can take it. Nobody waits for any of it.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::journal::{Entry, Outcome};
use crate::domain::names::{ChannelName, MailAddress, PersonName, RequestId, hex};
use crate::domain::notice::{News, Notice, Reader};
use crate::domain::policy::{Duty, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{BreakGlass, Dependency, Seconding};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::Signed;
use crate::notify::{Channel, Outbox};
use crate::store::{StoreError, Tx, emergencies, events};

use super::notices::addresses;

/// Somebody is told again after so many seconds, and those behind them as well. Each further wait is twice as long.
const AGAIN_AFTER: i64 = 5 * 60;
/// The longest of these waits.
const LONGEST_WAIT: i64 = 3600;
/// After so many seconds nobody is told again; the review stays open.
const TOLD_FOR: i64 = 7 * 24 * 3600;
/// An attempt that failed is repeated so often, after 1, 2, 4 and so many more seconds.
const ATTEMPTS: u32 = 6;
/// So many attempts are kept for the log; of more the oldest are forgotten.
const KEPT: usize = 10_000;
/// So many alarms of keys that may not go out in an hour: whoever hears of five knows.
const ALARMS_AN_HOUR: u32 = 5;
/// A drill without mail has its alerts wait for so many seconds.
const MAIL_DOWN_FOR: i64 = 60;
/// The loop looks at the clock so often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Some people and where to write to them.
type People = Vec<(Reader, MailAddress)>;

/// What people are to be told.
pub(super) struct Alerts {
    outbox: Arc<Outbox>,
    clock: Clock,
    open: Mutex<BTreeMap<RequestId, Alert>>,
    /// What is told once.
    once: Mutex<Vec<(Notice, People)>>,
    /// What came of the attempts, as far as the log does not have it.
    attempts: Mutex<Vec<Attempt>>,
    /// The hour, and how many alarms it had.
    alarms: Mutex<(i64, u32)>,
    wake: Notify,
    attempted: Notify,
}

/// One broken glass of which nobody has said that they heard.
struct Alert {
    notice: Notice,
    people: People,
    behind: People,
    rounds: u32,
    next: Timestamp,
    /// The log is told later: a drill without the database.
    unlogged: bool,
}

/// One message, to one channel or person.
struct Message {
    id: String,
    channel: Arc<Channel>,
    to: Option<MailAddress>,
    notice: Notice,
    unlogged: bool,
}

/// What came of sending a message.
struct Attempt {
    at: Moment,
    channel: ChannelName,
    person: PersonName,
    notice: Notice,
    told: bool,
}

impl Alerts {
    pub(super) fn new(outbox: Arc<Outbox>, clock: Clock) -> Self {
        Self {
            outbox,
            clock,
            open: Mutex::default(),
            once: Mutex::default(),
            attempts: Mutex::default(),
            alarms: Mutex::default(),
            wake: Notify::new(),
            attempted: Notify::new(),
        }
    }

    /// The glass was broken: the rooms hear of it, whoever can approve the role or closes reviews, and after a while
    /// administrators, auditors and those who can end it.
    pub(super) fn raise(&self, policy: &Policy, entry: &Entry) {
        let now = self.clock.now().second();
        if self.outbox.is_empty() || now.since(entry.at.second()) > TOLD_FOR {
            return;
        }
        match alert(policy, entry) {
            Ok(Some(alert)) => {
                lock(&self.open).insert(alert.notice.request.clone(), alert);
                self.wake.notify_one();
            }
            Ok(None) => {}
            Err(refusal) => tracing::error!(error = %refusal, seq = entry.seq, "nobody is alerted of this entry"),
        }
    }

    /// Somebody tried to break the glass with a key that may not.
    pub(super) fn alarm(&self, policy: &Policy, signed: &Signed) {
        let now = self.clock.now().second();
        let Ok(said) = signed.claims::<BreakGlass>() else { return };
        if self.outbox.is_empty() || !self.may_alarm(now) {
            return;
        }
        let key = signed.signature().key().fingerprint();
        let news = News::BreakGlassTried { key };
        let notice = Notice { news, ..Notice::of_emergency(&said, None, now) };
        lock(&self.once).push((notice, with_duties(policy, None)));
        self.wake.notify_one();
    }

    fn may_alarm(&self, now: Timestamp) -> bool {
        let mut alarms = lock(&self.alarms);
        let hour = now.unix() / 3600;
        if alarms.0 != hour {
            *alarms = (hour, 0);
        }
        alarms.1 += 1;
        alarms.1 <= ALARMS_AN_HOUR
    }

    /// Somebody has heard: nobody is told again.
    pub(super) fn heard(&self, id: &RequestId) {
        lock(&self.open).remove(id);
    }

    /// Waits until there is something new for the log.
    pub(super) async fn attempted(&self) {
        self.attempted.notified().await;
    }

    /// Time went on.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Sends what is due, for ever. Whoever ends this ends it whole.
    pub(super) async fn run(self: Arc<Self>) {
        let mut sending = JoinSet::new();
        loop {
            for message in self.due(self.clock.now().second()) {
                sending.spawn(Arc::clone(&self).send(message));
            }
            while sending.try_join_next().is_some() {}
            // It is short, so that a clock that was set is noticed.
            let _ = tokio::time::timeout(LOOK_EVERY, self.wake.notified()).await;
        }
    }

    /// The messages of all rounds that begin now.
    fn due(&self, now: Timestamp) -> Vec<Message> {
        let mut messages = Vec::new();
        for (notice, people) in mem::take(&mut *lock(&self.once)) {
            messages.extend(self.messages(&notice, &people, false));
        }
        let mut open = lock(&self.open);
        open.retain(|_, alert| now.since(alert.notice.at) <= TOLD_FOR);
        for alert in open.values_mut().filter(|alert| alert.next <= now) {
            if let News::BreakGlass { again, .. } = &mut alert.notice.news {
                *again = alert.rounds;
            }
            let mut people = alert.people.clone();
            if alert.rounds > 0 {
                people.extend(alert.behind.iter().cloned());
            }
            messages.extend(self.messages(&alert.notice, &people, alert.unlogged));
            alert.next = now.plus(AGAIN_AFTER.saturating_mul(1 << alert.rounds.min(16)).min(LONGEST_WAIT));
            alert.rounds += 1;
        }
        messages
    }

    /// One for each room, and one for each of the people.
    fn messages(&self, notice: &Notice, people: &[(Reader, MailAddress)], unlogged: bool) -> Vec<Message> {
        let message = |channel: &Arc<Channel>, reader, to: Option<&MailAddress>| {
            let notice = notice.to(reader);
            let json = serde_json::to_string(&notice).unwrap_or_default();
            let to_whom = to.map_or("", MailAddress::as_str);
            let digest = Digest::of_parts(&[channel.name.as_str().as_bytes(), to_whom.as_bytes(), json.as_bytes()]);
            let id = format!("msg_{}", hex(&digest.as_bytes()[..16]));
            Message { id, channel: Arc::clone(channel), to: to.cloned(), notice, unlogged }
        };
        let mut messages = Vec::new();
        for channel in self.outbox.channels() {
            if channel.is_personal() {
                messages.extend(people.iter().map(|(reader, address)| message(channel, *reader, Some(address))));
            } else {
                messages.push(message(channel, Reader::Room, None));
            }
        }
        messages
    }

    /// Sends one message; a server that fails is asked again for a while.
    async fn send(self: Arc<Self>, message: Message) {
        let Message { id, channel, to, notice, unlogged } = message;
        for attempt in 0..ATTEMPTS {
            let now = self.clock.now();
            let outcome = self.outbox.alert(&channel, &id, to.as_ref(), notice.clone().into(), now.second()).await;
            self.keep(Attempt {
                at: self.clock.now(),
                channel: channel.name.clone(),
                person: notice.person.clone(),
                notice: notice.clone(),
                told: outcome.is_ok(),
            });
            if !unlogged {
                self.attempted.notify_one();
            }
            match outcome {
                Ok(()) => return,
                Err(untold) => {
                    tracing::warn!(channel = %channel.name, id, error = untold.error(), "not alerted");
                    if untold.is_final() {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
        }
    }

    fn keep(&self, attempt: Attempt) {
        let mut attempts = lock(&self.attempts);
        if attempts.len() >= KEPT {
            attempts.remove(0);
        }
        attempts.push(attempt);
    }

    /// Hands the attempts that the log does not have to whoever writes them down.
    pub(super) fn take_attempts(&self) -> Attempts {
        Attempts(mem::take(&mut *lock(&self.attempts)))
    }

    /// They were not written down.
    pub(super) fn put_back(&self, mut taken: Attempts) {
        let mut attempts = lock(&self.attempts);
        taken.0.append(&mut attempts);
        *attempts = taken.0;
    }
}

/// Attempts that the log does not have.
pub(super) struct Attempts(Vec<Attempt>);

impl Attempts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each is an event.
    pub(super) fn record(&self, tx: &mut Tx<'_>) -> Result<(), StoreError> {
        for attempt in &self.0 {
            let Notice { request, role, news, .. } = &attempt.notice;
            let (kind, detail) = match (attempt.told, news) {
                (true, _) => (EventKind::Alerted, attempt.channel.to_string()),
                (false, _) => (EventKind::Unalerted, attempt.channel.to_string()),
            };
            let known = matches!(news, News::BreakGlass { .. });
            if attempt.told && known {
                emergencies::alerted(tx, request, attempt.at.second())?;
            }
            let event = Event {
                person: known.then(|| attempt.person.clone()),
                request: known.then(|| request.clone()),
                role: known.then(|| role.clone()),
                detail: Some(detail),
                ..Event::new(kind, attempt.at)
            };
            events::append(tx, event)?;
        }
        Ok(())
    }
}

/// What is told of an entry; of what was refused, nothing.
fn alert(policy: &Policy, entry: &Entry) -> Result<Option<Alert>, Refusal> {
    let Outcome::Issued { .. } = entry.outcome else { return Ok(None) };
    let signed = entry.signed()?;
    let said: BreakGlass = signed.claims()?;
    let terms = policy
        .emergency_key(&said.person, signed.signature().key())
        .and_then(|key| policy.emergency_terms(key, &said, entry.from));
    let mut notice = Notice::of_emergency(&said, terms.ok().as_ref(), entry.at.second());
    if let (News::BreakGlass { second, .. }, Some(other)) = (&mut notice.news, entry.second_signed()?) {
        *second = Some(other.claims::<Seconding>()?.person);
    }
    let (first, behind) = policy.deciders(&said.role, &said.person);
    let approvers: Vec<PersonName> = first.into_iter().chain(behind).collect();
    let reviews = |name: &&PersonName| {
        **name != said.person && policy.has_duty(name, Duty::Reviewers) && !approvers.contains(*name)
    };
    let reviewers = policy.people().keys().filter(reviews);
    let told = if said.is_without(Dependency::ApproversAway) { &[][..] } else { &approvers };
    let people: People =
        addresses(policy, Reader::Approver, told).chain(addresses(policy, Reader::Reviewer, reviewers)).collect();
    let mut behind = with_duties(policy, Some(&said.person));
    behind.retain(|(_, address)| !people.iter().any(|(_, known)| known == address));
    let late = if said.is_without(Dependency::MailDown) { MAIL_DOWN_FOR } else { 0 };
    let (next, unlogged) = (entry.at.second().plus(late), said.is_without(Dependency::DbReadonly));
    Ok(Some(Alert { notice, people, behind, rounds: 0, next, unlogged }))
}

/// Administrators, auditors and revokers, other than whoever broke the glass.
fn with_duties(policy: &Policy, but: Option<&PersonName>) -> People {
    let duties = [Duty::Admins, Duty::Auditors, Duty::Revokers];
    let has = |name: &&PersonName| Some(*name) != but && duties.iter().any(|duty| policy.has_duty(name, *duty));
    addresses(policy, Reader::Reviewer, policy.people().keys().filter(has)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
