//! `drill` and `incident`, on a real sshd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::sinks::Sink;
use crate::support::world::{Host, World};

const CANARY: &str = r#"
[roles.canary]
description = "What is practised on"
hosts = ["canary1"]
principals = ["canary"]
requesters = ["sre"]
approvers = ["dba"]
max = "1h"

[drill]
role = "canary"
host = "canary1"
within = "30s"
"#;

/// A service that has the canary practised on and tells a room, the room, and the canary.
fn practising() -> (World, Sink, Host) {
    let mut world = World::prepared();
    let room = Sink::web();
    let policy =
        world.usual_policy().replace("roles = [\"db-prod\"]\n", "roles = [\"db-prod\", \"canary\"]\n") + CANARY;
    world.write("ca/policy.toml", &policy);
    world.write("ca/room", &format!("http://{}/T0/xyzzy\n", room.address));
    fs::set_permissions(world.path("ca/room"), fs::Permissions::from_mode(0o600)).expect("a mode");
    world.start();
    world.stop();
    let file = fs::read_to_string(world.path("ca/ssh-jit.toml")).expect("the file");
    let channel = "[[notify]]\nname = \"room\"\nkind = \"slack\"\nurl_file = \"room\"\nallow = [\"127.0.0.0/8\"]\n";
    world.write("ca/ssh-jit.toml", &(file + channel));
    world.start();
    let canary = world.host("canary1", &["canary@canary1"]);
    (world, room, canary)
}

/// The ssh_config by which every name leads to this host.
fn config(host: &Host) -> String {
    host.ssh("", "canary1")[2].clone()
}

/// From the command to a shell on a real sshd, with what it took, as evidence.
#[test]
fn a_drill_reaches_a_shell_and_says_how_long_it_took() {
    let (world, room, canary) = practising();
    let (alice, carol) = (world.as_("alice"), world.as_("carol"));
    let doctor = carol.run(&["doctor"]).stdout;
    assert!(
        doctor.contains(
            "NOT  drills    no drill has shown yet that break-glass works; not proven in time: alice SHA256:"
        )
    );
    let ssh = config(&canary);
    let run = ["drill", "run", "--simulate", "approvers-away,db-readonly"];
    let why = ["--reason", "weekly drill of the canary", "--", "-F", &ssh];
    let ran = alice.run(&[&run[..], &why].concat());
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains("DRILL: breaking the glass of canary on canary1; nothing is wrong"), "{ran:#?}");
    assert!(ran.stdout.contains("shell") && ran.stdout.contains("not asked for"), "{ran:#?}");
    let log = canary.sshd.log();
    assert!(log.contains("/alice/canary/DRILL/SHA256:"), "sshd's own log says that it was one: {log}");
    let drills = alice.run(&["drill", "list", "--json"]).good().json();
    let took = |name: &str| {
        let controls = drills[0]["controls"].as_array().expect("controls");
        controls.iter().find(|control| control["name"] == name).expect("a step")["took_ms"].as_u64()
    };
    let shell = took("shell").expect("a shell");
    println!("certificate {:?} ms, shell {shell} ms, first alert {:?} ms", took("certificate"), took("first alert"));
    assert!(shell < 5000, "from the command to a shell in {shell} ms");
    assert_eq!((drills[0]["passed"].as_bool(), took("acknowledgement")), (Some(true), None));
    let texts: Vec<String> = room.arrived().iter().map(|arrived| arrived.json()["text"].to_string()).collect();
    let marked = |text: &&String| text.starts_with("\"DRILL: alice practises on canary on canary1");
    assert!(texts.iter().find(marked).is_some_and(|text| text.contains("nothing is wrong")), "{texts:?}");
    let id = drills[0]["id"].as_str().expect("an id");
    let markdown = carol.run(&["drill", "report", id, "--markdown"]).good().stdout;
    assert!(markdown.starts_with(&format!("# DRILL {id}: passed\n")), "{markdown}");
    assert!(markdown.contains("| shell |") && markdown.contains("BEGIN SSH SIGNATURE"), "{markdown}");
    let doctor = carol.run(&["doctor"]).stdout;
    assert!(doctor.contains("ok   drills    break-glass was last proven "), "{doctor}");
    let listed = carol.run(&["drill", "list"]).good().stdout;
    assert!(listed.contains("passed") && listed.contains("approvers-away,db-readonly"), "{listed}");
    // Its certificate was for the drill alone, and opens nothing else.
    assert!(!Path::new(&alice.state().join(format!("requests/{id}-cert.pub"))).exists());
    assert_eq!(super::events(&world, "drilled"), 1);
    carol.run(&["review"]).is(0, &[], &["ssh-jit: no review is open"]);
}

