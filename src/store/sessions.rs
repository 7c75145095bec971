//! Bearers for reading, known by their SHA-256 only.

use crate::domain::digest::Digest;
use crate::domain::names::PersonName;
use crate::domain::time::Timestamp;

use super::{StoreError, Tx};

/// What a bearer stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who bought it.
    pub person: PersonName,
    /// With which key: the bearer is worth nothing once the policy has dropped the key.
    pub signer: Digest,
    /// When it ends.
    pub until: Timestamp,
}

/// Keeps a bearer, and forgets those that have ended.
pub fn open(tx: &mut Tx<'_>, bearer: &Digest, session: &Session, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM sessions WHERE until < ?1", &[now.unix().into()])?;
    let sql = "INSERT INTO sessions (sha256, person, signer, until) VALUES (?1, ?2, ?3, ?4)";
    let until = session.until.unix().into();
    tx.execute(sql, &[bearer.into(), session.person.as_str().into(), (&session.signer).into(), until]).map(|_| ())
}

/// The session of a bearer that has not ended.
pub fn find(tx: &mut Tx<'_>, bearer: &Digest, now: Timestamp) -> Result<Option<Session>, StoreError> {
    let sql = "SELECT person, signer, until FROM sessions WHERE sha256 = ?1 AND until >= ?2";
    tx.first(sql, &[bearer.into(), now.unix().into()], |row| {
        let person = row.text(0)?.parse().map_err(|_| StoreError::nonsense("sessions", bearer, "person"))?;
        Ok(Session { person, signer: row.digest(1)?, until: Timestamp::from_unix(row.int(2)?) })
    })
}
