//! `ssh-jit policy check`: what is wrong with a policy file, before the service sees it.

use std::path::PathBuf;

use super::{Exit, Failure, Ui, serve};

/// What can be done with a policy.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Say whether a file is a policy, and what is doubtful about it
    Check {
        /// The file
        #[arg(default_value = "policy.toml")]
        file: PathBuf,
    },
}

pub(super) fn run(ui: &Ui, verb: &Verb) -> Result<Exit, Failure> {
    let Verb::Check { file } = verb;
    let policy = serve::parse_policy(file, std::fs::read_to_string(file))?;
    let doubts = policy.doubts();
    if ui.json {
        let (people, roles) = (policy.people().len(), policy.roles().len());
        ui.data(&serde_json::json!({ "policy": policy.digest(), "people": people, "roles": roles, "doubts": doubts }));
        return Ok(Exit::Done);
    }
    for doubt in &doubts {
        ui.say(format_args!("{}: {doubt}", file.display()));
    }
    let (people, roles, keys) = (policy.people().len(), policy.roles().len(), policy.emergency_keys().len());
    ui.good(format_args!(
        "{}: {people} people, {roles} roles, {keys} emergency keys; {}",
        file.display(),
        policy.digest()
    ));
    Ok(Exit::Done)
}
