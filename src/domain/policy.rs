//! The policy: who is who, and who may have what. Parsed from `policy.toml` whole or not at all;
//! groups are resolved to people once, here, so that every later question is about people.

mod aftermath;
mod check;
pub mod conditions;
pub mod decide;
pub mod emergency;
pub mod people;
pub mod quorum;
pub mod ticket;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::digest::Digest;
use super::facts::Source;
use super::key::PublicKey;
use super::names::{
    CheckName, GroupName, HostName, MailAddress, OptionName, PersonName, Principal, PrincipalName, RoleName, RuleName,
    SourceName,
};
use super::policy_file::{self, PolicyError};
use super::refusal::Refusal;
use super::time::{Patience, Seconds};

pub use aftermath::{DrillPlan, Overdue, Reviews};
pub use check::{Finding, Gravity};
pub use conditions::{Circumstances, Conditions};
pub use decide::{Asked, Effect, Explained, Met, Rule, Terms};
pub use emergency::EmergencyRules;
pub use people::People;
pub use quorum::Quorum;
pub use ticket::{TicketCheck, Tickets};

/// The most principals that one certificate may carry (sshd refuses more).
pub const MOST_PRINCIPALS: usize = 256;
/// How long break-glass lasts when the policy does not say.
pub const EMERGENCY_DEFAULT: u64 = 5 * 60;
/// The longest break-glass that a policy may allow.
pub const EMERGENCY_LONGEST: u64 = 15 * 60;

/// A whole, checked policy.
#[derive(Debug)]
pub struct Policy {
    digest: Digest,
    text: String,
    pub(super) people: BTreeMap<PersonName, Person>,
    pub(super) duties: BTreeMap<Duty, People>,
    pub(super) claimable: Option<BTreeSet<GroupName>>,
    pub(super) roles: BTreeMap<RoleName, Role>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) sources: BTreeMap<SourceName, Source>,
    pub(super) hosts: BTreeMap<HostName, Host>,
    pub(super) ticket_checks: BTreeMap<CheckName, TicketCheck>,
    pub(super) rule_names: BTreeSet<RuleName>,
    pub(super) emergency_keys: Vec<EmergencyKey>,
    pub(super) emergency_rules: EmergencyRules,
    pub(super) reviews: Reviews,
    pub(super) drill: Option<DrillPlan>,
    pub(super) revoked_keys: BTreeSet<Digest>,
    pub(super) holders: HashMap<Digest, PersonName>,
}

/// A person, or a machine that asks as one.
#[derive(Debug, Clone)]
pub struct Person {
    /// The groups the person is in.
    pub groups: BTreeSet<GroupName>,
    /// The person's everyday keys.
    pub keys: Vec<PublicKey>,
    /// A machine: may ask, never decide.
    pub service: bool,
    /// Where the person is told what concerns them; without one they are not.
    pub email: Option<MailAddress>,
}

/// What can be asked for, and by whose leave.
#[derive(Debug, Clone)]
pub struct Role {
    /// One line for people.
    pub description: String,
    /// The hosts that the role is bound to; empty when it is bound to none.
    pub hosts: Vec<HostName>,
    /// The principals that it gives, without hosts.
    pub principals: Vec<PrincipalName>,
    /// Who may ask.
    pub requesters: People,
    /// Who may decide: all those of the quorum. That groups stand among them lets those read whom a provider claims
    /// for the group, and makes nobody an approver.
    pub approvers: People,
    /// How many distinct people must approve, and of whom.
    pub quorum: Quorum,
    /// Those of the approvers who are told at once.
    pub asked_first: People,
    /// Those who are told only when the others have not decided in time.
    pub escalate_to: People,
    /// When those who can decide are told again.
    pub remind_after: Patience,
    /// When those of `escalate_to` are told.
    pub escalate_after: Patience,
    /// What must be so for anybody to have it.
    pub conditions: Conditions,
    /// The rules over it: its own first, then the policy's in their order.
    pub rules: Vec<Arc<Rule>>,
    /// Never without asking, and never by a rule that does not name it.
    pub sensitive: bool,
    /// For how long one person may have it in 24 hours.
    pub daily_max: Option<Seconds>,
    /// The longest certificate.
    pub max: Seconds,
    /// The length when the request names none.
    pub default: Seconds,
    /// What certificates permit.
    pub extensions: Vec<OptionName>,
    /// What certificates restrict.
    pub critical_options: BTreeMap<OptionName, String>,
    /// Approvals by FIDO key must carry the user-verified flag (PIN or finger).
    pub verify_required: bool,
    /// How long a request may stay undecided.
    pub decide_within: Patience,
    /// How long an approval may stay unclaimed.
    pub claim_within: Patience,
    /// Where it stands in the policy's text, in bytes.
    pub place: usize,
}

/// A host that is believed about its connections, and certified.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its SSH host keys.
    pub keys: Vec<PublicKey>,
    /// By which other names people reach it.
    pub aliases: Vec<HostName>,
}

