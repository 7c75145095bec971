//! The subject key of a request: made fresh, used for one certificate, kept in the agent, or in a file
//! of mode 0600 where there is none.

use std::io;
use std::num::NonZeroU32;
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::domain::key::PublicKey;
use crate::domain::sshsig::{self, SshSig};
use crate::files;

use super::agent::{Agent, AgentError};

/// Why the subject key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It cannot be kept.
    #[error("the request's key cannot be kept: {0}")]
    Keep(io::Error),
    /// It is gone: the agent ended, or somebody removed it.
    #[error("the request's key is neither in the ssh-agent nor in its file, so nobody can claim with it")]
    Gone,
    /// The agent failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// What came out is no signature by this key.
    #[error("the request's key does not sign as it should")]
    Faulty,
}

/// A subject key that this process can sign with.
pub struct Subject {
    public: PublicKey,
    holder: Holder,
}

enum Holder {
    /// In memory: this process made it, or read it from its file.
    Here(Box<SigningKey>),
    /// In the agent, under this blob (the key's, or its certificate's).
    Agent(Agent, Vec<u8>),
}

impl Subject {
    /// A new key from 32 random bytes.
    pub fn new(seed: &[u8; 32]) -> Result<Self, SubjectError> {
        let private = SigningKey::from_bytes(seed);
        let data =
            ssh_key::public::KeyData::from(ssh_key::public::Ed25519PublicKey(private.verifying_key().to_bytes()));
        let line = ssh_key::PublicKey::from(data).to_openssh().map_err(|_| SubjectError::Faulty)?;
        let public = line.parse().map_err(|_| SubjectError::Faulty)?;
        Ok(Self { public, holder: Holder::Here(Box::new(private)) })
    }

    /// The key of an earlier request: from its file, or still in the agent, alone or with `certificate`.
    pub fn find(
        public: &PublicKey,
        file: &Path,
        agent: Option<Agent>,
        certificate: Option<&[u8]>,
    ) -> Result<Self, SubjectError> {
        if file.exists() {
            let text = files::read_private(file).map_err(SubjectError::Keep)?;
            let key = PrivateKey::from_openssh(text.as_slice()).map_err(|_| SubjectError::Gone)?;
            let KeypairData::Ed25519(Ed25519Keypair { private, .. }) = key.key_data() else {
                return Err(SubjectError::Gone);
            };
            let found = Self::new(private.as_ref())?;
            return if found.public == *public { Ok(found) } else { Err(SubjectError::Gone) };
        }
        let mut agent = agent.ok_or(SubjectError::Gone)?;
        let held = agent.identities()?;
        let wanted = [Some(public.blob()), certificate];
        let blob = wanted.into_iter().flatten().find(|blob| held.iter().any(|identity| identity.blob == *blob));
        let blob = blob.ok_or(SubjectError::Gone)?.to_vec();
        Ok(Self { public: public.clone(), holder: Holder::Agent(agent, blob) })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Keeps the key for a later process: in the agent for so many seconds, else in the file. Gives
    /// whether the agent has it.
    pub fn keep(
        &self,
        agent: Option<&mut Agent>,
        file: &Path,
        comment: &str,
        lifetime: NonZeroU32,
    ) -> Result<bool, SubjectError> {
        let Holder::Here(private) = &self.holder else { return Ok(true) };
        if let Some(agent) = agent
            && agent.add(private, None, comment, lifetime).is_ok()
        {
            return Ok(true);
        }
        let seed = Zeroizing::new(private.to_bytes());
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(pair, comment).map_err(|_| SubjectError::Faulty)?;
        let text = key.to_openssh(LineEnding::LF).map_err(|_| SubjectError::Faulty)?;
        files::write_private(file, text.as_bytes()).map_err(SubjectError::Keep)?;
        Ok(false)
    }

    /// Gives the agent the certificate together with the key, until the certificate ends, and takes
    /// the bare key out: an identity that no host accepts costs one of sshd's six tries. Gives whether
    /// the agent has it; one that holds only the bare key cannot be given the certificate.
    pub fn certify(&self, agent: Option<&mut Agent>, certificate: &[u8], comment: &str, lifetime: NonZeroU32) -> bool {
        let (Holder::Here(private), Some(agent)) = (&self.holder, agent) else { return false };
        let added = agent.add(private, Some(certificate), comment, lifetime).is_ok();
        if added {
            // It may never have been there.
            let _ = agent.remove(self.public.blob());
        }
        added
    }

    /// The key itself, where this process has it: for an agent of its own.
    pub(super) fn private(&self) -> Option<&SigningKey> {
        match &self.holder {
            Holder::Here(private) => Some(private),
            Holder::Agent(..) => None,
        }
    }

    /// Signs a statement's bytes.
    pub fn sign(&mut self, namespace: &str, message: &[u8]) -> Result<SshSig, SubjectError> {
        let blob = sshsig::signed_blob(namespace, message);
        let wire = match &mut self.holder {
            Holder::Here(private) => sshsig::ed25519_wire(&private.sign(&blob).to_bytes()),
            Holder::Agent(agent, held) => agent.sign_certified(held, &self.public, &blob)?,
        };
        let signature = SshSig::from_signature(&self.public, namespace, &wire).map_err(|_| SubjectError::Faulty)?;
        signature.check(message).map_err(|_| SubjectError::Faulty)?;
        Ok(signature)
    }
}
