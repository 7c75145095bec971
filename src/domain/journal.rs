//! The break-glass journal's entries: each signed by the journal key, each naming the one before, so
//! that the journal proves by itself, without the database, what was done in an emergency and why.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::key::PublicKey;
use super::names::{PersonName, RequestId, RoleName};
use super::policy::{EMERGENCY_LONGEST, EmergencyRules};
use super::refusal::Refusal;
use super::sshsig::SshSig;
use super::statement::{BreakGlass, Review, Serial, Version};
use super::time::{Moment, Timestamp};
use super::verify::Signed;

/// The SSHSIG namespace of a journal entry.
pub const NAMESPACE: &str = "journal@ssh-jit";

/// Within so many seconds uses are counted.
const HOUR: i64 = 3600;
/// So long, in seconds, a use is remembered for its extensions and for the limits.
const DAY: i64 = 24 * 3600;

/// One thing that was tried with an emergency key, or the keys that the policy began to name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct Entry {
    pub v: Version,
    /// The epoch of this journal's serials: one for each journal that a service ever wrote.
    pub epoch: u16,
    /// From 1, without gaps.
    pub seq: u64,
    /// SHA-256 of the bytes of the entry before; of nothing for the first.
    pub prev: Digest,
    pub at: Moment,
    /// The statement's bytes, verbatim. Empty where keys are told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub statement: String,
    /// The signature over them, armored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// What a second person signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<Second>,
    /// Where it came from, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    pub policy: Digest,
    pub outcome: Outcome,
}

/// The statement of a second person who joined in: its bytes, and the armored signature over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Second {
    pub statement: String,
    pub signature: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Outcome {
    /// A certificate with this serial is about to be signed; `tbs` is the SHA-256 of the bytes.
    Issued {
        /// The certificate's serial.
        serial: Serial,
        /// SHA-256 of the bytes to be signed.
        tbs: Digest,
    },
    /// Refused, with the reason's code.
    Refused {
        /// [`Refusal::code`].
        code: String,
    },
    /// The statement is a review, by somebody else, of what was done before.
    Reviewed,
    /// From here on the policy names these emergency keys: people, and fingerprints of their keys.
    Keys(BTreeSet<(PersonName, Digest)>),
}

/// A use, as limits and extensions look at it.
#[derive(Debug, Clone)]
struct Use {
    id: RequestId,
    person: PersonName,
    role: RoleName,
    key: Digest,
    at: Timestamp,
    /// Nobody else joined in.
    alone: bool,
    /// So many uses it goes on from.
    goes_on_from: u32,
}

/// A use that waits for its review.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the break-glass statement, and its digest")]
pub struct Unreviewed {
    pub id: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    pub digest: Digest,
    pub serial: Serial,
    pub at: Timestamp,
}

/// What a journal says so far: what comes next in it, and what must not come again.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    epoch: Option<u16>,
    last: Option<(u64, Digest)>,
    spent: HashSet<Digest>,
    ids: HashSet<RequestId>,
    last_reason: HashMap<PersonName, String>,
    counters: HashMap<Digest, u32>,
    last_counter_of_serials: u64,
    /// The keys that the policy names, each with when it began to; `None` for those of the first entry of the kind.
    keys: Option<BTreeMap<(PersonName, Digest), Option<Timestamp>>>,
    /// The uses of a day, the oldest first.
    uses: VecDeque<Use>,
    /// What waits for a review.
    unreviewed: BTreeMap<RequestId, Unreviewed>,
}

impl Entry {
    /// The bytes that the journal key signs: one line of JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The statement and its signature.
    pub fn signed(&self) -> Result<Signed, Refusal> {
        Ok(Signed::new(self.statement.clone().into_bytes(), SshSig::from_armor(&self.signature)?))
    }

    /// The same of a second person, where one joined in.
    pub fn second_signed(&self) -> Result<Option<Signed>, Refusal> {
        let signed = |second: &Second| {
            Ok(Signed::new(second.statement.clone().into_bytes(), SshSig::from_armor(&second.signature)?))
        };
        self.second.as_ref().map(signed).transpose()
    }
}

