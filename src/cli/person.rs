//! A person at work: who they are, which service answers, and how they sign.

use serde::de::DeserializeOwned;

use crate::client::agent::Agent;
use crate::client::api::{Api, ApiError};
use crate::client::certificate::{Checked, Surprise};
use crate::client::identity::Identity;
use crate::client::published::Unfollowed;
use crate::client::state::{SavedSession, State};
use crate::domain::key::PublicKey;
use crate::domain::names::{InstanceId, Nonce, PersonName, RequestId};
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{self, Is, Session, Statement, Version};
use crate::domain::time::Timestamp;
use crate::domain::trust::{Chain, Trust};
use crate::domain::verify::Signed;
use crate::random;
use crate::wire::{Now, SessionView, SignedText};

use super::{Context, Failure};

/// A clock that is further off than this makes statements that nobody should sign, in seconds.
const CLOCK_OFF: i64 = 300;

/// A service that answered and is the one that was pinned.
pub(super) struct Service {
    pub(super) api: Api,
    pub(super) state: State,
    pub(super) trust: Trust,
    /// The service's time less this machine's, in seconds.
    ahead: i64,
}

/// What a person signs with, for one service.
pub(super) struct Person<'c> {
    pub(super) context: &'c Context,
    pub(super) service: Service,
    pub(super) name: PersonName,
    identity: Option<Identity>,
}

impl Service {
    /// Asks the service for its time and pins its trust document, or compares it with the pinned one.
    pub(super) fn open(context: &Context) -> Result<Self, Failure> {
        let url = server(context)?;
        Self::at(context, url, State::open(&context.environment.state, url)?)
    }

    /// The same where break-glass alone is served; and at the ordinary address when that does not work.
    pub(super) fn open_for_emergency(context: &Context) -> Result<Self, Failure> {
        let url = server(context)?;
        let state = State::open(&context.environment.state, url)?;
        let own = context.config.break_glass_server.clone();
        let Some(own) = own.map_or_else(|| state.break_glass(), |own| Ok(Some(own)))? else {
            return Self::at(context, url, state);
        };
        Self::at(context, &own, state.clone()).or_else(|failure| {
            context.ui.say(format_args!("{}; trying {url}", failure.message));
            Self::at(context, url, state)
        })
    }

    fn at(context: &Context, url: &str, state: State) -> Result<Self, Failure> {
        let api = Api::new(address(url)?, context.config.tls_ca.as_deref())?;
        let now: Now = api.get("/v1/now")?;
        let ahead = now.now.second().since(context.clock.now().second());
        let Pinned { chain, new } = pinned(context, &api, known(&state)?, &now)?;
        if new {
            state.set_trust(&chain)?;
        }
        if let Some(own) =
            now.break_glass.filter(|own| state.break_glass().is_ok_and(|known| known.as_ref() != Some(own)))
        {
            state.set_break_glass(&own)?;
        }
        Ok(Self { api, state, trust: chain.newest().clone(), ahead })
    }

    /// The service's time.
    pub(super) fn now(&self, context: &Context) -> Timestamp {
        context.clock.now().second().plus(self.ahead)
    }

    /// How far this machine's clock is behind the service's, in seconds.
    pub(super) fn ahead(&self) -> i64 {
        self.ahead
    }
}

/// The service's address.
fn server(context: &Context) -> Result<&str, Failure> {
    context.config.server.as_deref().ok_or_else(|| {
        Failure::misuse("no service is known").hint("ssh-jit setup --server URL, or --server URL, or SSH_JIT_SERVER")
    })
}

/// The trust document that is pinned for a service, and those that it leads back to.
pub(super) fn known(state: &State) -> Result<Option<Chain>, Failure> {
    let Some(pinned) = state.trust()? else { return Ok(None) };
    let earlier = state.trusts()?.iter().filter_map(|text| Signed::try_from(text).ok()).collect::<Vec<_>>();
    Ok(Some(Chain::first_contact(Signed::try_from(&pinned)?)?.backward(&earlier)))
}

