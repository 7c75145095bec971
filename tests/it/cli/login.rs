//! `ssh-jit login`: asking, waiting, and what becomes of it.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::openssh::SshAgent;
use crate::support::world::{World, held, inspected};

const AUTOMATIC: [&str; 6] = ["login", "db-prod", "--for", "10m", "--reason", "look at the lag"];
const ASKED: [&str; 5] = ["db-prod", "--for", "2h", "--reason", "replica lag after failover"];

/// One command, and plain ssh works.
#[test]
fn nobody_is_asked_for_a_short_one() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    alice.run(&AUTOMATIC).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 10m: until WHEN, if it begins now",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: plain ssh works for LENGTH; ssh-jit done gives it back",
        ],
    );
    let held = held(&agent);
    assert_eq!(held.len(), 1, "the certificate, and not the bare key beside it: {held:?}");
    let certificate = inspected(&held[0]);
    for line in ["db-prod@db1", "db-prod@db2", "Critical Options: (none)", "permit-pty", "Serial: 281474976710657"] {
        assert!(certificate.lines().any(|found| found.trim() == line), "{line}: {certificate}");
    }
    let host = world.host("db1", &["db-prod@db1", "db-prod"]);
    assert!(host.admits(Some(&agent), ""), "{}", host.sshd.log());
    assert!(host.sshd.log().contains("ID \"ssh-jit/"), "{}", host.sshd.log());

    // Again while it lives: nothing is asked for, and nothing more lies in the agent.
    let again = ["ssh-jit: you have db-prod until WHEN; ssh-jit done gives it back"];
    alice.run(&AUTOMATIC).is(0, &[], &again);
    assert_eq!(super::events(&world, "requested"), 1);
}

#[test]
fn json_says_what_was_certified() {
    let world = World::new();
    let alice = world.as_("alice");
    let args = [&AUTOMATIC[..], &["--json"]].concat();
    let json = alice.run(&args).good().json();
    let mut names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected =
        ["certificate", "in_agent", "principals", "request", "role", "serial", "valid_after", "valid_before"];
    assert_eq!(names, expected);
    assert_eq!(json["principals"], serde_json::json!(["db-prod@db1", "db-prod@db2"]));
    assert_eq!((&json["serial"], &json["in_agent"]), (&"281474976710657".into(), &false.into()));
    let line = std::fs::read_to_string(json["certificate"].as_str().unwrap()).unwrap();
    assert!(inspected(line.trim()).contains("ssh-jit/"), "{line}");
}

/// The window is to the second what was asked for, and the client hears of the decision at once.
#[test]
fn a_longer_one_waits_for_a_decision() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let carol = world.as_("carol");
    let mut login = world.as_("alice").with(&agent).spawn(&[&["login"], &ASKED[..], &["--ticket", "INC-412"]].concat());
    login.wait_for("waiting (");
    let listed = carol.run(&["requests", "--pending", "--json"]).good().json();
    let id = listed[0]["id"].as_str().unwrap();
    carol.run(&["approve", id, "--for", "30m", "--comment", "enough for the slot rebuild"]).is(
        0,
        &[],
        &[
            "ssh-jit: alice asks for db-prod (REQUEST): \"replica lag after failover\"",
            "ssh-jit:   ticket      INC-412",
            "ssh-jit: you approve:",
            "ssh-jit:   principals  db-prod@db1 db-prod@db2",
            "ssh-jit:   for         30m, from when it is claimed",
            "ssh-jit:   claimed by  WHEN",
            "ssh-jit:   key         SHA256",
            "ssh-jit:   permits     permit-pty",
            "ssh-jit:   restricts   none",
            "ssh-jit:   policy      SHA256",
            "ssh-jit: REQUEST is approved",
        ],
    );
    let approved = Instant::now();
    login.end().is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 2h: until WHEN, if it begins now",
            "ssh-jit: asked for db-prod as alice: request REQUEST",
            "ssh-jit: 1 of 2 must approve: carol, dan; lapses WHEN",
            "ssh-jit: waiting (Ctrl-C keeps the request; ssh-jit login REQUEST resumes)",
            "ssh-jit: carol approved 30m (asked 2h): \"enough for the slot rebuild\"",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: plain ssh works for LENGTH; ssh-jit done gives it back",
        ],
    );
    let waited = approved.elapsed();
    eprintln!("measured: from approve's return to login's end {waited:?}");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    let held = held(&agent);
    assert_eq!(held.len(), 1, "{held:?}");
    let (from, to) = super::window(&held[0]);
    assert_eq!(to - from, 1800);
}

