//! The verbs that only read: `roles`, `status`, `requests`, `show`, `ca show`, `doctor`, `policy check`.

use crate::support::openssh::SshAgent;
use crate::support::world::{World, ssh_jit};

const ASKED: [&str; 7] = ["db-prod", "--for", "2h", "--reason", "replica lag after failover", "--ticket", "INC-412"];

#[test]
fn roles_say_what_one_may_do() {
    let world = World::new();
    world.as_("bob").run(&["roles"]).is(
        0,
        &[
            "ROLE     YOU MAY  MAX (DEFAULT)  HOSTS    APPROVED BY                                    WHAT IT IS",
            "db-prod  ask      4h (1h)        db1,db2  nobody up to 15m, then 1 of alice, carol, dan  PostgreSQL, production",
            "quick    ask      1h (1m)        any      nobody up to 1m, then 1 of carol, dan          Seconds",
            "vault    ask      2h (2h)        any      2 of carol, dan                                The vault",
        ],
        &[],
    );
    // Who asks is not among those who may approve it.
    let alice = world.as_("alice").run(&["roles"]).good().stdout;
    assert!(
        alice.contains("db-prod  ask, decide  4h (1h)        db1,db2  nobody up to 15m, then 1 of carol, dan"),
        "{alice}"
    );
    let json = world.as_("robot").run(&["roles", "--json"]).good().json();
    let names: Vec<&str> = json.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["db-prod"], "nobody sees a role that is none of theirs");
}

#[test]
fn requests_are_seen_by_those_they_concern() {
    let world = World::new();
    let id = world.as_("alice").ask(&ASKED);
    let ran = world.as_("carol").run(&["requests", "--pending"]).good();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("REQUEST       WHO    ROLE     FOR  STATE      ASKED"), "{ran:?}");
    assert!(lines[1].starts_with(&format!("{id}  alice  db-prod  2h   requested  ")), "{ran:?}");
    assert!(lines[1].ends_with("  replica lag after failover"), "{ran:?}");
    world.as_("bob").run(&["requests"]).is(0, &[], &["ssh-jit: there is nothing that you may see"]);
    world.as_("bob").run(&["requests", "--pending"]).is(0, &[], &["ssh-jit: nothing waits for a decision of yours"]);
    assert_eq!(world.as_("bob").run(&["requests", "--json"]).good().stdout, "[]\n");
    let status = world.as_("alice").run(&["status"]).good();
    assert!(status.stdout.lines().nth(1).unwrap().starts_with(&format!("{id}  db-prod  requested  ")), "{status:?}");
}

#[test]
fn show_tells_the_whole_story() {
    let world = World::new();
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let id = alice.ask(&ASKED);
    let waits = alice.run(&["show", &id]).good().stdout;
    assert!(waits.lines().any(|l| l.starts_with("  lapses     ") && l.ends_with(" if nobody decides")), "{waits}");
    carol.run(&["approve", &id, "--for", "30m", "--comment", "enough"]).good();
    alice.run(&["login", &id]).good();
    alice.run(&["show", &id]).is(
        0,
        &[
            "alice asks for db-prod: active",
            "  why        \"replica lag after failover\"",
            "  ticket     INC-412",
            "  for        2h on db1, db2",
            "  from       127.0.0.1",
            "  takes      1 of dba, alice",
            "  may decide carol, dan",
            "  approve by carol for 30m \"enough\"",
            "  WHEN  requested  alice  db-prod  REQUEST",
            "  WHEN  approved  carol  db-prod  REQUEST",
            "  WHEN  claimed  alice  db-prod  REQUEST  serial 281474976710657",
        ],
        &[],
    );
    assert_eq!(carol.run(&["show", &id, "--json"]).good().json()["state"]["name"], "active");
    let none = ["ssh-jit: request: there is none of this id that you may see"];
    world.as_("bob").run(&["show", &id]).is(1, &[], &none);
    world.as_("bob").run(&["show", "0000-0000-00"]).is(1, &[], &none);
    let form = "ssh-jit: request \"7F3K\" is not valid: a request id looks like REQUEST";
    alice.run(&["show", "7F3K"]).is(2, &[], &[form, "hint: ssh-jit status lists your requests"]);
}

/// What a host is given is what the key folder holds.
#[test]
fn ca_show_prints_what_hosts_need() {
    let world = World::new();
    let alice = world.as_("alice");
    let key = |name: &str| {
        let line = std::fs::read_to_string(world.path(&format!("ca/ca-keys/{name}.pub"))).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned()
    };
    let sshd = alice.run(&["ca", "show", "--sshd"]).good().stdout;
    let keys: Vec<&str> = sshd.lines().filter(|line| !line.starts_with('#')).collect();
    let expected =
        [format!("{} ssh-jit-user-ca", key("user-ca")), format!("{} ssh-jit-break-glass-ca", key("break-glass-ca"))];
    assert_eq!(keys, expected);
    let shown = alice.run(&["ca", "show"]).good().stdout;
    for (what, name) in
        [("user CA", "user-ca"), ("break-glass CA", "break-glass-ca"), ("host CA", "host-ca"), ("log", "log")]
    {
        assert!(shown.lines().any(|l| l.starts_with(what) && l.ends_with(&key(name))), "{what}: {shown}");
    }
    assert_eq!(alice.run(&["ca", "show", "--json"]).good().json()["user_ca"][0], key("user-ca"));
    // It needs no name and no key.
    let mut command = ssh_jit();
    command.args(["ca", "show", "--server", &world.url()]).env("HOME", world.path("stranger"));
    assert_eq!(world.run(command).good().stdout, shown);
}

