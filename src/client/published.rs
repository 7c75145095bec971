//! What a service publishes for everybody, as the domain has it: its trust document and its list of revoked
//! certificates. Nothing is verified here.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::digest::Digest;
use crate::domain::names::InstanceId;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::time::Timestamp;
use crate::domain::verify::Signed;
use crate::wire::{KrlView, Now, SignedText};

use super::api::{Api, ApiError};

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

    /// The trust document.
    pub fn trust(&self) -> Result<Signed, ApiError> {
        let text: SignedText = self.get("/v1/trust")?;
        Signed::try_from(&text).map_err(|e| self.nonsense(&e))
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
