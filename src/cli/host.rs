//! `ssh-jit host`: what runs on a host that people log in to.

mod check;
mod enrol;
mod invite;
pub(super) mod list;
mod report;
mod scan;
pub(super) mod session;
mod setup;
mod sync;

use crate::domain::text::visible;
use crate::host::check::{Finding, Level};

use super::{Context, Exit, Failure, Ui};

/// What can be done on a host.
#[derive(clap::Subcommand)]
pub(super) enum Host {
    /// Have this host's sshd trust the service, or no longer: as root
    Setup(setup::Args),
    /// Have this host certified, so that people know it without asking them about keys: as root
    Enrol(enrol::Args),
    /// Sign the token by which a host is certified: for administrators, from where they work
    Invite(invite::Args),
    /// The hosts that are known, what each is certified as, and how far it is: for administrators and auditors
    List,
    /// Have a host certified no more: for administrators and those who may revoke
    Remove(list::Remove),
    /// What works on this host, and what would mend the rest
    Check(check::Args),
    /// Ways into this host that nobody asks for: keys, other CAs, passwords
    Scan(scan::Args),
    /// Keep what sshd reads in step with the service: revoked certificates, and the CAs it takes
    Sync(sync::Args),
    /// Have the connection end when the certificate does that opened it: for PAM and sshd to run
    #[command(hide = true)]
    Session(session::Args),
    /// Tell the service what certificates were used for on this host
    Report(report::Args),
}

impl Host {
    /// Whether somebody runs it from where they work, as themselves.
    pub(super) fn is_a_persons(&self) -> bool {
        matches!(self, Self::Invite(_) | Self::List | Self::Remove(_))
    }
}

pub(super) fn run(context: &Context, verb: &Host) -> Result<Exit, Failure> {
    match verb {
        Host::Setup(args) => setup::run(context, args),
        Host::Check(args) => check::run(context, args),
        Host::Scan(args) => scan::run(context, args),
        Host::Sync(args) => sync::run(&context.ui, args),
        // What a person configured is not for what runs before they are in.
        Host::Session(args) => session::run(args),
        Host::Report(args) => report::run(&context.ui, args),
        Host::Enrol(args) => enrol::run(context, args),
        Host::Invite(args) => invite::run(context, args),
        Host::List => list::list(context),
        Host::Remove(args) => list::remove(context, args),
    }
}

/// Findings as JSON, or a line for each and one for what would mend it.
fn show(ui: &Ui, findings: &[Finding]) {
    if ui.json {
        return ui.data(&findings);
    }
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        };
        let found = visible(&finding.found);
        ui.out(format_args!("{level:<8} {:<10} {}: {found}", finding.what, visible(&finding.r#where)));
        if let Some(mend) = finding.mend.as_ref().filter(|_| finding.level > Level::Note) {
            ui.out(format_args!("{:19} -> {mend}", ""));
        }
    }
}
