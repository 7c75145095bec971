//! `ssh-jit report`: how access was used, what was not, and how it drifted; for auditors and administrators. All of
//! it is counted here, from the log and the policies that it names.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::domain::digest::Digest;
use crate::domain::event::EventKind;
use crate::domain::names::{HostName, PersonName, RoleName};
use crate::domain::policy::Policy;
use crate::domain::time::Timestamp;

use super::past::{self, Past, Told};
use super::person::Person;
use super::ui::{length, time};
use super::{Context, Exit, Failure};

/// What `report` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How far back
    #[arg(long, value_name = "DAYS", default_value = "90d", value_parser = past::period)]
    last: i64,
}

/// What was asked of a role in a period.
#[derive(Debug, Default, PartialEq, Serialize)]
struct RoleUse {
    asked: u32,
    automatic: u32,
    approved: u32,
    denied: u32,
    /// Nobody decided in time.
    undecided: u32,
    /// Approved, and nobody claimed it.
    unclaimed: u32,
    claimed: u32,
    /// Claimed, ended, and no host told of a use.
    unused: u32,
    /// How long people took to decide, in seconds: half of all were faster, and nine in ten.
    decided_p50: Option<u64>,
    decided_p90: Option<u64>,
    last: Option<Timestamp>,
}

/// Somebody who may ask for a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Eligible {
    person: PersonName,
    role: RoleName,
}

/// What the policy came to allow, and no longer allows, between two moments.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Drift {
    gained: Vec<Eligible>,
    lost: Vec<Eligible>,
    /// Hosts that a role opens now and did not open then.
    hosts: BTreeMap<RoleName, Vec<HostName>>,
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Report {
    since: Timestamp,
    policy: Digest,
    /// The policy that was in force when the period began, or the first.
    policy_then: Digest,
    roles: BTreeMap<RoleName, RoleUse>,
    /// Those who may ask for a role and did not have it in the period.
    dormant: Vec<Eligible>,
    drift: Drift,
    /// Requests whose text is not there any more.
    erased: u32,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    let now = person.now()?;
    let since = now.plus(-args.last);
    let Told { requests: past, erased, policies } = past::read(&mut person)?;
    let (then, today) = in_force(&policies, since).ok_or_else(|| Failure::new("the log names no policy"))?;
    let mut read = |digest| {
        let unread = || Failure::new(format!("the policy {digest} cannot be read by this version"));
        past::policy(&mut person, digest)?.ok_or_else(unread)
    };
    let (before, policy) = (read(then)?, read(today)?);
    let report = Report {
        since,
        policy: today,
        policy_then: then,
        roles: roles(&policy, &past, since),
        dormant: dormant(&policy, &past, since),
        drift: drift(&before, &policy),
        erased,
    };
    if context.ui.json {
        context.ui.data(&report);
    } else {
        print(context, &report, now);
    }
    Ok(Exit::Done)
}

/// The policies in force when the period began, or the first, and now.
fn in_force(policies: &[(Timestamp, Digest)], since: Timestamp) -> Option<(Digest, Digest)> {
    let then = policies.iter().rev().find(|(at, _)| *at <= since).or(policies.first())?;
    Some((then.1, policies.last()?.1))
}

fn roles(policy: &Policy, past: &[Past], since: Timestamp) -> BTreeMap<RoleName, RoleUse> {
    let mut roles: BTreeMap<RoleName, RoleUse> =
        policy.roles().keys().map(|r| (r.clone(), RoleUse::default())).collect();
    let mut took: BTreeMap<&RoleName, Vec<u64>> = BTreeMap::new();
    for past in past.iter().filter(|past| past.at >= since) {
        let decided = past.decided.filter(|_| is_decided(policy, past));
        let role = roles.entry(past.request.role.clone()).or_default();
        role.count(past.became, past.automatic, (decided.is_some(), past.claimed.is_some()), past.used);
        role.last = role.last.max(Some(past.at));
        took.entry(&past.request.role).or_default().extend(decided.map(|at| at.since(past.at).unsigned_abs()));
    }
    for (name, mut took) in took {
        took.sort_unstable();
        if let Some(role) = roles.get_mut(name) {
            (role.decided_p50, role.decided_p90) = (percentile(&took, 50), percentile(&took, 90));
        }
    }
    roles
}

/// Whether it was denied, or approved by as many as the role asks for today.
fn is_decided(policy: &Policy, past: &Past) -> bool {
    let people: Vec<PersonName> = past.approved.iter().map(|(person, _)| person.clone()).collect();
    let enough = || policy.roles().get(&past.request.role).is_none_or(|role| role.quorum.met_by(&people));
    past.became == EventKind::Denied || past.claimed.is_some() || enough()
}

/// The nearest rank.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

impl RoleUse {
    /// Takes in a request: what became of it, whether the policy approved it by itself, whether people decided and
    /// whether it was claimed, and whether a host told of a use.
    fn count(&mut self, became: EventKind, automatic: bool, (decided, claimed): (bool, bool), used: bool) {
        self.asked += 1;
        let counts = [
            (&mut self.automatic, automatic),
            (&mut self.denied, became == EventKind::Denied),
            (&mut self.approved, decided && became != EventKind::Denied),
            (&mut self.undecided, became == EventKind::Lapsed && !decided && !automatic),
            (&mut self.unclaimed, became == EventKind::Lapsed && (decided || automatic)),
            (&mut self.claimed, claimed),
            (&mut self.unused, claimed && became != EventKind::Claimed && !used),
        ];
        for (count, yes) in counts {
            *count += u32::from(yes);
        }
    }
}

