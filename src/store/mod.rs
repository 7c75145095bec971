//! The store: transactions on a database, and the break-glass journal beside it. The database is for
//! finding, for doing things once, and for keeping; it is not believed where a signature can be asked.

pub mod certificates;
pub mod drills;
pub mod emergencies;
pub mod events;
pub mod facts;
pub mod host_statuses;
pub mod hosts;
pub mod journal;
pub mod outbox;
pub mod passkeys;
pub mod requests;
pub mod revocations;
pub mod sessions;
pub mod statements;
pub mod trust;
pub mod uses;

mod migrations;
mod sqlite;
mod tx;
mod writer;

use std::path::Path;

pub use tx::{Row, Tx, Value};
pub use writer::{Store, look};

/// Why the store could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("database: {0}")]
    Database(String),
    /// A unique column had the value already.
    #[error("database: {0} is there already")]
    Taken(String),
    /// A row that makes no sense. Names table, row and column.
    #[error("database: table {table}, row {row}: {column} makes no sense")]
    Nonsense {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// The column.
        column: &'static str,
    },
    /// More callers are waiting than can be served.
    #[error("the service has more to do than it can; try again in a moment")]
    Busy,
    /// The writer has ended.
    #[error("the service is ending")]
    Closed,
    /// The database cannot be used at all.
    #[error("{0}")]
    Unusable(String),
}

/// EX_IOERR of sysexits.h: what the process ends with when it may have lost what it wrote.
const LOST: i32 = 74;

/// Ends the process after a failed sync. It is never tried again: the system may have dropped what it could not
/// write and would then say "yes", and an answer would tell of something that the next start does not find.
/// Whoever starts next reads what is really there.
fn end(what: &str, error: &dyn std::error::Error) -> ! {
    tracing::error!(error = %error, "{what}; ending, because it may be lost: check the disk, then start again");
    std::process::exit(LOST)
}

/// Makes an empty database. Refuses where one is.
pub fn create(url: &str, base: &Path) -> Result<(), StoreError> {
    sqlite::create(&sqlite::path(url, base)?)
}

impl StoreError {
    /// A row that makes no sense.
    pub(crate) fn nonsense(table: &'static str, row: &impl ToString, column: &'static str) -> Self {
        Self::Nonsense { table, row: row.to_string(), column }
    }
}