impl Replay {
    /// The journal's epoch; none while it is empty.
    pub fn epoch(&self) -> Option<u16> {
        self.epoch
    }

    /// Number and hash for the next entry.
    pub fn next(&self) -> (u64, Digest) {
        self.last.map_or_else(|| (1, Digest::of(b"")), |(seq, digest)| (seq + 1, digest))
    }

    /// The serial for the next certificate of this epoch.
    pub fn next_serial(&self, epoch: u16) -> Option<Serial> {
        Serial::new(epoch, self.last_counter_of_serials + 1)
    }

    /// What waits for a review.
    pub fn unreviewed(&self) -> &BTreeMap<RequestId, Unreviewed> {
        &self.unreviewed
    }

    /// Refuses what was used before: the same bytes, the last reason, a counter that did not rise.
    pub fn allows(&self, signed: &Signed, statement: &BreakGlass) -> Result<(), Refusal> {
        self.unspent(signed)?;
        if self.ids.contains(&statement.id) {
            return Err(Refusal::IdTaken);
        }
        let last_reason = self.last_reason.get(&statement.person);
        if last_reason.is_some_and(|last| statement.reason.says_the_same_as(last)) {
            return Err(Refusal::ReasonRepeated);
        }
        match &statement.extends {
            Some(id) if self.last(statement, signed).is_none_or(|last| last.id != *id) => Err(Refusal::NotTheLast),
            _ => Ok(()),
        }
    }

    /// Refuses bytes that were used before, and a counter that did not rise.
    pub fn unspent(&self, signed: &Signed) -> Result<(), Refusal> {
        if self.spent.contains(&signed.digest()) {
            return Err(Refusal::Replayed);
        }
        let signature = signed.signature();
        match (self.counters.get(&signature.key().fingerprint()), signature.counter()) {
            (Some(&last), Some(got)) if got <= last && (got, last) != (0, 0) => Err(Refusal::Counter { last, got }),
            _ => Ok(()),
        }
    }

    /// Refuses what one person may not do alone: more uses in an hour than the policy says, and going on more
    /// often than it says. Whoever breaks the glass anew while the last certificate may live goes on with it, whatever
    /// they say. Drills are free, and count for nothing: they open the canary alone.
    pub fn alone(&self, signed: &Signed, statement: &BreakGlass, rules: &EmergencyRules) -> Result<(), Refusal> {
        if statement.is_drill() {
            return Ok(());
        }
        let key = signed.signature().key().fingerprint();
        let recent = || self.uses.iter().filter(|used| used.alone && statement.at.since(used.at) < HOUR);
        let (of_key, of_all) = (recent().filter(|used| used.key == key).count(), recent().count());
        let why = if of_key >= rules.per_key as usize {
            format!("this key was used alone {of_key} times within an hour")
        } else if of_all >= rules.in_all as usize {
            format!("emergency keys were used alone {of_all} times within an hour")
        } else if self.last(statement, signed).is_some_and(|last| last.goes_on_from >= rules.extend_alone) {
            format!("you have gone on alone {} times already", rules.extend_alone)
        } else {
            return Ok(());
        };
        Err(Refusal::NeedsSecond { why })
    }

    /// The use that this one goes on from: the last of this key for this role, while its certificate may live.
    fn last(&self, statement: &BreakGlass, signed: &Signed) -> Option<&Use> {
        let key = signed.signature().key().fingerprint();
        let same = |used: &&Use| used.key == key && used.person == statement.person && used.role == statement.role;
        let longest = i64::try_from(EMERGENCY_LONGEST).unwrap_or(i64::MAX);
        self.uses.iter().rev().find(same).filter(|used| statement.at.since(used.at) < longest)
    }

    /// Whether the policy names other keys than the journal says. The journal says nothing before it is asked first.
    pub fn names_others(&self, named: &BTreeSet<(PersonName, Digest)>) -> bool {
        self.keys.as_ref().is_none_or(|known| !known.keys().eq(named))
    }

