//! Sessions: a signed statement buys a bearer that can read for 15 minutes, and change nothing.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::PersonName;
use crate::domain::policy::{Duty, Policy};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{Kind, Session as Statement};
use crate::domain::time::Timestamp;
use crate::domain::verify::Signed;
use crate::random;
use crate::store::sessions::{self, Session};
use crate::store::statements;

use super::{Error, Service};

/// How long a bearer reads.
const LASTS: i64 = 15 * 60;

/// Somebody who showed a bearer that counts.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub person: PersonName,
    duties: Vec<Duty>,
}

impl Caller {
    fn new(policy: &Policy, person: PersonName) -> Self {
        let all = [Duty::Admins, Duty::Auditors, Duty::Revokers, Duty::Reviewers];
        let duties = all.into_iter().filter(|duty| policy.has_duty(&person, *duty)).collect();
        Self { person, duties }
    }

    /// Whether the caller has one of these duties.
    pub fn has_any(&self, duties: &[Duty]) -> bool {
        duties.iter().any(|duty| self.duties.contains(duty))
    }

    /// Refuses a caller who has none of these duties.
    pub fn needs(&self, duties: &[Duty]) -> Result<(), Refusal> {
        if self.has_any(duties) {
            Ok(())
        } else {
            Err(Refusal::NoDuty { duty: duties.first().map_or("", |d| d.as_str()) })
        }
    }
}

impl Service {
    /// Sells a bearer for a session statement. Gives the bearer and its end.
    pub async fn open_session(self: &Arc<Self>, signed: Signed) -> Result<(Zeroizing<String>, Timestamp), Error> {
        self.audited(Kind::Session, &signed, async {
            let now = self.clock.now();
            let statement = self.accept::<Statement>(&self.policy(), &signed, now).await?;
            let person = statement.get().person.clone();
            let bearer = random::token();
            let (digest, until) = (Digest::of(bearer.as_bytes()), now.second().plus(LASTS));
            let session = Session { person: person.clone(), signer: statement.key().fingerprint(), until };
            let signed = signed.clone();
            self.store
                .write(move |tx| {
                    statements::spend(tx, Kind::Session, &signed)?;
                    sessions::open(tx, &digest, &session, now.second())?;
                    let statement = Some(signed.digest());
                    let event = Event { person: Some(person), statement, ..Event::new(EventKind::SessionOpened, now) };
                    Ok::<_, Error>(crate::store::events::append(tx, event)?)
                })
                .await?;
            Ok((bearer, until))
        })
        .await
    }

    /// Who shows this bearer. The policy of this moment must still know the key that bought it, or the
    /// one behind the passkey.
    pub async fn caller(self: &Arc<Self>, bearer: &str) -> Result<Caller, Error> {
        let (digest, now) = (Digest::of(bearer.as_bytes()), self.clock.now().second());
        let (service, policy) = (Arc::clone(self), self.policy());
        self.store
            .read(move |tx| {
                let session = sessions::find(tx, &digest, now)?.ok_or(Error::Unauthenticated)?;
                if !policy.counts(&session.person, &session.signer) {
                    let passkey = service.passkey(tx, &session.signer).map_err(|_| Error::Unauthenticated)?;
                    passkey.holder(&policy, &session.person, now).map_err(|_| Error::Unauthenticated)?;
                }
                Ok(Caller::new(&policy, session.person))
            })
            .await
    }
}
