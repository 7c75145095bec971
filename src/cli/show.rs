//! `ssh-jit show`: one request and everything that happened to it.

use crate::domain::event::Event;
use crate::domain::names::{HostName, PersonName};
use crate::domain::text::visible;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::usage;
use crate::wire::{RequestView, RevocationView, StateView};

use super::person::{Person, request_id};
use super::ui::{length, time};
use super::{Context, Exit, Failure};

/// What `show` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The request
    request: String,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let id = request_id(&args.request)?;
    let view: RequestView = person.read(&format!("/v1/requests/{id}"))?;
    if context.ui.json {
        context.ui.data(&view);
        return Ok(Exit::Done);
    }
    let (ui, now) = (&context.ui, person.now()?);
    ui.out(format_args!("{} asks for {}: {}", view.person, view.role, super::requests::state(&view.state)));
    ui.out(format_args!("  why        \"{}\"", visible(view.reason.as_str())));
    if let Some(ticket) = &view.ticket {
        ui.out(format_args!("  ticket     {ticket}"));
    }
    if let Some(terms) = &view.terms {
        let hosts: Vec<&str> = terms.hosts.iter().map(HostName::as_str).collect();
        ui.out(format_args!(
            "  for        {} on {}",
            terms.seconds,
            if hosts.is_empty() { "any host".to_owned() } else { hosts.join(", ") }
        ));
    }
    if let Some(start) = view.start {
        ui.out(format_args!("  begins     {}, not before", time(start, now)));
    }
    if let Some(extension) = extension(&view, view.terms.as_ref().map(|terms| terms.seconds), now) {
        ui.out(format_args!("  extends    {extension}"));
    }
    for id in &view.extended_by {
        ui.out(format_args!("  extended by {id}"));
    }
    if let Some(from) = &view.from {
        ui.out(format_args!("  from       {from}"));
    }
    if let Some(hindrance) = &view.hindrance {
        ui.out(format_args!("  hindered   {}", visible(hindrance)));
    }
    if let Some(overdue) = &view.overdue_review {
        ui.out(format_args!("  overdue    nobody would be asked {overdue}"));
    }
    match view.terms.as_ref().map(|terms| (&terms.by, terms.needs.join(" and "))) {
        Some((Some(rule), _)) => ui.out(format_args!("  approved   by the policy's rule {rule}")),
        Some((None, needs)) => ui.out(format_args!("  takes      {needs}")),
        None => {}
    }
    ui.out(format_args!("  may decide {}", names(&view.approvers)));
    for step in &view.ahead {
        let (again, at) = (if step.again { " again" } else { "" }, time(step.at, now));
        ui.out(format_args!("  or else    {} told{again} {at}", names(&step.people)));
    }
    if let StateView::Requested { decide_by, .. } = &view.state {
        ui.out(format_args!("  lapses     {} if nobody decides", time(*decide_by, now)));
    }
    for decision in &view.decisions {
        let comment = visible(decision.comment.as_str());
        ui.out(format_args!("  {} by {} for {} \"{comment}\"", decision.decision, decision.person, decision.seconds));
    }
    if let Some(RevocationView { person, reason, .. }) = &view.revocation {
        ui.out(format_args!("  revoked by {person} \"{}\"", visible(reason.as_str())));
    }
    if let Some(uses) = &view.uses {
        ui.out(format_args!("  {}", usage::summary(uses, now)));
        for used in uses {
            ui.out(format_args!(
                "    {} as {} from {}, {}",
                used.host,
                visible(&used.account),
                visible(&used.source),
                time(used.began, now)
            ));
        }
    }
    for event in &view.events {
        ui.out(format_args!("  {}  {}", time(event.at.second(), now), story(event)));
    }
    Ok(Exit::Done)
}

fn names(people: &[PersonName]) -> String {
    people.iter().map(PersonName::as_str).collect::<Vec<_>>().join(", ")
}

/// What a request extends, and how long access lasts in all when it is extended by so much now.
pub(super) fn extension(view: &RequestView, by: Option<Seconds>, now: Timestamp) -> Option<String> {
    let Some(old) = &view.extended else { return view.extends.as_ref().map(ToString::to_string) };
    let end = match old.ends {
        Some(ends) if ends > now => format!("ends {}", time(ends, now)),
        Some(ended) => format!("ended {}", time(ended, now)),
        None => "over by now".to_owned(),
    };
    let open = matches!(view.state, StateView::Requested { .. } | StateView::Approved { .. });
    let total = by.filter(|_| open).map(|by| {
        let all = now.since(old.first).unsigned_abs() + u64::from(by.get());
        format!("; in all {} if it begins now", length(all))
    });
    Some(format!("{}, active since {}, {end}{}", old.id, time(old.since, now), total.unwrap_or_default()))
}

/// One line about an event.
pub(super) fn story(event: &Event) -> String {
    let mut line = event.kind.to_string();
    for part in [
        event.person.as_ref().map(ToString::to_string),
        event.role.as_ref().map(ToString::to_string),
        event.request.as_ref().map(ToString::to_string),
        event.serial.map(|serial| format!("serial {serial}")),
        event.detail.as_ref().map(|detail| visible(detail)),
    ]
    .into_iter()
    .flatten()
    {
        line.push_str("  ");
        line.push_str(&part);
    }
    line
}
