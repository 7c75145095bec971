//! The one table of routes. The router is made from it, so a route that does not say what it needs
//! cannot exist.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};

use crate::domain::policy::Duty;
use crate::domain::statement::Kind;
use crate::service::Service;

use super::limits::LONGEST_BODY;
use super::{acts, answer, assets, extract, handlers, oidc, web};

/// What a caller must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: what everybody may know.
    Nothing,
    /// A statement of this kind, which is checked by the verb itself.
    Statement(Kind),
    /// What a host signed with its SSH host key, which is checked by the verb itself.
    HostKey,
    /// A webhook that a source of the policy signed, which is checked by the verb itself.
    Webhook,
    /// The capability that waits on this one request.
    Capability,
    /// A bearer of somebody whom the policy knows; what they see is theirs to see.
    Session,
    /// A bearer of somebody with one of these duties.
    Duty(&'static [Duty]),
    /// A page, or a call of its script, that shows nothing of anybody's.
    Page,
    /// A page, or a call of its script, for somebody who signed in with a passkey; it shows what is theirs to see.
    PageSession,
}

/// A route.
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As axum writes it.
    pub path: &'static str,
    /// What a caller must show.
    pub needs: Needs,
    handler: fn() -> MethodRouter<Arc<Service>>,
}

const fn reads(path: &'static str, needs: Needs, handler: fn() -> MethodRouter<Arc<Service>>) -> Route {
    Route { method: "GET", path, needs, handler }
}

const fn acts(path: &'static str, kind: Kind, handler: fn() -> MethodRouter<Arc<Service>>) -> Route {
    Route { method: "POST", path, needs: Needs::Statement(kind), handler }
}

const fn page(path: &'static str, needs: Needs, handler: fn() -> MethodRouter<Arc<Service>>) -> Route {
    Route { method: "GET", path, needs, handler }
}

const fn calls(path: &'static str, needs: Needs, handler: fn() -> MethodRouter<Arc<Service>>) -> Route {
    Route { method: "POST", path, needs, handler }
}

const LOG_READERS: &[Duty] = &[Duty::Auditors, Duty::Admins];

