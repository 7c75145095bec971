//! The database as a file, and the one writer: what is refused at the start, and what a transaction
//! keeps.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc;

use serde_json::json;
use ssh_jit::domain::event::{Event, EventKind};
use ssh_jit::domain::time::Moment;
use ssh_jit::store::{self, Store, StoreError, Tx, Value, events};
use tempfile::TempDir;

use crate::support::dir;
use crate::support::service::{Bench, policy};

const URL: &str = "sqlite:jit.db";

fn created() -> TempDir {
    let dir = dir();
    store::create(URL, dir.path()).expect("a database");
    dir
}

fn refusal(url: &str, dir: &TempDir) -> String {
    Store::open(url, dir.path()).err().expect("a refusal").to_string()
}

#[test]
fn a_database_is_never_made_by_accident() {
    let dir = dir();
    for url in [URL, "sqlite:no/such/folder.db"] {
        let error = refusal(url, &dir);
        assert!(error.contains("there is no database") || error.contains("No such file"), "{error}");
    }
    assert!(!dir.path().join("jit.db").exists());
    for url in ["sqlite:", "jit.db", "mysql://localhost/jit", ""] {
        assert!(refusal(url, &dir).contains("write sqlite:FILE"), "{url}");
    }
    store::create(URL, dir.path()).unwrap();
    let before = fs::read(dir.path().join("jit.db")).unwrap();
    let error = store::create(URL, dir.path()).unwrap_err().to_string();
    assert!(error.contains("it exists already"), "{error}");
    assert_eq!(fs::read(dir.path().join("jit.db")).unwrap(), before);
}

#[test]
fn files_that_are_no_database_of_ours() {
    let dir = created();
    let path = dir.path().join("jit.db");
    let elsewhere = dir.path().join("elsewhere.db");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(Store::open(URL, dir.path()).is_err(), "a link is not followed");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "not a database, but long enough to be taken for one".repeat(100)).unwrap();
    assert!(Store::open(URL, dir.path()).is_err(), "text");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(Store::open(URL, dir.path()).is_err(), "a folder");
    fs::remove_dir(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    Store::open(URL, dir.path()).unwrap();
}

/// Where nothing can be written nothing may be started: not by permissions, and not by what stands in
/// the place of SQLite's own files (which stops root, too).
#[test]
fn a_database_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = created();
    let wal = dir.path().join("jit.db-wal");
    let _ = fs::remove_file(&wal);
    fs::create_dir(&wal).unwrap();
    assert!(Store::open(URL, dir.path()).is_err());
    fs::remove_dir(&wal).unwrap();
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(dir.path().join("jit.db"), fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Store::open(URL, dir.path()).is_err());
    }
}

#[test]
fn schemas_that_are_not_understood() {
    let dir = created();
    let sql = |text: &str| {
        rusqlite::Connection::open(dir.path().join("jit.db")).unwrap().execute_batch(text).unwrap();
    };
    sql("INSERT INTO migrations VALUES (99, 'x')");
    assert!(refusal(URL, &dir).contains("the database has schema 99, and this version knows"));
    sql("DELETE FROM migrations WHERE number = 99");
    Store::open(URL, dir.path()).unwrap();
    sql("UPDATE migrations SET sha256 = 'SHA256:x'");
    assert!(refusal(URL, &dir).contains("migration 1 is not the one that made this database"));
}

/// The newest migration, on a database of the version before it: nothing that was there is lost or changed.
#[test]
fn a_database_of_before_keeps_what_it_has() {
    let mut bench = Bench::new();
    let asked = bench.ask("alice", "db-prod", &json!({"seconds": 7200}));
    bench.approve("carol", &asked).ok();
    bench.claim(&asked).ok();
    let waiting = bench.ask("bob", "vault", &json!({}));
    bench.break_glass(&bench.breaking("alice", "db-prod")).ok();
    bench.run(bench.service().import_journal()).expect("an import");
    bench.stop();
    let database = bench.sql();
    let sql = "INSERT INTO hanging VALUES ('incident:INC-7', 'open', ?1)";
    database.execute(sql, [&asked.id]).expect("SQL");
    database.execute("INSERT INTO reminders VALUES (?1, 'remind', 7)", [&waiting.id]).expect("SQL");
    let before = bench.rows();
    let newest = [
        "hosts",
        "host_certificates",
        "trust_documents",
        "host_statuses",
        "drills",
        "raised",
        "alerted_emergencies",
        "acknowledged_emergencies",
    ];
    let older = newest.map(|table| format!("DROP TABLE {table};")).concat() + "DELETE FROM migrations WHERE number = 8";
    database.execute_batch(&older).expect("the older schema");
    drop(database);
    bench.restart();
    assert_eq!(bench.rows(), before);
}

