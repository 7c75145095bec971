//! One writer thread owns the only connection that writes, and commits many waiting verbs in one
//! fsync. Each verb runs in a savepoint of its own, so that its failure undoes only itself; nobody
//! hears of success before the commit. Readers stand beside.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::FlockOperation;
use tokio::sync::{Semaphore, oneshot};

use crate::domain::tree::Frontier;
use crate::files;

use super::tx::{Db, Tx};
use super::{StoreError, Value, events, sqlite};

/// So many verbs may wait; more are told to come back.
const QUEUE: usize = 4096;
/// So many verbs share one commit at most.
const BATCH: usize = 256;
/// So long a batch takes more verbs, or as long as the last commit took: with all who ask in one batch, their
/// answers would wait for the last verb, and the next batch for the answers. A slow disk makes batches longer.
const GATHER: Duration = Duration::from_millis(2);
/// So many connections read at once.
const READERS: usize = 4;

/// What a verb does after the commit: tell its caller.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// A verb: does its work in the transaction, and says whether it is to be kept. Without a transaction
/// it only passes on why there is none.
type Job = Box<dyn FnOnce(Result<&mut Tx<'_>, StoreError>) -> (bool, Answer) + Send>;

/// A database that is open.
pub struct Store {
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    free_readers: Arc<Semaphore>,
    // Held for its lock: two services on one database would each think their log whole.
    _lock: std::fs::File,
}

impl Store {
    /// Opens the database that `url` names, `sqlite:FILE` relative to `base`.
    pub fn open(url: &str, base: &Path) -> Result<Self, StoreError> {
        let path = sqlite::path(url, base)?;
        let lock = lock(&path)?;
        let connection = sqlite::open_writer(&path)?;
        let log = events::frontier(&mut reading(&connection))?;
        let readers = (0..READERS).map(|_| sqlite::open_reader(&path)).collect::<Result<Vec<_>, _>>()?;
        let (jobs, queue) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new().name("writer".into());
        let writer = writer.spawn(move || write(&connection, log, &queue));
        let writer = writer.map_err(|e| StoreError::Unusable(format!("the writer thread: {e}")))?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            readers: Arc::new(Mutex::new(readers)),
            free_readers: Arc::new(Semaphore::new(READERS)),
            _lock: lock,
        })
    }

    /// Runs a verb in the writer. `Ok` comes after its commit is durable.
    pub async fn write<T, E>(&self, verb: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let outcome = tx.map_err(E::from).and_then(verb);
            let keep = outcome.is_ok();
            let answer: Answer = Box::new(move |committed| {
                let outcome = outcome.and_then(|value| committed.map(|()| value).map_err(E::from));
                // A caller that went away does not undo what was committed.
                let _ = tell.send(outcome);
            });
            (keep, answer)
        });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        told.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Runs a verb that only reads, beside the writer, on what was last committed.
    pub async fn read<T, E>(&self, verb: impl FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        let turn = Arc::clone(&self.free_readers).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let work = move || {
            let _turn = turn;
            let connection = readers.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(StoreError::Busy)?;
            // A verb that panics must not take the connection with it.
            let outcome = catch_unwind(AssertUnwindSafe(|| read(&connection, verb)));
            if outcome.is_err() {
                sqlite::rollback(&connection);
            }
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        // A verb may be the last to hold the service: then the writer itself is here, and ends when it is done.
        let here = std::thread::current().id();
        if let Some(writer) = self.writer.take().filter(|writer| writer.thread().id() != here) {
            // What was waiting is committed first; a writer that panicked has nothing to say.
            let _ = writer.join();
        }
    }
}

/// A transaction that appends nothing to the log, so needs not know where that ends.
fn reading(connection: &Connection) -> Tx<'_> {
    Tx { db: Db::Sqlite(connection), log: Frontier::default() }
}

/// Reads a database beside the service that has it open, or while there is none.
pub fn look<T, E: From<StoreError>>(
    url: &str,
    base: &Path,
    verb: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    read(&sqlite::open_reader(&sqlite::path(url, base)?)?, verb)
}

