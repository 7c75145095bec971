//! How the command line speaks. Rules: data to standard output, talk to standard error, each line of
//! talk begins with `ssh-jit: `; what other people wrote is shown with its hidden characters escaped;
//! a reader that went away is no error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use chrono::{DateTime, Local};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::domain::text::visible;
use crate::domain::time::Timestamp;

use super::failure::Failure;

/// Where a verb says things.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// Print JSON instead of text.
    pub json: bool,
    color: bool,
}

impl Ui {
    /// Colour only on a terminal, and never where it is unwanted.
    pub fn new(json: bool, no_color: bool) -> Self {
        Self { json, color: !no_color && io::stderr().is_terminal() }
    }

    /// A line of data, or several. Whoever puts text of other people's into one has it `shown` first, for the
    /// sake of line breaks; everything else that hides in it is caught here.
    pub fn out(&self, lines: impl Display) {
        let text = lines.to_string();
        result(&text.split('\n').map(visible).collect::<Vec<_>>().join("\n"));
    }

    /// Data as one line of JSON.
    pub fn data(&self, value: &impl Serialize) {
        // What verbs print are plain structures.
        result(&serde_json::to_string(value).unwrap_or_default());
    }

    /// A line of talk.
    pub fn say(&self, line: impl Display) {
        talk(&visible(&line.to_string()));
    }

    /// A line of talk that something good happened.
    pub fn good(&self, line: impl Display) {
        let line = visible(&line.to_string());
        if self.color { talk(&format!("\x1b[32m{line}\x1b[0m")) } else { talk(&line) }
    }

    /// What went wrong, and what to do.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.data(&serde_json::json!({ "error": { "code": failure.code, "message": failure.message } }));
        }
        self.say(&failure.message);
        if let Some(hint) = &failure.hint {
            unless_gone(writeln!(io::stderr().lock(), "hint: {}", visible(hint)));
        }
    }

    /// Rows in columns; the last column is as wide as it is.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.out(line(header.to_vec()));
        for row in rows {
            self.out(line(row.iter().map(String::as_str).collect()));
        }
    }
}

/// A result that is not written must not look like one that was.
fn result(text: &str) {
    let written = writeln!(io::stdout().lock(), "{text}");
    if let Some(error) = unless_gone(written) {
        talk(&format!("standard output: {error}"));
        std::process::exit(1);
    }
}

/// Nothing can be done about talk that cannot be written.
fn talk(line: &str) {
    unless_gone(writeln!(io::stderr().lock(), "ssh-jit: {line}"));
}

/// A reader that went away ends the command without a word. Gives what else went wrong.
fn unless_gone(written: io::Result<()>) -> Option<io::Error> {
    let error = written.err()?;
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Some(error)
}

/// Asks for a passphrase on the terminal, without showing it.
pub(super) fn ask_passphrase(prompt: &str) -> io::Result<Zeroizing<String>> {
    rpassword::prompt_password(format!("ssh-jit: {prompt}: ")).map(Zeroizing::new)
}

/// `14:32:05 (in 29m58s)`: in the reader's zone, absolute and relative; with the day when it is another.
pub(super) fn time(at: Timestamp, now: Timestamp) -> String {
    let local: DateTime<Local> = at.to_utc().into();
    let today: DateTime<Local> = now.to_utc().into();
    let form = if local.date_naive() == today.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    let distance = at.since(now);
    let length = length(distance.unsigned_abs());
    let relative = match distance {
        0 => "now".to_owned(),
        1.. => format!("in {length}"),
        _ => format!("{length} ago"),
    };
    format!("{} ({relative})", local.format(form))
}

/// `2h5m`, `29m58s`, `12s`, `3d4h`: the two greatest units.
pub(super) fn length(seconds: u64) -> String {
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    units[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0 || first == 3)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect()
}

/// `412 ms`, `41.2 s`.
pub(super) fn millis(millis: u32) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1000, millis % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_shown_escaped() {
        assert_eq!(visible("a\u{1b}[2J\u{202e}b\nc é 副"), "a\\u{1b}[2J\\u{202e}b\\nc é 副");
    }

    #[test]
    fn lengths_have_two_units() {
        let shown: Vec<String> = [0, 12, 60, 1798, 7500, 90_000, 3600].into_iter().map(length).collect();
        assert_eq!(shown, ["0s", "12s", "1m", "29m58s", "2h5m", "1d1h", "1h"]);
    }
}
