//! Sequences by hand. A model that only ever refuses would agree with a service that does, and chance might never lose
//! what matters in the moment that matters: so here each condition is lost before the request, before the last
//! approval and before the claim, and found again.

use super::steps::{LAST, Step};
use super::world::{Ask, Policy, Quorum, Role, TICKET, When};
use super::{Run, World};

const ALICE: usize = 0;
const CAROL: usize = 2;
const DAN: usize = 3;
const FRANK: usize = 4;
const ROBOT: usize = 6;

/// How a condition is lost and found, and what is said without it: at the request, at the last approval (where
/// people are asked at all) and at the claim.
struct Row {
    name: &'static str,
    policy: Policy,
    who: (&'static str, usize),
    approvers: &'static [usize],
    seconds: i64,
    lose: Vec<Step>,
    find: Vec<Step>,
    told: [&'static str; 3],
}

impl Row {
    /// Of a role that may be had for an hour, once carol approves.
    fn new(name: &'static str, role: Role, lose: Step, find: Step, told: [&'static str; 3]) -> Self {
        let (who, approvers, lose, find) = (("alice", 0), &[CAROL], vec![lose], vec![find]);
        Self { name, policy: one(role), who, approvers, seconds: 3600, lose, find, told }
    }

    /// Of one that may be had for ten minutes without asking.
    fn automatic(name: &'static str, when: When, lose: Step, find: Step) -> Self {
        let role = Role { automatic: Some(when), ..Role::default() };
        let row = Self::new(name, role, lose, find, ["requested", "", "not-enough-approvals"]);
        Self { approvers: &[], seconds: 600, ..row }
    }

    /// Lost by another policy.
    fn policy(name: &'static str, lose: Policy, told: [&'static str; 3]) -> Self {
        Self::new(name, Role::default(), Step::Policy(lose), Step::Policy(Policy::default()), told)
    }
}

impl Run<'_> {
    /// Takes steps, and gives what the last of them was told.
    #[track_caller]
    fn take(&mut self, steps: &[Step]) -> &str {
        for step in steps {
            self.step(step).unwrap_or_else(|e| panic!("{step:?}: {e}"));
        }
        &self.told
    }

    /// A minute before the night begins, inside, and alice on call for two hours.
    fn evening(&mut self) {
        let (day, evening) = (24 * 3600, 19 * 3600 + 59 * 60);
        let wait = (evening - self.model.now % day + day) % day;
        self.take(&[Step::Wait(wait), on_call(0)]);
    }
}

/// A policy with such a role; the others are plain.
fn one(role: Role) -> Policy {
    Policy { roles: [role, Role::default(), Role::default()], ..Policy::default() }
}

