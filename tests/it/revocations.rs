//! Revoking: whose access ends, who may end it, that nothing of it can be claimed any more, and what hosts are told.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ssh_jit::domain::krl::{Header, NAMESPACE};
use ssh_jit::domain::sshsig::SshSig;
use ssh_jit::domain::statement::{Kind, Serial};
use ssh_jit::domain::verify::Signed;

use crate::support::service::{Answer, Asked, Bench, Key, policy, with};
use crate::support::{dir, output, run, tool};

pub(crate) fn revoke(bench: &Bench, by: &str, target: Value) -> Answer {
    let changes = json!({"target": target, "reason": "the laptop was stolen"});
    bench.send(Kind::Revocation, &Key::of(by), &with(bench.draft(Kind::Revocation, by), &changes))
}

/// The ids of what a revocation ended.
#[track_caller]
fn ended(answer: Answer) -> BTreeSet<String> {
    let ended = answer.ok().json();
    ended.as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

fn ids<const N: usize>(asked: [&Asked; N]) -> BTreeSet<String> {
    asked.iter().map(|asked| asked.id.clone()).collect()
}

fn state_of(bench: &Bench, asked: &Asked) -> String {
    let view = bench.get(&format!("/v1/requests/{}", asked.id), &bench.session("erin")).ok().json();
    view["state"]["name"].as_str().expect("a state").to_owned()
}

/// Asked for and claimed; gives its serial, too.
fn active(bench: &Bench, person: &str) -> (Asked, u64) {
    let asked = bench.ask(person, "db-prod", &json!({"seconds": 900}));
    let serial = bench.claim(&asked).ok().json()["serial"].as_str().expect("a serial").parse().expect("a number");
    (asked, serial)
}

/// The list that is published: verified, and read by stock OpenSSH.
pub(crate) struct Published {
    number: u64,
    pub(crate) serials: BTreeSet<u64>,
    text: String,
}

pub(crate) fn published(bench: &Bench) -> Published {
    let answer = bench.http("GET", "/v1/krl", None, b"").ok().json();
    let bytes = STANDARD.decode(answer["krl"].as_str().expect("base64")).expect("base64");
    let signature = SshSig::from_armor(answer["signature"].as_str().expect("a signature")).expect("a signature");
    let signed = Signed::new(bytes, signature);
    signed.is_by(bench.keys().krl.public(), NAMESPACE).expect("signed by the KRL key");
    let number = Header::read(signed.bytes()).expect("a list").number;
    assert_eq!(answer["number"], number);
    let dir = dir();
    let path = dir.path().join("krl");
    std::fs::write(&path, signed.bytes()).expect("a file");
    let text = run(tool("ssh-keygen").arg("-Qlf").arg(path));
    let mut serials = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("serial: ")) {
        let (low, high) = line.split_once('-').unwrap_or((line, line));
        serials.extend(low.parse::<u64>().expect("a serial")..=high.parse().expect("a serial"));
    }
    Published { number, serials, text }
}

#[test]
fn an_empty_list_is_a_list() {
    let bench = Bench::new();
    let empty = published(&bench);
    assert_eq!(empty.serials, BTreeSet::new());
    assert_eq!(published(&bench).number, empty.number, "made once");
    assert!(empty.number >= bench.at(0).unix().unsigned_abs());
}

/// One event for each certificate that ends, with who ended it.
#[test]
fn a_request_is_revoked_once() {
    let bench = Bench::new();
    let (asked, serial) = active(&bench, "alice");
    let (other, _) = active(&bench, "alice");
    let before = bench.events().len();
    assert_eq!(ended(revoke(&bench, "carol", json!({"request": asked.id}))), ids([&asked]));
    assert_eq!(bench.story(before), ["revoked"]);
    let event = bench.events().remove(before);
    assert_eq!(event.person.as_ref().map(ToString::to_string).as_deref(), Some("carol"));
    assert_eq!(event.serial.map(Serial::number), Some(serial));
    assert_eq!((state_of(&bench, &asked), state_of(&bench, &other)), ("revoked".to_owned(), "active".to_owned()));
    assert_eq!(published(&bench).serials, BTreeSet::from([serial]));
    bench.refuses("not-active", || revoke(&bench, "carol", json!({"request": asked.id})));
    bench.refuses("revoked", || bench.claim(&asked));
    bench.refuses("unknown-request", || revoke(&bench, "carol", json!({"request": "0000-0000-00"})));
}