/// A service's trust documents that may be believed.
pub(super) struct Pinned {
    pub(super) chain: Chain,
    /// Whether the newest takes the place of the one that was known.
    pub(super) new: bool,
}

/// The documents that are known, or newer ones that follow from them, or the first that are ever seen.
pub(super) fn pinned(context: &Context, api: &Api, known: Option<Chain>, now: &Now) -> Result<Pinned, Failure> {
    let stranger = |instance: &InstanceId| {
        Failure::new(format!("another service answers at {}: instance {instance}", api.url()))
            .hint("somebody may be in between; ask an administrator before you trust it")
    };
    if let Some(wanted) = context.config.instance.as_ref().filter(|wanted| **wanted != now.instance) {
        return Err(stranger(&now.instance).hint(format!("instance {wanted} is configured")));
    }
    let Some(chain) = known else {
        let chain = api.follow(None)?;
        let trust = chain.newest();
        if trust.instance != now.instance {
            return Err(stranger(&trust.instance));
        }
        let ca = trust.user_ca.first().map(|key| key.fingerprint().to_string()).unwrap_or_default();
        context.ui.say(format_args!("first contact with {}: instance {}, user CA {ca}", api.url(), trust.instance));
        return Ok(Pinned { chain, new: true });
    };
    match chain.newest() {
        trust if trust.instance != now.instance => Err(stranger(&now.instance)),
        trust if trust.number == now.trust => Ok(Pinned { chain, new: false }),
        _ => Ok(Pinned { chain: api.follow(Some(chain))?, new: true }),
    }
}

/// An address of a service, and not something else that was mistyped.
pub(super) fn address(url: &str) -> Result<&str, Failure> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(url);
    }
    Err(Failure::misuse(format!("server: {url:?} is no address of a service"))
        .hint("write http://HOST:PORT or https://HOST"))
}

impl<'c> Person<'c> {
    /// Finds out who asks and whom; opens no key yet.
    pub(super) fn open(context: &'c Context) -> Result<Self, Failure> {
        let name = user(context)?;
        Ok(Self { context, service: Service::open(context)?, name, identity: None })
    }

    /// The same to break the glass.
    pub(super) fn open_for_emergency(context: &'c Context) -> Result<Self, Failure> {
        let name = user(context)?;
        Ok(Self { context, service: Service::open_for_emergency(context)?, name, identity: None })
    }

    /// The service's time, whatever this machine's clock says; and how far the service's is ahead of it, where that is
    /// too much for anything else to be signed.
    pub(super) fn now_all_the_same(&self) -> (Timestamp, Option<i64>) {
        let ahead = self.service.ahead();
        (self.service.now(self.context), (ahead.abs() > CLOCK_OFF).then_some(ahead))
    }

    /// The service's time, refused when this machine's clock is far off: it would date what is signed.
    pub(super) fn now(&self) -> Result<Timestamp, Failure> {
        let (now, off) = self.now_all_the_same();
        let Some(off) = off else { return Ok(now) };
        Err(Failure::new(format!("this machine's clock is {} s off the service's, so nothing is signed", off.abs()))
            .hint("set the clock; if it is right, the service's is wrong: tell an administrator"))
    }

    /// The agent, if there is one.
    pub(super) fn agent(&self) -> Option<Agent> {
        self.context.agent()
    }

    /// The person's everyday key.
    pub(super) fn public_key(&mut self) -> Result<PublicKey, Failure> {
        Ok(self.identity()?.public_key().clone())
    }

    /// Signs a statement with the person's everyday key.
    pub(super) fn sign<T: Statement>(&mut self, statement: &T) -> Result<SignedText, Failure> {
        self.sign_bytes::<T>(statement::to_bytes(statement))
    }

    /// Signs a statement that was written elsewhere, as it stands.
    pub(super) fn sign_text<T: Statement>(&mut self, text: String) -> Result<SignedText, Failure> {
        self.sign_bytes::<T>(text.into_bytes())
    }

