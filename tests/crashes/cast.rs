//! Who asks, who decides, and what they sign; and what is known outside of the service after all of it.

use std::fmt::Write as _;

use ed25519_dalek::{Signer as _, SigningKey};
use ssh_jit::clock::Clock;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::event::EventKind;
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::names::{InstanceId, PersonName, RequestId};
use ssh_jit::domain::sshsig::{SshSig, ed25519_wire, signed_blob};
use ssh_jit::domain::statement::{
    Approval, BreakGlass, Category, Claim, Decision, Is, Request, Return, Revocation, Serial, Statement, Target,
    Version, Withdrawal, to_bytes,
};
use ssh_jit::domain::time::{Seconds, Timestamp};
use ssh_jit::random;
use ssh_jit::wire::SignedText;

/// Longer than the policy approves by itself.
const LENGTH: u64 = 3600;

/// Somebody with an Ed25519 key.
#[derive(Clone)]
pub(crate) struct Signer {
    name: PersonName,
    key: SigningKey,
    public: PublicKey,
}

/// Everybody, and the service that they sign for.
pub(crate) struct Cast {
    pub(crate) instance: InstanceId,
    pub(crate) policy: String,
    digest: Digest,
    alice: Signer,
    carol: Signer,
    dan: Signer,
    emergency: Signer,
}

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Ask,
    Approve,
    Deny,
    Withdraw,
    Claim,
    Return,
    Revoke,
    BreakGlass,
}

/// A statement on its way.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) act: Act,
    pub(crate) path: &'static str,
    pub(crate) body: SignedText,
    pub(crate) digest: Digest,
    pub(crate) id: RequestId,
    /// What the log must hold once it was acknowledged; nothing for a claim that only asks again.
    pub(crate) event: Option<EventKind>,
    pub(crate) acknowledged: bool,
}

/// What people saw, sent and got: it must agree with the files whatever happened.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) sent: Vec<Sent>,
    pub(crate) certificates: Vec<String>,
    pub(crate) heads: Vec<SignedText>,
    asked: Option<Asked>,
    /// The certificate that was claimed, and its serial.
    pub(crate) claimed: Option<String>,
    pub(crate) serial: Option<Serial>,
}

#[derive(Clone)]
struct Asked {
    request: Request,
    digest: Digest,
    subject: Signer,
}

impl Signer {
    fn new(name: &str) -> Self {
        let key = SigningKey::from_bytes(&random::bytes());
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.extend_from_slice(key.verifying_key().as_bytes());
        let public = PublicKey::from_blob(&blob).expect("an Ed25519 key");
        Self { name: name.parse().expect("a name"), key, public }
    }

    fn sign<T: Statement>(&self, statement: &T) -> (SignedText, Digest) {
        let (bytes, namespace) = (to_bytes(statement), T::KIND.namespace());
        let signature = ed25519_wire(&self.key.sign(&signed_blob(namespace, &bytes)).to_bytes());
        let signature = SshSig::from_signature(&self.public, namespace, &signature).expect("a signature");
        let digest = Digest::of(&bytes);
        (SignedText { text: String::from_utf8(bytes).expect("JSON"), signature: signature.armor() }, digest)
    }
}

impl Cast {
    pub(crate) fn new() -> Self {
        let [alice, carol, dan] = ["alice", "carol", "dan"].map(Signer::new);
        let emergency = Signer::new("alice");
        let mut policy = String::new();
        for (person, group) in [(&alice, "sre"), (&carol, "dba"), (&dan, "dba")] {
            let (name, key) = (&person.name, &person.public);
            write!(policy, "[people.{name}]\ngroups = [\"{group}\"]\nkeys = [\"{key}\"]\n").expect("text");
        }
        write!(
            policy,
            "[duties]\nrevokers = [\"carol\"]\n[roles.db-prod]\ndescription = \"PostgreSQL, production\"\nhosts = [\"db1\", \"db2\"]\n\
             principals = [\"db-prod\"]\nrequesters = [\"sre\"]\napprovers = [\"dba\"]\nmax = \"4h\"\n\
             extensions = [\"permit-pty\"]\n\
             [[emergency_keys]]\nperson = \"alice\"\nkey = \"{}\"\nroles = [\"db-prod\"]\nmax = \"10m\"\n",
            emergency.public
        )
        .expect("text");
        let instance = InstanceId::from_bytes([0; 16]);
        Self { instance, digest: Digest::of(policy.as_bytes()), policy, alice, carol, dan, emergency }
    }

