//! Sign-in with an identity provider: OpenID Connect's code flow with PKCE. Its word opens a session that
//! reads, and nothing else; what is decided is signed by keys that the policy names, as always. A provider
//! that is down, slow or lying keeps nobody from anything else.

use std::collections::{BTreeSet, VecDeque};
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreIdTokenVerifier,
    CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::url::Url;
use openidconnect::{
    AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ConfigurationError, CsrfToken, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, TokenResponse as _,
};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config::{OidcConfig, is_confidential};
use crate::domain::digest::Digest;
use crate::domain::names::{GroupName, PersonName};
use crate::domain::text::visible;
use crate::domain::time::Timestamp;
use crate::outgoing;
use crate::random;

use super::{Error, Opened, Service};

/// Where the provider sends browsers back to.
const BACK: &str = "/sign-in/oidc/back";
/// So many sign-ins may be under way; the oldest makes room, so that strangers cannot fill the memory.
const MOST_ATTEMPTS: usize = 256;
/// How long somebody may take at the provider, in seconds.
const ATTEMPT_LASTS: i64 = 10 * 60;
/// How long the provider's description and keys are used before they are read again, in seconds.
const KNOWN_FOR: i64 = 3600;
/// How long the provider may take to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// No answer of a provider is longer.
const LONGEST_ANSWER: u64 = 1024 * 1024;
/// So many calls of the provider at once: one that hangs must not use up the threads that others read with.
const TURNS: usize = 8;
/// So much of what a provider says is shown.
const LONGEST_SAYING: usize = 200;

/// Why nobody was signed in. What a page may tell; the rest is for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The configuration names no provider, or the policy allows none.
    #[error("sign-in with a provider is not offered here")]
    NotOffered,
    /// The provider does not answer as it should.
    #[error("the provider does not work now")]
    Unavailable,
    /// Not what this browser began, or it took too long.
    #[error("this browser began no such sign-in, or it is over")]
    NotBegun,
    /// The provider says no, in these words.
    #[error("the provider refused: {0}")]
    Denied(String),
    /// What the provider says does not hold.
    #[error("what the provider says cannot be believed")]
    Doubtful,
    /// The policy has no such person who may read on the provider's word.
    #[error("the policy has no such person")]
    Stranger,
    /// The session could not be kept.
    #[error(transparent)]
    Service(#[from] Error),
}

/// A sign-in that was begun.
pub struct Begun {
    /// Where the browser goes.
    pub to: String,
    /// What it must show when it comes back, in a cookie.
    pub cookie: Zeroizing<String>,
}

/// What the browser brings back from the provider.
#[derive(Debug, Default)]
pub struct BroughtBack {
    /// The cookie that it was given.
    pub cookie: Option<String>,
    /// Which sign-in.
    pub state: String,
    /// What can be exchanged for the provider's word.
    pub code: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

/// The provider's word about somebody, verified but not believed further than the policy says.
struct Word {
    person: Option<PersonName>,
    groups: BTreeSet<GroupName>,
}

/// A sign-in under way.
struct Attempt {
    state: String,
    cookie: Digest,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    next: String,
    began: Timestamp,
}

/// The provider as this service knows it.
pub(super) struct Provider {
    config: OidcConfig,
    host: String,
    issuer: IssuerUrl,
    back: RedirectUrl,
    agent: ureq::Agent,
    known: Mutex<Option<(Timestamp, CoreProviderMetadata)>>,
    attempts: Mutex<VecDeque<Attempt>>,
    turns: Arc<Semaphore>,
}

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

impl Service {
    fn provider(&self) -> Result<&Provider, SignInError> {
        let allowed = self.policy().claimable().is_some();
        self.provider.as_ref().filter(|_| allowed).ok_or(SignInError::NotOffered)
    }

    /// The host of the provider that people may sign in with, to read.
    pub fn provider_host(&self) -> Option<&str> {
        self.provider().ok().map(|provider| provider.host.as_str())
    }

    /// Whether this is the provider that people sign in with now.
    pub(super) fn is_provider(&self, issuer: &str) -> bool {
        self.provider().is_ok_and(|provider| provider.config.issuer == issuer)
    }

    /// Begins a sign-in that leads to the page `next`.
    pub async fn begin_sign_in(self: &Arc<Self>, next: String) -> Result<Begun, SignInError> {
        let now = self.clock.now().second();
        self.at_provider(move |provider| provider.begin(next, now)).await
    }

