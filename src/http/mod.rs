//! The API over HTTP: extractors, the table of routes with what each needs, and handlers that call
//! one service function. Nothing here decides anything or reaches the store.

mod answer;
mod extract;
mod handlers;
mod routes;
mod server;
mod views;

pub use routes::{Needs, ROUTES, Route, router};
pub use server::{Listening, bind, serve};
