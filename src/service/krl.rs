//! The list of revoked certificates and keys that hosts hold against logins: kept in memory, made anew when something
//! ended before its time, signed, and given to whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::domain::digest::Digest;
use crate::domain::krl::{Krl, NAMESPACE, OfCa};
use crate::domain::statement::Serial;
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::domain::verify::Signed;
use crate::store::revocations;

use super::claims::EPOCH;
use super::{Error, Service};

/// A certificate stays on the list for so long after its end, in seconds: for hosts whose clocks are behind.
pub(super) const AFTER_THE_END: i64 = 3600;

/// A list, and the KRL key's signature over its bytes.
#[derive(Debug, Clone)]
pub struct SignedKrl {
    /// Its number.
    pub number: u64,
    /// The bytes and the signature.
    pub signed: Signed,
}

/// What ended before its time.
#[derive(Debug)]
pub(super) struct Cut {
    /// Serials, each until its certificate's end.
    serials: SyncMutex<BTreeMap<Serial, Timestamp>>,
    /// How often the list changed.
    changes: watch::Sender<u64>,
    /// The newest list, and after how many changes it was made. One at a time makes a new one.
    made: Mutex<Option<(u64, Arc<SignedKrl>)>>,
}

impl Default for Cut {
    fn default() -> Self {
        Self { serials: SyncMutex::default(), changes: watch::channel(0).0, made: Mutex::default() }
    }
}

impl Cut {
    /// Hosts must refuse this certificate. Called in the transaction that ends it: a caller that goes away after the
    /// commit must not keep it from the hosts, and no list is made before the writer is done with that transaction.
    pub(super) fn add(&self, certificate: Option<(Serial, Timestamp)>) {
        let Some((serial, ends)) = certificate else { return };
        self.serials.lock().unwrap_or_else(PoisonError::into_inner).insert(serial, ends);
        self.changed();
    }

    /// Something else changed that stands on the list.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// The certificates that may still be used, by their CA. Serials of the database and of journals have epochs of
    /// their own.
    fn by_ca(&self, trust: &Trust, now: Timestamp) -> Vec<OfCa> {
        let mut serials = self.serials.lock().unwrap_or_else(PoisonError::into_inner);
        serials.retain(|_, ends| ends.plus(AFTER_THE_END) > now);
        let (ordinary, emergency): (BTreeSet<Serial>, BTreeSet<Serial>) =
            serials.keys().partition(|serial| serial.epoch() == EPOCH);
        let of = |ca: &crate::domain::key::PublicKey, serials: &BTreeSet<Serial>| OfCa {
            ca: ca.clone(),
            serials: serials.clone(),
            key_ids: BTreeSet::new(),
        };
        let users = trust.user_ca.iter().map(|ca| of(ca, &ordinary));
        users.chain(trust.break_glass_ca.iter().map(|ca| of(ca, &emergency))).collect()
    }
}

impl Service {
    /// The list of now.
    pub async fn krl(&self) -> Result<Arc<SignedKrl>, Error> {
        let mut made = self.cut.made.lock().await;
        let change = *self.cut.changes.borrow();
        if let Some((of, krl)) = made.as_ref()
            && *of == change
        {
            return Ok(Arc::clone(krl));
        }
        let generated = self.clock.now().second();
        let authority = self.authority();
        let certificates = self.cut.by_ca(authority.chain.newest(), generated);
        let keys = self.policy().revoked_keys().clone();
        let number = self.store.write(move |tx| revocations::next_number(tx, generated)).await?;
        let krl = Krl { number, generated, instance: self.instance.clone(), certificates, keys };
        let signed = authority.keys.krl.sign(NAMESPACE, krl.to_bytes())?;
        let krl = Arc::new(SignedKrl { number, signed });
        *made = Some((change, Arc::clone(&krl)));
        Ok(krl)
    }

    /// A list other than the one with this digest, once there is one; `None` when `longest` is over before.
    pub async fn krl_unless(&self, known: Option<Digest>, longest: Duration) -> Result<Option<Arc<SignedKrl>>, Error> {
        let mut changes = self.cut.changes.subscribe();
        let end = tokio::time::Instant::now() + longest;
        loop {
            let krl = self.krl().await?;
            if known != Some(krl.signed.digest()) {
                return Ok(Some(krl));
            }
            if tokio::time::timeout_at(end, changes.changed()).await.is_err() {
                return Ok(None);
            }
        }
    }
}
