//! The JSON of the API, shared by server and client. Numbers that may exceed 2^53 are strings; times
//! are RFC 3339 in UTC; what was signed travels as the string that was signed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::domain::digest::Digest;
use crate::domain::drill::Control;
use crate::domain::event::Event;
use crate::domain::names::{
    ChannelName, FactName, FactValue, HostName, InstanceId, OptionName, PersonName, Principal, PrincipalName,
    RequestId, RoleName, RuleName, SourceName, Ticket, WebhookId,
};
use crate::domain::overuse::Overuse;
use crate::domain::refusal::Refusal;
use crate::domain::request::State;
use crate::domain::sshsig::SshSig;
use crate::domain::statement::{Category, Decision, Dependency, Outcome, Serial};
use crate::domain::text::{Comment, Reason};
use crate::domain::time::{Moment, Seconds, Timestamp};
use crate::domain::usage::Seen;
use crate::domain::verify::Signed;

/// Something signed: the text, verbatim, and the armored SSHSIG over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedText {
    /// What was signed.
    pub text: String,
    /// `-----BEGIN SSH SIGNATURE-----` and so on.
    pub signature: String,
}

impl From<&Signed> for SignedText {
    fn from(signed: &Signed) -> Self {
        // What is signed is JSON, and so UTF-8.
        let text = String::from_utf8_lossy(signed.bytes()).into_owned();
        Self { text, signature: signed.signature().armor() }
    }
}

impl TryFrom<&SignedText> for Signed {
    type Error = Refusal;
    fn try_from(text: &SignedText) -> Result<Self, Refusal> {
        Ok(Self::new(text.text.clone().into_bytes(), SshSig::from_armor(&text.signature)?))
    }
}

/// `GET /v1/now`: what a signer needs before it signs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Now {
    pub now: Moment,
    pub instance: InstanceId,
    /// The number of the newest trust document.
    pub trust: u64,
    pub version: String,
    /// Where break-glass alone is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
}

/// `POST /v1/break-glass`: the statement, and that of a second person where one joins in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct BreakGlassText {
    pub text: String,
    pub signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SignedText>,
}

/// `POST /v1/break-glass/check`: what an emergency key would open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct CheckedView {
    pub roles: Vec<CheckedRole>,
    pub categories: Vec<Category>,
    /// Why nothing would be signed now.
    pub hindrance: Option<String>,
}

/// A role that an emergency key opens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct CheckedRole {
    pub name: RoleName,
    pub hosts: Vec<HostName>,
    pub max: Seconds,
}

/// Where a request is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the states and fields are those of domain::request::State")]
pub enum StateView {
    Requested { decide_by: Timestamp, approved_by: Vec<PersonName> },
    Approved { claim_by: Timestamp },
    Active { serial: Serial, ends: Timestamp },
    Denied,
    Withdrawn,
    Lapsed { at: Timestamp },
    Expired { serial: Serial, at: Timestamp },
    Returned { serial: Serial },
    Revoked { serial: Option<Serial> },
}

impl From<State> for StateView {
    fn from(state: State) -> Self {
        match state {
            State::Requested { decide_by, approved_by } => Self::Requested { decide_by, approved_by },
            State::Approved { claim_by } => Self::Approved { claim_by },
            State::Active { serial, ends } => Self::Active { serial, ends },
            State::Denied => Self::Denied,
            State::Withdrawn => Self::Withdrawn,
            State::Lapsed { at } => Self::Lapsed { at },
            State::Expired { serial, at } => Self::Expired { serial, at },
            State::Returned { serial } => Self::Returned { serial },
            State::Revoked { serial } => Self::Revoked { serial },
        }
    }
}

