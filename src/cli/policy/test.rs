//! `policy test`: cases that a policy must decide as they say, for its own continuous integration.

use std::path::{Path, PathBuf};

use crate::cli::{Exit, Failure, Ui, policy_files};
use crate::clock::Clock;
use crate::domain::policy_cases::{Cases, Failed};
use crate::files;

use super::Which;

/// What `policy test` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The cases; `policy` in the file says of which policy, unless a flag does
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<Exit, Failure> {
    let at = |message: &str| Failure::new(format!("{}:{message}", args.file.display()));
    let text = std::fs::read_to_string(&args.file).map_err(|e| at(&format!(" {e}")))?;
    let cases = Cases::parse(&text).map_err(|e| at(&e.to_string()))?;
    let path = match (args.which.named()?, &cases.policy) {
        (Some(named), _) => named,
        (None, Some(beside)) => files::folder_of(&args.file).join(beside),
        (None, None) => PathBuf::from("policy.toml"),
    };
    let policy = policy_files::look_at(&path)?;
    let failed = cases.failed(&text, &policy, Clock::System.now().second()).map_err(|e| at(&format!(" {e}")))?;
    let exit = if failed.is_empty() { Exit::Done } else { Exit::Failed };
    if ui.json {
        ui.data(&serde_json::json!({ "policy": policy.digest(), "cases": cases.len(), "failed": failed }));
        return Ok(exit);
    }
    for failed in &failed {
        tell(ui, &args.file, failed);
    }
    let summary = format!("{}: {} cases, {} failed", args.file.display(), cases.len(), failed.len());
    if exit == Exit::Done {
        ui.good(summary);
    } else {
        ui.say(summary);
    }
    Ok(exit)
}

fn tell(ui: &Ui, file: &Path, failed: &Failed) {
    ui.say(format_args!("{}:{}: {}", file.display(), failed.line, failed.name));
    ui.say(format_args!("  expected {}", failed.expected));
    ui.say(format_args!("  came     {}", failed.came));
    failed.met.iter().for_each(|met| ui.say(format_args!("  {met}")));
}
