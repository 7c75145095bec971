//! Whole lives of requests, through the real router: what is asked, decided, claimed and ended, and
//! exactly what the log says of it.

use serde_json::{Value, json};
use ssh_key::Certificate;

use crate::support::service::{Asked, Bench};

fn parsed(line: &str) -> Certificate {
    Certificate::from_openssh(line).expect("a certificate")
}

fn principals(line: &str) -> Vec<String> {
    parsed(line).valid_principals().to_vec()
}

/// A bench, and the number of events that its start made.
fn bench() -> (Bench, usize) {
    let bench = Bench::new();
    let begun = bench.events().len();
    (bench, begun)
}

fn state_of(bench: &Bench, asked: &Asked) -> String {
    let view = bench.get(&format!("/v1/requests/{}", asked.id), &bench.session("erin")).ok().json();
    view["state"]["name"].as_str().expect("a state").to_owned()
}

#[test]
fn the_policy_approves_what_is_short() {
    let (bench, begun) = bench();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 900, "hosts": ["db2"]}));
    assert_eq!(asked.answer["request"]["state"]["name"], "approved");
    assert_eq!(principals(&bench.claim(&asked).certificate()), ["db-prod@db2"]);
    assert_eq!(bench.story(begun), ["requested", "approved-automatically (automatic)", "claimed"]);

    let asked = bench.ask("robot", "db-prod", &json!({"seconds": 901}));
    assert_eq!(asked.answer["request"]["state"]["name"], "requested", "a second more is for people to decide");
}

/// R36: a scripted life, and exactly its events.
#[test]
fn one_approval_then_a_claim_then_a_return() {
    let (bench, begun) = bench();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 7200, "ticket": "INC-412"}));
    assert_eq!(asked.terms["approvals"], 1);
    bench.advance(5);
    assert_eq!(bench.approve("carol", &asked).state(), "approved");
    bench.advance(5);
    let answer = bench.claim(&asked).ok().json();
    let certificate = parsed(answer["certificate"].as_str().expect("a line"));
    let claimed_at = bench.at(0).unix().cast_unsigned();
    // Shifted early by the clock skew, and exactly as long as approved.
    assert_eq!((certificate.valid_after(), certificate.valid_before()), (claimed_at - 5, claimed_at - 5 + 7200));
    assert_eq!(certificate.valid_principals(), ["db-prod@db1", "db-prod@db2"]);
    assert_eq!(certificate.serial().to_string(), answer["serial"]);
    assert_eq!(certificate.signature_key(), bench.keys().user_ca.public().data());
    assert!(certificate.key_id().starts_with(&format!("ssh-jit/{}/alice/db-prod/SHA256:", asked.id)));
    assert_eq!(certificate.public_key(), asked.subject.public().data());
    bench.advance(60);
    assert_eq!(bench.give_back(&asked, &answer["serial"]).state(), "returned");
    assert_eq!(bench.story(begun), ["requested", "approved", "claimed", "returned"]);
    let events = bench.events();
    let people: Vec<_> = events[begun..].iter().map(|e| e.person.as_ref().map(ToString::to_string)).collect();
    assert_eq!(people, ["alice", "carol", "alice", "alice"].map(|name| Some(name.to_owned())));
    assert!(events[begun..].iter().all(|e| e.request.as_ref().is_some_and(|id| id.as_str() == asked.id)));
}

