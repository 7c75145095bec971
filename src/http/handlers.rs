//! Handlers: extract, call one service function, show what it gave.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::domain::alarm::Alarm;
use crate::domain::digest::Digest;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;

use crate::domain::verify::Signed;
use crate::service::{Attempt, Holder, Listing, Redeemed, Service};
use crate::wire::{
    AftermathView, BreakGlassText, Certified, CertifiedHost, Changed, ChannelView, CheckedView, DrillView,
    EmergencyView, EnrolmentText, EventView, FactView, Heard, HostClaimText, HostView, Noted, Now, PasskeyView,
    PolicyView, ReceiptView, RequestView, RevokedView, RoleView, Scored, SessionView, SignedText, Submitted,
};

use super::answer::Failure;
use super::extract::{Bearer, Body, Named, Peer, Reader, Statement, Webhook};
use super::views;

type Answer<T> = Result<Json<T>, Failure>;
type On = State<Arc<Service>>;

/// The longest that one waiting request is held; then the client asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

pub(super) async fn now(State(service): On) -> Json<Now> {
    let trust = service.trust();
    Json(Now {
        now: service.now(),
        instance: trust.instance.clone(),
        trust: trust.number,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        break_glass: service.settings().break_glass_url.clone(),
    })
}

pub(super) async fn trust(State(service): On) -> Json<SignedText> {
    Json((&service.signed_trust()).into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    pub(super) after: u64,
}

/// The trust documents with higher numbers, oldest first: how whoever was away follows.
pub(super) async fn trusts(State(service): On, Query(After { after }): Query<After>) -> Json<Vec<SignedText>> {
    Json(service.trusts_after(after).iter().map(Into::into).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    #[serde(default)]
    wait: u64,
}

/// The list of revoked certificates, unless the caller has it: then once there is another, or after `wait` seconds.
pub(super) async fn krl(
    State(service): On,
    Query(Wait { wait }): Query<Wait>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let known = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()?.trim_matches('"').parse().ok());
    match service.krl_unless(known, Duration::from_secs(wait).min(LONGEST_WAIT)).await? {
        None => Ok(StatusCode::NOT_MODIFIED.into_response()),
        Some(krl) => {
            let tag = format!("\"{}\"", krl.signed.digest());
            Ok(([(ETAG, tag)], Json(views::krl(&krl))).into_response())
        }
    }
}

pub(super) async fn head(State(service): On) -> Answer<SignedText> {
    Ok(Json((&service.head().await?.signed).into()))
}

pub(super) async fn open_session(State(service): On, Statement(signed): Statement) -> Answer<SessionView> {
    let opened = service.open_session(signed, Holder::Client).await?;
    Ok(Json(SessionView { bearer: opened.bearer.to_string(), until: opened.until }))
}

pub(super) async fn submit(
    State(service): On,
    Peer(from): Peer,
    Statement(signed): Statement,
) -> Result<(StatusCode, Json<Submitted>), Failure> {
    let (info, waiter) = service.submit(signed, from).await?;
    let answer = Submitted { request: views::request(&info, Vec::new()), waiter: waiter.to_string() };
    Ok((StatusCode::CREATED, Json(answer)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(default)]
    list: WhichList,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum WhichList {
    #[default]
    Mine,
    Pending,
    All,
}

pub(super) async fn requests(
    State(service): On,
    Reader(caller): Reader,
    Query(which): Query<Which>,
) -> Answer<Vec<RequestView>> {
    let listing = match which.list {
        WhichList::Mine => Listing::Mine,
        WhichList::Pending => Listing::Pending,
        WhichList::All => Listing::All,
    };
    let found = service.requests(&caller, listing).await?;
    Ok(Json(found.iter().map(|info| views::request(info, Vec::new())).collect()))
}

pub(super) async fn request(State(service): On, Reader(caller): Reader, Named(id): Named) -> Answer<RequestView> {
    let (info, events) = service.request(&caller, &id).await?;
    Ok(Json(views::request(&info, events)))
}

pub(super) async fn receipt(State(service): On, Reader(caller): Reader, Named(id): Named) -> Answer<ReceiptView> {
    let receipt = service.receipt(&caller, &id).await?;
    Ok(Json(views::receipt(&receipt, &service.signed_trust(), &service.trusts_after(0))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Longest {
    seconds: Option<u64>,
}

pub(super) async fn wait(
    State(service): On,
    Named(id): Named,
    Bearer(waiter): Bearer,
    Query(longest): Query<Longest>,
) -> Answer<RequestView> {
    let longest = longest.seconds.map_or(LONGEST_WAIT, Duration::from_secs).min(LONGEST_WAIT);
    let info = service.wait(&id, &waiter, longest).await?;
    Ok(Json(views::request(&info, Vec::new())))
}

pub(super) async fn decide(State(service): On, Statement(signed): Statement) -> Answer<Changed> {
    let (id, state) = service.decide(signed).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn withdraw(State(service): On, Statement(signed): Statement) -> Answer<Changed> {
    let (id, state) = service.withdraw(signed).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn claim(State(service): On, Peer(from): Peer, Statement(signed): Statement) -> Answer<Certified> {
    Ok(Json(views::certified(&service.claim(signed, from).await?)))
}

pub(super) async fn give_back(State(service): On, Statement(signed): Statement) -> Answer<Changed> {
    let (id, state) = service.give_back(signed).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn revoke(State(service): On, Statement(signed): Statement) -> Answer<Vec<RevokedView>> {
    Ok(Json(service.revoke(signed).await?.into_iter().map(views::revoked).collect()))
}

pub(super) async fn break_glass(
    State(service): On,
    Peer(from): Peer,
    Body(posted): Body<BreakGlassText>,
) -> Answer<Certified> {
    Ok(Json(views::certified(&service.break_glass(attempt(posted, from)?).await?)))
}

pub(super) async fn check_emergency_key(State(service): On, Statement(signed): Statement) -> Answer<CheckedView> {
    Ok(Json(views::checked(service.glass().check(signed).await?)))
}

/// An attempt to break the glass, as it was sent.
pub(super) fn attempt(posted: BreakGlassText, from: Option<IpAddr>) -> Result<Attempt, Refusal> {
    let BreakGlassText { text, signature, second } = posted;
    let signed = Signed::try_from(&SignedText { text, signature })?;
    Ok(Attempt { signed, second: second.as_ref().map(Signed::try_from).transpose()?, from })
}

pub(super) async fn acknowledge(State(service): On, Statement(signed): Statement) -> Result<StatusCode, Failure> {
    service.acknowledge(signed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn enrol(State(service): On, Body(posted): Body<EnrolmentText>) -> Answer<PasskeyView> {
    let signed = (&SignedText { text: posted.text, signature: posted.signature }).try_into()?;
    let by_passkey = SshSig::from_armor(&posted.passkey_signature).map_err(Refusal::from)?;
    let credential = URL_SAFE_NO_PAD.decode(&posted.credential).unwrap_or_default();
    let enrolled = Box::pin(service.enrol(signed, by_passkey, credential)).await?;
    Ok(Json(views::passkey(&enrolled)))
}

pub(super) async fn remove_passkey(State(service): On, Statement(signed): Statement) -> Result<StatusCode, Failure> {
    service.remove_passkey(signed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn passkeys(State(service): On, Reader(caller): Reader) -> Answer<Vec<PasskeyView>> {
    let mine = service.passkeys(&caller).await?;
    Ok(Json(mine.iter().map(|passkey| views::passkey(&passkey.enrolled)).collect()))
}

pub(super) async fn review(State(service): On, Statement(signed): Statement) -> Result<StatusCode, Failure> {
    service.review(signed).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnlyOpen {
    #[serde(default)]
    open: bool,
}

pub(super) async fn emergencies(
    State(service): On,
    _: Reader,
    Query(only): Query<OnlyOpen>,
) -> Answer<Vec<EmergencyView>> {
    let found = service.emergencies(only.open).await?;
    Ok(Json(found.into_iter().map(|info| views::emergency(info, Vec::new())).collect()))
}

pub(super) async fn emergency(State(service): On, _: Reader, Named(id): Named) -> Answer<EmergencyView> {
    let (info, events) = service.emergency(&id).await?;
    Ok(Json(views::emergency(info, events)))
}

pub(super) async fn aftermath(State(service): On, _: Reader) -> Answer<AftermathView> {
    Ok(Json(views::aftermath(service.aftermath().await?)))
}

pub(super) async fn report_drill(State(service): On, Statement(signed): Statement) -> Answer<Scored> {
    Ok(Json(Scored { passed: service.report_drill(signed).await? }))
}

pub(super) async fn drills(State(service): On, _: Reader) -> Answer<Vec<DrillView>> {
    Ok(Json(service.drills().await?.into_iter().map(views::drill).collect()))
}

pub(super) async fn drill(State(service): On, _: Reader, Named(id): Named) -> Answer<DrillView> {
    Ok(Json(views::drill(service.drill(&id).await?)))
}

pub(super) async fn hear(State(service): On, Webhook(delivery): Webhook) -> Answer<Heard> {
    Ok(Json(Heard { facts: service.hear(delivery).await? }))
}

pub(super) async fn used(State(service): On, Statement(signed): Statement) -> Answer<Noted> {
    Ok(Json(Noted { known: service.note_use(signed).await? }))
}

pub(super) async fn certify_host(State(service): On, Body(posted): Body<HostClaimText>) -> Answer<CertifiedHost> {
    let claim = (&SignedText { text: posted.text, signature: posted.signature }).try_into()?;
    let redeemed = posted.redeems.as_ref().map(|redeems| {
        let by_token = SshSig::from_armor(&redeems.signature).map_err(Refusal::from)?;
        Ok::<_, Refusal>(Redeemed { invitation: (&redeems.invitation).try_into()?, by_token })
    });
    let certified = Box::pin(service.certify_host(claim, redeemed.transpose()?)).await?;
    Ok(Json(views::certified_host(&certified)))
}

pub(super) async fn host_status(State(service): On, Statement(signed): Statement) -> Result<StatusCode, Failure> {
    service.note_host_status(signed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn hosts(State(service): On, Reader(caller): Reader) -> Answer<Vec<HostView>> {
    Ok(Json(service.hosts(&caller).await?.into_iter().map(views::host).collect()))
}

pub(super) async fn remove_host(State(service): On, Statement(signed): Statement) -> Result<StatusCode, Failure> {
    service.remove_host(signed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn alarms(State(service): On, Reader(caller): Reader) -> Answer<Vec<Alarm>> {
    Ok(Json(service.alarms(&caller).await?))
}

pub(super) async fn facts(State(service): On, Reader(caller): Reader) -> Answer<Vec<FactView>> {
    Ok(Json(service.facts_now(&caller)?.into_iter().map(views::fact).collect()))
}

pub(super) async fn roles(State(service): On, Reader(caller): Reader) -> Json<Vec<RoleView>> {
    Json(service.roles(&caller).into_iter().map(views::role).collect())
}

pub(super) async fn channels(State(service): On, _: Reader) -> Answer<Vec<ChannelView>> {
    Ok(Json(service.channels().await?.into_iter().map(views::channel).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default = "first")]
    from: u64,
    #[serde(default = "most")]
    limit: u32,
}

fn first() -> u64 {
    1
}

fn most() -> u32 {
    1000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichPolicy {
    sha256: Option<Digest>,
}

/// The policy that is in force, or one that was.
pub(super) async fn policy(
    State(service): On,
    Reader(caller): Reader,
    Query(which): Query<WhichPolicy>,
) -> Answer<PolicyView> {
    let (sha256, text) = service.policy_text(&caller, which.sha256).await?;
    Ok(Json(PolicyView { sha256, text }))
}

pub(super) async fn events(
    State(service): On,
    Reader(caller): Reader,
    Query(page): Query<Page>,
) -> Answer<Vec<EventView>> {
    let events = service.events(&caller, page.from, page.limit).await?;
    Ok(Json(events.iter().map(views::event).collect()))
}