/// One snapshot for everything that the verb reads.
fn read<T, E: From<StoreError>>(
    connection: &Connection,
    verb: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    begin(connection, "BEGIN")?;
    let outcome = verb(&mut reading(connection));
    sqlite::rollback(connection);
    outcome
}

fn begin(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    sqlite::run(connection, sql).map_err(|e| sqlite::error(&e))
}

fn write(connection: &Connection, mut log: Frontier, queue: &Receiver<Job>) {
    let mut commit_took = Duration::ZERO;
    while let Ok(first) = queue.recv() {
        let mut answers = Vec::new();
        let until = Instant::now() + commit_took.max(GATHER);
        let committed = batch(connection, &log, (first, queue, until), &mut answers, &mut commit_took);
        for answer in answers {
            answer(committed.as_ref().map(|_| ()).map_err(StoreError::clone));
        }
        if let Ok(grown) = committed {
            log = grown;
        }
    }
}

/// Runs waiting verbs in one transaction. Gives the log as it is after the commit.
fn batch(
    connection: &Connection,
    log: &Frontier,
    (first, queue, until): (Job, &Receiver<Job>, Instant),
    answers: &mut Vec<Answer>,
    commit_took: &mut Duration,
) -> Result<Frontier, StoreError> {
    if let Err(e) = begin(connection, "BEGIN IMMEDIATE") {
        answers.push(first(Err(e.clone())).1);
        return Err(e);
    }
    let mut tx = Tx { db: Db::Sqlite(connection), log: log.clone() };
    let worked = run(&mut tx, first, (queue, until), answers)
        .and_then(|()| if tx.log == *log { Ok(()) } else { save_log(&mut tx) });
    if let Err(e) = worked {
        sqlite::rollback(connection);
        return Err(e);
    }
    let begin = Instant::now();
    sqlite::commit(connection)?;
    *commit_took = begin.elapsed();
    Ok(tx.log)
}

fn run(
    tx: &mut Tx<'_>,
    first: Job,
    (queue, until): (&Receiver<Job>, Instant),
    answers: &mut Vec<Answer>,
) -> Result<(), StoreError> {
    let mut next = Some(first);
    while let Some(job) = next {
        in_savepoint(tx, job, answers)?;
        let more = answers.len() < BATCH && Instant::now() < until;
        next = if more { queue.try_recv().ok() } else { None };
    }
    Ok(())
}

fn in_savepoint(tx: &mut Tx<'_>, job: Job, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
    let before = tx.log.clone();
    if let Err(e) = tx.execute("SAVEPOINT verb", &[]) {
        answers.push(job(Err(e.clone())).1);
        return Err(e);
    }
    // A verb that panics fails alone: the writer is there for all of them. Its caller hears that nobody answers.
    let nobody = || (false, Box::new(|_| ()) as Answer);
    let (keep, answer) = catch_unwind(AssertUnwindSafe(|| job(Ok(tx)))).unwrap_or_else(|_| nobody());
    // Told whatever comes now: a full disk has SQLite undo the whole transaction, and its savepoints are gone.
    answers.push(answer);
    if !keep {
        tx.execute("ROLLBACK TO verb", &[])?;
        tx.log = before;
    }
    tx.execute("RELEASE verb", &[])?;
    Ok(())
}

fn save_log(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let size = tx.log.size().cast_signed();
    let roots: Vec<u8> = tx.log.roots().iter().flat_map(|root| *root.as_bytes()).collect();
    tx.execute("UPDATE log SET size = ?1, roots = ?2 WHERE one = 1", &[Value::Int(size), Value::Blob(&roots)])?;
    Ok(())
}

/// Takes the lock that keeps a second service out.
fn lock(path: &Path) -> Result<std::fs::File, StoreError> {
    let lock_path = path.with_extension("lock");
    let unusable = |e: &dyn std::fmt::Display| StoreError::Unusable(format!("{}: {e}", lock_path.display()));
    let mut options = std::fs::OpenOptions::new();
    let file =
        files::open_no_link(&lock_path, options.write(true).create(true).truncate(false)).map_err(|e| unusable(&e))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| unusable(&"another ssh-jit has this database open"))?;
    Ok(file)
}
