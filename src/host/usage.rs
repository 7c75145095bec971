//! Tells the service what certificates were used for on this host, as the host's SSH key signs it: however long service
//! and network are away, what waits is told when they are back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::api::{Api, ApiError};
use crate::client::identity::{Identity, IdentityError};
use crate::domain::digest::Digest;
use crate::domain::names::HostName;
use crate::domain::statement::Version;
use crate::domain::time::Timestamp;
use crate::domain::usage::{Connection, NAMESPACE, Use, UseTag};
use crate::domain::verify::Signed;
use crate::files;

use super::config::{BadConfig, HostConfig};
use super::process::Process;
use super::session::Admitted;
use super::spool::Spool;
use super::sync::pause;

/// How often is looked for something to tell: so soon an alarm goes out.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why nothing was told, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The folder.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// Its path, or a file's in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: io::Error,
    },
    /// Another service answers than the one that is pinned.
    #[error("another service answers at {url}: instance {instance}")]
    OtherInstance {
        /// The address.
        url: String,
        /// Who answers.
        instance: String,
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

/// A host with its name and key, what it has to tell, and whom.
#[derive(Debug)]
pub struct Reporter {
    spool: Spool,
    config: HostConfig,
    name: HostName,
    api: Api,
}

impl Reporter {
    /// Of the host whose folder this is. Nobody is asked yet.
    pub fn open(folder: &Path, spool: Spool) -> Result<Self, UsageError> {
        let config = HostConfig::load(folder)?;
        let name = config.name(folder)?.clone();
        let api = Api::new(&config.server, config.ca_certificate.as_deref())?;
        Ok(Self { spool, config, name, api })
    }

    /// Tells for ever, and `tell`s what came of it, and how many attempts in a row came to nothing.
    pub fn follow(&self, mut tell: impl FnMut(Result<usize, UsageError>, u32)) -> ! {
        let mut failures = 0;
        loop {
            let outcome = self.report();
            failures = if outcome.is_ok() { 0 } else { failures + 1 };
            tell(outcome, failures);
            sleep(if failures == 0 { LOOK_EVERY } else { pause(failures) });
        }
    }

    /// Tells of everything that is remembered, and forgets what the service has taken, or will never take. Gives how
    /// much it took. Where nothing waits, nobody is asked.
    pub fn report(&self) -> Result<usize, UsageError> {
        let waiting = self.spool.take().map_err(|reason| folder_error(self.spool.folder(), reason))?;
        if waiting.is_empty() {
            return Ok(0);
        }
        let (instance, now) = self.api.time()?;
        if instance != self.config.instance {
            let url = self.api.url().to_owned();
            return Err(UsageError::OtherInstance { url, instance: instance.to_string() });
        }
        let no_passphrase = |_: &str| Err(io::Error::other("a host key has none"));
        let mut key = Identity::open(self.config.host_key(), None, &no_passphrase)?;
        let (begun, mut told) = (Instant::now(), 0);
        for path in waiting {
            // The service's clock counts, whatever this machine's says.
            let at = now.plus(i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX));
            told += usize::from(self.tell(&path, &mut key, at)?);
        }
        Ok(told)
    }

    /// Gives whether the service took it.
    fn tell(&self, path: &Path, key: &mut Identity, at: Timestamp) -> Result<bool, UsageError> {
        let blame = |reason| folder_error(path, reason);
        let bytes = files::read_private(path).map_err(blame)?;
        let Ok(connection) = serde_json::from_slice(&bytes) else {
            // Damaged: it must not stand before the others for ever.
            return self.spool.drop_file(path).map(|()| false).map_err(blame);
        };
        let (instance, host) = (self.config.instance.clone(), self.name.clone());
        let stated = Use { v: Version, kind: UseTag::Use, instance, host, connection, at };
        let bytes = serde_json::to_vec(&stated).map_err(|e| blame(e.into()))?;
        let signature = key.sign(NAMESPACE, &bytes)?;
        match self.api.post_only("/v1/uses", &(&Signed::new(bytes, signature)).into()) {
            // Of a CA that the service no longer has, or in words that it never takes.
            Err(refused) if matches!(refused.code(), Some("foreign-certificate" | "malformed")) => {
                self.spool.drop_file(path).map(|()| false).map_err(blame)
            }
            other => {
                other?;
                fs::remove_file(path).map(|()| true).map_err(blame)
            }
        }
    }
}

fn folder_error(path: &Path, reason: io::Error) -> UsageError {
    UsageError::Folder { path: path.to_owned(), reason }
}
