//! Facts from outside: who may state them, what they open, and that access ends with them.

use serde_json::{Value, json};

use crate::support::pager::{Hook, Pager, is, over};
use crate::support::service::{Answer, Asked, Bench, Key, policy};
use crate::web::carol;
use ssh_jit::domain::policy::Policy;

const PAGER: Pager = Pager("pager");

/// The sample policy, with a pager and roles that ask it: `tier1` is approved by itself for who is on call while an
/// incident is open, and by people otherwise; `night` nobody can have who is not on call.
fn paged() -> String {
    let more = format!(
        r#"
[sources.pager]
key = "{}"
facts = ["oncall:*", "incident:INC-7"]

[roles.tier1]
principals = ["tier1"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
default = "1h"

[roles.night]
principals = ["night"]
requesters = ["sre"]
approvers = ["dba"]
max = "4h"
default = "1h"
when = {{ facts = ["oncall:dba:primary = {{person}}"] }}

[[rules]]
name = "on-call"
effect = "automatic"
roles = ["tier1"]
max = "2h"
when = {{ facts = ["oncall:dba:primary = {{person}}", "incident:{{ticket}} = open"] }}
"#,
        PAGER.public()
    );
    policy() + &more
}

fn bench() -> Bench {
    let mut bench = Bench::unstarted();
    bench.start(&paged()).expect("a service that starts");
    bench
}

/// Alice is on call, and an incident is open.
fn alarmed() -> Bench {
    let bench = bench();
    let facts = json!([is(&bench, "oncall:dba:primary", "alice", 7200), is(&bench, "incident:INC-7", "open", 3000)]);
    PAGER.states(&bench, &facts).ok();
    bench
}

fn ask(bench: &Bench, role: &str) -> Asked {
    bench.ask("alice", role, &json!({"ticket": "INC-7"}))
}

fn state_of(bench: &Bench, asked: &Asked) -> String {
    let seen = bench.get(&format!("/v1/requests/{}", asked.id), &bench.session("alice")).ok();
    seen.json()["state"]["name"].as_str().expect("a state").to_owned()
}

/// How many seconds a certificate lasts.
fn seconds(answer: &Answer) -> i64 {
    let time = |name: &str| -> ssh_jit::domain::time::Timestamp {
        answer.json()[name].as_str().expect("a time").parse().expect("a time")
    };
    time("valid_before").since(time("valid_after"))
}

/// R22, R23: an incident opens, and who is on call has the role at once; it is closed, and the access is over.
#[test]
fn an_incident_opens_and_ends_access() {
    let bench = alarmed();
    let before = bench.events().len();
    let asked = ask(&bench, "tier1");
    assert_eq!(asked.answer["request"]["state"]["name"], "approved");
    let claimed = bench.claim(&asked).ok();
    let serial: u64 = claimed.json()["serial"].as_str().expect("a serial").parse().expect("a number");
    assert_eq!(seconds(&claimed), 3000, "no longer than the incident is said to be open");
    assert_eq!(bench.claim(&asked).certificate(), claimed.certificate(), "the same again while it lives");
    PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
    assert_eq!(state_of(&bench, &asked), "revoked");
    let story = bench.story(before);
    assert_eq!(story[1], "approved-automatically (on-call)");
    assert_eq!(story[2], "claimed");
    assert!(story[3].starts_with("facts-stated (pager SHA256:"), "{story:?}");
    assert_eq!(story[4], "revoked (fact incident:INC-7)");
    assert_eq!(bench.claim(&asked).code(), "revoked");
    assert!(crate::revocations::published(&bench).serials.contains(&serial), "hosts are told");
    assert_eq!(
        bench.ask("alice", "tier1", &json!({"ticket": "INC-7"})).answer["request"]["state"]["name"],
        "requested"
    );
}

/// Nobody else is approved, nor alice without the incident, nor for longer; and a role that only who is on call may
/// have is refused to others, with words.
#[test]
fn a_rule_asks_for_all_its_facts() {
    let bench = alarmed();
    let requested = |person: &str, changes: &Value| {
        let asked = bench.ask(person, "tier1", changes);
        asked.answer["request"]["state"]["name"] == "requested"
    };
    assert!(requested("bob", &json!({"ticket": "INC-7"})));
    assert!(requested("alice", &json!({"ticket": "INC-8"})));
    assert!(requested("alice", &json!({"ticket": null})));
    assert!(requested("alice", &json!({"ticket": "INC-7", "seconds": 7201})));
    bench.ask("alice", "night", &json!({}));
    let (request, _) = bench.request("bob", "night");
    let answer = bench.send(ssh_jit::domain::statement::Kind::Request, &Key::of("bob"), &request);
    assert_eq!(answer.code(), "conditions");
    assert!(answer.body.contains("while oncall:dba:primary = bob"), "{answer:?}");
}

/// Every message that must not count: nothing changes, and each attempt is on record.
#[test]
fn messages_that_are_not_heard() {
    let bench = bench();
    let good = PAGER.drafts(&bench, &json!([is(&bench, "incident:INC-7", "open", 3600)]));
    let mallory = Pager("mallory");
    let sent = |seconds: i64| PAGER.signs(Hook { sent: bench.at(seconds).unix().to_string(), ..good.clone() });
    let stale = good.body.replace(&bench.at(0).to_string(), &bench.at(-301).to_string());
    let stale = PAGER.signs(Hook { sent: bench.at(-301).unix().to_string(), body: stale, ..good.clone() });
    let says = |facts: Value| PAGER.signs(PAGER.drafts(&bench, &facts));
    let signed = PAGER.signs(good.clone());
    let open = |name: &str| is(&bench, name, "open", 60);
    let table = [
        ("webhook-unsigned", good.clone()),
        ("webhook-unsigned", mallory.signs(good.clone())),
        // The pager has no secret here.
        ("webhook-unsigned", PAGER.tags(good.clone())),
        ("webhook-unsigned", Hook { body: signed.body.replace("open", "shut"), ..signed.clone() }),
        ("webhook-unsigned", Hook { id: "msg_other".to_owned(), ..signed.clone() }),
        ("unknown-source", mallory.signs(Hook { to: "mallory".to_owned(), ..good.clone() })),
        ("webhook-stale", stale),
        ("webhook-future", sent(6)),
        ("foreign-fact", says(json!([open("incident:INC-8")]))),
        ("foreign-fact", says(json!([open("incident:INC-7"), open("deploy:done")]))),
        ("malformed-facts", says(json!([]))),
        ("malformed-facts", says(json!([is(&bench, "oncall:x", "alice", 30 * 86_400 + 1)]))),
        ("malformed-facts", PAGER.signs(Hook { body: "{}".to_owned(), ..good.clone() })),
    ];
    for (code, hook) in table {
        bench.refuses(code, || hook.deliver(&bench));
    }
    for (status, code, hook) in [
        (413, "body", PAGER.signs(Hook { body: " ".repeat(16 * 1024 + 1), ..good.clone() })),
        (422, "webhook-header", PAGER.signs(Hook { id: "a.b".to_owned(), ..good.clone() })),
        (422, "webhook-header", PAGER.signs(Hook { sent: "soon".to_owned(), ..good.clone() })),
        (404, "unknown-source", PAGER.signs(Hook { to: "Pager".to_owned(), ..good.clone() })),
    ] {
        bench.turns_away(status, code, || hook.deliver(&bench));
    }
    // Which of two was signed?
    let twice = signed.headers().into_iter().chain([("webhook-id", "msg_other")]).collect::<Vec<_>>();
    let post = || bench.browse("POST", "/v1/facts/pager", &twice, signed.body.as_bytes()).0;
    bench.turns_away(422, "webhook-header", post);
    assert_eq!(signed.deliver(&bench).ok().json()["facts"], 1);
}

/// A message counts once. Sent again (with another time, as senders do) it changes nothing, also not what became so
/// since; and its id says nothing else.
#[test]
fn a_message_counts_once() {
    let bench = alarmed();
    let again = PAGER.drafts(&bench, &json!([is(&bench, "incident:INC-7", "open", 3500)]));
    PAGER.signs(again.clone()).deliver(&bench).ok();
    bench.advance(10);
    PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
    let (rows, events) = (bench.rows(), bench.events().len());
    PAGER.signs(again.clone()).deliver(&bench).ok();
    bench.advance(60);
    let later = Hook { sent: bench.at(0).unix().to_string(), ..again.clone() };
    PAGER.signs(later.clone()).deliver(&bench).ok();
    assert_eq!((bench.rows(), bench.events().len()), (rows, events), "nothing changes");
    let other = Hook { body: later.body.replace("open", "shut"), ..later.clone() };
    bench.refuses("webhook-repeated", || PAGER.signs(other.clone()).deliver(&bench));
    // Under another id it is another message, and an older word.
    let new = Hook { id: "msg_new".to_owned(), ..later };
    PAGER.signs(new).deliver(&bench).ok();
    assert_eq!(ask(&bench, "tier1").answer["request"]["state"]["name"], "requested", "it stays closed");
}

/// Between the decision and the claim a fact can run out, or be ended: then the claim is refused.
#[test]
fn facts_end_before_the_claim() {
    let bench = alarmed();
    let (lapsing, ended) = (ask(&bench, "tier1"), ask(&bench, "tier1"));
    let night = bench.ask("alice", "night", &json!({}));
    bench.approve("carol", &night).ok();
    PAGER.states(&bench, &json!([over("incident:INC-7"), is(&bench, "oncall:dba:primary", "bob", 7200)])).ok();
    bench.refuses("not-enough-approvals", || {
        let refused = bench.claim(&ended);
        assert!(
            refused.body.contains("while oncall:dba:primary = alice and while incident:INC-7 = open"),
            "{refused:?}"
        );
        refused
    });
    bench.refuses("conditions", || bench.claim(&night));
    PAGER
        .states(
            &bench,
            &json!([is(&bench, "incident:INC-7", "open", 60), is(&bench, "oncall:dba:primary", "alice", 7200)]),
        )
        .ok();
    bench.advance(60);
    bench.refuses("not-enough-approvals", || bench.claim(&lapsing));
    // Approved by people it needs no incident, and it hangs on being on call only.
    assert_eq!(seconds(&bench.claim(&night).ok()), 3600);
}

/// Between the request and the decision, too.
#[test]
fn a_fact_that_ended_cannot_be_approved_on() {
    let bench = alarmed();
    let night = bench.ask("alice", "night", &json!({}));
    PAGER.states(&bench, &json!([over("oncall:dba:primary")])).ok();
    bench.refuses("conditions", || bench.approve("carol", &night));
    bench.deny("carol", &night).ok();
}

/// Neither the hour nor the address nor a new word that says the same ends anything; another value does.
#[test]
fn only_the_end_of_its_facts_ends_access() {
    let bench = alarmed();
    let (tier1, night) = (ask(&bench, "tier1"), bench.ask("alice", "night", &json!({})));
    bench.approve("carol", &night).ok();
    let certificate = bench.claim(&tier1).certificate();
    bench.claim(&night).ok();
    bench.advance(120);
    PAGER.states(&bench, &json!([is(&bench, "incident:INC-7", "open", 3600)])).ok();
    PAGER.states(&bench, &json!([is(&bench, "oncall:dba:primary", "alice", 3600)])).ok();
    assert_eq!(bench.claim(&tier1).certificate(), certificate, "the same again, of the message of then");
    bench.sweep();
    assert_eq!((state_of(&bench, &tier1).as_str(), state_of(&bench, &night).as_str()), ("active", "active"));
    PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
    assert_eq!((state_of(&bench, &tier1).as_str(), state_of(&bench, &night).as_str()), ("revoked", "active"));
    PAGER.states(&bench, &json!([is(&bench, "oncall:dba:primary", "bob", 3600)])).ok();
    assert_eq!(state_of(&bench, &night), "revoked");
}

/// Stated anew for a shorter time, a fact ends when that is over, and not before.
#[test]
fn a_fact_that_was_shortened_ends_access_in_time() {
    let bench = alarmed();
    let asked = ask(&bench, "tier1");
    bench.claim(&asked).ok();
    bench.advance(1);
    PAGER.states(&bench, &json!([is(&bench, "incident:INC-7", "open", 300)])).ok();
    bench.advance(299);
    bench.sweep();
    assert_eq!(state_of(&bench, &asked), "active");
    bench.advance(1);
    bench.sweep();
    assert_eq!(state_of(&bench, &asked), "revoked");
}

/// What was heard is known again after a restart, and only that; a clock that is set back makes it not yet so.
#[test]
fn facts_outlive_the_process_and_not_their_time() {
    let mut bench = alarmed();
    PAGER.states(&bench, &json!([is(&bench, "oncall:web", "bob", 3600)])).ok();
    bench.advance(1);
    PAGER.states(&bench, &json!([over("oncall:web")])).ok();
    bench.stop();
    bench.start(&paged()).expect("a service that starts");
    let known = |bench: &Bench| bench.get("/v1/facts", &bench.session("olga")).ok().json();
    let names: Vec<String> = known(&bench).as_array().unwrap().iter().map(|f| f["name"].to_string()).collect();
    assert_eq!(names, ["\"incident:INC-7\"", "\"oncall:dba:primary\""]);
    let asked = ask(&bench, "tier1");
    bench.claim(&asked).ok();
    PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
    assert_eq!(state_of(&bench, &asked), "revoked");
    bench.advance(-120);
    bench.ask("alice", "web", &json!({}));
    assert_eq!(known(&bench), json!([]), "not begun");
    assert_eq!(ask(&bench, "tier1").answer["request"]["state"]["name"], "requested");
    bench.advance(7321);
    assert_eq!(known(&bench), json!([]), "over");
}

/// The policy says who is believed, also of what was heard before it changed.
#[test]
fn a_source_is_believed_by_the_policy_of_now() {
    let bench = alarmed();
    let (first, second) = (ask(&bench, "tier1"), ask(&bench, "tier1"));
    bench.claim(&second).ok();
    let narrowed = paged().replace("\"incident:INC-7\"]", "\"incident:INC-9\"]");
    let other = paged().replace(&PAGER.public(), &Pager("other").public());
    for changed in [narrowed, other] {
        bench.load_policy(&changed);
        bench.refuses("not-enough-approvals", || bench.claim(&first));
        bench.load_policy(&paged());
    }
    bench.claim(&first).ok();
    let gone = paged().replace("[sources.pager]", "[sources.pager2]");
    bench.load_policy(&gone);
    bench.refuses("unknown-source", || {
        PAGER.signs(PAGER.drafts(&bench, &json!([over("incident:INC-7")]))).deliver(&bench)
    });
    bench.sweep();
    assert_eq!(state_of(&bench, &second), "revoked", "nobody says any more that it is so");
}

/// A secret in the service's own file is as good as a key, and can be changed without a gap.
#[test]
fn secrets_sign_too() {
    let mut bench = Bench::unstarted();
    let keyless = paged().replace(&format!("key = \"{}\"\n", PAGER.public()), "");
    let refused = |bench: &mut Bench, policy: &str, words: &str| {
        let error = bench.start(policy).expect_err("it must not start").to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&mut bench, &keyless, "sources.pager: it has neither a key in the policy nor a secret_file");
    let name = |name: &str| name.parse::<ssh_jit::domain::names::SourceName>().unwrap();
    bench.settings.sources.insert(name("paper"), vec![PAGER.secret()]);
    refused(&mut bench, &paged(), "sources.paper: the policy has no [sources.paper]");
    bench.settings.sources = [(name("pager"), vec![Pager("old").secret(), PAGER.secret()])].into();
    bench.start(&keyless).expect("a service that starts");
    let draft = |bench: &Bench| PAGER.drafts(bench, &json!([is(bench, "incident:INC-7", "open", 3600)]));
    PAGER.tags(draft(&bench)).deliver(&bench).ok();
    Pager("old").tags(draft(&bench)).deliver(&bench).ok();
    let hook = PAGER.signs(draft(&bench));
    bench.refuses("webhook-unsigned", || hook.deliver(&bench));
    let unfit = Policy::parse(&policy()).expect("a policy");
    assert!(bench.run(bench.service().load_policy(unfit)).is_err(), "the running one stays");
    Pager("old").tags(draft(&bench)).deliver(&bench).ok();
}

/// Whoever writes the database makes no fact, and brings none back while the process lives.
#[test]
fn rows_make_no_facts() {
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02X}")).collect::<String>();
    let replaced = |from: &str, to: &str| {
        format!("UPDATE fact_messages SET body = CAST(replace(CAST(body AS TEXT), '{from}', '{to}') AS BLOB)")
    };
    let forged = replaced("bob", "alice");
    let later = replaced("2026-11-22T10:00:01Z", "2026-11-22T11:00:01Z");
    for sql in [
        forged.as_str(),
        &later,
        "UPDATE fact_messages SET source = 'other'",
        "UPDATE fact_messages SET id = id || 'x'",
        "UPDATE fact_messages SET sent = sent + 1",
        "UPDATE fact_messages SET signature = 'v1a,AAAA'",
        &format!("UPDATE fact_messages SET body = X'{}'", hex("{}")),
        "UPDATE facts SET message = (SELECT sha256 FROM fact_messages WHERE number = 1)",
        "UPDATE OR REPLACE facts SET name = 'incident:INC-7' WHERE name = 'oncall:web'",
        "DELETE FROM facts",
        "DELETE FROM fact_messages",
    ] {
        for restarts in [false, true] {
            let mut bench = bench();
            bench.tamper();
            let claimable = bench.ask("alice", "web", &json!({}));
            bench.approve("carol", &claimable).ok();
            // 1: alice is on call and it is open; 2: bob is, for a second; 3: it is closed.
            let day = 86_400;
            PAGER
                .states(
                    &bench,
                    &json!([is(&bench, "oncall:dba:primary", "alice", day), is(&bench, "incident:INC-7", "open", day)]),
                )
                .ok();
            let asked = ask(&bench, "tier1");
            PAGER.states(&bench, &json!([is(&bench, "oncall:web", "bob", 1)])).ok();
            bench.advance(1);
            PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
            if restarts {
                bench.stop();
            }
            bench.sql().execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).expect(sql);
            if restarts {
                bench.start(&paged()).expect("a service that starts");
            }
            let answer = bench.claim(&asked);
            assert!(answer.status >= 400, "{sql} (restarts: {restarts}): {answer:?}");
            bench.claim(&claimable).ok();
        }
    }
}

