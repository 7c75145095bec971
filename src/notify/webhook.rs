//! Webhooks as <https://www.standardwebhooks.com> has them: JSON, an id that stays the same over all attempts, and
//! an HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::notice::Item;
use crate::domain::time::Timestamp;

use super::{Untold, post};

/// Where to, and the key of the signatures.
pub struct Webhook {
    agent: ureq::Agent,
    url: String,
    key: Zeroizing<Vec<u8>>,
}

impl Webhook {
    /// `agent` decides which addresses may be reached.
    pub fn new(agent: ureq::Agent, url: String, key: Zeroizing<Vec<u8>>) -> Self {
        Self { agent, url, key }
    }

    /// One attempt.
    pub(super) fn send(&self, id: &str, notice: &Item, origin: &str, now: Timestamp) -> Result<(), Untold> {
        let body = body(notice, origin, now);
        let time = now.unix().to_string();
        let signature = signature(&self.key, id, &time, &body);
        let headers = [("webhook-id", id.to_owned()), ("webhook-timestamp", time), ("webhook-signature", signature)];
        post(&self.agent, &self.url, &headers, &body)
    }
}

/// `type`, `timestamp`, `data`; the data is the notice, its link, and the words that people read elsewhere.
fn body(notice: &Item, origin: &str, now: Timestamp) -> String {
    let data = json!({ "notice": notice, "link": notice.link(origin), "text": notice.text(origin, now) });
    json!({ "type": notice.topic(), "timestamp": notice.at(), "data": data }).to_string()
}

/// Standard Webhooks, "Signature scheme": `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.
fn signature(key: &[u8], id: &str, time: &str, body: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the reference libraries of Standard Webhooks carry.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = |id, time, body| signature(&key, id, time, body);
        let (id, time, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed(id, time, body), expected);
        assert_ne!(signed("msg_other", time, body), expected);
        assert_ne!(signed(id, "1614265331", body), expected);
        assert_ne!(signed(id, time, "{\"test\": 2432232315}"), expected);
    }
}
