//! `ssh-jit run`: access that ends with the command, and a key that never leaves the process.

use std::fs;

use rustix::process::Signal;

use crate::support::openssh::SshAgent;
use crate::support::wait_until;
use crate::support::world::{Host, World, held};

const RUN: [&str; 6] = ["run", "db-prod", "--for", "10m", "--reason", "look at the lag"];

fn command<'a>(what: &'a [&'a str]) -> Vec<&'a str> {
    [&RUN[..], &["--"], what].concat()
}

fn shell(line: &str) -> Vec<&str> {
    [&RUN[..], &["--", "sh", "-c", line]].concat()
}

/// What is left when it is over: nothing here, and nothing active at the service.
#[track_caller]
fn nothing_is_left(world: &World) {
    let alice = world.as_("alice");
    let active = alice.run(&["status", "--json"]).good().json();
    assert_eq!(active, serde_json::json!([]));
    let requests = alice.state().join("requests");
    assert_eq!(fs::read_dir(&requests).map_or(0, Iterator::count), 0, "nothing lies in {}", requests.display());
    assert_eq!(fs::read_dir(world.path("runtime")).expect("a folder").count(), 0, "nor of its agent");
}

fn world() -> World {
    let world = World::new();
    fs::create_dir(world.path("runtime")).expect("a folder");
    world
}

fn ssh(host: &Host) -> String {
    host.ssh("", "db1").join(" ")
}

#[test]
fn ssh_inside_has_access_and_ssh_outside_has_none() {
    let world = world();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent).env("XDG_RUNTIME_DIR", world.path("runtime"));
    let host = world.host("db1", &["db-prod@db1"]);
    let line =
        format!("{} 'echo in; exit 7'; code=$?; ssh-add -L | cut -d ' ' -f 1; ssh-add -D; exit $code", ssh(&host));
    let ran = alice.run(&shell(&line));
    assert_eq!(ran.stdout, "in\nssh-ed25519-cert-v01@openssh.com\n", "{}", host.sshd.log());
    assert_eq!(ran.code, 7, "the command's own exit code: {ran:?}");
    assert!(ran.stderr.contains("ssh-jit: db-prod is given back"), "{ran:?}");
    assert!(ran.stderr.contains("Failed to remove all identities"), "{ran:?}");
    assert_eq!(held(&agent), Vec::<String>::new(), "the person's own agent has nothing of it");
    assert!(!host.admits(Some(&agent), ""));
    assert_eq!(super::events(&world, "returned"), 1);
    nothing_is_left(&world);
}

/// Programs that start ssh by themselves find the certificate like any other key.
#[test]
fn scp_and_rsync_copy() {
    let world = world();
    let alice = world.as_("alice").env("XDG_RUNTIME_DIR", world.path("runtime"));
    let host = world.host("db1", &["db-prod@db1"]);
    fs::write(world.path("source"), "rows").unwrap();
    let (config, from) = (host.ssh("", "db1").swap_remove(2), world.path("source").display().to_string());
    let (over, to) = (format!("ssh -F {config}"), |name| format!("db1:{}", world.path(name).display()));
    for (name, copy) in [
        ("by-scp", &["scp", "-O", "-q", "-F", &config, &from, &to("by-scp")][..]),
        ("by-rsync", &["rsync", "-e", &over, &from, &to("by-rsync")][..]),
    ] {
        alice.run(&command(copy)).good();
        assert_eq!(fs::read_to_string(world.path(name)).unwrap(), "rows", "{name}");
    }
    nothing_is_left(&world);
}

/// Signals reach the command, and when it has ended, access is given back.
#[test]
fn signals_are_passed_on() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let world = world();
        let alice = world.as_("alice").env("XDG_RUNTIME_DIR", world.path("runtime"));
        let ready = world.path("ready").display().to_string();
        let running = alice.spawn(&shell(&format!("touch {ready}; exec sleep 600")));
        wait_until(|| fs::exists(&ready).unwrap(), || "the command does not start".to_owned());
        running.signal(signal);
        let ran = running.end();
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains("ssh-jit: db-prod is given back"), "{ran:?}");
        nothing_is_left(&world);
    }
}

