//! OpenSSH's lists of revoked keys (PROTOCOL.krl, format version 1), as sshd's `RevokedKeys` reads them: made from
//! serials, key ids and fingerprints, each run of serials in the form that is shortest; and as much of a reader as a
//! host needs to refuse what is not a whole list. A list says nothing by itself: the KRL key signs it as an SSHSIG.

use std::collections::BTreeSet;
use std::str;

use super::digest::Digest;
use super::key::PublicKey;
use super::names::InstanceId;
use super::statement::Serial;
use super::time::Timestamp;

/// The SSHSIG namespace of a signed list.
pub const NAMESPACE: &str = "krl@ssh-jit";

/// PROTOCOL.krl: `#define KRL_MAGIC 0x5353484b524c0a00ULL`.
const MAGIC: [u8; 8] = *b"SSHKRL\n\0";
/// PROTOCOL.krl: `#define KRL_FORMAT_VERSION 1`.
const VERSION: u32 = 1;
/// PROTOCOL.krl, "KRL sections".
const CERTIFICATES: u8 = 1;
const FINGERPRINT_SHA256: u8 = 5;
/// PROTOCOL.krl, "Certificate section".
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;

/// sshd reads no mpint of more bits, and a bitmap is one.
const MOST_BITS: u64 = 16_384;
/// A gap of more unset bits in a bitmap takes more than a serial in a list.
const WIDEST_GAP: u64 = 64;
/// A run of more serials takes less as a range of its own than as bits between those around it.
const LONGEST_IN_BITMAP: u64 = 512;
/// Type and length, before the content of each section.
const HEADER: u64 = 5;

/// What a list says is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Krl {
    /// Only grows: whoever has a list takes no lower one.
    pub number: u64,
    /// When it was made.
    pub generated: Timestamp,
    /// The service that it speaks for; stands in the list's comment.
    pub instance: InstanceId,
    /// Certificates, by the CA that signed them.
    pub certificates: Vec<OfCa>,
    /// Keys themselves, whatever certifies them.
    pub keys: BTreeSet<Digest>,
}

/// Certificates of one CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfCa {
    /// The CA.
    pub ca: PublicKey,
    /// By their serials.
    pub serials: BTreeSet<Serial>,
    /// By their key ids.
    pub key_ids: BTreeSet<String>,
}

/// What a list says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub generated: Timestamp,
    /// For whom it speaks.
    pub comment: String,
}

/// Bytes that are no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKrl {
    /// Nothing at all, which would lock everybody out.
    #[error("it is empty")]
    Empty,
    /// Something else.
    #[error("it is no KRL")]
    NotAKrl,
    /// A list of a form that sshd of today does not know.
    #[error("it is a KRL of another version")]
    Version,
    /// It ends too early, or goes on after its end.
    #[error("it is not whole")]
    NotWhole,
}

impl Krl {
    /// The list's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        // uint32 KRL_FORMAT_VERSION; uint64 krl_version; uint64 generated_date
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.generated.unix().cast_unsigned().to_be_bytes());
        // uint64 flags; string reserved; string comment
        out.extend_from_slice(&0u64.to_be_bytes());
        string(&mut out, b"");
        string(&mut out, self.instance.to_string().as_bytes());
        for of_ca in self.certificates.iter().filter(|of_ca| !of_ca.is_empty()) {
            section(&mut out, CERTIFICATES, &of_ca.to_bytes());
        }
        if !self.keys.is_empty() {
            // string public_key_hash, sorted
            section(&mut out, FINGERPRINT_SHA256, &packed(self.keys.iter().map(Digest::as_bytes)));
        }
        out
    }
}

impl OfCa {
    fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.key_ids.is_empty()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // string ca_key; string reserved
        string(&mut out, self.ca.blob());
        string(&mut out, b"");
        let mut listed = Vec::new();
        for cluster in clusters(runs(&self.serials)) {
            match cluster.form() {
                Form::List => listed.extend(cluster.serials().flat_map(u64::to_be_bytes)),
                Form::Range => section(&mut out, SERIAL_RANGE, &cluster.range()),
                Form::Bitmap => section(&mut out, SERIAL_BITMAP, &cluster.bitmap()),
            }
        }
        if !listed.is_empty() {
            section(&mut out, SERIAL_LIST, &listed);
        }
        if !self.key_ids.is_empty() {
            section(&mut out, KEY_ID, &packed(&self.key_ids));
        }
        out
    }
}

/// Serials that follow one another: the first and the last.
#[derive(Debug, Clone, Copy)]
struct Run {
    low: u64,
    high: u64,
}

impl Run {
    fn count(self) -> u64 {
        self.high - self.low + 1
    }
}

/// Runs that stand near one another: never none.
#[derive(Debug)]
struct Cluster(Vec<Run>);

/// How the serials of a cluster are written.
enum Form {
    List,
    Range,
    Bitmap,
}

fn runs(serials: &BTreeSet<Serial>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for serial in serials.iter().map(|serial| serial.number()) {
        match runs.last_mut() {
            Some(run) if run.high + 1 == serial => run.high = serial,
            _ => runs.push(Run { low: serial, high: serial }),
        }
    }
    runs
}

