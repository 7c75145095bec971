//! Extractors: what a handler cannot do without, it cannot compile without.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;

use crate::domain::names::RequestId;
use crate::domain::policy::Duty;
use crate::domain::verify::Signed;
use crate::service::{Caller, Error, Service};
use crate::wire::SignedText;

use super::answer::Failure;

/// A signed statement: the whole body of every request that changes something.
pub(super) struct Statement(pub(super) Signed);

impl<S: Send + Sync> FromRequest<S> for Statement {
    type Rejection = Failure;
    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let malformed = |message: String| Failure::new(StatusCode::BAD_REQUEST, "malformed", message);
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|e| Failure::new(e.status(), "body", "body: it could not be read, or is longer than 128 KiB"))?;
        let text: SignedText = serde_json::from_slice(&body).map_err(|e| malformed(format!("body: {e}")))?;
        Ok(Self(Signed::try_from(&text)?))
    }
}

/// The request that a path names.
pub(super) struct Named(pub(super) RequestId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let unknown = || Failure::from(crate::domain::refusal::Refusal::UnknownRequest);
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| unknown())?;
        // Not what a person typed, but what a client sends: one spelling, one answer.
        id.parse().map(Self).map_err(|_| unknown())
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
