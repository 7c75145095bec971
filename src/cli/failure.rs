//! How a verb ends: exit codes that scripts can tell apart, one line of fact, at most one hint.

use std::io;
use std::process::ExitCode;

use crate::client::agent::AgentError;
use crate::client::api::ApiError;
use crate::client::certificate::Surprise;
use crate::client::identity::IdentityError;
use crate::client::subject::SubjectError;
use crate::config::ConfigError;
use crate::domain::names::Invalid;
use crate::domain::refusal::Refusal;
use crate::host::setup::HostError;

/// The exit codes. They do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Refused or failed.
    Failed,
    /// Not a command that there is.
    Misuse,
    /// The request waits still.
    Pending,
    /// Somebody said no.
    Denied,
    /// Nobody decided, or nobody claimed, in time.
    Lapsed,
    /// The policy does not let this person ask for it.
    NotEligible,
    /// Access was ended.
    Revoked,
    /// Nobody answers at the service's address.
    Unreachable,
    /// The glass was not broken.
    BreakGlassRefused,
    /// How the command ended that `run` ran: its own code, or 128 and the signal's number, as shells have it.
    Command(u8),
}

impl Exit {
    /// The number that shells see.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Misuse => 2,
            Self::Pending => 10,
            Self::Denied => 11,
            Self::Lapsed => 12,
            Self::NotEligible => 13,
            Self::Revoked => 14,
            Self::Unreachable => 20,
            Self::BreakGlassRefused => 30,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// A stable name for the reason.
    pub code: String,
    /// One line of fact.
    pub message: String,
    /// What to do, if anything.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl ToString) -> Self {
        Self { exit: Exit::Failed, code: "failed".to_owned(), message: message.to_string(), hint: None }
    }

    /// A failure with exit code 2.
    pub fn misuse(message: impl ToString) -> Self {
        Self { exit: Exit::Misuse, code: "misuse".to_owned(), ..Self::new(message) }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl ToString) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The same where the policy said no to somebody who may ask: what would pass is the hint.
    fn denied(mut self) -> Self {
        let fact = self.message.split_once(": ").map_or(self.message.as_str(), |(_field, fact)| fact);
        let (fact, hint) = fact.split_once("; ").map_or((fact, None), |(fact, hint)| (fact, Some(hint.to_owned())));
        (self.message, self.hint) = (format!("denied: {fact}"), hint);
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let failure = Self::new(&error);
        match &error {
            ApiError::Unreachable { .. } => Self { code: "unreachable".to_owned(), ..failure }
                .exit(Exit::Unreachable)
                .hint("if this is an emergency: ssh-jit break-glass ROLE --category outage --reason \"...\""),
            ApiError::Refused { problem, .. } => {
                let exit = match problem.code.as_str() {
                    "not-eligible" | "unknown-person" => Exit::NotEligible,
                    "denied" | "denied-by-rule" | "conditions" | "daily-max" | "nobody-decides" => Exit::Denied,
                    "lapsed" => Exit::Lapsed,
                    "revoked" => Exit::Revoked,
                    _ => Exit::Failed,
                };
                let failure = Self { code: problem.code.clone(), ..failure }.exit(exit);
                match problem.code.as_str() {
                    "stale" | "future" => {
                        failure.hint("compare this machine's clock with the service's: ssh-jit doctor")
                    }
                    "too-long" | "denied-by-rule" | "conditions" | "daily-max" | "nobody-decides" => failure.denied(),
                    "not-eligible" => failure.hint("ssh-jit roles lists what you may ask for"),
                    "unknown-key" | "not-their-key" => {
                        failure.hint("the policy must list this key at your name; see --identity and --user")
                    }
                    _ => failure,
                }
            }
            ApiError::Untrusted { .. } => Self { code: "untrusted".to_owned(), ..failure }
                .hint("if the service has a CA of its own, name its file: --tls-ca FILE"),
            ApiError::Plain { .. } => failure.exit(Exit::Misuse).hint("write https://HOST"),
            ApiError::Roots { .. } => failure,
            ApiError::Nonsense { .. } => Self { code: "nonsense".to_owned(), ..failure }.hint("see --server"),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code().to_owned(), ..Self::new(&refusal) }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self { hint: error.hint(), ..Self::new(&error) }
    }
}

macro_rules! plain {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        }
    )*};
}
plain!(io::Error, ConfigError, IdentityError, AgentError, SubjectError, Surprise, Invalid, serde_json::Error);
