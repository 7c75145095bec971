//! `ssh-jit incident`: the story of broken glass as Markdown, for the post-mortem. What people wrote is quoted so that it
//! stays text.

use std::fmt::Write as _;

use crate::domain::event::Event;
use crate::domain::markdown::quoted;
use crate::domain::time::{Patience, Timestamp};
use crate::domain::usage::{Seen, summary};
use crate::wire::{EmergencyView, RequestView};

use super::person::{Person, request_id};
use super::requests::state;
use super::{Context, Exit, Failure};

/// Requests so many seconds before and after belong to the story: a day.
const AROUND: i64 = 86_400;

/// What `incident` takes.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Args {
    /// The broken glass
    id: Option<String>,
    /// Every one since then: a time such as 2026-11-22T10:01:58Z, or how long ago, such as 72h
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let ids = match (&args.id, &args.since) {
        (Some(typed), _) => vec![request_id(typed)?],
        (None, since) => {
            let since = moment(since.as_deref().unwrap_or_default(), person.now()?)?;
            let mut all: Vec<EmergencyView> = person.read("/v1/emergencies")?;
            all.retain(|used| used.at >= since);
            all.into_iter().rev().map(|used| used.id).collect()
        }
    };
    if ids.is_empty() {
        context.ui.say("the glass was not broken since then");
        return Ok(Exit::Done);
    }
    let requests: Vec<RequestView> = person.read("/v1/requests?list=all")?;
    let mut stories = Vec::new();
    for id in ids {
        let used: EmergencyView = person.read(&format!("/v1/emergencies/{id}"))?;
        let around: Vec<RequestView> = requests.iter().filter(|asked| belongs(asked, &used)).cloned().collect();
        stories.push((used, around));
    }
    let now = person.now()?;
    if context.ui.json {
        let story = |(used, around): &(EmergencyView, Vec<RequestView>)| serde_json::json!({ "emergency": used, "requests": around });
        context.ui.data(&stories.iter().map(story).collect::<Vec<_>>());
    } else {
        let told = stories.iter().map(|(used, around)| markdown(used, around, now)).collect::<Vec<_>>();
        context.ui.out(told.join("\n\n"));
    }
    Ok(Exit::Done)
}

fn moment(typed: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(ago) = typed.parse::<Patience>() {
        return Ok(now.plus(-ago.seconds()));
    }
    Timestamp::from_typed(typed).map_err(|e| Failure::misuse(e).hint("--since 2026-11-22T10:01:58Z, or --since 72h"))
}

/// Whether a request was for the same role, or for one of the hosts that were opened, at about that time.
fn belongs(asked: &RequestView, used: &EmergencyView) -> bool {
    let opened = |asked: &RequestView| {
        let hosts = asked.terms.as_ref().map(|terms| &terms.hosts);
        hosts.is_some_and(|hosts| used.uses.iter().any(|seen| hosts.contains(&seen.host)))
    };
    asked.at.since(used.at).abs() <= AROUND && (asked.role == used.role || opened(asked))
}

fn markdown(used: &EmergencyView, around: &[RequestView], now: Timestamp) -> String {
    let drill = if used.drill { "DRILL: " } else { "" };
    let mut text = format!("# {drill}{} broke the glass for {}: {}\n\n", used.person, used.role, used.id);
    let mut fact = |name: &str, value: &str| line(&mut text, &format!("- {name}: {value}"));
    fact("when", &used.at.to_string());
    fact("category", used.category.as_str());
    fact("reason", &quoted(used.reason.as_str()));
    fact("serial", &used.serial.to_string());
    fact("certificate", &format!("{}, as hosts say", summary(&used.uses, now)));
    fact("revoked", if used.revoked { "yes" } else { "no" });
    fact("review", &review(used, now));
    line(&mut text, "\n## Timeline\n");
    for (at, what) in timeline(used, around) {
        line(&mut text, &format!("- {at} {what}"));
    }
    line(&mut text, "\n## Requests around it\n");
    for asked in around {
        let Some(hosts) = asked.terms.as_ref().map(|terms| &terms.hosts) else {
            line(
                &mut text,
                &format!("- {} {} asked for {}: {}", asked.id, asked.person, asked.role, state(&asked.state)),
            );
            continue;
        };
        let hosts: Vec<&str> = hosts.iter().map(crate::domain::names::HostName::as_str).collect();
        let on = if hosts.is_empty() { String::new() } else { format!(" on {}", hosts.join(", ")) };
        line(
            &mut text,
            &format!("- {} {} asked for {}{on}: {}", asked.id, asked.person, asked.role, state(&asked.state)),
        );
    }
    if around.is_empty() {
        line(&mut text, "None that you may see, within a day before and after.");
    }
    text.trim_end().to_owned()
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

fn review(used: &EmergencyView, now: Timestamp) -> String {
    match (&used.review, used.review_due) {
        (Some(said), _) => {
            format!("{} by {} {}: {}", said.outcome, said.person, said.at, quoted(said.comment.as_str()))
        }
        (None, Some(due)) if due <= now => format!("overdue since {due}"),
        (None, Some(due)) => format!("open, due {due}"),
        (None, None) => "none, it was a drill".to_owned(),
    }
}

/// What happened, in order: what the log says of it, what hosts say, and who asked meanwhile.
fn timeline(used: &EmergencyView, around: &[RequestView]) -> Vec<(Timestamp, String)> {
    let events = used.events.iter().map(|event| (event.at.second(), story(event)));
    let began = used.uses.iter().map(|seen| (seen.began, connection(seen)));
    let ended = used.uses.iter().filter_map(|seen| Some((seen.ended?, format!("{} was left", seen.host))));
    let asked = around.iter().map(|asked| {
        let reason = quoted(asked.reason.as_str());
        (asked.at, format!("{} asked for {} ({}): {reason}", asked.person, asked.role, asked.id))
    });
    let mut all: Vec<_> = events.chain(began).chain(ended).chain(asked).collect();
    all.sort();
    all
}

fn connection(seen: &Seen) -> String {
    format!("{} was opened as {} from {}", seen.host, quoted(&seen.account), quoted(&seen.source))
}

/// One event. Its detail may come from a host.
fn story(event: &Event) -> String {
    let by = event.person.as_ref().map(|person| format!(" by {person}")).unwrap_or_default();
    let detail = event.detail.as_ref().map(|detail| format!(": {}", quoted(detail))).unwrap_or_default();
    format!("{}{by}{detail}", event.kind)
}
