//! R07, R11: what counts is the policy of the moment of the claim, not of the approval.

use serde_json::json;
use ssh_jit::domain::digest::Digest;

use crate::support::service::{Asked, Bench, Key, policy};

fn changed(from: &str, to: &str) -> String {
    let text = policy();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

/// An approved request for two hours of db-prod.
fn approved(bench: &Bench) -> Asked {
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 7200}));
    bench.approve("carol", &asked).ok();
    asked
}

fn keys_of(person: &str) -> String {
    format!("keys = [{:?}", Key::of(person).line())
}

#[test]
fn a_claim_needs_the_policy_of_its_moment() {
    let bench = Bench::new();
    let asked = approved(&bench);
    let db_prod = "[roles.db-prod]\ndescription = \"PostgreSQL, production\"\n";
    let table = [
        ("not-approver", changed("[people.carol]\ngroups = [\"dba\"]", "[people.carol]\ngroups = []")),
        (
            "unknown-person",
            policy().replace("[people.carol]", "[people.caroline]").replace("\"carol\"", "\"caroline\""),
        ),
        ("unknown-key", changed(&keys_of("carol"), &keys_of("carol 3"))),
        ("not-eligible", changed("[people.alice]\ngroups = [\"sre\"]", "[people.alice]\ngroups = []")),
        ("unknown-person", policy().replace("[people.alice]", "[people.alicia]").replace("\"alice\"", "\"alicia\"")),
        ("unknown-key", changed(&keys_of("alice"), &keys_of("alice 3"))),
        (
            "not-their-key",
            changed(&keys_of("alice"), "keys = [")
                .replace(&keys_of("bob"), &format!("{}, {:?}", keys_of("bob"), Key::of("alice").line())),
        ),
        ("revoked-key", format!("revoked_keys = [{:?}]\n{}", Key::of("alice").line(), policy())),
        ("revoked-key", format!("revoked_keys = [{:?}]\n{}", Key::of("carol").line(), policy())),
        ("subject-key-taken", format!("revoked_keys = [{:?}]\n{}", asked.subject.line(), policy())),
        ("subject-key-taken", changed(&keys_of("bob"), &format!("{}, {:?}", keys_of("bob"), asked.subject.line()))),
        (
            "not-eligible",
            policy()
                .replace("[roles.db-prod]", "[roles.db-other]")
                .replace("[\"db-prod\"]\nmax", "[\"db-other\"]\nmax"),
        ),
        (
            "not-eligible",
            changed(db_prod, &format!("{db_prod}#")).replace(
                "requesters = [\"sre\"]\napprovers  = [\"dba\"]\napprovals  = 1",
                "approvers  = [\"dba\"]\napprovals  = 1",
            ),
        ),
        ("too-long", changed("max        = \"4h\"", "max        = \"90m\"")),
        ("not-enough-approvals", changed("approvals  = 1", "approvals  = 2")),
        ("wider", changed("hosts      = [\"db1\", \"db2\"]", "hosts      = [\"db1\"]")),
        ("wider", changed("principals = [\"db-prod\"]", "principals = [\"db-other\"]")),
        ("wider", changed("\"permit-pty\", \"permit-port-forwarding\"", "\"permit-pty\"")),
        ("wider", changed(db_prod, &format!("{db_prod}critical_options = {{ source-address = \"10.0.0.0/8\" }}\n"))),
        ("wider", changed(db_prod, &format!("{db_prod}claim_within = \"1h\"\n"))),
        ("bad-signature", changed(db_prod, &format!("{db_prod}verify_required = true\n"))),
        // A service practises with emergency keys, and no more.
        (
            "service-decides",
            changed("[people.carol]\n", "[people.carol]\nkind = \"service\"\n")
                .replace("person = \"carol\"", "person = \"dan\""),
        ),
        ("unknown-person", "# nobody\n".to_owned()),
    ];
    for (code, text) in &table {
        bench.load_policy(text);
        bench.refuses(code, || bench.claim(&asked));
        bench.load_policy(&policy());
    }
    bench.claim(&asked).ok();
}

/// Reading the policy back does not turn back the clock.
#[test]
fn a_policy_that_comes_back_too_late() {
    let bench = Bench::new();
    let (asked, twin) = (approved(&bench), approved(&bench));
    bench.load_policy(&changed("[people.carol]\ngroups = [\"dba\"]", "[people.carol]\ngroups = []"));
    bench.advance(4 * 3600);
    bench.refuses("not-approver", || bench.claim(&asked));
    bench.load_policy(&policy());
    bench.claim(&twin).ok();
    bench.advance(1);
    bench.refuses("lapsed", || bench.claim(&asked));
}

