//! What a careful reader would ask about a policy that parses: roles that nobody can have, rules that never hold or
//! take each other back, and what hangs on one person or one key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::conditions::Conditions;
use super::decide::{AUTOMATIC, Effect, Rule};
use super::people::People;
use super::{Policy, Role};
use crate::domain::names::{PersonName, RoleName};
use crate::domain::policy_bundle;
use crate::domain::time::Seconds;

/// A sensitive role should not be given for longer.
const SENSITIVE_LONGEST: u32 = 4 * 3600;
/// So many names stand in a message; of the rest only the number.
const NAMES: usize = 5;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    /// Something can never work, or says the opposite of something else.
    Error,
    /// Something is probably not meant.
    Warning,
}

/// What is doubtful, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The included file, where it is not the first.
    pub file: Option<String>,
    /// The line in that file, from 1.
    pub line: usize,
    /// The field, as in `roles.db-prod.approvers`.
    pub field: String,
    /// How bad it is.
    pub gravity: Gravity,
    /// A stable name for the kind, in kebab case.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, field, message, .. } = self;
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        let gravity = match self.gravity {
            Gravity::Error => "error",
            Gravity::Warning => "warning",
        };
        write!(f, "{line}: {gravity}: {field}: {message}")
    }
}

/// Collects findings, and finds their lines.
struct Findings<'p> {
    parts: Vec<policy_bundle::Part<'p>>,
    found: Vec<Finding>,
}

