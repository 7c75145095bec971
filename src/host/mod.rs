//! What runs on a host that people log in to: setting its sshd up, checking it, looking for standing access. It
//! changes files and asks sshd; it never decides who gets in.

mod accounts;
mod authorized_keys;
mod change;
pub mod check;
pub mod config;
mod error;
mod finding;
mod layout;
mod manifest;
pub mod scan;
pub mod setup;
mod sshd;
mod sshd_config;
mod undo;
mod version;
