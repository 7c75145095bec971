//! Every reason for which the domain says no. Each names the field it speaks of and what would
//! work; its code is stable, so that tests, clients and auditors can tell them apart.

use super::names::{FactName, HostName, Invalid, PersonName, RoleName, RuleName, SourceName};
use super::policy::Overdue;
use super::sshsig::BadSignature;
use super::time::{Seconds, Timestamp};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident : $type:ty),* })? = $code:literal, $text:literal;)*) => {
        /// Why something is refused.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[expect(missing_docs, reason = "each field is named after what it holds")]
        pub enum Refusal {
            $($(#[$doc])* #[error($text)] $name $({ $($field: $type),* })?,)*
        }
        impl Refusal {
            /// A stable name for the reason, in kebab case.
            pub fn code(&self) -> &'static str {
                match self { $(Self::$name $({ $($field: _),* })? => $code,)* }
            }
        }
    };
}

refusals! {
    /// JSON that is not the statement it should be: unknown, duplicate, missing or wrong fields.
    Malformed { what: String } = "malformed", "statement: {what}";
    /// A field of a request or an answer is not what it must be.
    Field { invalid: Invalid } = "invalid-field", "{invalid}";
    /// The signature proves nothing.
    Signature { why: BadSignature } = "bad-signature", "signature: {why}";
    /// Nobody in the policy has this key.
    UnknownKey = "unknown-key", "key: no person in the policy has this key for this purpose";
    /// The key belongs to somebody else than the statement says.
    NotTheirKey { person: PersonName } = "not-their-key", "person: the signing key does not belong to {person}";
    /// The policy says that this key counts no longer.
    RevokedKey = "revoked-key", "key: the policy revokes this key";
    /// A passkey after its time.
    PasskeyEnded { at: Timestamp } = "passkey-ended", "key: the passkey was good until {at}; enrol it again";
    /// A passkey enrolled for too long, or for no time.
    EnrolmentTooLong = "enrolment-too-long", "until: a passkey is enrolled for at most 180 days";
    /// The word of a host that the policy does not know, or not with this key.
    UnknownHostKey { host: HostName } = "unknown-host-key", "host: {host} is neither in the policy nor enrolled with the key that signed this";
    /// A host that neither the policy nor an invitation knows with this key.
    NotEnrolled { host: HostName, because: String } = "not-enrolled", "host: {host} is not enrolled{because}; an administrator can invite it: ssh-jit host invite {host}";
    /// A claim that redeems another invitation than the one beside it.
    OtherInvitation { host: HostName } = "other-invitation", "host: the invitation is for {host}, and the claim is for something else";
    /// An invitation before or after its time.
    InvitationEnded { from: Timestamp, until: Timestamp } = "invitation-ended", "until: the invitation counts from {from} until {until}; ask for another";
    /// An invitation for too long, or for no time.
    InvitationTooLong = "invitation-too-long", "until: an invitation counts for at most 12 hours";
    /// A host key that means something else already.
    HostKeyTaken = "host-key-taken", "key: it is another host's, or somebody's, or the service's; make new host keys (ssh-keygen -A)";
    /// A host speaks of a certificate that is none of ours.
    ForeignCertificate = "foreign-certificate", "certificate: no CA of this service signed it";
    /// A statement for another service.
    OtherInstance = "other-instance", "instance: the statement was made for another service";
    /// Signed too long ago.
    Stale { seconds: i64 } = "stale", "at: signed {seconds} s ago, and a statement counts for 60 s; sign it again";
    /// Signed in the future.
    Future { seconds: i64 } = "future", "at: signed {seconds} s in the future; set the clock right";
    /// The bytes were used before.
    Replayed = "replayed", "statement: these bytes were used before; sign a new one";
    /// A FIDO counter that did not rise: a cloned key, or a recorded signature.
    Counter { last: u32, got: u32 } = "counter", "signature: the security key's counter went from {last} to {got}; a copy of the key may be in use";
    /// No such person.
    UnknownPerson { person: PersonName } = "unknown-person", "person: the policy does not know {person}";
    /// No such role, or not for this person: the same answer, so that nobody can list roles by asking.
    NotEligible { person: PersonName, role: RoleName } = "not-eligible", "role: {person} may not ask for {role}";
    /// Longer than the role allows.
    TooLong { asked: Seconds, most: Seconds, role: RoleName } = "too-long", "seconds: {asked} asked, and {role} allows {most} at most; try --for {most}";
    /// A rule of the policy says no, for those who may ask at all.
    DeniedByRule { role: RoleName, rule: RuleName, because: String } = "denied-by-rule", "role: {role} is denied by the rule {rule}{because}";
    /// A condition of the role does not hold.
    Conditions { role: RoleName, would: String } = "conditions", "role: a condition of {role} does not hold; it can be had {would}";
    /// Too much of a role in a day.
    DailyMax { role: RoleName, most: Seconds, left: String } = "daily-max", "seconds: one person may have {role} for {most} in 24 hours; {left} is left of it";
    /// There are not enough people who could approve.
    NobodyDecides { role: RoleName, would: String } = "nobody-decides", "role: nobody could approve this for {role}{would}";
    /// A host that the role does not have.
    UnknownHost { host: HostName, role: RoleName } = "unknown-host", "hosts: {role} does not cover {host}";
    /// A principal that the role does not have on these hosts.
    UnknownPrincipal { principal: String } = "unknown-principal", "principals: the role does not give {principal} on the hosts asked for";
    /// A list with the same thing twice.
    Duplicate { field: &'static str } = "duplicate", "{field}: something stands there twice";
    /// A subject key that already means something else.
    SubjectKeyTaken { why: &'static str } = "subject-key-taken", "key: {why}; make a fresh one for each request";
    /// Certified keys are Ed25519 (or, for emergency keys, what the policy registered).
    SubjectKeyKind = "subject-key-kind", "key: a subject key must be ssh-ed25519";
    /// What the statement carries cannot be honoured yet.
    NotSupported { what: &'static str } = "not-supported", "{what}";
    /// Too many waiting requests.
    TooManyPending { most: u32 } = "too-many-pending", "person: {most} requests are waiting already; withdraw one first";
    /// No request of that id that the caller may see.
    UnknownRequest = "unknown-request", "request: there is none of this id that you may see";
    /// No policy of that name was ever in force here.
    UnknownPolicy = "unknown-policy", "sha256: no such policy was in force here";
    /// A request with this id exists.
    IdTaken = "id-taken", "id: a request of this id exists; make a new one";
    /// The digest names other bytes than the stored request.
    OtherRequest = "other-request", "request: the digest is not that of the stored request";
    /// An answer to a request that is decided.
    NotPending { state: &'static str } = "not-pending", "request: it is {state} already";
    /// A claim where nothing is to be claimed.
    NotApproved { state: &'static str } = "not-approved", "request: it is {state}, and only an approved one can be claimed";
    /// Not something that its state allows.
    NotActive { state: &'static str } = "not-active", "request: it is {state}, and only an active one can be given back or revoked";
    /// Somebody with the duty ended it.
    Revoked = "revoked", "request: it was revoked; ask again if you still need it";
    /// Nobody decides for themselves.
    SelfApproval = "self-approval", "person: nobody decides on a request of their own; somebody else must";
    /// Not somebody who may decide.
    NotApprover { person: PersonName, role: RoleName } = "not-approver", "person: {person} may not decide on {role}";
    /// Machines ask; they never decide.
    ServicesCannotDecide { person: PersonName } = "service-decides", "person: {person} is a service and cannot decide";
    /// Second decision by one person.
    DecidedAlready { person: PersonName } = "decided-already", "person: {person} has decided on this already";
    /// An approval that gives more than was asked, or than the policy allows.
    Wider { field: &'static str } = "wider", "{field}: an approval may give less than was asked, never more or something else";
    /// The policy changed after the approval was written.
    PolicyChanged = "policy-changed", "policy: it changed since this was shown; look at the request again";
    /// Approvals that leave nothing, or contradict each other.
    NothingLeft { field: &'static str } = "nothing-left", "{field}: the approvals have nothing in common here";
    /// Critical options with two values.
    Conflict { option: String } = "conflict", "critical_options: the approvals give {option} different values";
    /// The quorum is not there; perhaps because what approved without asking holds no more.
    NotEnoughApprovals { have: u32, need: u32, would: String } = "not-enough-approvals", "approvals: {have} of {need}{would}";
    /// A denial stands.
    Denied = "denied", "request: it was denied";
    /// Statements that do not follow one another.
    OutOfOrder = "out-of-order", "at: request, approval and claim must follow one another in time";
    /// The time to claim, or to decide, is over.
    Lapsed { at: Timestamp } = "lapsed", "request: it lapsed at {at}";
    /// Claimed before its start.
    TooEarly { start: Timestamp } = "too-early", "start: it begins at {start}";
    /// A start that lies in the past, or further ahead than anybody can plan.
    StartOutOfReach = "start-out-of-reach", "start: it may lie at most 30 days ahead, and not in the past";
    /// An extension of what gives no access.
    NotExtendable { state: &'static str } = "not-extendable", "extends: that access is {state}; ask for it anew";
    /// An extension of something else, or to more.
    ExtendsOther { field: &'static str } = "extends-other", "extends: {field} must be as in the request that is extended, or less";
    /// Not the person or key that may do this.
    NotYours = "not-yours", "person: only the requester may do this";
    /// A person without the duty.
    NoDuty { duty: &'static str } = "no-duty", "person: this needs the duty {duty}";
    /// The certificate would not be exactly what it must be.
    Certificate { what: &'static str } = "certificate", "certificate: {what}";
    /// More than one person's emergency key may do alone.
    NeedsSecond { why: String } = "needs-second", "second: {why}; beyond that a second person's emergency key must join in";
    /// Somebody who joins in and does not make it two people, or whose key is not for this.
    SecondUnfit { why: &'static str } = "second-unfit", "second: {why}";
    /// A kind of emergency that the policy does not take.
    CategoryNotTaken { taken: String } = "category-not-taken", "category: the policy takes {taken}";
    /// An extension of what is not the person's last broken glass.
    NotTheLast = "not-the-last", "extends: only your last use of this key for this role can be extended, within 15 minutes of it";
    /// An emergency key used as an everyday key, or the reverse, not registered at all, or not for long enough: one answer.
    NotEmergencyKey = "not-emergency-key", "key: this key may not break the glass here";
    /// A webhook to an address that nobody has.
    UnknownSource = "unknown-source", "source: the policy knows none of this name";
    /// A webhook that none of its source's keys signed.
    WebhookUnsigned = "webhook-unsigned", "webhook-signature: no key of this source signed this";
    /// A webhook's headers that are not what they must be.
    WebhookHeader { name: &'static str } = "webhook-header", "{name}: it is missing, there twice, or makes no sense";
    /// Sent too long ago.
    WebhookStale { seconds: i64 } = "webhook-stale", "webhook-timestamp: sent {seconds} s ago, and it counts for 300 s; send it again";
    /// Sent, or said to be so, in the future.
    WebhookFuture { seconds: i64 } = "webhook-future", "webhook-timestamp: {seconds} s in the future; set the sender's clock right";
    /// A webhook's id with another body.
    WebhookRepeated = "webhook-repeated", "webhook-id: it came before with another body";
    /// Facts that do not read as such.
    Facts { what: String } = "malformed-facts", "facts: {what}";
    /// A fact that is not this source's to state.
    ForeignFact { name: FactName, by: SourceName } = "foreign-fact", "facts: the policy does not let {by} speak of {name}";
    /// Nobody is asked only while no review of broken glass is overdue in the team.
    ReviewOverdue { role: RoleName, overdue: Overdue } = "review-overdue", "role: {role} needs an approval: its own rule counts {overdue}";
    /// A drill of something that is not there to be practised on.
    NotADrill { role: RoleName } = "not-a-drill", "role: {role} is not the canary role of the policy's [drill]; a drill opens nothing else";
    /// What a drill reports that the log does not know.
    NotOnRecord { field: &'static str } = "not-on-record", "{field}: the log knows of none for this drill";
    /// The last reason again.
    ReasonRepeated = "reason-repeated", "reason: it repeats your last one; say what is broken now";
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::Field { invalid }
    }
}

impl From<BadSignature> for Refusal {
    fn from(why: BadSignature) -> Self {
        Self::Signature { why }
    }
}
