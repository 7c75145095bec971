//! Who waits for what: a decision reaches its client because the verb that committed it wakes them,
//! not because a timer ran.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::names::RequestId;

/// The requests that somebody waits on.
#[derive(Debug)]
pub(super) struct Waiters {
    requests: Mutex<HashMap<RequestId, watch::Sender<()>>>,
    anything: watch::Sender<u64>,
}

impl Default for Waiters {
    fn default() -> Self {
        Self { requests: Mutex::default(), anything: watch::channel(0).0 }
    }
}

impl Waiters {
    /// Begins to listen. Look at the request after this, not before, or a wake-up may be missed.
    pub(super) fn listen(&self, id: &RequestId) -> watch::Receiver<()> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|_, sender| sender.receiver_count() > 0);
        requests.entry(id.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Begins to listen for a change of any request.
    pub(super) fn listen_to_all(&self) -> watch::Receiver<u64> {
        self.anything.subscribe()
    }

    /// Something was committed that pages show.
    pub(super) fn wake_all(&self) {
        self.anything.send_modify(|count| *count += 1);
    }

    /// Something about the request was committed.
    pub(super) fn wake(&self, id: &RequestId) {
        self.wake_all();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = requests.get(id) {
            sender.send_replace(());
        }
    }
}
