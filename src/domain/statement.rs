//! Statements: the small JSON documents that people sign. Every kind and every field stands here;
//! unknown, missing and duplicate fields are refused, and the bytes that were signed are kept as they
//! came. A statement says nothing until it is [`Verified`](super::verify::Verified).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;
use super::key::PublicKey;
use super::names::{
    HostName, InstanceId, Invalid, Nonce, OptionName, PersonName, Principal, RequestId, RoleName, Ticket, as_string,
};
use super::refusal::Refusal;
use super::text::{Comment, Reason};
use super::time::{Seconds, Timestamp};

/// No statement is longer: 256 principals with long host names fit.
pub const LONGEST: usize = 48 * 1024;

/// What every statement has.
pub trait Statement: DeserializeOwned + Serialize {
    /// Its kind, and with it the SSHSIG namespace.
    const KIND: Kind;
    /// The service that it was made for.
    fn instance(&self) -> &InstanceId;
    /// Who makes it.
    fn person(&self) -> &PersonName;
    /// When it was signed, by the service's clock.
    fn at(&self) -> Timestamp;
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $kind:literal { $($(#[$attr:meta])* $field:ident : $type:ty,)* })*) => {
        /// The kinds of statements.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind as the statement names it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $kind,)* }
            }

            /// The SSHSIG namespace: one for each kind, so that no signature serves two purposes.
            pub fn namespace(self) -> &'static str {
                match self { $(Self::$name => concat!($kind, "@ssh-jit"),)* }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            #[expect(missing_docs, reason = "the fields are named in the words of the design")]
            pub struct $name {
                pub v: Version,
                pub kind: Is<{ Kind::$name as u8 }>,
                pub instance: InstanceId,
                pub person: PersonName,
                $($(#[$attr])* pub $field: $type,)*
                pub nonce: Nonce,
                pub at: Timestamp,
            }

            impl Statement for $name {
                const KIND: Kind = Kind::$name;
                fn instance(&self) -> &InstanceId { &self.instance }
                fn person(&self) -> &PersonName { &self.person }
                fn at(&self) -> Timestamp { self.at }
            }
        )*
    };
}

statements! {
    /// Somebody asks for a role. Empty `hosts` or `principals` stand for the role's; `seconds` null for its default.
    Request = "request" {
        id: RequestId,
        role: RoleName,
        principals: Vec<Principal>,
        hosts: Vec<HostName>,
        key: PublicKey,
        #[serde(deserialize_with = "present")] seconds: Option<Seconds>,
        #[serde(deserialize_with = "present")] start: Option<Timestamp>,
        #[serde(deserialize_with = "present")] extends: Option<RequestId>,
        #[serde(deserialize_with = "present")] ticket: Option<Ticket>,
        reason: Reason,
    }
    /// Somebody else decides. Repeats everything that the certificate will hold.
    Approval = "approval" {
        request: Digest,
        id: RequestId,
        decision: Decision,
        requester: PersonName,
        role: RoleName,
        principals: Vec<Principal>,
        hosts: Vec<HostName>,
        key: Digest,
        seconds: Seconds,
        #[serde(deserialize_with = "present")] start: Option<Timestamp>,
        extensions: Vec<OptionName>,
        #[serde(deserialize_with = "unique_keys")] critical_options: BTreeMap<OptionName, String>,
        claim_by: Timestamp,
        policy: Digest,
        comment: Comment,
    }
    /// The requester takes a request back before it is claimed.
    Withdrawal = "withdrawal" { request: Digest, id: RequestId, reason: Comment, }
    /// The subject key takes what was approved; proof that its holder has it.
    Claim = "claim" { request: Digest, id: RequestId, key: Digest, }
    /// The subject key gives access back before its end.
    Return = "return" { request: Digest, id: RequestId, serial: Serial, }
    /// Somebody with the duty ends what others hold.
    Revocation = "revocation" { target: Target, reason: Reason, }
    /// An emergency key certifies itself.
    BreakGlass = "break-glass" {
        id: RequestId,
        role: RoleName,
        principals: Vec<Principal>,
        hosts: Vec<HostName>,
        #[serde(deserialize_with = "present")] seconds: Option<Seconds>,
        #[serde(deserialize_with = "present")] extends: Option<RequestId>,
        category: Category,
        reason: Reason,
        /// By how many seconds the service's clock is ahead of the person's, where they were told and went on.
        #[serde(default, skip_serializing_if = "Option::is_none")] clock_off: Option<i64>,
        /// Says that this is a drill, and what it does without. Not there where it is none.
        #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
        drill: Option<Vec<Dependency>>,
    }
    /// The holder of an emergency key lets somebody else break the glass beyond what they may do alone.
    Seconding = "seconding" { requester: PersonName, role: RoleName, reason: Reason, }
    /// The holder of an emergency key asks what it would open. Nothing is signed for it.
    BreakGlassCheck = "break-glass-check" { }
    /// Somebody else closes the review that a break-glass opened.
    Review = "review" { break_glass: Digest, id: RequestId, outcome: Outcome, comment: Reason, }
    /// Somebody has heard of a break-glass.
    Acknowledgement = "acknowledgement" { break_glass: Digest, id: RequestId, comment: Comment, }
    /// What a drill took: milliseconds since its command was given, null for what did not happen.
    Drill = "drill" {
        break_glass: Digest,
        id: RequestId,
        reason_ms: u32,
        certificate_ms: u32,
        #[serde(deserialize_with = "present")] shell_ms: Option<u32>,
        #[serde(deserialize_with = "present")] alert_ms: Option<u32>,
        #[serde(deserialize_with = "present")] acknowledgement_ms: Option<u32>,
    }
    /// A passkey is bound to a person; the passkey and one of the person's SSH keys both sign it.
    Enrolment = "enrolment" { key: PublicKey, application: HostName, ssh_key: Digest, until: Timestamp, }
    /// A passkey is taken away.
    Removal = "removal" { key: Digest, reason: Comment, }
    /// An administrator lets a host in. `key` is the one whose signature redeems it: the host's own, or one that was made
    /// for this.
    Invitation = "invitation" { host: HostName, aliases: Vec<HostName>, key: PublicKey, until: Timestamp, }
    /// A host that was let in is certified no more.
    HostRemoval = "host-removal" { host: HostName, reason: Reason, }
    /// Buys a read-only bearer for 15 minutes.
    Session = "session" { }
}

impl Request {
    /// From when what is decided at this moment may be claimed: from then on, or from the start that was asked for.
    pub fn claimable_from(&self, at: Timestamp) -> Timestamp {
        self.start.map_or(at, |start| start.max(at))
    }
}

/// The only version of the statements' form: `1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u8(1)
    }
}
impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match u64::deserialize(input)? {
            1 => Ok(Self),
            other => Err(D::Error::custom(format!("v: version {other} is not known, 1 is"))),
        }
    }
}

