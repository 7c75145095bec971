//! The domain: people, policy, statements, requests, grants, certificates, events. Pure: no I/O, no
//! clock, no randomness; `now`, `id`, `nonce` and `serial` are arguments.

pub mod alarm;
pub mod approval;
pub mod certificate;
pub mod digest;
pub mod drill;
pub mod event;
pub mod extension;
pub mod facts;
pub mod grant;
pub mod host;
pub mod host_status;
pub mod host_word;
pub mod journal;
pub mod key;
pub mod krl;
pub mod markdown;
pub mod names;
pub mod notice;
mod options;
pub mod overuse;
pub mod passkey;
pub mod policy;
pub mod policy_bundle;
pub mod policy_cases;
mod policy_file;
pub mod refusal;
pub mod remembered;
pub mod request;
pub mod rotation;
pub mod sshsig;
pub mod statement;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod time;
pub mod tree;
pub mod trust;
pub mod usage;
pub mod verify;
pub mod webhook;