    /// Ends a sign-in: has the provider say who it is, and opens a session. Gives the page it leads to.
    pub async fn finish_sign_in(self: &Arc<Self>, brought: BroughtBack) -> Result<(Opened, String), SignInError> {
        let now = self.clock.now().second();
        let attempt = self.provider()?.take(&brought, now).ok_or(SignInError::NotBegun)?;
        if let Some(error) = brought.error {
            return Err(SignInError::Denied(saying(&error)));
        }
        let (code, next) = (brought.code.ok_or(SignInError::NotBegun)?, attempt.next.clone());
        let word = self.at_provider(move |provider| provider.redeem(code, attempt, now)).await?;
        let (policy, issuer) = (self.policy(), self.provider()?.config.issuer.clone());
        let person = word.person.filter(|person| policy.may_read_on_word(person)).ok_or(SignInError::Stranger)?;
        let groups = policy.claimable().map(|claimable| word.groups.intersection(claimable).cloned().collect());
        Ok((self.open_session_on_word(person, issuer, groups.unwrap_or_default()).await?, next))
    }

    /// Runs what talks to the provider where it keeps nobody else waiting.
    async fn at_provider<T: Send + 'static>(
        self: &Arc<Self>,
        talk: impl FnOnce(&Provider) -> Result<T, SignInError> + Send + 'static,
    ) -> Result<T, SignInError> {
        let turns = Arc::clone(&self.provider()?.turns);
        let turn = turns.try_acquire_owned().map_err(|_| SignInError::Unavailable)?;
        let service = Arc::clone(self);
        let talked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            talk(service.provider()?)
        });
        talked.await.unwrap_or(Err(SignInError::Unavailable))
    }
}

impl Provider {
    /// The provider of the configuration. Nothing is asked of it yet.
    pub(super) fn new(config: OidcConfig, origin: &str) -> Result<Self, Error> {
        let unusable = |e: &dyn StdError| Error::Setup(format!("oidc.issuer: {e}"));
        let issuer = IssuerUrl::new(config.issuer.clone()).map_err(|e| unusable(&e))?;
        let back = RedirectUrl::new(format!("{origin}{BACK}")).map_err(|e| unusable(&e))?;
        Ok(Self {
            host: issuer.url().host_str().unwrap_or_default().to_owned(),
            agent: outgoing::agent(config.authorities.clone(), WITHIN),
            config,
            issuer,
            back,
            known: Mutex::default(),
            attempts: Mutex::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
        })
    }

    fn begin(&self, next: String, now: Timestamp) -> Result<Begun, SignInError> {
        let metadata = self.metadata(now)?;
        let cookie = random::token();
        let (state, verifier) = (random::token().to_string(), PkceCodeVerifier::new(random::token().to_string()));
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let (client, csrf) = (self.client(&metadata), CsrfToken::new(state.clone()));
        let nonce = || Nonce::new(random::token().to_string());
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let mut request = client.authorize_url(flow, move || csrf, nonce).set_pkce_challenge(challenge);
        request = request.add_scope(Scope::new("profile".to_owned()));
        let groups = Scope::new("groups".to_owned());
        if metadata.scopes_supported().is_some_and(|known| known.contains(&groups)) {
            request = request.add_scope(groups);
        }
        let (to, _, nonce) = request.url();
        self.keep(Attempt { state, cookie: Digest::of(cookie.as_bytes()), nonce, verifier, next, began: now });
        Ok(Begun { to: to.into(), cookie })
    }

