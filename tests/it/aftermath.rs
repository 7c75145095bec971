//! What comes after broken glass: reviews that are overdue, people who need the glass too often, and drills.

use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::sshsig::SshSig;
use ssh_jit::domain::statement::Kind;

use crate::support::service::{Answer, Asked, Bench, Key, policy, with};
use crate::web::carol;

/// 2026-11-22, when every bench begins, is a Sunday: two working days end as Wednesday begins.
const UNTIL_DUE: i64 = 2 * 86_400 + 14 * 3600;

/// Imports what the journal has.
fn import(bench: &Bench) {
    bench.run(bench.service().import_journal()).expect("an import");
}

/// Breaks the glass, and has the database know it.
fn broken(bench: &Bench, person: &str, role: &str) -> Value {
    let statement = bench.breaking(person, role);
    bench.break_glass(&statement).ok();
    import(bench);
    statement
}

fn review(bench: &Bench, person: &str, used: &Value) -> Answer {
    let fields = json!({
        "break_glass": Digest::of(used.to_string().as_bytes()), "id": used["id"], "outcome": "justified",
        "comment": "the incident report is INC-412",
    });
    bench.send(Kind::Review, &Key::of(person), &with(bench.draft(Kind::Review, person), &fields))
}

/// Asks for what the policy of the sample approves by itself. Gives the state that it comes to.
fn asks(bench: &Bench, person: &str) -> (Asked, String) {
    let asked = bench.ask(person, "db-prod", &json!({"seconds": 600}));
    let state = asked.answer["request"]["state"]["name"].as_str().expect("a state").to_owned();
    (asked, state)
}

#[test]
fn an_overdue_review_ends_automatic_approval_for_the_team() {
    let bench = Bench::new();
    let used = broken(&bench, "alice", "db-prod");
    bench.advance(UNTIL_DUE - 1);
    let (early, state) = asks(&bench, "bob");
    assert_eq!(state, "approved", "in time");
    bench.advance(1);
    for person in ["alice", "bob", "robot"] {
        let (asked, state) = asks(&bench, person);
        assert_eq!(state, "requested", "{person} is in sre, as alice is");
        let why = asked.answer["request"]["overdue_review"].as_str().expect("why").to_owned();
        let (id, due) = (used["id"].as_str().expect("an id"), "2026-11-25T00:00:00Z");
        assert_eq!(why, format!("once the review of {id} is closed, which was due {due}"));
        // What a person approves is had as ever.
        bench.approve("carol", &asked).ok();
        bench.claim(&asked).ok();
    }
    // What was approved by itself before is not claimed any more, and the refusal names the review.
    let answer = bench.claim(&early);
    assert_eq!(answer.code(), "review-overdue");
    assert!(answer.body.contains(used["id"].as_str().expect("an id")), "{answer:?}");
    // Nor does it keep anybody from breaking the glass.
    let second = broken(&bench, "alice", "db-prod");
    assert_eq!(review(&bench, "dan", &used).ok().status, 204);
    assert_eq!(asks(&bench, "bob").1, "approved", "the second is not due yet");
    bench.claim(&early).ok();
    assert_eq!(review(&bench, "dan", &second).ok().status, 204);
}

/// Another team goes on as before.
#[test]
fn an_overdue_review_is_the_affair_of_its_team() {
    let mut bench = Bench::unstarted();
    let policy = policy().replace(
        "requesters = [\"sre\"]\napprovers  = [\"dba\"]\napprovals  = 1",
        "requesters = [\"sre\", \"audit\"]\napprovers  = [\"dba\"]\napprovals  = 1",
    );
    bench.start(&policy).expect("a start");
    broken(&bench, "alice", "db-prod");
    bench.advance(UNTIL_DUE);
    assert_eq!(asks(&bench, "olga").1, "approved", "olga is not in sre");
    assert_eq!(asks(&bench, "bob").1, "requested");
}

/// Access that was given stays given: the same certificate again is no new approval.
#[test]
fn what_was_claimed_can_be_claimed_again() {
    let bench = Bench::new();
    broken(&bench, "alice", "db-prod");
    bench.advance(UNTIL_DUE - 60);
    let (asked, _) = asks(&bench, "bob");
    let first = bench.claim(&asked).certificate();
    bench.advance(120);
    assert_eq!(bench.claim(&asked).certificate(), first);
}

