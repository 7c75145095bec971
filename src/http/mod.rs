//! The API and the web form over HTTP: extractors, the table of routes with what each needs, and handlers that call
//! one service function. Nothing here decides anything or reaches the store.

mod acts;
mod answer;
mod assets;
mod emergency;
mod extract;
mod handlers;
mod limits;
mod oidc;
mod pages;
mod routes;
mod server;
mod tls;
mod views;
mod web;

pub use emergency::{emergency_limits, emergency_router, emergency_runtime, serve_emergencies};
pub use limits::Limits;
pub use routes::{Needs, ROUTES, Route, router};
pub use server::{Listening, bind, serve};
pub use tls::{Tls, TlsError};
