//! The web form: pages for people. A page changes nothing; what changes something is a statement signed by a
//! passkey (`acts.rs`).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use crate::domain::names::RequestId;
use crate::domain::policy::Duty;
use crate::domain::refusal::Refusal;
use crate::domain::statement::Session;
use crate::domain::time::Timestamp;
use crate::service::{Caller, EmergencyInfo, Holder, Listing, Opened, Part, Service, Topic};

use super::acts::FromBrowser;
use super::answer::Failure;
use super::extract::{Body, Reader};
use super::pages::{self, Frame, Message, page};

type On = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Failure>;

/// The longest that a page waits for a change before it asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(50);
/// So many events come on one page of the log.
const LOG_PAGE: u64 = 80;

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// Where in a long list a page is: from 1.
#[derive(Deserialize)]
pub(super) struct At {
    #[serde(default = "first")]
    page: u32,
}

fn first() -> u32 {
    1
}

impl At {
    fn part(&self) -> Part {
        Part { skip: self.page.saturating_sub(1).saturating_mul(pages::ROWS), most: pages::ROWS }
    }
}

impl Next {
    /// A path of ours, and nothing that a browser could take for another site.
    pub(super) fn of_ours(self) -> String {
        let next = self.next;
        let ours = next.starts_with('/') && next.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-".contains(&b));
        if ours && !next.starts_with("//") { next } else { "/".to_owned() }
    }
}

/// The frame around a page for somebody who signed in. It notes how far the changes are before the page is read.
async fn frame(service: &Service, caller: &Caller, path: &'static str) -> Result<Frame, Failure> {
    let frame = Frame::of(caller, path, service.now().second(), service.changes());
    let frame = frame.alarmed(service.recent_alarms(caller).await?);
    Ok(if service.answers_for_emergencies(caller) { frame.awaiting(&service.open_reviews()) } else { frame })
}

pub(super) async fn sign_in(State(service): On, Query(next): Query<Next>) -> Response {
    let provider = service.provider_host().map(str::to_owned);
    page(&pages::SignIn { frame: Frame::nobody(), next: next.of_ours(), provider })
}

pub(super) async fn enrol() -> Response {
    page(&pages::Enrol { frame: Frame::nobody() })
}

pub(super) async fn queue(
    State(service): On,
    Reader(caller): Reader,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/").await?.warning(&service.channels().await?);
    let queue = service.listed(&caller, Listing::Queue, at.part()).await?;
    Ok(page(&pages::Queue::of(frame, &queue, service.proof().await?.as_ref(), at.page)))
}

pub(super) async fn request(
    State(service): On,
    Reader(caller): Reader,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "").await?.warning(&service.channels().await?);
    let found = match id.parse() {
        Ok(id) => service.request(&caller, &id).await.ok(),
        Err(_) => None,
    };
    let Some((info, events)) = found else {
        let text = "There is no request of this id that you may see.".to_owned();
        return Ok((StatusCode::NOT_FOUND, page(&Message { frame, title: "No such request", text })).into_response());
    };
    let (history, usage) = (service.history(&info).await?, service.usage().await?);
    // This one may be the first of them.
    let queue = service.listed(&caller, Listing::Queue, Part { skip: 0, most: 2 }).await?;
    let usual = (&history, &usage.of(&info.request.role));
    Ok(page(&pages::Request::of(frame, &caller, &info, &events, usual, &queue)))
}

pub(super) async fn mine(
    State(service): On,
    Reader(caller): Reader,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/mine").await?;
    let open = service.requests(&caller, Listing::Mine).await?;
    let ended = service.listed(&caller, Listing::Ended, at.part()).await?;
    Ok(page(&pages::Mine::of(frame, &open, &ended, at.page)))
}

pub(super) async fn active(
    State(service): On,
    Reader(caller): Reader,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/active").await?;
    let active = service.listed(&caller, Listing::Active, at.part()).await?;
    Ok(page(&pages::Active::of(frame, &active, at.page)))
}

pub(super) async fn emergencies(
    State(service): On,
    Reader(caller): Reader,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/emergencies").await?.warning(&service.channels().await?);
    let all = service.emergencies(false).await?;
    let may_hear = |used: &EmergencyInfo| service.may_acknowledge(&caller, used);
    Ok(page(&pages::Emergencies::of(frame, &caller, &all, may_hear, at.page)))
}

pub(super) async fn roles(
    State(service): On,
    Reader(caller): Reader,
    Query(at): Query<At>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/roles").await?;
    Ok(page(&pages::Roles::of(frame, &service.roles(&caller), &*service.usage().await?, at.page)))
}

pub(super) async fn passkeys(State(service): On, Reader(caller): Reader) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/passkeys").await?;
    Ok(page(&pages::Passkeys::of(frame, &service.passkeys(&caller).await?)))
}

#[derive(Deserialize)]
pub(super) struct Before {
    before: Option<u64>,
}

pub(super) async fn log(
    State(service): On,
    Reader(caller): Reader,
    Query(Before { before }): Query<Before>,
) -> Result<Response, Failure> {
    let frame = frame(&service, &caller, "/log").await?;
    let end = before.map_or(service.head().await?.size, |before| before.saturating_sub(1));
    let from = end.saturating_sub(LOG_PAGE - 1).max(1);
    let Ok(events) = service.events(&caller, from, u32::try_from(end + 1 - from).unwrap_or(0)).await else {
        let text = "The log is for those with the duty auditors or admins.".to_owned();
        return Ok((StatusCode::FORBIDDEN, page(&Message { frame, title: "Not for you", text })).into_response());
    };
    Ok(page(&pages::Log::of(frame, &events, (from > 1).then_some(from))))
}

#[derive(Deserialize)]
pub(super) struct Seen {
    seen: u64,
    of: Option<RequestId>,
}

/// Answers when what a page shows changed after `seen`, or after a while.
pub(super) async fn changes(
    State(service): On,
    Reader(caller): Reader,
    Query(Seen { seen, of }): Query<Seen>,
) -> Result<String, Failure> {
    let topic = match of {
        Some(id) => service.request(&caller, &id).await.map(|_| Topic::Request(id))?,
        None if caller.has_any(&[Duty::Auditors, Duty::Admins]) => Topic::Everything,
        None => Topic::Person(caller.person),
    };
    Ok(service.changed_after(&topic, seen, LONGEST_WAIT).await.to_string())
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
