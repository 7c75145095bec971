//! `ssh-jit host ...`: what runs on a host, beside its sshd.

mod session;

use super::{Exit, Failure};

/// What a host does.
#[derive(clap::Subcommand)]
pub(super) enum Host {
    /// Have the connection end when the certificate does that opened it: for PAM and sshd to run
    #[command(hide = true)]
    Session(session::Args),
}

pub(super) fn run(verb: &Host) -> Result<Exit, Failure> {
    match verb {
        Host::Session(args) => session::run(args),
    }
}
