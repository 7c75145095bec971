//! Whoever states facts: signs webhooks as Standard Webhooks has them, with a key of its own or with a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::time::Timestamp;
use ssh_jit::domain::webhook::WebhookSecret;

use super::service::{Answer, Bench};

/// A source by its name, which is what its key and its secret are made of.
pub(crate) struct Pager(pub(crate) &'static str);

/// A webhook, for tests to spoil.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) to: String,
    pub(crate) id: String,
    pub(crate) sent: String,
    pub(crate) body: String,
    pub(crate) signature: String,
}

impl Pager {
    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(Digest::of(self.0.as_bytes()).as_bytes())
    }

    /// `whpk_...`
    pub(crate) fn public(&self) -> String {
        format!("whpk_{}", STANDARD.encode(self.key().verifying_key().as_bytes()))
    }

    fn secret_bytes(&self) -> [u8; 32] {
        *Digest::of(format!("{} secret", self.0).as_bytes()).as_bytes()
    }

    /// `whsec_...`
    pub(crate) fn written_secret(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.secret_bytes()))
    }

    pub(crate) fn secret(&self) -> WebhookSecret {
        WebhookSecret::parse(&self.written_secret()).expect("a secret")
    }

    /// By its key.
    pub(crate) fn signs(&self, hook: Hook) -> Hook {
        let signature = self.key().sign(hook.content().as_bytes()).to_bytes();
        Hook { signature: format!("v1a,{}", STANDARD.encode(signature)), ..hook }
    }

    /// By its secret.
    pub(crate) fn tags(&self, hook: Hook) -> Hook {
        let mac = Hmac::<Sha256>::new_from_slice(&self.secret_bytes()).expect("a key");
        let tag = mac.chain_update(hook.content()).finalize().into_bytes();
        Hook { signature: format!("v1,{}", STANDARD.encode(tag)), ..hook }
    }

    /// A webhook of now that states these facts, unsigned.
    pub(crate) fn drafts(&self, bench: &Bench, facts: &Value) -> Hook {
        self.drafts_at(bench.at(0), bench.number(), facts)
    }

    /// The same at any time.
    pub(crate) fn drafts_at(&self, now: Timestamp, number: u64, facts: &Value) -> Hook {
        let body = json!({"type": "facts", "timestamp": now, "data": {"facts": facts}}).to_string();
        let (id, sent) = (format!("msg_{number}"), now.unix().to_string());
        Hook { to: self.0.to_owned(), id, sent, body, signature: String::new() }
    }

    /// States facts, by its key.
    pub(crate) fn states(&self, bench: &Bench, facts: &Value) -> Answer {
        self.signs(self.drafts(bench, facts)).deliver(bench)
    }
}

impl Hook {
    fn content(&self) -> String {
        format!("{}.{}.{}", self.id, self.sent, self.body)
    }

    pub(crate) fn deliver(&self, bench: &Bench) -> Answer {
        bench.browse("POST", &format!("/v1/facts/{}", self.to), &self.headers(), self.body.as_bytes()).0
    }

    pub(crate) fn headers(&self) -> [(&'static str, &str); 3] {
        [("webhook-id", self.id.as_str()), ("webhook-timestamp", &self.sent), ("webhook-signature", &self.signature)]
    }
}

/// A line of a message: so for some seconds.
pub(crate) fn is(bench: &Bench, name: &str, value: &str, seconds: i64) -> Value {
    json!({"name": name, "value": value, "until": bench.at(seconds)})
}

/// A line of a message: over.
pub(crate) fn over(name: &str) -> Value {
    json!({"name": name, "value": null})
}
