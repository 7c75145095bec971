//! Broken glass, as imported from the journal, and the reviews it opened.

use crate::domain::digest::Digest;
use crate::domain::names::RequestId;
use crate::domain::statement::Serial;
use crate::domain::time::Timestamp;
use crate::domain::verify::Signed;

use super::{Row, StoreError, Tx, Value, statements};

/// One use of an emergency key.
#[derive(Debug, Clone)]
pub struct Emergency {
    /// Its id.
    pub id: RequestId,
    /// The certificate's serial.
    pub serial: Serial,
    /// The break-glass statement.
    pub signed: Signed,
    /// When.
    pub at: Timestamp,
    /// The review that closed it.
    pub review: Option<Digest>,
    /// What revoked it.
    pub revocation: Option<Digest>,
    /// When somebody was first told of it.
    pub alerted: Option<Timestamp>,
    /// The statement of whoever has heard of it.
    pub acknowledgement: Option<Digest>,
}

/// Keeps a use that the journal tells of.
pub fn insert(
    tx: &mut Tx<'_>,
    id: &RequestId,
    serial: Serial,
    signed: &Signed,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO emergencies (id, serial, statement, at) VALUES (?1, ?2, ?3, ?4)";
    let serial = Value::Int(serial.number().cast_signed());
    tx.execute(sql, &[id.as_str().into(), serial, (&signed.digest()).into(), at.unix().into()]).map(|_| ())
}

/// Writes down the review of a use.
pub fn set_review(tx: &mut Tx<'_>, id: &RequestId, review: &Digest) -> Result<(), StoreError> {
    tx.execute("UPDATE emergencies SET review = ?2 WHERE id = ?1", &[id.as_str().into(), review.into()]).map(|_| ())
}

/// Notes that somebody was told of it.
pub fn alerted(tx: &mut Tx<'_>, id: &RequestId, at: Timestamp) -> Result<(), StoreError> {
    let sql = "INSERT INTO alerted_emergencies (id, at) SELECT id, ?2 FROM emergencies WHERE id = ?1 \
               ON CONFLICT (id) DO NOTHING";
    tx.execute(sql, &[id.as_str().into(), at.unix().into()]).map(|_| ())
}

/// Notes that somebody has heard of it. Gives whether nobody had.
pub fn acknowledge(tx: &mut Tx<'_>, id: &RequestId, acknowledgement: &Digest) -> Result<bool, StoreError> {
    let sql = "INSERT INTO acknowledged_emergencies (id, acknowledgement) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
    Ok(tx.execute(sql, &[id.as_str().into(), acknowledgement.into()])? == 1)
}

/// A use by its id.
pub fn load(tx: &mut Tx<'_>, id: &RequestId) -> Result<Option<Emergency>, StoreError> {
    tx.first(&format!("{SELECT} WHERE e.id = ?1"), &[id.as_str().into()], emergency)
}

/// The uses, newest first, at most `limit`; only those whose review is open, if so asked.
pub fn list(tx: &mut Tx<'_>, only_open: bool, limit: u32) -> Result<Vec<Emergency>, StoreError> {
    let condition = if only_open { "WHERE e.review IS NULL" } else { "" };
    tx.query(&format!("{SELECT} {condition} ORDER BY e.at DESC LIMIT ?1"), &[i64::from(limit).into()], emergency)
}

/// The uses since a moment.
pub fn since(tx: &mut Tx<'_>, moment: Timestamp) -> Result<Vec<Emergency>, StoreError> {
    tx.query(&format!("{SELECT} WHERE e.at >= ?1 ORDER BY e.at"), &[moment.unix().into()], emergency)
}

/// The number of the last entry that was imported of the journal of this epoch.
pub fn imported(tx: &mut Tx<'_>, epoch: u16) -> Result<u64, StoreError> {
    Ok(number(tx, &imported_name(epoch))?.unwrap_or(0))
}

/// Remembers how far the journal of this epoch was imported.
pub fn set_imported(tx: &mut Tx<'_>, epoch: u16, seq: u64) -> Result<(), StoreError> {
    set_number(tx, &imported_name(epoch), seq)
}

/// The epoch of the newest journal that this service ever wrote.
pub fn newest_epoch(tx: &mut Tx<'_>) -> Result<Option<u64>, StoreError> {
    number(tx, NEWEST_EPOCH)
}

/// Remembers that a journal of this epoch was begun.
pub fn set_newest_epoch(tx: &mut Tx<'_>, epoch: u16) -> Result<(), StoreError> {
    set_number(tx, NEWEST_EPOCH, u64::from(epoch))
}

const NEWEST_EPOCH: &str = "journal-epoch";

fn imported_name(epoch: u16) -> String {
    format!("journal-imported-{epoch}")
}

fn number(tx: &mut Tx<'_>, name: &str) -> Result<Option<u64>, StoreError> {
    let value = tx.first("SELECT value FROM meta WHERE name = ?1", &[name.into()], |row| row.text(0))?;
    value.map(|text| text.parse().map_err(|_| StoreError::nonsense("meta", &name, "value"))).transpose()
}

fn set_number(tx: &mut Tx<'_>, name: &str, number: u64) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
    tx.execute(sql, &[name.into(), number.to_string().as_str().into()]).map(|_| ())
}

const SELECT: &str = "SELECT e.id, e.serial, e.statement, s.bytes, s.signature, e.at, e.review, v.revocation, t.at, \
                      a.acknowledgement FROM emergencies e JOIN statements s ON s.sha256 = e.statement \
                      LEFT JOIN revoked_emergencies v ON v.id = e.id \
                      LEFT JOIN alerted_emergencies t ON t.id = e.id \
                      LEFT JOIN acknowledged_emergencies a ON a.id = e.id";

fn emergency(row: &Row<'_>) -> Result<Emergency, StoreError> {
    let id = row.text(0)?;
    let serial = Serial::from_number(row.int(1)?.cast_unsigned());
    Ok(Emergency {
        serial: serial.ok_or_else(|| StoreError::nonsense("emergencies", &id, "serial"))?,
        signed: statements::signed(row, 3, &row.digest(2)?)?,
        at: Timestamp::from_unix(row.int(5)?),
        review: if row.opt_blob(6)?.is_some() { Some(row.digest(6)?) } else { None },
        revocation: if row.opt_blob(7)?.is_some() { Some(row.digest(7)?) } else { None },
        alerted: row.opt_int(8)?.map(Timestamp::from_unix),
        acknowledgement: if row.opt_blob(9)?.is_some() { Some(row.digest(9)?) } else { None },
        id: id.parse().map_err(|_| StoreError::nonsense("emergencies", &id, "id"))?,
    })
}
