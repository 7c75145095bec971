//! User certificates written without the code under test (PROTOCOL.certkeys), so that those can be written too
//! which our CA must never make: every field can be anything, and is signed as it stands.

use std::path::{Path, PathBuf};

use signature::Signer as _;
use ssh_encoding::Encode as _;
use ssh_jit::domain::certificate::Certificate;
use ssh_key::{PrivateKey, Signature};

use crate::support::wire::{blob, key_line, string};

/// PROTOCOL.certkeys: `SSH_CERT_TYPE_USER` and `SSH_CERT_TYPE_HOST`.
pub(super) const USER: u32 = 1;
pub(super) const HOST: u32 = 2;

/// The fields in the order of PROTOCOL.certkeys.
pub(super) struct ByHand {
    pub(super) nonce: Vec<u8>,
    /// The public key, whole: its name makes the certificate's.
    pub(super) key: Vec<u8>,
    pub(super) serial: u64,
    pub(super) kind: u32,
    pub(super) key_id: Vec<u8>,
    pub(super) principals: Vec<String>,
    pub(super) valid_after: u64,
    pub(super) valid_before: u64,
    /// Name and data, the data as it stands in the certificate.
    pub(super) critical: Vec<(String, Vec<u8>)>,
    pub(super) extensions: Vec<(String, Vec<u8>)>,
    /// Whatever follows the signature.
    pub(super) trailing: Vec<u8>,
    pub(super) ca: PrivateKey,
}

impl ByHand {
    /// The certificate in wire form.
    pub(super) fn blob(&self) -> Vec<u8> {
        let name_length = u32::from_be_bytes(self.key[..4].try_into().expect("four bytes")) as usize;
        let (name, fields) = self.key[4..].split_at(name_length);
        let name = String::from_utf8(name.to_vec()).expect("an algorithm's name");
        let name = format!("{}-cert-v01@openssh.com", name.strip_suffix("@openssh.com").unwrap_or(&name));
        let ca = blob(&self.ca.public_key().to_openssh().expect("a public key"));
        let mut blob = [
            string(name),
            string(&self.nonce),
            fields.to_vec(),
            self.serial.to_be_bytes().to_vec(),
            self.kind.to_be_bytes().to_vec(),
            string(&self.key_id),
            string(self.principals.iter().flat_map(string).collect::<Vec<_>>()),
            self.valid_after.to_be_bytes().to_vec(),
            self.valid_before.to_be_bytes().to_vec(),
            string(options(&self.critical)),
            string(options(&self.extensions)),
            string(""),
            string(ca),
        ]
        .concat();
        let signature: Signature = self.ca.try_sign(&blob).expect("a signature");
        blob.extend(string(signature.encode_vec().expect("a signature's wire form")));
        blob.extend(&self.trailing);
        blob
    }
}

/// An option whose data is a value: a string in the string.
pub(super) fn option(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), string(value))
}

/// An option that is there or not: its data is empty.
pub(super) fn flag(name: &str) -> (String, Vec<u8>) {
    (name.to_owned(), Vec::new())
}

fn options(list: &[(String, Vec<u8>)]) -> Vec<u8> {
    list.iter().flat_map(|(name, data)| [string(name), string(data)].concat()).collect()
}

/// Writes the file that ssh and ssh-keygen read.
pub(super) fn write(dir: &Path, name: &str, certificate: &[u8]) -> PathBuf {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = dir.join(format!("{name}-cert.pub"));
    std::fs::write(&path, line(certificate)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

fn line(certificate: &[u8]) -> String {
    let length = u32::from_be_bytes(certificate[..4].try_into().expect("four bytes")) as usize;
    let name = String::from_utf8_lossy(&certificate[4..4 + length]);
    format!("{}\n", key_line(&name, certificate))
}

/// A certificate of the product, read field by field and ready to be changed. Not by the product's own
/// reader: there is none.
pub(super) fn copy(certificate: &Certificate, ca: &PrivateKey) -> ByHand {
    let parsed = ssh_key::Certificate::from_bytes(certificate.blob()).expect("a certificate");
    let named = |map: &ssh_key::certificate::OptionsMap| {
        map.iter().map(|(name, value)| if value.is_empty() { flag(name) } else { option(name, value) }).collect()
    };
    ByHand {
        nonce: parsed.nonce().to_vec(),
        key: parsed.public_key().encode_vec().expect("a key"),
        serial: parsed.serial(),
        kind: USER,
        key_id: parsed.key_id().as_bytes().to_vec(),
        principals: parsed.valid_principals().to_vec(),
        valid_after: parsed.valid_after(),
        valid_before: parsed.valid_before(),
        critical: named(parsed.critical_options()),
        extensions: named(parsed.extensions()),
        trailing: Vec::new(),
        ca: ca.clone(),
    }
}
