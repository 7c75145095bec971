//! From signed bytes to facts. A [`Verified`] statement can be made here only: its bytes parse, it is
//! meant for this service, and the key that the policy names signed exactly those bytes.

use super::digest::Digest;
use super::key::PublicKey;
use super::names::InstanceId;
use super::passkey::Enrolled;
use super::policy::{Person, Policy};
use super::refusal::Refusal;
use super::remembered::Remembered;
use super::sshsig::{Expect, SshSig};
use super::statement::{self, Statement};
use super::time::Timestamp;

/// How long after `at` a statement is accepted, in seconds.
pub const FRESH_FOR: i64 = 60;
/// How far `at` may lie ahead of the service's clock, in seconds.
pub const AHEAD_BY: i64 = 5;

/// A statement's bytes and the signature over them, as they came. Says nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    bytes: Vec<u8>,
    signature: SshSig,
    digest: Digest,
}

impl Signed {
    /// Pairs a statement's verbatim bytes with a parsed signature.
    pub fn new(bytes: Vec<u8>, signature: SshSig) -> Self {
        let digest = Digest::of(&bytes);
        Self { bytes, signature, digest }
    }

    /// The bytes that were signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature.
    pub fn signature(&self) -> &SshSig {
        &self.signature
    }

    /// SHA-256 of the bytes (never of the signature: ECDSA signatures can be altered and stay valid).
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the holder of `key` signed these bytes in this namespace: for what the service itself
    /// signs (trust documents, log heads, journal entries), which is not a statement of a person.
    pub fn is_by(&self, key: &PublicKey, namespace: &str) -> Result<(), Refusal> {
        self.signature.expect(&self.bytes, namespace, key, Expect::SshKey { verified: false })?;
        Ok(self.signature.check(&self.bytes)?)
    }

    /// What the statement claims, before anything is verified: to look up whose key should have signed it.
    pub fn claims<T: Statement>(&self) -> Result<T, Refusal> {
        statement::parse(&self.bytes)
    }
}

/// A statement that was made for this service by the holder of a key.
#[derive(Debug, Clone)]
pub struct Verified<T> {
    statement: T,
    signed: Signed,
    passkey: Option<Enrolled>,
}

impl<T: Statement> Verified<T> {
    /// Verifies `signed` against the key that was looked up for it. `seen` may save the mathematics of
    /// a repeat, and nothing else.
    pub fn check(
        signed: &Signed,
        key: &PublicKey,
        expect: Expect<'_>,
        instance: &InstanceId,
        seen: &VerifiedSet,
    ) -> Result<Self, Refusal> {
        Self::check_by(signed, |_| Ok(key), expect, instance, seen)
    }

    /// The same, where the statement says whose key to look up: that is asked before the signature is worth a look.
    pub fn check_by<'k>(
        signed: &Signed,
        key: impl FnOnce(&T) -> Result<&'k PublicKey, Refusal>,
        expect: Expect<'_>,
        instance: &InstanceId,
        seen: &VerifiedSet,
    ) -> Result<Self, Refusal> {
        let statement: T = signed.claims()?;
        let key = key(&statement)?;
        if statement.instance() != instance {
            return Err(Refusal::OtherInstance);
        }
        signed.signature.expect(&signed.bytes, T::KIND.namespace(), key, expect)?;
        let entry = Digest::of_parts(&[&signed.bytes, signed.signature.blob(), key.blob()]);
        if !seen.contains(&entry) {
            signed.signature.check(&signed.bytes)?;
            seen.insert(entry);
        }
        Ok(Self { statement, signed: signed.clone(), passkey: None })
    }

    /// The same for a statement that was signed with a passkey, at this origin.
    pub fn check_passkey(
        signed: &Signed,
        passkey: Enrolled,
        origin: &str,
        instance: &InstanceId,
        seen: &VerifiedSet,
    ) -> Result<Self, Refusal> {
        let verified = Self::check(signed, &passkey.get().key, Expect::Passkey { origin }, instance, seen)?;
        Ok(Self { passkey: Some(passkey), ..verified })
    }

    /// The person who makes the statement, if the policy says now that the key, or the SSH key behind the
    /// passkey, is theirs.
    pub fn signer<'p>(&self, policy: &'p Policy) -> Result<&'p Person, Refusal> {
        match &self.passkey {
            None => policy.signer(self.statement.person(), self.key()),
            Some(passkey) => passkey.holder(policy, self.statement.person(), self.statement.at()),
        }
    }

    /// Refuses a statement that was signed too long ago, or in the future: at its acceptance, not
    /// when it is verified again later.
    pub fn fresh(self, now: Timestamp) -> Result<Self, Refusal> {
        self.fresh_for(FRESH_FOR, now)
    }

    /// The same where it may be so many seconds old.
    pub fn fresh_for(self, most: i64, now: Timestamp) -> Result<Self, Refusal> {
        is_fresh(self.statement.at(), most, now).map(|()| self)
    }

    /// The statement.
    pub fn get(&self) -> &T {
        &self.statement
    }

    /// Its bytes and signature.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        self.signed.digest
    }

    /// The key that signed it.
    pub fn key(&self) -> &PublicKey {
        self.signed.signature.key()
    }
}

/// Hashes of what was verified already (statement, signature and key together). Lives in memory only; entries are
/// made by [`Verified::check`] alone, and by [`super::webhook::Delivery::check`] for webhooks.
#[derive(Debug)]
pub struct VerifiedSet(Remembered<Digest, ()>);

impl VerifiedSet {
    /// Remembers `capacity` to twice `capacity` entries of 32 bytes; with 0 it remembers none.
    pub fn new(capacity: usize) -> Self {
        Self(Remembered::new(capacity))
    }

    pub(super) fn contains(&self, entry: &Digest) -> bool {
        self.0.get(entry).is_some()
    }

    pub(super) fn insert(&self, entry: Digest) {
        self.0.insert(entry, ());
    }
}

/// Refuses what was signed more than so many seconds ago, or further in the future than clocks differ.
pub(super) fn is_fresh(at: Timestamp, most: i64, now: Timestamp) -> Result<(), Refusal> {
    let age = now.since(at);
    if age > most {
        return Err(Refusal::Stale { seconds: age });
    }
    if -age > AHEAD_BY {
        return Err(Refusal::Future { seconds: -age });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
