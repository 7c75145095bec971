//! Facts: the messages that stated them, as they came, and where to find them. What a message says is read from its
//! bytes, once it is verified again.

use crate::domain::digest::Digest;
use crate::domain::names::{FactName, FactValue, RequestId, SourceName, WebhookId};
use crate::domain::time::Timestamp;
use crate::domain::webhook::Delivery;

use super::{Row, StoreError, Tx, Value};

/// Keeps a message. Its source's id for it must be new.
pub fn keep(tx: &mut Tx<'_>, message: &Delivery) -> Result<(), StoreError> {
    let last = tx.first("SELECT max(number) FROM fact_messages", &[], |row| row.opt_int(0))?.flatten().unwrap_or(0);
    let sql = "INSERT INTO fact_messages (number, sha256, source, id, sent, body, signature) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let digest = message.digest();
    let values: [Value<'_>; 7] = [
        (last + 1).into(),
        (&digest).into(),
        message.from.as_str().into(),
        message.id.as_str().into(),
        message.sent.unix().into(),
        message.body.as_slice().into(),
        message.signature.as_str().into(),
    ];
    tx.execute(sql, &values).map(|_| ())
}

/// What a source sent under this id.
pub fn sent(tx: &mut Tx<'_>, source: &SourceName, id: &WebhookId) -> Result<Option<Delivery>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM fact_messages m WHERE m.source = ?1 AND m.id = ?2");
    tx.first(&sql, &[source.as_str().into(), id.as_str().into()], delivery)
}

/// A message by the SHA-256 of what was signed. The bytes must have it: the store may be lying.
pub fn load(tx: &mut Tx<'_>, digest: &Digest) -> Result<Delivery, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM fact_messages m WHERE m.sha256 = ?1");
    let found = tx.first(&sql, &[digest.into()], delivery)?.filter(|message| message.digest() == *digest);
    found.ok_or_else(|| StoreError::nonsense("fact_messages", digest, "sha256"))
}

/// The latest message on a name.
pub fn latest(tx: &mut Tx<'_>, name: &FactName) -> Result<Option<Delivery>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM facts f JOIN fact_messages m ON m.sha256 = f.message WHERE f.name = ?1");
    tx.first(&sql, &[name.as_str().into()], delivery)
}

/// Makes a message that was kept the latest on a name.
pub fn point(tx: &mut Tx<'_>, name: &FactName, message: &Digest) -> Result<(), StoreError> {
    let sql = "INSERT INTO facts (name, message) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET message = ?2";
    tx.execute(sql, &[name.as_str().into(), message.into()]).map(|_| ())
}

/// The messages since a moment, in the order in which they came. One that makes no sense must not hide the others: it
/// is left out, and the operator told.
pub fn since(tx: &mut Tx<'_>, moment: Timestamp) -> Result<Vec<Delivery>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM fact_messages m WHERE m.sent >= ?1 ORDER BY m.number");
    let found = tx.query(&sql, &[moment.unix().into()], |row| Ok::<_, StoreError>(delivery(row)))?;
    let told = |error: &StoreError| tracing::error!(%error, "a message of facts is left out");
    Ok(found.into_iter().filter_map(|message| message.inspect_err(told).ok()).collect())
}

/// Records that a request's certificate hangs on a fact.
pub fn hang(tx: &mut Tx<'_>, request: &RequestId, (fact, value): (&FactName, &FactValue)) -> Result<(), StoreError> {
    let sql = "INSERT INTO hanging (fact, value, request) VALUES (?1, ?2, ?3)";
    tx.execute(sql, &[fact.as_str().into(), value.as_str().into(), request.as_str().into()]).map(|_| ())
}

/// The requests that give access and hang on facts, each with one of the facts and what was so; all of them, or those
/// of one fact.
pub fn hanging(tx: &mut Tx<'_>, fact: Option<&FactName>) -> Result<Vec<(FactName, String, RequestId)>, StoreError> {
    let which = if fact.is_some() { "h.fact = ?1" } else { "?1 IS NULL" };
    let sql = format!(
        "SELECT h.fact, h.request, h.value FROM hanging h JOIN requests r ON r.id = h.request \
         WHERE r.state = 'active' AND {which} ORDER BY h.request"
    );
    tx.query(&sql, &[fact.map(FactName::as_str).into()], |row| {
        let (fact, request) = (row.text(0)?, row.text(1)?);
        let nonsense = |column| StoreError::nonsense("hanging", &request, column);
        Ok((
            fact.parse().map_err(|_| nonsense("fact"))?,
            row.text(2)?,
            request.parse().map_err(|_| nonsense("request"))?,
        ))
    })
}

const COLUMNS: &str = "m.source, m.id, m.sent, m.body, m.signature";

fn delivery(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let id = row.text(1)?;
    let nonsense = |column| StoreError::nonsense("fact_messages", &id, column);
    Ok(Delivery {
        from: row.text(0)?.parse().map_err(|_| nonsense("source"))?,
        id: id.parse().map_err(|_| nonsense("id"))?,
        sent: Timestamp::from_unix(row.int(2)?),
        body: row.blob(3)?,
        signature: row.text(4)?,
    })
}