/// A key that may break the glass.
#[derive(Debug, Clone)]
pub struct EmergencyKey {
    /// Whose it is.
    pub person: PersonName,
    /// The key, which the certificate certifies.
    pub key: PublicKey,
    /// The roles that it opens.
    pub roles: BTreeSet<RoleName>,
    /// The longest certificate: 15 minutes at most.
    pub max: Seconds,
    /// The FIDO key must have asked for PIN or finger.
    pub verify_required: bool,
    /// Where it stands in the policy's text, in bytes.
    pub place: usize,
}

/// What some people do for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Duty {
    /// Runs the service.
    Admins,
    /// Reads everything.
    Auditors,
    /// Ends what others hold.
    Revokers,
    /// Closes reviews of break-glass.
    Reviewers,
}

impl Duty {
    /// The name in the policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admins => "admins",
            Self::Auditors => "auditors",
            Self::Revokers => "revokers",
            Self::Reviewers => "reviewers",
        }
    }
}

impl Policy {
    /// Parses and checks `policy.toml`.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        policy_file::parse(text)
    }

    /// The policy of an empty file: nobody may do anything.
    pub fn nobody() -> Self {
        Self::empty("")
    }

    /// Whether a person still has the everyday key of this fingerprint, and it still counts.
    pub fn counts(&self, person: &PersonName, fingerprint: &Digest) -> bool {
        self.holders.get(fingerprint) == Some(person) && !self.revoked_keys.contains(fingerprint)
    }

    pub(super) fn empty(text: &str) -> Self {
        Self {
            digest: Digest::of(text.as_bytes()),
            text: text.to_owned(),
            people: BTreeMap::new(),
            duties: BTreeMap::new(),
            claimable: None,
            roles: BTreeMap::new(),
            rules: Vec::new(),
            sources: BTreeMap::new(),
            hosts: BTreeMap::new(),
            ticket_checks: BTreeMap::new(),
            rule_names: BTreeSet::new(),
            emergency_keys: Vec::new(),
            emergency_rules: EmergencyRules::default(),
            reviews: Reviews::default(),
            drill: None,
            revoked_keys: BTreeSet::new(),
            holders: HashMap::new(),
        }
    }

    /// SHA-256 of the file: every decision names it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The file, verbatim.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everybody.
    pub fn people(&self) -> &BTreeMap<PersonName, Person> {
        &self.people
    }

    /// All roles.
    pub fn roles(&self) -> &BTreeMap<RoleName, Role> {
        &self.roles
    }

    /// The rules of `[[rules]]`, in their order.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Who states facts.
    pub fn sources(&self) -> &BTreeMap<SourceName, Source> {
        &self.sources
    }

    /// The hosts whose SSH host keys are known.
    pub fn hosts(&self) -> &BTreeMap<HostName, Host> {
        &self.hosts
    }

    /// Where tickets are looked up.
    pub fn ticket_checks(&self) -> &BTreeMap<CheckName, TicketCheck> {
        &self.ticket_checks
    }

    /// All emergency keys.
    pub fn emergency_keys(&self) -> &[EmergencyKey] {
        &self.emergency_keys
    }

    /// A role that this person may at least ask for or decide on. To everybody else it does not exist.
    pub fn role_for(&self, person: &PersonName, role: &RoleName) -> Result<&Role, Refusal> {
        let found = self.roles.get(role).filter(|r| r.requesters.contains(person) || r.approvers.contains(person));
        found.ok_or_else(|| Refusal::NotEligible { person: person.clone(), role: role.clone() })
    }

    /// Whether a person has a duty.
    pub fn has_duty(&self, person: &PersonName, duty: Duty) -> bool {
        self.duties.get(&duty).is_some_and(|people| people.contains(person))
    }

    /// The groups that an identity provider may claim for a person; `None` when it may not even sign one in.
    pub fn claimable(&self) -> Option<&BTreeSet<GroupName>> {
        self.claimable.as_ref()
    }

    /// Whether an identity provider may claim this group for somebody.
    pub fn may_claim(&self, group: &GroupName) -> bool {
        self.claimable.as_ref().is_some_and(|groups| groups.contains(group))
    }

    /// Whether the policy lets an identity provider sign this person in, to read. Machines have no browser.
    pub fn may_read_on_word(&self, person: &PersonName) -> bool {
        self.claimable.is_some() && self.people.get(person).is_some_and(|person| !person.service)
    }

    /// Whether one of these groups, which a provider claims for somebody, has a duty. Good for reading alone.
    pub fn group_has_duty(&self, claimed: &BTreeSet<GroupName>, duty: Duty) -> bool {
        self.duties.get(&duty).is_some_and(|people| people.names_any_of(claimed))
    }

    /// Who of a role's approvers could decide on this person's request: people other than the requester. The
    /// first list is told at once, the second when it escalates, and at once where the first is empty.
    pub fn deciders(&self, role: &RoleName, requester: &PersonName) -> (Vec<PersonName>, Vec<PersonName>) {
        let Some(role) = self.roles.get(role) else { return (Vec::new(), Vec::new()) };
        let can = |name: &&PersonName| *name != requester && self.decides(name);
        let (later, now): (Vec<_>, Vec<_>) =
            role.approvers.all().into_iter().filter(can).cloned().partition(|name| role.stands_behind(name));
        if now.is_empty() { (later, now) } else { (now, later) }
    }

    /// The person whose everyday key this is, if the key still counts and is theirs.
    pub fn signer(&self, person: &PersonName, key: &PublicKey) -> Result<&Person, Refusal> {
        let known = self.people.get(person).ok_or_else(|| Refusal::UnknownPerson { person: person.clone() })?;
        self.not_revoked(key)?;
        match self.holders.get(&key.fingerprint()) {
            Some(holder) if holder == person => Ok(known),
            Some(_) => Err(Refusal::NotTheirKey { person: person.clone() }),
            None => Err(Refusal::UnknownKey),
        }
    }

    /// The emergency key, if it is registered for this person and still counts.
    pub fn emergency_key(&self, person: &PersonName, key: &PublicKey) -> Result<&EmergencyKey, Refusal> {
        self.not_revoked(key).map_err(|_| Refusal::NotEmergencyKey)?;
        let found = self.emergency_keys.iter().find(|e| e.key == *key && e.person == *person);
        found.ok_or(Refusal::NotEmergencyKey)
    }

    /// Whether the policy names this key anywhere: a subject key must be none of them.
    pub fn names_key(&self, key: &PublicKey) -> bool {
        let fingerprint = key.fingerprint();
        self.holders.contains_key(&fingerprint)
            || self.revoked_keys.contains(&fingerprint)
            || self.emergency_keys.iter().any(|e| e.key == *key)
    }

    /// The keys that count no longer, by their fingerprints.
    pub fn revoked_keys(&self) -> &BTreeSet<Digest> {
        &self.revoked_keys
    }

    /// Refuses a key that the policy revokes.
    pub fn not_revoked(&self, key: &PublicKey) -> Result<(), Refusal> {
        if self.revoked_keys.contains(&key.fingerprint()) { Err(Refusal::RevokedKey) } else { Ok(()) }
    }
}

