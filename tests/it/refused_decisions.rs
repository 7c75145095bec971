//! What no decision, withdrawal, claim or return can be: every refusal by its code, with nothing
//! changed and the attempt on record.

use serde_json::{Value, json};
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Asked, Bench, Key, with};

#[test]
fn who_may_not_decide() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    for (code, person) in [
        ("self-approval", "alice"),
        ("not-approver", "bob"),
        ("not-approver", "erin"),
        ("not-approver", "olga"),
        ("service-decides", "robot"),
        ("unknown-person", "mallory"),
    ] {
        bench.refuses(code, || bench.approve(person, &asked));
        bench.refuses(code, || bench.deny(person, &asked));
    }
    let approval = bench.approval("carol", &asked);
    for (code, key) in
        [("not-their-key", "dan"), ("not-their-key", "alice"), ("unknown-key", "carol safe"), ("unknown-key", "x")]
    {
        bench.refuses(code, || bench.send(Kind::Approval, &Key::of(key), &approval));
    }
    bench.send(Kind::Approval, &Key::of("carol 2"), &approval).ok();
}

/// R05: a person is one person, by any key, group or duty.
#[test]
fn nobody_approves_for_themselves() {
    let bench = Bench::new();
    for (person, key) in [("carol", "carol"), ("carol", "carol 2"), ("dan", "dan"), ("erin", "erin")] {
        let asked = bench.ask(person, "web", &json!({}));
        let approval = bench.approval(person, &asked);
        bench.refuses("self-approval", || bench.send(Kind::Approval, &Key::of(key), &approval));
        let lying = with(bench.approval(person, &asked), &json!({"requester": "alice"}));
        bench.refuses("self-approval", || bench.send(Kind::Approval, &Key::of(key), &lying));
        let as_other = with(bench.approval("frank", &asked), &json!({}));
        bench.refuses("not-their-key", || bench.send(Kind::Approval, &Key::of(key), &as_other));
        bench.approve("frank", &asked).ok();
    }
}

#[test]
fn one_person_counts_once() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "vault", &json!({}));
    assert_eq!(bench.approve("carol", &asked).state(), "requested");
    bench.refuses("decided-already", || bench.approve("carol", &asked));
    let second_key = bench.approval("carol", &asked);
    bench.refuses("decided-already", || bench.send(Kind::Approval, &Key::of("carol 2"), &second_key));
    bench.refuses("decided-already", || bench.deny("carol", &asked));
    bench.refuses("not-approved", || bench.claim(&asked));
    assert_eq!(bench.approve("dan", &asked).state(), "approved");
    bench.claim(&asked).ok();
}

