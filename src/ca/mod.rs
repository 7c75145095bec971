//! The service's own keys. A CA key signs certificates that a grant led to, and trust documents; it
//! has no way to sign bytes that somebody hands it. The other keys sign what the service itself says.

mod keys;
mod trust_file;

pub use keys::{KeyError, Keys, Passphrase};
pub use trust_file::{read_trust, write_trust};

use ed25519_dalek::{Signer as _, SigningKey};

use crate::domain::certificate::{Certificate, Certifies, ToBeSigned};
use crate::domain::key::PublicKey;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::{self, SshSig};
use crate::domain::trust;
use crate::domain::verify::Signed;

/// A key that certifies. The private half is wiped when it is dropped.
pub struct CaKey(Pair);

/// A key that signs what the service says: heads of the log, journal entries, lists of revoked keys.
pub struct ServiceKey(Pair);

struct Pair {
    private: SigningKey,
    public: PublicKey,
}

impl CaKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs a certificate, and verifies what came out before anybody gets it.
    pub fn certify<G: Certifies>(&self, tbs: &ToBeSigned<G>) -> Result<Certificate, Refusal> {
        tbs.finish(&self.0.private.sign(tbs.bytes()).to_bytes())
    }

    /// Signs a trust document.
    pub fn vouch(&self, document: Vec<u8>) -> Result<Signed, Refusal> {
        self.0.sign(trust::NAMESPACE, document)
    }
}

impl ServiceKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs a document as an SSHSIG.
    pub fn sign(&self, namespace: &str, document: Vec<u8>) -> Result<Signed, Refusal> {
        self.0.sign(namespace, document)
    }
}

impl Pair {
    fn sign(&self, namespace: &str, document: Vec<u8>) -> Result<Signed, Refusal> {
        let signature = self.private.sign(&sshsig::signed_blob(namespace, &document)).to_bytes();
        let wire = sshsig::ed25519_wire(&signature);
        Ok(Signed::new(document, SshSig::from_signature(&self.public, namespace, &wire)?))
    }
}
