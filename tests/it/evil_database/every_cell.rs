//! Every cell of every table, as the schema names them: whatever somebody writes there, takes away, adds, exchanges or
//! puts back, no certificate leaves the service that was not asked for and approved; and `ssh-jit audit verify` says so
//! where the log shows it. What it cannot show, and what erasing revives, stands in README.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::statement::Kind;
use ssh_key::Certificate;

use super::mending::{events_mended, rehashed};
use crate::support::pager::{Pager, is, over};
use crate::support::service::{Answer, Asked, Bench, Key, policy, with};
use crate::support::world::ssh_jit;
use crate::web::{Browser, carol};

const PAGER: Pager = Pager("pager");

/// The sample policy, and a role that nobody is asked for while the pager says so.
fn policy_of_story() -> String {
    let more = format!(
        "\n[sources.pager]\nkey = \"{}\"\nfacts = [\"oncall:*\", \"incident:*\"]\n\n[roles.paged]\nprincipals = \
         [\"paged\"]\nrequesters = [\"sre\"]\napprovers = [\"dba\"]\nmax = \"1h\"\nautomatic = {{ max = \"1h\", when = \
         {{ facts = [\"oncall:primary = {{person}}\", \"incident:{{ticket}} = open\"] }} }}\n",
        PAGER.public()
    );
    policy() + &more
}

/// What a request may lead to, whatever the database says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum May {
    /// It is approved.
    Claim,
    /// Too few approved it, or somebody denied it before enough did.
    Never,
    /// It was approved, and ended since: README.md, "erasure can revive what it ended".
    Revive,
}

/// Everything that a certificate may hold.
struct Known {
    name: &'static str,
    asked: Asked,
    may: May,
    seconds: u64,
}

/// A service that has seen a bit of everything, and what its database held then and before.
struct Story {
    bench: Bench,
    known: Vec<Known>,
    home: tempfile::TempDir,
    earlier: Vec<Vec<u8>>,
    last: Vec<u8>,
}

/// What somebody does to the database.
#[derive(Debug, Clone)]
enum Act {
    Write {
        table: String,
        column: String,
        row: i64,
        change: Change,
    },
    Delete {
        table: String,
        row: i64,
    },
    /// A row like this one, that differs where it must.
    Add {
        table: String,
        row: i64,
        variant: usize,
    },
    Exchange {
        table: String,
        column: String,
        rows: (i64, i64),
    },
    /// An earlier state of the whole database.
    Restore(usize),
    /// Another word in a leaf, and every hash recomputed that stands in the database.
    MendLog {
        row: i64,
    },
    /// Another word in a statement, and every digest and hash recomputed that stands in the database.
    MendStatement {
        row: i64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Null,
    Number(i64),
    Bit(usize),
    Others,
    Empty,
    Long,
}

const CHANGES: [Change; 11] = [
    Change::Null,
    Change::Number(0),
    Change::Number(-1),
    Change::Number(i64::MAX),
    Change::Number(9_999_999_999),
    Change::Bit(0),
    Change::Bit(1),
    Change::Bit(2),
    Change::Others,
    Change::Empty,
    Change::Long,
];

/// What is found by the log alone: changes of these.
const SEEN: [(&str, &[&str]); 3] = [
    ("events", &["seq", "leaf"]),
    ("statements", &["sha256", "bytes", "signature"]),
    ("log", &["one", "size", "roots"]),
];

#[derive(Debug, Default)]
struct Count {
    cases: usize,
    impossible: usize,
    unstarted: usize,
    certificates: usize,
    revived: usize,
    seen: usize,
}

impl Story {
    fn new() -> Self {
        let mut bench = Bench::unstarted();
        bench.start(&policy_of_story()).expect("a service that starts");
        bench.tamper();
        bench.be_now();
        let mut story =
            Self { bench, known: Vec::new(), home: crate::support::dir(), earlier: Vec::new(), last: Vec::new() };
        story.told();
        story.hear();
        story.last = story.snapshot();
        story.loosen();
        story
    }