/// Nobody without the duty, whatever else they may do: not the requester, an administrator or an auditor.
#[test]
fn it_takes_the_duty() {
    let bench = Bench::new();
    let (asked, _) = active(&bench, "alice");
    for by in ["alice", "bob", "erin", "olga", "robot"] {
        bench.refuses("no-duty", || revoke(&bench, by, json!({"request": asked.id})));
        bench.refuses("no-duty", || revoke(&bench, by, json!({"person": "alice"})));
    }
    let changes = json!({"target": {"request": asked.id}, "reason": "it is not mine"});
    let statement = with(bench.draft(Kind::Revocation, "carol"), &changes);
    bench.refuses("not-their-key", || bench.send(Kind::Revocation, &Key::of("bob"), &statement));
    assert_eq!(state_of(&bench, &asked), "active");
}

/// What waits, what is approved and what is active, and nobody else's.
#[test]
fn everything_of_a_person_ends() {
    let bench = Bench::new();
    let (asked, serial) = active(&bench, "alice");
    let waiting = bench.ask("alice", "vault", &json!({}));
    let approved = bench.ask("alice", "db-prod", &json!({"seconds": 900}));
    let (other, _) = active(&bench, "bob");
    let over = bench.ask("alice", "db-prod", &json!({"seconds": 900}));
    bench.withdraw(&over).ok();
    let before = bench.events().len();
    assert_eq!(ended(revoke(&bench, "carol", json!({"person": "alice"}))), ids([&asked, &waiting, &approved]));
    assert_eq!(bench.story(before), ["revoked"; 3]);
    assert_eq!(published(&bench).serials, BTreeSet::from([serial]), "only one of them had a certificate");
    bench.refuses("revoked", || bench.claim(&approved));
    bench.refuses("not-pending", || bench.approve("carol", &waiting));
    assert_eq!(state_of(&bench, &other), "active");
    // Nothing is left, so nothing is written; and what is asked for afterwards is for the policy to allow.
    let (rows, events) = (bench.rows(), bench.events().len());
    assert_eq!(ended(revoke(&bench, "carol", json!({"person": "alice"}))), BTreeSet::new());
    assert_eq!((bench.rows(), bench.events().len()), (rows, events));
    active(&bench, "alice");
}

/// Whoever asked, approved or is to claim with it.
#[test]
fn everything_that_rests_on_a_key_ends() {
    let bench = Bench::new();
    let (asked, _) = active(&bench, "alice");
    let (subject, _) = active(&bench, "alice");
    let (bobs, _) = active(&bench, "bob");
    let approved = bench.ask("bob", "web", &json!({}));
    bench.approve("carol", &approved).ok();
    let by_other_key = bench.ask("bob", "web", &json!({}));
    bench.send(Kind::Approval, &Key::of("carol 2"), &bench.approval("carol", &by_other_key)).ok();
    let half = bench.ask("bob", "vault", &json!({}));
    bench.approve("carol", &half).ok();
    let by = |key: &Key| ended(revoke(&bench, "dan", json!({"key": key.fingerprint()})));
    assert_eq!(by(&Key::of("nobody's")), BTreeSet::new());
    assert_eq!(by(&subject.subject), ids([&subject]));
    assert_eq!(by(&Key::of("carol")), ids([&approved, &half]));
    bench.refuses("revoked", || bench.claim(&approved));
    assert_eq!(by(&Key::of("alice")), ids([&asked]));
    assert_eq!(by(&Key::of("bob")), ids([&bobs, &by_other_key]));
}

/// What a passkey approved hangs on it, and on the SSH key that vouched for it.
#[test]
fn a_passkey_rests_on_its_ssh_key() {
    let bench = Bench::new();
    let carol = crate::web::carol(&bench);
    let approved = || {
        let asked = bench.ask("alice", "web", &json!({}));
        let text = carol.draft(&bench, &asked.id, "approve");
        carol.calls(&bench, "/web/decisions", &carol.signs(Kind::Approval, &text)).ok();
        asked
    };
    let (first, second) = (approved(), approved());
    assert_eq!(ended(revoke(&bench, "dan", json!({"key": Key::of("carol").fingerprint()}))), ids([&first, &second]));
    let third = approved();
    assert_eq!(ended(revoke(&bench, "dan", json!({"key": carol.fingerprint()}))), ids([&third]));
    let page = carol.opens(&bench, &format!("/requests/{}", third.id)).ok().body;
    assert!(page.contains("before it was started") && page.contains("the laptop was stolen"), "{page}");
}

