//! `break-glass`, `ack` and `review`.

use crate::support::dir;
use crate::support::openssh::{SshAgent, keygen, public_line};
use crate::support::service::{Bench, Key};
use crate::support::world::{World, inspected, ssh_jit};

const REASON: &str = "primary is down and nobody answers";
const BROKEN: [&str; 6] = ["break-glass", "db-prod", "--category", "outage", "--reason", REASON];

#[test]
fn the_command_it_prints_gets_in() {
    let world = World::new();
    let alice = world.as_("alice");
    let ran = alice.run(&BROKEN);
    let certificate = "DIR/alice/.local/state/ssh-jit/SERVICE/requests/REQUEST-cert.pub";
    ran.is(
        0,
        &[&format!("ssh -i 'DIR/keys/emergency' -o CertificateFile='{certificate}' ACCOUNT@HOST")],
        &[
            "ssh-jit: the glass is broken: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: it is recorded as REQUEST, and somebody else must review it",
        ],
    );
    let file = ran.stdout.split('\'').nth(3).unwrap();
    let line = std::fs::read_to_string(file).unwrap();
    assert!(inspected(line.trim()).contains("Key ID: \"BREAK-GLASS/"));
    let (from, to) = super::window(line.trim());
    assert_eq!(to - from, 300, "5 minutes where nothing is said");
    let host = world.host("db1", &["db-prod@db1"]);
    let lines = format!("IdentityFile {}\nCertificateFile {file}\n", world.key("emergency").display());
    assert!(host.admits(None, &lines), "{}", host.sshd.log());
    assert!(host.sshd.log().contains("ID \"BREAK-GLASS/"), "{}", host.sshd.log());
}

#[test]
fn it_needs_a_reason_that_says_something() {
    let world = World::new();
    let alice = world.as_("alice");
    let with = |reason: &'static str| [&BROKEN[..5], &[reason]].concat();
    let rule = "is not valid: say in 20 characters or more, not one word repeated, what is broken";
    for reason in ["it is down", "asap asap asap asap asap asap"] {
        alice.run(&with(reason)).is(30, &[], &[&format!("ssh-jit: reason \"{reason}\" {rule}")]);
    }
    alice.run(&BROKEN).good();
    let repeated = ["ssh-jit: reason: it repeats your last one; say what is broken now"];
    alice.run(&BROKEN).is(30, &[], &repeated);
    alice.run(&with("Primary  is DOWN and nobody answers")).is(30, &[], &repeated);
    alice.run(&with("primary is down and now the replica too")).good();
    let ran = alice.run(&["break-glass", "db-prod", "--category", "boredom", "--reason", REASON]);
    assert!(ran.code == 2 && ran.stderr.contains("invalid value 'boredom' for '--category <CATEGORY>'"), "{ran:?}");
    for known in ["outage", "security-incident", "approvers-unreachable", "data-loss", "other"] {
        assert!(ran.stderr.contains(known), "it says what there is: {ran:?}");
    }
    let ran = alice.run(&["break-glass", "db-prod", "--category", "outage"]);
    assert!(ran.code == 2 && ran.stderr.contains("--reason <TEXT>"), "{ran:?}");
}

#[test]
fn a_reason_may_come_from_a_file() {
    let world = World::new();
    let alice = world.as_("alice");
    world.write("why", &format!("{REASON}\n"));
    let file = world.path("why").display().to_string();
    let from_file = ["break-glass", "db-prod", "--category", "outage", "--reason-file", &file];
    let json = alice.run(&[&from_file[..], &["--for", "2m", "--host", "db1", "--json"]].concat()).good().json();
    assert_eq!(json["principals"], serde_json::json!(["db-prod@db1"]));
    let line = std::fs::read_to_string(json["certificate"].as_str().unwrap()).unwrap();
    let (from, to) = super::window(line.trim());
    assert_eq!(to - from, 120);
    world.write("why", "two\nlines of it, and both are long\n");
    let ran = alice.run(&from_file);
    assert!(ran.code != 0 && ran.stderr.contains("use one line"), "{ran:?}");
}

