//! Sequences of everything that people, policies, circumstances and time can do, against a model that says what each
//! step must answer. The service is whole: real signatures, real rows, real messages and tickets, through the real
//! router.

mod reference;
mod rules;
mod table;
mod world;

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use ssh_jit::config::Proxies;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::statement::Kind;
use ssh_key::Certificate;

use self::reference::Model;
use self::world::{Ask, ON_CALL, PAGER, PEOPLE, Policy, Quorum, ROLES, Role, TICKET, When};
use crate::support::pager::{is, over};
use crate::support::service::{Answer, Asked, Bench, Key, path_of, to_json, with};
use crate::support::tracker::{CLOSED, OPEN, Tracker, http};

/// So many sequences share a service: each begins when nothing of the one before is open any more.
const SHARE: usize = 20;
/// How long the service believes what a ticket check said, in seconds.
const BELIEVED_FOR: i64 = 60;

#[derive(Debug, Clone)]
enum Step {
    Ask(Ask),
    Extend {
        one: usize,
        seconds: i64,
    },
    Approve {
        by: usize,
        one: usize,
        seconds: i64,
    },
    Deny {
        by: usize,
        one: usize,
    },
    Withdraw {
        by: Option<usize>,
        one: usize,
    },
    Claim {
        one: usize,
        by_subject: bool,
    },
    Return {
        one: usize,
    },
    BreakGlass {
        who: usize,
        seconds: i64,
    },
    BreakAgain,
    Policy(Policy),
    /// Those who ask and claim go inside, or leave.
    Move {
        inside: bool,
    },
    Ticket {
        open: bool,
    },
    /// Who is on call, for so many seconds.
    OnCall {
        who: Option<usize>,
        seconds: i64,
    },
    Wait(i64),
    Sweep,
}

/// The last request of a sequence of up to sixteen, whatever their number.
const LAST: usize = 720_719;

/// Any step; or a request that is led to its certificate, unless something comes between.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let between = || prop::option::weighted(0.3, circumstance());
    let approve = || approve(Just(LAST).boxed());
    let claim = Step::Claim { one: LAST, by_subject: true };
    let led = (ask(), between(), approve(), between(), approve(), between()).prop_map(
        move |(ask, before, first, meanwhile, second, after)| {
            let steps = [Some(Step::Ask(ask)), before, Some(first), meanwhile, Some(second), after];
            steps.into_iter().flatten().chain([claim.clone()]).collect::<Vec<_>>()
        },
    );
    prop_oneof![2 => led, 3 => step().prop_map(|step| vec![step])]
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
        1 => one().prop_map(|one| Step::Return { one }),
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
        1 => rules().prop_map(Step::Policy),
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
fn rules() -> impl Strategy<Value = Policy> {
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

/// A service, and where it looks tickets up.
struct World {
    bench: Bench,
    tracker: Tracker,
}

impl World {
    fn new() -> Self {
        let (mut bench, tracker) = (Bench::unstarted(), Tracker::new());
        bench.settings.proxies = Proxies { trusted: vec!["127.0.0.0/8".parse().expect("a network")], always: true };
        bench.start(&Policy::default().text(tracker.address)).expect("a service that starts");
        Self { bench, tracker }
    }
}

/// A request of this sequence, and its certificate's serial.
struct Case {
    asked: Asked,
    serial: Value,
}

struct Run<'w> {
    world: &'w World,
    bench: &'w Bench,
    model: Model,
    cases: Vec<Case>,
    policy: Digest,
    glass: Option<String>,
    /// What the last step answered.
    told: String,
}

impl<'w> Run<'w> {
    fn new(world: &'w World, policy: &Policy) -> Self {
        let model = Model { now: world.bench.at(0).unix(), inside: true, ..Model::default() };
        let (bench, policy_digest) = (&world.bench, Digest::of(b""));
        let mut run =
            Self { world, bench, model, cases: Vec::new(), policy: policy_digest, glass: None, told: String::new() };
        run.load(policy);
        run.ticket(true);
        run
    }

