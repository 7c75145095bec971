//! SQLite: everything that only this database has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::ffi::{SQLITE_FULL, SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE};
use rusqlite::hooks::Wal;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use crate::files;

use super::{Row, StoreError, Value, end, migrations};

/// Older ones can corrupt a WAL database when two connections check-point (fixed in 3.51.3).
const OLDEST: i32 = 3_051_003;
/// So many pages gather in the WAL before they go into the database: those that many commits change go once.
const CHECKPOINT_AT: i32 = 4000;

/// The file that a `sqlite:` address names, relative to the configuration's folder.
pub(super) fn path(url: &str, base: &Path) -> Result<PathBuf, StoreError> {
    match url.strip_prefix("sqlite:") {
        Some(file) if !file.is_empty() => Ok(base.join(file)),
        _ => Err(StoreError::Unusable(format!("database: {url:?} is not known; write sqlite:FILE"))),
    }
}

/// Makes an empty database.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        return Err(StoreError::Unusable(format!("{}: it exists already", path.display())));
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    migrations::run(&connection)?;
    // Closing would do it too, and be silent when it fails; and so is SQLite when it syncs the folder.
    let unusable = |e: &dyn std::fmt::Display| StoreError::Unusable(format!("{}: {e}", path.display()));
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(|e| unusable(&e))?;
    files::sync_folder(files::folder_of(path)).map_err(|e| unusable(&e))
}

/// Opens the connection that writes, and brings the schema up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < OLDEST {
        return Err(StoreError::Unusable(format!(
            "SQLite {} is too old; 3.51.3 is the oldest that is safe",
            rusqlite::version()
        )));
    }
    if !path.exists() {
        let hint = "run ssh-jit init, or put the backup back: an empty database would issue serials twice";
        return Err(StoreError::Unusable(format!("{}: there is no database; {hint}", path.display())));
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrations::run(&connection)?;
    let hook = |wal: &mut Wal, pages| {
        checkpoint(wal, pages);
        Ok(())
    };
    connection.wal_hook(Some(hook)).map_err(|e| error(&e))?;
    Ok(connection)
}

/// Moves the WAL into the database when it is long. SQLite's own hook does the same, but is silent when a sync
/// fails, and tries again.
fn checkpoint(wal: &mut Wal, pages: i32) {
    if pages >= CHECKPOINT_AT
        && let Err(e) = wal.checkpoint()
    {
        // Unless a sync failed, the WAL still has everything.
        tracing::error!(error = %error(&e), "the WAL could not be moved into the database; it will be tried again");
    }
}

/// Commits the transaction. When this fails, nothing of it was kept.
pub(super) fn commit(connection: &Connection) -> Result<(), StoreError> {
    let Err(e) = run(connection, "COMMIT") else { return Ok(()) };
    match extended_code(&e) {
        // A full disk, or one that takes no writes: these come before the sync, so the WAL holds no whole transaction.
        Some(SQLITE_FULL | SQLITE_IOERR_WRITE) => {
            rollback(connection);
            Err(error(&e))
        }
        // After anything else the WAL may hold it all the same, and a later "it was not done" would be a lie.
        _ => end("the database was not committed", &e),
    }
}

/// Undoes the transaction, unless SQLite did already.
pub(super) fn rollback(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(e) = run(connection, "ROLLBACK")
    {
        // What others commit from now on would go into the transaction that was not undone.
        end("a transaction was not rolled back", &e);
    }
}

/// Runs a statement that takes and gives nothing.
pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// Opens a connection that can only read.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true).map_err(|e| error(&e))?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let unusable = |e: rusqlite::Error| StoreError::Unusable(format!("{}: {e}", path.display()));
    let flags = flags | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unusable)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(unusable)?;
    // Where it cannot be changed SQLite says which mode it stays in, and no error.
    let mode = wal_mode(&connection).map_err(unusable)?;
    if mode != "wal" {
        return Err(StoreError::Unusable(format!("{}: it stays in journal mode {mode}", path.display())));
    }
    // NORMAL may lose acknowledged commits when the power goes: a denial would come back to life.
    connection.pragma_update(None, "synchronous", "FULL").map_err(unusable)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(unusable)?;
    // What a savepoint would undo is kept in memory, and not in a file that every verb writes.
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(unusable)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(unusable)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(unusable)?;
    // Otherwise SQLite looks at bound values to see whether a partial index fits, and compiles a cached
    // statement anew each time they change: that cost more than running it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(unusable)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Asks for WAL; gives the mode that the database is in. The answer is read to its end: a sync that fails on the way
/// is told after the first row.
fn wal_mode(connection: &Connection) -> rusqlite::Result<String> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mut mode = String::new();
    while let Some(row) = rows.next()? {
        mode = row.get(0)?;
    }
    Ok(mode)
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Ok(rusqlite::types::Null.into()),
            Self::Int(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Blob(bytes) => bytes.to_sql(),
        }
    }
}

pub(super) fn execute(connection: &Connection, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| error(&e))?;
    statement.execute(rusqlite::params_from_iter(values)).map_err(|e| error(&e))
}

pub(super) fn query<T, E: From<StoreError>>(
    connection: &Connection,
    sql: &str,
    values: &[Value<'_>],
    mut read: impl FnMut(&Row<'_>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| error(&e))?;
    let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(|e| error(&e))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(|e| error(&e))? {
        found.push(read(&Row::Sqlite(row))?);
    }
    Ok(found)
}

/// Uniqueness is told apart, because it answers a caller; all else is the operator's business. A failed sync ends
/// the process, whichever statement it came from: it is known to nobody but this one.
pub(super) fn error(error: &rusqlite::Error) -> StoreError {
    if matches!(extended_code(error), Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC)) {
        end("the database was not synced", error);
    }
    match error {
        rusqlite::Error::SqliteFailure(code, Some(text)) if code.code == ErrorCode::ConstraintViolation => {
            match text.strip_prefix("UNIQUE constraint failed: ") {
                Some(column) => StoreError::Taken(column.to_owned()),
                None => StoreError::Database(text.clone()),
            }
        }
        other => StoreError::Database(other.to_string()),
    }
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|code| code.extended_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S02: what was acknowledged is there after a power cut.
    #[test]
    fn a_commit_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        create(&path).unwrap();
        for connection in [open_writer(&path).unwrap(), open_reader(&path).unwrap()] {
            let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!((pragma("synchronous"), pragma("trusted_schema"), pragma("foreign_keys")), (2, 0, 1), "FULL");
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
        }
    }

    /// S06.
    #[test]
    fn the_linked_sqlite_is_new_enough() {
        assert!(rusqlite::version_number() >= OLDEST, "{}", rusqlite::version());
    }
}
