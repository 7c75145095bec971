//! `ssh-jit policy`: what is wrong with a policy, what it makes of a request and why, and whether it still says
//! what it should. All of it from files, before a service sees them; only `replay` asks one.

mod check;
mod explain;
pub(super) mod replay;
mod test;

use std::path::PathBuf;

use super::{Exit, Failure, Ui};

/// What can be done with a policy.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Say whether a file is a policy, and what is doubtful about it
    Check(check::Args),
    /// Say what a policy makes of a request: every rule it meets, and what would pass
    Explain(explain::Args),
    /// Run cases, each a request and what should become of it
    Test(test::Args),
    /// Say which requests of the past would go otherwise under another policy
    Replay(replay::Args),
    /// Print the JSON schema of policy files, for editors
    Schema,
}

/// The JSON schema of a policy file.
pub(super) const SCHEMA: &str = include_str!("../../docs/policy.schema.json");

pub(super) fn run(ui: &Ui, verb: &Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Check(args) => check::run(ui, args),
        Verb::Explain(args) => explain::run(ui, args),
        Verb::Test(args) => test::run(ui, args),
        // That one asks the service.
        Verb::Replay(_) => Ok(Exit::Misuse),
        Verb::Schema => {
            ui.out(SCHEMA.trim_end());
            Ok(Exit::Done)
        }
    }
}

/// Which policy is meant.
#[derive(clap::Args)]
pub(super) struct Which {
    /// The policy [default: policy.toml]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The service's file, which names the policy
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    config: Option<PathBuf>,
}

impl Which {
    /// The file that was named, if one was.
    fn named(&self) -> Result<Option<PathBuf>, Failure> {
        match &self.config {
            Some(config) => Ok(Some(crate::config::ServiceConfig::load(config)?.policy)),
            None => Ok(self.policy.clone()),
        }
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        Ok(self.named()?.unwrap_or_else(|| PathBuf::from("policy.toml")))
    }
}
