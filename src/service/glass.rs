//! Breaking the glass: journal first, always; then the certificate. Nothing here knows the database, or shares a lock,
//! a pool, a queue or a limit with what does, so that the way used in disasters is the way used every day.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::ca::Keys;
use crate::clock::Clock;
use crate::domain::certificate::ToBeSigned;
use crate::domain::grant::Grant;
use crate::domain::journal::{Entry, NAMESPACE, Outcome, Replay, Second, Unreviewed};
use crate::domain::names::{HostName, InstanceId, RoleName};
use crate::domain::policy::Policy;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::Expect;
use crate::domain::statement::{BreakGlass, BreakGlassCheck, Category, Dependency, Seconding, Statement, Version};
use crate::domain::time::{Moment, Seconds};
use crate::domain::verify::{Signed, Verified, VerifiedSet};
use crate::random;
use crate::store::journal::{Journal, JournalError};

use super::alerts::Alerts;
use super::authority::Authority;
use super::{Error, Issued, Settings, notices};

/// So many refused attempts in a row are written to the journal; the log has the rest.
const MOST_REFUSED: usize = 1000;
/// So many refusals that the journal does not hold wait for the log.
const MOST_STRANGERS: usize = 100;
/// A second person's statement is accepted for so many seconds: it is passed on by telephone, or by hand.
const SECOND_FRESH_FOR: i64 = 600;
/// So many verified statements are remembered.
const REMEMBERED: usize = 1000;

/// What breaks the glass.
pub struct Glass {
    /// Of which service, for ever.
    instance: InstanceId,
    /// The whole service signs with it, and speaks of it.
    pub(super) authority: RwLock<Arc<Authority>>,
    journal: Mutex<Journal>,
    /// What waits for a review, of this journal and of those before.
    pub(super) unreviewed: RwLock<Vec<Unreviewed>>,
    /// The epoch of the journal's serials; 0 while it is empty and the database did not say.
    epoch: AtomicU16,
    policy: RwLock<Arc<Policy>>,
    clock: Clock,
    seen: VerifiedSet,
    settings: Settings,
    alerts: Arc<Alerts>,
    /// Refused attempts that the journal does not hold.
    strangers: Mutex<Vec<(Signed, Refusal)>>,
    changed: Notify,
}

/// The parts that break the glass, opened and checked.
pub struct GlassParts {
    /// The key folder.
    pub keys: Keys,
    /// The signed trust documents, oldest first.
    pub trusts: Vec<Signed>,
    /// The break-glass journal.
    pub journal: Journal,
    /// The policy in force.
    pub policy: Policy,
    /// Where the time comes from.
    pub clock: Clock,
    /// What the operator set.
    pub settings: Settings,
}

/// An attempt to break the glass.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The statement, and the emergency key's signature.
    pub signed: Signed,
    /// That of a second person, where one joins in.
    pub second: Option<Signed>,
    /// Where it comes from, as far as that is known.
    pub from: Option<IpAddr>,
}

impl Attempt {
    /// Whether it is a drill that the database shall hear of later.
    pub(super) fn is_without_database(&self) -> bool {
        self.signed.claims::<BreakGlass>().is_ok_and(|said| said.is_without(Dependency::DbReadonly))
    }
}

/// What an emergency key would open.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The roles, their hosts, and the longest certificate.
    pub roles: Vec<(RoleName, Vec<HostName>, Seconds)>,
    /// The kinds of emergencies that are taken.
    pub categories: Vec<Category>,
    /// Why nothing would be signed now.
    pub hindrance: Option<String>,
}

/// Why no glass was broken, and whether the journal says so already.
struct Unbroken {
    error: Error,
    journaled: bool,
}

impl<E: Into<Error>> From<E> for Unbroken {
    fn from(error: E) -> Self {
        Self { error: error.into(), journaled: false }
    }
}

impl Glass {
    /// Puts the parts together, and takes up the alerts that nobody is known to have heard.
    pub fn new(parts: GlassParts) -> Result<Arc<Self>, Error> {
        let authority = Authority::new(parts.keys, parts.trusts)?;
        let outbox = Arc::new(notices::outbox(&parts.settings));
        let epoch = parts.journal.replay().epoch().unwrap_or_default();
        let alerts = Alerts::new(outbox, parts.clock.clone());
        parts.journal.after(0).iter().for_each(|entry| alerts.raise(&parts.policy, entry));
        let glass = Arc::new(Self {
            instance: authority.chain.newest().instance.clone(),
            authority: RwLock::new(Arc::new(authority)),
            journal: Mutex::new(parts.journal),
            unreviewed: RwLock::default(),
            epoch: epoch.into(),
            policy: RwLock::new(Arc::new(parts.policy)),
            clock: parts.clock,
            seen: VerifiedSet::new(REMEMBERED.min(parts.settings.remembered)),
            settings: parts.settings,
            alerts: Arc::new(alerts),
            strangers: Mutex::default(),
            changed: Notify::new(),
        });
        glass.note_unreviewed(glass.journal().replay());
        glass.note_keys();
        Ok(glass)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// What the operator set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Now, by the service's clock.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Which service this is.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The policy by which the glass is broken.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Breaks it by another one from here on.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        self.note_keys();
    }

