//! What a host asks a service for: a certificate of its own, by an invitation or because its key is known.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::host::{HostClaim, HostClaimTag, NAMESPACE};
use crate::domain::names::HostName;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{Invitation, Version};
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::domain::verify::Signed;
use crate::wire::{CertifiedHost, HostClaimText, RedeemedText, SignedText};

use super::api::{Api, ApiError};
use super::certificate::{OfHost, Surprise};
use super::identity::{Identity, IdentityError};
use super::subject::{Subject, SubjectError};

/// An invitation as it travels to its host: what an administrator signed, and the secret half of the key that redeems
/// it, unless that is the host's own.
pub struct Token {
    invitation: Signed,
    secret: Option<Zeroizing<[u8; 32]>>,
}

/// What is no token, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[error("the token cannot be read: {0}")]
pub struct BadToken(String);

/// Why a host has no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum NotCertified {
    /// The host's key does not sign.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// Nor does the token's.
    #[error("the token's key does not sign: {0}")]
    Token(#[from] SubjectError),
    /// The service gives none.
    #[error(transparent)]
    Service(#[from] ApiError),
    /// It gave another than was asked for.
    #[error(transparent)]
    Surprise(#[from] Surprise),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenText {
    invitation: SignedText,
    /// 32 bytes, in base64.
    secret: Option<String>,
}

impl Token {
    /// An invitation, with the seed of an Ed25519 key where it names one that was made for it.
    pub fn new(invitation: Signed, secret: Option<Zeroizing<[u8; 32]>>) -> Self {
        Self { invitation, secret }
    }

    /// Reads one line. Nothing is verified.
    pub fn parse(line: &str) -> Result<Self, BadToken> {
        let bad = |e: &dyn std::fmt::Display| BadToken(e.to_string());
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(line.trim()).map_err(|e| bad(&e))?);
        let text: TokenText = serde_json::from_slice(&json).map_err(|e| bad(&e))?;
        let invitation = Signed::try_from(&text.invitation).map_err(|e| bad(&e))?;
        invitation.claims::<Invitation>().map_err(|e| bad(&e))?;
        let seed = |text: String| {
            let text = Zeroizing::new(text);
            let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|e| bad(&e))?);
            let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|e| bad(&e))?;
            Ok(Zeroizing::new(seed))
        };
        Ok(Self { invitation, secret: text.secret.map(seed).transpose()? })
    }

    /// As one line.
    pub fn to_line(&self) -> Zeroizing<String> {
        let secret = self.secret.as_ref().map(|seed| STANDARD.encode(**seed));
        let text = TokenText { invitation: (&self.invitation).into(), secret };
        // Strings always serialize.
        let json = Zeroizing::new(serde_json::to_vec(&text).unwrap_or_default());
        drop(text.secret.map(Zeroizing::new));
        Zeroizing::new(URL_SAFE_NO_PAD.encode(json.as_slice()))
    }

    /// What it says.
    pub fn invitation(&self) -> Result<Invitation, Refusal> {
        self.invitation.claims()
    }

    /// Whether whoever reads it can redeem it.
    pub fn is_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// The signature that redeems it over a claim that the host signed.
    fn redeem(&self, claim: &Signed) -> Result<SshSig, SubjectError> {
        match &self.secret {
            None => Ok(claim.signature().clone()),
            Some(seed) => Subject::new(seed)?.sign(NAMESPACE, claim.bytes()),
        }
    }
}

impl Api {
    /// Has a host certified that signs with its key, at this time of the service's. What comes back is checked.
    pub fn certify_host(
        &self,
        (trust, host, now): (&Trust, &HostName, Timestamp),
        key: &mut Identity,
        token: Option<&Token>,
    ) -> Result<OfHost, NotCertified> {
        let claim = HostClaim {
            v: Version,
            kind: HostClaimTag::HostClaim,
            instance: trust.instance.clone(),
            host: host.clone(),
            key: key.public_key().clone(),
            invitation: token.map(|token| token.invitation.digest()),
            at: now,
        };
        // Names, a key and a time always serialize.
        let bytes = serde_json::to_vec(&claim).unwrap_or_default();
        let signature = key.sign(NAMESPACE, &bytes)?;
        let signed = Signed::new(bytes, signature);
        let redeems = token.map(|token| {
            let signature = token.redeem(&signed)?.armor();
            Ok::<_, SubjectError>(RedeemedText { invitation: (&token.invitation).into(), signature })
        });
        let SignedText { text, signature } = (&signed).into();
        let posted = HostClaimText { text, signature, redeems: redeems.transpose()? };
        let certified: CertifiedHost = self.post("/v1/host-certificates", &posted)?;
        let checked = OfHost::read(&certified.certificate, &trust.host_ca, key.public_key(), host)?;
        if checked.valid_before <= now { Err(Surprise("window").into()) } else { Ok(checked) }
    }
}