#[test]
fn a_command_that_is_killed_gives_back_too() {
    let world = world();
    let alice = world.as_("alice").env("XDG_RUNTIME_DIR", world.path("runtime"));
    let ran = alice.run(&shell("kill -9 $$"));
    assert_eq!(ran.code, 137, "{ran:?}");
    nothing_is_left(&world);
    let ran = alice.run(&command(&["no-such-program"]));
    assert_eq!(ran.code, 127, "{ran:?}");
    nothing_is_left(&world);
}

/// No is the answer before anything is started; and whoever is interrupted leaves no request behind.
#[test]
fn a_refused_one_starts_nothing() {
    let world = world();
    let alice = world.as_("alice").env("XDG_RUNTIME_DIR", world.path("runtime"));
    let touched = world.path("touched").display().to_string();
    let asking = |role| ["run", role, "--for", "1h", "--reason", "look at the lag", "--", "touch", &touched];
    let mut waits = alice.spawn(&asking("db-prod"));
    waits.wait_for("waiting for carol, dan... (request ");
    let id = world.as_("carol").run(&["requests", "--pending", "--json"]).good().json()[0]["id"].clone();
    world.as_("carol").run(&["deny", id.as_str().unwrap(), "--reason", "not during the freeze"]).good();
    waits.end().is(
        11,
        &[],
        &[
            "ssh-jit: db-prod for 1h: until WHEN, if it begins now",
            "ssh-jit: waiting for carol, dan... (request REQUEST; lapses WHEN)",
            "ssh-jit: carol denied: \"not during the freeze\"",
            "ssh-jit: request REQUEST is denied",
            "hint: the command was not started",
        ],
    );
    assert_eq!(world.as_("carol").run(&["run", "db-prod", "--reason", "mine, too", "--", "true"]).code, 13);

    let mut waits = alice.spawn(&asking("db-prod"));
    waits.wait_for("waiting for carol, dan");
    waits.signal(Signal::INT);
    let ran = waits.end();
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.stderr.contains("is withdrawn"), "{ran:?}");
    assert!(!fs::exists(&touched).unwrap());
    nothing_is_left(&world);
}

/// R35: what runs for long is told before logins stop working. The skew takes five of the eight seconds.
#[test]
fn the_end_is_said_before_it_comes() {
    let world = world();
    let alice = world.as_("alice").env("XDG_RUNTIME_DIR", world.path("runtime"));
    let long = ["run", "db-prod", "--for", "10m8s", "--reason", "look at the lag", "--", "sleep", "6"];
    let ran = alice.run(&long).good();
    let said = |text: &str| ran.stderr.matches(text).count();
    assert_eq!(said("ssh-jit: db-prod ends in 10m; no new login works after that\n"), 1, "{ran:?}");
    assert_eq!(said("ends in"), 1, "{ran:?}");
    let ran = alice.run(&shell("true")).good();
    assert!(!ran.stderr.contains("ends in"), "{ran:?}");
}

/// Where nobody can be told of the return, the exit code is the command's all the same.
#[test]
fn a_service_that_is_gone_changes_no_exit_code() {
    let mut world = world();
    let ready = world.path("ready").display().to_string();
    let runtime = world.path("runtime");
    let line = format!("touch {ready}; while [ -e {ready} ]; do sleep 0.05; done; exit 3");
    let running = world.as_("alice").env("XDG_RUNTIME_DIR", &runtime).spawn(&shell(&line));
    wait_until(|| fs::exists(&ready).unwrap(), || "the command does not start".to_owned());
    world.stop();
    fs::remove_file(&ready).unwrap();
    let ran = running.end();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("but the service could not be told: "), "{ran:?}");
    assert_eq!(fs::read_dir(runtime).unwrap().count(), 0);
}