    /// Whether a key was named for so many seconds. Those of the first entry about keys always were: whoever can begin
    /// a journal has the CA keys as well.
    pub fn is_cool(&self, person: &PersonName, key: &PublicKey, cool_off: i64, now: Timestamp) -> bool {
        let named = self.keys.as_ref().and_then(|keys| keys.get(&(person.clone(), key.fingerprint())));
        named.is_some_and(|since| since.is_none_or(|since| now.since(since) >= cool_off))
    }

    /// Takes in an entry: checks its signature, its number and the hash of the one before.
    pub fn take(&mut self, signed_entry: &Signed, journal_key: &PublicKey) -> Result<Entry, Refusal> {
        signed_entry.is_by(journal_key, NAMESPACE)?;
        let entry: Entry =
            serde_json::from_slice(signed_entry.bytes()).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
        if (entry.seq, entry.prev) != self.next() || self.epoch.is_some_and(|epoch| epoch != entry.epoch) {
            return Err(Refusal::OutOfOrder);
        }
        match &entry.outcome {
            Outcome::Issued { serial, .. } => self.issued(&entry, *serial)?,
            Outcome::Keys(named) => self.named(named, entry.at.second()),
            Outcome::Reviewed => self.reviewed(&entry)?,
            Outcome::Refused { .. } => {}
        }
        self.epoch = Some(entry.epoch);
        self.last = Some((entry.seq, signed_entry.digest()));
        Ok(entry)
    }

    fn issued(&mut self, entry: &Entry, serial: Serial) -> Result<(), Refusal> {
        if Some(serial) != self.next_serial(entry.epoch) {
            return Err(Refusal::OutOfOrder);
        }
        let signed = entry.signed()?;
        let statement: BreakGlass = signed.claims()?;
        let second = entry.second_signed()?;
        let goes_on_from = self.last(&statement, &signed).map_or(0, |last| last.goes_on_from + 1);
        for said in [Some(&signed), second.as_ref()].into_iter().flatten() {
            self.spent.insert(said.digest());
            if let Some(counter) = said.signature().counter() {
                self.counters.insert(said.signature().key().fingerprint(), counter);
            }
        }
        self.ids.insert(statement.id.clone());
        self.last_reason.insert(statement.person.clone(), statement.reason.to_string());
        self.last_counter_of_serials = serial.number() & ((1 << 48) - 1);
        // What comes of a drill is its report.
        if statement.drill.is_some() {
            return Ok(());
        }
        self.opens_review(&signed, &statement, serial, entry.at);
        self.uses.retain(|used| statement.at.since(used.at) < DAY);
        self.uses.push_back(Use {
            id: statement.id,
            person: statement.person,
            role: statement.role,
            key: signed.signature().key().fingerprint(),
            at: statement.at,
            alone: second.is_none(),
            goes_on_from,
        });
        Ok(())
    }

    /// What is not open cannot be closed.
    fn reviewed(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let review: Review = entry.signed()?.claims()?;
        self.unreviewed.remove(&review.id).ok_or(Refusal::OutOfOrder)?;
        Ok(())
    }

    /// A key that was named without a break stays as old as it was.
    fn named(&mut self, named: &BTreeSet<(PersonName, Digest)>, at: Timestamp) {
        let before = self.keys.take();
        let since = |key: &(PersonName, Digest)| match &before {
            None => None,
            Some(before) => before.get(key).copied().unwrap_or(Some(at)),
        };
        self.keys = Some(named.iter().map(|key| (key.clone(), since(key))).collect());
    }

    /// Every use opens a review.
    fn opens_review(&mut self, signed: &Signed, statement: &BreakGlass, serial: Serial, at: Moment) {
        let (id, person, role) = (statement.id.clone(), statement.person.clone(), statement.role.clone());
        let waits = Unreviewed { id: id.clone(), person, role, digest: signed.digest(), serial, at: at.second() };
        self.unreviewed.insert(id, waits);
    }
}

#[cfg(test)]
mod tests;
