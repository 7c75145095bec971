//! Ticket checks: where a ticket is looked up, and what the answer means. Asking is for the service; an answer that
//! does not come, or cannot be read, is never a yes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::domain::names::{CheckName, Invalid, PersonName, Ticket};
use crate::domain::text::visible;
use crate::domain::time::Seconds;

/// So much of what others write is shown.
const LONGEST_SAYING: usize = 60;

/// Where tickets are looked up, and what must stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketCheck {
    /// The address.
    pub url: TicketUrl,
    /// The HTTP status of a ticket that is there.
    pub status: u16,
    /// What the ticket's state is, as a JSON pointer (RFC 6901), and what it may be; any when there is none.
    pub field: Option<(Pointer, Vec<String>)>,
    /// Whose it is: the person's who asks, where this is given.
    pub assignee: Option<Pointer>,
    /// How long an answer is waited for.
    pub timeout: Seconds,
}

/// What a check says of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketAnswer {
    /// It is as the policy wants it.
    Valid,
    /// It is not: why, in words.
    Not(String),
    /// Nobody knows.
    Unknown,
}

/// What the checks say of one request's ticket. A check that is not there was not asked: nobody knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tickets(BTreeMap<CheckName, TicketAnswer>);

impl Tickets {
    /// What one check says.
    pub fn of(&self, check: &CheckName) -> &TicketAnswer {
        self.0.get(check).unwrap_or(&TicketAnswer::Unknown)
    }

    /// Of these checks each says yes.
    pub fn yes(checks: &[CheckName]) -> Self {
        checks.iter().map(|check| (check.clone(), TicketAnswer::Valid)).collect()
    }

    /// The checks that say yes.
    pub fn valid(&self) -> Vec<CheckName> {
        let yes = self.0.iter().filter(|(_, answer)| **answer == TicketAnswer::Valid);
        yes.map(|(name, _)| name.clone()).collect()
    }
}

impl FromIterator<(CheckName, TicketAnswer)> for Tickets {
    fn from_iter<I: IntoIterator<Item = (CheckName, TicketAnswer)>>(answers: I) -> Self {
        Self(answers.into_iter().collect())
    }
}

impl TicketCheck {
    /// What an answer over HTTP means for a ticket of this person's.
    pub fn judge(&self, person: &PersonName, ticket: &Ticket, status: u16, body: &[u8]) -> TicketAnswer {
        if status == 404 && self.status != 404 {
            return TicketAnswer::Not(format!("there is no ticket {ticket}"));
        }
        if status != self.status {
            return TicketAnswer::Unknown;
        }
        let Ok(answer) = serde_json::from_slice::<Value>(body) else { return TicketAnswer::Unknown };
        if let Some((pointer, allowed)) = &self.field {
            match answer.pointer(&pointer.0).and_then(Value::as_str) {
                None => return TicketAnswer::Unknown,
                Some(value) if allowed.iter().any(|allowed| allowed == value) => {}
                Some(value) => return TicketAnswer::Not(format!("ticket {ticket} is {}", saying(value))),
            }
        }
        match self.assignee.as_ref().map(|pointer| answer.pointer(&pointer.0)) {
            None => TicketAnswer::Valid,
            Some(Some(Value::String(name))) if name == person.as_str() => TicketAnswer::Valid,
            Some(Some(Value::String(_) | Value::Null)) => {
                TicketAnswer::Not(format!("ticket {ticket} is not assigned to {person}"))
            }
            Some(_) => TicketAnswer::Unknown,
        }
    }
}

fn saying(text: &str) -> String {
    visible(&text.chars().take(LONGEST_SAYING).collect::<String>())
}

/// A JSON pointer: `/status/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

impl FromStr for Pointer {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let honest = text.starts_with('/') && text.len() <= 200 && text.bytes().all(|b| (b'!'..=b'~').contains(&b));
        if honest {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("field", text, "write a JSON pointer, as in /status/name"))
        }
    }
}

/// The address of a ticket: `https://tickets.example/api/{ticket}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketUrl(String);

const PLACE: &str = "{ticket}";

impl TicketUrl {
    /// For one ticket. Whatever could mean something in an address is escaped, so that a ticket leads to no other one.
    pub fn of(&self, ticket: &Ticket) -> String {
        let escaped = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        self.0.replace(PLACE, &ticket.as_str().bytes().map(escaped).collect::<String>())
    }
}

