//! Extractors: what a handler cannot do without, it cannot compile without.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;

use serde::de::DeserializeOwned;

use crate::config::Proxies;
use crate::domain::names::RequestId;
use crate::domain::policy::Duty;
use crate::domain::refusal::Refusal;
use crate::domain::verify::Signed;
use crate::domain::webhook::{self, Delivery};
use crate::service::{Caller, Error, Glass, Service, Settings};
use crate::wire::SignedText;

use super::answer::{self, Failure};
use super::limits::Limits;
use super::web;

/// A signed statement: the whole body of every request that changes something.
pub(super) struct Statement(pub(super) Signed);

impl<S: Send + Sync> FromRequest<S> for Statement {
    type Rejection = Failure;
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let Body(text) = Body::<SignedText>::from_request(request, state).await?;
        Ok(Self(Signed::try_from(&text)?))
    }
}

/// A body of JSON, of no more fields than are known.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = body_of(request, state).await?;
        let parsed = serde_json::from_slice(&body);
        parsed.map(Self).map_err(|e| Failure::new(StatusCode::BAD_REQUEST, "malformed", format!("body: {e}")))
    }
}

async fn body_of<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Failure> {
    let within = request.extensions().get::<Limits>().copied().unwrap_or_default().body_within;
    // As a whole: a byte now and then would be progress for ever.
    let body = tokio::time::timeout(within, Bytes::from_request(request, state)).await;
    let late = |_| Failure::new(StatusCode::REQUEST_TIMEOUT, "body", "body: it did not arrive in time");
    let unread = "body: it could not be read, or is longer than 128 KiB";
    body.map_err(late)?.map_err(|e| Failure::new(e.status(), "body", unread))
}

/// A webhook, at the address of its source: the body verbatim, and the headers that sign it.
pub(super) struct Webhook(pub(super) Delivery);

impl<S: Send + Sync> FromRequest<S> for Webhook {
    type Rejection = Failure;
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let source = Path::<String>::from_request_parts(&mut parts, state).await.map(|Path(source)| source);
        let source = source.ok().and_then(|source| source.parse().ok()).ok_or(Refusal::UnknownSource)?;
        let header = |name| {
            // Twice is refused: which of the two was signed?
            let mut values = parts.headers.get_all(name).iter();
            let text = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
            text.map(str::to_owned).ok_or(Refusal::WebhookHeader { name })
        };
        let (id, sent) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signature = header("webhook-signature")?;
        let body = body_of(Request::from_parts(parts, body), state).await?;
        if body.len() > webhook::LONGEST_BODY {
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body", "body: a message has at most 16 KiB"));
        }
        Ok(Self(Delivery::new(source, &id, &sent, &signature, body.to_vec())?))
    }
}

/// The request that a path names.
pub(super) struct Named(pub(super) RequestId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let unknown = || Failure::from(Refusal::UnknownRequest);
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| unknown())?;
        // Not what a person typed, but what a client sends: one spelling, one answer.
        id.parse().map(Self).map_err(|_| unknown())
    }
}

/// Where a call comes from: the peer, or whom a trusted proxy names; `None` when that is not known.
pub(super) struct Peer(pub(super) Option<IpAddr>);

impl FromRequestParts<Arc<Service>> for Peer {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Infallible> {
        Ok(Self::of(parts, &service.settings().proxies))
    }
}

impl FromRequestParts<Arc<Glass>> for Peer {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, glass: &Arc<Glass>) -> Result<Self, Infallible> {
        Ok(Self::of(parts, &glass.settings().proxies))
    }
}

impl Peer {
    fn of(parts: &Parts, proxies: &Proxies) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let forwarded = parts.headers.get_all("x-forwarded-for").iter().map(HeaderValue::to_str);
        let forwarded = forwarded.collect::<Result<Vec<_>, _>>().map(|lines| lines.join(","));
        // A header that cannot be read is one that says nothing.
        Self(peer.and_then(|peer| proxies.client(peer, &forwarded.unwrap_or_default())))
    }
}

/// The token of an `Authorization: Bearer` header.
pub(super) struct Bearer(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        bearer(&parts.headers).map(Self).ok_or_else(|| Error::Unauthenticated.into())
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

/// Who is reading. Only [`signed_in`] puts one there, so a handler whose route does not say that it
/// needs a session gets none.
pub(super) struct Reader(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Caller>().cloned().map(Self).ok_or_else(|| Error::Unauthenticated.into())
    }
}

