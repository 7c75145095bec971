//! How far hosts are, as each said last.

use crate::domain::names::HostName;
use crate::domain::sshsig::SshSig;
use crate::domain::time::Timestamp;
use crate::domain::verify::Signed;

use super::{StoreError, Tx, Value};

/// Keeps what a host says, unless it said something later before.
pub fn keep(tx: &mut Tx<'_>, host: &HostName, at: Timestamp, signed: &Signed) -> Result<(), StoreError> {
    let sql = "INSERT INTO host_statuses (host, bytes, signature, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (host) DO \
               UPDATE SET bytes = ?2, signature = ?3, at = ?4 WHERE host_statuses.at <= ?4";
    let values: [Value<'_>; 4] =
        [host.as_str().into(), signed.bytes().into(), signed.signature().blob().into(), at.unix().into()];
    tx.execute(sql, &values).map(|_| ())
}

/// What each host said last. What cannot be read was said by nobody.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<Signed>, StoreError> {
    let found = tx.query("SELECT bytes, signature FROM host_statuses ORDER BY host", &[], |row| {
        let (bytes, signature) = (row.blob(0)?, SshSig::from_blob(&row.blob(1)?));
        Ok::<_, StoreError>(signature.ok().map(|signature| Signed::new(bytes, signature)))
    })?;
    Ok(found.into_iter().flatten().collect())
}