#[test]
fn only_a_registered_key_breaks_it() {
    let world = World::new();
    let with = |name: &str, key: &str| {
        let key = world.key(key).display().to_string();
        world.as_(name).run(&[&BROKEN[..], &["--key", &key]].concat())
    };
    let refused = ["ssh-jit: key: this key may not break the glass here"];
    with("alice", "alice").is(30, &[], &refused);
    with("alice", "other").is(30, &[], &refused);
    with("bob", "bob").is(30, &[], &refused);
    with("bob", "emergency").is(30, &[], &refused);
    world.as_("alice").run(&["break-glass", "vault", "--category", "outage", "--reason", REASON]).is(30, &[], &refused);
    world.as_("bob").run(&BROKEN).is(
        2,
        &[],
        &["ssh-jit: your emergency key is not known", "hint: --key FILE, or emergency_identity in the configuration"],
    );
    let longest = world.as_("alice").run(&[&BROKEN[..], &["--for", "1h"]].concat());
    assert_eq!((longest.code, longest.stdout.as_str()), (30, ""), "{longest:?}");
    assert!(longest.stderr.contains("15m"), "{longest:?}");
}

#[test]
fn a_security_key_is_touched_once() {
    let mut world = World::new();
    let key = keygen(&world.path("keys"), "safe", "ed25519-sk");
    let policy = world.usual_policy().replace(&public_line(&world.key("emergency")), &public_line(&key));
    world.load_policy(&policy);
    let agent = SshAgent::start(world.as_("alice").home());
    agent.add(&key);
    let path = key.display().to_string();
    let ran = world.as_("alice").with(&agent).run(&[&BROKEN[..], &["--key", &path]].concat()).good();
    assert!(ran.stderr.starts_with("ssh-jit: touch your emergency key\n"), "{ran:?}");
    assert_eq!(agent.touches(), 1);
}

#[test]
fn somebody_else_reviews_it() {
    let world = World::new();
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    carol.run(&["review"]).is(0, &[], &["ssh-jit: no review is open"]);
    alice.run(&BROKEN).good();
    let listed = carol.run(&["review", "--json"]).good().json();
    let id = listed[0]["id"].as_str().unwrap();
    let ran = carol.run(&["review"]).good();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("ID            WHO    ROLE     CATEGORY  WHEN"), "{ran:?}");
    assert!(
        lines[1].starts_with(&format!("{id}  alice  db-prod  outage    ")) && lines[1].ends_with(REASON),
        "{ran:?}"
    );
    let said = ["--outcome", "justified", "--comment", "the pager agrees"];
    let review = |id| [&["review", id], &said[..]].concat();
    let own = ["ssh-jit: person: nobody decides on a request of their own; somebody else must"];
    alice.run(&review(id)).is(1, &[], &own);
    let none = ["ssh-jit: REQUEST waits for no review", "hint: ssh-jit review"];
    carol.run(&review("0000-0000-00")).is(1, &[], &none);
    let both = "ssh-jit: a review says what it was and what was found";
    carol.run(&["review", id]).is(2, &[], &[both, "hint: --outcome justified --comment \"...\""]);
    let ran = carol.run(&["review", id, "--outcome", "fine", "--comment", "the pager agrees"]);
    assert!(ran.code == 2 && ran.stderr.contains("justified"), "{ran:?}");
    let ran = world.as_("bob").run(&review(id));
    assert_eq!(ran.code, 1, "{ran:?}");
    carol.run(&review(id)).is(0, &[], &["ssh-jit: REQUEST is reviewed: justified"]);
    carol.run(&review(id)).is(1, &[], &none);
    assert_eq!(super::events(&world, "reviewed"), 1);
}

