//! The API and the web form over HTTP: extractors, the table of routes with what each needs, and handlers that call
//! one service function. Nothing here decides anything or reaches the store.

mod acts;
mod answer;
mod assets;
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

pub use limits::Limits;
pub use routes::{Needs, ROUTES, Route, router};
pub use server::{Listening, bind, serve};
pub use tls::{Tls, TlsError};
