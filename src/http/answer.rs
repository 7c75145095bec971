//! Answers: the one table from errors to statuses.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use crate::domain::refusal::Refusal;
use crate::service::Error;
use crate::wire::Problem;

use super::pages::{Frame, Message, page};

/// An error on its way out.
pub(super) struct Failure {
    status: StatusCode,
    problem: Problem,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, problem: Problem { code: code.to_owned(), message: message.into() } }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let told = Told(self.problem.message.clone());
        (self.status, Extension(told), Json(self.problem)).into_response()
    }
}

/// The words of a failure, kept beside its JSON for whoever would rather have a page.
#[derive(Clone)]
struct Told(String);

/// A failure as a page, for browsers that asked for one.
pub(super) fn as_page(failed: Response) -> Response {
    let text = match failed.extensions().get::<Told>() {
        Some(Told(text)) => text.clone(),
        None => "The address makes no sense here.".to_owned(),
    };
    let title = match failed.status() {
        StatusCode::NOT_FOUND => "There is no such page",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR => "This does not work now",
        _ => "This does not work",
    };
    (failed.status(), page(&Message { frame: Frame::nobody(), title, text })).into_response()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Refused(refusal) => Self::new(status(refusal), refusal.code(), refusal.to_string()),
            Error::Unauthenticated => Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", error.to_string()),
            // What is wrong inside is for the operator's log; the caller hears that it is not their fault.
            Error::Store(inner) => {
                tracing::error!(error = %inner, "the store failed");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store",
                    "the service cannot store anything now; nothing was done",
                )
            }
            Error::Journal(inner) => {
                tracing::error!(error = %inner, "the journal failed");
                let message =
                    "the break-glass journal cannot be written, and without a durable reason nothing is signed";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "journal", message)
            }
            Error::Setup(inner) => {
                tracing::error!(error = %inner, "the service is not set up as it must be");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "setup", "the service is not set up as it must be")
            }
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::UnknownRequest | Refusal::UnknownPolicy | Refusal::UnknownSource => StatusCode::NOT_FOUND,
        Refusal::Lapsed { .. } => StatusCode::GONE,
        Refusal::TooManyPending { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Replayed
        | Refusal::WebhookRepeated
        | Refusal::IdTaken
        | Refusal::HostKeyTaken
        | Refusal::SubjectKeyTaken { .. }
        | Refusal::NotPending { .. }
        | Refusal::NotApproved { .. }
        | Refusal::NotActive { .. }
        | Refusal::Revoked
        | Refusal::NotExtendable { .. }
        | Refusal::DecidedAlready { .. }
        | Refusal::NotEnoughApprovals { .. }
        | Refusal::Denied
        | Refusal::TooEarly { .. }
        | Refusal::PolicyChanged
        | Refusal::Conflict { .. }
        | Refusal::NotOnRecord { .. }
        | Refusal::NothingLeft { .. } => StatusCode::CONFLICT,
        Refusal::Malformed { .. }
        | Refusal::WebhookHeader { .. }
        | Refusal::Facts { .. }
        | Refusal::Field { .. }
        | Refusal::TooLong { .. }
        | Refusal::UnknownHost { .. }
        | Refusal::UnknownPrincipal { .. }
        | Refusal::Duplicate { .. }
        | Refusal::SubjectKeyKind
        | Refusal::EnrolmentTooLong
        | Refusal::InvitationTooLong
        | Refusal::OtherInvitation { .. }
        | Refusal::NotSupported { .. }
        | Refusal::OtherRequest
        | Refusal::Wider { .. }
        | Refusal::OutOfOrder
        | Refusal::StartOutOfReach
        | Refusal::ExtendsOther { .. }
        | Refusal::CategoryNotTaken { .. }
        | Refusal::NotTheLast
        | Refusal::ReasonRepeated => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Certificate { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Signature { .. }
        | Refusal::ForeignCertificate
        | Refusal::UnknownHostKey { .. }
        | Refusal::NotEnrolled { .. }
        | Refusal::InvitationEnded { .. }
        | Refusal::UnknownKey
        | Refusal::NotTheirKey { .. }
        | Refusal::RevokedKey
        | Refusal::PasskeyEnded { .. }
        | Refusal::OtherInstance
        | Refusal::Stale { .. }
        | Refusal::Future { .. }
        | Refusal::Counter { .. }
        | Refusal::UnknownPerson { .. }
        | Refusal::NotEligible { .. }
        | Refusal::DeniedByRule { .. }
        | Refusal::Conditions { .. }
        | Refusal::DailyMax { .. }
        | Refusal::NobodyDecides { .. }
        | Refusal::SelfApproval
        | Refusal::NotApprover { .. }
        | Refusal::ServicesCannotDecide { .. }
        | Refusal::NotYours
        | Refusal::NoDuty { .. }
        | Refusal::NotEmergencyKey
        | Refusal::NeedsSecond { .. }
        | Refusal::SecondUnfit { .. }
        | Refusal::NotADrill { .. }
        | Refusal::ReviewOverdue { .. }
        | Refusal::WebhookUnsigned
        | Refusal::WebhookStale { .. }
        | Refusal::WebhookFuture { .. }
        | Refusal::ForeignFact { .. } => StatusCode::FORBIDDEN,
    }
}

pub(super) async fn not_found() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing at this path; the API lies under /v1")
}

pub(super) async fn not_allowed() -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "this path does not take this method")
}
