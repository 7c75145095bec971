//! The break-glass journal: a file that is only ever appended to, synced before anybody acts on it.
//! It needs no database, so that the path for disasters does not share one with everything else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, StatVfsMountFlags};
use serde::{Deserialize, Serialize};

use crate::domain::journal::{Entry, Replay};
use crate::domain::key::PublicKey;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::SshSig;
use crate::domain::verify::Signed;
use crate::files;

use super::end;

/// Why the journal cannot be used. Without it no glass is broken.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("journal {path}: {error}")]
    File {
        /// The journal.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// An entry is not what the journal key signed, or not in its place.
    #[error("journal {path}, line {line}: {why}; keep the file as evidence, and set journal to a new one")]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else writes it: two of them would each give the same serials.
    #[error("journal {0}: another ssh-jit has it open")]
    Locked(PathBuf),
    /// Nothing is in it, and its number is not known.
    #[error("journal {0}: it is new, and only the database knows which number comes next; have that opened once")]
    Unnumbered(PathBuf),
    /// A part of an entry could not be taken back.
    #[error("journal {0}: it ends in a part of an entry; restart the service")]
    Broken(PathBuf),
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: String,
    signature: String,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    entries: Vec<Entry>,
    replay: Replay,
    broken: bool,
}

impl Journal {
    /// Opens the journal, makes it if there is none, and verifies all of it. A last line that was cut
    /// off by a crash was never acted on, and is cut away.
    pub fn open(path: &Path, key: &PublicKey) -> Result<Self, JournalError> {
        let fail = |error| JournalError::File { path: path.to_owned(), error };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = files::open_no_link(path, &mut options).map_err(fail)?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|_| JournalError::Locked(path.to_owned()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(fail)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(fail)?;
        }
        // Also what a process wrote that ended before its sync: the database is about to rely on it.
        files::sync(&file).map_err(fail)?;
        files::sync_folder(files::folder_of(path)).map_err(fail)?;
        let (mut replay, mut entries) = (Replay::default(), Vec::new());
        for (number, line) in (1..).zip(text[..whole].lines()) {
            let taken = parse(line).and_then(|signed| replay.take(&signed, key));
            let damaged =
                |why: Refusal| JournalError::Damaged { path: path.to_owned(), line: number, why: why.to_string() };
            entries.push(taken.map_err(damaged)?);
        }
        Ok(Self { path: path.to_owned(), file, length: whole as u64, entries, replay, broken: false })
    }

    /// What the journal says so far.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing can be written now, as far as that shows without trying.
    pub fn hindrance(&self) -> Option<String> {
        let disk = match rustix::fs::fstatvfs(&self.file) {
            Ok(disk) => disk,
            Err(e) => return Some(e.to_string()),
        };
        if self.broken {
            Some("it ends in a part of an entry; restart the service".to_owned())
        } else if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
            Some("its disk is read-only".to_owned())
        } else if disk.f_bavail == 0 {
            Some("its disk is full".to_owned())
        } else {
            None
        }
    }

    /// The entries after number `seq`.
    pub fn after(&self, seq: u64) -> &[Entry] {
        self.entries.get(usize::try_from(seq).unwrap_or(usize::MAX)..).unwrap_or_default()
    }

    /// Appends a signed entry; it is durable when this returns. When it cannot be written (a full disk), nothing of
    /// it stays; when it cannot be synced, the process ends.
    pub fn append(&mut self, signed: &Signed, key: &PublicKey) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken(self.path.clone()));
        }
        let mut replay = self.replay.clone();
        let damaged = |why: Refusal| JournalError::Damaged {
            path: self.path.clone(),
            line: self.entries.len() + 1,
            why: why.to_string(),
        };
        let entry = replay.take(signed, key).map_err(damaged)?;
        let line =
            Line { entry: String::from_utf8_lossy(signed.bytes()).into_owned(), signature: signed.signature().armor() };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        self.write(&text).map_err(|error| JournalError::File { path: self.path.clone(), error })?;
        self.replay = replay;
        self.entries.push(entry);
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if let Err(e) = self.file.write_all(text) {
            // What was written of it would spoil the line of the next.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(e);
        }
        if let Err(e) = files::sync(&self.file) {
            end("the break-glass journal was not synced", &e);
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

fn parse(line: &str) -> Result<Signed, Refusal> {
    let line: Line = serde_json::from_str(line).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
    Ok(Signed::new(line.entry.into_bytes(), SshSig::from_armor(&line.signature)?))
}