impl Role {
    /// The hosts asked for, or all of the role's; sorted.
    fn resolve_hosts(&self, name: &RoleName, asked: &[HostName]) -> Result<Vec<HostName>, Refusal> {
        if asked.is_empty() {
            return Ok(self.hosts.clone());
        }
        if let Some(host) = asked.iter().find(|host| !self.hosts.contains(host)) {
            return Err(Refusal::UnknownHost { host: host.clone(), role: name.clone() });
        }
        sorted(asked, "hosts")
    }

    /// The principals asked for, or all that the role gives on these hosts; sorted.
    fn resolve_principals(&self, hosts: &[HostName], asked: &[Principal]) -> Result<Vec<Principal>, Refusal> {
        let all = self.principals_on(hosts);
        if asked.is_empty() {
            return Ok(all);
        }
        if let Some(principal) = asked.iter().find(|p| !all.contains(p)) {
            return Err(Refusal::UnknownPrincipal { principal: principal.to_string() });
        }
        sorted(asked, "principals")
    }

    /// Whether somebody decides only because others may not have in time.
    fn stands_behind(&self, person: &PersonName) -> bool {
        self.escalate_to.contains(person) && !self.asked_first.contains(person)
    }

    /// Up to which length the role's own rule asks nobody.
    pub fn automatic(&self) -> Option<Seconds> {
        self.rules.iter().find(|rule| rule.name.as_str() == decide::AUTOMATIC).and_then(|rule| match rule.effect {
            Effect::Automatic { max } => Some(max),
            Effect::Deny => None,
        })
    }

    /// `P@H` for each principal and host, plain `P` when the role has no hosts; sorted.
    pub fn principals_on(&self, hosts: &[HostName]) -> Vec<Principal> {
        let mut all: Vec<Principal> = if self.hosts.is_empty() {
            self.principals.iter().map(|p| Principal::new(p.clone(), None)).collect()
        } else {
            let on = |p: &PrincipalName| {
                hosts.iter().map(|h| Principal::new(p.clone(), Some(h.clone()))).collect::<Vec<_>>()
            };
            self.principals.iter().flat_map(on).collect()
        };
        all.sort();
        all
    }
}

fn sorted<T: Ord + Clone>(list: &[T], field: &'static str) -> Result<Vec<T>, Refusal> {
    let set: BTreeSet<&T> = list.iter().collect();
    if set.len() != list.len() {
        return Err(Refusal::Duplicate { field });
    }
    Ok(set.into_iter().cloned().collect())
}

/// Where in the file something stands, in bytes.
pub(super) type Span = Range<usize>;

#[cfg(test)]
mod tests;