    fn ask(&mut self, name: &'static str, may: May, (person, role, seconds): (&str, &str, u64)) -> usize {
        self.earlier.push(self.snapshot());
        let asked = self.bench.ask(person, role, &json!({"seconds": seconds}));
        self.known.push(Known { name, asked, may, seconds });
        self.known.len() - 1
    }

    fn approve(&mut self, by: &str, one: usize) {
        self.bench.approve(by, &self.known[one].asked).ok();
        self.earlier.push(self.snapshot());
    }

    fn told(&mut self) {
        let (web, vault) = (("alice", "web", 3600), ("alice", "vault", 3600));
        let twin = self.ask("twin", May::Claim, web);
        self.approve("carol", twin);
        let approved = self.ask("approved", May::Claim, web);
        let less = json!({"seconds": 1800});
        self.known[approved].seconds = 1800;
        self.bench.decide("carol", &self.known[approved].asked, &less).ok();
        let both = self.ask("approved by both", May::Claim, vault);
        self.approve("carol", both);
        self.approve("dan", both);
        self.ask("automatic", May::Claim, ("bob", "db-prod", 600));
        self.ask("waiting", May::Never, web);
        let half = self.ask("half", May::Never, vault);
        self.approve("carol", half);
        let denied = self.ask("denied", May::Never, web);
        self.bench.deny("dan", &self.known[denied].asked).ok();
        let undone = self.ask("half, then denied", May::Never, ("bob", "vault", 3600));
        self.approve("carol", undone);
        self.bench.deny("dan", &self.known[undone].asked).ok();
        let withdrawn = self.ask("withdrawn", May::Revive, ("bob", "web", 3600));
        self.approve("dan", withdrawn);
        self.bench.withdraw(&self.known[withdrawn].asked).ok();
        let claimed = self.ask("claimed", May::Claim, ("bob", "web", 3600));
        self.approve("dan", claimed);
        self.bench.claim(&self.known[claimed].asked).ok();
        let returned = self.ask("returned", May::Revive, ("bob", "web", 3600));
        self.approve("carol", returned);
        let serial = self.bench.claim(&self.known[returned].asked).ok().json()["serial"].clone();
        self.bench.give_back(&self.known[returned].asked, &serial).ok();
        let browsed = self.ask("approved with a passkey", May::Claim, ("bob", "web", 3600));
        self.with_passkey(browsed);
        self.alarmed();
        self.break_glass();
    }

    /// Two incidents open and bob is not on call; one of them is closed again.
    fn alarmed(&mut self) {
        let day = 86_400;
        let open = |bench: &Bench, incident: &str| is(bench, &format!("incident:{incident}"), "open", day);
        let bench = &self.bench;
        let facts = json!([is(bench, "oncall:primary", "alice", day), open(bench, "INC-7"), open(bench, "INC-8")]);
        PAGER.states(bench, &facts).ok();
        PAGER.states(bench, &json!([is(bench, "oncall:second", "erin", day)])).ok();
        for (name, may, person, ticket) in [
            ("on call", May::Claim, "alice", "INC-7"),
            ("not on call", May::Never, "bob", "INC-7"),
            ("no incident", May::Never, "alice", "INC-9"),
            ("closed incident", May::Revive, "alice", "INC-8"),
        ] {
            let asked = self.bench.ask(person, "paged", &json!({"seconds": 600, "ticket": ticket}));
            self.known.push(Known { name, asked, may, seconds: 600 });
        }
        self.bench.advance(1);
        PAGER.states(&self.bench, &json!([over("incident:INC-8")])).ok();
    }

    fn with_passkey(&mut self, one: usize) {
        let browser: Browser = carol(&self.bench);
        let text = browser.draft(&self.bench, &self.known[one].asked.id, "approve");
        let body = browser.signs(Kind::Approval, &text);
        browser.calls(&self.bench, "/web/decisions", &body).ok();
    }

