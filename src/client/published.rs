//! What a service publishes for everybody, as the domain has it: its trust document and its list of revoked
//! certificates. Only trust documents are verified here.

use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::digest::Digest;
use crate::domain::names::InstanceId;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::time::Timestamp;
use crate::domain::trust::Chain;
use crate::domain::verify::Signed;
use crate::files;
use crate::wire::{KrlView, Now, SignedText};

use super::api::{Api, ApiError};

/// Why the service's newest trust document is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Unfollowed {
    /// The service gave nothing.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What it gave does not follow.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Api {
    /// Which instance answers, and the number of its trust document.
    pub fn instance(&self) -> Result<(InstanceId, u64), ApiError> {
        let now: Now = self.get("/v1/now")?;
        Ok((now.instance, now.trust))
    }

    /// Which instance answers, and what time it is there.
    pub fn time(&self) -> Result<(InstanceId, Timestamp), ApiError> {
        let now: Now = self.get("/v1/now")?;
        Ok((now.instance, now.now.second()))
    }

    /// Follows the service from the trust documents that are believed to its newest, each because of the one before. At
    /// first contact its newest is believed, and those that this one leads back to.
    pub fn follow(&self, believed: Option<Chain>) -> Result<Chain, Unfollowed> {
        let after = believed.as_ref().map_or(0, |chain| chain.newest().number);
        let texts: Vec<SignedText> = self.get(&format!("/v1/trusts?after={after}"))?;
        let documents = texts.iter().map(Signed::try_from).collect::<Result<Vec<_>, _>>();
        let documents = documents.map_err(|e| self.nonsense(&e))?;
        let Some(newest) = documents.last() else {
            return Err(
                Refusal::Certificate { what: "there is no newer trust document, though one was announced" }.into()
            );
        };
        Ok(match believed {
            Some(chain) => chain.forward(&documents)?,
            None => Chain::first_contact(newest.clone())?.backward(&documents),
        })
    }

    /// The list of revoked certificates, signed over its bytes. `None` where it is the one with the digest `known`,
    /// still after `wait`.
    pub fn krl(&self, known: Option<Digest>, wait: Duration) -> Result<Option<Signed>, ApiError> {
        let tag = known.map(|digest| format!("\"{digest}\""));
        let answer: Option<KrlView> = self.get_unless(&format!("/v1/krl?wait={}", wait.as_secs()), tag.as_deref())?;
        let Some(KrlView { krl, signature, .. }) = answer else { return Ok(None) };
        let bytes = STANDARD.decode(krl).map_err(|e| self.nonsense(&e))?;
        let signature = SshSig::from_armor(&signature).map_err(|e| self.nonsense(&e))?;
        Ok(Some(Signed::new(bytes, signature)))
    }
}

/// A signed document as it is kept in a file.
pub fn to_json(signed: &Signed) -> Vec<u8> {
    // Two strings always serialize.
    serde_json::to_vec(&SignedText::from(signed)).unwrap_or_default()
}

/// The same, read again.
pub fn from_json(bytes: &[u8]) -> Result<Signed, Refusal> {
    let text: SignedText = serde_json::from_slice(bytes).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
    Signed::try_from(&text)
}

/// The same from a file that its owner alone can write, ours or root's. `None` where there is none.
pub fn at(path: &Path) -> io::Result<Option<Signed>> {
    let named = |e: &dyn std::fmt::Display| io::Error::other(format!("{}: {e}", path.display()));
    match files::read_trusted(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(named(&e)),
        Ok(text) => from_json(text.as_bytes()).map(Some).map_err(|e| named(&e)),
    }
}
