//! The service's key folder, changed beside the service that runs on it: one command at a time, and each change is there
//! whole or not at all.

use std::path::PathBuf;

use crate::ca::{self, Keys, Passphrase};
use crate::cli::serve::passphrase;
use crate::cli::{Context, Failure};
use crate::config::ServiceConfig;
use crate::domain::trust::{Chain, Trust};

/// Which service, and how to its keys.
#[derive(clap::Args)]
pub(in crate::cli) struct Of {
    /// The service's file
    #[arg(long, value_name = "FILE", default_value = "ssh-jit.toml")]
    config: PathBuf,
    /// Read the CA keys' passphrase from this file descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

/// The folder, and the trust documents in it.
pub(super) struct Folder {
    pub(super) config: ServiceConfig,
    pub(super) chain: Chain,
    passphrase_fd: Option<u32>,
    // Held for its lock, where something is to be changed.
    _lock: Option<std::fs::File>,
}

impl Folder {
    /// Opens it, to change it or only to look.
    pub(super) fn open(of: &Of, change: bool) -> Result<Self, Failure> {
        let config = ServiceConfig::load(&of.config)?;
        let lock = change.then(|| ca::lock(&config.ca_keys)).transpose()?;
        let documents = ca::read_trusts(&config.ca_keys)?;
        let (first, later) = documents.split_first().ok_or_else(|| Failure::new("there is no trust document"))?;
        let chain = Chain::first_contact(first.clone())?.forward(later)?;
        Ok(Self { config, chain, passphrase_fd: of.passphrase_fd, _lock: lock })
    }

    /// Reads the private halves. Gives the passphrase, too, where they are encrypted.
    pub(super) fn unlock(&self, context: &Context) -> Result<(Keys, Option<Passphrase>), Failure> {
        let mut asked = None;
        let keys = Keys::load(&self.config.ca_keys, || {
            let secret = passphrase(&context.environment, self.passphrase_fd)?;
            asked = Some(secret.clone());
            Ok(secret)
        })?;
        let foreign = || Failure::new("trust.json names other keys than ca-keys holds; put back what belongs together");
        Ok((keys.spoken_for_by(self.chain.newest()).ok_or_else(foreign)?, asked))
    }

    /// The document that is to follow the newest.
    pub(super) fn next(&self, context: &Context) -> Trust {
        self.chain.newest().next(self.chain.signed().digest(), context.clock.now().second())
    }

    /// Signs a document that follows the newest, and puts it beside that.
    pub(super) fn publish(&self, keys: &Keys, next: &Trust) -> Result<(), Failure> {
        let signed = keys.user_ca.vouch(serde_json::to_vec(next)?)?;
        // What nobody could follow is not written.
        self.chain.clone().forward(std::slice::from_ref(&signed))?;
        Ok(ca::write_trust(&self.config.ca_keys, &signed)?)
    }
}

/// What is left to do when a document was written.
pub(super) const TAKE_IT_UP: &str = "next: have the running service take it up: kill -HUP, or systemctl reload";
