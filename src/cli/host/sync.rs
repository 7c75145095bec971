//! `ssh-jit host sync`: has a revocation on this host the moment it is made, and the service hear what certificates
//! were used for.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::cli::ui::{length, time};
use crate::cli::{Exit, Failure, Ui};
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::host::certificate::Renewal;
use crate::host::spool::{Held, Spool};
use crate::host::sync::{Look, Status, Sync, SyncError};
use crate::host::usage::{Reporter, UsageError};

use super::report::{self, Memory};

/// What `host sync` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The folder with host.toml, and with the files that sshd reads
    #[arg(long, value_name = "FOLDER", default_value = "/etc/ssh/ssh-jit")]
    folder: PathBuf,
    /// Look once, for a timer
    #[arg(long, conflicts_with = "status")]
    once: bool,
    /// Say what is here and how old it is, and ask nobody
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    memory: Memory,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<Exit, Failure> {
    let (sync, spool, now) = (Sync::open(&args.folder)?, args.memory.spool(), || Clock::System.now().second());
    if args.status {
        status(ui, &sync.status()?, &spool.held()?, now());
        return Ok(Exit::Done);
    }
    if args.once {
        return once(ui, &sync, &args.folder, spool);
    }
    tell_uses(*ui, &args.folder, spool);
    let (mut before, mut untold) = (None, None);
    let tell = |outcome: Result<Look, SyncError>, failures: u32| match outcome {
        Ok(look) => {
            if untold != look.untold {
                unheard(ui, &look);
                untold.clone_from(&look.untold);
            }
            if before.as_ref() != Some(&look.number) || look.new_cas {
                ui.say(said(&look));
            }
            before = Some(look.number);
        }
        // A host that is cut off for days should not fill its log.
        Err(error) if failures.is_power_of_two() => {
            ui.say(format_args!("{error}; {}", age(&sync, now())));
            before = None;
        }
        Err(_) => {}
    };
    let tell_renewal = |outcome| match outcome {
        Ok(Renewal::Kept(_)) => {}
        Ok(renewal) => ui.say(renewal_said(renewal, now())),
        Err(error) => ui.say(error),
    };
    sync.follow(now, tell, tell_renewal)
}

fn renewal_said(renewal: Renewal, now: Timestamp) -> String {
    match renewal {
        Renewal::Kept(until) => format!("this host's certificate counts until {}", time(until, now)),
        Renewal::Renewed(until) => format!("this host has a new certificate, until {}", time(until, now)),
    }
}

/// What keeps one of them from being done does not keep the others.
fn once(ui: &Ui, sync: &Sync, folder: &Path, spool: Spool) -> Result<Exit, Failure> {
    let now = || Clock::System.now().second();
    let (look, renewal) = (sync.look(Duration::ZERO, now), sync.renew());
    let told = reporter(ui, folder, spool.clone()).map_or(Ok(0), |reporter| reporter.report());
    let (look, renewal) = (look?, renewal?);
    let (sent, dropped) = (told?, spool.held()?.dropped);
    if ui.json {
        let Look { number, new_list, new_cas, untold } = look;
        let (renewed, until) = match renewal {
            Some(Renewal::Renewed(until)) => (true, Some(until)),
            Some(Renewal::Kept(until)) => (false, Some(until)),
            None => (false, None),
        };
        ui.data(&serde_json::json!({
            "number": number, "new_list": new_list, "new_cas": new_cas, "untold": untold,
            "certificate_until": until, "renewed": renewed, "sent": sent, "dropped": dropped,
        }));
    } else {
        ui.good(said(&look));
        unheard(ui, &look);
        if let Some(renewal) = renewal {
            ui.say(renewal_said(renewal, now()));
        }
        ui.say(report::said(sent, dropped));
    }
    Ok(Exit::Done)
}

/// None, and a word of it, on a host that does not know its name.
fn reporter(ui: &Ui, folder: &Path, spool: Spool) -> Option<Reporter> {
    let opened = Reporter::open(folder, spool);
    opened.inspect_err(|error| ui.say(format_args!("nobody is told what certificates are used for: {error}"))).ok()
}

/// Tells beside, so that neither waits for the other.
fn tell_uses(ui: Ui, folder: &Path, spool: Spool) {
    let Some(reporter) = reporter(&ui, folder, spool) else { return };
    let tell = move |outcome: Result<usize, UsageError>, failures: u32| match outcome {
        Ok(0) => {}
        Ok(sent) => ui.say(report::said(sent, 0)),
        Err(error) if failures.is_power_of_two() => {
            ui.say(format_args!("{error}; what certificates were used for is told later"));
        }
        Err(_) => {}
    };
    if let Err(error) = thread::Builder::new().name("uses".to_owned()).spawn(move || reporter.follow(tell)) {
        ui.say(format_args!("nobody is told what certificates are used for: {error}"));
    }
}

fn said(look: &Look) -> String {
    let list = if look.new_list { "is new here" } else { "is the newest" };
    let cas = if look.new_cas { "; the CAs changed" } else { "" };
    format!("list {} of revoked certificates {list}{cas}", look.number)
}

fn unheard(ui: &Ui, look: &Look) {
    if let Some(why) = &look.untold {
        ui.say(format_args!("the service does not hear how far this host is: {why}"));
    }
}

fn age(sync: &Sync, now: Timestamp) -> String {
    match sync.status() {
        Ok(status) => format!("list {} stays, last confirmed {}", status.number, ago(status.confirmed, now)),
        Err(error) => error.to_string(),
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", length(now.since(then).max(0).unsigned_abs()))
}

fn status(ui: &Ui, status: &Status, held: &Held, now: Timestamp) {
    let Status { number, generated, confirmed, trust } = *status;
    if ui.json {
        let seconds = now.since(confirmed).max(0);
        ui.data(&serde_json::json!({
            "number": number, "generated": generated, "confirmed": confirmed, "stale_seconds": seconds,
            "trust": trust,
            "untold": held.waiting, "untold_since": held.since, "dropped": held.dropped,
        }));
        return;
    }
    ui.out(format_args!("list       {number}, made {}", ago(generated, now)));
    ui.out(format_args!("confirmed  {}", ago(confirmed, now)));
    ui.out(format_args!("trust      document {trust}"));
    let since = held.since.map_or_else(String::new, |since| format!(", the oldest from {}", ago(since, now)));
    ui.out(format_args!("uses       {} to be told{since}; {} were dropped", held.waiting, held.dropped));
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Api(error) => {
                let failure = Self::from(error);
                Self { hint: None, ..failure }
            }
            SyncError::Config(_) => Self::new(error).hint("ssh-jit host setup writes it"),
            SyncError::Never(_) => Self::new(error).hint("ssh-jit host sync --once"),
            SyncError::OtherInstance { .. } => {
                Self::new(error).hint("somebody may be in between; compare host.toml with the service's instance")
            }
            _ => Self::new(error),
        }
    }
}
