//! A passkey and the browser that uses it, in software. Every part of what they sign can be changed,
//! and is signed as changed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest as _, Sha256};
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::sshsig::signed_blob;

use super::wire::{armor, key_line, mpint, sshsig, string};

pub(crate) const ORIGIN: &str = "https://ca.example";
pub(crate) const RP_ID: &str = "ca.example";

/// WebAuthn, 6.1: user present, user verified, extension data.
pub(crate) const UP: u8 = 0x01;
pub(crate) const UV: u8 = 0x04;
pub(crate) const ED: u8 = 0x80;

const KEY_TYPE: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

/// A passkey: a P-256 key at one relying party.
pub(crate) struct Passkey {
    key: SigningKey,
    rp_id: String,
}

impl Passkey {
    /// The same key for the same `seed`.
    pub(crate) fn new(seed: u8, rp_id: &str) -> Self {
        let key = SigningKey::from_slice(&Sha256::digest([seed])).expect("a scalar in range");
        Self { key, rp_id: rp_id.to_owned() }
    }

    /// The key as OpenSSH has it: an `sk-` key whose application is the relying party.
    pub(crate) fn blob(&self) -> Vec<u8> {
        let point = self.key.verifying_key().to_sec1_point(false);
        [string(KEY_TYPE), string("nistp256"), string(point.as_bytes()), string(&self.rp_id)].concat()
    }

    pub(crate) fn line(&self) -> String {
        key_line(KEY_TYPE, &self.blob())
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::from_blob(&self.blob()).expect("a passkey")
    }

    /// What an honest browser at [`ORIGIN`] makes of `statement`, up to the signature.
    pub(crate) fn assertion(&self, namespace: &str, statement: &[u8]) -> Assertion<'_> {
        Assertion {
            passkey: self,
            namespace: namespace.to_owned(),
            hash: "sha512",
            rp_id: self.rp_id.clone(),
            flags: UP | UV,
            counter: 7,
            extensions: Vec::new(),
            origin: ORIGIN.to_owned(),
            client_data: ClientData {
                r#type: "webauthn.get".to_owned(),
                challenge: URL_SAFE_NO_PAD.encode(signed_blob(namespace, statement)),
                origin: ORIGIN.to_owned(),
                rest: r#","crossOrigin":false}"#.to_owned(),
            },
            after_s: Vec::new(),
            trailing: Vec::new(),
        }
    }
}

/// An assertion to be signed. Change any field: the key signs what it finds.
#[derive(Clone)]
pub(crate) struct Assertion<'a> {
    passkey: &'a Passkey,
    /// The namespace that the SSHSIG names.
    pub(crate) namespace: String,
    /// The hash that the SSHSIG names.
    pub(crate) hash: &'static str,
    /// The relying party that the authenticator signs for.
    pub(crate) rp_id: String,
    pub(crate) flags: u8,
    pub(crate) counter: u32,
    /// CBOR in reality; nobody here looks into it.
    pub(crate) extensions: Vec<u8>,
    /// The origin that the SSH signature names, beside the one in the client data.
    pub(crate) origin: String,
    pub(crate) client_data: ClientData,
    /// Bytes after the two numbers of the ECDSA signature, which are not signed.
    pub(crate) after_s: Vec<u8>,
    /// Bytes after the last field of the SSH signature, which are not signed.
    pub(crate) trailing: Vec<u8>,
}

/// `clientDataJSON` (WebAuthn, 5.8.1), field by field as browsers order it.
#[derive(Clone)]
pub(crate) struct ClientData {
    pub(crate) r#type: String,
    pub(crate) challenge: String,
    pub(crate) origin: String,
    /// Everything behind the origin, the closing brace included.
    pub(crate) rest: String,
}

impl ClientData {
    fn json(&self) -> String {
        let Self { r#type: kind, challenge, origin, rest } = self;
        format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":"{origin}"{rest}"#)
    }
}

impl Assertion<'_> {
    /// Signs it and writes it as an SSHSIG (PROTOCOL.u2f, "webauthn signatures").
    pub(crate) fn blob(&self) -> Vec<u8> {
        let client_data = self.client_data.json();
        let mut signed = Sha256::digest(&self.rp_id).to_vec();
        signed.push(self.flags);
        signed.extend(self.counter.to_be_bytes());
        signed.extend(&self.extensions);
        signed.extend(Sha256::digest(&client_data));
        let signature: Signature = self.passkey.key.sign(&signed);
        let (r, s) = signature.split_bytes();
        let parts = [
            string("webauthn-sk-ecdsa-sha2-nistp256@openssh.com"),
            string([mpint(&r), mpint(&s), self.after_s.clone()].concat()),
            vec![self.flags],
            self.counter.to_be_bytes().to_vec(),
            string(&self.origin),
            string(&client_data),
            string(&self.extensions),
            self.trailing.clone(),
        ];
        sshsig(&self.passkey.blob(), &self.namespace, self.hash, &parts.concat())
    }

    pub(crate) fn armored(&self) -> String {
        armor(&self.blob())
    }
}
