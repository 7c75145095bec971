//! The invariants, proved from the files alone after every test.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use serde_json::Value;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::event::{Event, EventKind, Head};
use ssh_jit::domain::sshsig::{Expect, SshSig};
use ssh_jit::domain::tree::{Frontier, leaf_hash};
use ssh_jit::domain::verify::Signed;
use ssh_jit::wire::SignedText;

use super::Bench;

/// What ends a request, once.
const ENDS: [EventKind; 6] = [
    EventKind::Denied,
    EventKind::Withdrawn,
    EventKind::Lapsed,
    EventKind::Returned,
    EventKind::Revoked,
    EventKind::Expired,
];

impl Bench {
    /// Proves what must hold whatever happened.
    pub(crate) fn check(&self) {
        let head = self.http("GET", "/v1/head", None, b"").ok();
        let connection = self.sql();
        sound(&connection);
        // One snapshot: after a break-glass the import may still be running.
        connection.execute_batch("BEGIN").expect("a transaction");
        let events = log_is_whole(&connection);
        self.head_covers(&head.json(), &connection);
        statements_are_signed(&connection, &events);
        one_certificate_for_each_claim(&connection, &events);
        decisions_are_on_record(&connection, &events);
        breaches_are_on_record(&connection, &events);
    }

    /// The signed head is the root of the tree over the leaves that were there.
    fn head_covers(&self, head: &Value, connection: &Connection) {
        let head: SignedText = serde_json::from_value(head.clone()).expect("a head");
        let signed = Signed::try_from(&head).expect("a signature");
        signed.is_by(self.keys().log.public(), "head@ssh-jit").expect("signed by the log key");
        let head: Head = serde_json::from_str(&head.text).expect("a head");
        let sql = format!("SELECT leaf FROM events WHERE seq <= {} ORDER BY seq", head.size);
        let leaves = query(connection, &sql, |row| row.get::<_, Vec<u8>>(0));
        let tree: Frontier = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        assert!(head.size > 0);
        assert_eq!((head.size, head.root), (tree.size(), tree.root()), "the head is the tree's");
    }
}

fn query<T>(connection: &Connection, sql: &str, read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut statement = connection.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let rows = statement.query_map([], read).unwrap_or_else(|e| panic!("{sql}: {e}"));
    rows.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{sql}: {e}"))
}

fn digest(bytes: Vec<u8>) -> Digest {
    Digest::from_bytes(bytes.try_into().expect("32 bytes"))
}

fn sound(connection: &Connection) {
    assert_eq!(query(connection, "PRAGMA integrity_check", |row| row.get::<_, String>(0)), ["ok"]);
    assert_eq!(query(connection, "PRAGMA foreign_key_check", |_| Ok(())), []);
}

/// Numbered from 1 without gaps, and the stored edge is that of the tree.
fn log_is_whole(connection: &Connection) -> Vec<Event> {
    let rows = query(connection, "SELECT seq, leaf, request FROM events ORDER BY seq", |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<String>>(2)?))
    });
    let mut events = Vec::new();
    for (expected, (seq, leaf, request)) in (1..).zip(&rows) {
        let event: Event = serde_json::from_slice(leaf).expect("an event");
        assert_eq!((event.seq.cast_signed(), *seq), (expected, expected), "events are numbered without gaps");
        assert_eq!(event.request.as_ref().map(ToString::to_string), *request, "event {seq} is found by its request");
        events.push(event);
    }
    let tree: Frontier = rows.iter().map(|(_, leaf, _)| leaf_hash(leaf)).collect();
    let edge = query(connection, "SELECT size, roots FROM log", |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)));
    let roots = tree.roots().iter().flat_map(|root| *root.as_bytes()).collect();
    assert_eq!(edge, [(tree.size().cast_signed(), roots)], "the stored edge is the tree's");
    events
}

/// Bytes have the digest they are stored under, their key signed them, and events name no others.
fn statements_are_signed(connection: &Connection, events: &[Event]) {
    let rows = query(connection, "SELECT sha256, kind, bytes, signature FROM statements", |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?, row.get::<_, Vec<u8>>(3)?))
    });
    let mut known = BTreeSet::new();
    for (sha256, kind, bytes, signature) in rows {
        let signature = SshSig::from_blob(&signature).expect("a signature");
        let signed = Signed::new(bytes, signature);
        assert_eq!(signed.digest(), digest(sha256), "a statement stands under its digest");
        let (key, namespace) = (signed.signature().key(), format!("{kind}@ssh-jit"));
        let expect = if signed.signature().is_passkey() {
            Expect::Passkey { origin: "http://localhost:7022" }
        } else {
            Expect::SshKey { verified: false }
        };
        signed.signature().expect(signed.bytes(), &namespace, key, expect).expect("it is for this purpose");
        signed.signature().check(signed.bytes()).expect("its key signed it");
        known.insert(signed.digest());
    }
    let tried = [EventKind::Refused, EventKind::BreakGlassRefused];
    for event in events.iter().filter(|event| !tried.contains(&event.kind)) {
        assert!(event.statement.is_none_or(|named| known.contains(&named)), "event {} names a statement", event.seq);
    }
}