    fn sign_bytes<T: Statement>(&mut self, bytes: Vec<u8>) -> Result<SignedText, Failure> {
        let ui = self.context.ui;
        let identity = self.identity()?;
        if identity.public_key().application().is_some() {
            ui.say("touch your security key");
        }
        let signature = identity.sign(T::KIND.namespace(), &bytes)?;
        Ok(text(bytes, &signature))
    }

    fn identity(&mut self) -> Result<&mut Identity, Failure> {
        if self.identity.is_none() {
            let path = self.context.config.identity.clone().ok_or_else(|| {
                Failure::misuse("your key is not known")
                    .hint("ssh-jit setup --identity FILE, or --identity FILE, or SSH_JIT_IDENTITY")
            })?;
            self.identity = Some(Identity::open(&path, self.agent(), &super::ui::ask_passphrase)?);
        }
        self.identity.as_mut().ok_or_else(|| Failure::new("no key"))
    }

    /// Reads with a bearer, bought when there is none that counts.
    pub(super) fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let bearer = self.bearer()?;
        match self.service.api.get_as(path, &bearer) {
            // The service may have forgotten it, or the policy the key: try once more from the start.
            Err(ApiError::Refused { status: 401, .. }) => {
                self.service.state.forget_session(&self.name)?;
                let bearer = self.bearer()?;
                Ok(self.service.api.get_as(path, &bearer)?)
            }
            other => Ok(other?),
        }
    }

    fn bearer(&mut self) -> Result<String, Failure> {
        let now = self.now()?;
        if let Some(saved) = self.service.state.session(&self.name, now)? {
            return Ok(saved.bearer);
        }
        let statement = Session {
            v: Version,
            kind: Is,
            instance: self.service.trust.instance.clone(),
            person: self.name.clone(),
            nonce: random::nonce(),
            at: now,
        };
        let signed = self.sign(&statement)?;
        let bought: SessionView = self.service.api.post("/v1/sessions", &signed)?;
        let saved = SavedSession { bearer: bought.bearer, person: self.name.clone(), until: bought.until };
        self.service.state.set_session(&saved)?;
        Ok(saved.bearer)
    }

    /// Checks a certificate against the trust document that was pinned; against the newest one if its CA is not there:
    /// it may have changed while this person waited.
    pub(super) fn checked(&self, check: impl Fn(&Trust) -> Result<Checked, Surprise>) -> Result<Checked, Failure> {
        match check(&self.service.trust) {
            Err(Surprise("CA")) => {
                let Service { api, state, .. } = &self.service;
                Ok(check(&Service::at(self.context, api.url(), state.clone())?.trust)?)
            }
            other => Ok(other?),
        }
    }

    /// What every statement begins with.
    pub(super) fn preamble(&self) -> Result<(InstanceId, PersonName, Nonce, Timestamp), Failure> {
        Ok((self.service.trust.instance.clone(), self.name.clone(), random::nonce(), self.now()?))
    }
}

/// The person's name in the policy.
fn user(context: &Context) -> Result<PersonName, Failure> {
    context.config.user.clone().ok_or_else(|| {
        Failure::misuse("your name in the policy is not known").hint("ssh-jit setup, or --user NAME, or SSH_JIT_USER")
    })
}

impl Context {
    /// The agent, if there is one.
    pub(super) fn agent(&self) -> Option<Agent> {
        self.environment.agent.as_deref().and_then(|path| Agent::connect(path).ok())
    }
}

/// A statement's bytes and their signature, as they travel.
pub(super) fn text(bytes: Vec<u8>, signature: &SshSig) -> SignedText {
    (&Signed::new(bytes, signature.clone())).into()
}

/// A request's id as a person types it.
pub(super) fn request_id(typed: &str) -> Result<RequestId, Failure> {
    RequestId::from_typed(typed).map_err(|e| Failure::misuse(e).hint("ssh-jit status lists your requests"))
}

impl From<Unfollowed> for Failure {
    fn from(error: Unfollowed) -> Self {
        match error {
            Unfollowed::Api(error) => error.into(),
            Unfollowed::Refused(refusal) => refusal.into(),
        }
    }
}
