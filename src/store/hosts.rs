//! Hosts as they were enrolled, and their certificates. What counts are the signatures, which are verified on every use.

use crate::domain::certificate::ToBeSigned;
use crate::domain::digest::Digest;
use crate::domain::host::HostGrant;
use crate::domain::key::PublicKey;
use crate::domain::names::HostName;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::Serial;
use crate::domain::time::Timestamp;
use crate::domain::verify::Signed;

use super::{Row, StoreError, Tx, Value, statements};

/// A host as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The invitation.
    pub invitation: Signed,
    /// What redeemed it, signed by the host key.
    pub claim: Signed,
    /// The signature of the key that the invitation names over the same bytes.
    pub by_token: SshSig,
}

/// Keeps a host, in place of what was enrolled under its name. The invitation was spent in the same transaction.
pub fn keep(tx: &mut Tx<'_>, host: &HostName, key: &PublicKey, stored: &Stored) -> Result<(), StoreError> {
    remove(tx, host)?;
    let sql = "INSERT INTO hosts (name, key, invitation, claim, by_host, by_token) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (key, invitation) = (key.fingerprint(), stored.invitation.digest());
    let values: [Value<'_>; 6] = [
        host.as_str().into(),
        (&key).into(),
        (&invitation).into(),
        stored.claim.bytes().into(),
        stored.claim.signature().blob().into(),
        stored.by_token.blob().into(),
    ];
    tx.execute(sql, &values).map(|_| ())
}

/// Forgets a host. Gives whether there was one.
pub fn remove(tx: &mut Tx<'_>, host: &HostName) -> Result<bool, StoreError> {
    Ok(tx.execute("DELETE FROM hosts WHERE name = ?1", &[host.as_str().into()])? == 1)
}

/// The host of this name.
pub fn load(tx: &mut Tx<'_>, host: &HostName) -> Result<Option<Stored>, StoreError> {
    tx.first(&format!("{SELECT} WHERE h.name = ?1"), &[host.as_str().into()], stored)
}

/// The host with this key.
pub fn with_key(tx: &mut Tx<'_>, key: &Digest) -> Result<Option<Stored>, StoreError> {
    tx.first(&format!("{SELECT} WHERE h.key = ?1"), &[key.into()], stored)
}

/// All of them, by name.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<(HostName, Stored)>, StoreError> {
    tx.query(&format!("{SELECT} ORDER BY h.name"), &[], |row| {
        let name = row.text(5)?;
        Ok((name.parse().map_err(|_| StoreError::nonsense("hosts", &name, "name"))?, stored(row)?))
    })
}

/// The next serial of an epoch.
pub fn next_serial(tx: &mut Tx<'_>, epoch: u16) -> Result<Serial, StoreError> {
    super::certificates::next_in(tx, "host_certificates", epoch)
}

/// Records what is about to be signed.
pub fn insert_certificate(tx: &mut Tx<'_>, claimed: Timestamp, tbs: &ToBeSigned<HostGrant>) -> Result<(), StoreError> {
    let sql = "INSERT INTO host_certificates (serial, host, claimed, ends, tbs) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (serial, grant) = (Value::Int(tbs.serial().number().cast_signed()), tbs.grant());
    let ends = grant.valid_before().unix().into();
    let values = [serial, grant.host().as_str().into(), claimed.unix().into(), ends, tbs.bytes().into()];
    tx.execute(sql, &values).map(|_| ())
}

/// The bytes of the newest certificate of each host that has not ended, with its end.
pub fn live(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(Vec<u8>, Timestamp)>, StoreError> {
    let sql = "SELECT c.tbs, c.ends FROM host_certificates c WHERE c.ends > ?1 AND c.serial = \
               (SELECT max(serial) FROM host_certificates WHERE host = c.host)";
    tx.query(sql, &[now.unix().into()], |row| Ok((row.blob(0)?, Timestamp::from_unix(row.int(1)?))))
}

/// When the newest certificate of a host was claimed, and when it ends.
pub fn newest_certificate(tx: &mut Tx<'_>, host: &HostName) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
    let sql = "SELECT claimed, ends FROM host_certificates WHERE host = ?1 ORDER BY serial DESC LIMIT 1";
    tx.first(sql, &[host.as_str().into()], |row| {
        Ok((Timestamp::from_unix(row.int(0)?), Timestamp::from_unix(row.int(1)?)))
    })
}

const SELECT: &str = "SELECT h.claim, h.by_host, h.by_token, s.bytes, s.signature, h.name, h.invitation \
                      FROM hosts h JOIN statements s ON s.sha256 = h.invitation";

fn stored(row: &Row<'_>) -> Result<Stored, StoreError> {
    let invitation = row.digest(6)?;
    let signature = |column, name| {
        let signature = SshSig::from_blob(&row.blob(column)?);
        signature.map_err(|_| StoreError::nonsense("hosts", &invitation, name))
    };
    Ok(Stored {
        claim: Signed::new(row.blob(0)?, signature(1, "by_host")?),
        by_token: signature(2, "by_token")?,
        invitation: statements::signed(row, 3, &invitation)?,
    })
}
