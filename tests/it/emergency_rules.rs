//! What one emergency key may do, how soon, how often, and with whom; and who hears of what it may not.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use ssh_jit::domain::journal::{Entry, Outcome};
use ssh_jit::domain::statement::Kind;
use ssh_jit::store::journal::Journal;

use crate::support::service::{Answer, Bench, Key, policy, to_json, with};

/// The sample policy with the rules that a policy has when it says nothing.
fn strict() -> String {
    let text = policy();
    text[..text.find("[break_glass]").expect("the table")].to_owned()
}

/// The same, where dan has an emergency key for db-prod as well.
fn with_dans_key() -> String {
    let key = Key::of("dan safe").line();
    strict() + &format!("[[emergency_keys]]\nperson = \"dan\"\nkey = {key:?}\nroles = [\"db-prod\"]\n")
}

fn started(policy: &str) -> Bench {
    let mut bench = Bench::unstarted();
    bench.start(policy).expect("a service that starts");
    bench
}

/// alice breaks the glass of db-prod, together with whoever signed `second`.
fn together(bench: &Bench, changes: &Value, second: Option<(&Value, &str)>) -> Answer {
    let text = with(bench.breaking("alice", "db-prod"), changes).to_string();
    let signature = Key::of("alice safe").sign("break-glass@ssh-jit", text.as_bytes());
    let second = second.map(|(statement, key)| {
        let text = statement.to_string();
        json!({"text": text, "signature": Key::of(key).sign("seconding@ssh-jit", text.as_bytes())})
    });
    let mut body = json!({"text": text, "signature": signature});
    if let Some(second) = second {
        body["second"] = second;
    }
    bench.http("POST", "/v1/break-glass", None, &to_json(&body))
}

/// dan lets alice go on.
fn seconding(bench: &Bench) -> Value {
    let fields =
        json!({"requester": "alice", "role": "db-prod", "reason": "I am on the call, and the primary is down"});
    with(bench.draft(Kind::Seconding, "dan"), &fields)
}

fn journal(bench: &mut Bench) -> Vec<Entry> {
    bench.stop();
    let journal = Journal::open(&bench.journal(), bench.keys().journal.public()).expect("a journal");
    journal.after(0).to_vec()
}

/// BG-15, BG-16: once, once more, and from then on together with somebody else.
#[test]
fn beyond_what_one_may_do_alone_it_takes_two() {
    let mut bench = started(&with_dans_key());
    let first = bench.breaking("alice", "db-prod");
    bench.break_glass(&first).ok();
    bench.advance(60);
    let extension = json!({"extends": first["id"]});
    together(&bench, &extension, None).ok();
    bench.advance(60);
    let alone = together(&bench, &json!({}), None);
    assert_eq!((alone.status, alone.code().as_str()), (403, "needs-second"), "whatever it is called");
    assert_eq!(together(&bench, &extension, None).code(), "not-the-last");
    let word = seconding(&bench);
    together(&bench, &json!({}), Some((&word, "dan safe"))).ok();
    assert_eq!(together(&bench, &json!({}), Some((&word, "dan safe"))).code(), "replayed", "each word once");
    bench.advance(901);
    together(&bench, &json!({}), None).ok();
    bench.advance(901);
    assert_eq!(together(&bench, &json!({}), None).code(), "needs-second", "three times alone in an hour");
    bench.advance(3600);
    together(&bench, &json!({}), None).ok();
    bench.run(bench.service().import_journal()).expect("an import");
    let kept = "SELECT count(*) FROM statements WHERE kind = 'seconding'";
    assert_eq!(bench.sql().query_row(kept, [], |row| row.get::<_, i64>(0)).expect("a number"), 1);
    let entries = journal(&mut bench);
    let seconds =
        entries.iter().filter(|entry| entry.second.is_some() && matches!(entry.outcome, Outcome::Issued { .. }));
    assert_eq!(seconds.count(), 1, "who joined in is in the journal");
    assert!(entries.iter().all(|entry| entry.statement.is_empty() || entry.from == Some(Ipv4Addr::LOCALHOST.into())));
}

/// All of them together, too.
#[test]
fn the_keys_of_all_are_counted_together() {
    let bench = started(&(strict() + "[break_glass]\nin_all = 1\n"));
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    assert_eq!(bench.break_glass(&bench.breaking("carol", "vault")).code(), "needs-second");
    bench.advance(3600);
    bench.break_glass(&bench.breaking("carol", "vault")).ok();
}

