//! Sequences of everything that people, policies and time can do, against a model that says what each step must
//! answer. The service is whole: real signatures, real rows, through the real router.

mod reference;

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::statement::Kind;
use ssh_key::Certificate;

use self::reference::{Model, Rules};
use crate::support::service::{Answer, Asked, Bench, Key, policy, with};

const PEOPLE: [&str; 7] = ["alice", "bob", "carol", "dan", "frank", "erin", "robot"];
const ROLES: [&str; 3] = ["db-prod", "web", "vault"];
/// So many sequences share a service: each begins when nothing of the one before is open any more.
const SHARE: usize = 20;

#[derive(Debug, Clone)]
enum Step {
    Ask { who: usize, role: usize, seconds: i64, start: i64, extends: Option<usize> },
    Extend { one: usize, seconds: i64 },
    Approve { by: usize, one: usize, seconds: i64 },
    Deny { by: usize, one: usize },
    Withdraw { by: Option<usize>, one: usize },
    Claim { one: usize, by_subject: bool },
    Return { one: usize },
    BreakGlass { who: usize, seconds: i64 },
    BreakAgain,
    Policy(Rules),
    Wait(i64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0..8usize;
    let lengths = prop::sample::select(vec![600i64, 3600, 10_800]);
    let starts = prop::sample::select(vec![0i64, 0, 0, 0, 900, 90_000, 2_592_001]);
    let extends = prop::option::weighted(0.1, 0..8usize);
    let less = prop::sample::select(vec![300i64, 1800, 10_800]);
    prop_oneof![
        // Those who may ask, more often than those who may not.
        6 => (prop::sample::select(vec![0usize, 0, 1, 1, 2, 5, 6, 3]), 0..3usize, lengths, starts, extends)
            .prop_map(|(who, role, seconds, start, extends)| Step::Ask { who, role, seconds, start, extends }),
        // The same people and role once more, so that extensions lead somewhere.
        2 => (one.clone(), prop::sample::select(vec![600i64, 3600])).prop_map(|(one, seconds)| Step::Extend { one, seconds }),
        9 => (prop::sample::select(vec![2usize, 2, 3, 3, 4, 0, 5, 6]), one.clone(), less)
            .prop_map(|(by, one, seconds)| Step::Approve { by, one, seconds }),
        1 => (2..7usize, one.clone()).prop_map(|(by, one)| Step::Deny { by, one }),
        1 => (prop::option::weighted(0.2, 0..7usize), one.clone()).prop_map(|(by, one)| Step::Withdraw { by, one }),
        7 => (one.clone(), prop::bool::weighted(0.9)).prop_map(|(one, by_subject)| Step::Claim { one, by_subject }),
        1 => one.prop_map(|one| Step::Return { one }),
        1 => (0..2usize, prop::sample::select(vec![300i64, 600, 700, 901]))
            .prop_map(|(who, seconds)| Step::BreakGlass { who, seconds }),
        1 => Just(Step::BreakAgain),
        2 => any::<[bool; 6]>().prop_map(|may| Step::Policy(rules(may))),
        3 => prop::sample::select(vec![1i64, 30, 61, 900, 3600, 14_401, 86_401]).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

/// Each is taken away seldom, so that something is left.
fn rules(may: [bool; 6]) -> Rules {
    let both = |one: usize, other: usize| may[one] && may[other];
    Rules {
        carol_left: both(0, 1),
        alice_left: both(0, 2) && !may[1],
        dan_revoked: both(1, 3),
        web_needs_two: both(2, 3),
        short_vault: may[4],
        nothing_automatic: both(4, 5),
    }
}

/// The sample policy with what the rules say.
fn text(rules: Rules) -> String {
    let mut text = policy();
    let changes = [
        (rules.carol_left, "[people.carol]\ngroups = [\"dba\"]", "[people.carol]\ngroups = []"),
        (rules.alice_left, "[people.alice]\ngroups = [\"sre\"]", "[people.alice]\ngroups = []"),
        (rules.web_needs_two, "[roles.web]\n", "[roles.web]\napprovals = 2\n"),
        (
            rules.short_vault,
            "approvals  = 2\nmax        = \"2h\"\ndefault    = \"1h\"",
            "approvals  = 2\nmax        = \"30m\"\ndefault    = \"30m\"",
        ),
        (rules.nothing_automatic, "automatic  = { max = \"15m\" }\n", ""),
    ];
    for (_, from, to) in changes.iter().filter(|(wanted, _, _)| *wanted) {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    if rules.dan_revoked { format!("revoked_keys = [{:?}]\n{text}", Key::of("dan").line()) } else { text }
}

/// A request of this sequence, and its certificate's serial.
struct Case {
    asked: Asked,
    serial: Value,
}

struct Run<'b> {
    bench: &'b Bench,
    model: Model,
    cases: Vec<Case>,
    policy: Digest,
    glass: Option<String>,
}

/// The state, or the refusal.
fn told(answer: &Answer) -> Result<String, String> {
    if answer.status >= 400 {
        Err(answer.code())
    } else {
        Ok(answer.json()["state"]["name"].as_str().unwrap_or("broken").to_owned())
    }
}

fn same(answer: &Answer, expected: Result<&str, &str>) -> Result<(), TestCaseError> {
    prop_assert_eq!(told(answer), expected.map(str::to_owned).map_err(str::to_owned), "{:?}", answer);
    Ok(())
}

impl<'b> Run<'b> {
    fn new(bench: &'b Bench) -> Self {
        bench.load_policy(&policy());
        let model = Model::at(bench.at(0).unix());
        Self { bench, model, cases: Vec::new(), policy: Digest::of(policy().as_bytes()), glass: None }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let bench = self.bench;
        match *step {
            Step::Ask { who, role, seconds, start, extends } => {
                let extends = extends.filter(|_| !self.cases.is_empty()).map(|one| one % self.cases.len());
                return self.ask((PEOPLE[who], ROLES[role]), seconds, start, extends);
            }
            Step::Policy(rules) => {
                bench.load_policy(&text(rules));
                self.policy = Digest::of(text(rules).as_bytes());
                self.model.rules = rules;
            }
            Step::Wait(seconds) => {
                bench.advance(seconds);
                self.model.now += seconds;
            }
            Step::Sweep => prop_assert_eq!(bench.sweep(), self.model.sweep()),
            Step::BreakGlass { who, seconds } => {
                let (person, role, most) = [("alice", "db-prod", 600), ("carol", "vault", 900)][who];
                let statement = with(bench.breaking(person, role), &json!({"seconds": seconds}));
                self.glass = Some(statement.to_string());
                same(&bench.break_glass(&statement), self.model.break_glass(most, seconds))?;
            }
            Step::BreakAgain => {
                let Some((expected, text)) = self.model.break_again().zip(self.glass.clone()) else { return Ok(()) };
                let statement: Value = serde_json::from_str(&text).expect("JSON");
                same(&bench.break_glass(&statement), expected)?;
            }
            _ if self.cases.is_empty() => {}
            _ => return self.step_on_one(step),
        }
        Ok(())
    }

    fn ask(
        &mut self,
        (person, role): (&'static str, &'static str),
        seconds: i64,
        start: i64,
        extends: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let (request, subject) = self.bench.request(person, role);
        let begins = (start > 0).then(|| self.bench.at(start));
        let old = extends.map(|one| &self.cases[one].asked.id);
        let changes = json!({"seconds": seconds, "start": begins, "extends": old});
        let text = with(request, &changes).to_string();
        let answer = self.bench.send_text(Kind::Request, &Key::of(person), &text);
        let expected = self.model.ask((person, role), seconds, start, extends).map_err(str::to_owned);
        let told = if answer.status >= 400 {
            Err(answer.code())
        } else {
            Ok(answer.json()["request"]["state"]["name"].clone())
        };
        prop_assert_eq!(&told, &expected.map(Value::from), "{:?}", answer);
        if told.is_ok() {
            self.cases.push(Case { asked: Asked::of(&text, subject, answer.json()), serial: json!("281474976710657") });
        }
        Ok(())
    }

    fn step_on_one(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (bench, count) = (self.bench, self.cases.len());
        match *step {
            Step::Extend { one, seconds } => {
                let (person, role) = self.model.asked[one % count].whose();
                self.ask((person, role), seconds, 0, Some(one % count))
            }
            Step::Approve { by, one, seconds } => {
                let one = one % count;
                let asked = &self.cases[one].asked;
                let least = seconds.min(asked.terms["seconds"].as_i64().expect("seconds"));
                let changes = json!({"seconds": least, "policy": self.policy});
                same(&bench.decide(PEOPLE[by], asked, &changes), self.model.decide(PEOPLE[by], one, true, seconds))
            }
            Step::Deny { by, one } => {
                let one = one % count;
                same(&bench.deny(PEOPLE[by], &self.cases[one].asked), self.model.decide(PEOPLE[by], one, false, 0))
            }
            Step::Withdraw { by, one } => {
                let one = one % count;
                let by = by.map_or(self.model.asked[one].person, |by| PEOPLE[by]);
                same(&bench.withdraw_as(by, &self.cases[one].asked), self.model.withdraw(by, one))
            }
            Step::Claim { one, by_subject } => self.claim(one % count, by_subject),
            Step::Return { one } => {
                let Case { asked, serial } = &self.cases[one % count];
                same(&bench.give_back(asked, serial), self.model.give_back(one % count))
            }
            _ => Ok(()),
        }
    }

    fn claim(&mut self, one: usize, by_subject: bool) -> Result<(), TestCaseError> {
        let asked = &self.cases[one].asked;
        let key = if by_subject { asked.subject.clone() } else { Key::of("mallory") };
        let answer = self.bench.send(Kind::Claim, &key, &self.bench.claiming(asked));
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

fn agrees(sequences: u32) {
    let config = Config { cases: sequences, failure_persistence: None, ..Config::default() };
    let shared = RefCell::new((Bench::new(), 0));
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..=25), |steps| {
        let mut shared = shared.borrow_mut();
        if shared.1 == SHARE {
            // Its end proves the invariants of everything that it saw.
            *shared = (Bench::new(), 0);
        }
        shared.1 += 1;
        let mut run = Run::new(&shared.0);
        steps.iter().try_for_each(|step| run.step(step))?;
        run.end()
    });
    if let Err(error) = outcome {
        shared.borrow_mut().0.tamper();
        panic!("{error}");
    }
}

#[test]
fn the_service_answers_as_the_model_does() {
    agrees(60);
}

#[test]
#[cfg(feature = "long-tests")]
fn the_service_answers_as_the_model_does_two_thousand_times() {
    agrees(2000);
}

/// Sequences lead to what matters: a model that only ever refuses would agree, too.
#[test]
fn a_sequence_that_leads_somewhere() {
    let bench = Bench::new();
    let mut run = Run::new(&bench);
    let steps = [
        Step::Ask { who: 0, role: 2, seconds: 3600, start: 900, extends: None },
        Step::Approve { by: 2, one: 0, seconds: 1800 },
        Step::Approve { by: 3, one: 0, seconds: 10_800 },
        Step::Claim { one: 0, by_subject: true },
        Step::Wait(900),
        Step::Claim { one: 0, by_subject: true },
        Step::Extend { one: 0, seconds: 600 },
        Step::Policy(Rules { carol_left: true, ..Rules::default() }),
        Step::Claim { one: 0, by_subject: true },
        Step::Return { one: 0 },
    ];
    for step in &steps {
        run.step(step).unwrap_or_else(|e| panic!("{step:?}: {e}"));
    }
    assert_eq!(bench.story(2).iter().filter(|event| *event == "claimed" || *event == "returned").count(), 2);
}
