//! What runs on a host that people log in to. The service is not believed here: what it publishes is held against the
//! keys that were pinned, and on any doubt the host goes on with what it has.

pub mod config;
pub mod sync;
