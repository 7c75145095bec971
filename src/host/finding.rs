//! What was found on a host, in a form that people and programs can read.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// To be known; nothing has to be done.
    Note,
    /// It weakens what ssh-jit is for.
    Warning,
    /// It does not work, or lets somebody in who should not get in.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// A stable name for what was looked at.
    pub what: &'static str,
    /// A file, a file and its line, or a setting.
    pub r#where: String,
    /// What was found there.
    pub found: String,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// The key that lets in, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyFacts>,
}

/// A key that lets into an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct KeyFacts {
    pub account: String,
    pub algorithm: String,
    pub fingerprint: String,
    pub comment: String,
    pub options: Vec<String>,
    /// How many days ago the file was changed: no key in it is younger.
    pub days: i64,
}

impl KeyFacts {
    /// For people, on one line.
    pub(super) fn shown(&self) -> String {
        let comment = if self.comment.is_empty() { String::new() } else { format!(" ({})", self.comment) };
        let options = if self.options.is_empty() { String::new() } else { format!(", {}", self.options.join(",")) };
        format!("{} {}{comment}{options}, {} days old or more:", self.algorithm, self.fingerprint, self.days)
    }

    /// Whether an option of this name stands before it, in whatever case.
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option.split('=').next().unwrap_or_default().eq_ignore_ascii_case(name))
    }
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(what: &'static str, at: impl ToString, found: impl ToString) -> Self {
        Self { level: Level::Ok, what, r#where: at.to_string(), found: found.to_string(), mend: None, key: None }
    }

    pub(super) fn note(what: &'static str, at: impl ToString, found: impl ToString) -> Self {
        Self { level: Level::Note, ..Self::ok(what, at, found) }
    }

    pub(super) fn warning(what: &'static str, at: impl ToString, found: impl ToString, mend: impl ToString) -> Self {
        Self { level: Level::Warning, mend: Some(mend.to_string()), ..Self::ok(what, at, found) }
    }

    pub(super) fn error(what: &'static str, at: impl ToString, found: impl ToString, mend: impl ToString) -> Self {
        Self { level: Level::Error, ..Self::warning(what, at, found, mend) }
    }
}