impl Policy {
    /// Everything that is doubtful, in the order of the file.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Findings { parts: policy_bundle::split(&self.text), found: Vec::new() };
        for (name, role) in &self.roles {
            self.check_approvers(&mut findings, name, role);
            check_lengths(&mut findings, name, role);
            check_hours(&mut findings, name, role);
        }
        self.check_rules(&mut findings);
        self.check_emergency_keys(&mut findings);
        self.check_claims(&mut findings);
        let mut found = findings.found;
        found.sort_by(|a, b| (&a.file, a.line, &a.field).cmp(&(&b.file, b.line, &b.field)));
        found
    }

    /// Whether somebody could decide: a person with a key that counts.
    fn reachable(&self, person: &PersonName) -> bool {
        let keys = self.people.get(person).filter(|person| !person.service).map(|person| &person.keys);
        keys.is_some_and(|keys| keys.iter().any(|key| self.not_revoked(key).is_ok()))
    }

    fn check_approvers(&self, findings: &mut Findings<'_>, name: &RoleName, role: &Role) {
        let field = |field: &str| format!("roles.{name}.{field}");
        if role.requesters.is_empty() {
            findings.warn(role.place, "nobody-asks", field("requesters"), "nobody may ask for it");
            return;
        }
        let automatic = role.rules.iter().any(|rule| rule.effect != Effect::Deny);
        let who = if role.quorum.parts().len() > 1 { "agree" } else { "approvers" };
        if role.approvers.is_empty() {
            if automatic {
                findings.warn(role.place, "only-automatic", field(who), "nobody may approve what no rule approves");
            } else {
                findings.error(role.place, "nobody-approves", field(who), "nobody may approve, so nobody can have it");
            }
            return;
        }
        let needed = role.quorum.total();
        let (mut alone, mut scarce) = (Vec::new(), Vec::new());
        let apart = self.requesters_apart(role);
        for requester in &apart {
            let requester = *requester;
            let others = |without: Option<&PersonName>| {
                role.quorum.possible(|p| Some(p) != requester && Some(p) != without && self.reachable(p))
            };
            let rest = if apart.len() == 1 { "everybody" } else { "the others" };
            let whom = requester.map_or(rest, PersonName::as_str);
            if !others(None) {
                alone.push(whom);
            } else if self.needed_ones(role).iter().any(|one| Some(*one) != requester && !others(Some(one))) {
                scarce.push(whom);
            }
        }
        if !alone.is_empty() {
            let message = format!("for {} there are fewer than {needed} who could approve", listed(&alone));
            findings.error(role.place, "too-few-approvers", field(who), &message);
        }
        if !scarce.is_empty() {
            let message = format!("for {} there is nobody to spare: one absence, and nobody approves", listed(&scarce));
            findings.warn(role.place, "no-spare-approver", field(who), &message);
        }
    }

    /// Requesters who may find others to approve than the rest, who stand for each other as `None`.
    fn requesters_apart<'p>(&self, role: &'p Role) -> Vec<Option<&'p PersonName>> {
        let needed = self.needed_ones(role);
        let apart = needed.iter().copied().filter(|person| role.requesters.contains(person)).map(Some);
        let rest = role.requesters.each().any(|person| !needed.contains(&person));
        apart.chain(rest.then_some(None)).collect()
    }

    /// The approvers of whom one could be missed: those of parts that have not two more than are needed in all. Of
    /// the others there are always enough.
    fn needed_ones<'p>(&self, role: &'p Role) -> Vec<&'p PersonName> {
        let most = role.quorum.total() as usize + 2;
        let mut needed: Vec<&PersonName> = Vec::new();
        for part in role.quorum.parts() {
            let mut some: Vec<&PersonName> = Vec::new();
            for person in part.of.each().filter(|person| self.reachable(person)) {
                if some.len() < most && !some.contains(&person) {
                    some.push(person);
                }
            }
            if some.len() < most {
                needed.extend(some);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    fn check_rules(&self, findings: &mut Findings<'_>) {
        let mut hidden = Hidden::default();
        for (name, role) in &self.roles {
            if let Some(rule) = role.rules.iter().find(|rule| refuses_everything(rule)) {
                let message = format!("the rule {} denies it always, so nobody can have it", rule.name);
                findings.warn(role.place, "always-denied", format!("roles.{name}"), &message);
            }
            for (at, rule) in role.rules.iter().enumerate() {
                hidden.meet(role, rule, &role.rules[..at]);
            }
            let own = role.rules.iter().filter(|rule| rule.name.as_str() == AUTOMATIC);
            own.for_each(|rule| hidden.report(findings, rule, rule.field(name)));
        }
        for rule in &self.rules {
            let field = format!("rules.{}", rule.name);
            let over = || self.roles.values().filter(|role| role.rules.iter().any(|other| Arc::ptr_eq(other, rule)));
            let may_ask = |role: &Role| rule.people.as_ref().is_none_or(|people| overlap(people, &role.requesters));
            let has_host =
                |role: &Role| rule.hosts.is_empty() || role.hosts.iter().any(|host| rule.hosts.contains(host));
            if !over().any(has_host) {
                let message = "no role that it is over has any of these hosts";
                let (field, message) = if rule.hosts.is_empty() {
                    (field, "it is over no role")
                } else {
                    (format!("{field}.hosts"), message)
                };
                findings.warn(rule.place, "rule-over-nothing", field, message);
            } else if !over().any(may_ask) {
                let message = "none of them may ask for a role that it is over";
                findings.warn(rule.place, "rule-for-nobody", format!("{field}.people"), message);
            } else {
                hidden.report(findings, rule, field);
            }
        }
    }

    fn check_emergency_keys(&self, findings: &mut Findings<'_>) {
        if let Some(role) = self.roles.values().next().filter(|_| self.emergency_keys.is_empty()) {
            let message = "there is none, so nothing opens when nobody can approve";
            findings.error(role.place, "no-emergency-key", "emergency_keys".to_owned(), message);
        }
        let mut of_role: BTreeMap<&RoleName, Vec<usize>> = BTreeMap::new();
        for emergency in &self.emergency_keys {
            if self.not_revoked(&emergency.key).is_err() {
                let message = format!("the key of {} is revoked, and breaks no glass", emergency.person);
                findings.warn(emergency.place, "revoked-emergency-key", "emergency_keys.key".to_owned(), &message);
                continue;
            }
            if self.drill().is_some_and(|plan| !emergency.roles.contains(&plan.role)) {
                let message =
                    format!("the key of {} does not open the canary role, so it is never practised", emergency.person);
                findings.warn(
                    emergency.place,
                    "unpractised-emergency-key",
                    "emergency_keys.roles".to_owned(),
                    &message,
                );
            }
            emergency.roles.iter().for_each(|role| of_role.entry(role).or_default().push(emergency.place));
        }
        for (role, places) in of_role {
            if let [place] = places.as_slice() {
                let message = format!("{role} has one only; a second should lie elsewhere");
                findings.warn(*place, "one-emergency-key", "emergency_keys".to_owned(), &message);
            }
        }
    }

    /// Groups that a provider may claim, and that mean nothing, or less than it seems.
    fn check_claims(&self, findings: &mut Findings<'_>) {
        let place = self.text.find("[oidc").unwrap_or(0);
        for group in self.claimable.iter().flatten() {
            let named = |people: &People| people.groups().any(|named| named == group);
            if !self.duties.values().any(named) && !self.roles.values().any(|role| named(&role.approvers)) {
                let message = format!("{group} has no duty and approves nothing, so it shows nobody more");
                findings.warn(place, "idle-claim", "oidc.groups".to_owned(), &message);
            }
            if self.people.values().any(|person| person.groups.contains(group)) {
                continue;
            }
            for (name, role) in &self.roles {
                for (field, people) in [("requesters", &role.requesters), ("approvers", &role.approvers)] {
                    if named(people) {
                        let message = format!("nobody here is in {group}, and a provider's word makes nobody one");
                        findings.warn(role.place, "empty-group", format!("roles.{name}.{field}"), &message);
                    }
                }
            }
        }
    }
}

fn check_lengths(findings: &mut Findings<'_>, name: &RoleName, role: &Role) {
    let field = |field: &str| format!("roles.{name}.{field}");
    if let Some(most) = role.daily_max.filter(|most| *most < role.default) {
        let message =
            format!("{most} a day is less than the default, {}: whoever names no length is refused", role.default);
        findings.warn(role.place, "daily-max-below-default", field("daily_max"), &message);
    }
    if !role.sensitive {
        return;
    }
    if role.hosts.is_empty() {
        findings.warn(role.place, "sensitive-unbound", field("hosts"), "it is sensitive, and bound to no host");
    }
    if let Some(longest) = Seconds::new(SENSITIVE_LONGEST.into()).filter(|longest| role.max > *longest) {
        let message = format!("it is sensitive, and {} is more than {longest}", role.max);
        findings.warn(role.place, "sensitive-long", field("max"), &message);
    }
}

fn check_hours(findings: &mut Findings<'_>, name: &RoleName, role: &Role) {
    for rule in role.rules.iter().filter(|rule| rule.effect != Effect::Deny) {
        if rule.conditions.never_meet(&role.conditions) {
            let message = format!("the hours of {} and those of the role never come together", rule.field(name));
            findings.warn(role.place, "hours-never", format!("roles.{name}.when"), &message);
        }
    }
}

/// Rules behind others: which stands before each, in every role that it is over.
#[derive(Default)]
struct Hidden<'p>(BTreeMap<*const Rule, Vec<Option<&'p Rule>>>);

