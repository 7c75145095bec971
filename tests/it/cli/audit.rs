//! `audit list|verify|export`: the log is whole, and a log that is not is told by the event that is wrong.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use ssh_jit::domain::tree::{Frontier, leaf_hash};

use crate::support::world::{Ran, World};
use crate::support::{output_of, tool};

const AUTOMATIC: [&str; 6] = ["login", "db-prod", "--for", "10m", "--reason", "look at the lag"];

/// A world in which a few things happened, and carol saw the log whole.
fn lived_in() -> World {
    let world = World::new();
    let alice = world.as_("alice");
    alice.run(&AUTOMATIC).good();
    alice.run(&["done"]).good();
    let id = alice.ask(&["db-prod", "--for", "2h", "--reason", "replica lag after failover"]);
    world.as_("carol").run(&["approve", &id, "--for", "1h"]).good();
    alice.run(&["login", &id]).good();
    alice
        .run(&["break-glass", "db-prod", "--category", "outage", "--reason", "primary is down and nobody answers"])
        .good();
    world
}

#[test]
fn what_happened_is_listed() {
    let world = lived_in();
    let listed = world.as_("carol").run(&["audit", "list"]).good().stdout;
    let kinds: Vec<&str> =
        listed.lines().map(|line| line.split("  ").filter(|part| !part.is_empty()).nth(2).unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "journal-begun",
            "service-started",
            "policy-loaded",
            "requested",
            "approved-automatically",
            "claimed",
            "returned",
            "requested",
            "session-opened",
            "approved",
            "claimed",
            "break-glass",
        ]
    );
    let one = world.as_("carol").run(&["audit", "list", "--from", "6", "--limit", "1"]).good().stdout;
    assert_eq!(one, format!("{}\n", listed.lines().nth(5).unwrap()));
    let json = world.as_("carol").run(&["audit", "list", "--from", "6", "--limit", "1", "--json"]).good().json();
    let leaf: serde_json::Value = serde_json::from_str(json["leaf"].as_str().unwrap()).unwrap();
    assert_eq!((&leaf["kind"], &leaf["seq"]), (&"claimed".into(), &6.into()));
    let refused = world.as_("alice").run(&["audit", "list"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "the log is for auditors: {refused:?}");
}

#[test]
fn a_whole_log_verifies() {
    let world = lived_in();
    let carol = world.as_("carol");
    // Two of hers: bearers that approving and listing bought.
    carol.run(&["audit", "verify"]).is(0, &[], &["ssh-jit: the log is whole: 12 events, 9 statements, root SHA256"]);
    let json = carol.run(&["audit", "verify", "--json"]).good().json();
    assert_eq!((&json["events"], &json["statements"]), (&12.into(), &9.into()));
    assert_eq!(json["missing"], serde_json::json!([]));
}

/// Somebody changes the database while the service is down, and carol verifies after it is up again.
fn tampered(seen: bool, tamper: impl FnOnce(&Connection)) -> Ran {
    let mut world = lived_in();
    if seen {
        world.as_("carol").run(&["audit", "verify"]).good();
    }
    world.stop().good();
    let database = Connection::open(world.path("ca/ssh-jit.db")).expect("the database");
    tamper(&database);
    drop(database);
    let mut server = world.spawn(world.serve());
    server.wait_for("listening");
    world.as_("carol").run(&["audit", "verify"])
}

fn leaf(database: &Connection, seq: i64) -> String {
    let sql = "SELECT CAST(leaf AS TEXT) FROM events WHERE seq = ?1";
    database.query_row(sql, [seq], |row| row.get(0)).expect("an event")
}

fn set_leaf(database: &Connection, seq: i64, leaf: &str) {
    database.execute("UPDATE events SET leaf = CAST(?2 AS BLOB) WHERE seq = ?1", (seq, leaf)).expect("an event");
}

#[test]
fn a_changed_event_is_found() {
    let ran = tampered(false, |database| {
        let changed = leaf(database, 10).replace("\"person\":\"carol\"", "\"person\":\"dan\"");
        set_leaf(database, 10, &changed);
    });
    ran.is(1, &[], &["ssh-jit: the log is damaged: event 10: its statement is somebody else's than the event says"]);
    // Where no statement stands beside, the tree says that something is wrong, and cannot say where.
    let ran = tampered(false, |database| {
        let changed = leaf(database, 2).replace("\"detail\":\"0", "\"detail\":\"1");
        set_leaf(database, 2, &changed);
    });
    let said = "ssh-jit: the log is damaged: its 14 events do not lead to the root that its head names";
    ran.is(1, &[], &[said]);
}

