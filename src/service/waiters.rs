//! Who waits for what: a decision reaches its client, and a page what it shows, because the verb that
//! committed it wakes them, not because a timer ran.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::names::{PersonName, RequestId};

/// So many topics are remembered by name.
const MOST_TOPICS: usize = 10_000;

/// What a page follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// One request.
    Request(RequestId),
    /// What one person asked for or may decide on, and every broken glass.
    Person(PersonName),
    /// Whatever happens.
    Everything,
}

/// The requests that somebody waits on, and the stream of changes that pages follow.
#[derive(Debug)]
pub(super) struct Waiters {
    requests: Mutex<HashMap<RequestId, watch::Sender<()>>>,
    changes: Mutex<Changes>,
    newest: watch::Sender<u64>,
}

/// When each topic changed last, counted in changes. What is not there did not change after `before`.
#[derive(Debug, Default)]
struct Changes {
    last: HashMap<Topic, u64>,
    before: u64,
}

impl Default for Waiters {
    fn default() -> Self {
        Self { requests: Mutex::default(), changes: Mutex::default(), newest: watch::channel(0).0 }
    }
}

impl Waiters {
    /// Begins to listen. Look at the request after this, not before, or a wake-up may be missed.
    pub(super) fn listen(&self, id: &RequestId) -> watch::Receiver<()> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|_, sender| sender.receiver_count() > 0);
        requests.entry(id.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// The number of the newest change, and a way to hear of the next.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Whether the topic changed after change number `seen`, of `newest` in all.
    pub(super) fn changed(&self, topic: &Topic, seen: u64, newest: u64) -> bool {
        // A number from before a restart says nothing.
        if *topic == Topic::Everything || seen > newest {
            return newest != seen;
        }
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.last.get(topic).copied().unwrap_or(changes.before) > seen
    }

    /// Something was committed that everybody's pages may show.
    pub(super) fn wake_all(&self) {
        self.newest.send_modify(|number| {
            *number += 1;
            *self.changes.lock().unwrap_or_else(PoisonError::into_inner) =
                Changes { before: *number, ..Changes::default() };
        });
    }

    /// Something about the request was committed; `audience` are those whose lists it may stand in.
    pub(super) fn wake(&self, id: &RequestId, audience: impl IntoIterator<Item = PersonName>) {
        self.newest.send_modify(|number| {
            *number += 1;
            let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            if changes.last.len() >= MOST_TOPICS {
                *changes = Changes { before: *number, ..Changes::default() };
            }
            let topics = audience.into_iter().map(Topic::Person).chain([Topic::Request(id.clone())]);
            changes.last.extend(topics.map(|topic| (topic, *number)));
        });
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = requests.get(id) {
            sender.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str) -> PersonName {
        name.parse().unwrap()
    }

    #[test]
    fn a_page_hears_of_its_own_topic_only() {
        let waiters = Waiters::default();
        let changed = |topic: &Topic, seen: u64| waiters.changed(topic, seen, *waiters.changes().borrow());
        let (id, other): (RequestId, RequestId) = ("7F3K-9QPX-M2".parse().unwrap(), "7F3K-9QPX-M3".parse().unwrap());
        let carol = Topic::Person(person("carol"));
        waiters.wake(&id, [person("alice"), person("carol")]);
        assert!(changed(&carol, 0) && changed(&Topic::Request(id.clone()), 0));
        assert!(changed(&Topic::Everything, 0));
        assert!(!changed(&Topic::Person(person("dan")), 0) && !changed(&Topic::Request(other), 0));
        assert!(!changed(&carol, 1), "seen already");
        waiters.wake(&id, [person("dan")]);
        assert!(!changed(&carol, 1) && changed(&Topic::Everything, 1));
        waiters.wake_all();
        assert!(changed(&carol, 2) && !changed(&carol, 3));
        assert!(changed(&carol, 99), "the number of another process");
    }

    #[test]
    fn what_was_forgotten_counts_as_changed() {
        let waiters = Waiters::default();
        let id: RequestId = "7F3K-9QPX-M2".parse().unwrap();
        let erin = Topic::Person(person("erin"));
        waiters.wake(&id, [person("erin")]);
        for number in 0..MOST_TOPICS {
            waiters.wake(&id, [person(&format!("p{number}"))]);
        }
        assert!(waiters.changed(&erin, 0, *waiters.changes().borrow()), "a change that was forgotten is not missed");
        assert!(waiters.changes.lock().unwrap().last.len() <= MOST_TOPICS + 1);
    }
}
