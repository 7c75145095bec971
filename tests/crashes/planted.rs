//! The checker shown to see: each thing that it is there to find is planted into a copy, and must be named.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use ssh_jit::domain::tree::{Frontier, leaf_hash};

use crate::cast::{Act, Known};
use crate::check::check;
use crate::flows::{Template, flows, lived};

/// Plants each. Gives how many there were, and what was not named.
pub(crate) fn planted(folder: &Path) -> (usize, Vec<String>) {
    let (cast, all) = flows(folder);
    let base = &all[0].template;
    let claimed = lived(&cast, base, &folder.join("p-claimed"), &[Act::Ask, Act::Approve, Act::Claim, Act::BreakGlass]);
    let whole = lived(&cast, &claimed, &folder.join("p-whole"), &[Act::Ask, Act::Deny]);
    let mut missed = Vec::new();
    missed.extend(check(&whole.folder, &whole.known).into_iter().map(|wrong| format!("nothing was planted: {wrong}")));
    let mut count = 0;
    let mut plant = |what: &str, named: &str, from: &Template, known: &Known, damage: &dyn Fn(&Path)| {
        count += 1;
        let copy = from.copied(&folder.join(format!("planted-{count}")));
        damage(&copy.folder);
        let found = check(&copy.folder, known);
        if !found.iter().any(|wrong| wrong.starts_with(named)) {
            missed.push(format!("{what}: {named:?} was to be named, and found was {found:?}"));
        }
    };
    let known = &whole.known;
    let sql = |sql: &'static str| move |folder: &Path| execute(folder, sql);
    for (what, named, damage) in [
        ("the last event is gone", "tree", "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)"),
        ("an event in the middle is gone", "tree", "DELETE FROM events WHERE seq = 5"),
        (
            "an event says something else",
            "head",
            "UPDATE events SET leaf = CAST(replace(leaf, 'alice', 'bobby') AS BLOB)",
        ),
        ("the edge is another tree's", "tree", "UPDATE log SET roots = zeroblob(length(roots))"),
        ("a serial twice", "serial", "UPDATE emergencies SET serial = (SELECT max(serial) FROM certificates)"),
        ("a denial undone", "lost: Deny", "UPDATE requests SET state = 'requested' WHERE state = 'denied'"),
        ("a request gone", "lost: Deny", "DELETE FROM requests WHERE state = 'denied'"),
        ("a statement gone", "lost: Approve", "DELETE FROM statements WHERE bytes LIKE '%\"approve\"%'"),
        ("other bytes were signed", "1 statements", "UPDATE statements SET bytes = x'00' WHERE kind = 'claim'"),
        ("another certificate was planned", "certificate", "UPDATE certificates SET tbs = x'00'"),
        ("a certificate nobody planned", "certificate", "DELETE FROM certificates"),
        ("the import is behind", "journal", "UPDATE meta SET value = '0' WHERE name LIKE 'journal-imported-%'"),
        ("a use of an emergency key gone", "journal", "DELETE FROM emergencies"),
    ] {
        plant(what, named, &whole, known, &sql(damage));
    }
    plant("everything of before the denial", "lost: Deny", &claimed, known, &|_| ());
    plant("everything of before the denial", "head", &claimed, known, &|_| ());
    // The tree is made to fit, as by somebody who knows how.
    let twice = |folder: &Path| {
        let (last, leaf) = leaf(folder, "\"kind\":\"requested\"");
        let again = leaf.replacen(&format!("\"seq\":{last}"), &format!("\"seq\":{}", size(folder) + 1), 1);
        append(folder, &again);
    };
    plant("a statement spent twice", "spent", &whole, known, &twice);
    for kind in ["claimed", "break-glass"] {
        let named = if kind == "claimed" { "certificate" } else { "journal" };
        let without = |folder: &Path| {
            let (seq, leaf) = leaf(folder, &format!("\"kind\":\"{kind}\""));
            let other = format!("{{\"v\":1,\"seq\":{seq},\"at\":{},\"kind\":\"policy-loaded\"}}", at(&leaf));
            replace(folder, seq, &other);
        };
        plant("a certificate without its event", named, &whole, known, &without);
        plant("a certificate without its event", "certificate", &whole, known, &without);
    }
    let mut more = known.clone();
    more.certificates.push(another(&known.certificates[0]));
    plant("a certificate that nobody logged left", "certificate", &whole, &more, &|_| ());
    let journal = |change: fn(String) -> String| {
        move |folder: &Path| {
            let path = folder.join("break-glass.journal");
            fs::write(&path, change(fs::read_to_string(&path).expect("a journal"))).expect("a journal");
        }
    };
    plant("the journal is empty", "journal", &whole, known, &journal(|_| String::new()));
    plant(
        "a word of the journal changed",
        "journal",
        &whole,
        known,
        &journal(|text| text.replace("primary", "replica")),
    );
    plant("the journal ends in a line", "journal", &whole, known, &journal(|text| text + "{\"entry\":"));
    plant("an entry twice", "journal", &whole, known, &journal(|text| text.clone() + &text));
    (count, missed)
}

fn open(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("ssh-jit.db")).expect("the database");
    database.pragma_update(None, "foreign_keys", false).expect("rows may go");
    database
}

fn execute(folder: &Path, sql: &str) {
    let changed = open(folder).execute(sql, []).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert!(changed > 0, "nothing was planted: {sql}");
}

/// The last leaf in which a text stands, with its number.
fn leaf(folder: &Path, text: &str) -> (i64, String) {
    let sql =
        "SELECT seq, CAST(leaf AS TEXT) FROM events WHERE instr(CAST(leaf AS TEXT), ?1) ORDER BY seq DESC LIMIT 1";
    open(folder).query_row(sql, [text], |row| Ok((row.get(0)?, row.get(1)?))).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn at(leaf: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(leaf).expect("an event");
    event["at"].to_string()
}

fn size(folder: &Path) -> i64 {
    open(folder).query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).expect("events")
}

fn append(folder: &Path, leaf: &str) {
    let sql = "INSERT INTO events (seq, leaf) VALUES (?1, ?2)";
    open(folder).execute(sql, (size(folder) + 1, leaf.as_bytes())).expect("an event");
    fit(folder);
}

fn replace(folder: &Path, seq: i64, leaf: &str) {
    let sql = "UPDATE events SET leaf = ?2 WHERE seq = ?1";
    assert_eq!(open(folder).execute(sql, (seq, leaf.as_bytes())), Ok(1));
    fit(folder);
}

/// Writes the edge of the tree that the leaves have now.
fn fit(folder: &Path) {
    let database = open(folder);
    let mut leaves = database.prepare("SELECT leaf FROM events ORDER BY seq").expect("events");
    let leaves = leaves.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("events");
    let tree: Frontier = leaves.map(|leaf| leaf_hash(&leaf.expect("a leaf"))).collect();
    let roots: Vec<u8> = tree.roots().iter().flat_map(|root| *root.as_bytes()).collect();
    let edge = "UPDATE log SET size = ?1, roots = ?2";
    assert_eq!(database.execute(edge, (tree.size().cast_signed(), roots)), Ok(1));
}

/// A certificate with another nonce.
fn another(line: &str) -> String {
    let (kind, blob) = line.split_once(' ').expect("a certificate");
    let mut blob = STANDARD.decode(blob.split(' ').next().expect("base64")).expect("base64");
    // Behind the type's length and name, and the nonce's length.
    blob[4 + kind.len() + 4] ^= 1;
    format!("{kind} {}", STANDARD.encode(blob))
}
