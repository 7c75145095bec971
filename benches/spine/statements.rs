//! Who asks, who approves, and what they sign: everything is signed before the clock starts.

use std::fmt::Write as _;

use ed25519_dalek::{Signer as _, SigningKey};
use ssh_jit::clock::Clock;
use ssh_jit::domain::digest::Digest;
use ssh_jit::domain::key::PublicKey;
use ssh_jit::domain::names::{InstanceId, PersonName, RequestId};
use ssh_jit::domain::sshsig::{SshSig, ed25519_wire, signed_blob};
use ssh_jit::domain::statement::{
    Approval, Claim, Decision, Is, Request, Session, Statement, Version, parse, to_bytes,
};
use ssh_jit::domain::time::{Seconds, Timestamp};
use ssh_jit::domain::verify::Signed;
use ssh_jit::random;
use ssh_jit::wire::SignedText;

use crate::load::{Call, post};

/// The only role. Up to a quarter of an hour nobody is asked.
pub(crate) const ROLE: &str = "db-prod";
/// What requests ask for: long enough that somebody must approve.
const LENGTH: u64 = 3600;
const PRINCIPALS: [&str; 2] = ["db-prod@db1", "db-prod@db2"];

/// Somebody with an Ed25519 key.
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
    requesters: Vec<Signer>,
    pub(crate) approver: Signer,
    /// What the approver gives, of the hour that was asked for.
    pub(crate) seconds: u64,
}

/// One request from its signing to its claim.
pub(crate) struct Life {
    person: PersonName,
    pub(crate) id: RequestId,
    request: Digest,
    subject: Signer,
    pub(crate) ask: Call,
    pub(crate) approve: Call,
}

impl Signer {
    pub(crate) fn new(name: &str) -> Self {
        let key = SigningKey::from_bytes(&random::bytes());
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.extend_from_slice(key.verifying_key().as_bytes());
        let public = PublicKey::from_blob(&blob).expect("an Ed25519 key");
        Self { name: name.parse().expect("a name"), key, public }
    }

    /// Signs a statement; gives what is sent, and the digest of its bytes.
    fn sign<T: Statement>(&self, statement: &T) -> (SignedText, Digest) {
        let (bytes, namespace) = (to_bytes(statement), T::KIND.namespace());
        let signature = ed25519_wire(&self.key.sign(&signed_blob(namespace, &bytes)).to_bytes());
        let signature = SshSig::from_signature(&self.public, namespace, &signature).expect("a signature");
        let digest = Digest::of(&bytes);
        (SignedText { text: String::from_utf8(bytes).expect("JSON"), signature: signature.armor() }, digest)
    }
}

impl Cast {
    /// `people` who ask, one who approves, and `more` lines of policy for whoever else there is.
    pub(crate) fn new(people: usize, more: &str) -> Self {
        let requesters: Vec<Signer> = (0..people).map(|n| Signer::new(&format!("requester{n}"))).collect();
        let approver = Signer::new("approver");
        let mut policy = more.to_owned();
        for person in &requesters {
            let (name, key) = (&person.name, &person.public);
            write!(policy, "[people.{name}]\ngroups = [\"sre\"]\nkeys = [\"{key}\"]\n").expect("text");
        }
        write!(
            policy,
            "[people.approver]\ngroups = [\"dba\"]\nkeys = [\"{}\"]\n\
             [roles.{ROLE}]\ndescription = \"PostgreSQL, production\"\nhosts = [\"db1\", \"db2\"]\n\
             principals = [\"db-prod\"]\nrequesters = [\"sre\"]\napprovers = [\"dba\"]\n\
             automatic = {{ max = \"15m\" }}\nmax = \"4h\"\nextensions = [\"permit-pty\"]\n",
            approver.public
        )
        .expect("text");
        let instance = InstanceId::from_bytes([0; 16]);
        Self { instance, digest: Digest::of(policy.as_bytes()), policy, requesters, approver, seconds: LENGTH }
    }

