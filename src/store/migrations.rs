//! Numbered migrations: each SQL file runs once, in order, and its SHA-256 is remembered, so that a
//! changed file or a database from a newer version is refused instead of guessed at.

use rusqlite::{Connection, OptionalExtension as _};

use crate::domain::digest::Digest;

use super::StoreError;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
];

/// Brings the schema up to date, in one transaction.
pub(super) fn run(connection: &Connection) -> Result<(), StoreError> {
    // Nothing runs yet that could be lost: the start fails, or `init` does.
    let fail = |e: rusqlite::Error| StoreError::Unusable(format!("database: {e}"));
    let table = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL)";
    let newest: i64 = if has_table(connection).map_err(fail)? {
        connection.query_row("SELECT coalesce(max(number), 0) FROM migrations", [], |row| row.get(0)).map_err(fail)?
    } else {
        0
    };
    if usize::try_from(newest).is_ok_and(|n| n > MIGRATIONS.len()) {
        let known = MIGRATIONS.len();
        let message = format!("the database has schema {newest}, and this version knows {known}; run a newer ssh-jit");
        return Err(StoreError::Unusable(message));
    }
    for (number, sql) in (1i64..).zip(MIGRATIONS) {
        let sum = Digest::of(sql.as_bytes()).to_string();
        if number <= newest {
            let stored: String = connection
                .query_row("SELECT sha256 FROM migrations WHERE number = ?1", [number], |row| row.get(0))
                .map_err(fail)?;
            if stored != sum {
                return Err(StoreError::Unusable(format!("migration {number} is not the one that made this database")));
            }
            continue;
        }
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {table}; {sql}")).map_err(fail)?;
        connection.execute("INSERT INTO migrations (number, sha256) VALUES (?1, ?2)", (number, &sum)).map_err(fail)?;
        connection.execute_batch("COMMIT").map_err(fail)?;
    }
    Ok(())
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'migrations'";
    Ok(connection.query_row(sql, [], |_| Ok(())).optional()?.is_some())
}
