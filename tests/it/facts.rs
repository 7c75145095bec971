//! Facts from outside: who may state them, what they open, and that access ends with them.

use serde_json::{Value, json};

use crate::support::pager::{Hook, Pager, is, over};
use crate::support::service::{Answer, Asked, Bench, policy};

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
    assert_eq!(seconds(&claimed), 3000, "no longer than the incident is said to be open");
    assert_eq!(bench.claim(&asked).certificate(), claimed.certificate(), "the same again while it lives");
    PAGER.states(&bench, &json!([over("incident:INC-7")])).ok();
    assert_eq!(state_of(&bench, &asked), "revoked");
    let story = bench.story(before);
    assert_eq!(story[1], "approved-automatically (on-call)");
    assert_eq!(story[2], "claimed");
    assert!(story[3].starts_with("facts-stated (pager SHA256:"), "{story:?}");
    assert_eq!(story[4], "revoked (fact incident:INC-7)");
    assert_eq!(bench.claim(&asked).code(), "not-approved");
    assert_eq!(
        bench.ask("alice", "tier1", &json!({"ticket": "INC-7"})).answer["request"]["state"]["name"],
        "requested"
    );
}