    /// So many requests and their approvals, signed now, of as many people as there are in turn.
    pub(crate) fn lives(&self, count: usize) -> Vec<Life> {
        let at = now();
        (0..count).map(|n| self.life(&self.requesters[n % self.requesters.len()], at)).collect()
    }

    fn life(&self, person: &Signer, at: Timestamp) -> Life {
        let subject = Signer::new("subject");
        let request = Request {
            v: Version,
            kind: Is,
            instance: self.instance.clone(),
            person: person.name.clone(),
            id: random::request_id(),
            role: ROLE.parse().expect("a role"),
            principals: Vec::new(),
            hosts: Vec::new(),
            key: subject.public.clone(),
            seconds: Seconds::new(LENGTH),
            start: None,
            extends: None,
            ticket: Some("INC-412".parse().expect("a ticket")),
            reason: "replica lag after failover".parse().expect("a reason"),
            nonce: random::nonce(),
            at,
        };
        let (signed, digest) = person.sign(&request);
        Life {
            person: request.person.clone(),
            id: request.id.clone(),
            request: digest,
            subject,
            ask: post("/v1/requests", &signed),
            approve: self.approve(&request, digest, at),
        }
    }

    fn approve(&self, request: &Request, digest: Digest, at: Timestamp) -> Call {
        let approval = Approval {
            v: Version,
            kind: Is,
            instance: self.instance.clone(),
            person: self.approver.name.clone(),
            request: digest,
            id: request.id.clone(),
            decision: Decision::Approve,
            requester: request.person.clone(),
            role: request.role.clone(),
            principals: PRINCIPALS.map(|p| p.parse().expect("a principal")).to_vec(),
            hosts: ["db1", "db2"].map(|h| h.parse().expect("a host")).to_vec(),
            key: request.key.fingerprint(),
            seconds: Seconds::new(self.seconds).expect("a length"),
            start: None,
            extensions: vec!["permit-pty".parse().expect("an extension")],
            critical_options: std::collections::BTreeMap::new(),
            claim_by: at.plus(600),
            policy: self.digest,
            comment: String::new().parse().expect("a comment"),
            nonce: random::nonce(),
            at,
        };
        post("/v1/decisions", &self.approver.sign(&approval).0)
    }

    /// The approval of somebody else's request, as the service gave it.
    pub(crate) fn approve_signed(&self, signed: &SignedText) -> Call {
        let signed = Signed::try_from(signed).expect("a signed request");
        self.approve(&parse(signed.bytes()).expect("a request"), signed.digest(), now())
    }

    /// Buys the approver a bearer.
    pub(crate) fn session(&self) -> Call {
        let (instance, person) = (self.instance.clone(), self.approver.name.clone());
        let session = Session { v: Version, kind: Is, instance, person, nonce: random::nonce(), at: now() };
        post("/v1/sessions", &self.approver.sign(&session).0)
    }
}

impl Life {
    /// Asking and approving.
    pub(crate) fn prepare(&self) -> Vec<Call> {
        vec![self.ask.clone(), self.approve.clone()]
    }

    /// The claim, signed now.
    pub(crate) fn claim(&self, cast: &Cast) -> Call {
        let claim = Claim {
            v: Version,
            kind: Is,
            instance: cast.instance.clone(),
            person: self.person.clone(),
            request: self.request,
            id: self.id.clone(),
            key: self.subject.public.fingerprint(),
            nonce: random::nonce(),
            at: now(),
        };
        post("/v1/claims", &self.subject.sign(&claim).0)
    }

    /// All three.
    pub(crate) fn whole(&self, cast: &Cast) -> Vec<Call> {
        vec![self.ask.clone(), self.approve.clone(), self.claim(cast)]
    }
}

fn now() -> Timestamp {
    Clock::System.now().second()
}
