//! `ssh-jit host ...`: what runs on a host, beside its sshd.

mod report;
pub(super) mod session;

use super::{Context, Exit, Failure};

/// What a host does.
#[derive(clap::Subcommand)]
pub(super) enum Host {
    /// Have the connection end when the certificate does that opened it: for PAM and sshd to run
    #[command(hide = true)]
    Session(session::Args),
    /// Tell the service what certificates were used for on this host
    Report(report::Args),
}

pub(super) fn run(context: &Context, verb: &Host) -> Result<Exit, Failure> {
    match verb {
        // What a person configured is not for what runs before they are in.
        Host::Session(args) => session::run(args),
        Host::Report(args) => report::run(context, args),
    }
}
