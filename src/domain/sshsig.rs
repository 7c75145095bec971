//! SSHSIG, OpenSSH's detached signatures (PROTOCOL.sshsig): the one proof format of this system, for
//! keys in files and agents, for FIDO keys, and for passkeys (PROTOCOL.u2f,
//! `webauthn-sk-ecdsa-sha2-nistp256@openssh.com`).
//!
//! Stricter than stock OpenSSH, which accepts any flags, origin and counter: who signs must have been
//! present, and what a browser says it signed must be exactly this, for exactly our origin.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};
use signature::Verifier as _;
use ssh_encoding::{Decode as _, Encode as _, Mpint};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg};

use super::key::PublicKey;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
const HASH: &str = "sha512";
pub(super) const WEBAUTHN: &str = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com";
/// No signature of an accepted kind is longer, client data included.
const LONGEST: usize = 16 * 1024;

/// WebAuthn, 6.1: user present, user verified, attested credential data, extension data.
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED_DATA: u8 = 0x40;
const EXTENSION_DATA: u8 = 0x80;

/// Why a signature proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// Not an SSHSIG, or one of a kind that is not accepted.
    #[error("it is not an SSH signature of an accepted kind")]
    Malformed,
    /// Made by another key than the one it is checked against.
    #[error("it was made by another key")]
    OtherKey,
    /// Made for another purpose.
    #[error("it was made in another namespace")]
    Namespace,
    /// The mathematics say no: other bytes, or another key.
    #[error("it does not match the statement and the key")]
    Mismatch,
    /// A FIDO key that nobody touched.
    #[error("nobody touched the security key")]
    NotPresent,
    /// A FIDO key or passkey that did not ask for its PIN or finger.
    #[error("the security key did not verify its user (PIN or finger)")]
    NotVerified,
    /// A passkey's signature where an SSH key is due, or the reverse, or made at another site.
    #[error("it was made at another origin, or by a passkey in place of an SSH key")]
    Origin,
    /// The browser signed something else than this statement.
    #[error("the browser's client data is not for this statement")]
    ClientData,
}

/// What a signature must satisfy beyond its mathematics.
#[derive(Debug, Clone, Copy)]
pub enum Expect<'a> {
    /// An SSH key; `verified` when the policy demands PIN or finger of a FIDO key.
    SshKey {
        /// Demand the user-verified flag. Only FIDO keys can satisfy it.
        verified: bool,
    },
    /// A passkey, used at exactly this origin (scheme, host and port, as browsers write it).
    Passkey {
        /// `https://host`, or `http://localhost:7022`.
        origin: &'a str,
    },
}