/// Every route there is.
pub const ROUTES: &[Route] = &[
    reads("/v1/now", Needs::Nothing, || get(handlers::now)),
    reads("/v1/trust", Needs::Nothing, || get(handlers::trust)),
    reads("/v1/trusts", Needs::Nothing, || get(handlers::trusts)),
    reads("/v1/krl", Needs::Nothing, || get(handlers::krl)),
    reads("/v1/head", Needs::Nothing, || get(handlers::head)),
    acts("/v1/sessions", Kind::Session, || post(handlers::open_session)),
    acts("/v1/requests", Kind::Request, || post(handlers::submit)),
    reads("/v1/requests", Needs::Session, || get(handlers::requests)),
    reads("/v1/requests/{id}", Needs::Session, || get(handlers::request)),
    reads("/v1/requests/{id}/receipt", Needs::Session, || get(handlers::receipt)),
    reads("/v1/requests/{id}/wait", Needs::Capability, || get(handlers::wait)),
    acts("/v1/decisions", Kind::Approval, || post(handlers::decide)),
    acts("/v1/withdrawals", Kind::Withdrawal, || post(handlers::withdraw)),
    acts("/v1/claims", Kind::Claim, || post(handlers::claim)),
    acts("/v1/returns", Kind::Return, || post(handlers::give_back)),
    acts("/v1/revocations", Kind::Revocation, || post(handlers::revoke)),
    acts("/v1/break-glass", Kind::BreakGlass, || post(handlers::break_glass)),
    acts("/v1/break-glass/check", Kind::BreakGlassCheck, || post(handlers::check_emergency_key)),
    acts("/v1/acknowledgements", Kind::Acknowledgement, || post(handlers::acknowledge)),
    acts("/v1/reviews", Kind::Review, || post(handlers::review)),
    reads("/v1/emergencies", Needs::Session, || get(handlers::emergencies)),
    reads("/v1/emergencies/{id}", Needs::Session, || get(handlers::emergency)),
    reads("/v1/aftermath", Needs::Session, || get(handlers::aftermath)),
    acts("/v1/drills", Kind::Drill, || post(handlers::report_drill)),
    reads("/v1/drills", Needs::Session, || get(handlers::drills)),
    reads("/v1/drills/{id}", Needs::Session, || get(handlers::drill)),
    calls("/v1/facts/{source}", Needs::Webhook, || post(handlers::hear)),
    reads("/v1/facts", Needs::Duty(LOG_READERS), || get(handlers::facts)),
    calls("/v1/uses", Needs::HostKey, || post(handlers::used)),
    calls("/v1/host-certificates", Needs::HostKey, || post(handlers::certify_host)),
    reads("/v1/hosts", Needs::Duty(LOG_READERS), || get(handlers::hosts)),
    acts("/v1/host-removals", Kind::HostRemoval, || post(handlers::remove_host)),
    calls("/v1/host-status", Needs::HostKey, || post(handlers::host_status)),
    reads("/v1/alarms", Needs::Duty(LOG_READERS), || get(handlers::alarms)),
    reads("/v1/roles", Needs::Session, || get(handlers::roles)),
    reads("/v1/events", Needs::Duty(LOG_READERS), || get(handlers::events)),
    reads("/v1/policies", Needs::Duty(LOG_READERS), || get(handlers::policy)),
    reads("/v1/channels", Needs::Duty(LOG_READERS), || get(handlers::channels)),
    acts("/v1/passkeys", Kind::Enrolment, || post(handlers::enrol)),
    reads("/v1/passkeys", Needs::Session, || get(handlers::passkeys)),
    acts("/v1/passkey-removals", Kind::Removal, || post(handlers::remove_passkey)),
    reads("/v1/enrolments/{code}", Needs::Nothing, || get(web::left_enrolment)),
    page("/assets/{digest}/{name}", Needs::Page, || get(assets::asset)),
    page("/sign-in", Needs::Page, || get(web::sign_in)),
    page("/sign-in/oidc", Needs::Page, || get(oidc::begin)),
    page("/sign-in/oidc/back", Needs::Page, || get(oidc::back)),
    page("/enrol", Needs::Page, || get(web::enrol)),
    page("/", Needs::PageSession, || get(web::queue)),
    page("/requests/{id}", Needs::PageSession, || get(web::request)),
    page("/mine", Needs::PageSession, || get(web::mine)),
    page("/active", Needs::PageSession, || get(web::active)),
    page("/emergencies", Needs::PageSession, || get(web::emergencies)),
    page("/roles", Needs::PageSession, || get(web::roles)),
    page("/log", Needs::PageSession, || get(web::log)),
    page("/passkeys", Needs::PageSession, || get(web::passkeys)),
    page("/web/changes", Needs::PageSession, || get(web::changes)),
    page("/web/passkeys", Needs::Page, || get(acts::passkeys)),
    page("/web/drafts/session", Needs::Page, || get(acts::draft_session)),
    calls("/web/drafts/decision", Needs::PageSession, || post(acts::draft_decision)),
    calls("/web/drafts/withdrawal", Needs::PageSession, || post(acts::draft_withdrawal)),
    calls("/web/drafts/return", Needs::PageSession, || post(acts::draft_return)),
    calls("/web/drafts/acknowledgement", Needs::PageSession, || post(acts::draft_acknowledgement)),
    calls("/web/drafts/revocation", Needs::PageSession, || post(acts::draft_revocation)),
    calls("/web/drafts/review", Needs::PageSession, || post(acts::draft_review)),
    calls("/web/drafts/removal", Needs::PageSession, || post(acts::draft_removal)),
    calls("/web/drafts/enrolment", Needs::Page, || post(acts::draft_enrolment)),
    calls("/web/enrolments/{code}", Needs::Page, || post(web::leave_enrolment)),
    calls("/web/session", Needs::Page, || post(web::open_session)),
    calls("/web/sign-out", Needs::Page, || post(web::sign_out)),
    calls("/web/decisions", Needs::PageSession, || post(acts::decide)),
    calls("/web/withdrawals", Needs::PageSession, || post(acts::withdraw)),
    calls("/web/returns", Needs::PageSession, || post(acts::give_back)),
    calls("/web/acknowledgements", Needs::PageSession, || post(acts::acknowledge)),
    calls("/web/revocations", Needs::PageSession, || post(acts::revoke)),
    calls("/web/reviews", Needs::PageSession, || post(acts::review)),
    calls("/web/removals", Needs::PageSession, || post(acts::remove_passkey)),
];

/// The router, made from the table.
pub fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let handler = (route.handler)();
        let guarded = match route.needs {
            Needs::Session => extract::signed_in(handler, service, &[]),
            Needs::Duty(duties) => extract::signed_in(handler, service, duties),
            Needs::Nothing | Needs::Statement(_) | Needs::HostKey | Needs::Webhook | Needs::Capability => handler,
            Needs::Page => extract::from_our_pages(handler, service),
            Needs::PageSession => extract::from_our_pages(extract::in_browser(handler, service), service),
        };
        router = router.route(route.path, guarded);
    }
    router
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_allowed)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(axum::middleware::from_fn_with_state(service.settings().is_https(), extract::harden))
        .with_state(Arc::clone(service))
}
