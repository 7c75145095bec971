//! The trust documents beside the keys they name: `trust.json` is the first, `trust-2.json` the second, and so on, each
//! with its signature in `.sig`, which stock `ssh-keygen -Y verify -n trust@ssh-jit` can check. None is ever changed, so
//! that whoever knows any of them can follow to the newest.

use std::path::{Path, PathBuf};

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

impl Keys {
    /// The first trust document of a new service: these keys, one of each.
    pub fn first_trust(&self, instance: InstanceId, at: Timestamp) -> Result<Signed, Refusal> {
        let trust = Trust {
            v: Version,
            kind: TrustTag::Trust,
            instance,
            number: 1,
            previous: None,
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

/// Writes a document into the key folder: its signature first, so that a document is there with its signature or not
/// at all.
pub fn write_trust(folder: &Path, trust: &Signed) -> Result<(), KeyError> {
    let number = serde_json::from_slice(trust.bytes()).map(|trust: Trust| trust.number);
    let number = number.map_err(|e| file_error(folder, e.into()))?;
    let document = folder.join(document(number));
    if document.exists() {
        return Err(KeyError::Exists(document));
    }
    let signature = signature(&document);
    files::write_public(&signature, trust.signature().armor().as_bytes()).map_err(|e| file_error(&signature, e))?;
    files::write_public(&document, trust.bytes()).map_err(|e| file_error(&document, e))
}

/// Reads the newest document from the key folder.
pub fn read_trust(folder: &Path) -> Result<Signed, KeyError> {
    read_trusts(folder)?.pop().ok_or_else(|| KeyError::NotAKey(folder.join(document(1))))
}

/// Reads all documents from the key folder, oldest first. Whether they follow from one another, and speak for the keys,
/// is for the service to see.
pub fn read_trusts(folder: &Path) -> Result<Vec<Signed>, KeyError> {
    let mut found = Vec::new();
    for number in 1.. {
        let path = folder.join(document(number));
        if number > 1 && !path.exists() {
            break;
        }
        let read = |path: &Path| std::fs::read(path).map_err(|e| file_error(path, e));
        let (bytes, armor) = (read(&path)?, read(&signature(&path))?);
        let parsed = SshSig::from_armor(&String::from_utf8_lossy(&armor));
        found.push(Signed::new(bytes, parsed.map_err(|_| KeyError::NotASignature(signature(&path)))?));
    }
    Ok(found)
}

fn document(number: u64) -> String {
    if number == 1 { "trust.json".to_owned() } else { format!("trust-{number}.json") }
}

fn signature(document: &Path) -> PathBuf {
    document.with_extension("json.sig")
}