/// A parsed signature: whose it claims to be, and for what. Nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSig {
    blob: Vec<u8>,
    key: PublicKey,
    namespace: String,
    proof: Proof,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// Ed25519, ECDSA and RSA.
    Plain(ssh_key::Signature),
    /// PROTOCOL.u2f, "SSH U2F Signatures".
    Fido { signature: Vec<u8>, flags: u8, counter: u32, webauthn: Option<WebAuthn> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct WebAuthn {
    origin: String,
    client_data: Vec<u8>,
    extensions: Vec<u8>,
}

impl SshSig {
    /// From its armored form, as `ssh-keygen -Y sign` writes it.
    pub fn from_armor(text: &str) -> Result<Self, BadSignature> {
        let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let body: String = body.ok_or(BadSignature::Malformed)?.split_ascii_whitespace().collect();
        if body.len() > 2 * LONGEST {
            return Err(BadSignature::Malformed);
        }
        Self::from_blob(&STANDARD.decode(body).map_err(|_| BadSignature::Malformed)?)
    }

    /// From its binary form (PROTOCOL.sshsig, "Blob format").
    pub fn from_blob(blob: &[u8]) -> Result<Self, BadSignature> {
        if blob.len() > LONGEST {
            return Err(BadSignature::Malformed);
        }
        parse(blob).map_err(|_| BadSignature::Malformed)?.ok_or(BadSignature::Malformed)
    }

    /// Puts a signature by a key in a file or an agent into the SSHSIG form.
    pub fn from_signature(key: &PublicKey, namespace: &str, raw: &[u8]) -> Result<Self, BadSignature> {
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&1u32.to_be_bytes());
        for part in [key.blob(), namespace.as_bytes(), b"", HASH.as_bytes(), raw] {
            put(&mut blob, part);
        }
        Self::from_blob(&blob)
    }

    /// The binary form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The armored form, in lines of 70 characters as OpenSSH has them.
    pub fn armor(&self) -> String {
        let base64 = STANDARD.encode(&self.blob);
        let mut text = format!("{BEGIN}\n");
        for line in base64.as_bytes().chunks(70) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str(END);
        text.push('\n');
        text
    }

    /// The key that it claims to be made by.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// A FIDO signature's counter. Whether it rose is for whoever remembers the last one.
    pub fn counter(&self) -> Option<u32> {
        match self.proof {
            Proof::Plain(_) => None,
            Proof::Fido { counter, .. } => Some(counter),
        }
    }

    /// Whether a FIDO key says that it verified its user, by PIN or finger.
    pub fn user_verified(&self) -> bool {
        matches!(self.proof, Proof::Fido { flags, .. } if flags & USER_VERIFIED != 0)
    }

    /// Whether it was made by a passkey in a browser.
    pub fn is_passkey(&self) -> bool {
        matches!(self.proof, Proof::Fido { webauthn: Some(_), .. })
    }

    /// The origin that a passkey's browser named.
    pub fn origin(&self) -> Option<&str> {
        match &self.proof {
            Proof::Fido { webauthn: Some(made), .. } => Some(&made.origin),
            _ => None,
        }
    }

    /// Everything about the signature but its mathematics: cheap, and so checked on every use.
    pub fn expect(
        &self,
        message: &[u8],
        namespace: &str,
        key: &PublicKey,
        expect: Expect<'_>,
    ) -> Result<(), BadSignature> {
        if self.key != *key {
            return Err(BadSignature::OtherKey);
        }
        if self.namespace != namespace {
            return Err(BadSignature::Namespace);
        }
        match (&self.proof, expect) {
            (Proof::Plain(_), Expect::SshKey { verified: false }) => Ok(()),
            (Proof::Plain(_), Expect::SshKey { verified: true }) => Err(BadSignature::NotVerified),
            (Proof::Fido { flags, webauthn: None, .. }, Expect::SshKey { verified }) => flags_say(*flags, verified),
            (Proof::Fido { flags, webauthn: Some(made), .. }, Expect::Passkey { origin }) => {
                if made.origin != origin {
                    return Err(BadSignature::Origin);
                }
                made.is_for(&signed_blob(namespace, message), *flags)?;
                flags_say(*flags, true)
            }
            _ => Err(BadSignature::Origin),
        }
    }

    /// The mathematics: whether the key that it names signed `message`.
    pub fn check(&self, message: &[u8]) -> Result<(), BadSignature> {
        let blob = signed_blob(&self.namespace, message);
        match &self.proof {
            Proof::Plain(signature) => verify_plain(&self.key, &blob, signature),
            Proof::Fido { signature, flags, counter, webauthn } => {
                let application = self.key.application().ok_or(BadSignature::Mismatch)?;
                let mut signed = Sha256::digest(application).to_vec();
                signed.push(*flags);
                signed.extend_from_slice(&counter.to_be_bytes());
                match webauthn {
                    None => signed.extend_from_slice(&Sha256::digest(&blob)),
                    Some(made) => {
                        // The key signs the browser's words, and those name what it was asked to sign.
                        made.is_for(&blob, *flags)?;
                        signed.extend_from_slice(&made.extensions);
                        signed.extend_from_slice(&Sha256::digest(&made.client_data));
                    }
                }
                verify_fido(&self.key, &signed, signature)
            }
        }
    }
}

