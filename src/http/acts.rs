//! What the pages do: the script asks for a statement, has the passkey sign it, and sends it back. A draft
//! changes nothing, and what comes back is judged by its signature like any other statement.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::domain::digest::Digest;
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, PersonName, RequestId};
use crate::domain::passkey::Assertion;
use crate::domain::refusal::Refusal;
use crate::domain::statement::{
    self, Acknowledgement, Approval, Decision, Outcome, Removal, Return, Review, Revocation, Statement, Withdrawal,
};
use crate::domain::text::{Comment, Reason};
use crate::domain::time::Seconds;
use crate::domain::verify::Signed;
use crate::service::{Choice, Service};
use crate::wire::{Changed, RevokedView};

use super::answer::Failure;
use super::extract::{Body, Reader};
use super::views;

type On = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, Failure>;

/// A statement to be signed, byte for byte.
#[derive(Serialize)]
pub(super) struct Draft {
    text: String,
}

impl Draft {
    fn of(statement: &impl Statement) -> Json<Self> {
        Json(Self { text: String::from_utf8_lossy(&statement::to_bytes(statement)).into_owned() })
    }
}

/// Somebody's name, as they typed it.
#[derive(Deserialize)]
pub(super) struct Who {
    person: PersonName,
}

/// The names of somebody's passkeys. For a stranger there are none, as for somebody who has none.
pub(super) async fn passkeys(State(service): On, Query(who): Query<Who>) -> Answer<Vec<String>> {
    let found = service.passkeys_of(&who.person).await?;
    Ok(Json(found.iter().map(|passkey| URL_SAFE_NO_PAD.encode(&passkey.credential)).collect()))
}

pub(super) async fn draft_session(State(service): On, Query(who): Query<Who>) -> Json<Draft> {
    Draft::of(&service.draft_session(who.person))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToEnrol {
    person: PersonName,
    ssh_key: Digest,
    key: PublicKey,
}

pub(super) async fn draft_enrolment(State(service): On, Body(asked): Body<ToEnrol>) -> Answer<Draft> {
    Ok(Draft::of(&service.draft_enrolment(asked.person, asked.ssh_key, asked.key)?))
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

pub(super) async fn draft_return(
    State(service): On,
    Reader(caller): Reader,
    Body(which): Body<Which>,
) -> Answer<Draft> {
    Ok(Draft::of(&service.draft_return(&caller, &which.id).await?))
}

pub(super) async fn draft_acknowledgement(
    State(service): On,
    Reader(caller): Reader,
    Body(which): Body<Which>,
) -> Answer<Draft> {
    Ok(Draft::of(&service.draft_acknowledgement(&caller, &which.id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cut {
    id: RequestId,
    reason: Reason,
}

pub(super) async fn draft_revocation(
    State(service): On,
    Reader(caller): Reader,
    Body(cut): Body<Cut>,
) -> Answer<Draft> {
    Ok(Draft::of(&service.draft_revocation(&caller, &cut.id, cut.reason).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    id: RequestId,
    outcome: Outcome,
    comment: Reason,
}

pub(super) async fn draft_review(
    State(service): On,
    Reader(caller): Reader,
    Body(found): Body<Found>,
) -> Answer<Draft> {
    Ok(Draft::of(&service.draft_review(&caller, &found.id, found.outcome, found.comment).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichKey {
    key: Digest,
}

pub(super) async fn draft_removal(
    State(service): On,
    Reader(caller): Reader,
    Body(which): Body<WhichKey>,
) -> Json<Draft> {
    Draft::of(&service.draft_removal(&caller, which.key))
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
    /// The statement, with what the passkey signed written as an SSH signature.
    pub(super) async fn signed<T: Statement>(self, service: &Service) -> Result<Signed, Failure> {
        let credential = URL_SAFE_NO_PAD.decode(&self.credential).map_err(|_| Refusal::UnknownKey)?;
        Ok(service.from_browser::<T>(self.text, &credential, &self.assertion).await?)
    }
}

pub(super) async fn decide(State(service): On, Body(posted): Body<FromBrowser>) -> Answer<Changed> {
    let (id, state) = service.decide(posted.signed::<Approval>(&service).await?).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn withdraw(State(service): On, Body(posted): Body<FromBrowser>) -> Answer<Changed> {
    let (id, state) = service.withdraw(posted.signed::<Withdrawal>(&service).await?).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn give_back(State(service): On, Body(posted): Body<FromBrowser>) -> Answer<Changed> {
    let (id, state) = service.give_back(posted.signed::<Return>(&service).await?).await?;
    Ok(Json(Changed { id, state: state.into() }))
}

pub(super) async fn acknowledge(State(service): On, Body(posted): Body<FromBrowser>) -> Result<StatusCode, Failure> {
    service.acknowledge(posted.signed::<Acknowledgement>(&service).await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revoke(State(service): On, Body(posted): Body<FromBrowser>) -> Answer<Vec<RevokedView>> {
    let revoked = service.revoke(posted.signed::<Revocation>(&service).await?).await?;
    Ok(Json(revoked.into_iter().map(views::revoked).collect()))
}

pub(super) async fn review(State(service): On, Body(posted): Body<FromBrowser>) -> Result<StatusCode, Failure> {
    service.review(posted.signed::<Review>(&service).await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove_passkey(State(service): On, Body(posted): Body<FromBrowser>) -> Result<StatusCode, Failure> {
    service.remove_passkey(posted.signed::<Removal>(&service).await?).await?;
    Ok(StatusCode::NO_CONTENT)
}