#[test]
fn a_quorum_of_two_takes_the_least_of_both() {
    let (bench, begun) = bench();
    let asked = bench.ask("bob", "vault", &json!({"seconds": 3600}));
    assert_eq!((asked.terms["approvals"].as_u64(), asked.terms["seconds"].as_u64()), (Some(2), Some(3600)));
    assert_eq!(bench.decide("carol", &asked, &json!({"seconds": 1800})).state(), "requested");
    let mine = json!({"principals": ["vault@vault1"], "seconds": 2400,
        "critical_options": {"source-address": "10.0.0.0/8", "force-command": "/usr/bin/true"}});
    assert_eq!(bench.decide("dan", &asked, &mine).state(), "approved");
    let certificate = parsed(&bench.claim(&asked).certificate());
    assert_eq!(certificate.valid_before() - certificate.valid_after(), 1800);
    assert_eq!(certificate.valid_principals(), ["vault@vault1"]);
    let options: Vec<_> = certificate.critical_options().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(options, [("force-command", "/usr/bin/true"), ("source-address", "10.0.0.0/8")]);
    assert_eq!(certificate.extensions().iter().count(), 0);
    assert_eq!(bench.story(begun), ["requested", "approved", "approved", "claimed"]);
}

#[test]
fn a_narrowed_approval_gives_a_narrowed_certificate() {
    let (bench, _) = bench();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 7200}));
    let less = json!({"seconds": 1200, "hosts": ["db1"], "principals": ["db-prod@db1"], "extensions": ["permit-pty"]});
    assert_eq!(bench.decide("dan", &asked, &less).state(), "approved");
    let certificate = parsed(&bench.claim(&asked).certificate());
    assert_eq!(certificate.valid_principals(), ["db-prod@db1"]);
    assert_eq!(certificate.valid_before() - certificate.valid_after(), 1200);
    let extensions: Vec<_> = certificate.extensions().keys().collect();
    assert_eq!(extensions, ["permit-pty"]);
}

#[test]
fn what_is_denied_or_withdrawn_stays_so() {
    let (bench, begun) = bench();
    let denied = bench.ask("alice", "web", &json!({}));
    assert_eq!(bench.deny("carol", &denied).state(), "denied");
    let early = bench.ask("alice", "web", &json!({}));
    assert_eq!(bench.withdraw(&early).state(), "withdrawn");
    let late = bench.ask("alice", "web", &json!({}));
    assert_eq!(bench.approve("carol", &late).state(), "approved");
    assert_eq!(bench.withdraw(&late).state(), "withdrawn");
    let told = ["requested", "denied", "requested", "withdrawn", "requested", "approved", "withdrawn"];
    assert_eq!(bench.story(begun), told);
    bench.refuses("denied", || bench.claim(&denied));
    bench.refuses("not-approved", || bench.claim(&early));
    bench.refuses("not-approved", || bench.claim(&late));
    bench.refuses("not-pending", || bench.withdraw(&late));
    bench.advance(30 * 86400);
    assert_eq!(bench.sweep(), 0, "what has ended ends once");
}

#[test]
fn what_nobody_decides_or_claims_lapses() {
    let (bench, begun) = bench();
    let undecided = bench.ask("alice", "web", &json!({}));
    let unclaimed = bench.ask("bob", "web", &json!({}));
    bench.approve("carol", &unclaimed).ok();
    bench.advance(4 * 3600);
    assert_eq!(bench.sweep(), 0, "the last second counts");
    bench.advance(1);
    assert_eq!(state_of(&bench, &unclaimed), "lapsed", "before anybody wrote it down");
    bench.refuses("lapsed", || bench.claim(&unclaimed));
    assert_eq!((bench.sweep(), bench.sweep()), (1, 0));
    bench.advance(20 * 3600 - 1);
    assert_eq!(bench.sweep(), 0, "the last second counts");
    bench.advance(1);
    assert_eq!((bench.sweep(), bench.sweep()), (1, 0));
    bench.refuses("lapsed", || bench.approve("carol", &undecided));
    let mut told = bench.story(begun);
    told.retain(|event| event != "session-opened" && !event.starts_with("refused"));
    assert_eq!(told, ["requested", "requested", "approved", "lapsed", "lapsed"]);
}

