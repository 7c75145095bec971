//! Sessions: a signed statement, or an identity provider's word, buys a bearer that can read for a while,
//! and change nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::{GroupName, PersonName};
use crate::domain::policy::{Duty, Policy, Role};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{Kind, Session as Statement};
use crate::domain::time::{Moment, Timestamp};
use crate::domain::verify::Signed;
use crate::random;
use crate::store::sessions::{self, Opener, Session};
use crate::store::{StoreError, Tx, statements};

use super::{Error, Service};

/// How long a bearer reads, in seconds; in a browser, how long without being used.
const LASTS: i64 = 15 * 60;
/// How long a browser's session lasts in any case, in seconds.
const LONGEST: i64 = 12 * 3600;
/// Use is written down at most this often, in seconds: reading shall not keep the writer busy.
const WRITTEN_EVERY: i64 = 60;

/// Who holds a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A client of the API: it ends when it ends.
    Client,
    /// A browser: it ends when it is not used, and after twelve hours.
    Browser,
}

/// A session that was opened.
pub struct Opened {
    /// What its holder shows; only its digest is kept here.
    pub bearer: Zeroizing<String>,
    /// When it ends unless it is used.
    pub until: Timestamp,
    /// When it ends in any case.
    pub ends: Timestamp,
}

/// Somebody who showed a bearer that counts.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub person: PersonName,
    /// What the pages of this session send back with each call that is more than reading.
    pub form_token: String,
    /// The groups that the provider claims and the policy lets it claim. They widen what is read, and are
    /// never asked where something is decided.
    claimed: BTreeSet<GroupName>,
    duties: Vec<Duty>,
    session: Digest,
    until: Timestamp,
    ends: Timestamp,
}

impl Caller {
    fn new(policy: &Policy, bearer: &str, session: Session) -> Self {
        let all = [Duty::Admins, Duty::Auditors, Duty::Revokers, Duty::Reviewers];
        let Session { person, opener, until, ends } = session;
        let claimed = match opener {
            Opener::Key(_) => BTreeSet::new(),
            // The policy of now: a group that it dropped is no longer claimed.
            Opener::Provider { groups, .. } => groups.into_iter().filter(|g| policy.may_claim(g)).collect(),
        };
        let has = |duty: &Duty| policy.has_duty(&person, *duty) || policy.group_has_duty(&claimed, *duty);
        let duties = all.into_iter().filter(has).collect();
        let (form_token, session) = (form_token(bearer), Digest::of(bearer.as_bytes()));
        Self { person, form_token, claimed, duties, session, until, ends }
    }

    /// Whether the caller may read what those who decide on a role read.
    pub fn reads_for(&self, role: &Role) -> bool {
        role.approvers.contains(&self.person) || role.approvers.names_any_of(&self.claimed)
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

    /// Whether this is the form token of the caller's session.
    pub fn sent(&self, form_token: &[u8]) -> bool {
        self.form_token.as_bytes().ct_eq(form_token).into()
    }
}

/// Made from the bearer, so that nothing is stored and no other session has it; not to be turned back
/// into it, nor into the digest that it is kept under.
fn form_token(bearer: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::of_parts(&[b"ssh-jit form token", bearer.as_bytes()]).as_bytes())
}

impl Service {
    /// Sells a bearer for a session statement.
    pub async fn open_session(self: &Arc<Self>, signed: Signed, holder: Holder) -> Result<Opened, Error> {
        self.audited(Kind::Session, &signed, async {
            let now = self.clock.now();
            let statement = self.accept::<Statement>(&self.policy(), &signed, now).await?;
            let (opened, session) =
                opened(statement.get().person.clone(), Opener::Key(statement.key().fingerprint()), holder, now);
            let (digest, signed) = (Digest::of(opened.bearer.as_bytes()), signed.clone());
            self.store
                .write(move |tx| {
                    statements::spend(tx, Kind::Session, &signed)?;
                    record(tx, &digest, &session, Some(signed.digest()), now).map_err(Error::from)
                })
                .await?;
            Ok(opened)
        })
        .await
    }