/// The path for disasters leaves the everyday one alone.
#[test]
fn it_is_no_login() {
    let world = World::new();
    let alice = world.as_("alice");
    alice.run(&BROKEN).good();
    let ran = alice.run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good();
    assert!(ran.stderr.contains("db-prod until "), "asked for anew: {ran:?}");
    assert_eq!(super::events(&world, "requested"), 1);
    alice.run(&["done"]).is(
        0,
        &[],
        &["ssh-jit: db-prod is given back; the key and its certificate are gone from here"],
    );
}

/// BG-06, R49: what stands in the environment is a reason for every day, and so for none.
#[test]
fn the_environment_is_no_reason() {
    let world = World::new();
    let alice = world.as_("alice").env("SSH_JIT_REASON", REASON).env("SSH_JIT_CATEGORY", "outage");
    let ran = alice.run(&["break-glass", "db-prod", "--category", "outage"]);
    assert!(ran.code == 2 && ran.stderr.contains("--reason <TEXT>"), "{ran:?}");
    let ran = alice.run(&["break-glass", "db-prod", "--reason", REASON]);
    assert!(ran.code == 2 && ran.stderr.contains("--category <CATEGORY>"), "{ran:?}");
    alice.run(&with_reason("I need access, please, now, ASAP!")).is(
        30,
        &[],
        &["ssh-jit: reason \"I need access, please, now, ASAP!\" is not valid: say in 20 characters or more, not one word \
           repeated, what is broken"],
    );
}

fn with_reason(reason: &str) -> [&str; 6] {
    ["break-glass", "db-prod", "--category", "outage", "--reason", reason]
}

/// BG-27: it says what would be, and leaves nothing.
#[test]
fn a_check_proves_key_and_roles() {
    let mut world = World::prepared_with_own_listener();
    world.start();
    let alice = world.as_("alice");
    let ran = alice.run(&["break-glass", "--check"]).good();
    assert_eq!(ran.stdout, "db-prod on db1, db2, up to 15m\n");
    assert!(ran.stderr.contains("answers, and knows this key as an emergency key of alice"), "{ran:?}");
    let json = alice.run(&["break-glass", "--check", "--json"]).good().json();
    assert_eq!((&json["well"], &json["roles"][0]["name"]), (&true.into(), &"db-prod".into()), "{json}");
    let everyday = world.key("alice").display().to_string();
    let refused = ["ssh-jit: key: this key may not break the glass here"];
    alice.run(&["break-glass", "--check", "--key", &everyday]).is(30, &[], &refused);
    assert_eq!(super::events(&world, "break-glass"), 0);
    assert_eq!(world.stop().code, 0);
    assert_eq!(world.as_("alice").run(&["break-glass", "--check"]).code, 20);
}