#[test]
fn an_approval_never_gives_more() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 3600, "hosts": ["db1"]}));
    let table = [
        ("wider", json!({"seconds": 3601})),
        ("wider", json!({"seconds": 43200})),
        ("wider", json!({"hosts": ["db1", "db2"]})),
        ("wider", json!({"hosts": ["db2"], "principals": ["db-prod@db2"]})),
        ("wider", json!({"hosts": []})),
        ("wider", json!({"principals": ["db-prod@db1", "db-prod@db2"]})),
        ("wider", json!({"principals": ["root@db1"]})),
        ("wider", json!({"principals": ["db-prod"]})),
        ("wider", json!({"extensions": ["permit-pty", "permit-agent-forwarding"]})),
        ("wider", json!({"requester": "bob"})),
        ("wider", json!({"role": "web"})),
        ("wider", json!({"key": Key::of("other").fingerprint()})),
        ("wider", json!({"start": bench.at(60)})),
        ("wider", json!({"claim_by": bench.at(4 * 3600 + 1)})),
        ("wider", json!({"claim_by": bench.at(-1)})),
        ("duplicate", json!({"hosts": ["db1", "db1"]})),
        ("duplicate", json!({"principals": ["db-prod@db1", "db-prod@db1"]})),
        ("duplicate", json!({"extensions": ["permit-pty", "permit-pty"]})),
        ("nothing-left", json!({"principals": []})),
        ("nothing-left", json!({"hosts": [], "principals": []})),
        ("invalid-field", json!({"critical_options": {"force-command": ""}})),
        ("invalid-field", json!({"critical_options": {"force-command": "  "}})),
        ("invalid-field", json!({"critical_options": {"source-address": "0.0.0.0/0"}})),
        ("invalid-field", json!({"critical_options": {"verify-required": ""}})),
        ("invalid-field", json!({"critical_options": {"approval@ssh-jit": "yes"}})),
        ("other-request", json!({"request": bench.ask("bob", "db-prod", &json!({})).digest})),
        ("unknown-request", json!({"id": bench.id()})),
        ("lapsed", json!({"at": bench.at(-10), "claim_by": bench.at(-1)})),
        ("stale", json!({"at": bench.at(-61)})),
        ("future", json!({"at": bench.at(6)})),
        ("other-instance", json!({"instance": "00000000000000000000000000000000"})),
        ("malformed", json!({"decision": "maybe"})),
        ("malformed", json!({"seconds": 0})),
        ("malformed", json!({"comment": "bidi \u{202e}"})),
    ];
    for (code, changes) in &table {
        // An approval older than its request is another refusal.
        let order = changes["at"].is_null() || *code != "lapsed";
        bench.refuses(if order { code } else { "out-of-order" }, || bench.decide("carol", &asked, changes));
    }
    bench.advance(30);
    let late = json!({"at": bench.at(-10), "claim_by": bench.at(-1)});
    bench.refuses("lapsed", || bench.decide("carol", &asked, &late));
    let more = json!({"seconds": 60, "critical_options": {"source-address": "10.0.0.0/8"}});
    bench.decide("carol", &asked, &more).ok();

    let asked = bench.ask("alice", "vault", &json!({}));
    for options in [json!({}), json!({"source-address": "10.0.0.0/9"}), json!({"force-command": "/usr/bin/true"})] {
        bench.refuses("wider", || bench.decide("carol", &asked, &json!({"critical_options": options})));
    }
    let text = bench.approval("carol", &asked).to_string();
    let twice = text.replace(r#""critical_options":{"#, r#""critical_options":{"source-address":"10.0.0.0/8","#);
    assert_ne!(text, twice);
    bench.refuses("malformed", || bench.send_text(Kind::Approval, &Key::of("carol"), &twice));
}

/// Two approvals that cannot both be kept give no certificate at all.
#[test]
fn approvals_that_contradict_each_other() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "vault", &json!({}));
    bench.decide("carol", &asked, &json!({"principals": ["vault@vault1"]})).ok();
    bench.decide("dan", &asked, &json!({"principals": ["audit@vault1"]})).ok();
    bench.refuses("nothing-left", || bench.claim(&asked));
    let asked = bench.ask("alice", "vault", &json!({}));
    for (person, command) in [("carol", "/bin/a"), ("dan", "/bin/b")] {
        let options = json!({"source-address": "10.0.0.0/8", "force-command": command});
        bench.decide(person, &asked, &json!({"critical_options": options})).ok();
    }
    bench.refuses("conflict", || bench.claim(&asked));
}