impl From<StateView> for State {
    fn from(state: StateView) -> Self {
        match state {
            StateView::Requested { decide_by, approved_by } => Self::Requested { decide_by, approved_by },
            StateView::Approved { claim_by } => Self::Approved { claim_by },
            StateView::Active { serial, ends } => Self::Active { serial, ends },
            StateView::Denied => Self::Denied,
            StateView::Withdrawn => Self::Withdrawn,
            StateView::Lapsed { at } => Self::Lapsed { at },
            StateView::Expired { serial, at } => Self::Expired { serial, at },
            StateView::Returned { serial } => Self::Returned { serial },
            StateView::Revoked { serial } => Self::Revoked { serial },
        }
    }
}

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct RequestView {
    pub id: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    pub reason: Reason,
    pub ticket: Option<Ticket>,
    pub at: Timestamp,
    /// When access is to begin, where that is not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// The request that it extends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<RequestId>,
    /// What there is to say of that one; only where one request is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended: Option<ExtendedView>,
    /// The requests that extend it; only where one request is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_by: Vec<RequestId>,
    pub state: StateView,
    /// The request's statement.
    pub signed: SignedText,
    /// What may be approved, while the policy still allows any of it.
    pub terms: Option<TermsView>,
    /// Why none of it can be had now, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
    /// Which review must be closed before nobody is asked here, while it waits for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue_review: Option<String>,
    /// Where it came from, as far as the service knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    pub approvers: Vec<PersonName>,
    pub decisions: Vec<DecisionView>,
    /// Who is told if nobody decides; only where one request is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<AheadView>,
    /// Who revoked it; only where one request is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationView>,
    /// The connections that its certificate opened, as hosts say; only where one request is shown and hosts say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<Vec<Seen>>,
    /// What happened, oldest first; only where one request is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// Who is told of a request if nobody has decided by then.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct AheadView {
    pub at: Timestamp,
    /// Whether it is those who heard of it before.
    pub again: bool,
    pub people: Vec<PersonName>,
}

/// `POST /v1/uses`: what became of a host's word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Noted {
    /// Whether the log knows the certificate. If not, it is an alarm.
    pub known: bool,
}

/// A policy that was in force once, or is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct PolicyView {
    pub sha256: Digest,
    pub text: String,
}

/// The access that an extension goes on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ExtendedView {
    pub id: RequestId,
    pub since: Timestamp,
    /// When it ends or ended by itself; absent when somebody ended it.
    pub ends: Option<Timestamp>,
    /// When the first of the chain began.
    pub first: Timestamp,
}

/// The most that an approval of a request may give.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct TermsView {
    pub principals: Vec<Principal>,
    pub hosts: Vec<HostName>,
    pub seconds: Seconds,
    /// How many people must approve; 0 when the policy does.
    pub approvals: u32,
    /// The same in words, list by list: `1 of dba`. Empty when the policy approves by itself.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The rule by which the policy approves.
    #[serde(default)]
    pub by: Option<RuleName>,
    /// When a fact ends that this hangs on, and the access with it.
    #[serde(default)]
    pub ends_by: Option<Timestamp>,
    pub extensions: Vec<OptionName>,
    pub critical_options: BTreeMap<OptionName, String>,
    /// For how long an approval may be claimed, in seconds.
    pub claim_within: i64,
    pub policy: Digest,
}

/// A decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct DecisionView {
    pub person: PersonName,
    pub decision: Decision,
    pub seconds: Seconds,
    pub comment: Comment,
    pub at: Timestamp,
}

/// A revocation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct RevocationView {
    pub person: PersonName,
    pub reason: Reason,
    pub at: Timestamp,
}

/// The answer to a request: what became of it, and the capability that waits on it.
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Submitted {
    pub request: RequestView,
    pub waiter: String,
}

/// The answer to a decision, a withdrawal or a return.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Changed {
    pub id: RequestId,
    pub state: StateView,
}

/// What a revocation ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct RevokedView {
    pub id: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    /// The certificate, if there was one.
    pub serial: Option<Serial>,
}

