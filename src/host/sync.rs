//! Keeps what sshd reads in step with the service: the list of revoked certificates (`RevokedKeys`), and the CAs whose
//! certificates it takes (`TrustedUserCAKeys`). A file is replaced whole, by something newer that a pinned key signed,
//! or left as it is: without a list sshd lets nobody in, and with an older one it lets in whom it must not.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::client::api::{Api, ApiError};
use crate::client::published::{self, Unfollowed};
use crate::domain::digest::Digest;
use crate::domain::krl::{self, BadKrl, Header};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::domain::trust::{Chain, Trust};
use crate::domain::verify::Signed;
use crate::files;

use super::certificate::{CertificateError, Own, Renewal};
use super::config::{BadConfig, HostConfig};
use super::session::BREAK_GLASS_COMMENT;
use super::status;

/// The list of revoked certificates and keys. It was last confirmed to be the newest when it was last modified.
pub const KRL: &str = "revoked.krl";
/// The pinned trust document.
pub const TRUST: &str = "trust.json";
/// The CAs that sshd takes certificates of.
pub const CAS: &str = "user-ca.pub";

/// So long the service holds a question to which there is no new answer.
const WAIT: Duration = Duration::from_secs(25);
/// An answer that came sooner came from something that does not wait.
const SOON: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// So often it is asked whether the host's certificate is to be renewed.
const RENEW_EVERY: Duration = Duration::from_mins(10);
/// So often the service hears how far this host is, though nothing changed.
const SAID_EVERY: Duration = Duration::from_mins(10);
/// No file here is longer.
const LONGEST: u64 = 64 * 1024 * 1024;

/// A host's folder, and the service that it belongs to.
#[derive(Debug)]
pub struct Sync {
    folder: PathBuf,
    config: HostConfig,
    api: Api,
    /// What the service was told last: the numbers of trust document and list, and when.
    said: Cell<Option<(u64, u64, Instant)>>,
}

/// What one look at the service came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The number of the list that is here now.
    pub number: u64,
    /// Whether it is a new one.
    pub new_list: bool,
    /// Whether the CAs changed.
    pub new_cas: bool,
    /// Why the service was not told how far this host is, where it was to be.
    pub untold: Option<String>,
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The number of the list.
    pub number: u64,
    /// When it was made.
    pub generated: Timestamp,
    /// When the service last said that there is no newer one.
    pub confirmed: Timestamp,
    /// The number of the trust document.
    pub trust: u64,
}

/// Why everything stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The service gave nothing.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A file or the folder cannot be read or written, or is not ours alone.
    #[error("{path}: {error}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// Another service answers than the one that is pinned.
    #[error("another service answers at {url}: instance {instance}")]
    OtherInstance {
        /// The address.
        url: String,
        /// Who answers.
        instance: String,
    },
    /// The trust document does not follow from the pinned one.
    #[error("the trust document is not believed: {0}")]
    Trust(Refusal),
    /// The KRL key did not sign the list.
    #[error("the list of revoked certificates is not believed: {0}")]
    Unsigned(Refusal),
    /// What was signed is no list.
    #[error("the list of revoked certificates is not used: {0}")]
    Krl(#[from] BadKrl),
    /// A list for another service.
    #[error("the list of revoked certificates is another service's")]
    ForeignKrl,
    /// A list that is not newer.
    #[error("the list of revoked certificates is older than the one here: number {got}, and {here} is here")]
    OlderKrl {
        /// The number of the list that came.
        got: u64,
        /// The number of the one that is here.
        here: u64,
    },
    /// The host's own certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There is no list yet.
    #[error("{0}: there is no list of revoked certificates yet")]
    Never(PathBuf),
}

impl Sync {
    /// Reads the folder's configuration. Nothing is asked yet.
    pub fn open(folder: &Path) -> Result<Self, SyncError> {
        let config = HostConfig::load(folder)?;
        let api = Api::new(&config.server, config.ca_certificate.as_deref())?;
        Ok(Self { folder: folder.to_owned(), config, api, said: Cell::new(None) })
    }