#[test]
fn nobody_has_to_wait() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    let asked = [
        "ssh-jit: asked for db-prod as alice: request REQUEST",
        "ssh-jit: 1 of 2 must approve: carol, dan; lapses WHEN",
    ];
    let ran = alice.run(&[&["login"], &ASKED[..], &["--no-wait"]].concat());
    let echo = "ssh-jit: db-prod for 2h: until WHEN, if it begins now";
    let id = ran.is(10, &["REQUEST"], &[&[echo], &asked[..]].concat()).stdout.trim().to_owned();
    assert_eq!(held(&agent).len(), 1, "the subject key waits in the agent");
    // As typed, in lower case and without the dashes.
    let typed = id.to_lowercase().replace('-', "");
    alice.run(&["login", &typed, "--no-wait"]).is(10, &["REQUEST"], &asked);
    let json = alice.run(&["login", &id, "--no-wait", "--json"]).json();
    assert_eq!(json, serde_json::json!({ "request": id, "state": "requested" }));

    world.as_("dan").run(&["approve", &id]).good();
    alice.run(&["login", &id]).is(
        0,
        &[],
        &[
            "ssh-jit: dan approved 2h",
            "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
    // An agent that holds the bare key cannot be given its certificate by somebody who does not have the key.
    let held = held(&agent);
    assert_eq!(held.len(), 1, "{held:?}");
    let host = world.host("db1", &["db-prod@db1"]);
    assert!(host.admits(Some(&agent), &super::include(&alice)), "{}", host.sshd.log());
    alice.run(&["login", &id]).is(0, &[], &["ssh-jit: REQUEST: the certificate is here until WHEN"]);
    world.as_("bob").run(&["login", &id]).is(
        1,
        &[],
        &["ssh-jit: REQUEST was not asked for from here", "hint: ssh-jit status lists your requests"],
    );
}

/// Ctrl-C ends the command, and nothing else: another one goes on from there.
#[test]
fn an_interrupt_keeps_the_request() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    let mut login = alice.spawn(&[&["login"], &ASKED[..]].concat());
    login.wait_for("waiting (");
    login.signal(Signal::INT);
    assert_eq!(login.end().code, -1, "ended by the signal, as a shell expects it");
    let mine = alice.run(&["status", "--json"]).good().json();
    let id = mine[0]["id"].as_str().unwrap();
    let mut resumed = alice.spawn(&["login", id]);
    resumed.wait_for("waiting (");
    world.as_("carol").run(&["approve", id]).good();
    resumed.end().good();
    assert!(world.host("db1", &["db-prod@db1"]).admits(Some(&agent), &super::include(&alice)));
}