fn ask((person, role): (&'static str, usize), seconds: i64) -> Step {
    Step::Ask(Ask { person, role, seconds, start: 0, extends: None, ticket: Some(TICKET) })
}

fn approve(by: usize, one: usize) -> Step {
    Step::Approve { by, one, seconds: 10_800 }
}

fn claim(one: usize) -> Step {
    Step::Claim { one, by_subject: true }
}

fn on_call(who: usize) -> Step {
    Step::OnCall { who: Some(who), seconds: 7200 }
}

const NOBODY: Step = Step::OnCall { who: None, seconds: 0 };
const INSIDE: Step = Step::Move { inside: true };
const OUTSIDE: Step = Step::Move { inside: false };
const OPEN: Step = Step::Ticket { open: true };
const CLOSED: Step = Step::Ticket { open: false };
const NIGHT: Step = Step::Wait(61);
const ANY: When = When { inside: false, by_day: false, ticket: false, on_call: false };

fn conditions() -> Vec<Row> {
    let row = |name, when, lose, find| Row::new(name, Role { when, ..Role::default() }, lose, find, ["conditions"; 3]);
    let (inside, by_day) = (When { inside: true, ..ANY }, When { by_day: true, ..ANY });
    let (ticket, duty) = (When { ticket: true, ..ANY }, When { on_call: true, ..ANY });
    let automatic = || Step::Policy(Policy { automatic: Some(ANY), ..Policy::default() });
    vec![
        // Where the requester went meanwhile is nothing to the approver.
        Row { told: ["conditions", "approved", "conditions"], ..row("address", inside, OUTSIDE, INSIDE) },
        row("hours", by_day, NIGHT, Step::Policy(Policy::default())),
        row("ticket", ticket, CLOSED, OPEN),
        row("fact", duty, NOBODY, on_call(0)),
        row("fact, of another", duty, on_call(1), on_call(0)),
        row("fact, over", duty, Step::Wait(7200), on_call(0)),
        Row::automatic("automatic, address", inside, OUTSIDE, INSIDE),
        Row::automatic("automatic, hours", by_day, NIGHT, automatic()),
        Row::automatic("automatic, ticket", ticket, CLOSED, OPEN),
        Row::automatic("automatic, fact", duty, NOBODY, on_call(0)),
    ]
}

fn policies() -> Vec<Row> {
    let plain = Policy::default();
    let deny = Role { deny: Some(When { on_call: true, ..ANY }), ..Role::default() };
    let (short, capped) = (Role { short: true, ..Role::default() }, Role { capped: true, ..Role::default() });
    let quorum = |quorum| one(Role { quorum, ..Role::default() });
    let sensitive = Role { sensitive: true, ..Role::default() };
    let any = |role| Step::Policy(Policy { automatic: Some(ANY), ..one(role) });
    let asked = ["requested", "requested", "not-enough-approvals"];
    vec![
        Row::policy("denial", one(deny), ["denied-by-rule"; 3]),
        Row::policy("length", one(short), ["too-long"; 3]),
        Row::policy("requester", Policy { alice_left: true, ..plain }, ["not-eligible"; 3]),
        Row::policy("approver", Policy { carol_left: true, ..plain }, ["requested", "not-approver", "not-approver"]),
        Row {
            approvers: &[DAN],
            ..Row::policy("key", Policy { dan_revoked: true, ..plain }, ["requested", "revoked-key", "revoked-key"])
        },
        Row {
            who: ("dan", 1),
            ..Row::policy("requester's key", Policy { dan_revoked: true, ..plain }, ["revoked-key"; 3])
        },
        Row {
            find: vec![Step::Policy(plain), approve(FRANK, 0)],
            ..Row::policy("second approver", quorum(Quorum::Two), asked)
        },
        Row {
            policy: quorum(Quorum::Two),
            approvers: &[CAROL, DAN],
            find: vec![approve(FRANK, 0), Step::Policy(quorum(Quorum::Two))],
            ..Row::policy("agreement", quorum(Quorum::Agree), asked)
        },
        Row {
            lose: vec![Step::Policy(one(capped)), ask(("alice", 0), 7200), approve(CAROL, LAST), claim(LAST)],
            ..Row::policy("day", plain, ["daily-max"; 3])
        },
        Row {
            policy: Policy { automatic: Some(ANY), ..plain },
            ..Row::automatic("sensitive", ANY, any(sensitive), any(Role::default()))
        },
    ]
}

/// Walks to a stage, is told so without what is missing, finds it, and goes on to the certificate.
fn walk(world: &World, row: &Row, stage: usize) {
    let (name, mut run) = (row.name, Run::new(world, &row.policy));
    let to_claim = |one| {
        let approvals = row.approvers.iter().map(move |by| approve(*by, one));
        [ask(row.who, row.seconds)].into_iter().chain(approvals).chain([claim(one)]).collect::<Vec<_>>()
    };
    let steps = to_claim(0);
    let at = [0, steps.len() - 2, steps.len() - 1][stage];
    run.evening();
    run.take(&steps[..at]);
    run.take(&row.lose);
    assert_eq!(run.take(&steps[at..=at]), row.told[stage], "{name} at {stage}");
    run.take(&row.find);
    let told = if stage == 0 { run.take(&to_claim(run.cases.len())) } else { run.take(&steps[at..]) };
    assert_eq!(told, "claimed", "{name} after {stage}");
    run.end().unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn nothing_is_given_while_a_condition_is_missing() {
    let world = World::new();
    for row in conditions().iter().chain(&policies()) {
        for stage in (0..3).filter(|stage| !row.told[*stage].is_empty()) {
            walk(&world, row, stage);
        }
    }
}

/// Takes steps, each of which must be told so; nothing where there is nothing to tell.
fn told(run: &mut Run<'_>, steps: &[(Step, &str)]) {
    for (step, told) in steps {
        let answer = run.take(std::slice::from_ref(step));
        assert!(told.is_empty() || answer == *told, "{step:?}: {answer}");
    }
}

/// A later start, an extension, and a policy that changes; what was given back is not extended.
#[test]
fn a_sequence_that_leads_somewhere() {
    let world = World::new();
    let two = one(Role { quorum: Quorum::Two, ..Role::default() });
    let ask = Ask { person: "alice", role: 0, seconds: 3600, start: 900, extends: None, ticket: None };
    let before = world.bench.events().len();
    told(
        &mut Run::new(&world, &two),
        &[
            (Step::Ask(ask), "requested"),
            (Step::Approve { by: CAROL, one: 0, seconds: 1800 }, "requested"),
            (approve(ALICE, 0), "self-approval"),
            (approve(ROBOT, 0), "service-decides"),
            (approve(DAN, 0), "approved"),
            (claim(0), "too-early"),
            (Step::Wait(900), ""),
            (claim(0), "claimed"),
            (Step::Extend { one: 0, seconds: 600 }, "requested"),
            (approve(CAROL, 1), "requested"),
            (approve(DAN, 1), "approved"),
            (Step::Policy(Policy { carol_left: true, ..two }), ""),
            (claim(0), "not-approver"),
            (Step::Policy(two), ""),
            (Step::Return { one: 0 }, "returned"),
            (claim(1), "not-extendable"),
        ],
    );
    let story = world.bench.story(before);
    assert_eq!(story.iter().filter(|event| *event == "claimed" || *event == "returned").count(), 2);
}

/// The ticket is that of the request, and the hour that of its start.
#[test]
fn conditions_are_held_against_what_was_asked() {
    let world = World::new();
    let strict = one(Role { when: When { by_day: true, ticket: true, ..ANY }, ..Role::default() });
    let good = Ask { person: "alice", role: 0, seconds: 600, start: 0, extends: None, ticket: Some(TICKET) };
    let mut run = Run::new(&world, &strict);
    run.evening();
    told(
        &mut run,
        &[
            (Step::Ask(Ask { ticket: None, ..good }), "conditions"),
            (Step::Ask(Ask { ticket: Some("foo"), ..good }), "conditions"),
            (Step::Ask(Ask { start: 900, ..good }), "conditions"),
            (Step::Policy(Policy::default()), ""),
            (Step::Ask(Ask { start: 900, ..good }), "requested"),
            (Step::Policy(strict), ""),
            (approve(CAROL, 0), "conditions"),
            (Step::Ask(good), "requested"),
            (approve(CAROL, 1), "approved"),
            (claim(1), "claimed"),
        ],
    );
    run.end().unwrap_or_else(|e| panic!("{e}"));
}

/// What hangs on a fact ends with it, unless it would be given without. Until then it lasts no longer than the fact.
#[test]
fn access_ends_with_its_fact() {
    let world = World::new();
    let automatic = Some(When { on_call: true, ..ANY });
    let mut run = Run::new(&world, &one(Role { automatic, ..Role::default() }));
    told(
        &mut run,
        &[
            (ask(("alice", 0), 900), "requested"),
            (approve(CAROL, 0), "approved"),
            (Step::OnCall { who: Some(ALICE), seconds: 600 }, ""),
            (claim(0), "claimed"),
            (ask(("alice", 0), 900), "approved"),
            (claim(1), "claimed"),
            (NOBODY, ""),
            (claim(0), "claimed"),
            (claim(1), "revoked"),
            (Step::Return { one: 1 }, "not-active"),
        ],
    );
    run.end().unwrap_or_else(|e| panic!("{e}"));
}