#[test]
fn what_is_decided_is_decided() {
    let bench = Bench::new();
    let ask = || bench.ask("alice", "web", &json!({}));
    let (approved, denied, withdrawn, lapsed, active) = (ask(), ask(), ask(), ask(), ask());
    bench.approve("carol", &approved).ok();
    bench.deny("carol", &denied).ok();
    bench.withdraw(&withdrawn).ok();
    bench.approve("carol", &active).ok();
    bench.claim(&active).ok();
    for (code, asked) in [("not-pending", &approved), ("not-pending", &withdrawn), ("not-pending", &active)] {
        bench.refuses(code, || bench.approve("dan", asked));
        bench.refuses(code, || bench.deny("dan", asked));
    }
    bench.refuses("not-pending", || bench.approve("dan", &denied));
    bench.refuses("denied", || bench.deny("dan", &denied));
    bench.refuses("not-pending", || bench.withdraw(&active));
    bench.advance(24 * 3600 + 1);
    for _ in 0..2 {
        bench.refuses("lapsed", || bench.approve("dan", &lapsed));
        bench.refuses("lapsed", || bench.deny("dan", &lapsed));
        bench.refuses("lapsed", || bench.withdraw(&lapsed));
        bench.sweep();
    }
    bench.refuses("not-pending", || bench.approve("dan", &active));
}

/// A denial says why, to the requester.
#[test]
fn a_denial_has_a_reason() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    for comment in ["", "no"] {
        bench
            .refuses("invalid-field", || bench.decide("dan", &asked, &json!({"decision": "deny", "comment": comment})));
    }
    bench.deny("dan", &asked).ok();
}

/// The same bytes again, in another signature too.
#[test]
fn a_decision_counts_once() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "vault", &json!({}));
    let text = bench.approval("carol", &asked).to_string();
    bench.send_text(Kind::Approval, &Key::of("carol"), &text).ok();
    let again = Key::of("carol").sign_differently("approval@ssh-jit", text.as_bytes());
    bench.refuses("decided-already", || bench.send_text(Kind::Approval, &Key::of("carol"), &text));
    bench.refuses("decided-already", || bench.post("/v1/decisions", &text, &again));
}

fn withdrawal(bench: &Bench, asked: &Asked, changes: &Value) -> Value {
    let fields = json!({"request": asked.digest, "id": asked.id, "reason": ""});
    with(with(bench.draft(Kind::Withdrawal, &asked.person), &fields), changes)
}

#[test]
fn only_the_requester_withdraws() {
    let bench = Bench::new();
    let (asked, other) = (bench.ask("alice", "web", &json!({})), bench.ask("alice", "web", &json!({})));
    for (code, key, changes) in [
        ("unknown-request", "bob", json!({"person": "bob"})),
        ("unknown-request", "carol", json!({"person": "carol"})),
        ("unknown-request", "erin", json!({"person": "erin"})),
        ("not-their-key", "bob", json!({})),
        ("unknown-key", "mallory", json!({})),
        ("other-request", "alice", json!({"request": other.digest})),
        ("unknown-request", "alice", json!({"id": bench.id()})),
        ("stale", "alice", json!({"at": bench.at(-61)})),
        ("malformed", "alice", json!({"serial": "1"})),
    ] {
        bench.refuses(code, || bench.send(Kind::Withdrawal, &Key::of(key), &withdrawal(&bench, &asked, &changes)));
    }
    // The subject key claims; it does not decide for its person.
    let statement = withdrawal(&bench, &asked, &json!({}));
    bench.refuses("unknown-key", || bench.send(Kind::Withdrawal, &asked.subject, &statement));
    bench.send(Kind::Withdrawal, &Key::of("alice"), &statement).ok();
}

