//! The web form: pages for people, and the few calls that their script makes. A page changes nothing;
//! what changes something is a statement signed by a passkey.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, PersonName, RequestId};
use crate::domain::passkey::{Assertion, LONGEST_ENROLMENT};
use crate::domain::refusal::Refusal;
use crate::domain::statement::{self, Approval, Decision, Enrolment, Is, Session, Statement, Version, Withdrawal};
use crate::domain::text::Comment;
use crate::domain::time::{Seconds, Timestamp};
use crate::random;
use crate::service::{Choice, Holder, Listing, Opened, Service};
use crate::wire::Changed;

use super::answer::Failure;
use super::extract::{Body, Named, Reader};
use super::pages::{self, Asked, Frame, List, ListRow, Message, page};

type On = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Failure>;

/// The longest that a page waits for a change before it asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/app.js");

fn asset(kind: &'static str, text: &'static str) -> impl axum::response::IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE).into_response()
}

pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT).into_response()
}

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

impl Next {
    /// A path of ours, and nothing that a browser could take for another site.
    pub(super) fn of_ours(self) -> String {
        let next = self.next;
        let ours = next.starts_with('/') && next.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-".contains(&b));
        if ours && !next.starts_with("//") { next } else { "/".to_owned() }
    }
}

pub(super) async fn sign_in(State(service): On, Query(next): Query<Next>) -> Response {
    let provider = service.provider_host().map(str::to_owned);
    page(&pages::SignIn { frame: Frame::nobody(), next: next.of_ours(), provider })
}

pub(super) async fn enrol() -> Response {
    page(&pages::Enrol { frame: Frame::nobody() })
}

pub(super) async fn queue(State(service): On, Reader(caller): Reader) -> Result<Response, Failure> {
    let seen = service.changes();
    let waiting = service.requests(&caller, Listing::Pending).await?;
    let mine = waiting.iter().filter(|info| info.approvers.contains(&caller.person));
    let open = mine.filter(|info| !info.decisions.iter().any(|d| d.person == caller.person));
    let requests = open.map(Asked::of).collect();
    Ok(page(&pages::Queue { frame: Frame::of(&caller, "/", seen), requests }))
}

pub(super) async fn request(State(service): On, Reader(caller): Reader, Named(id): Named) -> Result<Response, Failure> {
    let frame = Frame::of(&caller, "", service.changes());
    let Ok((info, events)) = service.request(&caller, &id).await else {
        let text = "There is no request of this id that you may see.".to_owned();
        return Ok((StatusCode::NOT_FOUND, page(&Message { frame, title: "No such request", text })).into_response());
    };
    let history = service.history(&info).await?;
    let next = service.next_in_queue(&caller, &id).await?;
    Ok(page(&pages::Request::of(frame, &caller, &info, &events, &history, next)))
}

pub(super) async fn mine(State(service): On, Reader(caller): Reader) -> Result<Response, Failure> {
    let frame = Frame::of(&caller, "/mine", service.changes());
    let rows = service.requests(&caller, Listing::Mine).await?.iter().map(ListRow::mine).collect();
    Ok(page(&List { frame, title: "My requests", nothing: "Nothing of yours is open.", rows }))
}

pub(super) async fn active(State(service): On, Reader(caller): Reader) -> Result<Response, Failure> {
    let frame = Frame::of(&caller, "/active", service.changes());
    let rows = service.requests(&caller, Listing::Active).await?.iter().map(ListRow::active).collect();
    Ok(page(&List { frame, title: "Who has access now", nothing: "Nobody that you may see.", rows }))
}

pub(super) async fn emergencies(State(service): On, Reader(caller): Reader) -> Result<Response, Failure> {
    let frame = Frame::of(&caller, "/emergencies", service.changes());
    let rows = service.emergencies(false).await?.iter().map(ListRow::emergency).collect();
    Ok(page(&List { frame, title: "Broken glass", nothing: "The glass was never broken.", rows }))
}

pub(super) async fn roles(State(service): On, Reader(caller): Reader) -> Response {
    let frame = Frame::of(&caller, "/roles", service.changes());
    let rows = service.roles(&caller).iter().map(ListRow::role).collect();
    page(&List { frame, title: "Roles", nothing: "The policy names you in no role.", rows })
}

pub(super) async fn log(State(service): On, Reader(caller): Reader) -> Result<Response, Failure> {
    let frame = Frame::of(&caller, "/log", service.changes());
    let size = service.head().await?.size;
    let Ok(latest) = service.events(&caller, size.saturating_sub(99).max(1), 100).await else {
        let text = "The log is for those with the duty auditors or admins.".to_owned();
        return Ok((StatusCode::FORBIDDEN, page(&Message { frame, title: "Not for you", text })).into_response());
    };
    let rows = latest.iter().rev().filter_map(ListRow::event).collect();
    Ok(page(&List { frame, title: "The log's latest events", nothing: "Nothing happened yet.", rows }))
}

#[derive(Deserialize)]
pub(super) struct Seen {
    seen: u64,
}

/// Answers when something changed after `seen`, or after a while.
pub(super) async fn changes(State(service): On, _: Reader, Query(seen): Query<Seen>) -> String {
    service.changed_after(seen.seen, LONGEST_WAIT).await.to_string()
}

#[derive(Deserialize)]
pub(super) struct Who {
    person: PersonName,
}

