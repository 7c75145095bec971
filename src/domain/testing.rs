//! What the tests are made of: keys from seeds, a policy, statements and their signatures. The same
//! on every run, so that tests can compare bytes.

use std::sync::LazyLock;

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::facts::Facts;
use super::grant::Grant;
use super::key::PublicKey;
use super::names::{InstanceId, Nonce, PersonName, Principal, RequestId, RoleName};
use super::policy::{Asked, Circumstances, Policy, Terms, Tickets};
use super::refusal::Refusal;
use super::sshsig::{self, Expect, SshSig};
use super::statement::{self, Approval, BreakGlass, Category, Claim, Decision, Is, Request, Statement, Version};
use super::time::{Seconds, Timestamp};
use super::verify::{Signed, Verified, VerifiedSet};

/// When every story begins: 2026-11-22T10:01:58Z.
pub(crate) const NOW: i64 = 1_795_341_718;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW + seconds)
}

/// Any value that is parsed from text.
pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn list<T: std::str::FromStr<Err: std::fmt::Debug>>(items: &[&str]) -> Vec<T> {
    items.iter().map(|item| parsed(item)).collect()
}

pub(crate) fn instance() -> InstanceId {
    InstanceId::from_bytes([0x3f; 16])
}

/// A key pair: plain Ed25519, or a FIDO key with its flags and counter.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    secret: SigningKey,
    fido: Option<(u8, u32)>,
}

impl Key {
    pub(crate) fn from_seed(seed: u8) -> Self {
        Self { secret: SigningKey::from_bytes(&[seed; 32]), fido: None }
    }

    /// `flags` 1: touched; 5: touched and PIN or finger given.
    pub(crate) fn fido(seed: u8, flags: u8, counter: u32) -> Self {
        Self { fido: Some((flags, counter)), ..Self::from_seed(seed) }
    }

    pub(crate) fn public(&self) -> PublicKey {
        let point = self.secret.verifying_key();
        let blob = match self.fido {
            None => wire(&[b"ssh-ed25519", point.as_bytes()]),
            Some(_) => wire(&[b"sk-ssh-ed25519@openssh.com", point.as_bytes(), b"ssh:"]),
        };
        PublicKey::from_blob(&blob).unwrap()
    }

    /// 64 bytes of Ed25519, as a CA makes them.
    pub(crate) fn raw(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }

    pub(crate) fn sign(&self, namespace: &str, bytes: &[u8]) -> Signed {
        let blob = sshsig::signed_blob(namespace, bytes);
        let raw = match self.fido {
            None => wire(&[b"ssh-ed25519", &self.raw(&blob)]),
            Some((flags, counter)) => {
                let tail = [&[flags], counter.to_be_bytes().as_slice()].concat();
                let signed = [Sha256::digest("ssh:").as_slice(), &tail, Sha256::digest(&blob).as_slice()].concat();
                [wire(&[b"sk-ssh-ed25519@openssh.com", &self.raw(&signed)]), tail].concat()
            }
        };
        Signed::new(bytes.to_vec(), SshSig::from_signature(&self.public(), namespace, &raw).unwrap())
    }

    pub(crate) fn sign_statement<T: Statement>(&self, statement: &T) -> Signed {
        self.sign(T::KIND.namespace(), &statement::to_bytes(statement))
    }

    pub(crate) fn verified<T: Statement>(&self, statement: &T) -> Verified<T> {
        let signed = self.sign_statement(statement);
        let expect = Expect::SshKey { verified: false };
        Verified::check(&signed, &self.public(), expect, statement.instance(), &VerifiedSet::new(0)).unwrap()
    }
}

/// Strings of the SSH wire format, one after the other.
pub(crate) fn wire(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u32).to_be_bytes(), *part].concat()).collect()
}

