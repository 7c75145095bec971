//! ssh-jit: an SSH certificate authority for just-in-time access.
#![forbid(unsafe_code)]

pub mod ca;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod files;
pub mod http;
pub mod random;
pub mod service;
pub mod store;
pub mod wire;