/// Broken glass is ended like anything else, and only while its certificate may live.
#[test]
fn broken_glass_is_revoked_too() {
    let bench = Bench::new();
    let break_glass = || {
        let statement = bench.breaking("alice", "db-prod");
        let serial = bench.break_glass(&statement).ok().json()["serial"].as_str().expect("a serial").to_owned();
        (statement["id"].as_str().expect("an id").to_owned(), serial.parse::<u64>().expect("a number"))
    };
    let (first, serial) = break_glass();
    let before = bench.events().len();
    assert_eq!(ended(revoke(&bench, "carol", json!({"request": first}))), BTreeSet::from([first.clone()]));
    assert_eq!(bench.story(before).last().map(String::as_str), Some("revoked"));
    assert_eq!(published(&bench).serials, BTreeSet::from([serial]));
    assert_eq!(ended(revoke(&bench, "carol", json!({"request": first}))), BTreeSet::new(), "once");
    let shown = bench.get("/v1/emergencies", &bench.session("alice")).ok().json();
    assert_eq!((&shown[0]["id"], &shown[0]["revoked"]), (&json!(first), &json!(true)));
    bench.advance(60);
    let (second, _) = break_glass();
    assert_eq!(ended(revoke(&bench, "carol", json!({"person": "alice"}))), BTreeSet::from([second]));
    let (third, _) = break_glass();
    let safe = Key::of("alice safe").fingerprint();
    assert_eq!(ended(revoke(&bench, "carol", json!({"key": safe}))), BTreeSet::from([third]));
    let (fourth, _) = break_glass();
    bench.advance(901);
    assert_eq!(ended(revoke(&bench, "carol", json!({"request": fourth}))), BTreeSet::new(), "it is over");
}

/// `done`, `revoke`, and the policy's revoked keys; each until its certificate is over and clocks agree on that.
#[test]
fn hosts_are_told_of_all_that_ended_early() {
    let bench = Bench::new();
    let (given_back, returned) = active(&bench, "alice");
    let (asked, revoked) = active(&bench, "bob");
    let (_, lives) = active(&bench, "alice");
    bench.give_back(&given_back, &json!(returned.to_string())).ok();
    assert_eq!(published(&bench).serials, BTreeSet::from([returned]));
    ended(revoke(&bench, "carol", json!({"request": asked.id})));
    let list = published(&bench);
    assert_eq!(list.serials, BTreeSet::from([returned, revoked]));
    assert!(!list.serials.contains(&lives));
    let key = Key::of("alice");
    bench.load_policy(&format!("revoked_keys = [{:?}]\n{}", key.line(), policy()));
    let hash = key.fingerprint().hex();
    assert!(published(&bench).text.contains(&format!("hash: SHA256:{hash}")), "{}", published(&bench).text);
    bench.advance(900 + 3600);
    bench.load_policy(&policy());
    assert_eq!(published(&bench).serials, BTreeSet::new(), "they ran out an hour ago");
}

/// A restart forgets nothing, and numbers only grow: over restarts, and over a clock that was set back.
#[test]
fn numbers_grow_whatever_happens() {
    let mut bench = Bench::new();
    let (asked, serial) = active(&bench, "alice");
    ended(revoke(&bench, "carol", json!({"request": asked.id})));
    let broken = bench.breaking("alice", "db-prod");
    let emergency: u64 =
        bench.break_glass(&broken).ok().json()["serial"].as_str().expect("a serial").parse().expect("one");
    ended(revoke(&bench, "carol", json!({"person": "alice"})));
    let lives = bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    let first = published(&bench);
    assert!(!first.text.contains(lives.json()["serial"].as_str().expect("a serial")));
    bench.advance(-300);
    bench.restart();
    let second = published(&bench);
    assert_eq!(second.serials, BTreeSet::from([serial, emergency]));
    assert!(second.number > first.number, "{} after {}", second.number, first.number);
    // A copy from before: the time alone makes its numbers higher.
    bench.stop();
    bench.sql().execute("DELETE FROM meta WHERE name = 'krl-number'", []).expect("SQL");
    bench.advance(3_000);
    bench.restart();
    assert!(published(&bench).number > second.number);
}

