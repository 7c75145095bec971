//! What certificates were used for. A certificate that a CA key of ours signed and the log does not know was made
//! behind the service's back: it shows itself here, at its first use.

use std::sync::Arc;

use ssh_key::Certificate;

use crate::domain::alarm::Alarm;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::RequestId;
use crate::domain::policy::Duty;
use crate::domain::refusal::Refusal;
use crate::domain::statement::Serial;
use crate::domain::usage::{Ours, Seen, Use};
use crate::domain::verify::Signed;
use crate::store::{StoreError, Tx, certificates, emergencies, events, uses};

use super::claims::on_record;
use super::notices::tell_of_alarm;
use super::{Caller, Error, Service};

/// So many alarms come in one answer.
const MOST: u32 = 100;
/// Pages tell of them so long, in seconds.
const RECENT: i64 = 7 * 24 * 3600;
/// Whom alarms are for.
pub(super) const MAY_HEAR: &[Duty] = &[Duty::Auditors, Duty::Admins];

impl Service {
    /// Hears a host. What it said before changes nothing. Gives whether the log knows the certificate.
    pub async fn note_use(self: &Arc<Self>, signed: Signed) -> Result<bool, Error> {
        let (now, policy, outbox) = (self.clock.now(), self.policy(), Arc::clone(&self.outbox));
        let enrolled = self.enrolled_with(&policy, signed.signature().key()).await?;
        let stated = Use::check(&signed, (&policy, enrolled.as_ref()), &self.instance, now.second())?;
        let ours = Ours::read(&stated.connection.certificate, &self.authority().chain)?;
        if ours.emergency {
            // Broken glass is in the journal first.
            self.import_journal().await?;
        }
        let known = self.store.write(move |tx| {
            let request = known(tx, &ours)?;
            if uses::keep(tx, &stated.host, &stated.connection, request.as_ref(), ours.blob())? {
                let kind = if request.is_some() { EventKind::Used } else { EventKind::UnknownCertificate };
                let event = Event {
                    request: request.clone(),
                    serial: Serial::from_number(ours.serial()),
                    tbs: request.is_none().then(|| Digest::of(ours.blob())),
                    from: stated.connection.source.parse().ok(),
                    detail: Some(format!("{} on {}", stated.connection.account, stated.host)),
                    ..Event::new(kind, now)
                };
                events::append(tx, event)?;
                if request.is_none() {
                    tell_of_alarm(&outbox, tx, &policy, &alarm(stated.seen(), &ours), now.second())?;
                }
            }
            Ok::<_, Error>(request)
        });
        let known = known.await?;
        if known.is_none() {
            self.outbox.wake();
            tracing::error!("a host was opened by a certificate that is not in the log: ssh-jit doctor tells which");
        }
        self.waiters.wake_all();
        Ok(known.is_some())
    }

    /// Those of the last days, where the caller may hear of them.
    pub async fn recent_alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, Error> {
        if !caller.has_any(MAY_HEAR) {
            return Ok(Vec::new());
        }
        let since = self.now().second().plus(-RECENT);
        let mut alarms = self.alarms(caller).await?;
        alarms.retain(|alarm| alarm.used.began >= since);
        Ok(alarms)
    }

    /// The uses of certificates that the log does not know, for auditors and administrators, the newest first.
    pub async fn alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, Error> {
        caller.needs(MAY_HEAR)?;
        let found = self.store.read(|tx| uses::unknown(tx, MOST)).await?;
        let alarm = |(used, blob): (Seen, Vec<u8>)| {
            let certificate = Certificate::from_bytes(&blob).map_err(|_| nonsense(&used))?;
            Ok(Alarm { serial: certificate.serial().to_string(), key_id: certificate.key_id().to_owned(), used })
        };
        found.into_iter().map(alarm).collect()
    }
}

fn alarm(used: Seen, ours: &Ours) -> Alarm {
    Alarm { used, serial: ours.serial().to_string(), key_id: ours.key_id().to_owned() }
}

fn nonsense(seen: &Seen) -> StoreError {
    StoreError::nonsense("uses", &seen.host, "certificate")
}

/// The request, or the broken glass, for which exactly this certificate was made.
fn known(tx: &mut Tx<'_>, ours: &Ours) -> Result<Option<RequestId>, Error> {
    let (Some(serial), Some(id)) = (Serial::from_number(ours.serial()), uses::made_for(tx, ours.serial())?) else {
        return Ok(None);
    };
    let made = match (ours.emergency, certificates::load(tx, &id, serial)?) {
        // The row says which bytes, and the log that they were to be signed.
        (false, Some(planned)) => {
            ours.is_made_of(&planned.tbs) && on_record(tx, &id, &Digest::of(&planned.tbs))?.is_some()
        }
        // An emergency key certifies itself.
        (true, None) => {
            let emergency = emergencies::load(tx, &id)?.ok_or(Refusal::UnknownRequest)?;
            let theirs = format!("BREAK-GLASS/{id}/");
            ours.certifies(emergency.signed.signature().key()) && ours.key_id().starts_with(&theirs)
        }
        _ => false,
    };
    Ok(made.then_some(id))
}
