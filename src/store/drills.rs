//! The reports of drills, and which alarms were raised when.

use crate::domain::digest::Digest;
use crate::domain::names::RequestId;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::verify::Signed;

use super::{Row, StoreError, Tx, Value, statements};

/// A reported drill.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The broken glass that it was.
    pub id: RequestId,
    /// The report.
    pub signed: Signed,
    /// When.
    pub at: Timestamp,
    /// What the policy allowed from the command to a shell.
    pub within: Seconds,
    /// Whether it passed then.
    pub passed: bool,
}

/// Keeps a report. `key` is the emergency key's fingerprint, `ca` that of the break-glass CA.
pub fn insert(tx: &mut Tx<'_>, drill: &Reported, (key, ca): (&Digest, &Digest)) -> Result<(), StoreError> {
    let sql = "INSERT INTO drills (id, statement, key, ca, at, within, passed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let digest = drill.signed.digest();
    let values: [Value<'_>; 7] = [
        drill.id.as_str().into(),
        (&digest).into(),
        key.into(),
        ca.into(),
        drill.at.unix().into(),
        i64::from(drill.within.get()).into(),
        i64::from(drill.passed).into(),
    ];
    tx.execute(sql, &values).map(|_| ())
}

/// A report by the id of the broken glass.
pub fn load(tx: &mut Tx<'_>, id: &RequestId) -> Result<Option<Reported>, StoreError> {
    tx.first(&format!("{SELECT} WHERE d.id = ?1"), &[id.as_str().into()], reported)
}

/// The newest report that passed, of all keys.
pub fn last_passed(tx: &mut Tx<'_>) -> Result<Option<Reported>, StoreError> {
    tx.first(&format!("{SELECT} WHERE d.passed = 1 ORDER BY d.at DESC LIMIT 1"), &[], reported)
}

/// When a drill with this key and this CA last passed.
pub fn proven(tx: &mut Tx<'_>, key: &Digest, ca: &Digest) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT at FROM drills WHERE key = ?1 AND ca = ?2 AND passed = 1 ORDER BY at DESC LIMIT 1";
    tx.first(sql, &[key.into(), ca.into()], |row| Ok(Timestamp::from_unix(row.int(0)?)))
}

/// When this was last raised.
pub fn raised(tx: &mut Tx<'_>, subject: &str) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT at FROM raised WHERE subject = ?1";
    tx.first(sql, &[subject.into()], |row| Ok(Timestamp::from_unix(row.int(0)?)))
}

/// Notes that it was raised now.
pub fn raise(tx: &mut Tx<'_>, subject: &str, now: Timestamp) -> Result<(), StoreError> {
    let sql = "INSERT INTO raised (subject, at) VALUES (?1, ?2) ON CONFLICT (subject) DO UPDATE SET at = ?2";
    tx.execute(sql, &[subject.into(), now.unix().into()]).map(|_| ())
}

const SELECT: &str = "SELECT d.id, d.statement, s.bytes, s.signature, d.at, d.within, d.passed \
                      FROM drills d JOIN statements s ON s.sha256 = d.statement";

fn reported(row: &Row<'_>) -> Result<Reported, StoreError> {
    let id = row.text(0)?;
    let within = u64::try_from(row.int(5)?).ok().and_then(Seconds::new);
    Ok(Reported {
        signed: statements::signed(row, 2, &row.digest(1)?)?,
        at: Timestamp::from_unix(row.int(4)?),
        within: within.ok_or_else(|| StoreError::nonsense("drills", &id, "within"))?,
        passed: row.int(6)? == 1,
        id: id.parse().map_err(|_| StoreError::nonsense("drills", &id, "id"))?,
    })
}