/// Nobody acknowledges: a drill that asks for it fails, says which step did, and is kept.
#[test]
fn a_drill_that_nobody_hears_fails() {
    let (world, _room, canary) = practising();
    let alice = world.as_("alice");
    let ssh = config(&canary);
    let ran = alice.run(&["drill", "run", "--reason", "nobody hears this one", "--wait", "2s", "--", "-F", &ssh]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("waiting until somebody says that they heard: ssh-jit ack "), "{ran:#?}");
    let failed: Vec<&str> = ran.stdout.lines().filter(|line| line.ends_with("FAILED")).collect();
    assert!(matches!(&failed[..], [one] if one.starts_with("acknowledgement  did not happen")), "{ran:#?}");
    // Without a shell it fails as well: this host lets nobody in.
    let closed = world.host("other", &["canary@other"]);
    let ssh = config(&closed);
    let why = ["--reason", "the canary is closed today", "--simulate", "mail-down", "--", "-F", &ssh];
    let ran = alice.run(&[&["drill", "run"], &why[..]].concat());
    assert_eq!(ran.code, 1, "{ran:#?}");
    let failed: Vec<&str> = ran.stdout.lines().filter(|line| line.ends_with("FAILED")).collect();
    assert!(matches!(&failed[..], [one] if one.starts_with("shell  ")), "{ran:#?}");
    let words = alice.run(&["drill", "run", "--reason", "the service is down as well", "--simulate", "service-down"]);
    words.is(
        1,
        &[],
        &[
            "ssh-jit: service-down: without the service the glass cannot be broken yet",
            "hint: --simulate approvers-away,mail-down,db-readonly",
        ],
    );
}

#[test]
fn a_drill_needs_something_to_practise_on() {
    let world = World::new();
    let ran = world.as_("alice").run(&["drill", "run", "--reason", "there is no canary here"]);
    ran.is(1, &[], &["ssh-jit: the policy has no [drill], so there is nothing to practise on"]);
    world.as_("alice").run(&["drill", "list"]).is(0, &[], &["ssh-jit: there was no drill yet: ssh-jit drill run"]);
}

/// The story for the post-mortem; whatever people wrote stays text.
#[test]
fn an_incident_is_told_as_markdown() {
    let world = World::new();
    let (alice, bob, carol) = (world.as_("alice"), world.as_("bob"), world.as_("carol"));
    let hostile = "](javascript:x) <img src=x> ``` # @all | [a](b) down";
    bob.run(&["login", "db-prod", "--for", "1h", "--reason", "`` <b>look</b> at it", "--no-wait"]);
    let ran = alice.run(&["break-glass", "db-prod", "--category", "outage", "--reason", hostile]).good();
    let id = ran.stderr.split("recorded as ").nth(1).and_then(|rest| rest.split(',').next()).expect("an id").to_owned();
    let told = carol.run(&["incident", &id]).good().stdout;
    assert!(told.starts_with(&format!("# alice broke the glass for db-prod: {id}\n")), "{told}");
    assert!(told.contains(&format!("- reason: ```` {hostile} ````\n")), "{told}");
    assert!(told.contains("bob asked for db-prod") && told.contains("``` `` <b>look</b> at it ```"), "{told}");
    assert!(told.contains("break-glass by alice") && told.contains("- review: open, due "), "{told}");
    assert!(told.contains("- certificate: never used, as hosts say"), "{told}");
    carol.run(&["review", &id, "--outcome", "unnecessary", "--comment", "*asking* would <i>have</i> done"]).good();
    let told = carol.run(&["incident", "--since", "1h"]).good().stdout;
    assert!(
        told.contains("- review: unnecessary by carol ") && told.contains("` *asking* would <i>have</i> done `"),
        "{told}"
    );
    assert!(told.contains("reviewed by carol: ` unnecessary `"), "{told}");
    let json = carol.run(&["incident", &id, "--json"]).good().json();
    assert_eq!(json[0]["emergency"]["reason"], hostile);
    carol.run(&["incident", "--since", "tomorrow"]).is(
        2,
        &[],
        &[
            "ssh-jit: time \"tomorrow\" is not valid: write it as WHEN or 2026-11-22T11:01:58+01:00",
            "hint: --since WHEN, or --since 72h",
        ],
    );
    carol.run(&["incident", "0000-0000-00"]).is(
        1,
        &[],
        &["ssh-jit: request: there is none of this id that you may see"],
    );
}