#[test]
fn who_cannot_join_in() {
    let bench = started(&with_dans_key());
    for _ in 0..2 {
        together(&bench, &json!({}), None).ok();
    }
    let refused = |key: &str, changes: &Value| {
        together(&bench, &json!({}), Some((&with(seconding(&bench), changes), key))).code()
    };
    for (key, code, changes) in [
        ("alice safe", "second-unfit", json!({"person": "alice"})),
        ("dan safe", "second-unfit", json!({"requester": "bob"})),
        ("dan safe", "second-unfit", json!({"role": "vault"})),
        ("carol safe", "second-unfit", json!({"person": "carol"})),
        ("dan safe", "second-unfit", json!({"at": bench.at(-601)})),
        ("dan safe", "invalid-field", json!({"reason": "please, urgent access needed now"})),
        ("dan safe", "other-instance", json!({"instance": "00000000000000000000000000000000"})),
        ("dan safe", "not-emergency-key", json!({"person": "bob"})),
        ("dan", "not-emergency-key", json!({})),
        ("mallory", "not-emergency-key", json!({})),
    ] {
        assert_eq!(refused(key, &changes), code, "{key} {changes}");
    }
    let text = seconding(&bench).to_string();
    let other = Key::of("dan safe").sign("break-glass@ssh-jit", text.as_bytes());
    let said = bench.breaking("alice", "db-prod").to_string();
    let signature = Key::of("alice safe").sign("break-glass@ssh-jit", said.as_bytes());
    let body = json!({"text": said, "signature": signature, "second": {"text": text, "signature": other}});
    let answer = bench.http("POST", "/v1/break-glass", None, &to_json(&body));
    assert_eq!(answer.code(), "bad-signature", "each signature is for one purpose");
    together(&bench, &json!({}), Some((&seconding(&bench), "dan safe"))).ok();
}

/// BG-02, BG-04: whoever can change the policy and enrols a key has to wait for a day, and is told nothing of it.
#[test]
fn a_new_key_waits_and_looks_like_any_other() {
    let mut bench = started(&strict());
    bench.load_policy(&with_dans_key());
    let breaks = |bench: &Bench| bench.send(Kind::BreakGlass, &Key::of("dan safe"), &bench.breaking("dan", "db-prod"));
    let stranger = bench.send(Kind::BreakGlass, &Key::of("mallory"), &bench.breaking("dan", "db-prod"));
    let early = breaks(&bench);
    assert_eq!((early.status, early.body.as_str()), (stranger.status, stranger.body.as_str()), "the same answer");
    let check = with(bench.draft(Kind::BreakGlassCheck, "dan"), &json!({}));
    assert_eq!(bench.send(Kind::BreakGlassCheck, &Key::of("dan safe"), &check).body, stranger.body);
    bench.advance(24 * 3600 - 1);
    assert_eq!(breaks(&bench).code(), "not-emergency-key");
    // Neither a restart nor the database makes it older.
    bench.stop();
    bench.tamper();
    bench.sql().execute_batch("UPDATE policies SET text = ''; DELETE FROM events WHERE seq > 1").expect("SQL");
    bench.start(&with_dans_key()).expect("a start");
    assert_eq!(breaks(&bench).code(), "not-emergency-key");
    bench.advance(1);
    breaks(&bench).ok();
    // The others went on all the time.
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
}

/// BG-04: everyday keys, revoked keys and keys of others are told nothing either.
#[test]
fn keys_that_may_not_are_one() {
    let bench = started(&strict());
    let as_key = |key: &str, person: &str| {
        let answer = bench.send(Kind::BreakGlass, &Key::of(key), &bench.breaking(person, "db-prod"));
        (answer.status, answer.body)
    };
    let stranger = as_key("mallory", "alice");
    for (key, person) in
        [("alice", "alice"), ("alice safe", "bob"), ("carol safe", "carol"), ("bob", "bob"), ("x", "nobody")]
    {
        assert_eq!(as_key(key, person), stranger, "{key} as {person}");
    }
    bench.load_policy(&format!("revoked_keys = [{:?}]\n{}", Key::of("alice safe").line(), strict()));
    assert_eq!(as_key("alice safe", "alice"), stranger);
}