    fn break_glass(&self) {
        let used = self.bench.breaking("alice", "db-prod");
        self.bench.break_glass(&used).ok();
        self.bench.run(self.bench.service().import_journal()).expect("an import");
        let digest = Digest::of(used.to_string().as_bytes());
        let fields = json!({"break_glass": digest, "id": used["id"], "outcome": "drill", "comment": "INC-412"});
        let review = with(self.bench.draft(Kind::Review, "dan"), &fields);
        self.bench.send(Kind::Review, &Key::of("dan"), &review).ok();
    }

    /// Olga, an auditor, sees the log whole.
    fn hear(&self) {
        Key::of("olga").write_private(&self.home.path().join("olga"));
        let key = self.home.path().join("olga").display().to_string();
        let (code, said) = self.olga(&["setup", "--user", "olga", "--identity", &key]);
        assert_eq!(code, 0, "{said}");
        let (code, said) = self.olga(&["audit", "verify"]);
        assert!(code == 0 && said.contains("the log is whole"), "{said}");
        // The state is named after the service's address, which changes with every start.
        fs::rename(self.state(), self.home.path().join("seen")).expect("a folder");
    }

    fn state(&self) -> PathBuf {
        let name = self.bench.address().to_string().replace(':', "_");
        self.home.path().join(".local/state/ssh-jit").join(name)
    }

    fn olga(&self, args: &[&str]) -> (i32, String) {
        let server = format!("http://{}", self.bench.address());
        let mut command = ssh_jit();
        command.args(args).args(["--server", &server]).env("HOME", self.home.path());
        let output = crate::support::output(&mut command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), said)
    }

    /// What she says who saw the log when the story ended.
    fn audit(&self) -> (i32, String) {
        let state = self.state();
        let _ = fs::remove_dir_all(&state);
        copy(&self.home.path().join("seen"), &state);
        self.olga(&["audit", "verify"])
    }

    fn database(&self) -> PathBuf {
        self.bench.folder().join("ssh-jit.db")
    }

    fn snapshot(&self) -> Vec<u8> {
        let path = self.bench.folder().join("snapshot.db");
        self.bench.sql().execute("VACUUM INTO ?1", [path.to_str().expect("UTF-8")]).expect("a snapshot");
        let bytes = fs::read(&path).expect("a snapshot");
        fs::remove_file(&path).expect("a snapshot");
        bytes
    }

    /// Nobody has to keep to NOT NULL who can write the schema.
    fn loosen(&mut self) {
        self.bench.stop();
        self.put_back(&self.last);
        let connection = Connection::open(self.database()).expect("the database");
        let sql = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(replace(replace(sql, \
                   'IS NOT NULL', 'IS NOT~NULL'), ' NOT NULL', ''), 'IS NOT~NULL', 'IS NOT NULL') WHERE type = 'table'; \
                   PRAGMA writable_schema = RESET";
        connection.execute_batch(sql).expect("a schema");
        drop(connection);
        self.last = fs::read(self.database()).expect("the database");
    }

