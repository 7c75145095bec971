//! The trust documents that the service took, by number.

use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;

use super::{StoreError, Tx, Value};

/// A document that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub number: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// When.
    pub at: Timestamp,
}

/// All of them, by number.
pub fn taken(tx: &mut Tx<'_>) -> Result<Vec<Taken>, StoreError> {
    tx.query("SELECT number, sha256, taken FROM trust_documents ORDER BY number", &[], |row| {
        let at = Timestamp::from_unix(row.int(2)?);
        Ok(Taken { number: row.int(0)?.cast_unsigned(), sha256: row.digest(1)?, at })
    })
}

/// Records that one is taken.
pub fn take(tx: &mut Tx<'_>, taken: &Taken) -> Result<(), StoreError> {
    let sql = "INSERT INTO trust_documents (number, sha256, taken) VALUES (?1, ?2, ?3)";
    let number = Value::Int(i64::try_from(taken.number).unwrap_or(i64::MAX));
    tx.execute(sql, &[number, (&taken.sha256).into(), taken.at.unix().into()]).map(|_| ())
}