/// `GET /v1/krl`: the list of revoked certificates and keys, for hosts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct KrlView {
    pub number: u64,
    /// The list as sshd's `RevokedKeys` reads it, in base64.
    pub krl: String,
    /// The SSHSIG over its bytes by the KRL key, in the namespace `krl@ssh-jit`.
    pub signature: String,
}

/// A certificate, in the one-line form of `id-cert.pub`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Certified {
    pub certificate: String,
    pub serial: Serial,
    pub valid_after: Timestamp,
    pub valid_before: Timestamp,
}

/// A bearer for reading.
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct SessionView {
    pub bearer: String,
    pub until: Timestamp,
}

/// A role, as its reader may use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct RoleView {
    pub name: RoleName,
    pub description: String,
    pub hosts: Vec<HostName>,
    pub principals: Vec<PrincipalName>,
    pub max: Seconds,
    pub default: Seconds,
    pub automatic: Option<Seconds>,
    pub approvals: u32,
    /// The same in words, list by list.
    #[serde(default)]
    pub needs: Vec<String>,
    /// What must be so for anybody to have it, and the rules over it, in words.
    #[serde(default)]
    pub conditions: Vec<String>,
    #[serde(default)]
    pub rules: Vec<String>,
    pub approvers: Vec<PersonName>,
    /// How many emergency keys open it.
    #[serde(default)]
    pub emergency_keys: u32,
    pub may_request: bool,
    pub may_decide: bool,
}

/// A use of an emergency key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct EmergencyView {
    pub id: RequestId,
    pub digest: Digest,
    pub person: PersonName,
    pub role: RoleName,
    pub category: Category,
    pub reason: Reason,
    pub serial: Serial,
    pub at: Timestamp,
    pub review_open: bool,
    /// Whether its certificate was revoked.
    #[serde(default)]
    pub revoked: bool,
    /// When somebody was first told of it.
    #[serde(default)]
    pub alerted: Option<Timestamp>,
    /// Who has said that they heard of it.
    #[serde(default)]
    pub heard: Option<PersonName>,
    /// Whether it was only for practice.
    #[serde(default)]
    pub drill: bool,
    /// When its review is overdue, while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_due: Option<Timestamp>,
    /// What somebody else found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewView>,
    /// The connections that its certificate opened, as hosts say.
    #[serde(default)]
    pub uses: Vec<Seen>,
    /// What happened, oldest first; only where one is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// What somebody found who reviewed broken glass.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ReviewView {
    pub person: PersonName,
    pub outcome: Outcome,
    pub comment: Reason,
    pub at: Timestamp,
}

/// `GET /v1/aftermath`: how things stand with broken glass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AftermathView {
    /// What waits for a review, the first one due first.
    pub reviews: Vec<OpenReviewView>,
    /// Who breaks the glass too often now.
    pub overuse: Vec<Overuse>,
    /// Whether breaking the glass was shown to work, where the policy has it practised.
    pub proof: Option<ProofView>,
}

/// Broken glass that waits for its review.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct OpenReviewView {
    pub id: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    pub at: Timestamp,
    pub due: Timestamp,
    pub overdue: bool,
}

/// Whether breaking the glass was shown to work.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ProofView {
    pub role: RoleName,
    pub host: HostName,
    /// How often each key must be shown to work, in seconds.
    pub every: i64,
    /// From the command to a shell.
    pub within: Seconds,
    /// When a drill last passed.
    pub last: Option<Timestamp>,
    /// From its command to a shell, in milliseconds.
    pub shell_ms: Option<u32>,
    pub unproven: Vec<UnprovenView>,
}

/// An emergency key that nobody has shown to work in time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct UnprovenView {
    pub person: PersonName,
    pub key: Digest,
    pub last: Option<Timestamp>,
}

/// A drill.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct DrillView {
    pub id: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    pub reason: Reason,
    pub at: Timestamp,
    /// What it went without.
    pub without: Vec<Dependency>,
    /// Absent while nobody has reported it.
    pub passed: Option<bool>,
    pub controls: Vec<Control>,
    /// The connections that its certificate opened, as hosts say.
    pub uses: Vec<Seen>,
    /// The report, as its person signed it.
    pub report: Option<SignedText>,
}