/// BG-26, and the kinds that the policy takes.
#[test]
fn denials_and_kinds_hold() {
    let rules = "[[rules]]\nname = \"audit-host\"\neffect = \"deny\"\nroles = [\"db-prod\"]\nhosts = [\"db2\"]\nbecause = \"it \
                 keeps the log\"\n[break_glass]\ncategories = [\"outage\", \"data-loss\"]\n";
    let bench = started(&(strict() + rules));
    let broken = |changes: &Value| bench.break_glass(&with(bench.breaking("alice", "db-prod"), changes));
    assert_eq!(broken(&json!({})).code(), "denied-by-rule", "one of its hosts is enough");
    assert_eq!(broken(&json!({"hosts": ["db2"]})).code(), "denied-by-rule");
    let other = broken(&json!({"hosts": ["db1"], "category": "other"}));
    assert!(other.code() == "category-not-taken" && other.body.contains("outage, data-loss"), "{other:?}");
    broken(&json!({"hosts": ["db1"]})).ok();
}

/// BG-27: it proves key and roles, and leaves nothing behind.
#[test]
fn a_check_signs_nothing() {
    let mut bench = started(&strict());
    let check = |bench: &Bench, person: &str, key: &str| {
        bench.send(Kind::BreakGlassCheck, &Key::of(key), &bench.draft(Kind::BreakGlassCheck, person))
    };
    let rows = bench.rows();
    let found = check(&bench, "alice", "alice safe").ok().json();
    assert_eq!(found["roles"], json!([{"name": "db-prod", "hosts": ["db1", "db2"], "max": 600}]));
    assert_eq!((&found["hindrance"], found["categories"].as_array().expect("kinds").len()), (&json!(null), 5));
    assert_eq!(bench.rows(), rows);
    for (person, key, code) in [("alice", "alice", "not-emergency-key"), ("carol", "alice safe", "not-emergency-key")] {
        assert_eq!(check(&bench, person, key).code(), code);
    }
    let old = with(bench.draft(Kind::BreakGlassCheck, "alice"), &json!({"at": bench.at(-61)}));
    assert_eq!(bench.send(Kind::BreakGlassCheck, &Key::of("alice safe"), &old).code(), "stale");
    let text = bench.draft(Kind::BreakGlassCheck, "alice").to_string();
    let signature = Key::of("alice safe").sign("break-glass-check@ssh-jit", text.as_bytes());
    assert_eq!(bench.post("/v1/break-glass", &text, &signature).code(), "malformed", "a check breaks no glass");
    assert_eq!(journal(&mut bench).len(), 1, "only the keys");
}

/// Nor does it let others go on.
#[test]
fn a_new_key_seconds_nobody() {
    let bench = started(&(strict() + "[break_glass]\nper_key = 0\n"));
    bench.load_policy(&(with_dans_key() + "[break_glass]\nper_key = 0\n"));
    let word = seconding(&bench);
    assert_eq!(together(&bench, &json!({}), Some((&word, "dan safe"))).code(), "not-emergency-key");
    bench.advance(24 * 3600);
    let word = seconding(&bench);
    together(&bench, &json!({}), Some((&word, "dan safe"))).ok();
}

/// BG-12: what breaks the glass answers the same on a listener that nothing else has.
#[test]
fn the_own_listener_does_the_same_and_nothing_else() {
    let bench = started(&strict());
    let router = ssh_jit::http::emergency_router(bench.service().glass());
    let address = bench.run(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        address
    });
    let text = bench.breaking("alice", "db-prod").to_string();
    let signature = Key::of("alice safe").sign("break-glass@ssh-jit", text.as_bytes());
    let body = to_json(&json!({"text": text, "signature": signature}));
    let answer = bench.try_at(address, "POST", "/v1/break-glass", None, &body).expect("an answer").ok();
    assert!(answer.body.contains("certificate"), "{answer:?}");
    let again = bench.try_at(address, "POST", "/v1/break-glass", None, &body).expect("an answer");
    assert_eq!(again.code(), "replayed");
    assert_eq!(bench.post("/v1/break-glass", &text, &signature).code(), "replayed", "there is one journal");
    for path in ["/v1/requests", "/v1/roles", "/", "/v1/krl", "/v1/emergencies"] {
        assert_eq!(bench.try_elsewhere(address, path).expect("an answer").status, 404, "{path}");
    }
    for path in ["/v1/now", "/v1/trust"] {
        bench.try_elsewhere(address, path).expect("an answer").ok();
    }
}