/// Certificates hang on it, so it is not the database that says what was reviewed.
#[test]
fn no_row_closes_a_review() {
    let mut bench = Bench::new();
    let used = broken(&bench, "alice", "db-prod");
    // A review that somebody signed, of something else: its row is there to be pointed at.
    let other = broken(&bench, "carol", "vault");
    review(&bench, "dan", &other).ok();
    bench.advance(UNTIL_DUE);
    bench.tamper();
    let id = used["id"].as_str().expect("an id").to_owned();
    let other = "SELECT review FROM emergencies WHERE review IS NOT NULL";
    for (name, sql) in [
        ("a review of something else", format!("UPDATE emergencies SET review = ({other}) WHERE id = ?1")),
        ("moved to later", "UPDATE emergencies SET at = 4102444800 WHERE id = ?1".to_owned()),
        ("gone", "DELETE FROM emergencies WHERE id = ?1".to_owned()),
    ] {
        bench.sql().execute(&sql, [&id]).expect("SQL");
        assert_eq!(asks(&bench, "bob").1, "requested", "{name}");
        bench.restart();
        assert_eq!(asks(&bench, "bob").1, "requested", "{name}, after a restart");
    }
}

#[test]
fn the_journal_remembers_reviews() {
    let mut bench = Bench::new();
    let used = broken(&bench, "alice", "db-prod");
    review(&bench, "dan", &used).ok();
    bench.advance(UNTIL_DUE);
    bench.restart();
    assert_eq!(asks(&bench, "bob").1, "approved");
    let found = bench.get(&format!("/v1/emergencies/{}", used["id"].as_str().expect("an id")), &bench.session("bob"));
    let found = found.ok().json();
    assert_eq!((&found["review"]["outcome"], &found["review"]["person"]), (&json!("justified"), &json!("dan")));
    assert_eq!((&found["review_open"], &found["review_due"]), (&json!(false), &Value::Null));
}

/// A review cannot be written where it would not last, and then is not.
#[test]
fn a_review_that_comes_second_changes_nothing() {
    let bench = Bench::new();
    let used = broken(&bench, "alice", "db-prod");
    review(&bench, "dan", &used).ok();
    bench.refuses("not-pending", || review(&bench, "carol", &used));
    let lines = std::fs::read_to_string(bench.journal()).expect("the journal").lines().count();
    assert_eq!(lines, 3, "the keys, a use, and its review");
}

#[test]
fn an_overdue_review_is_told_once_a_week() {
    let bench = Bench::new();
    let used = broken(&bench, "alice", "db-prod");
    let told = |since: usize| bench.story(since).iter().filter(|event| *event == "review-overdue").count();
    bench.advance(UNTIL_DUE - 1);
    bench.sweep();
    assert_eq!(told(0), 0, "in time");
    bench.advance(1);
    bench.sweep();
    bench.sweep();
    assert_eq!(told(0), 1, "once");
    bench.advance(7 * 86_400 - 1);
    bench.sweep();
    assert_eq!(told(0), 1);
    bench.advance(1);
    bench.sweep();
    assert_eq!(told(0), 2, "and again after a week");
    review(&bench, "dan", &used).ok();
    bench.advance(7 * 86_400);
    bench.sweep();
    assert_eq!(told(0), 2, "until it is closed");
}

/// R47.
#[test]
fn the_third_use_in_a_week_raises_an_alarm() {
    let bench = Bench::new();
    let alarms =
        || bench.story(0).into_iter().filter(|event| event.starts_with("break-glass-overuse")).collect::<Vec<_>>();
    broken(&bench, "alice", "db-prod");
    bench.advance(3 * 86_400);
    broken(&bench, "alice", "db-prod");
    assert_eq!(alarms(), [""; 0]);
    bench.advance(3 * 86_400);
    broken(&bench, "carol", "vault");
    assert_eq!(alarms(), [""; 0], "of another team");
    broken(&bench, "alice", "db-prod");
    let said = "break-glass-overuse (alice broke the glass 3 times in 7 days)";
    assert_eq!(alarms(), [said]);
    let state = bench.get("/v1/aftermath", &bench.session("bob")).ok().json();
    assert_eq!(state["overuse"][0]["who"], "alice");
    assert!(state["overuse"][0]["instead"].as_str().is_some_and(|words| words.contains("roles.db-prod")));
    assert_eq!(state["reviews"].as_array().map(Vec::len), Some(4));
    bench.advance(8 * 86_400);
    assert_eq!(bench.get("/v1/aftermath", &bench.session("bob")).ok().json()["overuse"], json!([]));
}

