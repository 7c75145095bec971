//! The domain: people, policy, statements, requests, grants, certificates, events. Pure: no I/O, no
//! clock, no randomness; `now`, `id`, `nonce` and `serial` are arguments.

pub mod digest;
pub mod key;
pub mod names;
pub mod refusal;
pub mod sshsig;
pub mod statement;
pub mod text;
pub mod time;
pub mod verify;