/// A policy that gives more after the approval gives no more than what was approved.
#[test]
fn a_wider_policy_widens_nothing() {
    let bench = Bench::new();
    let asked = approved(&bench);
    let wide = policy()
        .replace("hosts      = [\"db1\", \"db2\"]", "hosts      = [\"db1\", \"db2\", \"db3\"]")
        .replace(
            "\"permit-pty\", \"permit-port-forwarding\"",
            "\"permit-pty\", \"permit-port-forwarding\", \"permit-user-rc\"",
        )
        .replace("principals = [\"db-prod\"]", "principals = [\"db-prod\", \"root\"]")
        .replace("default    = \"1h\"", "default    = \"2h\"");
    bench.load_policy(&wide);
    let certificate = ssh_key::Certificate::from_openssh(&bench.claim(&asked).certificate()).expect("a certificate");
    assert_eq!(certificate.valid_principals(), ["db-prod@db1", "db-prod@db2"]);
    let extensions: Vec<_> = certificate.extensions().keys().collect();
    assert_eq!(extensions, ["permit-port-forwarding", "permit-pty"]);
    assert_eq!(certificate.valid_before() - certificate.valid_after(), 7200);
}

/// What was automatic is asked of the policy again, too.
#[test]
fn what_was_automatic_may_no_longer_be() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 900}));
    bench.load_policy(&changed("automatic  = { max = \"15m\" }\n", ""));
    bench.refuses("not-enough-approvals", || bench.claim(&asked));
    bench.load_policy(&changed("\"15m\" }", "\"14m\" }"));
    bench.refuses("not-enough-approvals", || bench.claim(&asked));
    bench.load_policy(&policy());
    bench.claim(&asked).ok();
}

/// Fetching a certificate again is held to the policy of now as well; its bytes stay those of then.
#[test]
fn who_claims_again_must_still_be_entitled() {
    let mut bench = Bench::new();
    let asked = approved(&bench);
    let first = bench.claim(&asked).certificate();
    bench.load_policy(&changed("[people.carol]\ngroups = [\"dba\"]", "[people.carol]\ngroups = []"));
    bench.refuses("not-approver", || bench.claim(&asked));
    bench.load_policy(&changed("description = \"PostgreSQL, production\"", "description = \"PostgreSQL\""));
    assert_eq!(bench.claim(&asked).certificate(), first);
    // A new process has only the policy of its file to rebuild from, and does not believe the database's copy.
    bench.stop();
    bench.start(&changed("description = \"PostgreSQL, production\"", "description = \"PostgreSQL\"")).expect("a start");
    bench.refuses("not-supported", || bench.claim(&asked));
    bench.load_policy(&policy());
    assert_eq!(bench.claim(&asked).certificate(), first);
}

/// Whoever is to decide is asked of the policy when they decide.
#[test]
fn decisions_need_the_policy_of_their_moment() {
    let bench = Bench::new();
    let asked = bench.ask("alice", "vault", &json!({}));
    bench.approve("carol", &asked).ok();
    bench.load_policy(&changed("[people.dan]\ngroups = [\"dba\"]", "[people.dan]\ngroups = []"));
    bench.refuses("not-approver", || bench.approve("dan", &asked));
    bench.load_policy(&changed(&keys_of("alice"), &keys_of("alice 3")));
    bench.refuses("unknown-key", || bench.approve("dan", &asked));
    // What the page showed was said of another policy.
    bench.load_policy(&changed("description = \"PostgreSQL, production\"", "description = \"PostgreSQL\""));
    bench.refuses("policy-changed", || bench.approve("dan", &asked));
    bench.load_policy(&changed("max        = \"2h\"", "max        = \"30m\"").replacen(
        "default    = \"1h\"\ncritical",
        "critical",
        1,
    ));
    bench.refuses("wider", || bench.decide("dan", &asked, &json!({"seconds": 3600})));
    bench.load_policy(&policy());
    bench.approve("dan", &asked).ok();
    bench.claim(&asked).ok();
}

/// R19: what was decided names the policy that was in force, by the SHA-256 of its file.
#[test]
fn what_is_decided_names_its_policy() {
    let bench = Bench::new();
    for text in [policy(), changed("description = \"PostgreSQL, production\"", "description = \"PostgreSQL\"")] {
        bench.load_policy(&text);
        let before = bench.events().len();
        let asked = approved(&bench);
        bench.claim(&asked).ok();
        bench.deny("carol", &bench.ask("alice", "web", &json!({}))).ok();
        bench.ask("alice", "db-prod", &json!({"seconds": 60}));
        let events = bench.events();
        assert_eq!(events.len() - before, 7);
        let named = Some(Digest::of(text.as_bytes()));
        assert!(events[before..].iter().all(|event| event.policy == named), "{:?}", &events[before..]);
    }
}
