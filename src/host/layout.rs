//! Where things lie on a host: below `/`, or below another folder that stands for it in a trial.

use std::path::{Path, PathBuf};

use crate::domain::names::AccountName;
use crate::files;

use super::certificate;
use super::error::HostError;
use super::spool;

/// The paths of a host, each with its root before it.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

/// Refuses a path in which sshd or systemd would expand, split or quote something.
pub(super) fn plain(path: &Path) -> Result<(), HostError> {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b));
    if path.to_str().is_some_and(plain) { Ok(()) } else { Err(HostError::Special(path.to_owned())) }
}

impl Layout {
    /// The host whose files lie below `root`. sshd has to find them there, so the files that name others have the
    /// root in those names.
    pub fn below(root: &Path) -> Result<Self, HostError> {
        let root = root.canonicalize().map_err(|e| HostError::file("read", root, e))?;
        plain(&root)?;
        Ok(Self { root })
    }

    /// The host whose folder of ours this is.
    pub fn of_folder(folder: &Path) -> Result<Self, HostError> {
        let layout = Self::below(folder.ancestors().nth(3).unwrap_or(folder))?;
        let folder = folder.canonicalize().map_err(|e| HostError::file("read", folder, e))?;
        if layout.folder() == folder { Ok(layout) } else { Err(HostError::NotSetUp(layout.manifest())) }
    }

    /// Whether this is the machine itself.
    pub fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A path of the host, with the root before it unless it stands there.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if path.starts_with(&self.root) {
            path.to_owned()
        } else {
            self.root.join(path.strip_prefix("/").unwrap_or(path))
        }
    }

    /// Ours.
    pub fn folder(&self) -> PathBuf {
        self.at("/etc/ssh/ssh-jit")
    }

    /// What `host sync` is told: `server`, `instance`, `ca_certificate`.
    pub fn host_toml(&self) -> PathBuf {
        self.folder().join("host.toml")
    }

    /// The only CA that is believed to certify the service's HTTPS.
    pub fn tls_ca(&self) -> PathBuf {
        self.folder().join("tls-ca.pem")
    }

    /// The pinned trust document.
    pub fn trust(&self) -> PathBuf {
        self.folder().join("trust.json")
    }

    /// sshd's TrustedUserCAKeys.
    pub fn user_ca(&self) -> PathBuf {
        self.folder().join("user-ca.pub")
    }

    /// sshd's RevokedKeys.
    pub fn krl(&self) -> PathBuf {
        self.folder().join("revoked.krl")
    }

    /// sshd's HostCertificate.
    pub fn host_certificate(&self) -> PathBuf {
        self.folder().join(certificate::FILE)
    }

    /// It is there while sshd may not have read that.
    pub fn unread(&self) -> PathBuf {
        self.folder().join(certificate::UNREAD)
    }

    /// The folder of sshd's AuthorizedPrincipalsFiles.
    pub fn principals(&self) -> PathBuf {
        self.folder().join("principals")
    }

    /// The principals that are let into an account.
    pub fn principals_of(&self, account: &AccountName) -> PathBuf {
        self.principals().join(account.as_str())
    }

    /// What PAM or sshd runs when a session opens.
    pub fn session(&self) -> PathBuf {
        self.folder().join("session")
    }

    /// What the service has not heard of yet.
    pub fn sessions(&self) -> PathBuf {
        self.at(spool::FOLDER)
    }

    /// What was written, so that it can be taken back.
    pub fn manifest(&self) -> PathBuf {
        self.folder().join("manifest.json")
    }

    /// sshd's configuration.
    pub fn sshd_config(&self) -> PathBuf {
        self.at("/etc/ssh/sshd_config")
    }

    /// What PAM does when somebody comes by sshd.
    pub fn pam(&self) -> PathBuf {
        self.at("/etc/pam.d/sshd")
    }

    /// Our part of sshd's configuration.
    pub fn drop_in(&self) -> PathBuf {
        self.at("/etc/ssh/sshd_config.d/10-ssh-jit.conf")
    }

    /// systemd's unit for `host sync`.
    pub fn unit(&self) -> PathBuf {
        self.at("/etc/systemd/system").join(UNIT)
    }

    /// The link by which systemd starts it.
    pub fn unit_link(&self) -> PathBuf {
        self.at("/etc/systemd/system/multi-user.target.wants").join(UNIT)
    }

    /// Whether systemd runs there.
    pub fn has_systemd(&self) -> bool {
        self.at("/run/systemd/system").is_dir()
    }

    /// What `host sync` replaces.
    pub fn is_kept_by_sync(&self, path: &Path) -> bool {
        [self.trust(), self.user_ca(), self.krl(), self.host_certificate()].iter().any(|kept| kept == path)
    }

    /// Refuses a path whose folders others could exchange, or that leads through a link. What is missing counts as
    /// good: it is about to be made.
    pub fn check_folders(&self, path: &Path) -> Result<(), HostError> {
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        for folder in above.filter(|folder| folder.symlink_metadata().is_ok()) {
            files::check_own_folder(folder).map_err(|e| HostError::file("use", folder, e))?;
        }
        Ok(())
    }
}

/// The name of systemd's unit for `host sync`.
pub(super) const UNIT: &str = "ssh-jit-host-sync.service";
