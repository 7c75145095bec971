//! The connections of a host that the service has not heard of yet: a folder with a file for each. It is bounded, and
//! what found no room is counted.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::domain::digest::Digest;
use crate::domain::time::Timestamp;
use crate::domain::usage::Connection;
use crate::files;

/// Where connections are remembered: root's, mode 0700.
pub const FOLDER: &str = "/var/lib/ssh-jit/sessions";
/// No more files are, so that a service that stays away fills no disk.
const MOST: usize = 10_000;
/// What waits to be told, and what was about to be.
const WAITING: &str = "json";
const TAKEN: &str = "taken";
/// The file that counts what was dropped: this line, and a dot for each.
const DROPPED: &str = "dropped";
const DROPPED_LINE: &str = "connections that the service was never told of, a dot each: ";

/// The folder.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
}

/// What a spool holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// So many files wait to be told.
    pub waiting: usize,
    /// Since when the oldest of them does.
    pub since: Option<Timestamp>,
    /// So many connections, or ends of them, were dropped: there was no room, or the service takes them from nobody.
    pub dropped: u64,
}

impl Spool {
    /// The one in this folder, which need not be there.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Remembers a connection: once when it begins, once more when it has ended. What was there before stays.
    pub fn remember(&self, connection: &Connection) -> io::Result<()> {
        self.make()?;
        let path = self.file(&connection.session);
        let kept = if path.exists() || fs::read_dir(&self.folder)?.count() <= MOST {
            serde_json::to_vec(connection).map_err(Into::into).and_then(|bytes| files::write_private(&path, &bytes))
        } else {
            Err(io::Error::other("it holds too many connections that nobody was told of"))
        };
        kept.inspect_err(|_| self.count_dropped())
    }

    /// What there is; nothing where nobody came yet.
    pub fn held(&self) -> io::Result<Held> {
        let files: Vec<PathBuf> =
            self.entries()?.into_iter().filter(|path| is(path, WAITING) || is(path, TAKEN)).collect();
        let since = |path: &PathBuf| {
            let modified = path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(Timestamp::from_unix(i64::try_from(modified.as_secs()).ok()?))
        };
        let length = fs::metadata(self.folder.join(DROPPED)).map_or(0, |facts| facts.len());
        Ok(Held {
            waiting: files.len(),
            since: files.iter().filter_map(since).min(),
            dropped: length.saturating_sub(DROPPED_LINE.len() as u64),
        })
    }

    /// What is to be told, under names that nobody writes to: a connection that ends meanwhile is remembered beside it.
    pub(super) fn take(&self) -> io::Result<Vec<PathBuf>> {
        let found = self.entries()?;
        // What was taken before and not told goes first: the end of a connection comes after its begin.
        let mut taken: Vec<PathBuf> = found.iter().filter(|path| is(path, TAKEN)).cloned().collect();
        for path in found.iter().filter(|path| is(path, WAITING)) {
            let target = path.with_extension(TAKEN);
            if !taken.contains(&target) {
                fs::rename(path, &target)?;
                taken.push(target);
            }
        }
        Ok(taken)
    }

    /// Forgets what nobody will ever take, and counts it.
    pub(super) fn drop_file(&self, path: &Path) -> io::Result<()> {
        self.count_dropped();
        fs::remove_file(path)
    }

    fn make(&self) -> io::Result<()> {
        files::make_private_folder(&self.folder)?;
        files::check_private_folder(&self.folder)?;
        let dropped = self.folder.join(DROPPED);
        // There before the disk is full: a dot more takes no room then.
        if dropped.exists() { Ok(()) } else { files::write_private(&dropped, DROPPED_LINE.as_bytes()) }
    }

    fn count_dropped(&self) {
        let options = &mut OpenOptions::new();
        // Where not even a dot can be written, nobody can be told.
        let _ =
            files::open_no_link(&self.folder.join(DROPPED), options.append(true)).and_then(|mut f| f.write_all(b"."));
    }

    fn entries(&self) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
        }
    }

    fn file(&self, session: &Digest) -> PathBuf {
        let hex: String = session.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(hex).with_extension(WAITING)
    }
}

fn is(path: &Path, word: &str) -> bool {
    path.extension().is_some_and(|extension| extension == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(seed: u8, ended: Option<i64>) -> Connection {
        Connection {
            session: Digest::from_bytes([seed; 32]),
            certificate: "x y".to_owned(),
            account: "postgres".to_owned(),
            source: "::1".to_owned(),
            began: Timestamp::from_unix(1000),
            ended: ended.map(Timestamp::from_unix),
        }
    }

    fn spool(dir: &tempfile::TempDir) -> Spool {
        Spool::at(&dir.path().join("sessions"))
    }

    /// An end that comes while the begin is on its way is not lost with it.
    #[test]
    fn an_end_is_remembered_beside_a_begin_that_is_being_told() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        assert!(spool.take().unwrap().is_empty(), "nobody came yet");
        assert_eq!(spool.held().unwrap(), Held { waiting: 0, since: None, dropped: 0 });
        spool.remember(&remembered(1, None)).unwrap();
        let first = spool.take().unwrap();
        spool.remember(&remembered(1, Some(1010))).unwrap();
        assert_eq!(spool.take().unwrap(), first, "one after the other");
        assert_eq!(spool.held().unwrap().waiting, 2);
        fs::remove_file(&first[0]).unwrap();
        let second = spool.take().unwrap();
        let read: Connection = serde_json::from_slice(&fs::read(&second[0]).unwrap()).unwrap();
        assert_eq!(read, remembered(1, Some(1010)));
    }

    #[test]
    fn the_memory_is_roots_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let spool = spool(&dir);
        spool.remember(&remembered(1, None)).unwrap();
        for number in 1..MOST {
            fs::write(spool.folder.join(format!("{number}.taken")), "").unwrap();
        }
        for dropped in 1..3 {
            assert!(spool.remember(&remembered(2, None)).is_err());
            assert_eq!(spool.held().unwrap().dropped, dropped);
        }
        spool.remember(&remembered(1, Some(1010))).unwrap();
        assert_eq!(spool.held().unwrap().dropped, 2, "the end of one that waits takes no room");
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Spool::at(&open).remember(&remembered(1, None)).is_err());
    }
}