#[test]
fn two_must_approve_the_vault() {
    let world = World::new();
    let mut login = world.as_("alice").spawn(&["login", "vault", "--reason", "rotate the root token"]);
    login.wait_for("waiting (");
    let pending = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json();
    let id = pending[0]["id"].as_str().unwrap();
    let first = world.as_("carol").run(&["approve", id, "--for", "1h"]).good();
    assert!(first.stderr.ends_with(&format!("{id}: noted; 1 approved so far, and more are needed\n")), "{first:?}");
    let second = world.as_("dan").run(&["approve", id, "--for", "30m"]).good();
    assert!(second.stderr.ends_with(&format!("{id} is approved\n")), "{second:?}");
    login.end().is(
        0,
        &[],
        &[
            "ssh-jit: asked for vault as alice: request REQUEST",
            "ssh-jit: 2 of 2 must approve: carol, dan; lapses WHEN",
            "ssh-jit: waiting (Ctrl-C keeps the request; ssh-jit login REQUEST resumes)",
            "ssh-jit: carol approved 1h (asked 2h)",
            "ssh-jit: dan approved 30m (asked 2h)",
            "ssh-jit: vault until WHEN: vault",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
}

/// Whose word is missing is said list by list.
#[test]
fn lists_that_must_agree_are_named() {
    let mut world = World::new();
    let agree = "agree = [{ of = [\"dba\"], approvals = 1 }, { of = [\"sre\"], approvals = 1 }]";
    let policy = world.usual_policy().replace("approvers = [\"dba\"]\napprovals = 2", agree);
    assert!(policy.contains(agree));
    world.load_policy(&policy);
    let alice = world.as_("alice");
    let asked = alice.run(&["login", "vault", "--reason", "rotate the root token", "--no-wait"]);
    let told = "ssh-jit: 1 of dba and 1 of sre must approve: bob, carol, dan; lapses ";
    assert!(asked.stderr.contains(told), "{asked:?}");
    let mut runs = alice.spawn(&["run", "vault", "--reason", "rotate the root token", "--", "true"]);
    runs.wait_for("waiting for bob, carol, dan... (1 of dba and 1 of sre; request ");
    runs.signal(Signal::INT);
    runs.end();
}

#[test]
fn a_denial_says_why() {
    let world = World::new();
    let mut login = world.as_("alice").spawn(&[&["login"], &ASKED[..]].concat());
    login.wait_for("waiting (");
    let pending = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json();
    let id = pending[0]["id"].as_str().unwrap();
    let denied = world.as_("carol").run(&["deny", id, "--reason", "use the replica"]).good();
    assert!(denied.stderr.ends_with(&format!("{id} is denied\n")), "{denied:?}");
    login.end().is(
        11,
        &[],
        &[
            "ssh-jit: db-prod for 2h: until WHEN, if it begins now",
            "ssh-jit: asked for db-prod as alice: request REQUEST",
            "ssh-jit: 1 of 2 must approve: carol, dan; lapses WHEN",
            "ssh-jit: waiting (Ctrl-C keeps the request; ssh-jit login REQUEST resumes)",
            "ssh-jit: carol denied: \"use the replica\"",
            "ssh-jit: request REQUEST is denied",
            "hint: ssh-jit login db-prod --reason \"replica lag after failover\"",
        ],
    );
    let left: Vec<_> = std::fs::read_dir(world.as_("alice").state().join("requests")).unwrap().collect();
    assert!(left.is_empty(), "its key is gone: {left:?}");
}

/// Time ends what nobody decides, and what nobody claims.
#[test]
fn what_lapsed_is_over() {
    let world = World::new();
    let alice = world.as_("alice");
    let hint = "hint: ssh-jit login db-prod --reason \"replica lag after failover\"";
    let undecided = alice.ask(&ASKED);
    let unclaimed = alice.ask(&ASKED);
    world.as_("carol").run(&["approve", &unclaimed]).good();
    // A minute is the shortest that a policy can say, so the time is taken back instead.
    let database = rusqlite::Connection::open(world.path("ca/ssh-jit.db")).unwrap();
    let sql =
        "UPDATE requests SET created = created - 100000, decide_by = decide_by - 100000, claim_by = claim_by - 100000";
    database.execute(sql, []).unwrap();
    alice.run(&["login", &undecided]).is(12, &[], &["ssh-jit: request REQUEST is lapsed", hint]);
    let approved = "ssh-jit: carol approved 2h";
    alice.run(&["login", &unclaimed]).is(12, &[], &[approved, "ssh-jit: request REQUEST is lapsed", hint]);
}

#[test]
fn only_the_hosts_that_were_asked_for() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    alice.run(&[&AUTOMATIC[..], &["--host", "db1"]].concat()).is(
        0,
        &[],
        &[
            "ssh-jit: db-prod for 10m: until WHEN, if it begins now",
            "ssh-jit: db-prod until WHEN: db-prod@db1",
            "ssh-jit: plain ssh works for LENGTH; ssh-jit done gives it back",
        ],
    );
    assert!(world.host("db1", &["db-prod@db1", "db-prod"]).admits(Some(&agent), ""));
    let other = world.host("db2", &["db-prod@db2", "db-prod"]);
    assert!(!other.admits(Some(&agent), ""));
    assert!(other.sshd.log().contains("Certificate does not contain an authorized principal"), "{}", other.sshd.log());
}

/// An approver gives one of two hosts, and the other does not let the requester in.
#[test]
fn only_the_hosts_that_were_approved() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    let id = alice.ask(&ASKED);
    world.as_("carol").run(&["approve", &id, "--host", "db2"]).good();
    alice.run(&["login", &id]).is(
        0,
        &[],
        &[
            "ssh-jit: carol approved 2h",
            "ssh-jit: db-prod until WHEN: db-prod@db2",
            "ssh-jit: ssh finds it through DIR/alice/.config/ssh-jit/ssh_config",
        ],
    );
    let include = super::include(&alice);
    assert!(!world.host("db1", &["db-prod@db1"]).admits(Some(&agent), &include));
    assert!(world.host("db2", &["db-prod@db2"]).admits(Some(&agent), &include));
}

