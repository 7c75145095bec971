//! `ssh-jit host ...`: what runs on a host, beside its sshd.

mod session;
mod watch;

use super::{Exit, Failure};

/// What a host does.
#[derive(clap::Subcommand)]
pub(super) enum Host {
    /// Have the connection end when the certificate does that opened it: for PAM and sshd to run
    #[command(hide = true)]
    Session(session::Args),
    /// Watch over a connection: for `host session` to run
    #[command(hide = true)]
    Watch,
}

pub(super) fn run(verb: &Host) -> Result<Exit, Failure> {
    match verb {
        Host::Session(args) => session::run(args),
        Host::Watch => watch::run(),
    }
}
