//! The log: leaves in order, and the right edge of the tree over them.

use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::names::RequestId;
use crate::domain::tree::{Frontier, leaf_hash};

use super::{Row, StoreError, Tx, Value};

/// A leaf as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// From 1, without gaps.
    pub seq: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Appends an event in this transaction; gives its number.
pub fn append(tx: &mut Tx<'_>, mut event: Event) -> Result<u64, StoreError> {
    event.seq = tx.log.size() + 1;
    let leaf = event.to_leaf();
    let request = event.request.as_ref().map(RequestId::as_str);
    let sql = "INSERT INTO events (seq, leaf, request) VALUES (?1, ?2, ?3)";
    tx.execute(sql, &[Value::Int(event.seq.cast_signed()), leaf.as_slice().into(), request.into()])?;
    tx.log.push(leaf_hash(&leaf));
    Ok(event.seq)
}

/// The tree's right edge, as it was last committed.
pub fn frontier(tx: &mut Tx<'_>) -> Result<Frontier, StoreError> {
    let nonsense = || StoreError::nonsense("log", &1, "roots");
    let row = tx.first("SELECT size, roots FROM log WHERE one = 1", &[], |row| {
        Ok::<_, StoreError>((row.int(0)?, row.opt_blob(1)?.unwrap_or_default()))
    })?;
    let (size, roots) = row.ok_or_else(nonsense)?;
    let digests = roots.chunks(32).map(|part| part.try_into().map(Digest::from_bytes)).collect::<Result<Vec<_>, _>>();
    digests.ok().and_then(|digests| Frontier::from_parts(size.cast_unsigned(), digests)).ok_or_else(nonsense)
}

/// Leaves from number `from`, at most `limit`.
pub fn page(tx: &mut Tx<'_>, from: u64, limit: u32) -> Result<Vec<Leaf>, StoreError> {
    let sql = "SELECT seq, leaf FROM events WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    tx.query(sql, &[Value::Int(i64::try_from(from).unwrap_or(i64::MAX)), i64::from(limit).into()], leaf)
}

/// The leaf hashes of the first `size` events.
pub fn hashes(tx: &mut Tx<'_>, size: u64) -> Result<Vec<Digest>, StoreError> {
    let sql = "SELECT leaf FROM events WHERE seq <= ?1 ORDER BY seq";
    tx.query(sql, &[Value::Int(i64::try_from(size).unwrap_or(i64::MAX))], |row| Ok(leaf_hash(&row.blob(0)?)))
}

/// Leaves that speak of one request.
pub fn of_request(tx: &mut Tx<'_>, id: &RequestId) -> Result<Vec<Leaf>, StoreError> {
    tx.query("SELECT seq, leaf FROM events WHERE request = ?1 ORDER BY seq", &[id.as_str().into()], leaf)
}

fn leaf(row: &Row<'_>) -> Result<Leaf, StoreError> {
    Ok(Leaf { seq: row.int(0)?.cast_unsigned(), bytes: row.blob(1)? })
}