/// The limit of erasure, and no more: who takes away the message that ended a fact brings it back, at the next start.
#[test]
fn an_erased_end_revives_at_the_next_start() {
    let mut bench = alarmed();
    bench.tamper();
    let (first, second) = (ask(&bench, "tier1"), ask(&bench, "tier1"));
    bench.advance(1);
    PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
    let connection = bench.sql();
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF; UPDATE facts SET message = (SELECT sha256 FROM fact_messages WHERE number = 1); \
         DELETE FROM fact_messages WHERE number = 2",
    ).expect("erased");
    drop(connection);
    assert_eq!(bench.claim(&first).code(), "not-enough-approvals", "this process heard it");
    bench.stop();
    bench.start(&paged()).expect("a service that starts");
    bench.claim(&second).ok();
}

#[test]
fn who_may_read_facts() {
    let bench = alarmed();
    for (person, status) in [("olga", 200), ("erin", 200), ("alice", 403), ("carol", 403)] {
        assert_eq!(bench.get("/v1/facts", &bench.session(person)).status, status, "{person}");
    }
    let first = &bench.get("/v1/facts", &bench.session("olga")).ok().json()[0];
    assert_eq!(
        (&first["name"], &first["value"], &first["source"]),
        (&json!("incident:INC-7"), &json!("open"), &json!("pager"))
    );
    assert_eq!(first["until"], json!(bench.at(3000)));
}

