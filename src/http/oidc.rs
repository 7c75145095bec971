//! Sign-in with an identity provider, as browsers go through it: there, and back.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use serde::Deserialize;

use crate::service::{BroughtBack, Service, SignInError};

use super::answer::Failure;
use super::pages::{Frame, Message, SignedIn, page};
use super::web::{self, Next};

type On = State<Arc<Service>>;

/// Binds the way back to the browser that began. Lax, because that way comes from another site.
const COOKIE: &str = "__Host-oidc";

fn cookie(value: &str, life: u32) -> (axum::http::HeaderName, String) {
    (SET_COOKIE, format!("{COOKIE}={value}; Max-Age={life}; Path=/; Secure; HttpOnly; SameSite=Lax"))
}

pub(super) async fn begin(State(service): On, Query(next): Query<Next>) -> Response {
    match service.begin_sign_in(next.of_ours()).await {
        Ok(begun) => {
            let headers = AppendHeaders([cookie(&begun.cookie, 600), (LOCATION, begun.to)]);
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(error) => not_signed_in(&service, error),
    }
}

/// What providers bring along: these, and more that does not count.
#[derive(Deserialize)]
pub(super) struct Brought {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
}

pub(super) async fn back(State(service): On, headers: HeaderMap, Query(brought): Query<Brought>) -> Response {
    let Brought { state, code, error } = brought;
    let brought = BroughtBack { cookie: web::cookie(&headers, COOKIE), state, code, error };
    let answer = match service.finish_sign_in(brought).await {
        Ok((opened, next)) => {
            let session = (SET_COOKIE, web::session_cookie(&opened, service.now().second()));
            (AppendHeaders([session]), page(&SignedIn { frame: Frame::nobody(), next })).into_response()
        }
        Err(error) => not_signed_in(&service, error),
    };
    (AppendHeaders([cookie("", 0)]), answer).into_response()
}

fn not_signed_in(service: &Service, error: SignInError) -> Response {
    let host = service.provider_host().unwrap_or("the provider");
    let (status, text) = match error {
        SignInError::NotOffered => (StatusCode::NOT_FOUND, "Here nobody signs in with a provider.".to_owned()),
        SignInError::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("Signing in with {host} does not work now. A passkey does."))
        }
        SignInError::NotBegun => {
            let text = "This browser began no such sign-in, or it is over. Begin again.";
            (StatusCode::BAD_REQUEST, text.to_owned())
        }
        SignInError::Denied(words) => (StatusCode::FORBIDDEN, format!("{host} did not sign you in: {words}")),
        SignInError::Doubtful => {
            (StatusCode::FORBIDDEN, format!("What {host} says of you cannot be believed; the operator's log has more."))
        }
        SignInError::Stranger => {
            let text = format!("{host} knows you, but the policy here names nobody of that name who may read so.");
            (StatusCode::FORBIDDEN, text)
        }
        SignInError::Service(error) => return Failure::from(error).into_response(),
    };
    (status, page(&Message { frame: Frame::nobody(), title: "Not signed in", text })).into_response()
}
