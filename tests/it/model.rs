//! Sequences of everything that people, policies, circumstances and time can do, against a model that says what each
//! step must answer. The service is whole: real signatures, real rows, real messages and tickets, through the real
//! router.

mod reference;
mod rules;
mod steps;
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
use self::steps::{Step, policies, steps};
use self::world::{Ask, ON_CALL, PAGER, PEOPLE, Policy, ROLES};
use crate::support::pager::{is, over};
use crate::support::service::{Answer, Asked, Bench, Key, path_of, to_json, with};
use crate::support::tracker::{CLOSED, OPEN, Tracker, http};

/// So many sequences share a service: each begins when nothing of the one before is open any more.
const SHARE: usize = 20;
/// How long the service believes what a ticket check said, in seconds.
const BELIEVED_FOR: i64 = 60;

/// A service, and where it looks tickets up.
struct World {
    bench: Bench,
    tracker: Tracker,
}

impl World {
    fn new() -> Self {
        let (mut bench, tracker) = (Bench::unstarted(), Tracker::new());
        bench.settings.proxies = Proxies { trusted: vec!["127.0.0.0/8".parse().expect("a network")], always: true };
        bench.settings.ticket_checks.insert("tracker".parse().expect("a name"), Tracker::allowed());
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

    /// Breaks the glass. Each use is reviewed at once, so that none becomes overdue: that is tried in `aftermath`.
    fn broken(&mut self, statement: &Value, expected: Result<&str, &str>) -> Result<(), TestCaseError> {
        self.same(&self.bench.break_glass(statement), expected)?;
        if expected.is_ok() {
            let said = json!({"break_glass": Digest::of(statement.to_string().as_bytes()), "id": statement["id"],
                "outcome": "justified", "comment": "the incident report is INC-412"});
            let review = with(self.bench.draft(Kind::Review, "frank"), &said);
            self.bench.send(Kind::Review, &Key::of("frank"), &review).ok();
        }
        Ok(())
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
                let (person, role, most) = [("alice", 0, 600), ("carol", 2, 900)][who];
                let statement = with(bench.breaking(person, ROLES[role]), &json!({"seconds": seconds}));
                self.glass = Some(statement.to_string());
                let Model { policy, now, glass, .. } = &mut self.model;
                let expected = glass.breaks(policy, *now, role, seconds <= most);
                return self.broken(&statement, expected);
            }
            Step::BreakAgain => {
                let expected = self.model.glass.again(&self.model.policy, self.model.now);
                let Some((expected, text)) = expected.zip(self.glass.as_ref()) else { return Ok(()) };
                let statement: Value = serde_json::from_str(text).expect("JSON");
                return self.broken(&statement, expected);
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
            Step::Revoke { by, one } => {
                let (by, one) = (PEOPLE[by], one % count);
                let changes =
                    json!({"target": {"request": self.cases[one].asked.id}, "reason": "the laptop was stolen"});
                let answer =
                    bench.send(Kind::Revocation, &Key::of(by), &with(bench.draft(Kind::Revocation, by), &changes));
                let expected = self.model.revoke(by, one);
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

/// An answer to a request has its state inside, the others at the top; a revocation gives a list, and broken glass has
/// none.
fn state_of(view: &Value) -> String {
    let state = view["request"]["state"]["name"].as_str().or(view["state"]["name"].as_str());
    state.unwrap_or(if view.is_array() { "revoked" } else { "broken" }).to_owned()
}

fn agrees(sequences: u32) {
    let config = Config { cases: sequences, failure_persistence: None, ..Config::default() };
    let shared = RefCell::new((World::new(), 0));
    let sequence = (policies(), prop::collection::vec(steps(), 1..=12));
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