/// A message, claims and denials at once: whatever comes first, nobody holds access to a closed incident.
#[test]
fn a_closing_incident_races_with_claims() {
    let bench = alarmed();
    for _ in 0..10 {
        PAGER.states(&bench, &json!([is(&bench, "incident:INC-7", "open", 3000)])).ok();
        let asked: Vec<Asked> = (0..4).map(|_| ask(&bench, "tier1")).collect();
        bench.advance(1);
        std::thread::scope(|scope| {
            for one in &asked {
                scope.spawn(|| bench.claim(one));
            }
            scope.spawn(|| PAGER.states(&bench, &json!([over("incident:INC-7")])).ok());
        });
        for one in &asked {
            let state = state_of(&bench, one);
            assert!(state == "revoked" || state == "approved", "{state}");
            assert!(bench.claim(one).status >= 400);
            if state == "approved" {
                bench.withdraw(one).ok();
            }
        }
        bench.advance(1);
    }
}

/// Approvers see what the role's rules ask for, and until when; and in the story what ended.
#[test]
fn the_page_of_a_request_says_who_is_on_call() {
    let bench = alarmed();
    let night = bench.ask("alice", "night", &json!({}));
    let browser = carol(&bench);
    let page = || browser.opens(&bench, &format!("/requests/{}", night.id)).ok().body;
    assert!(page().contains("on call (dba:primary): alice (until "), "{}", page());
    assert!(!page().contains("incident"), "no rule of this role asks for it");
    bench.approve("carol", &night).ok();
    bench.claim(&night).ok();
    PAGER.states(&bench, &json!([over("oncall:dba:primary")])).ok();
    let page = page();
    assert!(page.contains("the access of alice to night ended with the fact oncall:dba:primary"), "{page}");
    assert!(!page.contains("on call ("), "{page}");
}

#[test]
fn a_source_says_who_and_what() {
    let good = paged();
    for (from, to, words) in [
        (PAGER.public(), "whpk_AAAA".to_owned(), "write whpk_ and the base64 of an Ed25519 public key"),
        (PAGER.public(), PAGER.written_secret(), "write whpk_ and the base64 of an Ed25519 public key"),
        ("\"oncall:*\"".to_owned(), "\"*\"".to_owned(), "write a name, or how it begins and * at its end"),
        ("\"oncall:*\"".to_owned(), "\"on*call\"".to_owned(), "write a name, or how it begins and * at its end"),
        ("[\"oncall:*\", \"incident:INC-7\"]".to_owned(), "[]".to_owned(), "facts is empty"),
        ("[sources.pager]".to_owned(), "[sources.Pager]".to_owned(), "begin with a letter"),
        ("[sources.pager]".to_owned(), "[sources.pager]\nsecret = \"x\"".to_owned(), "unknown field `secret`"),
    ] {
        assert!(good.contains(&from), "{from}");
        let error = Policy::parse(&good.replacen(&from, &to, 1)).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains(&PAGER.written_secret()), "a secret where a key belongs is not repeated: {error}");
    }
}
