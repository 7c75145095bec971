//! Alarms: a host was opened by a certificate that a CA key of ours signed and the log does not know. Somebody else has
//! the key.

use serde::{Deserialize, Serialize};

use super::notice::when;
use super::text::visible;
use super::time::Timestamp;
use super::usage::Seen;

/// The use of a certificate that the log does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// Where, by whom, when.
    pub used: Seen,
    /// The serial that it carries, in decimal digits: it may be one that the service never gives.
    pub serial: String,
    /// The key id that it carries. Whoever signed it chose the words.
    pub key_id: String,
}

impl Alarm {
    /// One line made of names alone.
    pub fn subject(&self) -> String {
        format!("ALARM: a certificate that is not in the log opened {}", self.used.host)
    }

    /// Where to look, at a service of this address.
    pub fn link(&self, origin: &str) -> String {
        format!("{origin}/log")
    }

    /// All of it, in lines of plain text.
    pub fn text(&self, origin: &str, now: Timestamp) -> String {
        let Seen { account, source, began, .. } = &self.used;
        let key_id: String = self.key_id.chars().take(MOST_OF_A_KEY_ID).collect();
        [
            format!("{}.", self.subject()),
            format!("It opened the account {} from {}, {}.", visible(account), visible(source), when(*began, now)),
            format!("Serial {}, key id {}", self.serial, visible(&key_id)),
            "Somebody else signs with a CA key: take it from the hosts, and look into ca-keys.".to_owned(),
            self.link(origin),
        ]
        .join("\n")
    }
}

/// So many characters of a key id are passed on.
const MOST_OF_A_KEY_ID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// W02: whoever made the certificate wrote its key id, and commands nothing by it.
    #[test]
    fn an_alarm_is_plain_text() {
        let used = Seen {
            host: "db1".parse().unwrap(),
            account: "jit".to_owned(),
            source: "192.0.2.7".to_owned(),
            began: Timestamp::from_unix(0),
            ended: None,
        };
        let key_id = format!("a\u{202e}b\n{}", "c".repeat(300));
        let alarm = Alarm { used, serial: u64::MAX.to_string(), key_id };
        let text = alarm.text("https://ca.example", Timestamp::from_unix(60));
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains("a\\u{202e}b\\n") && text.len() < 700, "{text}");
        assert!(text.contains("jit from 192.0.2.7, 1970-01-01 00:00 UTC (1m ago)"), "{text}");
    }
}
