//! `ssh-jit host report`: tells the service what certificates were used for here, as `host sync` does by itself.

use std::path::PathBuf;

use crate::cli::{Exit, Failure, Ui};
use crate::host::spool::{self, Spool};
use crate::host::usage::{Reporter, UsageError};

/// What `host report` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The folder with host.toml, which says who tells whom
    #[arg(long, value_name = "FOLDER", default_value = "/etc/ssh/ssh-jit")]
    folder: PathBuf,
    #[command(flatten)]
    memory: Memory,
}

/// Where connections are remembered.
#[derive(clap::Args)]
pub(super) struct Memory {
    /// Where connections are remembered until the service has heard of them
    #[arg(long, value_name = "FOLDER", default_value = spool::FOLDER)]
    sessions: PathBuf,
}

impl Memory {
    pub(super) fn spool(&self) -> Spool {
        Spool::at(&self.sessions)
    }
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<Exit, Failure> {
    let spool = args.memory.spool();
    let sent = Reporter::open(&args.folder, spool.clone())?.report()?;
    let dropped = spool.held()?.dropped;
    if ui.json {
        ui.data(&serde_json::json!({ "sent": sent, "dropped": dropped }));
    } else {
        ui.say(said(sent, dropped));
    }
    Ok(Exit::Done)
}

/// `1 connection told`, `2 connections told; 3 were dropped before`
pub(super) fn said(sent: usize, dropped: u64) -> String {
    let lost = if dropped > 0 { format!("; {dropped} were dropped before") } else { String::new() };
    format!("{sent} connection{} told{lost}", if sent == 1 { "" } else { "s" })
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        match error {
            // Nobody breaks the glass from here.
            UsageError::Service(error) => Self { hint: None, ..error.into() },
            UsageError::Key(error) => error.into(),
            UsageError::Config(_) => Self::new(error).hint("ssh-jit host setup writes it"),
            UsageError::OtherInstance { .. } => {
                Self::new(error).hint("somebody may be in between; compare host.toml with the service's instance")
            }
            UsageError::Folder { .. } => Self::new(error),
        }
    }
}
