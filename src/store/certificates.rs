//! Certificates: the bytes that are signed, committed before they are. They are compared with what
//! the statements lead to, and never signed as they stand here.

use crate::domain::certificate::ToBeSigned;
use crate::domain::digest::Digest;
use crate::domain::names::RequestId;
use crate::domain::statement::Serial;
use crate::domain::time::Timestamp;

use super::{StoreError, Tx, Value};

/// What was committed before a certificate was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The serial.
    pub serial: Serial,
    /// The digest of the claim.
    pub claim: Digest,
    /// The digest of the policy of that moment.
    pub policy: Digest,
    /// The bytes to be signed.
    pub tbs: Vec<u8>,
}

/// The next serial of an epoch.
pub fn next_serial(tx: &mut Tx<'_>, epoch: u16) -> Result<Serial, StoreError> {
    next_in(tx, "certificates", epoch)
}

/// The same for certificates that stand in another table.
pub(super) fn next_in(tx: &mut Tx<'_>, table: &str, epoch: u16) -> Result<Serial, StoreError> {
    let (low, high) = (i64::from(epoch) << 48, (i64::from(epoch) + 1) << 48);
    let sql = format!("SELECT max(serial) FROM {table} WHERE serial > ?1 AND serial < ?2");
    let last = tx.first(&sql, &[low.into(), high.into()], |row| row.opt_int(0))?.flatten().unwrap_or(low);
    Serial::from_number(last.cast_unsigned() + 1)
        .ok_or_else(|| StoreError::Database(format!("epoch {epoch} has no serials left")))
}

/// Records what is about to be signed.
pub fn insert(
    tx: &mut Tx<'_>,
    request: &RequestId,
    claim: &Digest,
    policy: &Digest,
    tbs: &ToBeSigned,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO certificates (serial, request, claim, policy, tbs, valid_after) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let serial = Value::Int(tbs.serial().number().cast_signed());
    let begins = tbs.grant().valid_after().unix().into();
    let values = [serial, request.as_str().into(), claim.into(), policy.into(), tbs.bytes().into(), begins];
    tx.execute(sql, &values).map(|_| ())
}

/// What was recorded for a request, under the serial that it has.
pub fn load(tx: &mut Tx<'_>, request: &RequestId, serial: Serial) -> Result<Option<Planned>, StoreError> {
    let sql = "SELECT claim, policy, tbs FROM certificates WHERE serial = ?1 AND request = ?2";
    let values = [Value::Int(serial.number().cast_signed()), request.as_str().into()];
    tx.first(sql, &values, |row| {
        Ok(Planned { serial, claim: row.digest(0)?, policy: row.digest(1)?, tbs: row.blob(2)? })
    })
}

/// The bytes of the certificates that have not ended, each with its end.
pub fn live(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(Vec<u8>, Timestamp)>, StoreError> {
    let sql = "SELECT c.tbs, r.ends FROM certificates c JOIN requests r ON r.id = c.request WHERE r.ends > ?1";
    tx.query(sql, &[now.unix().into()], |row| Ok((row.blob(0)?, Timestamp::from_unix(row.int(1)?))))
}
