//! Messages as Slack's incoming webhooks take them, and those who are compatible. The text is plain: no markup, no
//! links made of it, nothing that is fetched to be shown.

use serde_json::json;
use zeroize::Zeroizing;

use crate::domain::notice::Item;
use crate::domain::time::Timestamp;

use super::{Untold, post};

/// Where to: whoever knows the address can write there.
pub struct Slack {
    agent: ureq::Agent,
    url: Zeroizing<String>,
}

impl Slack {
    /// `agent` decides which addresses may be reached.
    pub fn new(agent: ureq::Agent, url: Zeroizing<String>) -> Self {
        Self { agent, url }
    }

    /// One attempt.
    pub(super) fn send(&self, notice: &Item, origin: &str, now: Timestamp) -> Result<(), Untold> {
        post(&self.agent, &self.url, &[], &body(&notice.text(origin, now)))
    }
}

fn body(text: &str) -> String {
    json!({ "text": escaped(text), "mrkdwn": false, "unfurl_links": false, "unfurl_media": false }).to_string()
}

/// Slack, "Formatting text": these three are its control characters. Without them there is no `<!channel>` and no
/// `<https://evil.example|a link with another name>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W02: what somebody wrote commands nothing in a room.
    #[test]
    fn markup_arrives_as_text() {
        let json: serde_json::Value =
            serde_json::from_str(&body("<!channel> *bold* <https://evil.example|ok> &lt;")).unwrap();
        assert_eq!(json["text"], "&lt;!channel&gt; *bold* &lt;https://evil.example|ok&gt; &amp;lt;");
        assert_eq!((&json["mrkdwn"], &json["unfurl_links"]), (&false.into(), &false.into()));
    }
}
