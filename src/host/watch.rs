//! The watcher: a small process beside a connection that ends it when its certificate ends or is revoked, and leaves
//! when the connection does. It is its own session, so that what ends the connection does not end the watcher first.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::time::Timestamp;

use super::process::{Connection, Process};
use super::session::Admitted;

/// The list of what is revoked, as sshd's `RevokedKeys` names it, in a host's folder.
const KRL: &str = "revoked.krl";
/// How often is looked at clock and list. What it finds ends the connection two seconds later at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many seconds before the end the person is told, the longest first.
const MARKS: [i64; 2] = [600, 120];
/// What the person is told at the end.
const EXPIRED: &str = "ssh-jit: access ended: the certificate's time is over";
const REVOKED: &str = "ssh-jit: access ended: the certificate was revoked";

/// A watcher and what it watches over.
#[derive(Debug)]
pub struct Watcher {
    connection: Connection,
    admitted: Admitted,
    revocations: Revocations,
}

impl Watcher {
    /// Over the connection of this sshd, opened by this certificate, on a host that keeps its files in `folder`. From
    /// here on this process is in a session of its own.
    pub fn begin(sshd: Process, admitted: Admitted, folder: &Path) -> io::Result<Self> {
        rustix::process::setsid()?;
        let revocations = Revocations { list: folder.join(KRL), seen: None };
        Ok(Self { connection: Connection::open(sshd)?, admitted, revocations })
    }

    /// Watches, and returns when the connection is gone.
    pub fn run(mut self, clock: &Clock) {
        let left = || self.admitted.ends.since(clock.now().second());
        let mut marks = Marks::new(left());
        loop {
            let left = left();
            if left <= 0 {
                return self.connection.end(EXPIRED);
            }
            if self.revocations.hold(&self.admitted.certificate) {
                return self.connection.end(REVOKED);
            }
            if marks.passed(left) {
                self.connection.tell(&warning(self.admitted.ends, left));
            }
            if self.connection.ends_within(LOOK_EVERY) {
                return;
            }
        }
    }
}

fn warning(ends: Timestamp, left: i64) -> String {
    let length = if left < 100 { format!("{left} s") } else { format!("{} min", (left + 30) / 60) };
    format!("ssh-jit: this connection ends with its certificate in {length}, at {ends}")
}

/// The marks that lie ahead, the next one last.
struct Marks(Vec<i64>);

impl Marks {
    fn new(left: i64) -> Self {
        Self(MARKS.into_iter().rev().filter(|mark| *mark < left).collect())
    }

    /// Whether one was passed since the last time.
    fn passed(&mut self, left: i64) -> bool {
        let ahead = self.0.len();
        self.0.retain(|mark| *mark < left);
        self.0.len() < ahead
    }
}

/// A list of revocations, asked again whenever it was replaced.
#[derive(Debug)]
struct Revocations {
    list: PathBuf,
    /// Number, time and length of the file that said no.
    seen: Option<(u64, i64, i64, u64)>,
}

impl Revocations {
    /// Whether it holds the certificate. A list that is missing or cannot be read ends nothing here: sshd lets nobody
    /// new in then, and whoever is in may be the one who mends it.
    fn hold(&mut self, certificate: &str) -> bool {
        let Ok(facts) = fs::metadata(&self.list) else { return false };
        let seen = Some((facts.ino(), facts.mtime(), facts.mtime_nsec(), facts.len()));
        if self.seen == seen {
            return false;
        }
        match self.ask(certificate) {
            // ssh-keygen(1), -Q: only what is on the list ends it with 1.
            Ok(Some(1)) => true,
            Ok(_) => {
                self.seen = seen;
                false
            }
            // It did not run: the next look tries again.
            Err(_) => false,
        }
    }

    fn ask(&self, certificate: &str) -> io::Result<Option<i32>> {
        let mut command = Command::new("/usr/bin/ssh-keygen");
        command.env_clear().args(["-Q", "-f"]).arg(&self.list).arg("/dev/stdin");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may refuse the list before it reads the certificate.
            let _ = writeln!(stdin, "{certificate}");
        }
        Ok(child.wait()?.code())
    }
}

/// Leaves standard input and output: whoever waits there goes on.
pub fn close_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each mark is told once; those that lay behind at the login are not, and two at once are one.
    #[test]
    fn the_person_is_told_ten_and_two_minutes_before() {
        let told = |lefts: &[i64]| {
            let mut marks = Marks::new(lefts[0]);
            lefts.iter().copied().filter(|left| marks.passed(*left)).collect::<Vec<_>>()
        };
        assert_eq!(told(&[700, 601, 600, 599, 121, 120, 119, 1]), [600, 120]);
        assert_eq!(told(&[700, 598, 597, 118, 60]), [598, 118]);
        assert_eq!(told(&[600, 599, 130, 120, 100]), [120]);
        assert_eq!(told(&[700, 50, 49]), [50]);
        assert_eq!(told(&[120, 119, 50]), [0_i64; 0]);
    }

    #[test]
    fn a_warning_says_when() {
        let ends = Timestamp::from_unix(1_795_694_400);
        let said = |left| warning(ends, left);
        assert_eq!(said(600), "ssh-jit: this connection ends with its certificate in 10 min, at 2026-11-26T12:00:00Z");
        assert!(said(118).contains("in 2 min,") && said(50).contains("in 50 s,"), "{}", said(118));
    }
}