type Guard = (Arc<Service>, &'static [Duty]);

/// Puts the guard of a route that needs a session before its handler: finds the caller, and refuses
/// who has none of `duties`.
pub(super) fn signed_in(
    handler: MethodRouter<Arc<Service>>,
    service: &Arc<Service>,
    duties: &'static [Duty],
) -> MethodRouter<Arc<Service>> {
    handler.route_layer(middleware::from_fn_with_state((Arc::clone(service), duties), guard))
}

async fn guard(State((service, duties)): State<Guard>, mut request: Request, next: Next) -> Response {
    let caller = match bearer(request.headers()) {
        Some(token) => service.caller(&token).await,
        None => Err(Error::Unauthenticated),
    };
    let allowed = caller.and_then(|caller| {
        if !duties.is_empty() {
            caller.needs(duties)?;
        }
        Ok(caller)
    });
    match allowed {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => Failure::from(error).into_response(),
    }
}

/// Puts the guard of a page before its handler: the session comes from the cookie, and who has none is
/// sent to sign in. The script's calls are told so instead.
///
/// What is posted carries the form token of the session's own pages: a second line behind the origin and
/// the cookie's SameSite, should a browser get one of those wrong.
pub(super) fn in_browser(handler: MethodRouter<Arc<Service>>, service: &Arc<Service>) -> MethodRouter<Arc<Service>> {
    handler.route_layer(middleware::from_fn_with_state(Arc::clone(service), page_guard))
}

async fn page_guard(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let caller = match web::cookie(request.headers(), web::COOKIE) {
        Some(token) => service.caller(&token).await,
        None => Err(Error::Unauthenticated),
    };
    match caller {
        Ok(caller) if request.method() != Method::GET && !from_its_form(request.headers(), &caller) => {
            let message = "this call did not come from a page of this session; reload the page";
            Failure::new(StatusCode::FORBIDDEN, "form-token", message).into_response()
        }
        Ok(caller) => {
            if is_use(&request) {
                service.used(&caller).await;
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(Error::Unauthenticated) if !request.uri().path().starts_with("/web/") => {
            web::to_sign_in(request.uri().path())
        }
        Err(error) => Failure::from(error).into_response(),
    }
}

fn from_its_form(headers: &HeaderMap, caller: &Caller) -> bool {
    headers.get("x-form-token").is_some_and(|token| caller.sent(token.as_bytes()))
}

/// Whether a person does this. What a page does by itself must not keep the session of somebody who left:
/// waiting for changes, and loading itself again, which it says by `live`.
fn is_use(request: &Request) -> bool {
    let live =
        request.uri().query().is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("live")));
    request.uri().path() != "/web/changes" && !live
}

/// Puts the check of host and origin before a page or a call of its script.
pub(super) fn from_our_pages(
    handler: MethodRouter<Arc<Service>>,
    service: &Arc<Service>,
) -> MethodRouter<Arc<Service>> {
    handler.route_layer(middleware::from_fn_with_state(Arc::clone(service), same_site))
}

/// Browsers reach the pages by the configured name only (a rebound DNS name would carry no cookie, but
/// could still read what needs none), and what a page sends comes from a page of ours.
async fn same_site(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    match foreign(request.method(), request.headers(), service.settings()) {
        Some(failure) => failure.into_response(),
        None => next.run(request).await,
    }
}

fn foreign(method: &Method, headers: &HeaderMap, settings: &Settings) -> Option<Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("host") != Some(settings.authority()) {
        let message = format!("this service is found at {}", settings.origin);
        return Some(Failure::new(StatusCode::MISDIRECTED_REQUEST, "other-host", message));
    }
    // A browser says where a POST comes from; a missing or null origin is not ours.
    let ours = text("origin") == Some(&settings.origin) && matches!(text("sec-fetch-site"), None | Some("same-origin"));
    let message = "this call did not come from a page of this service";
    (method != Method::GET && !ours).then(|| Failure::new(StatusCode::FORBIDDEN, "cross-site", message))
}

/// What every answer tells browsers: load nothing from elsewhere, run no other script, frame nothing, and come
/// by HTTPS for a year where that is how people open the service.
pub(super) async fn harden(State(https): State<bool>, request: Request, next: Next) -> Response {
    let a_page = wants_a_page(&request);
    let mut response = match ambiguous(request.headers()) {
        Some(failure) => ([(CONNECTION, "close")], failure).into_response(),
        None => next.run(request).await,
    };
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let html = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/html");
    if a_page && failed && !response.headers().get(CONTENT_TYPE).is_some_and(html) {
        response = answer::as_page(response);
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// What a proxy before this service may read otherwise, so that it would take the end of one request for the
/// beginning of another, or ask another host's rules about it. No client of ours sends any of it.
fn ambiguous(headers: &HeaderMap) -> Option<Failure> {
    if headers.contains_key(TRANSFER_ENCODING) {
        let message = "transfer-encoding: send the whole length as content-length";
        return Some(Failure::new(StatusCode::LENGTH_REQUIRED, "length-required", message));
    }
    let hosts = headers.get_all(HOST).iter().count();
    (hosts > 1).then(|| Failure::new(StatusCode::BAD_REQUEST, "host", "host: it stands there more than once"))
}

/// Whether a person looks at this address, and not a script or a client of the API.
fn wants_a_page(request: &Request) -> bool {
    let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let path = request.uri().path();
    accepts.is_some_and(|kinds| kinds.contains("text/html")) && !path.starts_with("/v1/") && !path.starts_with("/web/")
}

const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), geolocation=(), microphone=()",
    ),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];
