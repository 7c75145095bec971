//! A transaction, whichever database it runs on. Verbs get a [`Tx`] and nothing else; SQL is written
//! once, with numbered placeholders (`?1`).

use crate::domain::digest::Digest;
use crate::domain::tree::Frontier;

use super::{StoreError, sqlite};

/// A value bound to a placeholder.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// 64 bits.
    Int(i64),
    /// UTF-8.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}
impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(bytes)
    }
}
impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl<'a> From<&'a Digest> for Value<'a> {
    fn from(digest: &'a Digest) -> Self {
        Self::Blob(digest.as_bytes())
    }
}
impl<T: Into<Self>> From<Option<T>> for Value<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer; columns are numbered from 0.
#[derive(Debug)]
pub enum Row<'r> {
    /// SQLite's.
    Sqlite(&'r rusqlite::Row<'r>),
}

impl Row<'_> {
    /// A column that may be NULL, as a number.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(row) => row.get(column).map_err(|e| sqlite::error(&e)),
        }
    }
    /// A column that may be NULL, as text.
    pub fn opt_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(row) => row.get(column).map_err(|e| sqlite::error(&e)),
        }
    }
    /// A column that may be NULL, as bytes.
    pub fn opt_blob(&self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(row) => row.get(column).map_err(|e| sqlite::error(&e)),
        }
    }
    /// A number.
    pub fn int(&self, column: usize) -> Result<i64, StoreError> {
        self.opt_int(column)?.ok_or_else(|| null(column))
    }
    /// Text.
    pub fn text(&self, column: usize) -> Result<String, StoreError> {
        self.opt_text(column)?.ok_or_else(|| null(column))
    }
    /// Bytes.
    pub fn blob(&self, column: usize) -> Result<Vec<u8>, StoreError> {
        self.opt_blob(column)?.ok_or_else(|| null(column))
    }
    /// A SHA-256.
    pub fn digest(&self, column: usize) -> Result<Digest, StoreError> {
        let bytes = self.blob(column)?.try_into();
        bytes.map(Digest::from_bytes).map_err(|_| StoreError::Database(format!("column {column} is no SHA-256")))
    }
}

fn null(column: usize) -> StoreError {
    StoreError::Database(format!("column {column} is unexpectedly empty"))
}

/// The database under a transaction.
#[derive(Debug)]
pub(super) enum Db<'c> {
    Sqlite(&'c rusqlite::Connection),
}

/// A transaction, or one verb's part of it.
#[derive(Debug)]
pub struct Tx<'c> {
    pub(super) db: Db<'c>,
    /// The log's right edge, where this is the writer's.
    pub(super) log: Frontier,
}

impl Tx<'_> {
    /// Runs a statement; gives the number of rows it changed.
    pub fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<usize, StoreError> {
        match self.db {
            Db::Sqlite(connection) => sqlite::execute(connection, sql, values),
        }
    }

    /// Runs a query; `read` turns each row into something.
    pub fn query<T, E: From<StoreError>>(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        match self.db {
            Db::Sqlite(connection) => sqlite::query(connection, sql, values, read),
        }
    }

    /// Runs a query of which at most one row is wanted.
    pub fn first<T, E: From<StoreError>>(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        Ok(self.query(sql, values, read)?.into_iter().next())
    }
}