/// Every page of those who answer for it says so, and says it to nobody else.
#[test]
fn approvers_see_what_waits_on_every_page() {
    let bench = Bench::new();
    let carol = carol(&bench);
    let used = broken(&bench, "alice", "db-prod");
    let id = used["id"].as_str().expect("an id");
    for path in ["/", "/mine", "/active", "/emergencies", "/roles", "/passkeys"] {
        let page = carol.opens(&bench, path).ok().body;
        assert!(
            page.contains(&format!(
                "<a href=\"/emergencies#{id}\">The glass was broken: one use waits for a review</a>, due"
            )),
            "{path}: {page}"
        );
    }
    bench.advance(600);
    broken(&bench, "alice", "db-prod");
    assert!(carol.opens(&bench, "/").ok().body.contains("2 uses wait for a review</a>, the first due"));
    let mut olga = crate::web::Browser::new(9);
    olga.enrols(&bench, "olga", &json!({})).ok();
    olga.signs_in(&bench, "olga").ok();
    assert!(!olga.opens(&bench, "/").ok().body.contains("The glass was broken"), "olga decides nothing");
}

/// The sample policy, and what is practised on.
pub(crate) fn with_canary() -> String {
    let more = r#"
[roles.canary]
hosts      = ["canary1"]
principals = ["canary"]
requesters = ["sre"]
approvers  = ["dba"]
max        = "1h"

[drill]
role = "canary"
host = "canary1"
"#;
    policy().replace("roles = [\"db-prod\"]", "roles = [\"db-prod\", \"canary\"]") + more
}

fn practising() -> Bench {
    let mut bench = Bench::unstarted();
    bench.start(&with_canary()).expect("a start");
    bench
}

pub(crate) fn drill(bench: &Bench, without: &Value) -> Value {
    with(bench.breaking("alice", "canary"), &json!({"drill": without, "hosts": ["canary1"], "category": "other"}))
}

fn report(bench: &Bench, used: &Value, changes: &Value) -> Value {
    let fields = json!({
        "break_glass": Digest::of(used.to_string().as_bytes()), "id": used["id"], "reason_ms": 5,
        "certificate_ms": 400, "shell_ms": 900, "alert_ms": null, "acknowledgement_ms": null,
    });
    with(with(bench.draft(Kind::Drill, "alice"), &fields), changes)
}

fn proof(bench: &Bench) -> Value {
    bench.get("/v1/aftermath", &bench.session("bob")).ok().json()["proof"].clone()
}

