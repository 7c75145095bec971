//! The service's own keys. A CA key signs certificates that a grant led to, and trust documents; it
//! has no way to sign bytes that somebody hands it. The other keys sign what the service itself says.

mod keys;
mod trust_file;

pub use keys::{KeyError, Keys, Passphrase, held, lock, remove};
pub use trust_file::{read_trust, read_trusts, write_trust};

use ed25519_dalek::{Signer as _, SigningKey};

use crate::domain::certificate::{Certificate, Certifies, ToBeSigned};
use crate::domain::key::PublicKey;
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::{self, SshSig};
use crate::domain::trust;
use crate::domain::verify::Signed;

/// A CA: the key that certifies, and beside it those that did before or will. Private halves are wiped when dropped.
pub struct Ca {
    /// Oldest first.
    keys: Vec<Pair>,
    signs: usize,
}

/// A key that signs what the service says: heads of the log, journal entries, lists of revoked keys.
pub struct ServiceKey(Pair);

struct Pair {
    private: SigningKey,
    public: PublicKey,
}

impl Ca {
    /// The public half of the key that certifies.
    pub fn public(&self) -> &PublicKey {
        &self.signing().public
    }

    /// The public halves of all keys that are at hand, oldest first.
    pub fn held(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|pair| pair.public.clone()).collect()
    }

    /// Signs a certificate with the key that it names, and verifies what came out before anybody gets it: where that key
    /// is not at hand, nothing does.
    pub fn certify<G: Certifies>(&self, tbs: &ToBeSigned<G>) -> Result<Certificate, Refusal> {
        let pair = self.keys.iter().find(|pair| pair.public == *tbs.ca()).unwrap_or(self.signing());
        tbs.finish(&pair.private.sign(tbs.bytes()).to_bytes())
    }

    /// Signs a trust document.
    pub fn vouch(&self, document: Vec<u8>) -> Result<Signed, Refusal> {
        self.signing().sign(trust::NAMESPACE, document)
    }

    fn signing(&self) -> &Pair {
        &self.keys[self.signs]
    }

    /// Has this key certify from now on. Gives whether it is at hand.
    fn sign_with(&mut self, key: Option<&PublicKey>) -> bool {
        let at = self.keys.iter().position(|pair| key == Some(&pair.public));
        self.signs = at.unwrap_or(self.signs);
        at.is_some()
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
