//! The service: each verb is one function, one transaction, one event. The order on every path is
//! verify, decide, commit what is spent and what will be signed, sign outside the writer, verify the
//! signature, release.

mod acknowledgements;
mod aftermath;
mod alerts;
mod authority;
mod break_glass;
mod cases;
mod circumstances;
mod claims;
mod decisions;
mod drafts;
mod drills;
mod error;
mod extensions;
mod facts;
mod glass;
mod history;
mod hosts;
mod krl;
mod log;
mod notices;
mod oidc;
mod passkeys;
mod reading;
mod requests;
mod reviews;
mod revocations;
mod rotation;
mod sessions;
mod sweep;
mod tickets;
mod uses;
mod waiters;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::ca::Keys;
use crate::clock::Clock;
use crate::config::{ChannelConfig, OidcConfig, Proxies, TicketCheckConfig};
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::facts::Facts;
use crate::domain::key::PublicKey;
use crate::domain::names::{CheckName, InstanceId, PersonName, RequestId, RoleName, SourceName};
use crate::domain::policy::Policy;
use crate::domain::remembered::Remembered;
use crate::domain::sshsig::Expect;
use crate::domain::statement::Statement;
use crate::domain::time::{Moment, Patience, Timestamp};
use crate::domain::verify::{Signed, Verified, VerifiedSet};
use crate::domain::webhook::WebhookSecret;
use crate::notify::Outbox;
use crate::store::journal::Journal;
use crate::store::{Store, StoreError, Value, events};

pub use aftermath::Aftermath;
pub use claims::Issued;
pub use drafts::Choice;
pub use drills::{DrillInfo, Proof, Report, Unproven};
pub use error::Error;
pub use extensions::Extended;
pub use facts::FactInfo;
pub use glass::{Attempt, Checked, Glass, GlassParts};
pub use history::{History, RoleUsage, Usage};
pub use hosts::{HostInfo, Redeemed};
pub use krl::SignedKrl;
pub use log::{SignedHead, StoredEvent};
pub use notices::ChannelInfo;
pub use oidc::{Begun, BroughtBack, SignInError};
pub use passkeys::PasskeyInfo;
pub use reading::{Ahead, EmergencyInfo, Listed, Listing, Part, Receipt, RequestInfo, RoleInfo};
pub use reviews::OpenReview;
pub use revocations::Revoked;
pub use rotation::progress;
pub use sessions::{Caller, Holder, Opened};
pub use waiters::Topic;

/// So many statements that were verified are remembered, to save the mathematics of a repeat.
const REMEMBERED: usize = 100_000;
/// So many requests that this process took are remembered: those that may be claimed soon.
const TAKEN: usize = 10_000;
/// So many policies that this process loaded are kept, to rebuild certificates that they led to.
const POLICIES: usize = 16;

/// The running service.
pub struct Service {
    store: Store,
    /// Which one, for ever.
    instance: InstanceId,
    glass: Arc<Glass>,
    policies: RwLock<VecDeque<Arc<Policy>>>,
    clock: Clock,
    seen: VerifiedSet,
    /// The requests that this process took, and their subject keys.
    taken: Remembered<RequestId, PublicKey>,
    waiters: waiters::Waiters,
    refusals: Mutex<log::Budget>,
    head: Mutex<Option<SignedHead>>,
    letters: Mutex<passkeys::Letters>,
    usage: Mutex<Option<(Timestamp, Arc<Usage>)>>,
    facts: RwLock<Arc<Facts>>,
    desk: tickets::Desk,
    cut: krl::Cut,
    provider: Option<oidc::Provider>,
    outbox: Arc<Outbox>,
    settings: Settings,
}

/// What an operator sets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Windows are shifted early by so many seconds, for hosts whose clocks are behind.
    pub clock_skew: u32,
    /// For how long hosts are certified.
    pub host_certificates: Patience,
    /// How many verified statements to remember; 0 for none.
    pub remembered: usize,
    /// Where browsers find the service, as they write it: scheme, host, and port unless it is the usual.
    pub origin: String,
    /// The identity provider whose word lets people read in the browser.
    pub oidc: Option<OidcConfig>,
    /// The secrets that are shared with those who state facts.
    pub sources: BTreeMap<SourceName, Vec<WebhookSecret>>,
    /// With what tickets are looked up, where it takes something.
    pub ticket_checks: BTreeMap<CheckName, TicketCheckConfig>,
    /// Who says for others where they come from.
    pub proxies: Proxies,
    /// The ways to tell people what happens.
    pub notify: Vec<ChannelConfig>,
    /// Where break-glass alone is served, as clients write it.
    pub break_glass_url: Option<String>,
}

impl Settings {
    /// Host and port, as browsers send them in `Host`.
    pub fn authority(&self) -> &str {
        self.origin.split_once("://").map_or(self.origin.as_str(), |(_, rest)| rest)
    }

    /// Whether people open the service by HTTPS.
    pub fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The WebAuthn relying party: the origin's host.
    pub fn relying_party(&self) -> &str {
        let host = self.authority();
        host.split_once(':').map_or(host, |(host, _)| host)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock_skew: 5,
            host_certificates: Patience::LONGEST,
            remembered: REMEMBERED,
            origin: "http://localhost:7022".to_owned(),
            oidc: None,
            sources: BTreeMap::new(),
            ticket_checks: BTreeMap::new(),
            proxies: Proxies::default(),
            notify: Vec::new(),
            break_glass_url: None,
        }
    }
}