/// What the policy does not allow costs nobody's attention.
#[test]
fn refused_at_once() {
    let world = World::new();
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let reason = ["--reason", "replica lag"];
    let login = |more: &[&'static str]| [&["login"], more, &reason[..]].concat();
    let hint = "hint: ssh-jit roles lists what you may ask for";
    let eligible = |role| format!("ssh-jit: role: carol may not ask for {role}");
    carol.run(&login(&["db-prod"])).is(13, &[], &[&eligible("db-prod"), hint]);
    carol.run(&login(&["nosuch"])).is(13, &[], &[&eligible("nosuch"), hint]);
    let echo = "ssh-jit: db-prod for 5h: until WHEN, if it begins now";
    let longest = [echo, "ssh-jit: denied: 5h asked, and db-prod allows 4h at most", "hint: try --for 4h"];
    alice.run(&login(&["db-prod", "--for", "5h"])).is(1, &[], &longest);
    alice.run(&login(&["db-prod", "--host", "db3"])).is(1, &[], &["ssh-jit: hosts: db-prod does not cover db3"]);
    alice.run(&login(&["db-prod", "--host", "db1", "--host", "db1"])).is(
        1,
        &[],
        &["ssh-jit: hosts: something stands there twice"],
    );
    let hint = "hint: the policy must list this key at your name; see --identity and --user";
    let person = "ssh-jit: person: the signing key does not belong to bob";
    alice.run(&login(&["db-prod", "--user", "bob"])).is(1, &[], &[person, hint]);
    let key = world.key("other").display().to_string();
    alice.run(&[&["--identity", &key], &login(&["db-prod"])[..]].concat()).is(
        1,
        &[],
        &["ssh-jit: key: no person in the policy has this key for this purpose", hint],
    );
    alice.run(&login(&["db-prod", "--user", "mallory"])).is(
        13,
        &[],
        &["ssh-jit: person: the policy does not know mallory"],
    );
    let emergency = world.key("emergency").display().to_string();
    alice.run(&[&["--identity", &emergency], &login(&["db-prod"])[..]].concat()).is(
        1,
        &[],
        &["ssh-jit: key: no person in the policy has this key for this purpose", hint],
    );
    assert_eq!(super::events(&world, "requested"), 0);
}

#[test]
fn misuse_is_told_before_anything_is_sent() {
    let world = World::new();
    let alice = world.as_("alice");
    let hint = "For more information, try '--help'.";
    let wrong = |args: &[&str], said: &str| {
        let ran = alice.run(&[&["login", "db-prod"], args].concat());
        ran.is(2, &[], &[&format!("error: {said}"), "", hint]);
    };
    let length =
        "invalid value '90' for '--for <DURATION>': duration \"90\" is not valid: add a unit, as in 90m, 2h or 1h30m";
    wrong(&["--reason", "replica lag", "--for", "90"], length);
    let value = |text: &str, shown: &str, rule: &str| {
        wrong(
            &["--reason", text],
            &format!("invalid value '{text}' for '--reason <TEXT>': reason \"{shown}\" is not valid: {rule}"),
        );
    };
    value("lag", "lag", "write 4 to 1000 characters");
    value(" lag ", " lag ", "leave no space at its ends");
    value("", "", "write 4 to 1000 characters");
    for (text, shown) in
        [("two\nlines", "two\\nlines"), ("esc\u{1b}[2Jape", "esc\\u{1b}[2Jape"), ("bi\u{202e}di", "bi\\u{202e}di")]
    {
        let ran = alice.run(&["login", "db-prod", "--reason", text]);
        let rule = "use one line without control, bidirectional or invisible characters";
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains(&format!("reason \"{shown}\" is not valid: {rule}")), "{ran:?}");
        assert!(
            ran.stderr.contains(&format!("invalid value '{shown}'")) && !ran.stderr.contains(text),
            "what could drive a terminal is not repeated: {ran:?}"
        );
    }
    alice.run(&["login", "db-prod"]).is(
        2,
        &[],
        &["ssh-jit: a reason is needed: whoever decides reads it", "hint: ssh-jit login db-prod --reason \"...\""],
    );
    let name = "ssh-jit: role \"DB prod\" is not valid: use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _";
    alice.run(&["login", "DB prod", "--reason", "replica lag"]).is(2, &[], &[name]);
    assert_eq!(super::events(&world, "requested") + super::events(&world, "refused"), 0);
}

#[test]
fn without_a_service_the_way_in_is_shown() {
    let mut world = World::new();
    let _home = world.as_("alice").home();
    world.stop().good();
    let alice = world.as_("alice");
    let hint = "hint: if this is an emergency: ssh-jit break-glass ROLE --category outage --reason \"...\"";
    let ran = alice.run(&AUTOMATIC);
    ran.is(20, &[], &["ssh-jit: URL cannot be reached: io: Connection refused (os error 111)", hint]);
    let json = alice.run(&[&AUTOMATIC[..], &["--json"]].concat());
    assert_eq!((json.code, &json.json()["error"]["code"]), (20, &"unreachable".into()));
}
