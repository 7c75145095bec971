//! `ssh-jit review`: somebody else says what a broken glass was, and what they found.

use crate::domain::statement::{Is, Outcome, Review, Version};
use crate::domain::text::{Reason, visible};
use crate::domain::usage::summary;
use crate::wire::EmergencyView;

use super::person::{Person, request_id};
use super::ui::time;
use super::{Context, Exit, Failure};

/// What `review` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The break-glass; without it, those that wait for a review are listed
    id: Option<String>,
    /// What it was: justified, drill, misuse, unnecessary
    #[arg(long, requires = "id")]
    outcome: Option<Outcome>,
    /// What was found
    #[arg(long, value_name = "TEXT", requires = "id")]
    comment: Option<Reason>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let open: Vec<EmergencyView> = person.read("/v1/emergencies?open=true")?;
    let Some(typed) = &args.id else {
        list(&person, &open)?;
        return Ok(Exit::Done);
    };
    let id = request_id(typed)?;
    let used = open.into_iter().find(|used| used.id == id);
    let used = used.ok_or_else(|| Failure::new(format!("{id} waits for no review")).hint("ssh-jit review"))?;
    let needed = || {
        Failure::misuse("a review says what it was and what was found").hint("--outcome justified --comment \"...\"")
    };
    let (outcome, comment) = (args.outcome.ok_or_else(needed)?, args.comment.clone().ok_or_else(needed)?);
    let (instance, name, nonce, at) = person.preamble()?;
    let review = Review {
        v: Version,
        kind: Is,
        instance,
        person: name,
        break_glass: used.digest,
        id: id.clone(),
        outcome,
        comment,
        nonce,
        at,
    };
    let text = person.sign(&review)?;
    person.service.api.post_only("/v1/reviews", &text)?;
    context.ui.good(format_args!("{id} is reviewed: {outcome}"));
    Ok(Exit::Done)
}

fn list(person: &Person<'_>, open: &[EmergencyView]) -> Result<(), Failure> {
    let ui = &person.context.ui;
    if ui.json {
        ui.data(&open);
        return Ok(());
    }
    if open.is_empty() {
        ui.say("no review is open");
        return Ok(());
    }
    let now = person.now()?;
    let row = |used: &EmergencyView| {
        let reason = visible(used.reason.as_str());
        let (id, who, role) = (used.id.to_string(), used.person.to_string(), used.role.to_string());
        let due = used.review_due.map(|due| time(due, now)).unwrap_or_default();
        let done = summary(&used.uses, now);
        vec![id, who, role, used.category.to_string(), time(used.at, now), due, done, reason]
    };
    ui.table(
        &["ID", "WHO", "ROLE", "CATEGORY", "WHEN", "REVIEW DUE", "CERTIFICATE", "WHY"],
        &open.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(())
}
