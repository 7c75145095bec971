//! What the policy makes of a request, before anyone is bothered and again at the claim. The same walk decides and
//! explains: each rule that it meets is told, with what was missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::conditions::{Circumstances, Conditions};
use super::people::People;
use super::quorum::Quorum;
use super::{Policy, Role};
use crate::domain::digest::Digest;
use crate::domain::names::{CheckName, FactName, HostName, PersonName, Principal, RoleName, RuleName, Ticket};
use crate::domain::refusal::Refusal;
use crate::domain::statement::Request;
use crate::domain::time::{Seconds, Timestamp};

/// What somebody asks for. Empty `hosts` and `principals` stand for the role's, `seconds` `None` for its default.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of a request")]
pub struct Asked<'a> {
    pub person: &'a PersonName,
    pub role: &'a RoleName,
    pub hosts: &'a [HostName],
    pub principals: &'a [Principal],
    pub seconds: Option<Seconds>,
    pub ticket: Option<&'a Ticket>,
}

impl<'a> From<&'a Request> for Asked<'a> {
    fn from(request: &'a Request) -> Self {
        Self {
            person: &request.person,
            role: &request.role,
            hosts: &request.hosts,
            principals: &request.principals,
            seconds: request.seconds,
            ticket: request.ticket.as_ref(),
        }
    }
}

/// A rule over some roles: what it does, for whom, and when.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name. The one that stands in a role is called `automatic`.
    pub name: RuleName,
    /// What it does.
    pub effect: Effect,
    /// For whom; `None` for whoever may ask.
    pub people: Option<People>,
    /// For these hosts; any when empty. A denial needs one of them to be asked for, the other effects all.
    pub hosts: Vec<HostName>,
    /// When.
    pub conditions: Conditions,
    /// One line for people.
    pub because: String,
    /// Where it stands in the policy's text, in bytes.
    pub place: usize,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nobody is asked, up to this length.
    Automatic {
        /// The longest.
        max: Seconds,
    },
    /// Nothing is given, whatever other rules say.
    Deny,
}

/// What a request comes to under a policy: everything resolved, nothing left to default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `P@H` for each host, or `P` for a role without hosts; sorted.
    pub principals: Vec<Principal>,
    /// The hosts, sorted.
    pub hosts: Vec<HostName>,
    /// How long.
    pub seconds: Seconds,
    /// Who must approve; nobody when the policy approves by itself.
    pub quorum: Quorum,
    /// The rule that approves by itself.
    pub by: Option<RuleName>,
    /// When a fact ends that this hangs on, and the access with it.
    pub ends_by: Option<Timestamp>,
    /// The facts that this hangs on, and the messages that stated them.
    pub facts: BTreeMap<FactName, Digest>,
}

impl Terms {
    /// How many people must approve: 0 when the policy approves by itself.
    pub fn approvals(&self) -> u32 {
        self.quorum.total()
    }
}

/// A rule that was met on the way, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Which: `rules.NAME`, or a field of the role.
    pub rule: String,
    /// What it does when it holds.
    pub does: &'static str,
    /// What was missing; nothing when it holds.
    pub missing: Vec<String>,
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, does, missing } = self;
        match missing.as_slice() {
            [] => write!(f, "{rule}: {does}"),
            missing => write!(f, "{rule}: does not hold; it {does} {}", missing.join(" and ")),
        }
    }
}

/// The whole walk, for people.
#[derive(Debug, Clone)]
pub struct Explained {
    /// Each rule that was met, in order.
    pub met: Vec<Met>,
    /// What it came to.
    pub outcome: Result<Terms, Refusal>,
    /// What would pass without asking anybody.
    pub would: Vec<String>,
}

impl Explained {
    /// The outcome as one line.
    pub fn verdict(&self) -> String {
        match &self.outcome {
            Ok(Terms { by: Some(rule), seconds, .. }) => {
                format!("approved for {seconds} by the rule {rule}, without asking")
            }
            Ok(terms) => format!("waits for {}, for {}", plural(terms.approvals(), "approval"), terms.seconds),
            Err(refusal) => format!("denied: {refusal}"),
        }
    }
}