#[test]
fn a_database_has_one_service() {
    let dir = created();
    let first = Store::open(URL, dir.path()).unwrap();
    assert!(refusal(URL, &dir).contains("another ssh-jit has this database open"));
    drop(first);
    Store::open(URL, dir.path()).unwrap();

    let mut bench = Bench::new();
    let asked = bench.ask("alice", "web", &json!({}));
    let error = bench.start(&policy()).expect_err("a second service").to_string();
    assert!(error.contains("another ssh-jit has this database open"), "{error}");
    bench.approve("carol", &asked).ok();
}

fn put(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    tx.execute("INSERT INTO meta (name, value) VALUES (?1, 'x')", &[Value::Text(name)]).map(|_| ())
}

async fn names(store: &Store) -> Vec<String> {
    store.read(|tx| tx.query("SELECT name FROM meta ORDER BY name", &[], |row| row.text(0))).await.expect("names")
}

/// Stops the writer in the middle of a transaction, until the other end is dropped.
fn hold(store: &Arc<Store>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), StoreError>>) {
    let (go, held) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let store = Arc::clone(store);
    let verb = tokio::spawn(async move {
        let wait = move |tx: &mut Tx<'_>| {
            put(tx, "held")?;
            tell.send(()).ok();
            held.recv().ok();
            Ok(())
        };
        store.write(wait).await
    });
    told.recv().expect("the writer works");
    (go, verb)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_that_share_a_commit_fail_alone() {
    let dir = created();
    let store = Arc::new(Store::open(URL, dir.path()).unwrap());
    let (go, held) = hold(&store);
    let verbs: Vec<_> = (0..20)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let verb = move |tx: &mut Tx<'_>| {
                    put(tx, &format!("a{number:02}"))?;
                    // Some fail by themselves, some because the name is there already.
                    put(tx, &format!("b{:02}", number / 2))?;
                    if number % 5 == 0 { Err(StoreError::Busy) } else { Ok(()) }
                };
                (number, store.write(verb).await)
            })
        })
        .collect();
    // All of them wait behind the one that is held.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(names(&store).await.is_empty(), "what is not committed is not seen");
    drop(go);
    held.await.unwrap().unwrap();
    let mut expected = vec!["held".to_owned()];
    for verb in verbs {
        let (number, outcome) = verb.await.unwrap();
        match outcome {
            Ok(()) => expected.extend([format!("a{number:02}"), format!("b{:02}", number / 2)]),
            Err(StoreError::Busy) => assert_eq!(number % 5, 0),
            Err(StoreError::Taken(column)) => assert_eq!(column, "meta.name"),
            Err(other) => panic!("{other}"),
        }
    }
    expected.sort();
    assert_eq!(expected.len(), 1 + 2 * 10, "of each pair one wins, whatever their order");
    assert_eq!(names(&store).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_what_is_committed() {
    let dir = created();
    let store = Arc::new(Store::open(URL, dir.path()).unwrap());
    let (go, held) = hold(&store);
    assert!(names(&store).await.is_empty());
    drop(go);
    held.await.unwrap().unwrap();
    assert_eq!(names(&store).await, ["held"]);
    let written = store.read(|tx| put(tx, "read")).await;
    assert!(matches!(written, Err(StoreError::Database(_))), "a reader writes nothing: {written:?}");
    assert_eq!(names(&store).await, ["held"]);
}

/// The tree over the log is kept in memory: it forgets with the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_verb_logged_is_gone() {
    let dir = created();
    let store = Store::open(URL, dir.path()).unwrap();
    let event = || Event::new(EventKind::ServiceStarted, Moment::from_unix_millis(0));
    let fails = move |tx: &mut Tx<'_>| events::append(tx, event()).and(Err::<(), _>(StoreError::Busy));
    assert!(store.write(fails).await.is_err());
    assert_eq!(store.write(move |tx| events::append(tx, event())).await.unwrap(), 1);
    drop(store);
    let store = Store::open(URL, dir.path()).unwrap();
    let size = store.read(|tx| Ok::<_, StoreError>(events::frontier(tx)?.size())).await.unwrap();
    assert_eq!(size, 1, "and the stored edge is that of what is there");
}

/// A caller that goes away does not undo what was committed, nor stop the writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_may_leave() {
    let dir = created();
    let store = Arc::new(Store::open(URL, dir.path()).unwrap());
    let (go, held) = hold(&store);
    held.abort();
    drop(go);
    store.write(|tx| put(tx, "next")).await.unwrap();
    assert_eq!(names(&store).await, ["held", "next"]);
}

/// A verb that panics fails alone, and nothing of it stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_panics_fails_alone() {
    let dir = created();
    let store = Arc::new(Store::open(URL, dir.path()).unwrap());
    let panics = |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        put(tx, "half")?;
        panic!("a defect, on purpose")
    };
    assert!(store.write(panics).await.is_err());
    let panics = |_: &mut Tx<'_>| -> Result<(), StoreError> { panic!("a defect, on purpose") };
    for _ in 0..10 {
        assert!(store.read(panics).await.is_err());
    }
    store.write(|tx| put(tx, "next")).await.unwrap();
    assert_eq!(names(&store).await, ["next"]);
}