/// The bytes that are really signed (PROTOCOL.sshsig, "Signed Data"). For a passkey this whole blob
/// is the WebAuthn challenge.
pub fn signed_blob(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut blob = MAGIC.to_vec();
    for part in [namespace.as_bytes(), b"", HASH.as_bytes(), &Sha512::digest(message)] {
        put(&mut blob, part);
    }
    blob
}

/// An Ed25519 signature in its wire form (RFC 8709, section 6: `string "ssh-ed25519", string signature`).
pub fn ed25519_wire(signature: &[u8; 64]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(83);
    put(&mut wire, b"ssh-ed25519");
    put(&mut wire, signature);
    wire
}

/// An SSH `string` (RFC 4251, section 5). Only ever given parts of a few kilobytes.
fn put(blob: &mut Vec<u8>, part: &[u8]) {
    blob.extend_from_slice(&(part.len() as u32).to_be_bytes());
    blob.extend_from_slice(part);
}

fn flags_say(flags: u8, verified: bool) -> Result<(), BadSignature> {
    if flags & USER_PRESENT == 0 {
        Err(BadSignature::NotPresent)
    } else if verified && flags & USER_VERIFIED == 0 {
        Err(BadSignature::NotVerified)
    } else {
        Ok(())
    }
}

impl WebAuthn {
    /// Client data is for this challenge and this origin, and says so in the form OpenSSH demands.
    fn is_for(&self, challenge: &[u8], flags: u8) -> Result<(), BadSignature> {
        #[derive(Deserialize)]
        struct ClientData {
            r#type: String,
            challenge: String,
            origin: String,
            #[serde(rename = "crossOrigin", default)]
            cross_origin: bool,
            #[serde(rename = "topOrigin", default)]
            top_origin: Option<serde_json::Value>,
        }
        let challenge = URL_SAFE_NO_PAD.encode(challenge);
        // OpenSSH compares this prefix, and nothing behind it.
        let prefix = format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{}""#, self.origin);
        // WebAuthn extensions follow the counter exactly when the flag says so.
        let consistent = flags & ATTESTED_DATA == 0 && (flags & EXTENSION_DATA != 0) != self.extensions.is_empty();
        let data: ClientData = serde_json::from_slice(&self.client_data).map_err(|_| BadSignature::ClientData)?;
        let right = consistent
            && !self.origin.contains('"')
            && self.client_data.starts_with(prefix.as_bytes())
            && data.r#type == "webauthn.get"
            && data.challenge == challenge
            && data.origin == self.origin
            && !data.cross_origin
            && data.top_origin.is_none();
        if right { Ok(()) } else { Err(BadSignature::ClientData) }
    }
}

/// `Ok(None)` and `Err` are both "malformed"; two so that the readers below can use `?`.
fn parse(blob: &[u8]) -> ssh_key::Result<Option<SshSig>> {
    let Some(mut rest) = blob.strip_prefix(MAGIC) else { return Ok(None) };
    let reader = &mut rest;
    let version = u32::decode(reader)?;
    let key = Vec::<u8>::decode(reader)?;
    let namespace = String::decode(reader)?;
    let reserved = Vec::<u8>::decode(reader)?;
    let hash = String::decode(reader)?;
    let signature = Vec::<u8>::decode(reader)?;
    if version != 1 || namespace.is_empty() || !reserved.is_empty() || hash != HASH || !reader.is_empty() {
        return Ok(None);
    }
    let (Ok(key), Some(proof)) = (PublicKey::from_blob(&key), parse_proof(&signature)?) else { return Ok(None) };
    let fits = match (key.data(), &proof) {
        (KeyData::SkEcdsaSha2NistP256(_), Proof::Fido { signature, .. }) => p256_signature(signature).is_some(),
        (KeyData::SkEd25519(_), Proof::Fido { signature, webauthn: None, .. }) => signature.len() == 64,
        (KeyData::SkEcdsaSha2NistP256(_) | KeyData::SkEd25519(_), _) | (_, Proof::Fido { .. }) => false,
        (KeyData::Rsa(_), Proof::Plain(signature)) => matches!(signature.algorithm(), Algorithm::Rsa { hash: Some(_) }),
        (data, Proof::Plain(signature)) => signature.algorithm() == data.algorithm(),
    };
    // By the name of its key's algorithm only: stock OpenSSH takes it by no other.
    let named = String::decode(&mut signature.as_slice())?;
    let fits = fits && (named == WEBAUTHN || matches!(proof, Proof::Plain(_)) || named == key.algorithm());
    Ok(fits.then(|| SshSig { blob: blob.to_vec(), key, namespace, proof }))
}