pub(crate) fn alice() -> Key {
    Key::from_seed(1)
}
pub(crate) fn alices_other_key() -> Key {
    Key::from_seed(2)
}
pub(crate) fn bob() -> Key {
    Key::from_seed(3)
}
pub(crate) fn carol() -> Key {
    Key::from_seed(4)
}
pub(crate) fn dan() -> Key {
    Key::from_seed(5)
}
pub(crate) fn robot() -> Key {
    Key::from_seed(6)
}
pub(crate) fn alices_emergency_key() -> Key {
    Key::from_seed(7)
}
/// A FIDO key that must ask for its PIN, touched with PIN.
pub(crate) fn dans_emergency_key() -> Key {
    Key::fido(8, 5, 1)
}
/// The key that is to be certified, made for one request.
pub(crate) fn subject() -> Key {
    Key::from_seed(9)
}
/// A key that nobody knows.
pub(crate) fn stranger() -> Key {
    Key::from_seed(10)
}
pub(crate) fn user_ca() -> Key {
    Key::from_seed(11)
}

/// alice and bob (sre) ask, carol and dan (dba) decide; robot is a machine.
pub(crate) fn policy_text() -> String {
    format!(
        r#"[people.alice]
groups = ["sre"]
keys = ["{alice} alice@laptop", "{other}"]

[people.bob]
groups = ["sre"]
keys = ["{bob}"]

[people.carol]
groups = ["dba"]
keys = ["{carol}"]

[people.dan]
groups = ["dba"]
keys = ["{dan}"]

[people.robot]
kind = "service"
keys = ["{robot}"]

[duties]
admins = ["carol"]
auditors = ["sre"]
revokers = ["dba", "bob"]
reviewers = ["dba"]

[roles.db-prod]
description = "PostgreSQL, production"
hosts = ["db1", "db2"]
principals = ["db-prod"]
requesters = ["sre", "carol", "robot"]
approvers = ["dba", "robot"]
approvals = 1
automatic = {{ max = "15m" }}
max = "4h"
default = "1h"
extensions = ["permit-pty", "permit-port-forwarding"]

[roles.web]
principals = ["web", "web-ro"]
requesters = ["sre"]
approvers = ["sre"]
max = "12h"

[roles.vault]
hosts = ["vault1", "vault2"]
principals = ["vault"]
requesters = ["alice"]
approvers = ["bob", "dba"]
approvals = 2
max = "2h"
extensions = ["permit-pty"]
critical_options = {{ source-address = "10.0.0.0/8" }}

[[emergency_keys]]
person = "alice"
key = "{alices_safe}"
roles = ["db-prod", "web"]
max = "10m"

[[emergency_keys]]
person = "dan"
key = "{dans_safe}"
roles = ["vault"]
verify_required = true
"#,
        alice = alice().public(),
        other = alices_other_key().public(),
        bob = bob().public(),
        carol = carol().public(),
        dan = dan().public(),
        robot = robot().public(),
        alices_safe = alices_emergency_key().public(),
        dans_safe = dans_emergency_key().public(),
    )
}

/// A policy with one thing changed, which must stand there once.
pub(crate) fn edit(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} must stand in the policy once");
    text.replace(from, to)
}

pub(crate) fn policy() -> Policy {
    Policy::parse(&policy_text()).unwrap()
}

/// Circumstances of which nothing is known.
pub(crate) fn unknown() -> Circumstances<'static> {
    static NOTHING: LazyLock<(Facts, Tickets)> = LazyLock::new(Default::default);
    Circumstances { from: None, facts: &NOTHING.0, tickets: &NOTHING.1, held: 0, overdue: None }
}

/// What a policy makes of somebody's asking, while nothing else is known.
pub(crate) fn terms_for(
    policy: &Policy,
    (person, role): (&str, &str),
    hosts: &[&str],
    principals: &[&str],
    length: Option<Seconds>,
) -> Result<Terms, Refusal> {
    let (person, role) = (parsed(person), parsed(role));
    let (hosts, principals) = (list(hosts), list(principals));
    let asked =
        Asked { person: &person, role: &role, hosts: &hosts, principals: &principals, seconds: length, ticket: None };
    policy.terms(&asked, at(0), &unknown())
}