    /// Opens a browser's session on the word of the provider `issuer`, which claims these groups.
    pub(super) async fn open_session_on_word(
        &self,
        person: PersonName,
        issuer: String,
        groups: BTreeSet<GroupName>,
    ) -> Result<Opened, Error> {
        let now = self.clock.now();
        let (opened, session) = opened(person, Opener::Provider { issuer, groups }, Holder::Browser, now);
        let digest = Digest::of(opened.bearer.as_bytes());
        self.store.write(move |tx| record(tx, &digest, &session, None, now)).await?;
        Ok(opened)
    }

    /// Who shows this bearer. The policy of this moment must still know the key that bought it, or the
    /// one behind the passkey; or let the provider sign this person in.
    pub async fn caller(self: &Arc<Self>, bearer: &str) -> Result<Caller, Error> {
        let (bearer, now) = (Zeroizing::new(bearer.to_owned()), self.clock.now().second());
        let (service, policy) = (Arc::clone(self), self.policy());
        self.store
            .read(move |tx| {
                let found = sessions::find(tx, &Digest::of(bearer.as_bytes()), now)?;
                let session = found.ok_or(Error::Unauthenticated)?;
                service.still_counts(tx, &policy, &session, now)?;
                Ok(Caller::new(&policy, &bearer, session))
            })
            .await
    }

    fn still_counts(&self, tx: &mut Tx<'_>, policy: &Policy, session: &Session, now: Timestamp) -> Result<(), Error> {
        match &session.opener {
            Opener::Key(signer) if policy.counts(&session.person, signer) => Ok(()),
            Opener::Key(signer) => {
                let passkey = self.passkey(tx, signer).map_err(|_| Error::Unauthenticated)?;
                passkey.holder(policy, &session.person, now).map(|_| ()).map_err(|_| Error::Unauthenticated)
            }
            Opener::Provider { issuer, .. } => {
                let counts = self.is_provider(issuer) && policy.may_read_on_word(&session.person);
                if counts { Ok(()) } else { Err(Error::Unauthenticated) }
            }
        }
    }

    /// Writes down that a session was used. Who reads gets their page even when that fails.
    pub async fn used(&self, caller: &Caller) {
        let (session, now) = (caller.session, self.clock.now().second());
        let until = now.plus(LASTS).min(caller.ends);
        if until.since(caller.until) < WRITTEN_EVERY {
            return;
        }
        if let Err(error) = self.store.write(move |tx| sessions::prolong(tx, &session, until, now)).await {
            tracing::warn!(%error, "a session that was used could not be prolonged");
        }
    }

    /// Ends the session of this bearer, if there is one.
    pub async fn close_session(&self, bearer: &str) -> Result<(), Error> {
        let session = Digest::of(bearer.as_bytes());
        Ok(self.store.write(move |tx| sessions::close(tx, &session)).await?)
    }
}

/// A session that begins now, and its bearer.
fn opened(person: PersonName, opener: Opener, holder: Holder, now: Moment) -> (Opened, Session) {
    let until = now.second().plus(LASTS);
    let ends = match holder {
        Holder::Client => until,
        Holder::Browser => now.second().plus(LONGEST),
    };
    (Opened { bearer: random::token(), until, ends }, Session { person, opener, until, ends })
}

/// Keeps a session, and the event that it was opened.
fn record(
    tx: &mut Tx<'_>,
    bearer: &Digest,
    session: &Session,
    statement: Option<Digest>,
    now: Moment,
) -> Result<(), StoreError> {
    sessions::open(tx, bearer, session, now.second())?;
    let detail = matches!(session.opener, Opener::Provider { .. }).then(|| "oidc".to_owned());
    let person = Some(session.person.clone());
    let event = Event { person, statement, detail, ..Event::new(EventKind::SessionOpened, now) };
    crate::store::events::append(tx, event).map(|_| ())
}
