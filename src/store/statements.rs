//! Statements as they came: bytes and signature, each once. Also the counters of the FIDO keys that
//! signed them.

use crate::domain::digest::Digest;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::Kind;
use crate::domain::verify::Signed;

use super::{Row, StoreError, Tx, Value};

/// Why a statement could not be spent.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// It, or its FIDO counter, was used before.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps a verified statement, and refuses it when the same bytes were spent before, or when its FIDO
/// key's counter did not rise (both zero passes: synced passkeys do not count).
pub fn spend(tx: &mut Tx<'_>, kind: Kind, signed: &Signed) -> Result<(), SpendError> {
    match keep(tx, kind, signed) {
        Err(StoreError::Taken(_)) => return Err(Refusal::Replayed.into()),
        other => other?,
    }
    let Some(counter) = signed.signature().counter() else { return Ok(()) };
    let key = signed.signature().key().fingerprint();
    let last = tx.first("SELECT counter FROM counters WHERE sha256 = ?1", &[(&key).into()], |row| row.int(0))?;
    match last.map(u32::try_from) {
        Some(Ok(last)) if counter <= last && (counter, last) != (0, 0) => {
            return Err(Refusal::Counter { last, got: counter }.into());
        }
        Some(Err(_)) => return Err(StoreError::nonsense("counters", &key, "counter").into()),
        _ => {}
    }
    let sql = "INSERT INTO counters (sha256, counter) VALUES (?1, ?2) ON CONFLICT (sha256) DO UPDATE SET counter = ?2";
    tx.execute(sql, &[(&key).into(), i64::from(counter).into()])?;
    Ok(())
}

/// Keeps a statement without asking for its counter: for what the journal has judged already.
pub fn keep(tx: &mut Tx<'_>, kind: Kind, signed: &Signed) -> Result<(), StoreError> {
    let sql = "INSERT INTO statements (sha256, kind, bytes, signature) VALUES (?1, ?2, ?3, ?4)";
    let digest = signed.digest();
    let values: [Value<'_>; 4] =
        [(&digest).into(), kind.as_str().into(), signed.bytes().into(), signed.signature().blob().into()];
    tx.execute(sql, &values).map(|_| ())
}

/// Keeps a statement that may be there already.
pub fn keep_again(tx: &mut Tx<'_>, kind: Kind, signed: &Signed) -> Result<(), StoreError> {
    let sql = "INSERT INTO statements (sha256, kind, bytes, signature) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (sha256) DO NOTHING";
    let digest = signed.digest();
    let values: [Value<'_>; 4] =
        [(&digest).into(), kind.as_str().into(), signed.bytes().into(), signed.signature().blob().into()];
    tx.execute(sql, &values).map(|_| ())
}

/// A statement by its digest. The bytes must have it: the store may be lying.
pub fn load(tx: &mut Tx<'_>, digest: &Digest) -> Result<Signed, StoreError> {
    let sql = "SELECT bytes, signature FROM statements WHERE sha256 = ?1";
    let found = tx.first(sql, &[digest.into()], |row| signed(row, 0, digest))?;
    found.ok_or_else(|| StoreError::nonsense("statements", digest, "sha256"))
}

/// A statement from two columns of a row: bytes, then signature.
pub fn signed(row: &Row<'_>, column: usize, digest: &Digest) -> Result<Signed, StoreError> {
    let signature = SshSig::from_blob(&row.blob(column + 1)?);
    let signature = signature.map_err(|_| StoreError::nonsense("statements", digest, "signature"))?;
    let signed = Signed::new(row.blob(column)?, signature);
    if signed.digest() == *digest { Ok(signed) } else { Err(StoreError::nonsense("statements", digest, "bytes")) }
}
