//! `ssh-jit extend`: more time, without a moment in which nothing works.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::openssh::SshAgent;
use crate::support::world::{World, held};

const FIRST: [&str; 6] = ["login", "db-prod", "--for", "10m", "--reason", "look at the lag"];

/// R35: `ssh host true` in a loop never fails while its access is extended.
#[test]
fn a_running_loop_does_not_notice() {
    let world = World::new();
    let agent = SshAgent::start(world.as_("alice").home());
    let alice = world.as_("alice").with(&agent);
    alice.run(&FIRST).good();
    let before = held(&agent);
    let host = world.host("db1", &["db-prod@db1"]);
    let ssh = host.ssh("", "db1");
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let mut command = Command::new(&ssh[0]);
                        command.args(&ssh[1..]).arg("true").env("SSH_AUTH_SOCK", agent.socket());
                        let output = command.output().expect("ssh");
                        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                        rounds.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let begun = rounds.load(Ordering::SeqCst);
            let ran = alice.run(&["extend", "--for", "15m"]);
            ran.is(
                0,
                &[],
                &[
                    "ssh-jit: db-prod for 15m: until WHEN, if it begins now",
                    "ssh-jit: db-prod until WHEN: db-prod@db1 db-prod@db2",
                    "ssh-jit: plain ssh works for LENGTH; ssh-jit done gives it back",
                ],
            );
            crate::support::wait_until(
                || {
                    rounds.load(Ordering::SeqCst) > begun + 2
                        || loops.iter().any(std::thread::ScopedJoinHandle::is_finished)
                },
                || "the loop stands still".to_owned(),
            );
        }
        stop.store(true, Ordering::SeqCst);
    });
    eprintln!("measured: {} logins during two extensions, none refused", rounds.load(Ordering::SeqCst));
    let after = held(&agent);
    assert_eq!(after.len(), 1, "the old one is gone: {after:?}");
    assert_ne!(before, after);
}

/// An extension is a decision of its own, and approvers see what it goes on from.
#[test]
fn approvers_see_what_is_extended() {
    let world = World::new();
    let alice = world.as_("alice");
    let first = alice.run(&[&FIRST[..], &["--json"]].concat()).good().json();
    let id = first["request"].as_str().unwrap();
    let asked = alice.run(&["extend", id, "--for", "1h", "--no-wait"]);
    assert_eq!(asked.code, 10, "{asked:?}");
    let extension = asked.stdout.trim();
    let shown = world.as_("carol").run(&["show", extension]).good().stdout;
    assert!(shown.contains("why        \"extension: look at the lag\""), "{shown}");
    assert!(shown.contains(&format!("extends    {id}, active since ")), "{shown}");
    assert!(shown.contains("; in all 1h"), "{shown}");
    let approved = world.as_("carol").run(&["approve", extension]).good().stderr;
    assert!(approved.contains(&format!("extends     {id}, active since ")), "{approved}");
    alice.run(&["login", extension]).good();
    let shown = alice.run(&["show", id]).good().stdout;
    assert!(shown.contains(&format!("  extended by {extension}\n")), "{shown}");
    assert!(world.host("db1", &["db-prod@db1"]).admits(None, &super::include(&alice)));
    let status = alice.run(&["done"]).good();
    assert!(status.stderr.contains("db-prod is given back"), "only the new one is left here: {status:?}");
}

#[test]
fn only_what_is_here_is_extended() {
    let world = World::new();
    let alice = world.as_("alice");
    alice.run(&["extend"]).is(1, &[], &["ssh-jit: nothing is active from here", "hint: ssh-jit status"]);
    let waiting = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    let none = "ssh-jit: REQUEST gives no access that could be extended";
    alice.run(&["extend", &waiting]).is(1, &[], &[none]);
}

/// The hosts that were approved are those that are extended, and the old reason may be said anew.
#[test]
fn no_more_hosts_than_before() {
    let world = World::new();
    let alice = world.as_("alice");
    alice.run(&[&FIRST[..], &["--host", "db2"]].concat()).good();
    let json = alice.run(&["extend", "--for", "5m", "--reason", "the lag is back", "--json"]).good().json();
    assert_eq!(json["principals"], serde_json::json!(["db-prod@db2"]));
    let id = json["request"].as_str().unwrap();
    assert!(alice.run(&["show", id]).good().stdout.contains("why        \"the lag is back\""));
}