/// The `kind` field of one kind of statement: it parses as that kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Is<const KIND: u8>;

impl<const KIND: u8> Is<KIND> {
    fn name() -> &'static str {
        Kind::ALL[usize::from(KIND)].as_str()
    }
}
impl<const KIND: u8> Serialize for Is<KIND> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(Self::name())
    }
}
impl<'de, const KIND: u8> Deserialize<'de> for Is<KIND> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let kind = std::borrow::Cow::<'de, str>::deserialize(input)?;
        if kind == Self::name() { Ok(Self) } else { Err(D::Error::custom(format!("kind: expected {}", Self::name()))) }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that statements and people use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Invalid::new(stringify!($name), text, concat!("use one of: ", $($word, " "),*))),
                }
            }
        }
        // Not serde's own form, which takes {"approve":null} too.
        as_string!($name);
    };
}

words! {
    /// What an approver decided.
    Decision {
        /// Yes, for what the approval repeats.
        Approve = "approve",
        /// No, for the reason in its comment.
        Deny = "deny",
    }
}
words! {
    /// What kind of emergency it is.
    Category {
        /// Something that people depend on is down.
        Outage = "outage",
        /// An attack, or the suspicion of one.
        SecurityIncident = "security-incident",
        /// Nobody who could approve answers.
        ApproversUnreachable = "approvers-unreachable",
        /// Data is being lost.
        DataLoss = "data-loss",
        /// None of these.
        Other = "other",
    }
}
impl BreakGlass {
    /// Whether it is only for practice.
    pub fn is_drill(&self) -> bool {
        self.drill.is_some()
    }