fn parse_proof(signature: &[u8]) -> ssh_key::Result<Option<Proof>> {
    let mut rest = signature;
    let reader = &mut rest;
    let algorithm = String::decode(reader)?;
    let fido = |webauthn| algorithm == WEBAUTHN && webauthn || !webauthn && algorithm.starts_with("sk-");
    if !fido(true) && !fido(false) {
        let plain = ssh_key::Signature::try_from(signature)?;
        // Decoding stops at the end of the signature: nothing may follow it.
        let whole = plain.encode_vec()? == signature;
        return Ok(whole.then_some(Proof::Plain(plain)));
    }
    let signature = Vec::<u8>::decode(reader)?;
    let (flags, counter) = (u8::decode(reader)?, u32::decode(reader)?);
    let webauthn = if fido(true) {
        let (origin, client_data, extensions) = (String::decode(reader)?, Vec::decode(reader)?, Vec::decode(reader)?);
        Some(WebAuthn { origin, client_data, extensions })
    } else {
        None
    };
    Ok(reader.is_empty().then_some(Proof::Fido { signature, flags, counter, webauthn }))
}

/// Verifies a signature that is neither FIDO's nor a passkey's.
pub(super) fn verify_plain(key: &PublicKey, blob: &[u8], signature: &ssh_key::Signature) -> Result<(), BadSignature> {
    match key.data() {
        KeyData::Ed25519(_) => verify_ed25519(key, blob, signature.as_bytes()),
        KeyData::Rsa(_) => match signature.algorithm() {
            Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) } => {
                key.data().verify(blob, signature).map_err(|_| BadSignature::Mismatch)
            }
            _ => Err(BadSignature::Malformed),
        },
        data => data.verify(blob, signature).map_err(|_| BadSignature::Mismatch),
    }
}

fn verify_fido(key: &PublicKey, signed: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    match key.data() {
        KeyData::SkEd25519(_) => verify_ed25519(key, signed, signature),
        KeyData::SkEcdsaSha2NistP256(key) => {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key.ec_point().as_bytes());
            let (Ok(key), Some(signature)) = (key, p256_signature(signature)) else {
                return Err(BadSignature::Mismatch);
            };
            key.verify(signed, &signature).map_err(|_| BadSignature::Mismatch)
        }
        _ => Err(BadSignature::Mismatch),
    }
}

/// Strict: no small-order point, canonical scalar (the laxer check lets one signature fit two messages).
fn verify_ed25519(key: &PublicKey, signed: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let (Some(key), Ok(signature)) = (key.point(), ed25519_dalek::Signature::from_slice(signature)) else {
        return Err(BadSignature::Mismatch);
    };
    key.verify_strict(signed, &signature).map_err(|_| BadSignature::Mismatch)
}

/// `mpint r, mpint s` (RFC 5656, section 3.1.2), both in range.
fn p256_signature(mut wire: &[u8]) -> Option<p256::ecdsa::Signature> {
    let reader = &mut wire;
    let (r, s) = (scalar(&Mpint::decode(reader).ok()?)?, scalar(&Mpint::decode(reader).ok()?)?);
    if !reader.is_empty() {
        return None;
    }
    p256::ecdsa::Signature::from_scalars(r, s).ok()
}

fn scalar(number: &Mpint) -> Option<p256::FieldBytes> {
    let bytes = number.as_positive_bytes()?;
    let mut padded = [0; 32];
    padded.get_mut(32usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(padded.into())
}