impl FromStr for TicketUrl {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fail = |rule| Invalid::new("url", text, rule);
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) || text.contains('#') {
            return Err(fail("write it as https://tickets.example/api/{ticket}"));
        }
        if !path.bytes().all(|b| (b'!'..=b'~').contains(&b)) {
            return Err(fail("escape what is neither a letter nor a digit, as in %20"));
        }
        if path.matches(PLACE).count() != 1 || path.replace(PLACE, "").contains(['{', '}']) {
            return Err(fail("put {ticket} into it once, behind the host, and no other placeholder"));
        }
        if scheme != "https" && !(scheme == "http" && is_here(host)) {
            return Err(fail("write https://... (http:// on loopback only)"));
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

impl fmt::Display for TicketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{parsed, person};

    fn check() -> TicketCheck {
        TicketCheck {
            url: parsed("https://tickets.example/api/{ticket}?fields=status"),
            status: 200,
            field: Some((parsed("/status/name"), vec!["Open".to_owned(), "In Progress".to_owned()])),
            assignee: Some(parsed("/assignee")),
            timeout: parsed("3s"),
        }
    }

    /// Only what says so in every part is a yes; what says nothing is not even a no.
    #[test]
    fn an_answer_is_read_strictly() {
        let no = |words: &str| TicketAnswer::Not(words.to_owned());
        let unknown = || TicketAnswer::Unknown;
        for (status, body, answer) in [
            (200, r#"{"status":{"name":"Open"},"assignee":"alice"}"#, TicketAnswer::Valid),
            (200, r#"{"status":{"name":"In Progress"},"assignee":"alice"}"#, TicketAnswer::Valid),
            (200, r#"{"status":{"name":"Closed"},"assignee":"alice"}"#, no("ticket OPS-12 is Closed")),
            (200, r#"{"status":{"name":"open"},"assignee":"alice"}"#, no("ticket OPS-12 is open")),
            (200, r#"{"status":{"name":"\u001b[2J"},"assignee":"alice"}"#, no(r"ticket OPS-12 is \u{1b}[2J")),
            (200, r#"{"status":{"name":"Open"},"assignee":"bob"}"#, no("ticket OPS-12 is not assigned to alice")),
            (200, r#"{"status":{"name":"Open"},"assignee":null}"#, no("ticket OPS-12 is not assigned to alice")),
            (404, "", no("there is no ticket OPS-12")),
            (200, r#"{"status":{"name":"Open"}}"#, unknown()),
            (200, r#"{"status":{"name":"Open"},"assignee":["alice"]}"#, unknown()),
            (200, r#"{"status":"Open","assignee":"alice"}"#, unknown()),
            (200, r#"{"status":{"name":["Open"]},"assignee":"alice"}"#, unknown()),
            (200, "", unknown()),
            (200, "<html>", unknown()),
            (201, r#"{"status":{"name":"Open"},"assignee":"alice"}"#, unknown()),
            (302, r#"{"status":{"name":"Open"},"assignee":"alice"}"#, unknown()),
            (500, r#"{"status":{"name":"Open"},"assignee":"alice"}"#, unknown()),
        ] {
            let judged = check().judge(&person("alice"), &parsed("OPS-12"), status, body.as_bytes());
            assert_eq!(judged, answer, "{status} {body}");
        }
    }

    #[test]
    fn a_ticket_leads_to_its_own_address() {
        let url = check().url;
        assert_eq!(url.of(&parsed("OPS-12")), "https://tickets.example/api/OPS-12?fields=status");
        assert_eq!(url.of(&parsed("a/../b#c")), "https://tickets.example/api/a%2F..%2Fb%23c?fields=status");
        for text in [
            "",
            "tickets.example/{ticket}",
            "http://tickets.example/{ticket}",
            "http://127.0.0.1.tickets.example/{ticket}",
            "http://localhost@tickets.example/{ticket}",
            "https://user:secret@tickets.example/{ticket}",
            "https://{ticket}.example/",
            "https://tickets.example/",
            "https://tickets.example/{ticket}/{ticket}",
            "https://tickets.example/{ticket}/{person}",
            "https://tickets.example/#{ticket}",
            "https:///{ticket}",
            "ftp://tickets.example/{ticket}",
            "https://tickets.example/ {ticket}",
        ] {
            assert!(text.parse::<TicketUrl>().is_err(), "{text:?} must be refused");
        }
        for text in ["http://localhost:1/{ticket}", "http://127.0.0.1/x?t={ticket}", "http://[::1]:8/{ticket}"] {
            assert!(text.parse::<TicketUrl>().is_ok(), "{text}");
        }
    }
}
