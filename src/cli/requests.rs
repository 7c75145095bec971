//! `ssh-jit requests`: what others ask for, oldest first.

use crate::domain::request::State;
use crate::domain::text::visible;
use crate::wire::{RequestView, StateView};

use super::person::Person;
use super::ui::time;
use super::{Context, Exit, Failure};

/// What `requests` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Only those that wait for a decision
    #[arg(long)]
    pending: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let list = if args.pending { "pending" } else { "all" };
    let found: Vec<RequestView> = person.read(&format!("/v1/requests?list={list}"))?;
    if context.ui.json {
        context.ui.data(&found);
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        context.ui.say(if args.pending {
            "nothing waits for a decision of yours"
        } else {
            "there is nothing that you may see"
        });
        return Ok(Exit::Done);
    }
    let now = person.now()?;
    let row = |r: &RequestView| {
        let length = r.terms.as_ref().map(|t| t.seconds.to_string()).unwrap_or_default();
        vec![
            r.id.to_string(),
            r.person.to_string(),
            r.role.to_string(),
            length,
            state(&r.state),
            time(r.at, now),
            visible(r.reason.as_str()),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    context.ui.table(&["REQUEST", "WHO", "ROLE", "FOR", "STATE", "ASKED", "WHY"], &rows);
    Ok(Exit::Done)
}

/// The state's name.
pub(super) fn state(state: &StateView) -> String {
    State::from(state.clone()).name().to_owned()
}