impl<'p> Hidden<'p> {
    /// Meets a rule of a role, which stands behind some others of it.
    fn meet(&mut self, role: &'p Role, rule: &'p Arc<Rule>, before: &'p [Arc<Rule>]) {
        // Denials go first, wherever they stand.
        let denials = role.rules.iter().filter(|other| other.effect == Effect::Deny && rule.effect != Effect::Deny);
        let before = before.iter().filter(|other| other.effect != Effect::Deny || rule.effect == Effect::Deny);
        let hiding = denials.chain(before).find(|other| other.covers(rule, role)).map(|other| &**other);
        self.0.entry(Arc::as_ptr(rule)).or_default().push(hiding);
    }

    /// Says so when a rule is hidden wherever it stands.
    fn report(&self, findings: &mut Findings<'_>, rule: &Arc<Rule>, field: String) {
        let Some(met) = self.0.get(&Arc::as_ptr(rule)) else { return };
        let Some(hiding) = met.iter().copied().collect::<Option<Vec<&Rule>>>() else { return };
        let Some(first) = hiding.first() else { return };
        let same = first.meets_the_same(rule);
        match (first.effect == rule.effect, first.effect) {
            (true, _) if same => {
                let message = format!("it says the same as the rule {}", first.name);
                findings.warn(rule.place, "duplicate-rule", field, &message);
            }
            (false, Effect::Deny) if same && !refuses_everything(first) => {
                let message = format!("the rule {} denies the very same", first.name);
                findings.error(rule.place, "contradicting-rules", field, &message);
            }
            _ => {
                let message = format!("it never comes to it: the rule {} goes before it and covers it", first.name);
                findings.warn(rule.place, "unreachable-rule", field, &message);
            }
        }
    }
}

/// Whether a rule denies whoever asks for whatever, whenever.
fn refuses_everything(rule: &Rule) -> bool {
    rule.effect == Effect::Deny
        && rule.people.is_none()
        && rule.hosts.is_empty()
        && rule.conditions == Conditions::default()
}

fn overlap(some: &People, others: &People) -> bool {
    some.groups().any(|group| others.groups().any(|other| other == group)) || some.each().any(|p| others.contains(p))
}

fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES)].join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Findings<'_> {
    fn error(&mut self, place: usize, code: &'static str, field: String, message: &str) {
        self.add(place, Gravity::Error, code, field, message);
    }

    fn warn(&mut self, place: usize, code: &'static str, field: String, message: &str) {
        self.add(place, Gravity::Warning, code, field, message);
    }

    fn add(&mut self, place: usize, gravity: Gravity, code: &'static str, field: String, message: &str) {
        let (file, line) = self.locate(place, field.rsplit('.').next().unwrap_or_default());
        self.found.push(Finding { file, line, field, gravity, code, message: message.to_owned() });
    }

    /// The line of a key in the table at a place; that of the table where the key does not stand in it.
    fn locate(&self, place: usize, key: &str) -> (Option<String>, usize) {
        let part = self.parts.iter().rev().find(|part| part.start <= place).or(self.parts.first());
        let Some(part) = part else { return (None, 1) };
        let (before, table) = part.text.split_at((place - part.start).min(part.text.len()));
        let first = before.matches('\n').count() + 1;
        let rows = table.lines().enumerate().skip(1).take_while(|(_, row)| !row.trim_start().starts_with('['));
        let is_key = |row: &str| {
            row.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
        };
        let found = rows.into_iter().find(|(_, row)| is_key(row)).map_or(0, |(at, _)| at);
        (part.name.map(str::to_owned), first + found)
    }
}

#[cfg(test)]
mod tests;