    /// What the service answered is what the model says: a state, or a refusal.
    fn same(&mut self, answer: &Answer, expected: Result<&str, &str>) -> Result<(), TestCaseError> {
        let told = if answer.status >= 400 { Err(answer.code()) } else { Ok(state_of(&answer.json())) };
        prop_assert_eq!(&told, &expected.map(str::to_owned).map_err(str::to_owned), "{:?}", answer);
        self.told = told.unwrap_or_else(|code| code);
        Ok(())
    }

    fn load(&mut self, policy: &Policy) {
        let text = policy.text(self.world.tracker.address);
        self.bench.load_policy(&text);
        (self.policy, self.model.policy) = (Digest::of(text.as_bytes()), *policy);
    }

    /// Opens or closes the ticket, and waits until the service would ask again.
    fn ticket(&mut self, open: bool) {
        self.world.tracker.says(http(200, "", if open { OPEN } else { CLOSED }));
        self.model.ticket_open = open;
        self.wait(BELIEVED_FOR);
    }

    fn wait(&mut self, seconds: i64) {
        self.bench.advance(seconds);
        self.model.now += seconds;
    }

    fn on_call(&mut self, who: Option<usize>, seconds: i64) {
        let person = who.map(|who| PEOPLE[who]);
        let line = person.map_or_else(|| over(ON_CALL), |person| is(self.bench, ON_CALL, person, seconds));
        PAGER.states(self.bench, &json!([line])).ok();
        self.model.on_call = person.map(|person| (person, self.model.now + seconds));
        self.model.page();
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let bench = self.bench;
        match *step {
            Step::Ask(ask) => {
                let extends = ask.extends.filter(|_| !self.cases.is_empty()).map(|one| one % self.cases.len());
                return self.ask(Ask { extends, ..ask });
            }
            Step::Policy(policy) => self.load(&policy),
            Step::Move { inside } => self.model.inside = inside,
            Step::Ticket { open } => self.ticket(open),
            Step::OnCall { who, seconds } => self.on_call(who, seconds),
            Step::Wait(seconds) => self.wait(seconds),
            Step::Sweep => prop_assert_eq!(bench.sweep(), self.model.sweep()),
            Step::BreakGlass { who, seconds } => {
                let (person, role, most) = [("alice", "db-prod", 600), ("carol", "vault", 900)][who];
                let statement = with(bench.breaking(person, role), &json!({"seconds": seconds}));
                self.glass = Some(statement.to_string());
                let expected = self.model.glass.breaks(self.model.now, most, seconds);
                return self.same(&bench.break_glass(&statement), expected);
            }
            Step::BreakAgain => {
                let expected = self.model.glass.again(self.model.now);
                let Some((expected, text)) = expected.zip(self.glass.as_ref()) else { return Ok(()) };
                let statement: Value = serde_json::from_str(text).expect("JSON");
                return self.same(&bench.break_glass(&statement), expected);
            }
            _ if self.cases.is_empty() => {}
            _ => return self.step_on_one(step),
        }
        Ok(())
    }

    /// Sends from where the model says that people are.
    fn send(&self, kind: Kind, key: &Key, text: &str) -> Answer {
        let from = if self.model.inside { "10.1.2.3" } else { "192.0.2.7" };
        let body = to_json(&json!({"text": text, "signature": key.sign(kind.namespace(), text.as_bytes())}));
        self.bench.browse("POST", path_of(kind), &[("x-forwarded-for", from)], &body).0
    }

    fn ask(&mut self, ask: Ask) -> Result<(), TestCaseError> {
        let (request, subject) = self.bench.request(ask.person, ROLES[ask.role]);
        let begins = (ask.start > 0).then(|| self.bench.at(ask.start));
        let old = ask.extends.map(|one| &self.cases[one].asked.id);
        let changes = json!({"seconds": ask.seconds, "start": begins, "extends": old, "ticket": ask.ticket});
        let text = with(request, &changes).to_string();
        let answer = self.send(Kind::Request, &Key::of(ask.person), &text);
        let expected = self.model.ask(ask);
        self.same(&answer, expected)?;
        if expected.is_ok() {
            self.cases.push(Case { asked: Asked::of(&text, subject, answer.json()), serial: json!("281474976710657") });
        }
        Ok(())
    }