/// Stands for the digest of the request at hand in [`approval`] and [`claim`].
pub(crate) fn this_request() -> Digest {
    Digest::of(b"this request")
}

pub(crate) fn person(name: &str) -> PersonName {
    parsed(name)
}
pub(crate) fn role(name: &str) -> RoleName {
    parsed(name)
}
pub(crate) fn seconds(n: u64) -> Seconds {
    Seconds::new(n).unwrap()
}
pub(crate) fn request_id() -> RequestId {
    parsed("7F3K-9QPX-M2")
}
pub(crate) fn nonce(byte: u8) -> Nonce {
    Nonce::from_bytes([byte; 16])
}

/// alice asks for db-prod on all its hosts, for 2 hours.
pub(crate) fn request() -> Request {
    Request {
        v: Version,
        kind: Is,
        instance: instance(),
        person: person("alice"),
        id: request_id(),
        role: role("db-prod"),
        principals: vec![],
        hosts: vec![],
        key: subject().public(),
        seconds: Some(seconds(7200)),
        start: None,
        extends: None,
        ticket: Some(parsed("INC-412")),
        reason: parsed("replica lag after failover"),
        nonce: nonce(1),
        at: at(0),
    }
}

/// `name` approves the sample request 10 s later, for an hour on db1, to be claimed within an hour.
pub(crate) fn approval(name: &str) -> Approval {
    Approval {
        v: Version,
        kind: Is,
        instance: instance(),
        person: person(name),
        request: this_request(),
        id: request_id(),
        decision: Decision::Approve,
        requester: person("alice"),
        role: role("db-prod"),
        principals: list::<Principal>(&["db-prod@db1"]),
        hosts: list(&["db1"]),
        key: subject().public().fingerprint(),
        seconds: seconds(3600),
        start: None,
        extensions: list(&["permit-pty"]),
        critical_options: std::collections::BTreeMap::new(),
        claim_by: at(3610),
        policy: policy().digest(),
        comment: parsed(""),
        nonce: nonce(2),
        at: at(10),
    }
}

/// alice claims the sample request 20 s after she asked.
pub(crate) fn claim() -> Claim {
    Claim {
        v: Version,
        kind: Is,
        instance: instance(),
        person: person("alice"),
        request: this_request(),
        id: request_id(),
        key: subject().public().fingerprint(),
        nonce: nonce(3),
        at: at(20),
    }
}

/// alice breaks the glass of db-prod for the default time.
pub(crate) fn break_glass() -> BreakGlass {
    BreakGlass {
        v: Version,
        kind: Is,
        instance: instance(),
        person: person("alice"),
        id: request_id(),
        role: role("db-prod"),
        principals: vec![],
        hosts: vec![],
        seconds: None,
        extends: None,
        category: Category::Outage,
        reason: parsed("primary is down, nobody answers"),
        clock_off: None,
        drill: None,
        nonce: nonce(4),
        at: at(0),
    }
}

/// What the sample request, approved by carol and claimed, comes to.
pub(crate) fn grant() -> Grant {
    let request = alice().verified(&request());
    let approval = carol().verified(&Approval { request: request.digest(), ..approval("carol") });
    let claim = subject().verified(&Claim { request: request.digest(), ..claim() });
    Grant::access(&policy(), &request, &[approval], &claim, &unknown(), 5).unwrap()
}

/// A public key on NIST P-256.
pub(crate) fn ecdsa_key() -> PublicKey {
    use p256::elliptic_curve::sec1::ToSec1Point as _;
    let point = p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key().to_sec1_point(false);
    PublicKey::from_blob(&wire(&[b"ecdsa-sha2-nistp256", b"nistp256", point.as_bytes()])).unwrap()
}

/// The wire form of an RSA key of so many bits; its modulus is odd and nothing more.
pub(crate) fn rsa_blob(bits: usize) -> Vec<u8> {
    let modulus = [&[0][..], &vec![0xc1; bits / 8]].concat();
    wire(&[b"ssh-rsa", &[1, 0, 1], &modulus])
}