    fn put_back(&self, bytes: &[u8]) {
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(self.database().with_extension(format!("db{suffix}")));
        }
        fs::write(self.database(), bytes).expect("the database");
    }

    fn open(&self) -> Connection {
        let connection = Connection::open(self.database()).expect("the database");
        connection.busy_timeout(std::time::Duration::from_secs(5)).expect("a time");
        connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").expect("pragmas");
        connection
    }

    /// All that can be done to the rows of the story, but to the twin's.
    fn acts(&self) -> Vec<Act> {
        self.put_back(&self.last);
        let connection = self.open();
        let (mut acts, twins) = (Vec::new(), twins(&connection, &self.known[0].asked.id));
        for (table, columns) in schema(&connection) {
            let theirs = |row: &i64| !twins.contains(&(table.clone(), *row));
            let rows: Vec<i64> = rows(&connection, &table).into_iter().filter(theirs).collect();
            for &row in &rows {
                for (column, change) in columns.iter().flat_map(|column| CHANGES.map(|change| (column, change))) {
                    acts.push(Act::Write { table: table.clone(), column: column.clone(), row, change });
                }
                acts.push(Act::Delete { table: table.clone(), row });
                acts.extend((0..3).map(|variant| Act::Add { table: table.clone(), row, variant }));
                match table.as_str() {
                    "events" => acts.push(Act::MendLog { row }),
                    "statements" => acts.push(Act::MendStatement { row }),
                    _ => {}
                }
            }
            for (column, pair) in columns.iter().flat_map(|column| rows.windows(2).map(move |pair| (column, pair))) {
                acts.push(Act::Exchange { table: table.clone(), column: column.clone(), rows: (pair[0], pair[1]) });
            }
        }
        acts.extend((0..self.earlier.len()).map(Act::Restore));
        acts
    }

    /// Does it, while the service is down or while it runs, and has everybody claim.
    fn judge(&mut self, act: &Act, live: bool, audited: bool, count: &mut Count) {
        self.bench.stop();
        self.bench.be_now();
        self.put_back(&self.last);
        if let Act::Restore(number) = act {
            self.put_back(&self.earlier[*number]);
        } else if !live && !act.done(&self.open()) {
            count.impossible += 1;
            return;
        }
        count.cases += 1;
        if self.bench.start(&policy_of_story()).is_err() {
            count.unstarted += 1;
            count.seen += 1;
            return;
        }
        if live && !act.done(&self.open()) {
            count.impossible += 1;
            count.cases -= 1;
            return;
        }
        for known in &self.known {
            let first = self.bench.claim(&known.asked);
            let again = self.bench.claim(&known.asked);
            let before = self.certified(known, act, &first, count);
            let after = self.certified(known, act, &again, count);
            assert!(before.is_none() || after.is_none() || before == after, "{act:?}: {} has two", known.name);
        }
        self.others_get_nothing(act);
        if act.spares_the_twin() {
            assert_eq!(self.bench.claim(&self.known[0].asked).status, 200, "{act:?}: the twin is harmed");
        }
        if audited {
            let (code, said) = self.audit();
            let told = code != 0 || said.contains("its statement is not there");
            assert_eq!(told, act.is_seen(live) || told && act.may_be_seen(), "{act:?}, live: {live}: {code}: {said}");
            count.seen += usize::from(told);
        }
    }

    /// Holds a certificate against what was asked for and approved.
    fn certified(&self, known: &Known, act: &Act, answer: &Answer, count: &mut Count) -> Option<String> {
        if answer.status >= 400 {
            return None;
        }
        let line = answer.json()["certificate"].as_str().expect("a certificate").to_owned();
        let (name, asked) = (known.name, &known.asked);
        assert!(known.may != May::Never, "{act:?}: {name} got a certificate");
        let certificate = Certificate::from_openssh(&line).expect("a certificate");
        let keys = self.bench.keys();
        assert_eq!(certificate.signature_key(), keys.user_ca.public().data(), "{act:?}: {name}");
        assert_eq!(certificate.public_key(), asked.subject.public().data(), "{act:?}: {name}");
        assert!(certificate.key_id().starts_with(&format!("ssh-jit/{}/{}/{}/", asked.id, asked.person, asked.role)));
        let seconds = certificate.valid_before() - certificate.valid_after();
        let principals = Value::from(certificate.valid_principals().to_vec());
        assert_eq!((seconds, &principals), (known.seconds, &asked.terms["principals"]), "{act:?}: {name}");
        let (critical, extensions) = (certificate.critical_options().iter(), certificate.extensions().keys());
        let critical: serde_json::Map<_, _> = critical.map(|(k, v)| (k.clone(), v.clone().into())).collect();
        assert_eq!(Value::from(critical), asked.terms["critical_options"], "{act:?}: {name}");
        let extensions: Value = extensions.cloned().collect::<Vec<_>>().into();
        assert_eq!(extensions, asked.terms["extensions"], "{act:?}: {name}");
        count.certificates += 1;
        count.revived += usize::from(known.may == May::Revive);
        Some(line)
    }

    /// A claim by another key, of whatever the database says by now, brings nothing.
    fn others_get_nothing(&self, act: &Act) {
        for key in [&self.known[0].asked.subject, &Key::of("mallory"), &Key::of("alice")] {
            let claim = with(self.bench.claiming(&self.known[1].asked), &json!({"key": key.fingerprint()}));
            let answer = self.bench.send(Kind::Claim, key, &claim);
            assert!(answer.status >= 400, "{act:?}: {answer:?}");
        }
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file");
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
    }
}

