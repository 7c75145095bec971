//! Passkeys, as they were enrolled. What counts is the enrolment's two signatures, which are verified
//! on every use.

use crate::domain::digest::Digest;
use crate::domain::names::PersonName;
use crate::domain::sshsig::SshSig;
use crate::domain::verify::Signed;

use super::{Row, StoreError, Tx, Value, statements};

/// A passkey as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The browser's name for it.
    pub credential: Vec<u8>,
    /// The enrolment, signed by the SSH key.
    pub signed: Signed,
    /// The passkey's signature over the same bytes.
    pub by_passkey: SshSig,
}

/// Keeps a passkey. Its enrolment was spent in the same transaction.
pub fn insert(tx: &mut Tx<'_>, key: &Digest, person: &PersonName, passkey: &Stored) -> Result<(), StoreError> {
    let sql = "INSERT INTO passkeys (sha256, person, credential, enrolment, signature) VALUES (?1, ?2, ?3, ?4, ?5)";
    let enrolment = passkey.signed.digest();
    let values: [Value<'_>; 5] = [
        key.into(),
        person.as_str().into(),
        passkey.credential.as_slice().into(),
        (&enrolment).into(),
        passkey.by_passkey.blob().into(),
    ];
    tx.execute(sql, &values).map(|_| ())
}

/// Takes a passkey of this person's away. Gives whether there was one.
pub fn remove(tx: &mut Tx<'_>, key: &Digest, person: &PersonName, removal: &Digest) -> Result<bool, StoreError> {
    let sql = "UPDATE passkeys SET removal = ?3 WHERE sha256 = ?1 AND person = ?2 AND removal IS NULL";
    Ok(tx.execute(sql, &[key.into(), person.as_str().into(), removal.into()])? == 1)
}

/// The passkey with this fingerprint, unless it was removed.
pub fn load(tx: &mut Tx<'_>, key: &Digest) -> Result<Option<Stored>, StoreError> {
    tx.first(&format!("{SELECT} WHERE p.sha256 = ?1 AND p.removal IS NULL"), &[key.into()], stored)
}

/// The passkey with this fingerprint, removed or not: for whoever proves what it once signed.
pub fn load_any(tx: &mut Tx<'_>, key: &Digest) -> Result<Option<Stored>, StoreError> {
    tx.first(&format!("{SELECT} WHERE p.sha256 = ?1"), &[key.into()], stored)
}

/// A person's passkeys that were not removed.
pub fn of_person(tx: &mut Tx<'_>, person: &PersonName) -> Result<Vec<Stored>, StoreError> {
    let sql = format!("{SELECT} WHERE p.person = ?1 AND p.removal IS NULL ORDER BY p.sha256");
    tx.query(&sql, &[person.as_str().into()], stored)
}

const SELECT: &str = "SELECT p.credential, p.signature, p.enrolment, s.bytes, s.signature \
                      FROM passkeys p JOIN statements s ON s.sha256 = p.enrolment";

fn stored(row: &Row<'_>) -> Result<Stored, StoreError> {
    let digest = row.digest(2)?;
    let by_passkey = SshSig::from_blob(&row.blob(1)?);
    Ok(Stored {
        credential: row.blob(0)?,
        by_passkey: by_passkey.map_err(|_| StoreError::nonsense("passkeys", &digest, "signature"))?,
        signed: statements::signed(row, 3, &digest)?,
    })
}