/// Everybody who may ask for something.
fn eligible(policy: &Policy) -> BTreeSet<Eligible> {
    let mut all = BTreeSet::new();
    for (name, role) in policy.roles() {
        all.extend(
            role.requesters.all().into_iter().map(|person| Eligible { person: person.clone(), role: name.clone() }),
        );
    }
    all
}

fn dormant(policy: &Policy, past: &[Past], since: Timestamp) -> Vec<Eligible> {
    let had = past.iter().filter(|past| past.claimed.is_some_and(|at| at >= since));
    let had: BTreeSet<Eligible> =
        had.map(|past| Eligible { person: past.request.person.clone(), role: past.request.role.clone() }).collect();
    eligible(policy).difference(&had).cloned().collect()
}

fn drift(then: &Policy, now: &Policy) -> Drift {
    let (before, after) = (eligible(then), eligible(now));
    let mut hosts = BTreeMap::new();
    for (name, role) in now.roles() {
        let known = then.roles().get(name).map(|role| &role.hosts[..]).unwrap_or_default();
        let new: Vec<HostName> = role.hosts.iter().filter(|host| !known.contains(host)).cloned().collect();
        if !new.is_empty() {
            hosts.insert(name.clone(), new);
        }
    }
    let missing = |of: &BTreeSet<Eligible>, from: &BTreeSet<Eligible>| of.difference(from).cloned().collect();
    Drift { gained: missing(&after, &before), lost: missing(&before, &after), hosts }
}

fn print(context: &Context, report: &Report, now: Timestamp) {
    let ui = &context.ui;
    let took = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), length);
    let row = |(name, role): (&RoleName, &RoleUse)| {
        let counts = [role.asked, role.automatic, role.approved, role.denied, role.undecided, role.unclaimed];
        let mut cells = vec![name.to_string()];
        cells.extend(counts.iter().chain(&[role.claimed, role.unused]).map(ToString::to_string));
        cells.extend([took(role.decided_p50), took(role.decided_p90)]);
        cells.push(role.last.map_or_else(|| "never".to_owned(), |at| time(at, now)));
        cells
    };
    let rows: Vec<_> = report.roles.iter().map(row).collect();
    let header = [
        "ROLE",
        "ASKED",
        "AUTOMATIC",
        "APPROVED",
        "DENIED",
        "UNDECIDED",
        "UNCLAIMED",
        "CLAIMED",
        "UNUSED",
        "P50",
        "P90",
        "LAST",
    ];
    ui.table(&header, &rows);
    for Eligible { person, role } in &report.dormant {
        ui.out(format_args!("{person} may ask for {role} and has not had it since {}", time(report.since, now)));
    }
    for Eligible { person, role } in &report.drift.gained {
        ui.out(format_args!("{person} may ask for {role}, and could not then"));
    }
    for Eligible { person, role } in &report.drift.lost {
        ui.out(format_args!("{person} could ask for {role} then, and may not now"));
    }
    for (role, hosts) in &report.drift.hosts {
        let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
        ui.out(format_args!("{role} opens {}, and did not then", hosts.join(", ")));
    }
    if report.erased > 0 {
        ui.say(format_args!("{} more requests are not counted: their text is gone", report.erased));
    }
    ui.say("UNUSED counts what no host told of: hosts tell only with host report");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let percentiles = |sorted: &[u64]| (percentile(sorted, 50), percentile(sorted, 90));
        assert_eq!(percentiles(&[]), (None, None));
        assert_eq!(percentiles(&[7]), (Some(7), Some(7)));
        assert_eq!(percentiles(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), (Some(5), Some(9)));
    }

    #[test]
    fn what_became_of_a_request_is_counted_once() {
        let counts = |became, automatic, decided: Option<i64>, claimed: Option<i64>, used| {
            let mut role = RoleUse::default();
            role.count(became, automatic, (decided.is_some(), claimed.is_some()), used);
            [role.automatic, role.approved, role.denied, role.undecided, role.unclaimed, role.claimed, role.unused]
        };
        let (asked, lapsed, ended) = (EventKind::Requested, EventKind::Lapsed, EventKind::Expired);
        assert_eq!(counts(asked, false, None, None, false), [0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts(lapsed, false, None, None, false), [0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(counts(lapsed, false, Some(1), None, false), [0, 1, 0, 0, 1, 0, 0]);
        assert_eq!(counts(lapsed, true, None, None, false), [1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(counts(EventKind::Denied, false, Some(1), None, false), [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(counts(EventKind::Claimed, false, Some(1), Some(2), false), [0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(counts(ended, false, Some(1), Some(2), false), [0, 1, 0, 0, 0, 1, 1]);
        assert_eq!(counts(ended, true, None, Some(2), true), [1, 0, 0, 0, 0, 1, 0]);
    }
}
