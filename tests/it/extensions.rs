//! A later start, and extensions: what they lead to, and what they are refused for.

use serde_json::{Value, json};
use ssh_jit::domain::statement::Kind;
use ssh_key::Certificate;

use crate::support::service::{Asked, Bench, Key, policy, with};

const HOUR: i64 = 3600;

fn view(bench: &Bench, asked: &Asked) -> Value {
    bench.get(&format!("/v1/requests/{}", asked.id), &bench.session("erin")).ok().json()
}

/// An hour of db-prod on db1, active; with its serial.
fn active(bench: &Bench) -> (Asked, Value) {
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": HOUR, "hosts": ["db1"]}));
    bench.approve("carol", &asked).ok();
    let serial = bench.claim(&asked).ok().json()["serial"].clone();
    (asked, serial)
}

fn extension(bench: &Bench, of: &Asked, changes: &Value) -> Asked {
    let changes = with(json!({"extends": of.id, "hosts": ["db1"], "seconds": HOUR}), changes);
    bench.ask("alice", "db-prod", &changes)
}

/// Approved today, claimed tomorrow: the window begins at the claim, and the claim not before the start.
#[test]
fn a_later_start_is_claimed_then_and_not_before() {
    let bench = Bench::new();
    let start = bench.at(24 * HOUR);
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": HOUR, "start": start}));
    let claim_by = bench.at(28 * HOUR);
    bench.refuses("wider", || bench.decide("carol", &asked, &json!({"claim_by": bench.at(28 * HOUR + 1)})));
    bench.refuses("wider", || bench.decide("carol", &asked, &json!({"start": null})));
    let answer = bench.decide("carol", &asked, &json!({"claim_by": claim_by})).ok().json();
    assert_eq!(answer["state"], json!({"name": "approved", "claim_by": claim_by}));
    bench.refuses("too-early", || bench.claim(&asked));
    bench.advance(24 * HOUR - 1);
    bench.refuses("too-early", || bench.claim(&asked));
    bench.advance(1);
    let certificate = Certificate::from_openssh(&bench.claim(&asked).certificate()).unwrap();
    assert_eq!(certificate.valid_before() - certificate.valid_after(), HOUR.cast_unsigned());
    assert_eq!(view(&bench, &asked)["start"], json!(start));
}

/// Where nobody is asked, it lapses as long after its start as it would after the request.
#[test]
fn a_later_start_lapses_later() {
    let bench = Bench::new();
    let changes = json!({"seconds": 600, "start": bench.at(24 * HOUR)});
    let [claimed, lapsed] = [(); 2].map(|()| bench.ask("alice", "db-prod", &changes));
    assert_eq!(claimed.answer["request"]["state"], json!({"name": "approved", "claim_by": bench.at(28 * HOUR)}));
    bench.advance(28 * HOUR);
    bench.claim(&claimed).ok();
    bench.advance(1);
    bench.refuses("lapsed", || bench.claim(&lapsed));
}

/// R14: a new decision, its own key and certificate; and the old one lives on.
#[test]
fn an_extension_is_decided_anew() {
    let bench = Bench::new();
    let (old, _) = active(&bench);
    bench.advance(HOUR / 2);
    let asked = extension(&bench, &old, &json!({}));
    assert_eq!(asked.answer["request"]["state"]["name"], "requested");
    bench.refuses("not-approved", || bench.claim(&asked));
    bench.approve("dan", &asked).ok();
    let new = Certificate::from_openssh(&bench.claim(&asked).certificate()).unwrap();
    assert_eq!(new.public_key(), asked.subject.public().data());
    assert_eq!(view(&bench, &old)["state"]["name"], "active");
    assert_eq!(view(&bench, &old)["extended_by"], json!([asked.id]));
    let since = bench.at(-HOUR / 2);
    // The clock skew ends it five seconds early.
    let extended = json!({"id": old.id, "since": since, "ends": bench.at(HOUR / 2 - 5), "first": since});
    assert_eq!(view(&bench, &asked)["extended"], extended);

    let third = extension(&bench, &asked, &json!({}));
    let view = view(&bench, &third);
    assert_eq!((&view["extends"], &view["extended"]["first"]), (&json!(asked.id), &json!(since)));
    assert_eq!(view["extended"]["since"], json!(bench.at(0)));
}

