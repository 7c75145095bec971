//! `policy replay`: which requests of the past would go otherwise under a new policy than under the one that
//! decided them. Both are judged by the same code, at the request's time and address.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::past::{self, Past, Policies, Told};
use crate::cli::person::Person;
use crate::cli::ui::time;
use crate::cli::{Context, Exit, Failure, policy_files};
use crate::domain::facts::Facts;
use crate::domain::names::{PersonName, RequestId, RoleName};
use crate::domain::policy::{Circumstances, Explained, Policy};
use crate::domain::statement::Request;
use crate::domain::time::Timestamp;

/// What one person may have of a role is counted over so many seconds.
const A_DAY: i64 = 24 * 3600;

/// What `policy replay` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The new policy
    new: PathBuf,
    /// How far back
    #[arg(long, value_name = "DAYS", default_value = "90d", value_parser = past::period)]
    last: i64,
}

/// A request that would go otherwise.
#[derive(Serialize)]
struct Otherwise {
    request: RequestId,
    person: PersonName,
    role: RoleName,
    at: Timestamp,
    old: String,
    new: String,
}

pub(in crate::cli) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let new = policy_files::look_at(&args.new)?;
    let mut person = Person::open(context)?;
    let now = person.now()?;
    let Told { requests: past, erased, .. } = past::read(&mut person)?;
    let (ui, since) = (context.ui, now.plus(-args.last));
    let (mut old, mut granted, mut otherwise) = (Policies::default(), Vec::new(), Vec::new());
    let (mut judged, mut unknown) = (0u32, 0u32);
    for past in &past {
        let Some(policy) = old.get(&mut person, past.policy)? else {
            unknown += 1;
            continue;
        };
        let held = held(&granted, &past.request, past.at);
        let before = past.explained(policy, held);
        granted.extend(past.grant(&before));
        if past.at < since {
            continue;
        }
        judged += 1;
        otherwise.extend(past.otherwise(&before, &past.explained(&new, held)));
    }
    if ui.json {
        ui.data(&serde_json::json!({
            "policy": new.digest(), "requests": judged, "otherwise": otherwise, "unknown": unknown, "erased": erased,
        }));
        return Ok(Exit::Done);
    }
    if !otherwise.is_empty() {
        let row = |o: &Otherwise| {
            let Otherwise { request, person, role, at, old, new } = o;
            let (old, new) = (old.clone(), new.clone());
            vec![time(*at, now), request.to_string(), person.to_string(), role.to_string(), old, new]
        };
        let rows: Vec<_> = otherwise.iter().map(row).collect();
        ui.table(&["WHEN", "REQUEST", "WHO", "ROLE", "WAS", "WOULD BE"], &rows);
    }
    if unknown + erased > 0 {
        ui.say(format_args!("{} more cannot be judged: their text or their policy is gone", unknown + erased));
    }
    ui.say("facts of the past are not kept: all are judged as if nothing had been stated");
    ui.good(format_args!("{judged} requests, {} would go otherwise under {}", otherwise.len(), new.digest()));
    Ok(Exit::Done)
}

/// What somebody was given: who, which role, from when until when.
type Granted<'p> = (&'p PersonName, &'p RoleName, Timestamp, Timestamp);

/// For how many seconds of the day before a moment the person was given the role already.
fn held(granted: &[Granted<'_>], request: &Request, at: Timestamp) -> u64 {
    let since = at.plus(-A_DAY);
    let same = granted.iter().filter(|(person, role, begin, end)| {
        **person == request.person && **role == request.role && *begin <= at && *end > since
    });
    same.map(|(_, _, begin, end)| end.since(*begin.max(&since)).unsigned_abs()).sum()
}

impl Past {
    fn explained(&self, policy: &Policy, held: u64) -> Explained {
        let at = self.request.start.map_or(self.at, |start| start.max(self.at));
        let around =
            Circumstances { from: self.from, facts: &Facts::default(), tickets: &self.tickets, held, overdue: None };
        policy.explain(&(&self.request).into(), at, &around)
    }

    /// What it came to, if it was claimed.
    fn grant(&self, before: &Explained) -> Option<Granted<'_>> {
        let asked = before.outcome.as_ref().ok().map(|terms| terms.seconds).or(self.request.seconds)?;
        let seconds = self.approved.iter().map(|(_, seconds)| *seconds).chain([asked]).min()?;
        let claimed = self.claimed?;
        Some((&self.request.person, &self.request.role, claimed, claimed.plus(seconds.get().into())))
    }

    fn otherwise(&self, before: &Explained, after: &Explained) -> Option<Otherwise> {
        let (old, new) = (before.verdict(), after.verdict());
        if decision(before) == decision(after) && self.still_enough(before, after) {
            return None;
        }
        let Request { id: request, person, role, .. } = self.request.clone();
        let new = if old == new { format!("{new}, and not of those who approved") } else { new };
        Some(Otherwise { request, person, role, at: self.at, old, new })
    }

    /// Whether those who approved it would be enough, where they were.
    fn still_enough(&self, before: &Explained, after: &Explained) -> bool {
        let people: Vec<PersonName> = self.approved.iter().map(|(person, _)| person.clone()).collect();
        let enough = |explained: &Explained| explained.outcome.as_ref().is_ok_and(|t| t.quorum.met_by(&people));
        !enough(before) || enough(after) || after.outcome.is_err()
    }
}

/// Automatic, so many approvals, or the reason of a denial.
fn decision(explained: &Explained) -> (Option<u32>, Option<&'static str>) {
    match &explained.outcome {
        Ok(terms) => (Some(terms.approvals()), None),
        Err(refusal) => (None, Some(refusal.code())),
    }
}