#[test]
fn a_certificate_runs_out() {
    let (bench, begun) = bench();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 600}));
    let answer = bench.claim(&asked).ok().json();
    bench.advance(594);
    assert_eq!(bench.sweep(), 0);
    assert_eq!(bench.claim(&asked).certificate(), answer["certificate"].as_str().expect("a line"), "it still lives");
    bench.advance(1);
    assert_eq!(bench.sweep(), 1);
    bench.refuses("not-approved", || bench.claim(&asked));
    bench.refuses("not-active", || bench.give_back(&asked, &answer["serial"]));
    assert_eq!(bench.story(begun)[..4], ["requested", "approved-automatically (automatic)", "claimed", "expired"]);
}

/// Design, 3.4: claiming again while the certificate lives returns the same certificate.
#[test]
fn claiming_again_returns_the_same_certificate() {
    let (mut bench, begun) = bench();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 7200}));
    bench.decide("carol", &asked, &json!({"claim_by": bench.at(600)})).ok();
    let first = bench.claim(&asked).certificate();
    bench.advance(100);
    assert_eq!(bench.claim(&asked).certificate(), first);
    bench.restart();
    assert_eq!(bench.claim(&asked).certificate(), first, "also after a restart");
    bench.advance(3600);
    assert_eq!(bench.claim(&asked).certificate(), first, "also when the time to begin is over");
    let mut told = bench.story(begun);
    told.retain(|event| event == "claimed");
    assert_eq!(told.len(), 1);
}

/// What a person sees of requests: their own, and those they may decide on.
#[test]
fn requests_are_listed_for_those_who_may_see_them() {
    let (bench, _) = bench();
    let asked = bench.ask("alice", "vault", &json!({}));
    let ids = |person: &str, list: &str| -> Vec<Value> {
        let found = bench.get(&format!("/v1/requests?list={list}"), &bench.session(person)).ok().json();
        found.as_array().expect("a list").iter().map(|request| request["id"].clone()).collect()
    };
    let mine = vec![Value::from(asked.id.clone())];
    assert_eq!(ids("alice", "mine"), mine);
    for person in ["alice", "carol", "erin", "olga"] {
        assert_eq!(ids(person, "pending"), mine, "{person}");
        assert_eq!(ids(person, "all"), mine, "{person}");
    }
    for person in ["bob", "robot"] {
        assert_eq!(ids(person, "all"), Vec::<Value>::new(), "{person}");
    }
    bench.withdraw(&asked).ok();
    assert_eq!(ids("alice", "mine"), Vec::<Value>::new());
    assert_eq!(ids("alice", "pending"), Vec::<Value>::new());
    assert_eq!(ids("alice", "all"), mine);
}

/// R16: a machine has a name of its own, asks and claims under it, and decides nothing.
#[test]
fn a_machine_asks_and_claims_and_decides_nothing() {
    let (bench, begun) = bench();
    let asked = bench.ask("robot", "db-prod", &json!({"seconds": 600}));
    let certificate = parsed(&bench.claim(&asked).certificate());
    assert!(certificate.key_id().starts_with(&format!("ssh-jit/{}/robot/db-prod/", asked.id)));
    let events = bench.events();
    assert_eq!(events.len() - begun, 3);
    assert!(events[begun..].iter().all(|event| event.person == Some("robot".parse().unwrap())));
    let other = bench.ask("alice", "db-prod", &json!({}));
    bench.refuses("service-decides", || bench.approve("robot", &other));
}

/// R34: what is active is listed with its end, and in the second of its end no more, though nobody wrote it down.
#[test]
fn what_is_active_is_listed_until_it_ends() {
    let (bench, _) = bench();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 600}));
    bench.claim(&asked).ok();
    let mine = |bench: &Bench| bench.get("/v1/requests?list=mine", &bench.session("alice")).ok().json();
    let ends = bench.at(595);
    assert_eq!(
        (&mine(&bench)[0]["state"]["name"], &mine(&bench)[0]["state"]["ends"]),
        (&json!("active"), &json!(ends))
    );
    bench.advance(594);
    assert_eq!(mine(&bench)[0]["id"], json!(asked.id));
    bench.advance(1);
    assert_eq!(mine(&bench), json!([]));
}