/// A request has a certificate exactly if it was claimed; the event before it names the very bytes.
fn one_certificate_for_each_claim(connection: &Connection, events: &[Event]) {
    let sql = "SELECT r.id, r.state, r.serial, c.serial, c.tbs, c.claim, c.policy, r.ends FROM requests r \
               LEFT JOIN certificates c ON c.request = r.id";
    let rows = query(connection, sql, |row| {
        Ok((
            (row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<i64>>(7)?),
            (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?),
            (row.get::<_, Option<Vec<u8>>>(4)?, row.get::<_, Option<Vec<u8>>>(5)?, row.get::<_, Option<Vec<u8>>>(6)?),
        ))
    });
    let mut seen = BTreeSet::new();
    for ((id, state, ends), (serial, certified), (tbs, claim, policy)) in rows {
        let claimed = match state.as_str() {
            // Before it was claimed, or after.
            "revoked" => serial.is_some(),
            other => ["active", "expired", "returned"].contains(&other),
        };
        let said: Vec<&Event> = of(events, EventKind::Claimed, &id);
        assert_eq!((claimed, serial), (certified.is_some(), certified), "{id} is {state}");
        assert_eq!(said.len(), usize::from(claimed), "{id} was claimed once, if it was");
        let (Some(serial), [said]) = (serial, &said[..]) else { continue };
        assert!(seen.insert(serial), "serial {serial} was given twice");
        assert_eq!(said.serial.map(|serial| serial.number().cast_signed()), Some(serial));
        assert_eq!(said.tbs, tbs.as_deref().map(Digest::of), "{id}: the log names the bytes that were signed");
        assert_eq!((said.statement, said.policy), (claim.map(digest), policy.map(digest)), "{id}");
        assert!(ends.is_some(), "{id} ends");
    }
    let certificates = query(connection, "SELECT count(*) FROM certificates", |row| row.get::<_, i64>(0));
    assert_eq!(certificates, [i64::try_from(seen.len()).expect("a few")], "no certificate without a request");
    for serial in query(connection, "SELECT serial FROM emergencies", |row| row.get::<_, i64>(0)) {
        assert!(seen.insert(serial), "serial {serial} was given twice");
    }
}

fn of<'e>(events: &'e [Event], kind: EventKind, id: &str) -> Vec<&'e Event> {
    let about = |event: &&Event| event.kind == kind && event.request.as_ref().is_some_and(|named| named.as_str() == id);
    events.iter().filter(about).collect()
}

/// Each decision has its event, and each request ended once at most.
fn decisions_are_on_record(connection: &Connection, events: &[Event]) {
    let decisions = query(connection, "SELECT request, decision, statement FROM decisions", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?))
    });
    let said = events.iter().filter(|event| [EventKind::Approved, EventKind::Denied].contains(&event.kind)).count();
    assert_eq!(said, decisions.len(), "a decision is one event");
    for (id, decision, statement) in decisions {
        let kind = if decision == "approve" { EventKind::Approved } else { EventKind::Denied };
        let statement = Some(digest(statement));
        assert_eq!(of(events, kind, &id).iter().filter(|event| event.statement == statement).count(), 1, "{id}");
    }
    let mut ended = BTreeMap::new();
    for event in events.iter().filter(|event| ENDS.contains(&event.kind)) {
        let before = ended.insert(event.request.clone(), event.kind);
        assert_eq!(before, None, "{:?} ended twice", event.request);
    }
}

/// Each use of an emergency key has its event.
fn breaches_are_on_record(connection: &Connection, events: &[Event]) {
    let rows = query(connection, "SELECT id, serial, review IS NOT NULL FROM emergencies", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
    });
    let said = events.iter().filter(|event| event.kind == EventKind::BreakGlass).count();
    assert_eq!(said, rows.len(), "broken glass is one event");
    for (id, serial, reviewed) in rows {
        let said = of(events, EventKind::BreakGlass, &id);
        assert!(matches!(&said[..], [event] if event.serial.map(|s| s.number().cast_signed()) == Some(serial)), "{id}");
        assert_eq!(of(events, EventKind::Reviewed, &id).len(), usize::from(reviewed), "{id}");
    }
}