#[test]
fn doctor_says_what_to_do() {
    let mut world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    world.as_("alice").with(&agent).run(&["doctor"]).is(
        0,
        &[
            "ok   service   URL answers, version 0.1.0",
            "ok   trust     instance INSTANCE, trust document 1",
            "ok   clock     within 0 s of the service's",
            "ok   ssh-agent DIR/alice/agent.sock holds 0 keys",
            "ok   identity  ssh-ed25519 SHA256 is at hand",
            "ok   policy    knows alice and this key: 3 roles to ask for, 1 to decide on",
            "!    emergency one emergency key only opens db-prod",
            "               -> register a second one, which lies elsewhere",
        ],
        &[],
    );
    let json = world.as_("alice").with(&agent).run(&["doctor", "--json"]).good().json();
    assert!(json.as_array().unwrap().iter().all(|finding| finding["well"] == true), "{json}");
    world.stop().good();
    let emergency =
        "               -> if this is an emergency: ssh-jit break-glass ROLE --category outage --reason \"...\"";
    let gone = |what: &str| format!("NOT  {what:<9} URL cannot be reached: io: Connection refused (os error 111)");
    world.as_("alice").with(&agent).run(&["doctor"]).is(
        1,
        &[
            &gone("service"),
            emergency,
            &gone("trust"),
            emergency,
            &gone("clock"),
            emergency,
            "ok   ssh-agent DIR/alice/agent.sock holds 0 keys",
            "ok   identity  ssh-ed25519 SHA256 is at hand",
        ],
        &[],
    );
}

#[test]
fn a_policy_is_checked_before_the_service_sees_it() {
    let world = World::prepared();
    let check = |text: &str| {
        world.write("policy", text);
        let mut command = ssh_jit();
        command.args(["policy", "check"]).arg(world.path("policy"));
        world.run(command)
    };
    let good = world.usual_policy();
    check(&good).is(
        0,
        &[],
        &[
            "ssh-jit: DIR/policy:42: warning: roles.vault.approvers: for everybody there is nobody to spare: one absence, and nobody approves",
            "ssh-jit: DIR/policy:54: warning: emergency_keys: db-prod has one only; a second should lie elsewhere",
            "ssh-jit: DIR/policy: 5 people, 3 roles, 1 emergency keys; SHA256",
        ],
    );
    let line = |text: &str| good.lines().position(|line| line == text).expect("a line") + 1;
    let refuses = |from: &str, to: &str, said: &str| {
        assert!(good.contains(from), "{from}");
        let said = format!("ssh-jit: DIR/policy:{}: {said}", line(from));
        check(&good.replacen(from, to, 1)).is(1, &[], &[&said]);
    };
    refuses(
        "approvals = 2",
        "approvals = 0",
        "roles.vault.approvals: from 1 to 100 approvals are possible; for none, use automatic = { max = \"15m\" }",
    );
    refuses(
        "max = \"2h\"",
        "max = \"90\"",
        "roles.vault.max: duration \"90\" is not valid: add a unit, as in 90m, 2h or 1h30m",
    );
    refuses(
        "extensions = [\"permit-pty\"]",
        "extensions = [\"permit-everything\"]",
        "roles.db-prod.extensions: extension \"permit-everything\" is not valid: use permit-pty, permit-port-forwarding, permit-agent-forwarding, permit-X11-forwarding or permit-user-rc; restrictions belong in critical_options",
    );
    refuses(
        "principals = [\"vault\"]",
        "principals = [\"vault@db1\"]",
        "roles.vault.principals: principal \"vault@db1\" is not valid: use 1 to 32 of a-z 0-9 . _ - and begin with a letter or _",
    );
    refuses(
        "auditors = [\"carol\"]",
        "auditors = [\"carl\"]",
        "duties.auditors: carl is neither a person nor a group that somebody is in",
    );
    refuses(
        "auditors = [\"carol\"]",
        "auditers = [\"carol\"]",
        "duties.auditers: unknown field `auditers`, expected one of `admins`, `auditors`, `revokers`, `reviewers`",
    );
    refuses(
        "automatic = { max = \"15m\" }",
        "automatic = { max = \"5h\" }",
        "roles.db-prod.automatic: 5h is more than the role's max, 4h",
    );
    let alice = std::fs::read_to_string(world.key("alice.pub")).unwrap();
    let other = std::fs::read_to_string(world.key("emergency.pub")).unwrap();
    let twice = check(&good.replacen(other.trim(), alice.trim(), 1));
    assert!(twice.code == 1 && twice.stderr.contains("emergency_keys.key: this is an everyday key"), "{twice:?}");
    check("").is(0, &[], &["ssh-jit: DIR/policy: 0 people, 0 roles, 0 emergency keys; SHA256"]);
    let mut missing = ssh_jit();
    missing.args(["policy", "check"]).arg(world.path("nothing"));
    world.run(missing).is(1, &[], &["ssh-jit: DIR/nothing: No such file or directory (os error 2)"]);
}
