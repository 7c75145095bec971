//! The checker: what must hold between the files and what people saw, whatever happened in between. It reads the
//! files only, and names each thing that does not hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use ssh_jit::ca::read_trust;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::event::{Event, EventKind, HEAD_NAMESPACE, Head};
use ssh_jit::domain::journal::{Entry, Outcome, Replay};
use ssh_jit::domain::sshsig::SshSig;
use ssh_jit::domain::tree::{Frontier, leaf_hash};
use ssh_jit::domain::trust::Trust;
use ssh_jit::domain::verify::Signed;

use crate::cast::{Act, Known};

/// Everything that does not hold.
pub(crate) fn check(folder: &Path, known: &Known) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Err(e) = Files::read(folder).map(|files| files.check(known, &mut wrong)) {
        wrong.push(format!("unreadable: {e}"));
    }
    wrong
}

/// What the files say.
struct Files {
    trust: Trust,
    integrity: Vec<String>,
    leaves: Vec<(i64, Vec<u8>)>,
    events: Vec<Event>,
    edge: (i64, Vec<u8>),
    statements: BTreeMap<Digest, Signed>,
    misfiled: usize,
    states: BTreeMap<String, String>,
    certificates: Vec<(i64, Digest)>,
    emergencies: Vec<i64>,
    imported: u64,
    journal: Result<Vec<Entry>, String>,
}

type Rows<T> = Result<Vec<T>, String>;

