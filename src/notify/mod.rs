//! Telling people what happens, out of a durable outbox: an entry is written in the transaction of what it tells of,
//! and delivered by a worker that stands beside. Nothing waits for it, nothing is decided by it, and a channel that
//! is down keeps nobody from anything but hearing of it there.

mod mail;
mod outbox;
mod slack;
mod syslog;
mod webhook;

pub use mail::{Mail, Security};
pub use outbox::{Channel, Outbox, Via};
pub use slack::Slack;
pub use syslog::{Syslog, SyslogTo};
pub use webhook::Webhook;

use crate::domain::text::visible;

/// So much of an error is kept.
const LONGEST_ERROR: usize = 200;
/// No more than this is read of what a server answers.
const LONGEST_ANSWER: u64 = 16 * 1024;

/// Why somebody was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// In short; no secret, and nothing that could drive a terminal.
    error: String,
    /// The server works, and does not take this one.
    refused: bool,
}

impl Untold {
    /// The channel does not work.
    fn broken(error: &str) -> Self {
        Self { error: short(error), refused: false }
    }

    /// Whether trying again would change nothing.
    pub fn is_final(&self) -> bool {
        self.refused
    }

    /// Why, in short.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// The channel works, and does not take this one.
    fn refused(error: &str) -> Self {
        Self { error: short(error), refused: true }
    }
}

fn short(text: &str) -> String {
    visible(&text.chars().take(LONGEST_ERROR).collect::<String>())
}

/// Posts JSON; whatever begins with 2 is a yes. What a server says besides is not read further: it may be anything.
fn post(agent: &ureq::Agent, url: &str, headers: &[(&str, String)], body: &str) -> Result<(), Untold> {
    let mut request = agent.post(url).content_type("application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = request.send(body).map_err(|e| Untold::broken(&reason(&e)))?;
    let status = answer.status();
    // Read, so that a server that never ends its answer is a server that does not work.
    let read = answer.into_body().into_with_config().limit(LONGEST_ANSWER).read_to_vec();
    match (status.as_u16(), read) {
        (200..=299, Ok(_)) => Ok(()),
        (200..=299, Err(e)) => Err(Untold::broken(&reason(&e))),
        // It is busy, or broken itself.
        (408 | 429 | 500..=599, _) => Err(Untold::broken(&format!("it answered {}", status.as_u16()))),
        (300..=399, _) => Err(Untold::refused("it answered with a redirect, and none is followed")),
        (other, _) => Err(Untold::refused(&format!("it answered {other}"))),
    }
}

/// Without the address, which may be a secret.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "its address makes no sense".to_owned(),
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "its name is not known".to_owned(),
        ureq::Error::BodyExceedsLimit(_) => "its answer is too long".to_owned(),
        other => other.to_string(),
    }
}
