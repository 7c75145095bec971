//! The product's whole way to a certificate: policy text, statements that people signed, a grant, a CA key
//! from a `ca-keys` folder. Each text on the way can be changed, and is signed as changed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use ssh_jit::ca::Keys;
use ssh_jit::clock::Clock;
use ssh_jit::domain::certificate::{Certificate, ToBeSigned};
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::facts::Facts;
use ssh_jit::domain::grant::{self, Grant};
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::names::InstanceId;
use ssh_jit::domain::policy::{Circumstances, Policy, Tickets};
use ssh_jit::domain::refusal::Refusal;
use ssh_jit::domain::sshsig::{Expect, SshSig};
use ssh_jit::domain::statement::{Approval, BreakGlass, Claim, Request, Serial, Statement};
use ssh_jit::domain::time::Timestamp;
use ssh_jit::domain::verify::{Signed, Verified, VerifiedSet};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use crate::support::openssh::{keygen, public_key, public_line, signing};
use crate::support::run_with;

/// What `clock_skew` is when nobody sets it.
pub(super) const SKEW: u32 = 5;

const SSH_KEY: Expect<'_> = Expect::SshKey { verified: false };

/// People, keys and a CA.
pub(super) struct Product {
    dir: PathBuf,
    pub(super) cas: Keys,
    pub(super) now: Timestamp,
    instance: InstanceId,
    counter: AtomicU64,
}

/// A certificate, or the product's answer: the code and text of a refusal, or the text of a policy error.
pub(super) type Made = Result<Certificate, String>;

/// What can be changed on the way.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Text {
    Policy,
    Request,
    Approval,
    Claim,
    BreakGlass,
}