    /// Whether this is a drill that goes without something.
    pub fn is_without(&self, what: Dependency) -> bool {
        self.drill.as_ref().is_some_and(|without| without.contains(&what))
    }
}

words! {
    /// What a drill may do without.
    Dependency {
        /// The approvers of the role: they are not told.
        ApproversAway = "approvers-away",
        /// Every channel: the first alerts go out a minute late.
        MailDown = "mail-down",
        /// The database: it hears of this from the journal, later.
        DbReadonly = "db-readonly",
        /// The service itself.
        ServiceDown = "service-down",
    }
}
words! {
    /// What a review found.
    Outcome {
        /// A real emergency, rightly handled.
        Justified = "justified",
        /// An exercise.
        Drill = "drill",
        /// The emergency path was abused.
        Misuse = "misuse",
        /// No harm meant, but the ordinary path would have done.
        Unnecessary = "unnecessary",
    }
}

/// Whose access a revocation ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// One request's certificate.
    Request(RequestId),
    /// Everything that a person holds.
    Person(PersonName),
    /// Everything that was made with a key.
    Key(Digest),
}

/// A certificate's serial: 15 bits of epoch, 48 of counter, never 0. A string in JSON, because
/// numbers above 2^53 do not survive JavaScript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(u64);

impl Serial {
    /// `None` for counter 0 (OpenSSH cannot revoke serial 0) and for what does not fit.
    pub fn new(epoch: u16, counter: u64) -> Option<Self> {
        (epoch < 1 << 15 && (1..1 << 48).contains(&counter)).then(|| Self(u64::from(epoch) << 48 | counter))
    }

    /// `None` for numbers that [`Serial::new`] could not have made.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::new(u16::try_from(number >> 48).ok()?, number & ((1 << 48) - 1))
    }

    /// Which store or journal gave it out.
    pub fn epoch(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The number that the certificate carries.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for Serial {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = text.parse::<u64>().ok().filter(|n| n.to_string() == text);
        number
            .and_then(Self::from_number)
            .ok_or_else(|| Invalid::new("serial", text, "a serial is a decimal number below 2^63"))
    }
}
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
as_string!(Serial);

/// Parses the bytes of one kind of statement, or of another signed document in this form.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.len() > LONGEST {
        return Err(Refusal::Malformed { what: format!("{} bytes are more than the {LONGEST} allowed", bytes.len()) });
    }
    // Serde takes an array of the values for a struct: a statement whose fields have no names.
    if !bytes.starts_with(b"{") {
        return Err(Refusal::Malformed { what: "a statement is one JSON object".to_owned() });
    }
    serde_json::from_slice(bytes).map_err(|e| Refusal::Malformed { what: e.to_string() })
}

/// The bytes of a statement, ready to be signed: one line of JSON.
pub fn to_bytes<T: Statement>(statement: &T) -> Vec<u8> {
    // Strings, numbers and maps with string keys always serialize.
    serde_json::to_vec(statement).unwrap_or_default()
}

/// Serde takes a missing field for `None`; in a signed statement absent and null are two answers.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(input)
}

/// The other way round: a field that may be missing, and is never null.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    T::deserialize(input).map(Some)
}

/// Serde keeps the last of duplicate keys in a map; a signed statement has none.
fn unique_keys<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<OptionName, String>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<OptionName, String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("critical options, each once")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<OptionName, String>()? {
                if map.insert(name, value).is_some() {
                    return Err(A::Error::custom("critical_options: an option stands there twice"));
                }
            }
            Ok(map)
        }
    }
    input.deserialize_map(Unique)
}

#[cfg(test)]
mod tests;
