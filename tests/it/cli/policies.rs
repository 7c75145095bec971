//! `ssh-jit policy`: files that include others, what is doubtful about them, why a request is decided as it is, and
//! what a new policy would have done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;

use crate::support::world::{Ran, World, ssh_jit};

fn policy(world: &World, args: &[&str]) -> Ran {
    let mut command = ssh_jit();
    command.arg("policy").args(args).current_dir(world.path(""));
    world.run(command)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// The usual policy in three files: people, roles, and one that includes them.
fn split(world: &World) {
    let whole = world.usual_policy();
    let (people, roles) = whole.split_at(whole.find("[duties]").expect("roles"));
    fs::create_dir_all(world.path("ca/policy.d")).expect("a folder");
    set_mode(&world.path("ca/policy.d"), 0o755);
    world.write("ca/policy.toml", "include = [\"policy.d/*.toml\"]\n");
    world.write("ca/policy.d/people.toml", people);
    world.write("ca/policy.d/roles.toml", roles);
}

/// SIGHUP: all files, or none of them; the event names the policy before, too.
#[test]
fn included_files_are_loaded_whole_or_not_at_all() {
    let mut world = World::prepared();
    split(&world);
    world.start();
    let roles = |world: &World| {
        let roles = world.as_("alice").run(&["roles", "--json"]).good().json();
        roles.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(roles(&world), ["db-prod", "quick", "vault"]);
    let good = fs::read_to_string(world.path("ca/policy.d/roles.toml")).unwrap();
    let mut refused = 0;
    let mut refuses = |world: &mut World, name: &str, text: &str, said: &str| {
        world.write(name, text);
        world.server().signal(Signal::HUP);
        refused += 1;
        let server = world.server();
        let count = |text: &str| text.matches("the policy was refused; the running one stays").count();
        crate::support::wait_until(|| count(&server.stderr()) == refused, || "nothing was refused".to_owned());
        let log = world.server().stderr();
        assert!(log.lines().last().unwrap().contains(said), "{said}: {log}");
        assert_eq!(roles(world), ["db-prod", "quick", "vault"], "{said}");
    };
    let (roles_file, first) = ("ca/policy.d/roles.toml", "ca/policy.toml");
    refuses(
        &mut world,
        roles_file,
        &good.replace("max = \"2h\"", "max = \"90\""),
        "policy.d/roles.toml:22: roles.vault.max: ",
    );
    refuses(
        &mut world,
        roles_file,
        &format!("{good}#@file policy.d/x.toml\n"),
        "would pass for the beginning of another file",
    );
    world.write(roles_file, &good.replace("[roles.quick]", "[roles.slow]"));
    refuses(&mut world, first, "include = [\"../ca/policy.d/*.toml\"]\n", "policy.toml:1: include: file to include ");
    refuses(&mut world, first, "include = [\"policy.d/*.toml\", \"more.toml\"]\n", "more.toml: No such file");
    set_mode(&world.path("ca/policy.d"), 0o777);
    refuses(
        &mut world,
        first,
        "include = [\"policy.d/*.toml\"]\n",
        "policy.d: others may use it (mode 777); chmod go-w it",
    );
    set_mode(&world.path("ca/policy.d"), 0o755);
    set_mode(&world.path(roles_file), 0o666);
    refuses(
        &mut world,
        first,
        "include = [\"policy.d/*.toml\"]\n",
        "roles.toml: others may use it (mode 666); chmod go-w it",
    );
    set_mode(&world.path(roles_file), 0o644);
    world.load_policy("include = [\"policy.d/*.toml\"]\n");
    assert_eq!(roles(&world), ["db-prod", "slow", "vault"]);

    let events = world.as_("carol").run(&["audit", "list", "--json"]).good().stdout;
    let leaves = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let leaves = leaves.map(|view| serde_json::from_str::<serde_json::Value>(view["leaf"].as_str().unwrap()).unwrap());
    let loaded: Vec<_> = leaves.filter(|event| event["kind"] == "policy-loaded").collect();
    assert_eq!(loaded.len(), 2, "what was refused was not loaded");
    assert!(loaded[0]["detail"].is_null(), "there was none before");
    assert_eq!(loaded[1]["detail"], loaded[0]["policy"]);
    assert_ne!(loaded[1]["policy"], loaded[0]["policy"]);
}

/// Whoever's files they are: a clone may lie there for a whole group to write.
#[test]
fn check_names_file_and_line() {
    let world = World::prepared();
    split(&world);
    set_mode(&world.path("ca/policy.d"), 0o777);
    let spare = "roles.vault.approvers: for everybody there is nobody to spare: one absence, and nobody approves";
    let found = [
        &format!("ssh-jit: ca/policy.d/roles.toml:20: warning: {spare}"),
        "ssh-jit: ca/policy.d/roles.toml:32: warning: emergency_keys: db-prod has one only; a second should lie elsewhere",
        "ssh-jit: ca/policy.toml: 5 people, 3 roles, 1 emergency keys; SHA256",
    ];
    policy(&world, &["check", "ca/policy.toml"]).is(0, &[], &found);
    policy(&world, &["check", "ca/policy.toml", "--strict"]).is(1, &[], &found);
    let json = policy(&world, &["check", "ca/policy.toml", "--json"]).good().json();
    assert_eq!(json["findings"][0]["code"], "no-spare-approver");
    assert_eq!(json["findings"][0]["file"], "policy.d/roles.toml");
    assert_eq!((&json["findings"][0]["line"], &json["findings"][0]["gravity"]), (&20.into(), &"warning".into()));
    world.write(
        "ca/policy.d/roles2.toml",
        "[roles.alone]\nprincipals = [\"x\"]\nmax = \"1h\"\nrequesters = [\"sre\"]\n",
    );
    let checked = policy(&world, &["check", "ca/policy.toml"]);
    let alone = "ca/policy.d/roles2.toml:1: error: roles.alone.approvers: nobody may approve, so nobody can have it";
    assert!(checked.code == 1 && checked.stderr.contains(alone), "{checked:?}");
}

#[test]
fn explain_tells_each_rule() {
    let world = World::prepared();
    let rules = "[[rules]]\nname = \"freeze\"\neffect = \"deny\"\nroles = [\"db-prod\"]\nwhen = { facts = [\"freeze = on\"] }\n";
    world.write("ca/policy.toml", &format!("{}\n{rules}", world.usual_policy()));
    let explain = |args: &[&str]| policy(&world, &[&["explain"], args, &["--policy", "ca/policy.toml"]].concat());
    explain(&["bob", "db-prod"]).is(
        0,
        &[
            "rules.freeze: does not hold; it denies while freeze = on",
            "roles.db-prod.automatic: does not hold; it approves without asking anybody with --for 15m",
            "roles.db-prod.approvers: asks the approvers",
            "waits for 1 approval, for 1h",
            "  1 of alice, carol, dan",
            "would pass without asking with --for 15m",
        ],
        &[],
    );
    explain(&["bob", "db-prod", "--fact", "freeze = on"]).is(
        0,
        &["rules.freeze: denies", "denied: role: db-prod is denied by the rule freeze"],
        &[],
    );
    explain(&["dan", "db-prod"]).is(0, &["denied: role: dan may not ask for db-prod"], &[]);
    let json = explain(&["bob", "db-prod", "--for", "10m", "--json"]).good().json();
    assert_eq!((&json["outcome"]["decision"], &json["outcome"]["by"]), (&"automatic".into(), &"automatic".into()));
    assert_eq!(json["met"][0]["missing"][0], "while freeze = on");
    let by_config = policy(&world, &["explain", "dan", "db-prod", "--config", "ca/ssh-jit.toml"]);
    assert!(by_config.stdout.starts_with("denied: "), "{by_config:?}");
    assert_eq!(explain(&["bob", "db-prod", "--for", "90"]).code, 2, "no unit");
    assert_eq!(explain(&["bob", "db-prod", "--fact", "freeze"]).code, 2);
}

#[test]
fn cases_fail_with_what_came_instead() {
    let world = World::prepared();
    let case = |expect: &str| {
        format!(
            "policy = \"ca/policy.toml\"\n[[case]]\nname = \"a short one\"\nperson = \"bob\"\nrole = \"db-prod\"\nfor = \"10m\"\nexpect = \"{expect}\"\n"
        )
    };
    world.write("cases.toml", &case("automatic"));
    policy(&world, &["test", "cases.toml"]).is(0, &[], &["ssh-jit: cases.toml: 1 cases, 0 failed"]);
    world.write("cases.toml", &case("denied"));
    policy(&world, &["test", "cases.toml"]).is(
        1,
        &[],
        &[
            "ssh-jit: cases.toml:3: a short one",
            "ssh-jit:   expected denied",
            "ssh-jit:   came     approved for 10m by the rule automatic, without asking",
            "ssh-jit:   roles.db-prod.automatic: approves without asking anybody",
            "ssh-jit: cases.toml: 1 cases, 1 failed",
        ],
    );
    let json = policy(&world, &["test", "cases.toml", "--json"]);
    assert!(json.code == 1 && json.json()["failed"][0]["name"] == "a short one", "{json:?}");
}

#[test]
fn replay_says_what_would_go_otherwise() {
    let world = World::new();
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    carol.run(&["approve", &id]).good();
    alice.run(&["login", &id]).good();
    world.as_("bob").run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good();
    let same = world.usual_policy();
    let replay = |text: &str| {
        world.write("new.toml", text);
        let file = world.path("new.toml").display().to_string();
        carol.run(&["policy", "replay", &file, "--last", "7d", "--json"]).good().json()
    };
    let nothing = replay(&same);
    assert_eq!((&nothing["requests"], nothing["otherwise"].as_array().unwrap().len()), (&2.into(), 0), "{nothing}");
    let strict = replay(&same.replacen("automatic = { max = \"15m\" }", "automatic = { max = \"5m\" }", 1));
    let other = &strict["otherwise"];
    assert_eq!((other.as_array().unwrap().len(), &other[0]["person"]), (1, &"bob".into()), "{strict}");
    assert_eq!(other[0]["old"], "approved for 10m by the rule automatic, without asking");
    assert_eq!(other[0]["new"], "waits for 1 approval, for 10m");
    let others = replay(&same.replacen("approvers = [\"dba\", \"alice\"]", "approvers = [\"dan\", \"bob\"]", 1));
    assert_eq!(others["otherwise"][0]["new"], "waits for 1 approval, for 2h, and not of those who approved");
    let capped = replay(&same.replacen("default = \"1h\"", "default = \"1h\"\ndaily_max = \"1h\"", 1));
    assert!(capped["otherwise"][0]["new"].as_str().unwrap().contains("in 24 hours"), "{capped}");
    let file = world.path("new.toml").display().to_string();
    let forbidden = world.as_("bob").run(&["policy", "replay", &file]);
    assert!(forbidden.code == 1 && forbidden.stderr.contains("this needs the duty"), "{forbidden:?}");
}

/// What would pass is told to those who may ask, and to nobody else.
#[test]
fn denials_help_those_who_may_ask() {
    let mut world = World::new();
    let usual = world.usual_policy();
    let refused = |world: &World, name: &str, more: &[&str], exit: i32, said: &[&str]| {
        let login = [&["login", "db-prod", "--reason", "replica lag", "--for", "30m"], more].concat();
        let echo = "ssh-jit: db-prod for 30m: until WHEN, if it begins now";
        world.as_(name).run(&login).is(exit, &[], &[&[echo], said].concat());
    };
    world.load_policy(&usual.replacen("approvers = [\"dba\", \"alice\"]", "approvers = [\"bob\"]", 1));
    refused(
        &world,
        "bob",
        &[],
        11,
        &["ssh-jit: denied: nobody could approve this for db-prod", "hint: would pass with --for 15m"],
    );
    let stranger = ["ssh-jit: role: dan may not ask for db-prod", "hint: ssh-jit roles lists what you may ask for"];
    refused(&world, "dan", &[], 13, &stranger);
    world.load_policy(&usual.replacen("max = \"4h\"", "max = \"4h\"\nwhen = { ticket = \"INC-[0-9]+\" }", 1));
    refused(
        &world,
        "bob",
        &["--ticket", "REQ-1"],
        11,
        &["ssh-jit: denied: a condition of db-prod does not hold", "hint: it can be had with a ticket like INC-[0-9]+"],
    );
    refused(&world, "dan", &[], 13, &stranger);
    let rule = "[[rules]]\nname = \"freeze\"\neffect = \"deny\"\nbecause = \"nothing changes before the release\"\n";
    world.load_policy(&format!("{usual}\n{rule}"));
    let denied = "ssh-jit: denied: db-prod is denied by the rule freeze: nothing changes before the release";
    refused(&world, "bob", &[], 11, &[denied]);
    refused(&world, "dan", &[], 13, &stranger);
    world.load_policy(&usual.replacen("max = \"4h\"", "max = \"4h\"\ndaily_max = \"20m\"", 1));
    let most = "ssh-jit: denied: one person may have db-prod for 20m in 24 hours";
    refused(&world, "bob", &[], 11, &[most, "hint: 20m is left of it"]);
}

/// Counted from the log: what was asked, given, never claimed and never used; who did not need what they may ask for;
/// and what the policy came to allow.
#[test]
fn the_report_says_what_is_not_needed() {
    let mut world = World::new();
    let usual = world.usual_policy();
    let id = world.as_("alice").ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    world.as_("carol").run(&["approve", &id]).good();
    world.as_("alice").run(&["login", &id]).good();
    world.as_("alice").run(&["done", &id]).good();
    let refused = world.as_("bob").ask(&["db-prod", "--for", "3h", "--reason", "look at the lag"]);
    world.as_("carol").run(&["deny", &refused, "--reason", "not today"]).good();
    world.as_("bob").run(&["login", "db-prod", "--for", "10m", "--reason", "look at the lag"]).good();
    let report = |world: &World| world.as_("carol").run(&["report", "--last", "7d", "--json"]).good().json();
    let first = report(&world);
    let role = &first["roles"]["db-prod"];
    let counts = ["asked", "automatic", "approved", "denied", "undecided", "unclaimed", "claimed", "unused"];
    let counted: Vec<_> = counts.iter().map(|name| role[name].as_u64().unwrap()).collect();
    assert_eq!(counted, [3, 1, 1, 1, 0, 0, 2, 1], "{first}");
    assert!(role["decided_p50"].is_u64() && role["decided_p90"].is_u64() && role["last"].is_string(), "{first}");
    let sleeps = |report: &serde_json::Value, person: &str, role: &str| {
        let eligible = serde_json::json!({ "person": person, "role": role });
        report["dormant"].as_array().unwrap().contains(&eligible)
    };
    assert!(!sleeps(&first, "alice", "db-prod") && !sleeps(&first, "bob", "db-prod"), "{first}");
    assert!(sleeps(&first, "alice", "quick"), "{first}");
    assert_eq!(first["drift"], serde_json::json!({ "gained": [], "lost": [], "hosts": {} }));
    let grown = usual.replacen("hosts = [\"db1\", \"db2\"]", "hosts = [\"db1\", \"db2\", \"db3\"]", 1);
    world.load_policy(&grown.replacen("requesters = [\"sre\"", "requesters = [\"dan\", \"sre\"", 1));
    let later = report(&world);
    assert_eq!(later["drift"]["hosts"], serde_json::json!({ "db-prod": ["db3"] }), "{later}");
    let gained = serde_json::json!([{ "person": "dan", "role": "db-prod" }]);
    assert_eq!(later["drift"]["gained"], gained, "{later}");
    let shown = world.as_("carol").run(&["report", "--last", "7d"]).good().stdout;
    for line in ["dan may ask for db-prod, and could not then", "db-prod opens db3, and did not then"] {
        assert!(shown.contains(line), "{shown}");
    }
    let forbidden = world.as_("bob").run(&["report"]);
    assert!(forbidden.code == 1 && forbidden.stderr.contains("this needs the duty"), "{forbidden:?}");
}