fn clusters(runs: Vec<Run>) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for run in runs {
        match clusters.last_mut() {
            Some(cluster) if cluster.takes(run) => cluster.0.push(run),
            _ => clusters.push(Cluster(vec![run])),
        }
    }
    clusters
}

impl Cluster {
    fn low(&self) -> u64 {
        self.0.first().map_or(0, |run| run.low)
    }

    fn high(&self) -> u64 {
        self.0.last().map_or(0, |run| run.high)
    }

    /// Whether this run belongs into one bitmap with the others.
    fn takes(&self, run: Run) -> bool {
        let short = |run: Run| run.count() <= LONGEST_IN_BITMAP;
        run.low - self.high() <= WIDEST_GAP
            && run.high - self.low() < MOST_BITS
            && short(run)
            && self.0.last().is_some_and(|last| short(*last))
    }

    fn form(&self) -> Form {
        let listed = 8 * self.0.iter().map(|run| run.count()).sum::<u64>();
        if self.0.len() == 1 {
            return if listed <= HEADER + 16 { Form::List } else { Form::Range };
        }
        // uint64 offset, the length of the mpint, a byte for its sign, the bits
        let bits = HEADER + 8 + 4 + 1 + (self.high() - self.low()) / 8 + 1;
        if listed <= bits { Form::List } else { Form::Bitmap }
    }

    fn serials(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|run| run.low..=run.high)
    }

    /// uint64 serial_min; uint64 serial_max
    fn range(&self) -> Vec<u8> {
        [self.low().to_be_bytes(), self.high().to_be_bytes()].concat()
    }

    /// uint64 serial_offset; mpint revoked_keys_bitmap, whose lowest bit stands for the offset
    fn bitmap(&self) -> Vec<u8> {
        let low = self.low();
        // A number's highest byte stands first, and is below 0x80 or it would be a negative number.
        let mut bits = vec![0u8; ((self.high() - low) / 8 + 2) as usize];
        let last = bits.len() - 1;
        for bit in self.serials().map(|serial| serial - low) {
            bits[last - (bit / 8) as usize] |= 1 << (bit % 8);
        }
        // And no longer than it must be.
        let number = if bits[1] < 0x80 { &bits[1..] } else { &bits };
        let mut out = low.to_be_bytes().to_vec();
        string(&mut out, number);
        out
    }
}

impl Header {
    /// Reads a list from its beginning to its end. What it revokes is for sshd.
    pub fn read(bytes: &[u8]) -> Result<Self, BadKrl> {
        if bytes.is_empty() {
            return Err(BadKrl::Empty);
        }
        let rest = &mut bytes.strip_prefix(&MAGIC).ok_or(BadKrl::NotAKrl)?;
        if u32::from_be_bytes(take(rest)?) != VERSION {
            return Err(BadKrl::Version);
        }
        let (number, generated) = (u64::from_be_bytes(take(rest)?), u64::from_be_bytes(take(rest)?));
        let _flags: [u8; 8] = take(rest)?;
        let (_reserved, comment) = (take_string(rest)?, take_string(rest)?);
        let comment = str::from_utf8(comment).map_err(|_| BadKrl::NotAKrl)?.to_owned();
        while !rest.is_empty() {
            let [kind] = take(rest)?;
            let mut content = take_string(rest)?;
            match kind {
                CERTIFICATES => whole_certificates(&mut content)?,
                FINGERPRINT_SHA256 => {}
                // sshd refuses some of the others, and with the list everybody.
                _ => return Err(BadKrl::NotAKrl),
            }
        }
        let generated = Timestamp::from_unix(i64::try_from(generated).map_err(|_| BadKrl::NotAKrl)?);
        Ok(Self { number, generated, comment })
    }
}

fn whole_certificates(rest: &mut &[u8]) -> Result<(), BadKrl> {
    let (_ca, _reserved) = (take_string(rest)?, take_string(rest)?);
    while !rest.is_empty() {
        let [kind] = take(rest)?;
        let content = take_string(rest)?;
        match (kind, content.len()) {
            (SERIAL_LIST, length) if length > 0 && length % 8 == 0 => {}
            (SERIAL_RANGE, 16) | (SERIAL_BITMAP | KEY_ID, 5..) => {}
            _ => return Err(BadKrl::NotAKrl),
        }
    }
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadKrl> {
    let (taken, after) = rest.split_first_chunk().ok_or(BadKrl::NotWhole)?;
    *rest = after;
    Ok(*taken)
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadKrl> {
    let length = u32::from_be_bytes(take(rest)?) as usize;
    let (taken, after) = rest.split_at_checked(length).ok_or(BadKrl::NotWhole)?;
    *rest = after;
    Ok(taken)
}

/// byte section_type; string section_data
fn section(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(kind);
    string(out, content);
}

fn packed<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Vec<u8> {
    parts.into_iter().fold(Vec::new(), |mut out, part| {
        string(&mut out, part.as_ref());
        out
    })
}

fn string(out: &mut Vec<u8>, part: &[u8]) {
    // No list comes near 4 GiB: a serial takes 8 bytes at most.
    out.extend_from_slice(&(part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}

#[cfg(test)]
mod tests;