fn schema(connection: &Connection) -> Vec<(String, Vec<String>)> {
    let strings = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect("SQL");
        let found = statement.query_map([], |row| row.get(0)).expect("rows");
        found.map(|one| one.expect("text")).collect()
    };
    let tables =
        strings("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name");
    let columns = |table: &String| strings(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"));
    tables.into_iter().map(|table| (table.clone(), columns(&table))).collect()
}

fn rows(connection: &Connection, table: &str) -> Vec<i64> {
    let mut statement = connection.prepare(&format!("SELECT rowid FROM {table} ORDER BY rowid")).expect("SQL");
    let found = statement.query_map([], |row| row.get(0)).expect("rows");
    found.map(|row| row.expect("a number")).collect()
}

fn row_of(connection: &Connection, table: &str, row: i64) -> Vec<Cell> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table} WHERE rowid = ?1")).expect("SQL");
    let count = statement.column_count();
    statement.query_row([row], |row| (0..count).map(|i| row.get(i)).collect()).expect("a row")
}

fn bytes_of(cell: &Cell) -> Vec<u8> {
    match cell {
        Cell::Text(text) => text.clone().into_bytes(),
        Cell::Blob(bytes) => bytes.clone(),
        _ => Vec::new(),
    }
}

/// The rows that speak of the twin.
fn twins(connection: &Connection, id: &str) -> BTreeSet<(String, i64)> {
    let digests = |table: &str, column: &str| -> Vec<Vec<u8>> {
        let mut statement =
            connection.prepare(&format!("SELECT statement FROM {table} WHERE {column} = ?1")).expect("SQL");
        let found = statement.query_map([id], |row| row.get(0)).expect("rows");
        found.map(|one| one.expect("a digest")).collect()
    };
    let digests = [digests("requests", "id"), digests("decisions", "request")].concat();
    let mut found = BTreeSet::new();
    for (table, _) in schema(connection) {
        for row in rows(connection, &table) {
            let cells = row_of(connection, &table, row);
            let speaks =
                |bytes: &Vec<u8>| bytes.windows(id.len()).any(|part| part == id.as_bytes()) || digests.contains(bytes);
            if cells.iter().map(bytes_of).any(|bytes| speaks(&bytes)) {
                found.insert((table.clone(), row));
            }
        }
    }
    found
}

