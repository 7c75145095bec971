//! Public keys of people and of subjects. A key that cannot be trusted to mean one holder (a
//! certificate, a weak point, a small or huge modulus) never becomes a [`PublicKey`].

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ssh_encoding::Encode as _;
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Algorithm, EcdsaCurve};

use super::digest::Digest;
use super::names::{Invalid, as_string};
use super::remembered::Remembered;

/// The sizes of RSA keys that are accepted, in bits.
const RSA_BITS: std::ops::RangeInclusive<u32> = 3072..=8192;
/// No key of an accepted kind is longer on the wire.
const LONGEST_BLOB: usize = 4096;

/// A checked public key of one of the kinds that may sign statements.
#[derive(Debug, Clone)]
pub struct PublicKey(Arc<Checked>);

/// Keys that were checked before. The same few people sign again and again, and each stored statement names its
/// signer's key: checking it takes a fifth of verifying a signature.
static KNOWN: LazyLock<Remembered<Vec<u8>, PublicKey>> = LazyLock::new(|| Remembered::new(4096));

#[derive(Debug)]
struct Checked {
    data: KeyData,
    blob: Vec<u8>,
    fingerprint: Digest,
    /// The point of an Ed25519 key, FIDO or not: decoding it is a tenth of verifying a signature, and
    /// the check of the key has done it.
    point: Option<VerifyingKey>,
}

impl PublicKey {
    /// From the wire form (RFC 4253, section 6.6: `string algorithm`, then its fields).
    pub fn from_blob(blob: &[u8]) -> Result<Self, Invalid> {
        if blob.len() > LONGEST_BLOB {
            return Err(fail(blob, "it is longer than any key should be"));
        }
        if let Some(known) = KNOWN.get(blob) {
            return Ok(known);
        }
        let key = Self(Arc::new(Checked::from_blob(blob)?));
        KNOWN.insert(blob.to_vec(), key.clone());
        Ok(key)
    }

    /// The wire form.
    pub fn blob(&self) -> &[u8] {
        &self.0.blob
    }

    /// The key as the ssh-key crate has it.
    pub fn data(&self) -> &KeyData {
        &self.0.data
    }

    /// The point of an Ed25519 key, `sk-ssh-ed25519@openssh.com` included.
    pub(super) fn point(&self) -> Option<&VerifyingKey> {
        self.0.point.as_ref()
    }

    /// SHA-256 of the wire form: what `ssh-keygen -l` prints.
    pub fn fingerprint(&self) -> Digest {
        self.0.fingerprint
    }

    /// The algorithm's name, such as `ssh-ed25519`.
    pub fn algorithm(&self) -> String {
        self.0.data.algorithm().as_str().to_owned()
    }

    /// The FIDO application of an `sk-` key: `ssh:...`, or a passkey's relying party id.
    pub fn application(&self) -> Option<&str> {
        match &self.0.data {
            KeyData::SkEd25519(key) => Some(key.application()),
            KeyData::SkEcdsaSha2NistP256(key) => Some(key.application()),
            _ => None,
        }
    }
}

impl Checked {
    fn from_blob(blob: &[u8]) -> Result<Self, Invalid> {
        let key = ssh_key::PublicKey::from_bytes(blob).map_err(|_| fail(blob, KINDS))?;
        let data = KeyData::from(key);
        let point = check(&data).map_err(|rule| fail(blob, rule))?;
        // One spelling for one key, so that it cannot be revoked or registered under another.
        match data.encode_vec() {
            Ok(encoded) if encoded == blob => Ok(Self { data, blob: encoded, fingerprint: Digest::of(blob), point }),
            _ => Err(fail(blob, "it is not encoded canonically")),
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.blob == other.0.blob
    }
}
impl Eq for PublicKey {}
impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.blob.hash(state);
    }
}