    /// Looks for ever, and `tell`s what each look came to, and how many in a row came to nothing. A revocation arrives
    /// the moment it is made. Where something on the way does not let questions wait, it asks again and again. Now and
    /// then it sees to the host's certificate, too.
    pub fn follow(
        &self,
        now: impl Fn() -> Timestamp,
        mut tell: impl FnMut(Result<Look, SyncError>, u32),
        mut tell_renewal: impl FnMut(Result<Renewal, SyncError>),
    ) -> ! {
        let (mut failures, mut wait) = (0, Duration::ZERO);
        let mut renewed: Option<Instant> = None;
        loop {
            let begun = Instant::now();
            if renewed.is_none_or(|at| at.elapsed() >= RENEW_EVERY) {
                renewed = Some(begun);
                self.renew().transpose().into_iter().for_each(&mut tell_renewal);
            }
            let outcome = self.look(wait, &now);
            (failures, wait) = if outcome.is_ok() { (0, WAIT) } else { (failures + 1, Duration::ZERO) };
            let idle = outcome.as_ref().is_ok_and(|look| !look.new_list) && begun.elapsed() < SOON;
            tell(outcome, failures);
            if failures > 0 || idle {
                sleep(pause(failures));
            }
        }
    }

    /// Looks once. Waits so long for a list other than the one that is here.
    pub fn look(&self, wait: Duration, now: impl Fn() -> Timestamp) -> Result<Look, SyncError> {
        let trust = self.newest_trust()?;
        let new_cas = self.write_cas(&trust)?;
        let here = self.read(KRL).ok().flatten().and_then(|bytes| Some((Header::read(&bytes).ok()?, bytes)));
        let known = here.as_ref().map(|(_, bytes)| Digest::of(bytes));
        let here = here.map(|(header, _)| header.number);
        let signed = self.api.krl(known, wait)?;
        let number = match &signed {
            Some(signed) => self.take(&trust, signed, here)?,
            None => here.unwrap_or_default(),
        };
        self.confirm(now()).map_err(|error| self.blame(KRL, error))?;
        let untold = self.tell(trust.number, number).err().map(|error| error.to_string());
        Ok(Look { number, new_list: signed.is_some(), new_cas, untold })
    }

    /// Tells the service how far this host is, when that changed or it is a while ago. A host that cannot goes on.
    fn tell(&self, trust: u64, krl: u64) -> Result<(), status::Untold> {
        let same = |(t, k, at): (u64, u64, Instant)| (t, k) == (trust, krl) && at.elapsed() < SAID_EVERY;
        let Some(name) = self.config.name.as_ref().filter(|_| !self.said.get().is_some_and(same)) else {
            return Ok(());
        };
        status::tell(&self.config, name, &self.api, (trust, krl))?;
        self.said.set(Some((trust, krl, Instant::now())));
        Ok(())
    }

    /// Sees to the host's own certificate, where it has one, by the service's time: this machine's may be wrong.
    pub fn renew(&self) -> Result<Option<Renewal>, SyncError> {
        let Some(certified) = &self.config.certificate else { return Ok(None) };
        let trust = self.newest_trust()?;
        let (_, now) = self.api.time()?;
        let own = Own { folder: &self.folder, certified, api: &self.api, trust: &trust };
        Ok(Some(own.renew(now)?))
    }