impl Change {
    fn of(self, cell: &Cell, others: Option<Cell>) -> Option<Cell> {
        let like = |bytes: Vec<u8>| match cell {
            Cell::Text(_) => Cell::Text(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Cell::Blob(bytes),
        };
        let bytes = bytes_of(cell);
        match (self, cell) {
            (Self::Null, _) => Some(Cell::Null),
            (Self::Number(number), _) => Some(Cell::Integer(number)),
            (Self::Bit(place), Cell::Integer(number)) => Some(Cell::Integer(number ^ (1 << (20 * place)))),
            (Self::Bit(place), Cell::Text(_) | Cell::Blob(_)) if !bytes.is_empty() => {
                let (mut bytes, at) = (bytes.clone(), place * (bytes.len() - 1) / 2);
                bytes[at] ^= 1;
                Some(like(bytes))
            }
            (Self::Bit(_), _) => None,
            (Self::Others, _) => others,
            (Self::Empty, _) => Some(like(Vec::new())),
            (Self::Long, _) => Some(like(vec![b'7'; 10_000])),
        }
    }
}

impl Act {
    fn table(&self) -> &str {
        match self {
            Self::Write { table, .. }
            | Self::Delete { table, .. }
            | Self::Add { table, .. }
            | Self::Exchange { table, .. } => table,
            Self::Restore(_) => "",
            Self::MendLog { .. } => "events",
            Self::MendStatement { .. } => "statements",
        }
    }

    /// Whether it changes something: SQLite's own uniqueness keeps some of it out.
    fn done(&self, connection: &Connection) -> bool {
        match self {
            Self::Write { table, column, row, change } => write(connection, (table, column, *row), *change),
            Self::Delete { table, row } => {
                connection.execute(&format!("DELETE FROM {table} WHERE rowid = ?1"), [row]).expect("deleted") == 1
            }
            Self::Add { table, row, variant } => add(connection, table, *row, *variant),
            Self::Exchange { table, column, rows } => exchange(connection, table, column, *rows),
            Self::Restore(_) => true,
            Self::MendLog { row } => events_mended(connection, *row),
            Self::MendStatement { row } => rehashed(connection, *row),
        }
    }

    /// Whether nothing that it changes is anybody else's.
    fn spares_the_twin(&self) -> bool {
        let shared = ["", "events", "log", "meta", "migrations", "policies"];
        // A serial at the end of its range leaves none for anybody, and one that is free again only by one row is
        // nobody's.
        let serials = matches!(self, Self::Write { column, .. } if column == "serial")
            || matches!(self, Self::Delete { table, .. } if table == "certificates");
        !shared.contains(&self.table()) && !serials && !matches!(self, Self::MendStatement { .. })
    }

    /// Whether the log must show it. A service that runs writes the log's edge anew.
    fn is_seen(&self, live: bool) -> bool {
        let named = |table: &String, column: &String| {
            SEEN.iter().any(|(seen, columns)| seen == table && columns.contains(&column.as_str()))
        };
        match self {
            Self::Write { table, column, .. } | Self::Exchange { table, column, .. } => {
                named(table, column) && !(live && table == "log")
            }
            Self::Delete { table, .. } => ["events", "statements"].contains(&table.as_str()) || table == "log" && !live,
            Self::Add { .. } => false,
            Self::Restore(_) | Self::MendLog { .. } | Self::MendStatement { .. } => true,
        }
    }