/// BG-28: a page for the safe, which opens nothing.
#[test]
fn the_runbook_holds_no_secret() {
    let mut world = World::prepared_with_own_listener();
    world.start();
    let alice = world.as_("alice");
    let page = alice.run(&["break-glass", "runbook"]).good().stdout;
    let ca = alice.run(&["ca", "show", "--json"]).good().json();
    let glass: ssh_jit::domain::key::PublicKey = ca["break_glass_ca"][0].as_str().unwrap().parse().unwrap();
    let emergency: ssh_jit::domain::key::PublicKey = public_line(&world.key("emergency")).parse().unwrap();
    for word in [
        "ssh-jit break-glass ROLE --category outage",
        "ssh-jit break-glass second alice ROLE",
        &world.url(),
        &glass.fingerprint().to_string(),
        &emergency.fingerprint().to_string(),
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    assert!(page.lines().count() < 60, "one page: {page}");
    let html = alice.run(&["break-glass", "runbook", "--html"]).good().stdout;
    assert!(html.starts_with("<!doctype html>") && html.contains("<ol>") && !html.contains("<script"), "{html}");
    let secret = std::fs::read_to_string(world.key("emergency")).unwrap();
    let body = secret.lines().nth(2).unwrap();
    for text in [&page, &html] {
        assert!(!text.contains(body) && !text.contains("PRIVATE"), "{text}");
    }
    assert!(alice.run(&["break-glass", "runbook", "--json"]).good().json().as_array().unwrap().len() > 3);
}

/// BG-15: what one may not do alone, two may; the word of the second travels by whatever works.
#[test]
fn a_second_person_joins_in() {
    let mut world = World::prepared();
    let second = public_line(&world.key("other"));
    let policy = world.usual_policy().replace("per_key = 100\nextend_alone = 100\n", "per_key = 1\n")
        + &format!("[[emergency_keys]]\nperson = \"dan\"\nkey = \"{second}\"\nroles = [\"db-prod\"]\n");
    world.write("ca/policy.toml", &policy);
    world.start();
    let (alice, dan) = (world.as_("alice"), world.as_("dan"));
    alice.run(&BROKEN).good();
    let again = with_reason("the replica is down now as well");
    let ran = alice.run(&again);
    assert_eq!(ran.code, 30, "{ran:?}");
    assert!(
        ran.stderr
            .contains("hint: have somebody else with an emergency key run: ssh-jit break-glass second alice db-prod")
    );
    let key = world.key("other").display().to_string();
    let word = dan
        .run(&[
            "break-glass",
            "second",
            "alice",
            "db-prod",
            "--reason",
            "I see it as well: both are down",
            "--key",
            &key,
        ])
        .good();
    let token = word.stdout.trim();
    assert!(!token.contains(char::is_whitespace), "one word: {token}");
    let ran = alice.run(&[&again[..], &["--second", &token[..token.len() - 3]]].concat());
    assert_eq!(ran.code, 2, "{ran:?}");
    alice.run(&[&again[..], &["--second", token]].concat()).good();
    let third = with_reason("now the third one is down, too");
    let ran = alice.run(&[&third[..], &["--second", token]].concat());
    assert!(ran.code == 30 && ran.stderr.contains("used before"), "once: {ran:?}");
}

/// BG-11: somebody says that they have heard.
#[test]
fn somebody_has_heard() {
    let world = World::new();
    world.as_("alice").run(&BROKEN).good();
    let open = world.as_("carol").run(&["review", "--json"]).good().json();
    let id = open[0]["id"].as_str().unwrap();
    assert_eq!(world.as_("alice").run(&["ack", id]).code, 1, "not for oneself");
    let ran = world.as_("carol").run(&["ack", id]).good();
    assert!(ran.stderr.contains("nobody is told again; to end it: ssh-jit revoke"), "{ran:?}");
    assert_eq!(world.as_("dan").run(&["ack", id]).code, 1, "once");
    assert_eq!(world.as_("carol").run(&["review", "--json"]).good().json()[0]["heard"], "carol");
    let none = ["ssh-jit: REQUEST is no break-glass", "hint: ssh-jit review lists them"];
    world.as_("carol").run(&["ack", "0000-0000-00"]).is(1, &[], &none);
    assert_eq!(super::events(&world, "acknowledged"), 1);
}

/// A service whose clock is days behind: nobody is stopped who says that they go on, and the journal says it, too.
#[test]
fn a_clock_that_is_off_stops_nobody_who_says_so() {
    let (bench, home) = (Bench::new(), dir());
    let key = home.path().join("safe");
    Key::of("alice safe").write_private(&key);
    let url = format!("http://{}", bench.address());
    let run = |more: &[&str]| {
        let mut command = ssh_jit();
        command.args(BROKEN).args(["--server", &url, "--user", "alice", "--key"]).arg(&key).args(more);
        crate::support::output(command.env("HOME", home.path()))
    };
    let refused = run(&[]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(30) && said.contains("--clock-off"), "{said}");
    let done = run(&["--clock-off"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let journal = std::fs::read_to_string(bench.journal()).unwrap();
    assert!(journal.contains("clock_off"), "it is on record: {journal}");
}
