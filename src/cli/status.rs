//! `ssh-jit status`: the caller's open requests, and what is left of each.

use crate::wire::{RequestView, StateView};

use super::person::Person;
use super::ui::time;
use super::{Context, Exit, Failure};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let found: Vec<RequestView> = person.read("/v1/requests?list=mine")?;
    if context.ui.json {
        context.ui.data(&found);
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        context.ui.say("nothing is open; ssh-jit roles lists what you may ask for");
        return Ok(Exit::Done);
    }
    let now = person.now()?;
    // Its key is gone from here, and it ends by itself.
    let extended = |r: &RequestView| {
        let stands = |other: &&RequestView| matches!(other.state, StateView::Active { .. });
        found.iter().filter(stands).any(|other| other.extends.as_ref() == Some(&r.id))
    };
    let row = |r: &RequestView| {
        let more = if extended(r) { ", extended" } else { "" };
        let state = format!("{}{more}", super::requests::state(&r.state));
        vec![r.id.to_string(), r.role.to_string(), state, until(r, now)]
    };
    context.ui.table(&["REQUEST", "ROLE", "STATE", "UNTIL"], &found.iter().map(row).collect::<Vec<_>>());
    Ok(Exit::Done)
}

/// When time will change it.
fn until(request: &RequestView, now: crate::domain::time::Timestamp) -> String {
    let begins = request.start.filter(|start| *start > now);
    match &request.state {
        StateView::Approved { .. } if let Some(start) = begins => format!("begins {}", time(start, now)),
        StateView::Requested { decide_by: at, .. }
        | StateView::Approved { claim_by: at }
        | StateView::Active { ends: at, .. } => time(*at, now),
        _ => String::new(),
    }
}
