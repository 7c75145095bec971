//! What runs on a host that people log in to: setting its sshd up, checking it, looking for standing access, and keeping
//! it in step with the service; and, beside sshd, ending sessions when their certificates end. It opens no door: sshd and
//! PAM alone let people in. The service is not
//! believed here: what it publishes is held against the keys that were pinned, and on any doubt the host goes on with
//! what it has.

mod accounts;
mod authorized_keys;
pub mod certificate;
mod change;
pub mod check;
pub mod config;
mod error;
mod finding;
mod first_line;
mod layout;
mod manifest;
pub mod process;
pub mod scan;
pub mod session;
pub mod setup;
pub mod spool;
mod sshd;
mod sshd_config;
mod status;
pub mod sync;
mod undo;
pub mod usage;
mod version;
pub mod watch;
