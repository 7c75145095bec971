//! Sessions for reading, known by the SHA-256 of their bearers only.

use std::collections::BTreeSet;

use crate::domain::digest::Digest;
use crate::domain::names::{GroupName, PersonName};
use crate::domain::time::Timestamp;

use super::{Row, StoreError, Tx, Value};

/// What a bearer stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who reads.
    pub person: PersonName,
    /// On whose word.
    pub opener: Opener,
    /// When it ends unless it is used.
    pub until: Timestamp,
    /// When it ends in any case: never before `until`.
    pub ends: Timestamp,
}

/// What a session rests on, and is worth nothing without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opener {
    /// A statement that this key or passkey signed.
    Key(Digest),
    /// The word of the identity provider.
    Provider {
        /// Which one.
        issuer: String,
        /// The groups that it claimed.
        groups: BTreeSet<GroupName>,
    },
}

/// Keeps a session, and forgets those that have ended.
pub fn open(tx: &mut Tx<'_>, bearer: &Digest, session: &Session, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM sessions WHERE until < ?1", &[now.unix().into()])?;
    let (signer, provider, groups) = match &session.opener {
        Opener::Key(signer) => (Value::from(signer), Value::Null, String::new()),
        // No group's name has a space in it.
        Opener::Provider { issuer, groups } => {
            (Value::Null, issuer.as_str().into(), groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(" "))
        }
    };
    let sql = "INSERT INTO sessions (sha256, person, signer, provider, groups, until, ends) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (person, until, ends) = (session.person.as_str().into(), session.until.unix(), session.ends.unix());
    let values = [bearer.into(), person, signer, provider, groups.as_str().into(), until.into(), ends.into()];
    tx.execute(sql, &values).map(|_| ())
}

/// The session of a bearer that has not ended.
pub fn find(tx: &mut Tx<'_>, bearer: &Digest, now: Timestamp) -> Result<Option<Session>, StoreError> {
    let sql = "SELECT person, until, ends, signer, provider, groups FROM sessions WHERE sha256 = ?1 AND until >= ?2";
    tx.first(sql, &[bearer.into(), now.unix().into()], |row| {
        let person = row.text(0)?.parse().map_err(|_| StoreError::nonsense("sessions", bearer, "person"))?;
        let (until, ends) = (Timestamp::from_unix(row.int(1)?), Timestamp::from_unix(row.int(2)?));
        Ok(Session { person, opener: opener(row, bearer)?, until, ends })
    })
}

fn opener(row: &Row<'_>, bearer: &Digest) -> Result<Opener, StoreError> {
    match (row.opt_blob(3)?, row.opt_text(4)?) {
        (Some(_), None) => Ok(Opener::Key(row.digest(3)?)),
        (None, Some(issuer)) => {
            let groups = row.text(5)?.split_whitespace().map(str::parse).collect::<Result<_, _>>();
            let groups = groups.map_err(|_| StoreError::nonsense("sessions", bearer, "groups"))?;
            Ok(Opener::Provider { issuer, groups })
        }
        _ => Err(StoreError::nonsense("sessions", bearer, "signer")),
    }
}

/// Moves the end of a session that was used. One that has ended or was signed out meanwhile stays so.
pub fn prolong(tx: &mut Tx<'_>, bearer: &Digest, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE sessions SET until = ?2 WHERE sha256 = ?1 AND until >= ?3 AND until < ?2 AND ends >= ?2";
    tx.execute(sql, &[bearer.into(), until.unix().into(), now.unix().into()]).map(|_| ())
}

/// Forgets a session.
pub fn close(tx: &mut Tx<'_>, bearer: &Digest) -> Result<(), StoreError> {
    tx.execute("DELETE FROM sessions WHERE sha256 = ?1", &[bearer.into()]).map(|_| ())
}
