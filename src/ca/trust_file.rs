//! The trust document beside the keys it names: `trust.json` and `trust.json.sig`, which stock
//! `ssh-keygen -Y verify -n trust@ssh-jit` can check.

use std::path::Path;

use crate::domain::names::InstanceId;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::Version;
use crate::domain::time::Timestamp;
use crate::domain::trust::{Trust, TrustTag};
use crate::domain::verify::Signed;
use crate::files;

use super::keys::file_error;
use super::{KeyError, Keys};

const DOCUMENT: &str = "trust.json";
const SIGNATURE: &str = "trust.json.sig";

impl Keys {
    /// The first trust document of a new service: these keys, one of each.
    pub fn first_trust(&self, instance: InstanceId, at: Timestamp) -> Result<Signed, Refusal> {
        let trust = Trust {
            v: Version,
            kind: TrustTag::Trust,
            instance,
            number: 1,
            user_ca: vec![self.user_ca.public().clone()],
            break_glass_ca: vec![self.break_glass_ca.public().clone()],
            host_ca: vec![self.host_ca.public().clone()],
            krl_key: self.krl.public().clone(),
            journal_key: self.journal.public().clone(),
            log_key: self.log.public().clone(),
            at,
        };
        let document = serde_json::to_vec(&trust).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
        self.user_ca.vouch(document)
    }
}

/// Writes the document into the key folder.
pub fn write_trust(folder: &Path, trust: &Signed) -> Result<(), KeyError> {
    let (document, signature) = (folder.join(DOCUMENT), folder.join(SIGNATURE));
    files::write_public(&document, trust.bytes()).map_err(|e| file_error(&document, e))?;
    files::write_public(&signature, trust.signature().armor().as_bytes()).map_err(|e| file_error(&signature, e))
}

/// Reads the document from the key folder. Whether it speaks for the keys is for the service to see.
pub fn read_trust(folder: &Path) -> Result<Signed, KeyError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|e| file_error(&path, e))
    };
    let (document, armor) = (read(DOCUMENT)?, read(SIGNATURE)?);
    let signature = SshSig::from_armor(&String::from_utf8_lossy(&armor));
    let signature = signature.map_err(|_| KeyError::NotAKey(folder.join(SIGNATURE)))?;
    Ok(Signed::new(document, signature))
}