/// A change of one text.
pub(super) enum Change {
    /// A field of a statement.
    Field(Text, &'static str, Value),
    /// A part of the text, as it is written.
    Words(Text, String, String),
    /// The claim is signed by another key than the subject's.
    ClaimedBy(&'static str),
    /// Everything is signed at this moment.
    At(Timestamp),
    /// Clock skew is met by so many seconds.
    Skew(u32),
}

pub(super) fn policy(from: &str, to: impl Into<String>) -> Change {
    Change::Words(Text::Policy, from.to_owned(), to.into())
}
pub(super) fn request(field: &'static str, value: impl Into<Value>) -> Change {
    Change::Field(Text::Request, field, value.into())
}
pub(super) fn approval(field: &'static str, value: impl Into<Value>) -> Change {
    Change::Field(Text::Approval, field, value.into())
}
pub(super) fn emergency(field: &'static str, value: impl Into<Value>) -> Change {
    Change::Field(Text::BreakGlass, field, value.into())
}

impl Product {
    /// Makes all keys: files in `dir`. An RSA key takes long, so who wants one as an emergency key makes it.
    pub(super) fn new(dir: &Path) -> Self {
        for name in ["alice", "carol", "subject", "other", "plain-emergency"] {
            keygen(dir, name, "ed25519");
        }
        keygen(dir, "sk-emergency", "ed25519-sk");
        keygen(dir, "uv-emergency", "ed25519-sk -O verify-required");
        keygen(dir, "ecdsa-emergency", "ecdsa -b 384");
        Keys::create(&dir.join("ca-keys"), None).expect("ca-keys");
        let cas = Keys::load(&dir.join("ca-keys"), || Err(std::io::ErrorKind::Unsupported.into())).expect("keys");
        let instance = InstanceId::from_bytes([7; 16]);
        Self { dir: dir.to_owned(), cas, now: Clock::System.now().second(), instance, counter: AtomicU64::new(1) }
    }

    /// A key file of this name.
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The private half of a CA, which the product itself never hands out.
    pub(super) fn ca(&self, name: &str) -> PrivateKey {
        PrivateKey::read_openssh_file(self.dir.join("ca-keys").join(name)).expect("a CA key")
    }

    /// `policy.toml`, without changes. One role, two hosts, one approver.
    pub(super) fn policy(&self) -> String {
        let line = |name: &str| public_line(&self.key(name));
        let emergency_key = |kind: &str| {
            let key = line(&format!("{kind}-emergency"));
            let verify = kind == "uv";
            format!(
                "[[emergency_keys]]\nperson = \"alice\"\nkey = \"{key}\"\nroles = [\"db-prod\"]\n\
                 verify_required = {verify} # {kind}\n"
            )
        };
        let mut kinds = vec!["plain", "sk", "uv", "ecdsa"];
        if self.key("rsa-emergency").exists() {
            kinds.push("rsa");
        }
        let emergency_keys = kinds.into_iter().map(emergency_key).collect::<Vec<_>>().concat();
        format!(
            "[people]\n\
             alice = {{ groups = [\"sre\"], keys = [\"{}\"] }}\n\
             carol = {{ groups = [\"dba\"], keys = [\"{}\"] }}\n\
             [roles.db-prod]\n\
             hosts = [\"db1\", \"db2\"]\n\
             principals = [\"db-prod\"]\n\
             requesters = [\"sre\"]\n\
             approvers = [\"dba\"]\n\
             max = \"4h\"\n\
             extensions = [\"permit-pty\"]\n\
             critical_options = {{}}\n\
             {emergency_keys}",
            line("alice"),
            line("carol"),
        )
    }

    /// The ordinary way: alice asks for db1 for an hour, carol approves, the subject key claims.
    pub(super) fn access(&self, changes: &[Change]) -> Made {
        let (grant, _) = self.grant(changes)?;
        self.certify(grant).map_err(|e| told(&e))
    }

    /// The same up to the grant, with the texts that led to it: request, approval, claim, policy.
    pub(super) fn grant(&self, changes: &[Change]) -> Result<(Grant, [String; 4]), String> {
        let at = at(changes).unwrap_or(self.now);
        let policy_text = written(self.policy(), Text::Policy, changes);
        let policy = Policy::parse(&policy_text).map_err(|e| e.to_string())?;
        let request_text = self.request(at, changes);
        let request: Verified<Request> = self.verified(&request_text, "alice", at)?;
        let approval_text = self.approval(&request_text, at, changes);
        let approval: Verified<Approval> = self.verified(&approval_text, "carol", at)?;
        let claim_text = self.claim(&request_text, at, changes);
        let claimed_by = changes.iter().find_map(|c| if let Change::ClaimedBy(key) = c { Some(*key) } else { None });
        let claim: Verified<Claim> = self.verified(&claim_text, claimed_by.unwrap_or("subject"), at)?;
        let approvals = std::slice::from_ref(&approval);
        let facts = Facts::default();
        let tickets = Tickets::default();
        let around = Circumstances { from: None, facts: &facts, tickets: &tickets, held: 0, overdue: None };
        let grant =
            Grant::access(&policy, &request, approvals, &claim, &around, skew(changes)).map_err(|e| told(&e))?;
        Ok((grant, [request_text, approval_text, claim_text, policy_text]))
    }

    /// The emergency way: alice breaks the glass with one of her emergency keys.
    pub(super) fn break_glass(&self, key: &str, changes: &[Change]) -> Made {
        self.break_glass_in(key, &[], changes)
    }

    /// The same in another environment: `SK_NO_TOUCH`.
    pub(super) fn break_glass_in(&self, key: &str, env: &[(&str, &str)], changes: &[Change]) -> Made {
        let at = at(changes).unwrap_or(self.now);
        let policy = Policy::parse(&written(self.policy(), Text::Policy, changes)).map_err(|e| e.to_string())?;
        let text = json!({
            "v": 1, "kind": "break-glass", "instance": self.instance, "person": "alice", "id": "0000-0000-BG",
            "role": "db-prod", "principals": [], "hosts": ["db1"], "seconds": null, "extends": null,
            "category": "outage", "reason": "the primary is down and nobody answers",
            "nonce": "0123456789abcdef0123456789abcdef", "at": at,
        });
        let text = written(fields(text, Text::BreakGlass, changes), Text::BreakGlass, changes);
        let statement: Verified<BreakGlass> = self.verified_in(&text, key, env, at)?;
        let grant = Grant::break_glass(&policy, &statement, None, None, skew(changes)).map_err(|e| told(&e))?;
        self.certify(grant).map_err(|e| told(&e))
    }

    /// Signs what a grant permits, by the CA that its path names.
    pub(super) fn certify(&self, grant: Grant) -> Result<Certificate, Refusal> {
        let ca = match grant.path() {
            grant::Path::Access => &self.cas.user_ca,
            grant::Path::BreakGlass => &self.cas.break_glass_ca,
        };
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let serial = Serial::new(1, number).expect("a small number");
        ca.certify(&ToBeSigned::new(grant, serial, [number as u8; 32], ca.public()))
    }

    fn request(&self, at: Timestamp, changes: &[Change]) -> String {
        let text = json!({
            "v": 1, "kind": "request", "instance": self.instance, "person": "alice", "id": "7F3K-9QPX-M2",
            "role": "db-prod", "principals": [], "hosts": ["db1"], "key": self.line("subject"),
            "seconds": 3600, "start": null, "extends": null, "ticket": null, "reason": "replica lag",
            "nonce": "00112233445566778899aabbccddeeff", "at": at,
        });
        written(fields(text, Text::Request, changes), Text::Request, changes)
    }

    /// Repeats what the request asks for, as far as that makes sense.
    fn approval(&self, request: &str, at: Timestamp, changes: &[Change]) -> String {
        let asked: Value = serde_json::from_str(request).expect("JSON");
        let key: Result<PublicKey, _> = asked["key"].as_str().unwrap_or_default().parse();
        let text = json!({
            "v": 1, "kind": "approval", "instance": self.instance, "person": "carol", "request": digest(request),
            "id": asked["id"], "decision": "approve", "requester": "alice", "role": "db-prod",
            "principals": ["db-prod@db1"], "hosts": asked["hosts"], "key": key.map(|k| k.fingerprint()).ok(),
            "seconds": asked["seconds"], "start": asked["start"], "extensions": ["permit-pty"], "critical_options": {},
            "claim_by": at.plus(600), "policy": digest("any"), "comment": "",
            "nonce": "ffeeddccbbaa99887766554433221100", "at": at,
        });
        written(fields(text, Text::Approval, changes), Text::Approval, changes)
    }

    fn claim(&self, request: &str, at: Timestamp, changes: &[Change]) -> String {
        let asked: Value = serde_json::from_str(request).expect("JSON");
        let key: Result<PublicKey, _> = asked["key"].as_str().unwrap_or_default().parse();
        let text = json!({
            "v": 1, "kind": "claim", "instance": self.instance, "person": "alice", "request": digest(request),
            "id": asked["id"], "key": key.map(|k| k.fingerprint()).ok(),
            "nonce": "f0e1d2c3b4a5968778695a4b3c2d1e0f", "at": at,
        });
        written(fields(text, Text::Claim, changes), Text::Claim, changes)
    }

    fn line(&self, key: &str) -> String {
        let line = public_line(&self.key(key));
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    fn verified<T: Statement>(&self, text: &str, key: &str, now: Timestamp) -> Result<Verified<T>, String> {
        self.verified_in(text, key, &[], now)
    }

    /// Signed, then verified as the service does when it arrives.
    fn verified_in<T: Statement>(
        &self,
        text: &str,
        key: &str,
        env: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Verified<T>, String> {
        let (key, namespace) = (self.key(key), T::KIND.namespace());
        let private = PrivateKey::read_openssh_file(&key).expect("a private key");
        let armored = match private.sign(namespace, HashAlg::Sha512, text.as_bytes()) {
            Ok(signature) => signature.to_pem(LineEnding::LF).expect("an armored signature"),
            // Security keys sign through their middleware only.
            Err(_) => run_with(signing(&key, namespace).envs(env.iter().copied()), text.as_bytes()),
        };
        let checked = SshSig::from_armor(&armored).map_err(Refusal::from).and_then(|signature| {
            let signed = Signed::new(text.as_bytes().to_vec(), signature);
            Verified::check(&signed, &public_key(&key), SSH_KEY, &self.instance, &VerifiedSet::new(0))?.fresh(now)
        });
        checked.map_err(|e| told(&e))
    }
}

/// A refusal as a client gets it, without the place in the JSON.
pub(super) fn told(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    let text = text.split_once(" at line 1 column").map_or(text.as_str(), |(text, _)| text);
    format!("{}: {text}", refusal.code())
}

fn digest(text: &str) -> Value {
    json!(Digest::of(text.as_bytes()))
}

fn at(changes: &[Change]) -> Option<Timestamp> {
    changes.iter().find_map(|change| if let Change::At(at) = change { Some(*at) } else { None })
}

fn skew(changes: &[Change]) -> u32 {
    let skew = changes.iter().find_map(|change| if let Change::Skew(skew) = change { Some(*skew) } else { None });
    skew.unwrap_or(SKEW)
}

fn fields(mut statement: Value, which: Text, changes: &[Change]) -> String {
    for change in changes {
        if let Change::Field(text, field, value) = change
            && *text == which
        {
            statement[field] = value.clone();
        }
    }
    statement.to_string()
}

fn written(mut text: String, which: Text, changes: &[Change]) -> String {
    for change in changes {
        if let Change::Words(place, from, to) = change
            && *place == which
        {
            assert!(text.contains(from), "{from} does not stand in {text}");
            text = text.replacen(from, to, 1);
        }
    }
    text
}