/// `POST /v1/drills`: what became of a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scored {
    /// Whether the drill passed.
    pub passed: bool,
}

/// The answer to a message of facts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heard {
    /// How many it speaks of.
    pub facts: usize,
}

/// A fact that counts now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct FactView {
    pub name: FactName,
    pub value: FactValue,
    pub source: Option<SourceName>,
    pub until: Timestamp,
    /// SHA-256 of the message that states it.
    pub message: Digest,
}

/// An event of the log, with the statement it names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct EventView {
    /// The leaf's bytes.
    pub leaf: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<SignedText>,
}

/// Everything that proves one request, for `ssh-jit verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ReceiptView {
    pub trust: SignedText,
    /// The trust documents before it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusts: Vec<SignedText>,
    pub policy: String,
    pub statements: Vec<SignedText>,
    /// Of the passkeys that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enrolments: Vec<ProvenEnrolment>,
    /// What stated the facts that it hangs on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<ProvenMessage>,
    /// The bytes that were signed as a certificate, in base64.
    pub tbs: Option<String>,
    pub head: SignedText,
    pub events: Vec<ProvenEvent>,
}

/// A webhook that stated facts, as it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ProvenMessage {
    pub source: SourceName,
    pub id: WebhookId,
    /// `webhook-timestamp`.
    pub sent: String,
    pub body: String,
    pub signature: String,
}

/// What binds a passkey to a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ProvenEnrolment {
    pub by_ssh_key: SignedText,
    pub passkey_signature: String,
}

/// An event and the way from it to the head's root.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ProvenEvent {
    pub seq: u64,
    pub leaf: String,
    pub proof: Vec<Digest>,
}

/// An enrolment, signed twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct EnrolmentText {
    pub text: String,
    /// By the SSH key.
    pub signature: String,
    pub passkey_signature: String,
    /// The browser's name for the passkey, in base64url.
    pub credential: String,
}

/// `POST /v1/host-certificates`: a host's claim, signed with its host key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct HostClaimText {
    pub text: String,
    pub signature: String,
    /// Where it redeems an invitation.
    #[serde(default)]
    pub redeems: Option<RedeemedText>,
}

/// An invitation, and the signature of the key that it names over the claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct RedeemedText {
    pub invitation: SignedText,
    pub signature: String,
}

/// A host's certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct CertifiedHost {
    /// Algorithm and base64.
    pub certificate: String,
    pub valid_before: Timestamp,
}

/// A host of the policy, or one that was enrolled, and how far it is: what it never said is missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct HostView {
    pub host: HostName,
    pub aliases: BTreeSet<HostName>,
    /// Of its SSH host keys.
    pub keys: Vec<Digest>,
    /// Nobody where the policy names it.
    pub invited_by: Option<PersonName>,
    /// When its newest certificate ends.
    pub ends: Option<Timestamp>,
    /// Why it gets no other.
    pub trouble: Option<String>,
    /// The number of its trust document.
    pub trust: Option<u64>,
    /// The number of its list of revoked certificates.
    pub krl: Option<u64>,
    /// When it said so.
    pub at: Option<Timestamp>,
}

/// A passkey.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct PasskeyView {
    pub fingerprint: Digest,
    pub application: HostName,
    pub at: Timestamp,
    pub until: Timestamp,
}

/// A way to tell people, and how it does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct ChannelView {
    pub name: ChannelName,
    pub kind: String,
    /// When somebody was last told.
    pub succeeded: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// Since when it has failed.
    pub since: Option<Timestamp>,
    /// Why it failed last, in short.
    pub error: Option<String>,
    /// How many entries wait.
    pub waiting: u64,
    /// How many were given up in the last 30 days.
    pub given_up: u64,
}

/// An answer that is no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub struct Problem {
    pub code: String,
    pub message: String,
}
