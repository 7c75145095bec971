//! The break-glass journal's entries: each signed by the journal key, each naming the one before, so
//! that the journal proves by itself, without the database, what was done in an emergency and why.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::key::PublicKey;
use super::names::{PersonName, RequestId, RoleName};
use super::refusal::Refusal;
use super::sshsig::SshSig;
use super::statement::{BreakGlass, Review, Serial, Version};
use super::time::{Moment, Timestamp};
use super::verify::Signed;

/// The SSHSIG namespace of a journal entry.
pub const NAMESPACE: &str = "journal@ssh-jit";

/// One thing that was tried with an emergency key.
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
    /// The statement's bytes, verbatim.
    pub statement: String,
    /// The signature over them, armored.
    pub signature: String,
    pub policy: Digest,
    pub outcome: Outcome,
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
        if self.spent.contains(&signed.digest()) {
            return Err(Refusal::Replayed);
        }
        if self.ids.contains(&statement.id) {
            return Err(Refusal::IdTaken);
        }
        let last_reason = self.last_reason.get(&statement.person);
        if last_reason.is_some_and(|last| statement.reason.says_the_same_as(last)) {
            return Err(Refusal::ReasonRepeated);
        }
        let signature = signed.signature();
        match (self.counters.get(&signature.key().fingerprint()), signature.counter()) {
            (Some(&last), Some(got)) if got <= last && (got, last) != (0, 0) => Err(Refusal::Counter { last, got }),
            _ => Ok(()),
        }
    }

    /// Takes in an entry: checks its signature, its number and the hash of the one before.
    pub fn take(&mut self, signed_entry: &Signed, journal_key: &PublicKey) -> Result<Entry, Refusal> {
        signed_entry.is_by(journal_key, NAMESPACE)?;
        let entry: Entry =
            serde_json::from_slice(signed_entry.bytes()).map_err(|e| Refusal::Malformed { what: e.to_string() })?;
        if (entry.seq, entry.prev) != self.next() || self.epoch.is_some_and(|epoch| epoch != entry.epoch) {
            return Err(Refusal::OutOfOrder);
        }
        if let Outcome::Issued { serial, .. } = entry.outcome {
            if Some(serial) != self.next_serial(entry.epoch) {
                return Err(Refusal::OutOfOrder);
            }
            let signed = entry.signed()?;
            let statement: BreakGlass = signed.claims()?;
            self.opens_review(&signed, &statement, serial, entry.at);
            self.spent.insert(signed.digest());
            self.ids.insert(statement.id);
            self.last_reason.insert(statement.person, statement.reason.to_string());
            if let Some(counter) = signed.signature().counter() {
                self.counters.insert(signed.signature().key().fingerprint(), counter);
            }
            self.last_counter_of_serials = serial.number() & ((1 << 48) - 1);
        }
        if entry.outcome == Outcome::Reviewed {
            let review: Review = entry.signed()?.claims()?;
            self.unreviewed.remove(&review.id).ok_or(Refusal::OutOfOrder)?;
        }
        self.epoch = Some(entry.epoch);
        self.last = Some((entry.seq, signed_entry.digest()));
        Ok(entry)
    }

    /// Every use opens a review, but for drills: what comes of these is their report.
    fn opens_review(&mut self, signed: &Signed, statement: &BreakGlass, serial: Serial, at: Moment) {
        if statement.drill.is_some() {
            return;
        }
        let (id, person, role) = (statement.id.clone(), statement.person.clone(), statement.role.clone());
        let waits = Unreviewed { id: id.clone(), person, role, digest: signed.digest(), serial, at: at.second() };
        self.unreviewed.insert(id, waits);
    }
}

#[cfg(test)]
mod tests;