/// A row that says so revokes nothing on hosts, if nobody's statement or fact does: not even after a restart.
#[test]
fn what_nobody_ended_is_not_on_the_list() {
    let mut bench = Bench::new();
    let (asked, serial) = active(&bench, "alice");
    let (other, revoked) = active(&bench, "alice");
    ended(revoke(&bench, "carol", json!({"request": other.id})));
    bench.tamper();
    bench.stop();
    let sql = "UPDATE requests SET state = 'revoked' WHERE id = ?1";
    bench.sql().execute(sql, [&asked.id]).expect("SQL");
    bench.restart();
    assert_eq!(published(&bench).serials, BTreeSet::from([revoked]));
    // Nor on the word of a statement whose signature is another's.
    bench.stop();
    let sql = "UPDATE statements SET signature = (SELECT signature FROM statements WHERE kind = 'request' LIMIT 1) \
               WHERE kind = 'revocation'";
    bench.sql().execute(sql, []).expect("SQL");
    bench.restart();
    let list = published(&bench);
    assert_eq!(list.serials, BTreeSet::new(), "neither {serial} nor {revoked}");
}

/// Waiting for a list that is not the one known: the same is not sent again, and a new one comes at once.
#[test]
fn a_list_is_pushed() {
    let bench = Bench::new();
    let (asked, serial) = active(&bench, "alice");
    let (answer, headers) = bench.browse("GET", "/v1/krl", &[], b"");
    let tag = headers.split("\"etag\": ").nth(1).and_then(|rest| rest.split(", ").next()).expect("an ETag");
    let tag = tag.trim_end_matches('}').trim_matches('"').replace('\\', "");
    assert_eq!(answer.ok().json()["number"], published(&bench).number);
    let known: [(&str, &str); 1] = [("if-none-match", &tag)];
    assert_eq!(bench.browse("GET", "/v1/krl", &known, b"").0.status, 304);
    assert_eq!(bench.browse("GET", "/v1/krl?wait=1", &known, b"").0.status, 304, "after a second");
    assert_eq!(bench.browse("GET", "/v1/krl?wait=20", &[("if-none-match", "\"other\"")], b"").0.status, 200);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| (bench.browse("GET", "/v1/krl?wait=20", &known, b"").0.status, Instant::now()));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waits.is_finished());
        let revoked_at = Instant::now();
        ended(revoke(&bench, "carol", json!({"request": asked.id})));
        let (status, heard_at) = waits.join().expect("an answer");
        assert_eq!(status, 200);
        assert!(heard_at - revoked_at < Duration::from_secs(2), "{:?}", heard_at - revoked_at);
    });
    assert_eq!(published(&bench).serials, BTreeSet::from([serial]));
}

/// What stock OpenSSH makes of the signature.
#[test]
fn the_list_is_signed_as_ssh_keygen_signs() {
    let bench = Bench::new();
    let answer = bench.http("GET", "/v1/krl", None, b"").ok().json();
    let dir = dir();
    let path = |name: &str| dir.path().join(name);
    let bytes = STANDARD.decode(answer["krl"].as_str().expect("base64")).expect("base64");
    std::fs::write(path("krl.sig"), answer["signature"].as_str().expect("a signature")).expect("a file");
    let mut signers = String::new();
    writeln!(signers, "krl namespaces=\"{NAMESPACE}\" {}", bench.keys().krl.public()).expect("text");
    std::fs::write(path("signers"), signers).expect("a file");
    let mut command = tool("ssh-keygen");
    command
        .args(["-Y", "verify", "-I", "krl", "-n", NAMESPACE, "-f"])
        .arg(path("signers"))
        .arg("-s")
        .arg(path("krl.sig"));
    assert!(crate::support::output_of(&mut command, &bytes).status.success());
    assert!(!output(&mut command).status.success(), "of nothing else");
}
