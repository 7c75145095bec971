//! What ended before its time: for hosts, that must not let it in any more, and for whoever ends it.

use crate::domain::digest::Digest;
use crate::domain::names::RequestId;
use crate::domain::statement::Serial;
use crate::domain::time::Timestamp;

use super::{StoreError, Tx, Value};

const KRL_NUMBER: &str = "krl-number";

/// Requests that were given back or revoked and whose certificates end after a moment, each with its serial and end. A
/// serial that makes no sense must not hide the others: it is left out, and the operator told.
pub fn cut(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(RequestId, Serial, Timestamp)>, StoreError> {
    // In the words of the partial index.
    let sql = "SELECT id, serial, ends FROM requests WHERE state IN ('returned', 'revoked') AND ends > ?1";
    let found = tx.query(sql, &[now.unix().into()], |row| {
        let name = row.text(0)?;
        let nonsense = |column| StoreError::nonsense("requests", &name, column);
        let parsed = || {
            let serial = Serial::from_number(row.int(1)?.cast_unsigned()).ok_or_else(|| nonsense("serial"))?;
            Ok((name.parse().map_err(|_| nonsense("id"))?, serial, Timestamp::from_unix(row.int(2)?)))
        };
        Ok::<_, StoreError>(parsed())
    })?;
    let told = |error: &StoreError| tracing::error!(%error, "a serial is not revoked on hosts");
    Ok(found.into_iter().filter_map(|row| row.inspect_err(told).ok()).collect())
}

/// Records that broken glass was revoked. Gives whether it was not before.
pub fn cut_emergency(tx: &mut Tx<'_>, id: &RequestId, revocation: &Digest) -> Result<bool, StoreError> {
    let sql = "INSERT INTO revoked_emergencies (id, revocation) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
    Ok(tx.execute(sql, &[id.as_str().into(), revocation.into()])? == 1)
}

/// The number for the next list of revoked certificates: above every earlier one, and no less than the time, so that
/// hosts take it from a service that was restored from an older copy, too.
pub fn next_number(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    let last = tx.first("SELECT value FROM meta WHERE name = ?1", &[KRL_NUMBER.into()], |row| row.text(0))?;
    let last: u64 = match last {
        Some(text) => text.parse().map_err(|_| StoreError::nonsense("meta", &KRL_NUMBER, "value"))?,
        None => 0,
    };
    let above = last + 1;
    let next = above.max(now.unix().unsigned_abs());
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
    let text = next.to_string();
    let values: [Value<'_>; 2] = [KRL_NUMBER.into(), text.as_str().into()];
    tx.execute(sql, &values)?;
    Ok(next)
}