    /// The database says which number the journal has.
    pub(super) fn set_epoch(&self, epoch: u16) {
        self.epoch.store(epoch, Ordering::SeqCst);
        self.note_keys();
    }

    pub(super) fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Sends what people are to be told, for ever.
    pub async fn alert(self: Arc<Self>) {
        Arc::clone(&self.alerts).run().await;
    }

    /// Waits until something was tried.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The refusals that the journal does not hold, for whoever writes the log.
    pub(super) fn take_strangers(&self) -> Vec<(Signed, Refusal)> {
        std::mem::take(&mut *self.strangers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs a short certificate for a registered emergency key, once its reason is durable.
    pub async fn break_glass(self: &Arc<Self>, attempt: Attempt) -> Result<Issued, Error> {
        let glass = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let outcome = glass.broken(&attempt);
            if let Err(Unbroken { error: Error::Refused(refusal), journaled }) = &outcome {
                glass.refused(&attempt.signed, refusal, *journaled);
            }
            if outcome.is_err() || !attempt.is_without_database() {
                glass.changed.notify_one();
            }
            outcome.map_err(|unbroken| unbroken.error)
        });
        work.await.unwrap_or_else(|e| Err(Error::Setup(format!("breaking the glass: {e}"))))
    }

    /// What an emergency key would open, if it were now. Nothing is signed, and nothing written.
    pub async fn check(self: &Arc<Self>, signed: Signed) -> Result<Checked, Error> {
        let glass = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let outcome = glass.checked(&signed, &glass.policy(), glass.clock.now());
            if let Err(Error::Refused(refusal)) = &outcome {
                glass.refused(&signed, refusal, false);
                glass.changed.notify_one();
            }
            outcome
        });
        work.await.unwrap_or_else(|e| Err(Error::Setup(format!("an emergency key: {e}"))))
    }

    fn checked(&self, signed: &Signed, policy: &Policy, now: Moment) -> Result<Checked, Error> {
        let claimed: BreakGlassCheck = signed.claims()?;
        let key = signed.signature().key();
        let emergency = policy.emergency_key(&claimed.person, key)?;
        let asked: Verified<BreakGlassCheck> = self.verified(signed)?;
        asked.fresh(now.second())?;
        let journal = self.journal();
        cool(journal.replay(), policy, &claimed, signed, now)?;
        let roles = emergency.roles.iter().filter_map(|name| policy.roles().get_key_value(name));
        Ok(Checked {
            roles: roles.map(|(name, role)| (name.clone(), role.hosts.clone(), emergency.max)).collect(),
            categories: policy.emergency_rules().categories.iter().copied().collect(),
            hindrance: journal.hindrance().map(|why| format!("the journal cannot be written: {why}")),
        })
    }

    fn verified<T: Statement>(&self, signed: &Signed) -> Result<Verified<T>, Refusal> {
        let expect = Expect::SshKey { verified: false };
        Verified::check(signed, signed.signature().key(), expect, &self.instance, &self.seen)
    }

    /// Verify, decide, make durable, sign: in this order, and nothing else.
    fn broken(&self, attempt: &Attempt) -> Result<Issued, Unbroken> {
        let (now, policy) = (self.clock.now(), self.policy());
        let claimed: BreakGlass = attempt.signed.claims()?;
        // Only a registered key is worth a signature check, and only its attempts are journaled.
        policy.emergency_key(claimed.person(), attempt.signed.signature().key())?;
        let statement: Verified<BreakGlass> = self.verified(&attempt.signed)?;
        let statement = statement.fresh(now.second())?;
        let mut journal = self.journal();
        self.tell_keys(&mut journal, &policy, now)?;
        let grant = match self.decided(journal.replay(), &policy, &statement, attempt, now) {
            Ok(grant) => grant,
            Err(refusal) => {
                let refused =
                    journal.after(0).iter().rev().take_while(|e| matches!(e.outcome, Outcome::Refused { .. })).count();
                let journaled = refused < MOST_REFUSED;
                if journaled {
                    let outcome = Outcome::Refused { code: refusal.code().to_owned() };
                    let refused = self.entry(&journal, Some(attempt), &policy, now, outcome);
                    self.commit(&mut journal, &refused)?;
                }
                return Err(Unbroken { error: refusal.into(), journaled });
            }
        };
        let serial = journal
            .replay()
            .next_serial(self.epoch())
            .ok_or_else(|| Error::Setup("the journal has no serials left".to_owned()))?;
        let authority = self.authority();
        let tbs = ToBeSigned::new(grant, serial, random::bytes(), authority.keys.break_glass_ca.public());
        let outcome = Outcome::Issued { serial, tbs: tbs.digest() };
        let entry = self.entry(&journal, Some(attempt), &policy, now, outcome);
        self.commit(&mut journal, &entry)?;
        drop(journal);
        self.alerts.raise(&policy, &entry);
        let certificate = authority.keys.break_glass_ca.certify(&tbs)?;
        Ok(Issued { certificate, serial, grant: tbs.grant().clone() })
    }

    fn decided(
        &self,
        replay: &Replay,
        policy: &Policy,
        statement: &Verified<BreakGlass>,
        attempt: &Attempt,
        now: Moment,
    ) -> Result<Grant, Refusal> {
        let said = statement.get();
        cool(replay, policy, said, &attempt.signed, now)?;
        replay.allows(&attempt.signed, said)?;
        let second = attempt.second.as_ref().map(|signed| self.seconded(replay, policy, signed, now)).transpose()?;
        let grant = Grant::break_glass(policy, statement, second.as_ref(), attempt.from, self.settings.clock_skew)?;
        if second.is_none() {
            replay.alone(&attempt.signed, said, policy.emergency_rules())?;
        }
        Ok(grant)
    }

    /// The word of a second person, if it counts now. Whether it is meant for this, the grant sees.
    fn seconded(
        &self,
        replay: &Replay,
        policy: &Policy,
        signed: &Signed,
        now: Moment,
    ) -> Result<Verified<Seconding>, Refusal> {
        let said: Seconding = signed.claims()?;
        policy.emergency_key(&said.person, signed.signature().key())?;
        let second: Verified<Seconding> = self.verified(signed)?;
        let late = |_| Refusal::SecondUnfit { why: "it was signed more than 10 minutes ago; have it signed again" };
        let second = second.fresh_for(SECOND_FRESH_FOR, now.second()).map_err(late)?;
        cool(replay, policy, &said, signed, now)?;
        replay.unspent(signed)?;
        Ok(second)
    }

    /// Keys that may not are for the log, and somebody hears of them at once.
    fn refused(&self, signed: &Signed, refusal: &Refusal, journaled: bool) {
        if *refusal == Refusal::NotEmergencyKey {
            self.alerts.alarm(&self.policy(), signed);
        }
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if !journaled && strangers.len() < MOST_STRANGERS {
            strangers.push((signed.clone(), refusal.clone()));
        }
    }

    /// Tells the journal which keys the policy names. What could not be told is tried again with the next attempt, and
    /// until then its new keys open nothing.
    fn note_keys(&self) {
        let told = self.tell_keys(&mut self.journal(), &self.policy(), self.clock.now());
        if let Err(error) = told.or_else(|error| if self.epoch() == 0 { Ok(()) } else { Err(error) }) {
            tracing::error!(%error, "new emergency keys open nothing before the journal knows them");
        }
    }

    fn tell_keys(&self, journal: &mut Journal, policy: &Policy, now: Moment) -> Result<(), Error> {
        if self.epoch() == 0 {
            return Err(JournalError::Unnumbered(journal.path().to_owned()).into());
        }
        let named = policy.emergency_holders();
        if journal.replay().names_others(&named) {
            let entry = self.entry(journal, None, policy, now, Outcome::Keys(named));
            self.commit(journal, &entry)?;
        }
        Ok(())
    }

    /// What comes next in the journal.
    pub(super) fn entry(
        &self,
        journal: &Journal,
        attempt: Option<&Attempt>,
        policy: &Policy,
        at: Moment,
        outcome: Outcome,
    ) -> Entry {
        let (seq, prev) = journal.replay().next();
        let text = |signed: &Signed| String::from_utf8_lossy(signed.bytes()).into_owned();
        let second = |signed: &Signed| Second { statement: text(signed), signature: signed.signature().armor() };
        Entry {
            v: Version,
            epoch: self.epoch(),
            seq,
            prev,
            at,
            statement: attempt.map(|attempt| text(&attempt.signed)).unwrap_or_default(),
            signature: attempt.map(|attempt| attempt.signed.signature().armor()).unwrap_or_default(),
            second: attempt.and_then(|attempt| attempt.second.as_ref()).map(second),
            from: attempt.and_then(|attempt| attempt.from),
            policy: policy.digest(),
            outcome,
        }
    }

    /// Signs an entry and makes it durable.
    pub(super) fn commit(&self, journal: &mut Journal, entry: &Entry) -> Result<(), Error> {
        let key = &self.authority().keys.journal;
        journal.append(&key.sign(NAMESPACE, entry.to_bytes())?, key.public())?;
        self.note_unreviewed(journal.replay());
        Ok(())
    }
}

/// Whether the key that signed this was named for long enough. If not, it is like any other that may not.
fn cool(replay: &Replay, policy: &Policy, said: &impl Statement, signed: &Signed, now: Moment) -> Result<(), Refusal> {
    let (key, cool_off) = (signed.signature().key(), policy.emergency_rules().cool_off);
    if replay.is_cool(said.person(), key, cool_off, now.second()) { Ok(()) } else { Err(Refusal::NotEmergencyKey) }
}