fn plural(count: u32, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

/// Hears of each rule that is met.
type Tell<'t> = dyn FnMut(&dyn Fn() -> Met) + 't;

impl Policy {
    /// What a person gets who asks for this: the first thing that is decided.
    pub fn terms(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> Result<Terms, Refusal> {
        self.walk(asked, at, around, &mut |_| ())
    }

    /// The same, with every rule that was met on the way.
    pub fn explain(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> Explained {
        let mut met = Vec::new();
        let outcome = self.walk(asked, at, around, &mut |tell| met.push(tell()));
        let would = self.would(asked, at, around, &outcome);
        Explained { met, outcome, would }
    }

    /// What a request is about and who may agree to it, whether or not it can be had as things are: for telling people.
    pub fn scope(&self, asked: &Asked<'_>) -> Option<Terms> {
        let role = self.roles.get(asked.role)?;
        let hosts = role.resolve_hosts(asked.role, asked.hosts).ok()?;
        Some(Terms {
            principals: role.resolve_principals(&hosts, asked.principals).ok()?,
            hosts,
            seconds: asked.seconds.unwrap_or(role.default),
            quorum: role.quorum.clone(),
            by: None,
            ends_by: None,
            facts: BTreeMap::new(),
        })
    }

    /// What would pass without asking anybody: only where nothing else stands in the way.
    fn would(
        &self,
        asked: &Asked<'_>,
        at: Timestamp,
        around: &Circumstances<'_>,
        outcome: &Result<Terms, Refusal>,
    ) -> Vec<String> {
        let Some(role) = self.roles.get(asked.role) else { return Vec::new() };
        match outcome {
            Ok(terms) if terms.by.is_some() => Vec::new(),
            Ok(_) | Err(Refusal::NobodyDecides { .. }) => role.would_pass(asked, at, around),
            Err(Refusal::TooLong { most, .. }) => {
                let shorter = Asked { seconds: Some(*most), ..*asked };
                let outcome = self.terms(&shorter, at, around);
                if outcome.is_err() {
                    self.would(&shorter, at, around, &outcome)
                } else {
                    role.would_pass(asked, at, around)
                }
            }
            Err(_) => Vec::new(),
        }
    }

    fn walk(
        &self,
        asked: &Asked<'_>,
        at: Timestamp,
        around: &Circumstances<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<Terms, Refusal> {
        let not_eligible = || Refusal::NotEligible { person: asked.person.clone(), role: asked.role.clone() };
        let role =
            self.roles.get(asked.role).filter(|r| r.requesters.contains(asked.person)).ok_or_else(not_eligible)?;
        let seconds = asked.seconds.unwrap_or(role.default);
        if seconds > role.max {
            return Err(Refusal::TooLong { asked: seconds, most: role.max, role: asked.role.clone() });
        }
        let hosts = role.resolve_hosts(asked.role, asked.hosts)?;
        let principals = role.resolve_principals(&hosts, asked.principals)?;
        role.not_denied(asked, &hosts, at, around, tell)?;
        role.conditions_hold(asked, at, around, tell)?;
        role.cap_holds(asked, seconds, around, tell)?;
        let terms = |quorum, by: Option<&Rule>| {
            let all = || std::iter::once(&role.conditions).chain(by.map(|rule| &rule.conditions));
            let ends_by = all().filter_map(|conditions| conditions.end(asked, at, around)).min();
            let facts = all().flat_map(|conditions| conditions.hangs_on(asked, at, around)).collect();
            let (principals, hosts) = (principals.clone(), hosts.clone());
            Terms { principals, hosts, seconds, quorum, by: by.map(|rule| rule.name.clone()), ends_by, facts }
        };
        for rule in &role.rules {
            let Effect::Automatic { max } = rule.effect else { continue };
            let length = Some((seconds, max));
            tell(&|| Met {
                rule: rule.field(asked.role),
                does: "approves without asking anybody",
                missing: rule.missing(asked, &hosts, at, around, length),
            });
            if rule.holds(asked, &hosts, at, around, length) {
                return Ok(terms(Quorum::default(), Some(rule)));
            }
        }
        let nobody = !role.quorum.possible(|person| person != asked.person && self.decides(person));
        let does = "asks the approvers";
        let missing = if nobody { vec!["if there were enough of them".to_owned()] } else { Vec::new() };
        tell(&|| Met { rule: format!("roles.{}.approvers", asked.role), does, missing: missing.clone() });
        if nobody {
            let would = role.without_asking(asked, at, around);
            return Err(Refusal::NobodyDecides { role: asked.role.clone(), would });
        }
        Ok(terms(role.quorum.clone(), None))
    }

    /// Whether somebody may ever decide: a person, and no machine.
    pub fn decides(&self, person: &PersonName) -> bool {
        self.people.get(person).is_some_and(|person| !person.service)
    }
}

impl Role {
    /// The facts that the role and its rules ask for.
    pub fn facts_asked(&self, asked: &Asked<'_>) -> BTreeSet<FactName> {
        let all = std::iter::once(&self.conditions).chain(self.rules.iter().map(|rule| &rule.conditions));
        all.flat_map(|conditions| conditions.names(asked).collect::<Vec<_>>()).collect()
    }

    /// The ticket checks that the role and its rules ask for.
    pub fn checks_asked(&self, asked: &Asked<'_>) -> BTreeSet<CheckName> {
        let all = std::iter::once(&self.conditions).chain(self.rules.iter().map(|rule| &rule.conditions));
        all.filter_map(|conditions| conditions.check(asked)).cloned().collect()
    }

    pub(super) fn not_denied(
        &self,
        asked: &Asked<'_>,
        hosts: &[HostName],
        at: Timestamp,
        around: &Circumstances<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Refusal> {
        for rule in self.rules.iter().filter(|rule| rule.effect == Effect::Deny) {
            let missing = || rule.missing(asked, hosts, at, around, None);
            tell(&|| Met { rule: rule.field(asked.role), does: "denies", missing: missing() });
            if rule.holds(asked, hosts, at, around, None) {
                let because = if rule.because.is_empty() { String::new() } else { format!(": {}", rule.because) };
                return Err(Refusal::DeniedByRule { role: asked.role.clone(), rule: rule.name.clone(), because });
            }
        }
        Ok(())
    }

    fn conditions_hold(
        &self,
        asked: &Asked<'_>,
        at: Timestamp,
        around: &Circumstances<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Refusal> {
        if self.conditions.is_empty() {
            return Ok(());
        }
        let missing = self.conditions.unmet(asked, at, around);
        tell(&|| Met { rule: format!("roles.{}.when", asked.role), does: "can be had", missing: missing.clone() });
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::Conditions { role: asked.role.clone(), would: missing.join(" and ") })
    }

    fn cap_holds(
        &self,
        asked: &Asked<'_>,
        seconds: Seconds,
        around: &Circumstances<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Refusal> {
        let Some(most) = self.daily_max else { return Ok(()) };
        let left = u64::from(most.get()).saturating_sub(around.held);
        let over = u64::from(seconds.get()) > left;
        let left = Seconds::new(left).map_or_else(|| "nothing".to_owned(), |left| left.to_string());
        let missing = if over { vec![format!("up to what is left of {most} in 24 hours: {left}")] } else { Vec::new() };
        tell(&|| Met { rule: format!("roles.{}.daily_max", asked.role), does: "allows it", missing: missing.clone() });
        if over { Err(Refusal::DailyMax { role: asked.role.clone(), most, left }) } else { Ok(()) }
    }

    /// The same as the end of a sentence: `; would pass with --for 30m, or with a ticket like INC-[0-9]+`.
    pub fn without_asking(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> String {
        let ways = self.would_pass(asked, at, around);
        if ways.is_empty() { String::new() } else { format!("; would pass {}", ways.join(", or ")) }
    }

    /// What would pass without asking anybody, for somebody who may ask at all.
    fn would_pass(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> Vec<String> {
        let seconds = asked.seconds.unwrap_or(self.default);
        let hosts = if asked.hosts.is_empty() { &self.hosts } else { asked.hosts };
        let ways = self.rules.iter().filter_map(|rule| match rule.effect {
            Effect::Automatic { max } if rule.people.as_ref().is_none_or(|people| people.contains(asked.person)) => {
                Some(rule.missing(asked, hosts, at, around, Some((seconds, max))).join(" and "))
            }
            _ => None,
        });
        ways.filter(|way| !way.is_empty()).collect()
    }
}

impl Rule {
    /// Whether it holds for a request. Whoever denies needs one of its hosts to be asked for, the others all.
    fn holds(
        &self,
        asked: &Asked<'_>,
        hosts: &[HostName],
        at: Timestamp,
        around: &Circumstances<'_>,
        length: Option<(Seconds, Seconds)>,
    ) -> bool {
        self.people.as_ref().is_none_or(|people| people.contains(asked.person))
            && self.is_over(hosts)
            && (self.effect == Effect::Deny || around.overdue.is_none())
            && length.is_none_or(|(seconds, max)| seconds <= max)
            && self.conditions.hold(asked, at, around)
    }

    /// What is missing for the rule to hold, in words; nothing when it does.
    fn missing(
        &self,
        asked: &Asked<'_>,
        hosts: &[HostName],
        at: Timestamp,
        around: &Circumstances<'_>,
        length: Option<(Seconds, Seconds)>,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        if self.people.as_ref().is_some_and(|people| !people.contains(asked.person)) {
            missing.push("for other people".to_owned());
        }
        if !self.is_over(hosts) {
            let hosts: Vec<&str> = self.hosts.iter().map(HostName::as_str).collect();
            missing.push(format!("with --host {}", hosts.join(" or ")));
        }
        if let Some((_, max)) = length.filter(|(seconds, max)| seconds > max) {
            missing.push(format!("with --for {max}"));
        }
        missing.extend(self.conditions.unmet(asked, at, around));
        missing.extend(around.overdue.filter(|_| self.effect != Effect::Deny).map(ToString::to_string));
        missing
    }

    fn is_over(&self, hosts: &[HostName]) -> bool {
        let named = |host: &HostName| self.hosts.contains(host);
        match self.effect {
            _ if self.hosts.is_empty() => true,
            Effect::Deny => hosts.iter().any(named),
            // A role without hosts opens all of them, and not those of the rule.
            Effect::Automatic { .. } => !hosts.is_empty() && hosts.iter().all(named),
        }
    }

    /// Whether it says all that `other` says, wherever that holds over a role.
    pub(super) fn covers(&self, other: &Self, role: &Role) -> bool {
        let people = match (&self.people, &other.people) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours.name_all_of(theirs),
            (Some(_), None) => false,
        };
        let theirs = if other.hosts.is_empty() { &role.hosts } else { &other.hosts };
        let hosts = self.hosts.is_empty() || !theirs.is_empty() && theirs.iter().all(|host| self.hosts.contains(host));
        let length = match (self.effect, other.effect) {
            (Effect::Automatic { max: ours }, Effect::Automatic { max: theirs }) => ours >= theirs.min(role.max),
            (Effect::Deny, _) => true,
            (Effect::Automatic { .. }, Effect::Deny) => false,
        };
        people && hosts && length && self.conditions.cover(&other.conditions)
    }

    /// Whether it holds for the very same requests as `other`, whatever either does then.
    pub(super) fn meets_the_same(&self, other: &Self) -> bool {
        (&self.people, &self.hosts, &self.conditions) == (&other.people, &other.hosts, &other.conditions)
    }

    /// Where it stands in the policy.
    pub(super) fn field(&self, role: &RoleName) -> String {
        if self.name.as_str() == AUTOMATIC { format!("roles.{role}.automatic") } else { format!("rules.{}", self.name) }
    }
}

/// `oncall: nobody is asked up to 30m, for sre, with a ticket like INC-[0-9]+`
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effect {
            Effect::Automatic { max } => write!(f, "{}: nobody is asked up to {max}", self.name)?,
            Effect::Deny => write!(f, "{}: denied", self.name)?,
        }
        if let Some(people) = &self.people {
            write!(f, ", for {people}")?;
        }
        if !self.hosts.is_empty() {
            let hosts: Vec<&str> = self.hosts.iter().map(HostName::as_str).collect();
            write!(f, ", on {}", hosts.join(" or "))?;
        }
        self.conditions.listed().iter().try_for_each(|condition| write!(f, ", {condition}"))?;
        if self.because.is_empty() { Ok(()) } else { write!(f, ": {}", self.because) }
    }
}

/// The name of the rule that stands in a role.
pub const AUTOMATIC: &str = "automatic";
