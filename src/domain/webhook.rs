//! Webhooks that come in, as Standard Webhooks has them: an id, the moment of sending and a body, signed together
//! with a shared secret (`v1`, HMAC-SHA256) or by the sender's own key (`v1a`, Ed25519).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::digest::Digest;
use super::names::{Invalid, SourceName, WebhookId};
use super::refusal::Refusal;
use super::time::Timestamp;
use super::verify::VerifiedSet;

/// How long after it was sent a webhook is accepted, in seconds: what the standard's own libraries allow.
pub const FRESH_FOR: i64 = 300;
/// How far the moment of sending may lie ahead of the service's clock, in seconds.
pub const AHEAD_BY: i64 = 5;
/// No body is longer.
pub const LONGEST_BODY: usize = 16 * 1024;
/// So many signatures are looked at: a sender that changes its keys sends two.
const MOST_SIGNATURES: usize = 8;

/// The public half of a sender's key: `whpk_` and base64 of 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookKey(VerifyingKey);

impl FromStr for WebhookKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = text.strip_prefix("whpk_").and_then(|base64| STANDARD.decode(base64).ok());
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        // A weak point is a key with which anybody can sign.
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).filter(|key| !key.is_weak());
        // Not shown: it may be a secret, in the wrong place.
        key.map(Self).ok_or_else(|| Invalid::new("key", "...", "write whpk_ and the base64 of an Ed25519 public key"))
    }
}

/// A secret that a sender shares with this service: `whsec_` and base64 of 24 to 64 bytes.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// From its written form. The error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = text.strip_prefix("whsec_").and_then(|base64| STANDARD.decode(base64).ok()).map(Zeroizing::new);
        let bytes = bytes.filter(|bytes| (24..=64).contains(&bytes.len()));
        bytes.map(Self).ok_or("write whsec_ and the base64 of 24 to 64 random bytes, one secret a line")
    }

    /// Compares in constant time.
    fn made(&self, content: &[u8], tag: &[u8]) -> bool {
        Hmac::<Sha256>::new_from_slice(&self.0).is_ok_and(|mac| mac.chain_update(content).verify_slice(tag).is_ok())
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

/// A webhook as it came. Says nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// To whose address it came.
    pub from: SourceName,
    /// `webhook-id`.
    pub id: WebhookId,
    /// `webhook-timestamp`: when this attempt was sent.
    pub sent: Timestamp,
    /// The body, verbatim.
    pub body: Vec<u8>,
    /// `webhook-signature`: one or several, with spaces between.
    pub signature: String,
}

impl Delivery {
    /// From the headers as they are.
    pub fn new(from: SourceName, id: &str, sent: &str, signature: &str, body: Vec<u8>) -> Result<Self, Refusal> {
        let header = |name| Refusal::WebhookHeader { name };
        let id = id.parse().map_err(|_| header("webhook-id"))?;
        // One spelling, so that the number is what was signed.
        let seconds = sent.parse::<i64>().ok().map(Timestamp::from_unix).filter(|at| at.unix().to_string() == sent);
        let sent = seconds.ok_or_else(|| header("webhook-timestamp"))?;
        Ok(Self { from, id, sent, body, signature: signature.to_owned() })
    }

    /// SHA-256 over all but the signature.
    pub fn digest(&self) -> Digest {
        let sent = self.sent.unix().to_string();
        Digest::of_parts(&[
            b"webhook",
            self.from.as_str().as_bytes(),
            self.id.as_str().as_bytes(),
            sent.as_bytes(),
            &self.body,
        ])
    }

    /// Whether one of these keys made one of the signatures. `seen` may save the mathematics of a repeat.
    pub fn check(
        &self,
        key: Option<&WebhookKey>,
        secrets: &[WebhookSecret],
        seen: &VerifiedSet,
    ) -> Result<(), Refusal> {
        let signed = format!("{}.{}.", self.id, self.sent.unix());
        let content = [signed.as_bytes(), &self.body].concat();
        let decoded = |base64: &str| STANDARD.decode(base64).unwrap_or_default();
        let holds = |one: &str| match one.split_once(',') {
            Some(("v1", tag)) => secrets.iter().any(|secret| secret.made(&content, &decoded(tag))),
            Some(("v1a", signature)) => key.is_some_and(|key| key.made(&content, &decoded(signature), seen)),
            _ => false,
        };
        if self.signature.split(' ').take(MOST_SIGNATURES).any(holds) { Ok(()) } else { Err(Refusal::WebhookUnsigned) }
    }

    /// Refuses what was sent too long ago, or in the future: when it comes, not when it is verified again later.
    pub fn fresh(&self, now: Timestamp) -> Result<(), Refusal> {
        let age = now.since(self.sent);
        if age > FRESH_FOR {
            Err(Refusal::WebhookStale { seconds: age })
        } else if -age > AHEAD_BY {
            Err(Refusal::WebhookFuture { seconds: -age })
        } else {
            Ok(())
        }
    }
}

impl WebhookKey {
    fn made(&self, content: &[u8], signature: &[u8], seen: &VerifiedSet) -> bool {
        let entry = Digest::of_parts(&[b"webhook", content, signature, self.0.as_bytes()]);
        if seen.contains(&entry) {
            return true;
        }
        let holds = Signature::from_slice(signature).is_ok_and(|s| self.0.verify_strict(content, &s).is_ok());
        if holds {
            seen.insert(entry);
        }
        holds
    }
}

#[cfg(test)]
mod tests;
