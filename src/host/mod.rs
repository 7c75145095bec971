//! What runs on a host, beside its sshd: the end of sessions when their certificates end. It opens no door;
//! sshd and PAM alone let people in.

pub mod process;
pub mod session;
pub mod usage;
pub mod watch;
