//! The watcher: a small process beside a connection that ends it when its certificate ends or is revoked, and leaves
//! when the connection does. It is its own session, so that what ends the connection does not end the watcher first.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::domain::time::Timestamp;

use super::process::{Connection, Process};
use super::session::{Admitted, SessionError};

/// The list of what is revoked, as sshd's `RevokedKeys` names it, in a host's folder.
const KRL: &str = "revoked.krl";
/// How often is looked at clock and list. What it finds ends the connection two seconds later at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many seconds before the end the person is told, the longest first.
const MARKS: [i64; 2] = [600, 120];
/// What the watcher says when it has begun.
const READY: &str = "watching\n";

/// What a watcher watches over.
#[derive(Debug, Serialize, Deserialize)]
pub struct Watch {
    sshd: Process,
    /// Algorithm and base64.
    certificate: String,
    /// The first second in which the certificate counts no more.
    ends: Timestamp,
    /// Where the host keeps what ssh-jit gave it.
    folder: PathBuf,
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Expired,
    Revoked,
}

impl Watch {
    /// Over the connection of this sshd, opened by this certificate.
    pub fn new(sshd: Process, admitted: Admitted, folder: &Path) -> Self {
        Self { sshd, certificate: admitted.certificate, ends: admitted.ends, folder: folder.to_owned() }
    }

    /// Has `program` (`ssh-jit host watch`) watch, and comes back when it does.
    pub fn start(&self, program: &mut Command) -> Result<(), SessionError> {
        let failed = |e: io::Error| SessionError::Watcher(e.to_string());
        let told = serde_json::to_vec(self).map_err(|e| failed(e.into()))?;
        program.env_clear().current_dir("/");
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = program.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&told).map_err(failed)?;
        }
        let mut answer = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut answer).map_err(failed)?;
        }
        if answer == READY { Ok(()) } else { Err(SessionError::Watcher("it ended at once".to_owned())) }
    }

    /// Reads what to watch over from standard input, watches, and returns when the connection is gone.
    pub fn run(clock: &Clock) -> io::Result<()> {
        let watch: Self = serde_json::from_reader(io::stdin().lock())?;
        rustix::process::setsid()?;
        let connection = Connection::open(watch.sshd)?;
        io::stdout().write_all(READY.as_bytes())?;
        io::stdout().flush()?;
        close_stdio()?;
        watch.over(&connection, clock);
        Ok(())
    }

    fn over(&self, connection: &Connection, clock: &Clock) {
        let mut marks = Marks::new(self.ends.since(clock.now().second()));
        let mut revocations = Revocations { list: self.folder.join(KRL), seen: None };
        loop {
            let left = self.ends.since(clock.now().second());
            let why = if left <= 0 {
                Some(Why::Expired)
            } else if revocations.hold(&self.certificate) {
                Some(Why::Revoked)
            } else {
                None
            };
            if let Some(why) = why {
                return connection.end(why.told());
            }
            if marks.passed(left) {
                connection.tell(&warning(self.ends, left));
            }
            if connection.ends_within(LOOK_EVERY) {
                return;
            }
        }
    }
}

impl Why {
    fn told(self) -> &'static str {
        match self {
            Self::Expired => "ssh-jit: access ended: the certificate's time is over",
            Self::Revoked => "ssh-jit: access ended: the certificate was revoked",
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

/// Nobody is on the other side any more.
fn close_stdio() -> io::Result<()> {
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
