//! Uses: the connections that certificates opened, as hosts say.

use crate::domain::names::{HostName, RequestId};
use crate::domain::time::Timestamp;
use crate::domain::usage::{Connection, Seen};

use super::{Row, StoreError, Tx, Value};

/// Keeps a use. Gives whether this host had not said it before.
pub fn keep(
    tx: &mut Tx<'_>,
    host: &HostName,
    connection: &Connection,
    request: Option<&RequestId>,
    certificate: &[u8],
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO uses (host, session, request, certificate, account, source, began, ended) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (host, session) DO NOTHING";
    let values: [Value<'_>; 8] = [
        host.as_str().into(),
        (&connection.session).into(),
        request.map(RequestId::as_str).into(),
        certificate.into(),
        connection.account.as_str().into(),
        connection.source.as_str().into(),
        connection.began.unix().into(),
        connection.ended.map(Timestamp::unix).into(),
    ];
    if tx.execute(sql, &values)? == 1 {
        return Ok(true);
    }
    let sql = "UPDATE uses SET ended = ?3 WHERE host = ?1 AND session = ?2 AND ended IS NULL";
    let ended = connection.ended.map(Timestamp::unix).into();
    tx.execute(sql, &[host.as_str().into(), (&connection.session).into(), ended])?;
    Ok(false)
}

/// The uses of one request's certificate, the first one first.
pub fn of_request(tx: &mut Tx<'_>, id: &RequestId) -> Result<Vec<Seen>, StoreError> {
    tx.query(&format!("{SELECT} WHERE request = ?1 ORDER BY began, session"), &[id.as_str().into()], seen)
}

/// The uses of certificates that the log does not know, the newest first: each with the certificate.
pub fn unknown(tx: &mut Tx<'_>, most: u32) -> Result<Vec<(Seen, Vec<u8>)>, StoreError> {
    let sql = format!("{SELECT} WHERE request IS NULL ORDER BY began DESC LIMIT ?1");
    tx.query(&sql, &[i64::from(most).into()], |row| Ok((seen(row)?, row.blob(5)?)))
}

/// The request, or the broken glass, for which a certificate of this serial was made.
pub fn made_for(tx: &mut Tx<'_>, serial: u64) -> Result<Option<RequestId>, StoreError> {
    let Ok(number) = i64::try_from(serial) else { return Ok(None) };
    let sql = "SELECT request FROM certificates WHERE serial = ?1 UNION SELECT id FROM emergencies WHERE serial = ?1";
    tx.first(sql, &[number.into()], |row| {
        row.text(0)?.parse().map_err(|_| StoreError::nonsense("certificates", &serial, "request"))
    })
}

const SELECT: &str = "SELECT host, account, source, began, ended, certificate FROM uses";

fn seen(row: &Row<'_>) -> Result<Seen, StoreError> {
    let host = row.text(0)?;
    Ok(Seen {
        account: row.text(1)?,
        source: row.text(2)?,
        began: Timestamp::from_unix(row.int(3)?),
        ended: row.opt_int(4)?.map(Timestamp::from_unix),
        host: host.parse().map_err(|_| StoreError::nonsense("uses", &host, "host"))?,
    })
}