    fn keep(&self, attempt: Attempt) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.push_back(attempt);
        if attempts.len() > MOST_ATTEMPTS {
            attempts.pop_front();
        }
    }

    /// The sign-in that a browser comes back from: once, in time, and only in the browser that began it.
    /// Otherwise somebody could have another's browser finish a sign-in of theirs, and see what it does.
    fn take(&self, brought: &BroughtBack, now: Timestamp) -> Option<Attempt> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.retain(|attempt| now.since(attempt.began) <= ATTEMPT_LASTS);
        let which = |attempt: &Attempt| attempt.state.as_bytes().ct_eq(brought.state.as_bytes()).into();
        let attempt = attempts.iter().position(which).and_then(|found| attempts.remove(found))?;
        let cookie = Digest::of(brought.cookie.as_deref()?.as_bytes());
        (cookie == attempt.cookie).then_some(attempt)
    }

    /// Exchanges the code for the provider's word.
    fn redeem(&self, code: String, attempt: Attempt, now: Timestamp) -> Result<Word, SignInError> {
        let metadata = self.metadata(now)?;
        let token = self.exchange(&metadata, code, attempt.verifier)?;
        let verified = match self.verify(&metadata, &token, &attempt.nonce, now) {
            // The provider may have changed its keys since they were read.
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                self.verify(&self.discover(now)?, &token, &attempt.nonce, now)
            }
            other => other,
        };
        verified.map_err(|e| {
            tracing::warn!(provider = self.host, reason = told(&e), "an ID token was refused");
            SignInError::Doubtful
        })?;
        Ok(self.word(&token))
    }

    fn exchange(
        &self,
        metadata: &CoreProviderMetadata,
        code: String,
        verifier: PkceCodeVerifier,
    ) -> Result<CoreIdToken, SignInError> {
        let client = self.client(metadata);
        let request = client.exchange_code(AuthorizationCode::new(code));
        let request = request.map_err(|e: ConfigurationError| self.failed(&told(&e)))?;
        match request.set_pkce_verifier(verifier).request(&|request| self.call(request)) {
            Ok(answer) => answer.id_token().cloned().ok_or_else(|| self.failed("it gave no id_token")),
            // No more than the code of the error: what it says besides may repeat what it was sent, secret included.
            Err(RequestTokenError::ServerResponse(no)) => Err(SignInError::Denied(saying(no.error().as_ref()))),
            Err(error) => Err(self.failed(&told(&error))),
        }
    }

    /// OpenID Connect Core 3.1.3.7. The verifier is that of a client without a secret whatever this one has,
    /// and the algorithms are named: a token signed with the secret, or with nothing, is none.
    fn verify(
        &self,
        metadata: &CoreProviderMetadata,
        token: &CoreIdToken,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<(), ClaimsVerificationError> {
        let client_id = ClientId::new(self.config.client_id.clone());
        let verifier = CoreIdTokenVerifier::new_public_client(client_id, self.issuer.clone(), metadata.jwks().clone())
            .set_allowed_algs([
                CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
                CoreJwsSigningAlgorithm::EcdsaP256Sha256,
                CoreJwsSigningAlgorithm::EdDsa,
            ])
            .set_time_fn(move || now.to_utc());
        token.claims(&verifier, nonce).map(|_| ())
    }

    /// The two claims that count, of a token that was verified. Which they are is configured, so they are
    /// read from the signed payload by name.
    fn word(&self, token: &CoreIdToken) -> Word {
        let text = token.to_string();
        let payload = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
        let claims: Map<String, Value> = serde_json::from_slice(&payload).unwrap_or_default();
        let person = claims.get(&self.config.person_claim).and_then(Value::as_str).and_then(|name| name.parse().ok());
        if person.is_none() {
            tracing::warn!(provider = self.host, claim = self.config.person_claim, "an ID token names nobody");
        }
        let groups = match claims.get(&self.config.groups_claim) {
            Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(group)) => vec![group.as_str()],
            _ => Vec::new(),
        };
        Word { person, groups: groups.into_iter().filter_map(|group| group.parse().ok()).collect() }
    }

    fn client(&self, metadata: &CoreProviderMetadata) -> Client {
        let (id, secret) = (ClientId::new(self.config.client_id.clone()), self.config.client_secret.clone());
        let client = CoreClient::from_provider_metadata(metadata.clone(), id, secret);
        let client = client.set_redirect_uri(self.back.clone());
        let methods = metadata.token_endpoint_auth_methods_supported().map(Vec::as_slice).unwrap_or_default();
        let only_by_post = methods.contains(&CoreClientAuthMethod::ClientSecretPost)
            && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic);
        if only_by_post { client.set_auth_type(AuthType::RequestBody) } else { client }
    }

    /// What the provider says of itself, read an hour ago at most.
    fn metadata(&self, now: Timestamp) -> Result<CoreProviderMetadata, SignInError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some((at, metadata)) if now.since(at) < KNOWN_FOR => Ok(metadata),
            _ => self.discover(now),
        }
    }

    fn discover(&self, now: Timestamp) -> Result<CoreProviderMetadata, SignInError> {
        let found = CoreProviderMetadata::discover(&self.issuer, &|request| self.call(request));
        let metadata = found.map_err(|e| self.failed(&told(&e)))?;
        if !is_confidential(metadata.authorization_endpoint().url()) {
            return Err(self.failed("its authorization_endpoint is neither https nor on loopback"));
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, metadata.clone()));
        Ok(metadata)
    }

    /// One call of the provider: no redirects, in confidence, bounded in time and length.
    fn call(&self, request: HttpRequest) -> Result<HttpResponse, CallError> {
        let url = request.uri().to_string();
        if !Url::parse(&url).is_ok_and(|url| is_confidential(&url)) {
            return Err(CallError::Open(url));
        }
        let (parts, body) = request.into_parts();
        let answer = if body.is_empty() {
            self.agent.run(ureq::http::Request::from_parts(parts, ()))
        } else {
            self.agent.run(ureq::http::Request::from_parts(parts, body))
        };
        let (parts, body) = answer?.into_parts();
        let body = body.into_with_config().limit(LONGEST_ANSWER).read_to_vec()?;
        Ok(HttpResponse::from_parts(parts, body))
    }

    fn failed(&self, reason: &str) -> SignInError {
        tracing::warn!(provider = self.host, reason = visible(reason), "the identity provider does not work");
        SignInError::Unavailable
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0} is neither https nor on loopback")]
    Open(String),
    #[error(transparent)]
    Http(#[from] ureq::Error),
}

/// An error and its causes, for the log.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    visible(&text)
}

/// A provider's words, for a page.
fn saying(text: &str) -> String {
    visible(&text.chars().take(LONGEST_SAYING).collect::<String>())
}