fn query<T>(database: &Connection, sql: &str, read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Rows<T> {
    let mut statement = database.prepare(sql).map_err(|e| format!("{sql}: {e}"))?;
    let rows = statement.query_map([], read).map_err(|e| format!("{sql}: {e}"))?;
    rows.collect::<Result<_, _>>().map_err(|e| format!("{sql}: {e}"))
}

impl Files {
    fn read(folder: &Path) -> Result<Self, String> {
        let database = Connection::open_with_flags(folder.join("ssh-jit.db"), OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|e| e.to_string())?;
        let signed = read_trust(&folder.join("ca-keys")).map_err(|e| e.to_string())?;
        let trust = Trust::first_contact(&signed).map_err(|e| e.to_string())?;
        let mut integrity = query(&database, "PRAGMA integrity_check", |row| row.get::<_, String>(0))?;
        integrity.retain(|line| line != "ok");
        integrity.extend(query(&database, "PRAGMA foreign_key_check", |row| row.get::<_, String>(0))?);
        let leaves = query(&database, "SELECT seq, leaf FROM events ORDER BY seq", |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let events = leaves
            .iter()
            .map(|(seq, leaf)| serde_json::from_slice(leaf).map_err(|e| format!("event {seq} does not parse: {e}")));
        let events = events.collect::<Result<_, _>>()?;
        let edge = query(&database, "SELECT size, roots FROM log", |row| Ok((row.get(0)?, row.get(1)?)))?;
        let kept = query(&database, "SELECT sha256, bytes, signature FROM statements", |row| {
            Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
        })?;
        let rows = kept.len();
        let signed = kept.into_iter().filter_map(|(digest, bytes, signature)| {
            let signed = Signed::new(bytes, SshSig::from_blob(&signature).ok()?);
            let genuine =
                signed.digest() == Digest::from_bytes(digest) && signed.signature().check(signed.bytes()).is_ok();
            genuine.then(|| (signed.digest(), signed))
        });
        let statements: BTreeMap<_, _> = signed.collect();
        let imported = "SELECT value FROM meta WHERE name LIKE 'journal-imported-%'";
        let imported = query(&database, imported, |row| row.get::<_, String>(0))?;
        Ok(Self {
            journal: journal(&folder.join("break-glass.journal"), &trust),
            trust,
            integrity,
            leaves,
            events,
            edge: edge.into_iter().next().ok_or("the table log is empty")?,
            misfiled: rows - statements.len(),
            statements,
            states: query(&database, "SELECT id, state FROM requests", |row| Ok((row.get(0)?, row.get(1)?)))?
                .into_iter()
                .collect(),
            certificates: query(&database, "SELECT serial, tbs FROM certificates", |row| {
                Ok((row.get(0)?, Digest::of(&row.get::<_, Vec<u8>>(1)?)))
            })?,
            emergencies: query(&database, "SELECT serial FROM emergencies", |row| row.get(0))?,
            imported: imported.first().and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    }

    fn check(&self, known: &Known, wrong: &mut Vec<String>) {
        wrong.extend(self.integrity.iter().map(|line| format!("database: {line}")));
        if self.misfiled > 0 {
            wrong.push(format!("{} statements are not what their key signed", self.misfiled));
        }
        self.the_tree_is_whole(wrong);
        self.heads_are_extended(known, wrong);
        self.acknowledged_is_kept(known, wrong);
        self.certificates_have_their_event(known, wrong);
        self.nothing_twice(wrong);
        self.the_journal_is_imported(wrong);
    }

    fn the_tree_is_whole(&self, wrong: &mut Vec<String>) {
        for (expected, ((seq, _), event)) in (1i64..).zip(self.leaves.iter().zip(&self.events)) {
            if *seq != expected || event.seq != seq.unsigned_abs() {
                wrong.push(format!("tree: event {expected} is missing or out of place"));
                break;
            }
        }
        let tree = self.tree(self.leaves.len());
        let roots: Vec<u8> = tree.roots().iter().flat_map(|root| *root.as_bytes()).collect();
        if self.edge != (tree.size().cast_signed(), roots) {
            wrong.push("tree: the stored edge is not that of the leaves".to_owned());
        }
    }

    fn tree(&self, size: usize) -> Frontier {
        self.leaves.iter().take(size).map(|(_, leaf)| leaf_hash(leaf)).collect()
    }

    /// Every head that anybody saw covers what is there still.
    fn heads_are_extended(&self, known: &Known, wrong: &mut Vec<String>) {
        for text in &known.heads {
            let signed = Signed::try_from(text).ok();
            let signed = signed.filter(|signed| signed.is_by(&self.trust.log_key, HEAD_NAMESPACE).is_ok());
            let Some(head) = signed.and_then(|signed| serde_json::from_slice::<Head>(signed.bytes()).ok()) else {
                wrong.push("head: it is not the log key's".to_owned());
                continue;
            };
            let tree = self.tree(usize::try_from(head.size).unwrap_or(usize::MAX));
            if (tree.size(), tree.root()) != (head.size, head.root) {
                wrong.push(format!("head: the log does not extend the one of {} events that was seen", head.size));
            }
        }
    }

    fn acknowledged_is_kept(&self, known: &Known, wrong: &mut Vec<String>) {
        for sent in known.sent.iter().filter(|sent| sent.acknowledged) {
            let (act, id) = (sent.act, &sent.id);
            if !self.statements.contains_key(&sent.digest) {
                wrong.push(format!("lost: {act:?} of {id} was acknowledged, and its statement is not there"));
            }
            let said = self.events.iter().filter(|event| Some(event.kind) == sent.event);
            let said = said.filter(|event| event.statement == Some(sent.digest)).count();
            if sent.event.is_some() && said != 1 {
                wrong.push(format!("lost: {act:?} of {id} was acknowledged, and has {said} events"));
            }
            // An end stays; what is not one may have been followed by one.
            let must = match act {
                Act::Deny => "denied",
                Act::Withdraw => "withdrawn",
                Act::Return => "returned",
                Act::Revoke => "revoked",
                _ => continue,
            };
            let state = self.states.get(id.as_str()).map_or("not there", String::as_str);
            if state != must {
                wrong.push(format!("lost: {act:?} of {id} was acknowledged, and it is {state}"));
            }
        }
    }

    /// What left the process, and what the tables say of it.
    fn certificates_have_their_event(&self, known: &Known, wrong: &mut Vec<String>) {
        let certified = [EventKind::Claimed, EventKind::BreakGlass];
        let certified: Vec<(i64, Digest)> = self
            .events
            .iter()
            .filter(|event| certified.contains(&event.kind))
            .filter_map(|event| Some((event.serial?.number().cast_signed(), event.tbs?)))
            .collect();
        for line in &known.certificates {
            let Some((serial, signed)) = taken_apart(line) else {
                wrong.push(format!("certificate: {line:?} is none"));
                continue;
            };
            let count = certified.iter().filter(|(number, tbs)| (*number, *tbs) == (serial, signed)).count();
            if count != 1 {
                wrong.push(format!("certificate: {serial} left, and {count} events have its serial and bytes"));
            }
        }
        for row in &self.certificates {
            if !certified.contains(row) {
                wrong.push(format!("certificate: {} is in the table, and no event has it", row.0));
            }
        }
        let claimed = self.events.iter().filter(|event| event.kind == EventKind::Claimed).count();
        if claimed != self.certificates.len() {
            wrong.push(format!("certificate: {} rows for {claimed} events", self.certificates.len()));
        }
    }

    fn nothing_twice(&self, wrong: &mut Vec<String>) {
        let mut serials = BTreeMap::new();
        for serial in self.certificates.iter().map(|(serial, _)| serial).chain(&self.emergencies) {
            *serials.entry(*serial).or_insert(0) += 1;
        }
        let (mut in_log, mut spent) = (BTreeMap::new(), BTreeMap::new());
        for event in &self.events {
            if let Some(serial) = event.serial.filter(|_| event.tbs.is_some()) {
                *in_log.entry(serial.number().cast_signed()).or_insert(0) += 1;
            }
            let once = !matches!(event.kind, EventKind::Refused | EventKind::BreakGlassRefused);
            if let Some(statement) = event.statement.filter(|_| once) {
                *spent.entry((event.kind.to_string(), statement)).or_insert(0) += 1;
            }
        }
        let twice = |counts: BTreeMap<i64, u32>| counts.into_iter().filter(|(_, count)| *count > 1);
        for (serial, count) in twice(serials).chain(twice(in_log)) {
            wrong.push(format!("serial: {serial} was given {count} times"));
        }
        for ((kind, statement), count) in spent.into_iter().filter(|(_, count)| *count > 1) {
            wrong.push(format!("spent: {statement} is named by {count} events of the kind {kind}"));
        }
    }

    fn the_journal_is_imported(&self, wrong: &mut Vec<String>) {
        let entries = match &self.journal {
            Ok(entries) => entries,
            Err(e) => return wrong.push(format!("journal: {e}")),
        };
        let last = entries.last().map_or(0, |entry| entry.seq);
        if self.imported != last {
            wrong.push(format!("journal: it ends at {last}, and the database has it up to {}", self.imported));
        }
        for entry in entries {
            let Outcome::Issued { serial, tbs } = &entry.outcome else { continue };
            let about = (Some(*serial), Some(*tbs));
            let said = self.events.iter().filter(|event| event.kind == EventKind::BreakGlass);
            if said.filter(|event| (event.serial, event.tbs) == about).count() != 1 {
                wrong.push(format!("journal: entry {} has not its one event", entry.seq));
            }
        }
        let issued = entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Issued { .. })).count();
        let said = self.events.iter().filter(|event| event.kind == EventKind::BreakGlass).count();
        if (said, self.emergencies.len()) != (issued, issued) {
            wrong.push(format!("journal: {issued} uses, {said} events, {} rows", self.emergencies.len()));
        }
    }
}

/// Entries of a journal, verified from the first.
fn journal(path: &Path, trust: &Trust) -> Result<Vec<Entry>, String> {
    #[derive(Deserialize)]
    struct Line {
        entry: String,
        signature: String,
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("it ends in a part of a line".to_owned());
    }
    let mut replay = Replay::default();
    let take = |(number, line): (usize, &str)| {
        let line: Line = serde_json::from_str(line).map_err(|e| format!("line {number}: {e}"))?;
        let signature = SshSig::from_armor(&line.signature).map_err(|e| format!("line {number}: {e}"))?;
        let signed = Signed::new(line.entry.into_bytes(), signature);
        replay.take(&signed, &trust.journal_key).map_err(|e| format!("line {number}: {e}"))
    };
    (1..).zip(text.lines()).map(take).collect()
}

/// Serial and digest of the signed bytes of a certificate (PROTOCOL.certkeys).
fn taken_apart(line: &str) -> Option<(i64, Digest)> {
    let blob = STANDARD.decode(line.split(' ').nth(1)?).ok()?;
    let mut at = 0;
    // Type, nonce and key; then the serial, and the kind behind it.
    for _ in 0..3 {
        at = after_string(&blob, at)?;
    }
    let serial = i64::from_be_bytes(blob.get(at..at + 8)?.try_into().ok()?);
    // Key id and principals; two times behind them; options, extensions, reserved and the CA's key.
    at = after_string(&blob, after_string(&blob, at + 12)?)? + 16;
    for _ in 0..4 {
        at = after_string(&blob, at)?;
    }
    Some((serial, Digest::of(blob.get(..at)?)))
}

fn after_string(blob: &[u8], at: usize) -> Option<usize> {
    let length = u32::from_be_bytes(blob.get(at..at + 4)?.try_into().ok()?);
    Some(at + 4 + usize::try_from(length).ok()?)
}

/// How far the database has the journal: the import runs beside.
pub(crate) fn is_imported(folder: &Path) -> bool {
    let entries = fs::read_to_string(folder.join("break-glass.journal")).map_or(0, |text| text.lines().count());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(database) = Connection::open_with_flags(folder.join("ssh-jit.db"), flags) else { return false };
    let sql = "SELECT value FROM meta WHERE name LIKE 'journal-imported-%'";
    let imported = query(&database, sql, |row| row.get::<_, String>(0)).unwrap_or_default();
    imported.first().map_or(0, |text| text.parse().unwrap_or(0)) == entries
}
