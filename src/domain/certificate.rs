//! OpenSSH certificates (PROTOCOL.certkeys). The bytes to be signed are a pure function of what is certified (a
//! [`Grant`] for people, a [`HostGrant`](super::host::HostGrant) for hosts), the serial, the nonce and the CA; the
//! signed certificate is parsed again, by another implementation, and compared before anybody gets it.

use std::collections::BTreeMap;

use ssh_key::certificate::CertType;

use super::digest::Digest;
use super::grant::Grant;
use super::key::{PublicKey, certificate_algorithm};
use super::names::OptionName;
use super::refusal::Refusal;
use super::sshsig;
use super::statement::Serial;
use super::time::Timestamp;

/// What a certificate is made from. Only this crate's domain can fill in the fields.
pub trait Certifies {
    /// What the certificate is to hold.
    fn fields(&self) -> Fields<'_>;
}

/// What a certificate holds, beside its serial, nonce and CA.
#[derive(Debug)]
pub struct Fields<'a> {
    pub(super) kind: CertType,
    pub(super) key: &'a PublicKey,
    pub(super) key_id: &'a str,
    pub(super) principals: Vec<String>,
    pub(super) valid_after: Timestamp,
    pub(super) valid_before: Timestamp,
    /// From the first of them to the second.
    pub(super) seconds: u32,
    pub(super) critical_options: BTreeMap<OptionName, String>,
    pub(super) extensions: BTreeMap<OptionName, String>,
}

/// A certificate without its signature: what is committed before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToBeSigned<G = Grant> {
    bytes: Vec<u8>,
    serial: Serial,
    nonce: [u8; 32],
    grant: G,
    ca: PublicKey,
}

/// A signed certificate that is known to hold what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    blob: Vec<u8>,
}

impl Certifies for Grant {
    fn fields(&self) -> Fields<'_> {
        Fields {
            kind: CertType::User,
            key: self.key(),
            key_id: self.key_id(),
            principals: self.principals().iter().map(ToString::to_string).collect(),
            valid_after: self.valid_after(),
            valid_before: self.valid_before(),
            seconds: self.seconds().get(),
            critical_options: self.critical_options().clone(),
            extensions: self.extensions().iter().map(|name| (name.clone(), String::new())).collect(),
        }
    }
}

impl<G: Certifies> ToBeSigned<G> {
    /// Lays out the certificate. What [`Certifies`] is the only way in.
    pub fn new(grant: G, serial: Serial, nonce: [u8; 32], ca: &PublicKey) -> Self {
        let (mut out, fields) = (Vec::with_capacity(512), grant.fields());
        // string "ssh-ed25519-cert-v01@openssh.com"
        string(&mut out, certificate_algorithm(&fields.key.data().algorithm()).as_bytes());
        // string nonce
        string(&mut out, &nonce);
        // the fields of the public key, as they follow its own algorithm name
        out.extend_from_slice(key_fields(fields.key));
        // uint64 serial; uint32 type: SSH_CERT_TYPE_USER is 1, SSH_CERT_TYPE_HOST 2; string key id
        out.extend_from_slice(&serial.number().to_be_bytes());
        out.extend_from_slice(&u32::from(fields.kind).to_be_bytes());
        string(&mut out, fields.key_id.as_bytes());
        // string valid principals, itself a list of strings
        string(&mut out, &packed(fields.principals.iter().map(|name| name.clone().into_bytes())));
        // uint64 valid after; uint64 valid before
        out.extend_from_slice(&fields.valid_after.unix().cast_unsigned().to_be_bytes());
        out.extend_from_slice(&fields.valid_before.unix().cast_unsigned().to_be_bytes());
        // string critical options; string extensions; string reserved; string signature key
        string(&mut out, &options(&fields.critical_options));
        string(&mut out, &options(&fields.extensions));
        string(&mut out, b"");
        string(&mut out, ca.blob());
        Self { bytes: out, serial, nonce, grant, ca: ca.clone() }
    }

    /// The bytes that the CA signs.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their SHA-256: what the log records.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The serial.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The nonce.
    pub fn nonce(&self) -> [u8; 32] {
        self.nonce
    }