#[test]
fn swapped_events_are_found() {
    let ran = tampered(false, |database| {
        let (third, fourth) = (leaf(database, 3), leaf(database, 4));
        set_leaf(database, 3, &fourth);
        set_leaf(database, 4, &third);
    });
    ran.is(1, &[], &["ssh-jit: the log is damaged: event 3 calls itself 4"]);
}

#[test]
fn a_missing_end_is_found() {
    let ran = tampered(false, |database| {
        database.execute("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)", []).expect("an event");
    });
    ran.is(1, &[], &["ssh-jit: the log is damaged: event 12 calls itself 13"]);
}

/// Whoever has the whole database can make a log that is whole. Who saw the old one knows.
#[test]
fn a_log_that_was_cut_and_mended_is_found() {
    let ran = tampered(true, |database| {
        database.execute("DELETE FROM events WHERE seq > 6", []).expect("events");
        mend(database, 6);
    });
    ran.is(1, &[], &["ssh-jit: the log is damaged: it had 12 events when it was last seen here, and has 8 now"]);
    let ran = tampered(true, |database| {
        let changed = leaf(database, 2).replace("\"detail\":\"0", "\"detail\":\"1");
        set_leaf(database, 2, &changed);
        mend(database, 12);
    });
    let said = "ssh-jit: the log is damaged: its first 12 events are not those that were seen here before";
    ran.is(1, &[], &[said]);
}

/// Makes the tree anew over so many events.
fn mend(database: &Connection, size: i64) {
    let edge: Frontier = (1..=size).map(|seq| leaf_hash(leaf(database, seq).as_bytes())).collect();
    let roots: Vec<u8> = edge.roots().iter().flat_map(|root| root.as_bytes().to_vec()).collect();
    database.execute("UPDATE log SET size = ?1, roots = ?2", (size, roots)).expect("the edge");
}

/// A statement may be erased, because somebody's text must go: the log still verifies, and says so. One that was
/// changed is one that is not there.
#[test]
fn a_missing_statement_is_told() {
    let ran = tampered(false, |database| {
        let sql = "UPDATE statements SET bytes = CAST(replace(CAST(bytes AS TEXT), 'replica lag', 'replica jag') AS BLOB) \
                   WHERE kind = 'request'";
        database.execute(sql, []).expect("a statement");
    });
    ran.is(
        0,
        &[],
        &[
            "ssh-jit: event 8: its statement is not there: erased, or taken away",
            "ssh-jit: the log is whole: 14 events, 8 statements, root SHA256",
        ],
    );
}

/// Stock OpenSSH checks what was exported, and refuses one changed byte.
#[test]
fn what_is_exported_stands_by_itself() {
    let world = lived_in();
    let folder = world.path("export");
    let shown = folder.display().to_string();
    world.as_("carol").run(&["audit", "export", &shown]).is(
        0,
        &[],
        &[
            "ssh-jit: wrote 9 statements to DIR/export",
            "ssh-jit: allowed_signers lists the keys that signed them: compare it with the policy before you believe it",
            "ssh-jit: check one: ssh-keygen -Y verify -f allowed_signers -I PERSON -n KIND@ssh-jit -s FILE.sig < FILE.json",
        ],
    );
    let mut kinds = Vec::new();
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, kind)) = name.strip_suffix(".json").and_then(|stem| stem.split_once('-')) else { continue };
        let bytes = fs::read(entry.path()).unwrap();
        let statement: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let person = statement["person"].as_str().unwrap();
        assert!(accepts(&entry.path(), person, kind, &bytes), "{name}");
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(!accepts(&entry.path(), person, kind, &changed), "{name}");
        assert!(!accepts(&entry.path(), "bob", kind, &bytes), "{name}");
        let other = if kind == "request" { "claim" } else { "request" };
        assert!(!accepts(&entry.path(), person, other, &bytes), "{name}");
        kinds.push(kind.to_owned());
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["approval", "break-glass", "claim", "request", "return", "session"]);
}

fn accepts(file: &Path, person: &str, kind: &str, bytes: &[u8]) -> bool {
    let mut command = tool("ssh-keygen");
    command.args(["-Y", "verify", "-I", person, "-n", &format!("{kind}@ssh-jit"), "-f"]);
    command.arg(file.with_file_name("allowed_signers")).arg("-s").arg(file.with_extension("sig"));
    output_of(&mut command, bytes).status.success()
}
