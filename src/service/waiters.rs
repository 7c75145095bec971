//! Who waits for what: a decision reaches its client because the verb that committed it wakes them,
//! not because a timer ran.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::names::RequestId;

/// The requests that somebody waits on.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    requests: Mutex<HashMap<RequestId, watch::Sender<()>>>,
}

impl Waiters {
    /// Begins to listen. Look at the request after this, not before, or a wake-up may be missed.
    pub(super) fn listen(&self, id: &RequestId) -> watch::Receiver<()> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.retain(|_, sender| sender.receiver_count() > 0);
        requests.entry(id.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Something about the request was committed.
    pub(super) fn wake(&self, id: &RequestId) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = requests.get(id) {
            sender.send_replace(());
        }
    }
}