    /// What it certifies.
    pub fn grant(&self) -> &G {
        &self.grant
    }

    /// The CA that is to sign it.
    pub fn ca(&self) -> &PublicKey {
        &self.ca
    }

    /// Adds the CA's signature (64 bytes of Ed25519) and compares the outcome with the grant, field by field.
    pub fn finish(&self, signature: &[u8; 64]) -> Result<Certificate, Refusal> {
        let mut blob = self.bytes.clone();
        string(&mut blob, &sshsig::ed25519_wire(signature));
        self.compare(&blob)?;
        Ok(Certificate { blob })
    }

    fn compare(&self, blob: &[u8]) -> Result<(), Refusal> {
        let wrong = |what| Err(Refusal::Certificate { what });
        let Ok(parsed) = ssh_key::Certificate::from_bytes(blob) else { return wrong("does not parse") };
        let fields = self.grant.fields();
        let window = (fields.valid_after.unix().cast_unsigned(), fields.valid_before.unix().cast_unsigned());
        let principals = fields.principals;
        let named = |map: &ssh_key::certificate::OptionsMap| {
            map.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let told = |map: &BTreeMap<OptionName, String>| {
            map.iter().map(|(name, value)| (name.to_string(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let (critical, extensions) = (told(&fields.critical_options), told(&fields.extensions));
        if parsed.cert_type() != fields.kind || parsed.public_key() != fields.key.data() {
            return wrong("certifies something else");
        }
        if fields.key == &self.ca {
            return wrong("certifies the CA's own key");
        }
        if parsed.serial() != self.serial.number() || parsed.key_id() != fields.key_id || parsed.nonce() != self.nonce {
            return wrong("has another serial, key id or nonce");
        }
        if parsed.valid_principals() != principals || principals.is_empty() || principals.len() > 256 {
            return wrong("has other principals");
        }
        if (parsed.valid_after(), parsed.valid_before()) != window || window.1 - window.0 != u64::from(fields.seconds) {
            return wrong("has another window");
        }
        if named(parsed.critical_options()) != critical || named(parsed.extensions()) != extensions {
            return wrong("has other options");
        }
        if parsed.signature_key() != self.ca.data()
            || sshsig::verify_plain(&self.ca, &self.bytes, parsed.signature()).is_err()
        {
            return wrong("is not signed by the CA");
        }
        Ok(())
    }
}

impl Certificate {
    /// The wire form, as agents take it.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

fn string(out: &mut Vec<u8>, part: &[u8]) {
    // No part of a certificate comes near 4 GiB: names are bounded, and so are lists.
    out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}

fn packed(parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    parts.fold(Vec::new(), |mut out, part| {
        string(&mut out, &part);
        out
    })
}

/// "name, then data, each a string", sorted by name; the data of an option with a value is itself a
/// string, and that of a flag is empty.
fn options(options: &BTreeMap<OptionName, String>) -> Vec<u8> {
    packed(options.iter().flat_map(|(name, value)| {
        let mut data = Vec::new();
        if !value.is_empty() {
            string(&mut data, value.as_bytes());
        }
        [name.as_str().as_bytes().to_vec(), data]
    }))
}

/// What follows the algorithm's name in a key's wire form.
fn key_fields(key: &PublicKey) -> &[u8] {
    key.blob().get(4 + key.algorithm().len()..).unwrap_or_default()
}

/// The nonce of a certificate's bytes: the second string in it.
pub fn nonce_of(tbs: &[u8]) -> Option<[u8; 32]> {
    let algorithm = u32::from_be_bytes(tbs.get(..4)?.try_into().ok()?) as usize;
    tbs.get(4 + algorithm + 4..)?.get(..32)?.try_into().ok()
}

/// Whether a certificate's bytes, which end with the key of their CA, name this one.
pub fn is_of_ca(tbs: &[u8], ca: &PublicKey) -> bool {
    let mut end = Vec::new();
    string(&mut end, ca.blob());
    tbs.ends_with(&end)
}

#[cfg(test)]
mod tests;
