//! `ssh-jit host ...`: what runs on a host, beside its sshd.

mod setup;

use super::{Context, Exit, Failure};

/// What a host does.
#[derive(clap::Subcommand)]
pub(super) enum Host {
    /// Have this host's sshd trust the service, or no longer: as root
    Setup(setup::Args),
}

pub(super) fn run(context: &Context, verb: &Host) -> Result<Exit, Failure> {
    match verb {
        Host::Setup(args) => setup::run(context, args),
    }
}
