//! What certificates were used for on this host: remembered in a folder until the service has heard of it, however
//! long service and network are away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::client::api::{Api, ApiError};
use crate::client::identity::{Identity, IdentityError};
use crate::domain::digest::Digest;
use crate::domain::names::{HostName, InstanceId};
use crate::domain::statement::Version;
use crate::domain::time::Timestamp;
use crate::domain::usage::{Connection, NAMESPACE, Use, UseTag};
use crate::domain::verify::Signed;
use crate::files;

use super::process::Process;
use super::session::Admitted;

/// Where connections are remembered: root's, mode 0700.
pub const FOLDER: &str = "/var/lib/ssh-jit/sessions";
/// No more are, so that a service that stays away fills no disk.
const MOST: usize = 10_000;
/// What waits to be sent, and what was about to be.
const WAITING: &str = "json";
const TAKEN: &str = "taken";

/// Why nothing was sent, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The folder.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// Its path, or a file's in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: io::Error,
    },
    /// The host's key does not sign.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The service does not take it.
    #[error(transparent)]
    Service(#[from] ApiError),
}

/// The connection of this sshd, opened by this certificate.
pub fn connection(sshd: Process, admitted: &Admitted, account: &str, source: &str, now: Timestamp) -> Connection {
    let numbers = format!("{} {} {now}", sshd.pid, sshd.start);
    Connection {
        session: Digest::of_parts(&[admitted.certificate.as_bytes(), numbers.as_bytes()]),
        certificate: admitted.certificate.clone(),
        account: account.to_owned(),
        source: source.to_owned(),
        began: now,
        ended: None,
    }
}

/// Remembers a connection: once when it begins, once more when it has ended.
pub fn remember(folder: &Path, connection: &Connection) -> io::Result<()> {
    files::make_private_folder(folder)?;
    files::check_private_folder(folder)?;
    if fs::read_dir(folder)?.count() >= MOST {
        return Err(io::Error::other("it holds too many connections that nobody was told of"));
    }
    files::write_private(&file(folder, &connection.session, WAITING), &serde_json::to_vec(connection)?)
}

/// Tells the service of everything that is remembered, and forgets what it has taken. Gives how much that was.
pub fn send(
    folder: &Path,
    api: &Api,
    key: &mut Identity,
    (instance, host, now): (&InstanceId, &HostName, Timestamp),
) -> Result<usize, UsageError> {
    let mut sent = 0;
    for path in taken(folder)? {
        let blame = |reason: io::Error| UsageError::Folder { path: path.clone(), reason };
        let bytes = files::read_private(&path).map_err(blame)?;
        let connection: Connection = serde_json::from_slice(&bytes).map_err(|e| blame(e.into()))?;
        let (instance, host) = (instance.clone(), host.clone());
        let stated = Use { v: Version, kind: UseTag::Use, instance, host, connection, at: now };
        let bytes = serde_json::to_vec(&stated).map_err(|e| blame(e.into()))?;
        let signature = key.sign(NAMESPACE, &bytes)?;
        match api.post_only("/v1/uses", &(&Signed::new(bytes, signature)).into()) {
            // Of a CA that the service no longer has: it would be refused for ever.
            Err(refused) if refused.code() == Some("foreign-certificate") => {}
            other => other?,
        }
        fs::remove_file(&path).map_err(blame)?;
        sent += 1;
    }
    Ok(sent)
}

/// What is to be sent, under names that nobody writes to: a connection that ends meanwhile is remembered beside it.
fn taken(folder: &Path) -> Result<Vec<PathBuf>, UsageError> {
    let blame = |reason| UsageError::Folder { path: folder.to_owned(), reason };
    let paths =
        || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect() };
    let found = match paths() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(blame)?,
    };
    let ends_in = |path: &PathBuf, word: &str| path.extension().is_some_and(|extension| extension == word);
    // What was taken before and not sent goes first: the end of a connection comes after its begin.
    let mut taken: Vec<PathBuf> = found.iter().filter(|path| ends_in(path, TAKEN)).cloned().collect();
    for path in found.iter().filter(|path| ends_in(path, WAITING)) {
        let target = path.with_extension(TAKEN);
        if !taken.contains(&target) {
            fs::rename(path, &target).map_err(blame)?;
            taken.push(target);
        }
    }
    Ok(taken)
}

fn file(folder: &Path, session: &Digest, extension: &str) -> PathBuf {
    let hex: String = session.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    folder.join(hex).with_extension(extension)
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

    /// An end that comes while the begin is on its way is not lost with it.
    #[test]
    fn an_end_is_remembered_beside_a_begin_that_is_being_sent() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sessions");
        assert!(taken(&folder).unwrap().is_empty(), "nobody came yet");
        remember(&folder, &remembered(1, None)).unwrap();
        let first = taken(&folder).unwrap();
        remember(&folder, &remembered(1, Some(1010))).unwrap();
        assert_eq!(taken(&folder).unwrap(), first, "one after the other");
        fs::remove_file(&first[0]).unwrap();
        let second = taken(&folder).unwrap();
        let read: Connection = serde_json::from_slice(&fs::read(&second[0]).unwrap()).unwrap();
        assert_eq!(read, remembered(1, Some(1010)));
    }

    #[test]
    fn the_memory_is_roots_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sessions");
        remember(&folder, &remembered(1, None)).unwrap();
        for number in 1..MOST {
            fs::write(folder.join(format!("{number}.taken")), "").unwrap();
        }
        assert!(remember(&folder, &remembered(2, None)).is_err());
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(remember(&open, &remembered(1, None)).is_err());
    }
}