/// The names of somebody's passkeys. For a stranger there are none, as for somebody who has none.
pub(super) async fn passkeys(State(service): On, Query(who): Query<Who>) -> Answer<Vec<String>> {
    let found = service.passkeys_of(&who.person).await?;
    Ok(Json(found.iter().map(|passkey| base64url(&passkey.credential)).collect()))
}

/// A statement to be signed.
#[derive(Serialize)]
pub(super) struct Draft {
    text: String,
}

impl Draft {
    fn of(statement: &impl Statement) -> Json<Self> {
        Json(Self { text: String::from_utf8_lossy(&statement::to_bytes(statement)).into_owned() })
    }
}

pub(super) async fn draft_session(State(service): On, Query(who): Query<Who>) -> Json<Draft> {
    Draft::of(&service.draft_session(who.person))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    id: RequestId,
    decision: Decision,
    seconds: Option<Seconds>,
    hosts: Vec<HostName>,
    comment: Comment,
}

pub(super) async fn draft_decision(
    State(service): On,
    Reader(caller): Reader,
    Body(chosen): Body<Chosen>,
) -> Answer<Draft> {
    let Chosen { id, decision, seconds, hosts, comment } = chosen;
    let choice = Choice { decision, seconds, hosts, comment };
    Ok(Draft::of(&service.draft_decision(&caller, &id, choice).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    id: RequestId,
}

pub(super) async fn draft_withdrawal(
    State(service): On,
    Reader(caller): Reader,
    Body(which): Body<Which>,
) -> Answer<Draft> {
    Ok(Draft::of(&service.draft_withdrawal(&caller, &which.id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToEnrol {
    person: PersonName,
    ssh_key: crate::domain::digest::Digest,
    key: PublicKey,
}

pub(super) async fn draft_enrolment(State(service): On, Body(asked): Body<ToEnrol>) -> Answer<Draft> {
    let now = service.now().second();
    let application = service.settings().relying_party().parse().map_err(Refusal::from)?;
    let (instance, nonce) = (service.trust().instance.clone(), random::nonce());
    let ToEnrol { person, ssh_key, key } = asked;
    let until = now.plus(LONGEST_ENROLMENT);
    Ok(Draft::of(&Enrolment {
        v: Version,
        kind: Is,
        instance,
        person,
        key,
        application,
        ssh_key,
        until,
        nonce,
        at: now,
    }))
}

/// What a browser signed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FromBrowser {
    text: String,
    credential: String,
    assertion: Assertion,
}

impl FromBrowser {
    async fn signed<T: Statement>(self, service: &Service) -> Result<crate::domain::verify::Signed, Failure> {
        let credential = unbase64url(&self.credential).ok_or(Refusal::UnknownKey)?;
        Ok(service.from_browser::<T>(self.text, &credential, &self.assertion).await?)
    }
}

/// The cookie that holds a session's bearer.
pub(super) const COOKIE: &str = "__Host-session";

pub(super) async fn open_session(State(service): On, Body(posted): Body<FromBrowser>) -> Result<Response, Failure> {
    let signed = posted.signed::<Session>(&service).await?;
    let opened = service.open_session(signed, Holder::Browser).await?;
    let cookie = session_cookie(&opened, service.now().second());
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Json(serde_json::json!({ "until": opened.until }))).into_response())
}

/// The browser keeps it to the very end; that it ends earlier when it is not used is for the service to know.
pub(super) fn session_cookie(opened: &Opened, now: Timestamp) -> String {
    let (bearer, life) = (opened.bearer.as_str(), opened.ends.since(now));
    format!("{COOKIE}={bearer}; Max-Age={life}; Path=/; Secure; HttpOnly; SameSite=Strict")
}

pub(super) async fn sign_out(State(service): On, headers: HeaderMap) -> Result<Response, Failure> {
    if let Some(bearer) = cookie(&headers, COOKIE) {
        service.close_session(&bearer).await?;
    }
    let cookie = format!("{COOKIE}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict");
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), StatusCode::NO_CONTENT).into_response())
}

pub(super) async fn decide(State(service): On, Body(posted): Body<FromBrowser>) -> Answer<Changed> {
    let signed = posted.signed::<Approval>(&service).await?;
    let (id, state) = service.decide(signed).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn withdraw(State(service): On, Body(posted): Body<FromBrowser>) -> Answer<Changed> {
    let signed = posted.signed::<Withdrawal>(&service).await?;
    let (id, state) = service.withdraw(signed).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

/// A cookie of a request for a page.
pub(super) fn cookie(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let values = headers.get_all(HeaderName::from_static("cookie")).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split("; ")).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

/// To the sign-in page, and back.
pub(super) fn to_sign_in(path: &str) -> Response {
    Redirect::to(&format!("/sign-in?next={path}")).into_response()
}

/// Leaves what a passkey signed for the terminal that made up the code.
pub(super) async fn leave_enrolment(
    State(service): On,
    Path(code): Path<String>,
    Body(letter): Body<serde_json::Value>,
) -> Result<StatusCode, Failure> {
    service.leave_letter(code, letter)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows it to whoever knows the code.
pub(super) async fn left_enrolment(State(service): On, Path(code): Path<String>) -> Answer<serde_json::Value> {
    Ok(Json(service.letter(&code).ok_or(Refusal::UnknownRequest)?))
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unbase64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