    fn step_on_one(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (bench, count) = (self.bench, self.cases.len());
        match *step {
            Step::Extend { one, seconds } => {
                let one = one % count;
                self.ask(Ask { seconds, start: 0, extends: Some(one), ..self.model.asked[one].ask })
            }
            Step::Approve { by, one, seconds } => {
                let one = one % count;
                let asked = &self.cases[one].asked;
                let least = seconds.min(asked.terms["seconds"].as_i64().expect("seconds"));
                let changes = json!({"seconds": least, "policy": self.policy});
                let answer = bench.decide(PEOPLE[by], asked, &changes);
                let expected = self.model.decide(PEOPLE[by], one, true, seconds);
                self.same(&answer, expected)
            }
            Step::Deny { by, one } => {
                let one = one % count;
                let answer = bench.deny(PEOPLE[by], &self.cases[one].asked);
                let expected = self.model.decide(PEOPLE[by], one, false, 0);
                self.same(&answer, expected)
            }
            Step::Withdraw { by, one } => {
                let one = one % count;
                let by = by.map_or(self.model.asked[one].ask.person, |by| PEOPLE[by]);
                let answer = bench.withdraw_as(by, &self.cases[one].asked);
                let expected = self.model.withdraw(by, one);
                self.same(&answer, expected)
            }
            Step::Claim { one, by_subject } => self.claim(one % count, by_subject),
            Step::Return { one } => {
                let Case { asked, serial } = &self.cases[one % count];
                let answer = bench.give_back(asked, serial);
                let expected = self.model.give_back(one % count);
                self.same(&answer, expected)
            }
            _ => Ok(()),
        }
    }

    fn claim(&mut self, one: usize, by_subject: bool) -> Result<(), TestCaseError> {
        let asked = &self.cases[one].asked;
        let key = if by_subject { asked.subject.clone() } else { Key::of("mallory") };
        let answer = self.send(Kind::Claim, &key, &self.bench.claiming(asked).to_string());
        let expected = self.model.claim(one, by_subject);
        let line = if answer.status >= 400 { Err(answer.code()) } else { Ok(answer.json()) };
        let got = match &line {
            Ok(view) => {
                let certificate =
                    Certificate::from_openssh(view["certificate"].as_str().expect("a line")).expect("one");
                let subject = asked.subject.public();
                prop_assert_eq!(certificate.public_key(), subject.data());
                Ok((certificate.valid_before() - certificate.valid_after()).cast_signed())
            }
            Err(code) => Err(code.as_str()),
        };
        prop_assert_eq!(got, expected, "{:?}", answer);
        self.told = expected.map_or_else(str::to_owned, |_| "claimed".to_owned());
        if let Ok(view) = line {
            self.cases[one].serial = view["serial"].clone();
        }
        Ok(())
    }

    /// Nothing stays open for the next sequence.
    fn end(mut self) -> Result<(), TestCaseError> {
        self.step(&Step::Wait(2 * 86_400))?;
        self.step(&Step::Sweep)
    }
}

/// An answer to a request has its state inside, the others at the top; broken glass has none.
fn state_of(view: &Value) -> String {
    let state = view["request"]["state"]["name"].as_str().or(view["state"]["name"].as_str());
    state.unwrap_or("broken").to_owned()
}

fn agrees(sequences: u32) {
    let config = Config { cases: sequences, failure_persistence: None, ..Config::default() };
    let shared = RefCell::new((World::new(), 0));
    let sequence = (rules(), prop::collection::vec(steps(), 1..=12));
    let outcome = TestRunner::new(config).run(&sequence, |(policy, steps)| {
        let mut shared = shared.borrow_mut();
        if shared.1 == SHARE {
            // Its end proves the invariants of everything that it saw.
            *shared = (World::new(), 0);
        }
        shared.1 += 1;
        let mut run = Run::new(&shared.0, &policy);
        steps.iter().flatten().try_for_each(|step| run.step(step))?;
        run.end()
    });
    if let Err(error) = outcome {
        shared.borrow_mut().0.bench.tamper();
        panic!("{error}");
    }
}

#[test]
fn the_service_answers_as_the_model_does() {
    agrees(100);
}

#[test]
#[cfg(feature = "long-tests")]
fn the_service_answers_as_the_model_does_two_thousand_times() {
    agrees(2000);
}
