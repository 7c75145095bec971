//! Certificates: the bytes that are signed, committed before they are. They are compared with what
//! the statements lead to, and never signed as they stand here.

use crate::domain::certificate::ToBeSigned;
use crate::domain::digest::Digest;
use crate::domain::names::RequestId;
use crate::domain::statement::Serial;

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
    let (low, high) = (i64::from(epoch) << 48, (i64::from(epoch) + 1) << 48);
    let sql = "SELECT max(serial) FROM certificates WHERE serial > ?1 AND serial < ?2";
    let last = tx.first(sql, &[low.into(), high.into()], |row| row.opt_int(0))?.flatten().unwrap_or(low);
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
    let sql = "INSERT INTO certificates (serial, request, claim, policy, tbs) VALUES (?1, ?2, ?3, ?4, ?5)";
    let serial = Value::Int(tbs.serial().number().cast_signed());
    tx.execute(sql, &[serial, request.as_str().into(), claim.into(), policy.into(), tbs.bytes().into()]).map(|_| ())
}

/// What was recorded for a request.
pub fn load(tx: &mut Tx<'_>, request: &RequestId) -> Result<Option<Planned>, StoreError> {
    let sql = "SELECT serial, claim, policy, tbs FROM certificates WHERE request = ?1";
    tx.first(sql, &[request.as_str().into()], |row| {
        let serial = Serial::from_number(row.int(0)?.cast_unsigned());
        let serial = serial.ok_or_else(|| StoreError::nonsense("certificates", request, "serial"))?;
        Ok(Planned { serial, claim: row.digest(1)?, policy: row.digest(2)?, tbs: row.blob(3)? })
    })
}
