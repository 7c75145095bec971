//! Break-glass on a listener, threads and connections of its own: whatever happens to the rest of the service, this
//! answers. It knows nothing that takes the database.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};

use crate::service::Glass;
use crate::wire::{BreakGlassText, Certified, CheckedView, Now, SignedText};

use super::answer::Failure;
use super::extract::{Body, Peer, Statement};
use super::handlers::After;
use super::limits::{LONGEST_BODY, Limits};
use super::server::{Listening, listen};
use super::{answer, extract, handlers, views};

/// Threads that answer.
const THREADS: usize = 2;
/// Threads that write the journal; one of them does, the others wait their turn.
const WRITERS: usize = 16;

type On = State<Arc<Glass>>;

/// What connections to break-glass may cost, of the descriptors that are kept for them.
pub fn emergency_limits(per_address: Option<usize>) -> Limits {
    Limits {
        connections: 512,
        per_address,
        handshake_within: Duration::from_secs(3),
        headers_within: Duration::from_secs(3),
        body_within: Duration::from_secs(3),
        written_within: Duration::from_secs(10),
    }
}

/// A runtime that nothing else runs on.
pub fn emergency_runtime() -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).max_blocking_threads(WRITERS).thread_name("break-glass").enable_all().build()
}

/// Serves break-glass alone until `end` is ready.
pub async fn serve_emergencies(
    listening: Listening,
    glass: Arc<Glass>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = emergency_router(&glass).layer(Extension(listening.limits));
    listen(listening, routes, end).await
}

/// The routes of break-glass alone. Each does what the same path of the whole service does.
pub fn emergency_router(glass: &Arc<Glass>) -> Router {
    Router::new()
        .route("/v1/now", get(now))
        .route("/v1/trust", get(trust))
        .route("/v1/trusts", get(trusts))
        .route("/v1/break-glass", post(break_glass))
        .route("/v1/break-glass/check", post(check))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_allowed)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn_with_state(glass.settings().is_https(), extract::harden))
        .with_state(Arc::clone(glass))
}

async fn now(State(glass): On) -> Json<Now> {
    let trust = glass.trust();
    Json(Now {
        now: glass.now(),
        instance: trust.instance,
        trust: trust.number,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        break_glass: glass.settings().break_glass_url.clone(),
    })
}

async fn trust(State(glass): On) -> Json<SignedText> {
    Json((&glass.signed_trust()).into())
}

async fn trusts(State(glass): On, Query(After { after }): Query<After>) -> Json<Vec<SignedText>> {
    Json(glass.trusts_after(after).iter().map(Into::into).collect())
}

async fn break_glass(
    State(glass): On,
    Peer(from): Peer,
    Body(posted): Body<BreakGlassText>,
) -> Result<Json<Certified>, Failure> {
    Ok(Json(views::certified(&glass.break_glass(handlers::attempt(posted, from)?).await?)))
}

async fn check(State(glass): On, Statement(signed): Statement) -> Result<Json<CheckedView>, Failure> {
    Ok(Json(views::checked(glass.check(signed).await?)))
}
