//! `policy check`: every finding with file, line and field.

use std::path::PathBuf;

use crate::cli::{Exit, Failure, Ui, policy_files};
use crate::domain::policy::{Finding, Gravity};
use crate::files;

/// What `policy check` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The file
    #[arg(default_value = "policy.toml")]
    file: PathBuf,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<Exit, Failure> {
    let policy = policy_files::look_at(&args.file)?;
    let findings = policy.findings();
    let fails = |finding: &Finding| args.strict || finding.gravity == Gravity::Error;
    let exit = if findings.iter().any(fails) { Exit::Failed } else { Exit::Done };
    let (people, roles, keys) = (policy.people().len(), policy.roles().len(), policy.emergency_keys().len());
    if ui.json {
        let (digest, rules) = (policy.digest(), policy.rules().len());
        ui.data(&serde_json::json!({
            "policy": digest, "people": people, "roles": roles, "rules": rules, "findings": findings,
        }));
        return Ok(exit);
    }
    for finding in &findings {
        match &finding.file {
            None => ui.say(format_args!("{}:{finding}", args.file.display())),
            Some(_) => ui.say(files::folder_of(&args.file).join(finding.to_string()).display()),
        }
    }
    let file = args.file.display();
    let summary = format!("{file}: {people} people, {roles} roles, {keys} emergency keys; {}", policy.digest());
    if exit == Exit::Done {
        ui.good(summary);
    } else {
        ui.say(summary);
    }
    Ok(exit)
}