impl Service {
    /// Opens everything that takes the database, beside what breaks the glass; records the start and the policy.
    pub async fn start(store: Store, glass: Arc<Glass>) -> Result<Arc<Self>, Error> {
        let (settings, clock) = (glass.settings().clone(), glass.clock().clone());
        let (written, now) = (glass.journal().replay().epoch(), clock.now());
        let epoch = store.write(move |tx| break_glass::epoch_of(tx, written, now)).await?;
        glass.set_epoch(epoch);
        glass.authority().record(&store, now).await?;
        let provider = settings.oidc.clone();
        let provider = provider.map(|oidc| oidc::Provider::new(oidc, &settings.origin)).transpose()?;
        let service = Arc::new(Self {
            store,
            instance: glass.instance().clone(),
            policies: RwLock::new(VecDeque::new()),
            clock,
            seen: VerifiedSet::new(settings.remembered),
            taken: Remembered::new(settings.remembered.min(TAKEN)),
            waiters: waiters::Waiters::default(),
            refusals: Mutex::default(),
            head: Mutex::default(),
            letters: Mutex::default(),
            usage: Mutex::default(),
            facts: RwLock::default(),
            desk: tickets::Desk::new(&settings.ticket_checks),
            cut: krl::Cut::default(),
            provider,
            outbox: Arc::new(notices::outbox(&settings)),
            settings,
            glass,
        });
        service.recall_unreviewed().await;
        service.adopt(service.glass.policy(), true).await?;
        service.import_journal().await?;
        service.adopt_reviews().await?;
        service.recall_revoked().await?;
        service.recall_heard().await?;
        Ok(service)
    }

    /// What breaks the glass.
    pub fn glass(&self) -> &Arc<Glass> {
        &self.glass
    }

    /// Puts a policy into force.
    pub async fn load_policy(&self, policy: Policy) -> Result<(), Error> {
        self.adopt(Arc::new(policy), false).await
    }

    /// A policy is stored whole, under its SHA-256, before anything is decided by it.
    async fn adopt(&self, policy: Arc<Policy>, starting: bool) -> Result<(), Error> {
        self.sources_fit(&policy)?;
        self.checks_fit(&policy)?;
        let now = self.clock.now();
        let (digest, text) = (policy.digest(), policy.text().to_owned());
        let before = (!starting).then(|| self.policy().digest().to_string());
        self.store
            .write(move |tx| {
                let sql = "INSERT INTO policies (sha256, text) VALUES (?1, ?2) ON CONFLICT (sha256) DO NOTHING";
                tx.execute(sql, &[(&digest).into(), Value::Text(&text)])?;
                if starting {
                    let version = Some(env!("CARGO_PKG_VERSION").to_owned());
                    events::append(tx, Event { detail: version, ..Event::new(EventKind::ServiceStarted, now) })?;
                }
                let loaded = Event::new(EventKind::PolicyLoaded, now);
                events::append(tx, Event { policy: Some(digest), detail: before.clone(), ..loaded })?;
                Ok::<_, StoreError>(())
            })
            .await?;
        self.put_into_force(policy);
        self.recall().await
    }

    fn put_into_force(&self, policy: Arc<Policy>) {
        self.glass.set_policy(Arc::clone(&policy));
        let mut policies = self.policies.write().unwrap_or_else(PoisonError::into_inner);
        policies.retain(|known| known.digest() != policy.digest());
        policies.push_front(policy);
        policies.truncate(POLICIES);
        drop(policies);
        // It may revoke other keys.
        self.cut.changed();
    }

    /// What the operator set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        // `start` put one there before anybody could ask.
        policies.front().cloned().unwrap_or_else(|| Arc::new(Policy::nobody()))
    }

    /// A policy that this process loaded from its file: the database's copy is not believed.
    fn policy_by_digest(&self, digest: &Digest) -> Option<Arc<Policy>> {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        policies.iter().find(|policy| policy.digest() == *digest).cloned()
    }

    /// What was stated from outside.
    fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Now, by the service's clock.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Wakes who waits on a request, the pages that show it (its requester's and those of the role's approvers), and
    /// those who deliver what was written about it.
    fn tell(&self, id: &RequestId, requester: &PersonName, role: &RoleName) {
        let policy = self.policy();
        let approvers = policy.roles().get(role).map(|role| role.approvers.all()).unwrap_or_default();
        self.waiters.wake(id, approvers.into_iter().cloned().chain([requester.clone()]));
        self.outbox.wake();
    }

    /// Accepts a statement that a person made just now, with an everyday key or a passkey of theirs.
    async fn accept<T: Statement + Send + 'static>(
        self: &Arc<Self>,
        policy: &Policy,
        signed: &Signed,
        now: Moment,
    ) -> Result<Verified<T>, Error> {
        let verified: Verified<T> = if signed.signature().is_passkey() {
            let (service, signed) = (Arc::clone(self), signed.clone());
            self.store.read(move |tx| service.verified(tx, &signed)).await?
        } else {
            let key = signed.signature().key();
            let theirs = |statement: &T| policy.signer(statement.person(), key).map(|_| key);
            let expect = Expect::SshKey { verified: false };
            Verified::check_by(signed, theirs, expect, &self.instance, &self.seen)?
        };
        verified.signer(policy)?;
        Ok(verified.fresh(now.second())?)
    }
}

/// Opens the journal that a service writes.
pub fn open_journal(path: &Path, keys: &Keys) -> Result<Journal, Error> {
    Ok(Journal::open(path, keys.journal.public())?)
}