/// The one-line form of `id_*.pub`; a comment after the key is ignored.
impl FromStr for PublicKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rule = "write it as in id_ed25519.pub: algorithm, then base64";
        let mut words = text.split(' ');
        let (Some(algorithm), Some(base64)) = (words.next(), words.next()) else {
            return Err(Invalid::new("key", text, rule));
        };
        if algorithm.contains("-cert-") {
            return Err(Invalid::new("key", text, "this is a certificate; give the plain public key"));
        }
        if base64.len() > 2 * LONGEST_BLOB {
            return Err(Invalid::new("key", text, "it is longer than any key should be"));
        }
        let blob = STANDARD.decode(base64).map_err(|_| Invalid::new("key", text, rule))?;
        let key = Self::from_blob(&blob)?;
        if key.algorithm() == algorithm { Ok(key) } else { Err(Invalid::new("key", text, rule)) }
    }
}

/// The one-line form, without a comment.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.data.algorithm(), STANDARD.encode(&self.0.blob))
    }
}
as_string!(PublicKey);

const KINDS: &str = "use ssh-ed25519, ecdsa-sha2-nistp256, -nistp384 or -nistp521, ssh-rsa of 3072 to 8192 bits, \
     sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com, and no certificate";

fn fail(blob: &[u8], rule: &'static str) -> Invalid {
    Invalid::new("key", &STANDARD.encode(blob), rule)
}

/// Refuses keys for which a signature would prove nothing, or cost too much to check. Gives the point
/// of an Ed25519 key.
fn check(data: &KeyData) -> Result<Option<VerifyingKey>, &'static str> {
    match data {
        KeyData::Ed25519(key) => strong_ed25519(key.as_ref()).map(Some),
        KeyData::SkEd25519(key) => strong_ed25519(key.public_key().as_ref()).map(Some),
        KeyData::Ecdsa(key) => on_curve(key).map(|()| None),
        KeyData::SkEcdsaSha2NistP256(key) => on_curve(&EcdsaPublicKey::NistP256(*key.ec_point())).map(|()| None),
        KeyData::Rsa(key) => {
            let odd = |n: &ssh_encoding::Mpint| n.as_bytes().last().is_some_and(|b| b & 1 == 1);
            let exponent = key.e().as_positive_bytes().unwrap_or_default();
            if !RSA_BITS.contains(&key.key_size()) {
                Err("an RSA key must have 3072 to 8192 bits")
            } else if !odd(key.n()) || !odd(key.e()) || exponent.len() > 4 || exponent == [1] {
                Err("the RSA modulus or exponent is malformed")
            } else {
                Ok(None)
            }
        }
        _ => Err(KINDS),
    }
}

/// RFC 8032, 5.1.7, made strict: the point decodes, and is not of small order (whoever holds such a
/// "key" has signatures that verify for many messages), and y is reduced (dalek takes p + y for y, which
/// would be a second spelling of the key).
fn strong_ed25519(bytes: &[u8]) -> Result<VerifyingKey, &'static str> {
    let bytes: &[u8; 32] = bytes.try_into().map_err(|_| KINDS)?;
    // p = 2^255 - 19, little-endian; the highest bit is the sign of x.
    let reduced = bytes[0] < 0xed || bytes[1..31] != [0xff; 30] || bytes[31] & 0x7f != 0x7f;
    match VerifyingKey::from_bytes(bytes) {
        Ok(key) if reduced && !key.is_weak() => Ok(key),
        _ => Err("the Ed25519 point is weak or not on the curve"),
    }
}

fn on_curve(key: &EcdsaPublicKey) -> Result<(), &'static str> {
    let sec1 = key.as_sec1_bytes();
    let valid = match key.curve() {
        EcdsaCurve::NistP256 => p256::PublicKey::from_sec1_bytes(sec1).is_ok(),
        EcdsaCurve::NistP384 => p384::PublicKey::from_sec1_bytes(sec1).is_ok(),
        EcdsaCurve::NistP521 => p521::PublicKey::from_sec1_bytes(sec1).is_ok(),
    };
    // Compressed points (a second spelling) are refused by OpenSSH too.
    if valid && sec1.first() == Some(&4) { Ok(()) } else { Err("the point is not on the curve") }
}

/// The name of the certificate algorithm for a key's algorithm (PROTOCOL.certkeys).
pub fn certificate_algorithm(algorithm: &Algorithm) -> String {
    algorithm.to_certificate_type()
}
