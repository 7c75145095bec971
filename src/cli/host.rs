//! `ssh-jit host`: what runs on a host that people log in to.

mod sync;

use super::{Exit, Failure, Ui};

/// What can be done on a host.
#[derive(clap::Subcommand)]
pub(super) enum Host {
    /// Keep what sshd reads in step with the service: revoked certificates, and the CAs it takes
    Sync(sync::Args),
}

pub(super) fn run(ui: &Ui, verb: &Host) -> Result<Exit, Failure> {
    match verb {
        Host::Sync(args) => sync::run(ui, args),
    }
}