    /// Whether the audit may end early for another cause: the auditor's own session, or a service that refuses all.
    fn may_be_seen(&self) -> bool {
        ["sessions", "log", "events", "policies", "meta", "migrations"].contains(&self.table())
    }
}

fn write(connection: &Connection, (table, column, row): (&str, &str, i64), change: Change) -> bool {
    let sql = format!("SELECT {column} FROM {table} WHERE rowid = ?1");
    let now: Cell = connection.query_row(&sql, [row], |row| row.get(0)).expect("a cell");
    let sql = format!("SELECT {column} FROM {table} WHERE rowid <> ?1 ORDER BY rowid > ?1 DESC, rowid LIMIT 1");
    let others: Option<Cell> = connection.query_row(&sql, [row], |row| row.get(0)).ok();
    let Some(new) = change.of(&now, others).filter(|new| *new != now) else { return false };
    let sql = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2");
    connection.execute(&sql, (new, row)).is_ok_and(|rows| rows == 1)
}

/// The first column of another value, or the second; and every digest one that nobody has.
fn add(connection: &Connection, table: &str, row: i64, variant: usize) -> bool {
    let mut cells = row_of(connection, table, row);
    let changed = variant.min(cells.len() - 1).min(1);
    for (number, cell) in cells.iter_mut().enumerate() {
        let unique = matches!(cell, Cell::Blob(bytes) if bytes.len() == 32) && variant == 2;
        let changed = match &*cell {
            Cell::Integer(old) if number == changed => Cell::Integer(*old + 1000),
            Cell::Text(old) if number == changed => Cell::Text(old.replace(['1', '2', 'a', 'o'], "3")),
            Cell::Blob(old) if number == changed || unique => Cell::Blob(Digest::of(old).as_bytes().to_vec()),
            other => other.clone(),
        };
        *cell = changed;
    }
    let places = vec!["?"; cells.len()].join(", ");
    connection.execute(&format!("INSERT INTO {table} VALUES ({places})"), rusqlite::params_from_iter(cells)).is_ok()
}

fn exchange(connection: &Connection, table: &str, column: &str, (a, b): (i64, i64)) -> bool {
    let get = |row: i64| -> Cell {
        let sql = format!("SELECT {column} FROM {table} WHERE rowid = ?1");
        connection.query_row(&sql, [row], |row| row.get(0)).expect("a cell")
    };
    let set = |row: i64, cell: &Cell| {
        connection.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2"), (cell, row)).is_ok()
    };
    let (first, second) = (get(a), get(b));
    // Something that stands nowhere comes between, because of what must be unique. A rowid is no cell to exchange.
    first != second
        && !matches!(first, Cell::Integer(n) if n == a)
        && set(a, &Cell::Text("between".into()))
        && set(b, &first)
        && set(a, &second)
}

/// Every `step`-th of all that can be done, from `first` on.
fn survey(first: usize, step: usize, audits: usize) -> Count {
    let mut story = Story::new();
    let acts = story.acts();
    let mut count = Count::default();
    for (number, act) in acts.iter().enumerate().skip(first).step_by(step) {
        let live = number / step % 2 == 1 && !matches!(act, Act::Restore(_));
        story.judge(act, live, act.is_seen(live) || (number / step).is_multiple_of(audits), &mut count);
    }
    count
}

/// In so many threads, because most of it is waiting.
fn surveyed(threads: usize, step: usize, audits: usize) -> Count {
    let parts: Vec<Count> = std::thread::scope(|scope| {
        let part = |number| scope.spawn(move || survey(number * step, threads * step, audits));
        let parts: Vec<_> = (0..threads).map(part).collect();
        parts.into_iter().map(|part| part.join().expect("a count")).collect()
    });
    parts.into_iter().fold(Count::default(), |all, one| Count {
        cases: all.cases + one.cases,
        impossible: all.impossible + one.impossible,
        unstarted: all.unstarted + one.unstarted,
        certificates: all.certificates + one.certificates,
        revived: all.revived + one.revived,
        seen: all.seen + one.seen,
    })
}

#[test]
fn a_sample_of_everything_that_can_be_written() {
    // Prime, so that over a row's columns and changes no pattern repeats.
    let count = surveyed(2, 23, 5);
    assert!(count.cases > 150 && count.certificates > count.cases && count.seen > 0, "{count:?}");
    eprintln!("{count:?}");
}

#[test]
#[cfg(feature = "long-tests")]
fn everything_that_can_be_written() {
    eprintln!("{:?}", surveyed(5, 1, 7));
}

/// The story without a change: what may be claimed is, and the log is whole.
#[test]
fn nothing_written_harms_nobody() {
    let mut story = Story::new();
    story.bench.be_now();
    story.bench.start(&policy_of_story()).expect("a service that starts");
    for known in &story.known {
        let gets = story.bench.claim(&known.asked).status == 200;
        assert_eq!(gets, known.may == May::Claim, "{}", known.name);
    }
    let (code, said) = story.audit();
    assert!(code == 0 && said.contains("the log is whole"), "{said}");
}