/// R14: an hour and three more are four; the fourth is refused, and again possible when the first is a day old.
#[test]
fn extensions_end_where_the_days_cap_does() {
    let bench = Bench::new();
    bench.load_policy(&policy().replace("[roles.web]\n", "[roles.web]\ndaily_max = \"4h\"\n"));
    let has = |changes: &Value| {
        let asked = bench.ask("alice", "web", &with(json!({"seconds": HOUR}), changes));
        bench.approve("carol", &asked).ok();
        bench.claim(&asked).ok();
        asked
    };
    let mut last = has(&json!({}));
    for _ in 0..3 {
        bench.advance(HOUR / 2);
        last = has(&json!({"extends": last.id}));
    }
    let asks = |changes: &Value| {
        let text = with(bench.request("alice", "web").0, changes).to_string();
        bench.send_text(Kind::Request, &Key::of("alice"), &text)
    };
    bench.refuses("daily-max", || asks(&json!({"seconds": HOUR, "extends": last.id})));
    bench.refuses("daily-max", || asks(&json!({"seconds": 1})));
    bench.advance(24 * HOUR - 3 * HOUR / 2);
    bench.refuses("daily-max", || asks(&json!({"seconds": HOUR})));
    bench.advance(HOUR);
    has(&json!({}));
}

/// V02: no extension is a way to more, to somebody else's, or to what is over.
#[test]
fn an_extension_extends_what_it_says() {
    let bench = Bench::new();
    let (old, serial) = active(&bench);
    let asks = |person: &str, role: &str, changes: &Value| {
        let (request, _) = bench.request(person, role);
        let base = with(request, &json!({"extends": old.id, "hosts": ["db1"]}));
        let key = Key::of(person);
        let text = with(base, changes).to_string();
        bench.send_text(Kind::Request, &key, &text)
    };
    bench.refuses("unknown-request", || asks("bob", "db-prod", &json!({})));
    bench.refuses("extends-other", || asks("alice", "web", &json!({"hosts": []})));
    bench.refuses("extends-other", || asks("alice", "db-prod", &json!({"hosts": ["db1", "db2"]})));
    bench.refuses("extends-other", || asks("alice", "db-prod", &json!({"hosts": []})));
    bench.give_back(&old, &serial).ok();
    bench.refuses("not-extendable", || asks("alice", "db-prod", &json!({})));

    let waiting = bench.ask("alice", "db-prod", &json!({"hosts": ["db1"]}));
    bench.refuses("not-extendable", || asks("alice", "db-prod", &json!({"extends": waiting.id})));
    let (over, _) = active(&bench);
    bench.advance(HOUR);
    bench.refuses("not-extendable", || asks("alice", "db-prod", &json!({"extends": over.id})));
}

/// Deciding takes its time: what ran out meanwhile is extended; what was given back is not.
#[test]
fn an_extension_of_what_was_given_back_is_not_claimed() {
    let bench = Bench::new();
    let (old, _) = active(&bench);
    let asked = extension(&bench, &old, &json!({}));
    bench.advance(2 * HOUR);
    bench.approve("dan", &asked).ok();
    bench.claim(&asked).ok();

    let (old, serial) = active(&bench);
    let asked = extension(&bench, &old, &json!({}));
    bench.approve("dan", &asked).ok();
    bench.give_back(&old, &serial).ok();
    bench.refuses("not-extendable", || bench.claim(&asked));
}

/// The same answer as for what does not exist, whatever became of it.
#[test]
fn nobody_learns_anything_of_somebody_elses() {
    let bench = Bench::new();
    let (active, _) = active(&bench);
    let [waiting, denied] = [(); 2].map(|()| bench.ask("alice", "db-prod", &json!({})));
    bench.deny("carol", &denied).ok();
    for other in [active.id, waiting.id, denied.id, bench.id().to_string()] {
        let (request, _) = bench.request("bob", "db-prod");
        let text = with(request, &json!({"extends": other})).to_string();
        let key = Key::of("bob");
        bench.refuses("unknown-request", || bench.send_text(Kind::Request, &key, &text));
    }
}

/// The page says from when, and what it goes on from; and what a passkey signs there is taken.
#[test]
fn a_page_shows_both_and_a_passkey_approves_them() {
    let bench = Bench::new();
    let carol = crate::web::carol(&bench);
    let (old, _) = active(&bench);
    bench.advance(600);
    let asked = extension(&bench, &old, &json!({"start": bench.at(600)}));
    let path = format!("/requests/{}", asked.id);
    let page = carol.opens(&bench, &path).ok().body;
    let extends = format!("It extends <a href=\"/requests/{0}\">{0}</a>, active since", old.id);
    assert!(page.contains("<strong>Begins</strong> <time") && page.contains(&extends), "{page}");
    assert!(page.contains(": in all 1h10m if it begins now"), "{page}");
    let signed = carol.signs(Kind::Approval, &carol.draft(&bench, &asked.id, "approve"));
    let state = carol.calls(&bench, "/web/decisions", &signed).ok().json()["state"].clone();
    assert_eq!(state, json!({"name": "approved", "claim_by": bench.at(600 + 4 * HOUR)}));
    bench.advance(600);
    bench.claim(&asked).ok();
    assert!(carol.opens(&bench, &format!("/requests/{}", old.id)).ok().body.contains("Extended by"));
}
