//! The host's own certificate: asked for, put where sshd finds it, and renewed before it ends. sshd reads it when it
//! starts or is told to; whether it was told stands beside, so that a host that goes down in between tells it later.

use std::io;
use std::path::{Path, PathBuf};

use crate::client::api::Api;
use crate::client::certificate::OfHost;
use crate::client::host::{NotCertified, Token};
use crate::client::identity::Identity;
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::files;

use super::config::Certified;
use super::error::HostError;
use super::layout::Layout;
use super::sshd::Sshd;

/// The certificate, for sshd's `HostCertificate`.
pub const FILE: &str = "host-cert.pub";
/// It is there while sshd may not have read the newest one.
pub const UNREAD: &str = "host-cert.unread";

/// It is renewed when less than a third of its time is left.
const PARTS: i64 = 3;

/// A host's folder, what it is to be certified as, and by whom.
#[derive(Debug)]
pub struct Own<'a> {
    /// The folder with the certificate.
    pub folder: &'a Path,
    /// The host and its key.
    pub certified: &'a Certified,
    /// The service.
    pub api: &'a Api,
    /// What it may sign with.
    pub trust: &'a Trust,
}

/// What became of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The one that is here counts until this time, and is kept for now.
    Kept(Timestamp),
    /// There is a new one, which counts until this time.
    Renewed(Timestamp),
}

/// Why there is no new one, or sshd does not show it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// None was given.
    #[error("the host's certificate is not renewed: {0}")]
    NotCertified(#[from] NotCertified),
    /// It cannot be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// sshd does not read it.
    #[error("sshd does not show the host's new certificate yet: {0}")]
    Sshd(#[from] HostError),
}

impl Own<'_> {
    /// Renews the certificate where it is time to, and has sshd read what it has not read.
    pub fn renew(&self, now: Timestamp) -> Result<Renewal, CertificateError> {
        let renewal = match held(&self.folder.join(FILE), self.certified, self.trust) {
            Ok(held) if !is_due(&held, now) => Renewal::Kept(held.valid_before),
            _ => Renewal::Renewed(self.ask(None, now)?.valid_before),
        };
        self.tell_sshd()?;
        Ok(renewal)
    }

    /// Asks for a certificate and puts it where sshd finds it.
    pub fn ask(&self, token: Option<&Token>, now: Timestamp) -> Result<OfHost, CertificateError> {
        let mut key = key(&self.certified.key).map_err(NotCertified::from)?;
        let made = self.api.certify_host((self.trust, &self.certified.host, now), &mut key, token)?;
        self.write(UNREAD, b"")?;
        self.write(FILE, format!("{}\n", made.line).as_bytes())?;
        Ok(made)
    }

    /// Has sshd read the certificate, unless it did.
    fn tell_sshd(&self) -> Result<(), CertificateError> {
        if !self.folder.join(UNREAD).exists() {
            return Ok(());
        }
        let layout = Layout::of_folder(self.folder)?;
        let sshd = Sshd::find(&layout, None)?;
        sshd.test()?;
        sshd.reload(&layout, &sshd.settings(None)?)?;
        self.was_read()
    }

    fn was_read(&self) -> Result<(), CertificateError> {
        let path = self.folder.join(UNREAD);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CertificateError::File { path, error }),
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), CertificateError> {
        let path = self.folder.join(name);
        files::write_public(&path, content).map_err(|error| CertificateError::File { path, error })
    }
}

/// The certificate in a file, if it is this host's, and of a CA that is trusted; or why it counts for nothing.
pub fn held(path: &Path, certified: &Certified, trust: &Trust) -> Result<OfHost, String> {
    let line = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let key = key(&certified.key).map_err(|e| e.to_string())?;
    let held = OfHost::read(line.trim_end(), &trust.host_ca, key.public_key(), &certified.host);
    held.map_err(|surprise| format!("its {} is not this host's", surprise.0))
}

/// Whether less than a third of its time is left.
pub fn is_due(held: &OfHost, now: Timestamp) -> bool {
    held.valid_before.since(now) * PARTS < held.valid_before.since(held.valid_after)
}

/// A host's key. Nobody is there to type a passphrase.
fn key(path: &Path) -> Result<Identity, crate::client::identity::IdentityError> {
    Identity::open(path, None, &|_| Err(io::Error::other("host keys have none")))
}