/// A drill is journaled, opens no review, counts for no overuse, and is reported once, by whoever made it.
#[test]
fn a_drill_is_reported_and_reviewed_by_nobody() {
    let bench = practising();
    let whose = |proof: &Value| -> Vec<String> {
        let keys = proof["unproven"].as_array().expect("keys").iter();
        keys.map(|key| key["person"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(whose(&proof(&bench)), ["alice", "carol"], "nobody has practised yet");
    let used = drill(&bench, &json!(["mail-down"]));
    let certificate = bench.break_glass(&used).certificate();
    let certificate = ssh_key::Certificate::from_openssh(&certificate).expect("a certificate");
    assert_eq!(certificate.valid_principals(), ["canary@canary1"]);
    assert!(certificate.key_id().contains("/alice/canary/DRILL/SHA256:"), "{}", certificate.key_id());
    import(&bench);
    let send = |key: &str, statement: &Value| bench.send(Kind::Drill, &Key::of(key), statement);
    let good = report(&bench, &used, &json!({}));
    let before = bench.events().len();
    bench.refuses("unknown-key", || send("alice safe", &good));
    let of_bob = with(good.clone(), &json!({"person": "bob"}));
    bench.refuses("not-yours", || send("bob", &of_bob));
    bench.refuses("other-request", || send("alice", &report(&bench, &used, &json!({"break_glass": Digest::of(b"x")}))));
    bench.refuses("unknown-request", || send("alice", &report(&bench, &used, &json!({"id": bench.id()}))));
    bench.refuses("not-on-record", || send("alice", &report(&bench, &used, &json!({"alert_ms": 500}))));
    bench.refuses("not-on-record", || send("alice", &report(&bench, &used, &json!({"acknowledgement_ms": 500}))));
    assert_eq!(send("alice", &good).ok().json(), json!({"passed": true}));
    assert_eq!(bench.story(before).last().map(String::as_str), Some("drilled (passed)"));
    bench.refuses("not-pending", || send("alice", &report(&bench, &used, &json!({}))));
    assert_eq!(whose(&proof(&bench)), ["carol"]);
    assert_eq!(proof(&bench)["shell_ms"], 900);
    let open = bench.get("/v1/emergencies?open=true", &bench.session("bob")).ok().json();
    assert_eq!(open, json!([]), "nobody reviews it");
    assert_eq!(review(&bench, "dan", &used).code(), "not-supported");
    bench.advance(UNTIL_DUE);
    assert_eq!(asks(&bench, "bob").1, "approved");
    let drills = bench.get("/v1/drills", &bench.session("bob")).ok().json();
    assert_eq!(
        (&drills[0]["id"], &drills[0]["without"], &drills[0]["passed"]),
        (&used["id"], &json!(["mail-down"]), &json!(true))
    );
}

/// What does not pass proves nothing, and is kept all the same.
#[test]
fn a_drill_without_a_shell_fails() {
    let bench = practising();
    let used = drill(&bench, &json!(["mail-down"]));
    bench.break_glass(&used).ok();
    let failed = report(&bench, &used, &json!({"shell_ms": null}));
    assert_eq!(bench.send(Kind::Drill, &Key::of("alice"), &failed).ok().json(), json!({"passed": false}));
    assert_eq!(proof(&bench)["unproven"].as_array().map(Vec::len), Some(2));
    assert_eq!(proof(&bench)["last"], Value::Null);
}

/// Whoever means it, on whatever role, is taken to mean it; and whoever practises on a real role is refused.
#[test]
fn what_is_real_is_no_drill() {
    let bench = practising();
    let real = with(bench.breaking("alice", "db-prod"), &json!({"drill": []}));
    assert_eq!(bench.break_glass(&real).code(), "not-a-drill");
    let simulated = with(bench.breaking("alice", "db-prod"), &json!({"drill": ["mail-down", "approvers-away"]}));
    assert_eq!(bench.break_glass(&simulated).code(), "not-a-drill");
    for nonsense in [json!(null), json!("mail-down"), json!(["everything"]), json!(true)] {
        let odd = with(bench.breaking("alice", "canary"), &json!({"drill": nonsense}));
        assert_eq!(bench.break_glass(&odd).code(), "malformed", "{nonsense}");
    }
    let meant = with(bench.breaking("alice", "canary"), &json!({}));
    let certificate = bench.break_glass(&meant).certificate();
    let certificate = ssh_key::Certificate::from_openssh(&certificate).expect("a certificate");
    assert!(certificate.key_id().contains("/alice/canary/SHA256:"), "{}", certificate.key_id());
    import(&bench);
    let open = bench.get("/v1/emergencies?open=true", &bench.session("bob")).ok().json();
    assert_eq!(open[0]["id"], meant["id"], "so it is reviewed");
    let told = report(&bench, &meant, &json!({}));
    bench.refuses("not-a-drill", || bench.send(Kind::Drill, &Key::of("alice"), &told));
}

/// After the CA, or after 90 days, it is to be shown again; and somebody is told.
#[test]
fn what_was_proven_is_proven_for_a_while() {
    let bench = practising();
    let used = drill(&bench, &json!(["mail-down"]));
    bench.break_glass(&used).ok();
    bench.send(Kind::Drill, &Key::of("alice"), &report(&bench, &used, &json!({}))).ok();
    let overdue = || bench.story(0).iter().filter(|event| event.starts_with("drill-overdue")).count();
    bench.sweep();
    assert_eq!(overdue(), 1, "carol has never practised");
    bench.advance(90 * 86_400 + 1);
    bench.sweep();
    assert_eq!(overdue(), 3, "neither has in 90 days");
    let page = carol(&bench).opens(&bench, "/").ok().body;
    assert!(page.contains("Break-glass was last proven 90 days ago, in 900 ms."), "{page}");
    assert!(page.contains("the emergency keys of alice and carol"), "{page}");
    bench.sweep();
    assert_eq!(overdue(), 3, "once a week");
}

/// A report comes at once, or not at all.
#[test]
fn a_late_report_is_none() {
    let bench = practising();
    let used = drill(&bench, &json!([]));
    bench.break_glass(&used).ok();
    import(&bench);
    bench.advance(3601);
    let late = report(&bench, &used, &json!({}));
    bench.refuses("lapsed", || bench.send(Kind::Drill, &Key::of("alice"), &late));
}

/// What a drill does without, it alone does without: a real emergency beside it is imported and told at once.
#[test]
fn a_drill_disables_nothing_for_others() {
    let bench = practising();
    let rows =
        || bench.sql().query_row("SELECT count(*) FROM emergencies", [], |row| row.get::<_, i64>(0)).expect("a number");
    let used = drill(&bench, &json!(["db-readonly"]));
    bench.break_glass(&used).ok();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(rows(), 0, "the database has not heard of the drill");
    bench.break_glass(&bench.breaking("carol", "vault")).ok();
    crate::support::wait_until(|| rows() == 2, || format!("{} rows", rows()));
    let next = drill(&bench, &json!(["db-readonly"]));
    bench.break_glass(&next).ok();
    bench.sweep();
    assert_eq!(rows(), 3, "the sweep catches up");
}

/// A database in which a use was reviewed before journals knew of reviews, by this review.
fn reviewed_in_the_database(person: &str, changes: &Value) -> Bench {
    let mut bench = Bench::new();
    let used = broken(&bench, "carol", "vault");
    let fields = json!({
        "break_glass": Digest::of(used.to_string().as_bytes()), "id": used["id"], "outcome": "justified",
        "comment": "the incident report is INC-412",
    });
    let text = with(with(bench.draft(Kind::Review, person), &fields), changes).to_string();
    let signature = SshSig::from_armor(&Key::of(person).sign("review@ssh-jit", text.as_bytes())).expect("a signature");
    let digest = Digest::of(text.as_bytes());
    bench.tamper();
    bench.stop();
    let insert = "INSERT INTO statements (sha256, kind, bytes, signature) VALUES (?1, 'review', ?2, ?3)";
    bench.sql().execute(insert, (digest.as_bytes(), text.as_bytes(), signature.blob())).expect("SQL");
    bench.sql().execute("UPDATE emergencies SET review = ?1", [digest.as_bytes()]).expect("SQL");
    bench.start(&policy()).expect("a start");
    bench
}

/// What the database alone has is taken over if it is what the verb would have taken: from somebody else, who has the
/// duty still, about these very bytes.
#[test]
fn earlier_reviews_are_taken_over_if_they_count() {
    let open = |bench: &Bench| {
        let state = bench.get("/v1/aftermath", &bench.session("bob")).ok().json();
        state["reviews"].as_array().map(Vec::len)
    };
    let mut bench = reviewed_in_the_database("dan", &json!({}));
    assert_eq!(open(&bench), Some(0));
    bench.restart();
    assert_eq!(open(&bench), Some(0), "once and for all");
    assert_eq!(open(&reviewed_in_the_database("carol", &json!({}))), Some(1), "of her own");
    assert_eq!(open(&reviewed_in_the_database("erin", &json!({}))), Some(1), "without the duty");
    let other = json!({"break_glass": Digest::of(b"something else")});
    assert_eq!(open(&reviewed_in_the_database("dan", &other)), Some(1), "of something else");
    assert_eq!(open(&reviewed_in_the_database("erin", &json!({"person": "dan"}))), Some(1), "in dan's name");
}

/// What an earlier journal left open stays open, and is closed like any other.
#[test]
fn a_new_journal_forgets_no_review() {
    let mut bench = Bench::new();
    let used = broken(&bench, "alice", "db-prod");
    bench.stop();
    std::fs::write(bench.journal(), "").expect("a new journal");
    bench.start(&policy()).expect("a start");
    bench.advance(UNTIL_DUE);
    assert_eq!(asks(&bench, "bob").1, "requested");
    assert_eq!(review(&bench, "alice", &used).code(), "no-duty");
    review(&bench, "dan", &used).ok();
    assert_eq!(asks(&bench, "bob").1, "approved");
    bench.refuses("not-pending", || review(&bench, "carol", &used));
    bench.restart();
    assert_eq!(asks(&bench, "bob").1, "approved");
}
