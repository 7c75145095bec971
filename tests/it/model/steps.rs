//! What can happen, and how likely it is.

use proptest::prelude::*;

use super::world::{Ask, PEOPLE, Policy, Quorum, Role, TICKET, When};

/// A step. `Move`: those who ask and claim go inside, or leave. `OnCall`: who is, for so many seconds.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Ask(Ask),
    Extend { one: usize, seconds: i64 },
    Approve { by: usize, one: usize, seconds: i64 },
    Deny { by: usize, one: usize },
    Withdraw { by: Option<usize>, one: usize },
    Claim { one: usize, by_subject: bool },
    Return { one: usize },
    Revoke { by: usize, one: usize },
    BreakGlass { who: usize, seconds: i64 },
    BreakAgain,
    Policy(Policy),
    Move { inside: bool },
    Ticket { open: bool },
    OnCall { who: Option<usize>, seconds: i64 },
    Wait(i64),
    Sweep,
}

/// The last request of a sequence of up to sixteen, whatever their number.
pub(super) const LAST: usize = 720_719;

/// Any step; or a request that is led to its certificate, or an extension of one, unless something comes between.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let begins = prop_oneof![
        3 => ask().prop_map(Step::Ask),
        1 => (0..8usize).prop_map(|one| Step::Extend { one, seconds: 600 }),
    ];
    let between = || prop::option::weighted(0.3, prop_oneof![4 => circumstance(), 1 => give_back(), 1 => revoke()]);
    let approve = || approve(Just(LAST).boxed());
    let led = (begins, between(), approve(), between(), approve(), between(), between()).prop_map(
        |(begins, before, first, meanwhile, second, after, later)| {
            let claim = || Some(Step::Claim { one: LAST, by_subject: true });
            let again = later.is_some().then(claim).flatten();
            let steps = [Some(begins), before, Some(first), meanwhile, Some(second), after, claim(), later, again];
            steps.into_iter().flatten().collect::<Vec<_>>()
        },
    );
    prop_oneof![2 => led, 3 => step().prop_map(|step| vec![step])]
}

fn give_back() -> impl Strategy<Value = Step> {
    (0..8usize).prop_map(|one| Step::Return { one })
}

fn revoke() -> impl Strategy<Value = Step> {
    (prop::sample::select(vec![0usize, 2, 3, 4]), 0..8usize).prop_map(|(by, one)| Step::Revoke { by, one })
}

fn step() -> impl Strategy<Value = Step> {
    let one = || 0..8usize;
    prop_oneof![
        4 => ask().prop_map(Step::Ask),
        // The same people and role once more, so that extensions lead somewhere.
        3 => (one(), prop::sample::select(vec![600i64, 3600])).prop_map(|(one, seconds)| Step::Extend { one, seconds }),
        6 => approve(one().boxed()),
        1 => (2..7usize, one()).prop_map(|(by, one)| Step::Deny { by, one }),
        1 => (prop::option::weighted(0.2, 0..7usize), one()).prop_map(|(by, one)| Step::Withdraw { by, one }),
        8 => (one(), prop::bool::weighted(0.9)).prop_map(|(one, by_subject)| Step::Claim { one, by_subject }),
        1 => give_back(),
        1 => revoke(),
        1 => (0..2usize, prop::sample::select(vec![300i64, 600, 700, 901]))
            .prop_map(|(who, seconds)| Step::BreakGlass { who, seconds }),
        1 => Just(Step::BreakAgain),
        6 => circumstance(),
        1 => Just(Step::Sweep),
    ]
}

/// What changes for all requests.
fn circumstance() -> impl Strategy<Value = Step> {
    let who = prop::option::weighted(0.8, prop::sample::select(vec![0usize, 0, 1]));
    prop_oneof![
        1 => policies().prop_map(Step::Policy),
        1 => prop::bool::weighted(0.7).prop_map(|inside| Step::Move { inside }),
        1 => prop::bool::weighted(0.7).prop_map(|open| Step::Ticket { open }),
        2 => (who, prop::sample::select(vec![600i64, 7200])).prop_map(|(who, seconds)| Step::OnCall { who, seconds }),
        3 => prop::sample::select(vec![1i64, 30, 61, 900, 3600, 14_401, 36_000, 86_401]).prop_map(Step::Wait),
    ]
}

fn approve(one: BoxedStrategy<usize>) -> impl Strategy<Value = Step> {
    let by = prop::sample::select(vec![2usize, 2, 3, 3, 4, 4, 4, 5, 0, 6]);
    (by, one, prop::sample::select(vec![300i64, 1800, 10_800])).prop_map(|(by, one, seconds)| Step::Approve {
        by,
        one,
        seconds,
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    // Those who may ask, more often than those who may not.
    let whose = prop::sample::select(vec![
        (0usize, 0usize),
        (0, 1),
        (0, 2),
        (0, 0),
        (1, 1),
        (1, 2),
        (5, 1),
        (6, 0),
        (3, 1),
        (2, 0),
    ]);
    let lengths = prop::sample::select(vec![600i64, 1800, 3600, 7200, 10_800]);
    let starts = prop::sample::select(vec![0i64, 0, 0, 0, 0, 0, 0, 0, 900, 90_000, 2_592_001]);
    let tickets = prop::sample::select(vec![Some(TICKET), Some(TICKET), Some(TICKET), None, Some("foo")]);
    (whose, lengths, starts, prop::option::weighted(0.1, 0..8usize), tickets).prop_map(
        |((who, role), seconds, start, extends, ticket)| Ask {
            person: PEOPLE[who],
            role,
            seconds,
            start,
            extends,
            ticket,
        },
    )
}

fn when(likely: f64) -> impl Strategy<Value = When> {
    let may = prop::bool::weighted(likely);
    (may, may, may, may).prop_map(|(inside, by_day, ticket, on_call)| When { inside, by_day, ticket, on_call })
}

fn role() -> impl Strategy<Value = Role> {
    let quorum = prop::sample::select(vec![Quorum::One, Quorum::One, Quorum::Two, Quorum::Agree]);
    let seldom = || prop::bool::weighted(0.15);
    let rules = (when(0.2), prop::option::weighted(0.4, when(0.4)), prop::option::weighted(0.2, when(0.5)));
    (rules, quorum, seldom(), seldom(), seldom()).prop_map(
        |((when, automatic, deny), quorum, sensitive, capped, short)| Role {
            when,
            automatic,
            deny,
            quorum,
            sensitive,
            capped,
            short,
        },
    )
}

/// What takes everything away is seldom, so that something is left.
pub(super) fn policies() -> impl Strategy<Value = Policy> {
    let seldom = || prop::bool::weighted(0.15);
    let automatic = prop::option::weighted(0.3, when(0.4));
    (seldom(), seldom(), seldom(), automatic, prop::array::uniform3(role())).prop_map(
        |(carol_left, alice_left, dan_revoked, automatic, roles)| Policy {
            carol_left,
            alice_left,
            dan_revoked,
            automatic,
            roles,
        },
    )
}