    /// Signs what the act needs. What it speaks of is what was asked for last.
    pub(crate) fn sign(&self, act: Act, known: &mut Known) -> Sent {
        match act {
            Act::Ask => self.ask(known),
            Act::BreakGlass => self.break_glass(),
            Act::Approve => self.decide(&self.carol, Decision::Approve, known),
            Act::Deny => self.decide(&self.carol, Decision::Deny, known),
            Act::Withdraw => {
                let asked = known.asked();
                let withdrawal = Withdrawal {
                    v: Version,
                    kind: Is,
                    instance: self.instance.clone(),
                    person: self.alice.name.clone(),
                    request: asked.digest,
                    id: asked.request.id.clone(),
                    reason: "no longer needed".parse().expect("a comment"),
                    nonce: random::nonce(),
                    at: now(),
                };
                let sent = self.alice.sign(&withdrawal);
                Sent::new(act, "/v1/withdrawals", sent, &asked.request.id, EventKind::Withdrawn)
            }
            Act::Claim => {
                let asked = known.asked();
                let claim = Claim {
                    v: Version,
                    kind: Is,
                    instance: self.instance.clone(),
                    person: self.alice.name.clone(),
                    request: asked.digest,
                    id: asked.request.id.clone(),
                    key: asked.subject.public.fingerprint(),
                    nonce: random::nonce(),
                    at: now(),
                };
                Sent::new(act, "/v1/claims", asked.subject.sign(&claim), &asked.request.id, EventKind::Claimed)
            }
            Act::Return => {
                let asked = known.asked();
                let given = Return {
                    v: Version,
                    kind: Is,
                    instance: self.instance.clone(),
                    person: self.alice.name.clone(),
                    request: asked.digest,
                    id: asked.request.id.clone(),
                    serial: known.serial.expect("a certificate"),
                    nonce: random::nonce(),
                    at: now(),
                };
                Sent::new(act, "/v1/returns", asked.subject.sign(&given), &asked.request.id, EventKind::Returned)
            }
            Act::Revoke => {
                let asked = known.asked();
                let revocation = Revocation {
                    v: Version,
                    kind: Is,
                    instance: self.instance.clone(),
                    person: self.carol.name.clone(),
                    target: Target::Request(asked.request.id.clone()),
                    reason: "the laptop was stolen".parse().expect("a reason"),
                    nonce: random::nonce(),
                    at: now(),
                };
                let sent = self.carol.sign(&revocation);
                Sent::new(act, "/v1/revocations", sent, &asked.request.id, EventKind::Revoked)
            }
        }
    }

    /// An approval by somebody who has not decided yet.
    pub(crate) fn second_opinion(&self, known: &Known) -> Sent {
        self.decide(&self.dan, Decision::Approve, known)
    }

    fn ask(&self, known: &mut Known) -> Sent {
        let subject = Signer::new("subject");
        let request = Request {
            v: Version,
            kind: Is,
            instance: self.instance.clone(),
            person: self.alice.name.clone(),
            id: random::request_id(),
            role: "db-prod".parse().expect("a role"),
            principals: Vec::new(),
            hosts: Vec::new(),
            key: subject.public.clone(),
            seconds: Seconds::new(LENGTH),
            start: None,
            extends: None,
            ticket: None,
            reason: "replica lag after failover".parse().expect("a reason"),
            nonce: random::nonce(),
            at: now(),
        };
        let (body, digest) = self.alice.sign(&request);
        let sent = Sent::new(Act::Ask, "/v1/requests", (body, digest), &request.id, EventKind::Requested);
        known.asked = Some(Asked { request, digest, subject });
        sent
    }

    fn decide(&self, by: &Signer, decision: Decision, known: &Known) -> Sent {
        let Asked { request, digest, .. } = known.asked();
        let at = now();
        let approval = Approval {
            v: Version,
            kind: Is,
            instance: self.instance.clone(),
            person: by.name.clone(),
            request: *digest,
            id: request.id.clone(),
            decision,
            requester: request.person.clone(),
            role: request.role.clone(),
            principals: ["db-prod@db1", "db-prod@db2"].map(|p| p.parse().expect("a principal")).to_vec(),
            hosts: ["db1", "db2"].map(|h| h.parse().expect("a host")).to_vec(),
            key: request.key.fingerprint(),
            seconds: Seconds::new(LENGTH).expect("an hour"),
            start: None,
            extensions: vec!["permit-pty".parse().expect("an extension")],
            critical_options: std::collections::BTreeMap::new(),
            claim_by: at.plus(3600),
            policy: self.digest,
            comment: "not during the freeze".parse().expect("a comment"),
            nonce: random::nonce(),
            at,
        };
        let (act, event) = match decision {
            Decision::Approve => (Act::Approve, EventKind::Approved),
            Decision::Deny => (Act::Deny, EventKind::Denied),
        };
        Sent::new(act, "/v1/decisions", by.sign(&approval), &request.id, event)
    }

    fn break_glass(&self) -> Sent {
        let id = random::request_id();
        let broken = BreakGlass {
            v: Version,
            kind: Is,
            instance: self.instance.clone(),
            person: self.emergency.name.clone(),
            id: id.clone(),
            role: "db-prod".parse().expect("a role"),
            principals: Vec::new(),
            hosts: Vec::new(),
            seconds: None,
            extends: None,
            category: Category::Outage,
            // Another one each time: the same twice in a row is refused.
            reason: format!("the primary is down, incident {id}").parse().expect("a reason"),
            clock_off: None,
            drill: None,
            nonce: random::nonce(),
            at: now(),
        };
        let sent = self.emergency.sign(&broken);
        Sent::new(Act::BreakGlass, "/v1/break-glass", sent, &id, EventKind::BreakGlass)
    }
}

impl Known {
    fn asked(&self) -> &Asked {
        self.asked.as_ref().expect("somebody asked")
    }
}

impl Sent {
    fn new(act: Act, path: &'static str, signed: (SignedText, Digest), id: &RequestId, event: EventKind) -> Self {
        let (body, digest) = signed;
        Self { act, path, body, digest, id: id.clone(), event: Some(event), acknowledged: false }
    }
}

fn now() -> Timestamp {
    Clock::System.now().second()
}