    /// What is here, without asking anybody.
    pub fn status(&self) -> Result<Status, SyncError> {
        let never = || SyncError::Never(self.folder.join(KRL));
        let header = Header::read(&self.read(KRL)?.ok_or_else(never)?)?;
        let path = self.folder.join(KRL);
        let modified = path.metadata().and_then(|facts| facts.modified()).map_err(|error| self.blame(KRL, error))?;
        let confirmed = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Status {
            number: header.number,
            generated: header.generated,
            confirmed: Timestamp::from_unix(i64::try_from(confirmed).unwrap_or(i64::MAX)),
            trust: self.pinned()?.map_or(0, |chain| chain.newest().number),
        })
    }

    /// Replaces the list by a newer one.
    fn take(&self, trust: &Trust, signed: &Signed, here: Option<u64>) -> Result<u64, SyncError> {
        signed.is_by(&trust.krl_key, krl::NAMESPACE).map_err(SyncError::Unsigned)?;
        let header = Header::read(signed.bytes())?;
        if header.comment != self.config.instance.to_string() {
            return Err(SyncError::ForeignKrl);
        }
        if let Some(here) = here.filter(|here| header.number < *here) {
            return Err(SyncError::OlderKrl { got: header.number, here });
        }
        self.write(KRL, signed.bytes())?;
        Ok(header.number)
    }

    /// Notes that the list is the newest.
    fn confirm(&self, now: Timestamp) -> io::Result<()> {
        let file = files::open_no_link(&self.folder.join(KRL), OpenOptions::new().write(true))?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(now.unix().unsigned_abs()))
    }

    /// The pinned trust document, or the newer one that it vouches for, which is then pinned in its place. The first is
    /// believed for the instance that the configuration names.
    fn newest_trust(&self) -> Result<Trust, SyncError> {
        files::check_own_folder(&self.folder).map_err(|error| self.blame("", error))?;
        let (instance, number) = self.api.instance()?;
        self.is_ours(&instance.to_string())?;
        let pinned = self.pinned()?;
        if let Some(chain) = pinned.as_ref().filter(|chain| chain.newest().number >= number) {
            return Ok(chain.newest().clone());
        }
        let next = self.api.follow(pinned).map_err(|error| match error {
            Unfollowed::Api(error) => SyncError::Api(error),
            Unfollowed::Refused(refusal) => SyncError::Trust(refusal),
        })?;
        self.is_ours(&next.newest().instance.to_string())?;
        self.write(TRUST, &published::to_json(next.signed()))?;
        Ok(next.newest().clone())
    }

    fn pinned(&self) -> Result<Option<Chain>, SyncError> {
        let Some(bytes) = self.read(TRUST)? else { return Ok(None) };
        let chain = published::from_json(&bytes).and_then(Chain::first_contact).map_err(SyncError::Trust)?;
        self.is_ours(&chain.newest().instance.to_string())?;
        Ok(Some(chain))
    }

    fn is_ours(&self, instance: &str) -> Result<(), SyncError> {
        if *instance == self.config.instance.to_string() {
            return Ok(());
        }
        Err(SyncError::OtherInstance { url: self.api.url().to_owned(), instance: instance.to_owned() })
    }

    /// Gives whether the CAs changed.
    fn write_cas(&self, trust: &Trust) -> Result<bool, SyncError> {
        let text = user_ca(trust);
        if self.read(CAS).ok().flatten().is_some_and(|here| here == text.as_bytes()) {
            return Ok(false);
        }
        self.write(CAS, text.as_bytes()).map(|()| true)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, SyncError> {
        let read = || {
            let file = files::open_no_link(&self.folder.join(name), OpenOptions::new().read(true))?;
            let mut content = Vec::new();
            file.take(LONGEST).read_to_end(&mut content).map(|_| content)
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(|error| self.blame(name, error)),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), SyncError> {
        files::write_public(&self.folder.join(name), content).map_err(|error| self.blame(name, error))
    }

    fn blame(&self, name: &str, error: io::Error) -> SyncError {
        SyncError::File { path: self.folder.join(name), error }
    }
}

/// Longer after each attempt that came to nothing.
pub(super) fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}

/// The lines of sshd's `TrustedUserCAKeys`. What opens a session tells broken glass by the comment.
pub(super) fn user_ca(trust: &Trust) -> String {
    let users = trust.user_ca.iter().map(|key| format!("{key} ssh-jit-user-ca\n"));
    users.chain(trust.break_glass_ca.iter().map(|key| format!("{key} {BREAK_GLASS_COMMENT}\n"))).collect()
}