#[test]
fn only_the_subject_key_claims() {
    let bench = Bench::new();
    let (asked, other) = (bench.ask("alice", "web", &json!({})), bench.ask("alice", "web", &json!({})));
    bench.refuses("not-approved", || bench.claim(&asked));
    bench.approve("carol", &asked).ok();
    let claim = |key: &Key, changes: &Value| bench.send(Kind::Claim, key, &with(bench.claiming(&asked), changes));
    for key in ["alice", "bob", "carol", "mallory", "alice safe"] {
        bench.refuses("bad-signature", || claim(&Key::of(key), &json!({})));
    }
    bench.refuses("bad-signature", || claim(&other.subject, &json!({})));
    for (code, changes) in [
        ("other-request", json!({"request": other.digest})),
        ("bad-signature", json!({"id": other.id})),
        ("unknown-request", json!({"id": bench.id()})),
        ("not-yours", json!({"person": "bob"})),
        ("not-yours", json!({"key": other.subject.fingerprint()})),
        ("stale", json!({"at": bench.at(-61)})),
        ("future", json!({"at": bench.at(6)})),
        ("other-instance", json!({"instance": "00000000000000000000000000000000"})),
        ("malformed", json!({"serial": "1"})),
        ("malformed", json!({"seconds": 43200})),
        ("out-of-order", json!({"at": bench.at(-1)})),
    ] {
        bench.refuses(code, || claim(&asked.subject, &changes));
    }
    let text = bench.claiming(&asked).to_string();
    bench.send_text(Kind::Claim, &asked.subject, &text).ok();
    bench.refuses("replayed", || bench.send_text(Kind::Claim, &asked.subject, &text));
    // Who claims again is held to the same.
    for (code, changes) in [
        ("other-request", json!({"request": other.digest})),
        ("not-yours", json!({"person": "bob"})),
        ("not-yours", json!({"key": other.subject.fingerprint()})),
        ("stale", json!({"at": bench.at(-61)})),
    ] {
        bench.refuses(code, || claim(&asked.subject, &changes));
    }
    bench.refuses("bad-signature", || claim(&other.subject, &json!({})));
}

#[test]
fn claims_come_in_time() {
    let bench = Bench::new();
    let (asked, twin) = (bench.ask("alice", "web", &json!({})), bench.ask("bob", "web", &json!({})));
    for one in [&asked, &twin] {
        bench.decide("carol", one, &json!({"claim_by": bench.at(600)})).ok();
    }
    bench.advance(600);
    bench.claim(&twin).ok();
    bench.advance(1);
    bench.refuses("lapsed", || bench.claim(&asked));
    // An older statement does not help: the service's own clock is asked too.
    let backdated = with(bench.claiming(&asked), &json!({"at": bench.at(-30)}));
    bench.refuses("lapsed", || bench.send(Kind::Claim, &asked.subject, &backdated));
    bench.sweep();
    bench.refuses("lapsed", || bench.claim(&asked));
}

/// With the subject key, or with a key of the person's own as the web form has it.
#[test]
fn only_its_person_gives_back() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 600}));
    bench.refuses("not-active", || bench.give_back(&asked, &json!("281474976710657")));
    let serial = bench.claim(&asked).ok().json()["serial"].clone();
    let other = bench.ask("bob", "db-prod", &json!({"seconds": 600}));
    let other_serial = bench.claim(&other).ok().json()["serial"].clone();
    assert_ne!(serial, other_serial);
    let fields = json!({"request": asked.digest, "id": asked.id, "serial": serial});
    let statement = |changes: &Value| with(with(bench.draft(Kind::Return, "alice"), &fields), changes);
    for (key, code) in [("bob", "not-their-key"), ("carol", "not-their-key"), ("mallory", "unknown-key")] {
        bench.refuses(code, || bench.send(Kind::Return, &Key::of(key), &statement(&json!({}))));
    }
    for (code, changes) in [
        ("other-request", json!({"serial": other_serial})),
        ("other-request", json!({"request": other.digest})),
        ("other-request", json!({"person": "bob"})),
        ("unknown-key", json!({"id": other.id})),
        ("unknown-request", json!({"id": bench.id()})),
        ("stale", json!({"at": bench.at(-61)})),
        ("malformed", json!({"serial": 281_474_976_710_657_u64})),
        ("malformed", json!({"serial": "0"})),
    ] {
        bench.refuses(code, || bench.send(Kind::Return, &asked.subject, &statement(&changes)));
    }
    bench.give_back(&asked, &serial).ok();
    bench.refuses("not-active", || bench.give_back(&asked, &serial));
    bench.refuses("not-approved", || bench.claim(&asked));
}
