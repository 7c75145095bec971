//! `policy.toml` as it is written: its tables, and the checks that turn them into a [`Policy`]. Every
//! error names the line and the field, and nothing of a bad file is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::digest::Digest;
use super::key::PublicKey;
use super::names::{GroupName, HostName, MailAddress, OptionName, PersonName, PrincipalName, RoleName};
use super::options;
use super::policy::{Duty, EMERGENCY_LONGEST, EmergencyKey, MOST_PRINCIPALS, Person, Policy, Role, Span};
use super::text::visible;
use super::time::{Patience, Seconds};

/// Why a policy is refused, and where: `12: roles.db-prod.max: ...`. What hides in the file is shown escaped: this
/// goes into logs, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    line: usize,
    field: String,
    message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", visible(&self.field))?;
        }
        f.write_str(&visible(&self.message))
    }
}
impl std::error::Error for PolicyError {}

/// A group, or a person by name.
type Who = GroupName;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    people: BTreeMap<PersonName, PersonTable>,
    #[serde(default)]
    duties: DutiesTable,
    oidc: Option<OidcTable>,
    #[serde(default)]
    roles: BTreeMap<RoleName, Spanned<RoleTable>>,
    #[serde(default)]
    emergency_keys: Vec<EmergencyTable>,
    #[serde(default)]
    revoked_keys: Vec<KeyOrFingerprint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonTable {
    #[serde(default)]
    groups: Vec<Spanned<GroupName>>,
    #[serde(default)]
    keys: Vec<Spanned<PublicKey>>,
    #[serde(default)]
    kind: PersonKind,
    email: Option<MailAddress>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum PersonKind {
    #[default]
    Human,
    Service,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OidcTable {
    #[serde(default)]
    groups: Vec<Spanned<GroupName>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DutiesTable {
    #[serde(default)]
    admins: Vec<Spanned<Who>>,
    #[serde(default)]
    auditors: Vec<Spanned<Who>>,
    #[serde(default)]
    revokers: Vec<Spanned<Who>>,
    #[serde(default)]
    reviewers: Vec<Spanned<Who>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleTable {
    description: Option<Spanned<String>>,
    #[serde(default)]
    hosts: Vec<Spanned<HostName>>,
    principals: Vec<Spanned<PrincipalName>>,
    #[serde(default)]
    requesters: Vec<Spanned<Who>>,
    #[serde(default)]
    approvers: Vec<Spanned<Who>>,
    approvals: Option<Spanned<i64>>,
    automatic: Option<AutomaticTable>,
    max: Spanned<Written<Seconds>>,
    default: Option<Spanned<Written<Seconds>>>,
    #[serde(default)]
    extensions: Vec<Spanned<OptionName>>,
    #[serde(default)]
    critical_options: BTreeMap<OptionName, Spanned<String>>,
    #[serde(default)]
    verify_required: bool,
    decide_within: Option<Written<Patience>>,
    claim_within: Option<Written<Patience>>,
    remind_after: Option<Written<Patience>>,
    escalate_after: Option<Written<Patience>>,
    #[serde(default)]
    escalate_to: Vec<Spanned<Who>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AutomaticTable {
    max: Spanned<Written<Seconds>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmergencyTable {
    person: Spanned<PersonName>,
    key: Spanned<PublicKey>,
    roles: Vec<Spanned<RoleName>>,
    max: Option<Spanned<Written<Seconds>>>,
    #[serde(default)]
    verify_required: bool,
}

/// A value that the file writes as text, such as `"4h"`, while JSON has a number.
#[derive(Clone, Copy)]
struct Written<T>(T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A revoked key: the key itself or its fingerprint.
struct KeyOrFingerprint(Digest);

impl<'de> Deserialize<'de> for KeyOrFingerprint {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let parsed = if text.starts_with("SHA256:") {
            text.parse()
        } else {
            text.parse::<PublicKey>().map(|key| key.fingerprint())
        };
        parsed.map(Self).map_err(serde::de::Error::custom)
    }
}

const DECIDE_WITHIN: Patience = Patience::hours(24);
const CLAIM_WITHIN: Patience = Patience::hours(4);
const REMIND_AFTER: Patience = Patience::minutes(5);
const ESCALATE_AFTER: Patience = Patience::minutes(15);

/// Parses and checks a whole file.
pub(super) fn parse(text: &str) -> Result<Policy, PolicyError> {
    let at = |(span, message): Problem| PolicyError::at(text, &span, &message);
    let file: File = toml::from_str(text).map_err(|e| at((e.span().unwrap_or(0..0), e.message().to_owned())))?;
    let mut policy = Policy::empty(text);
    policy.revoked_keys = file.revoked_keys.iter().map(|key| key.0).collect();
    people(&mut policy, file.people).map_err(at)?;
    let mut groups = groups(&policy);
    policy.claimable = file.oidc.map(|table| claimable(&policy, &mut groups, &table)).transpose().map_err(at)?;
    duties(&mut policy, &groups, &file.duties).map_err(at)?;
    for (name, table) in file.roles {
        let span = table.span();
        let role = role(&policy, &groups, table.into_inner(), span).map_err(at)?;
        policy.roles.insert(name, role);
    }
    for table in file.emergency_keys {
        let emergency = emergency_key(&policy, table).map_err(at)?;
        policy.emergency_keys.push(emergency);
    }
    Ok(policy)
}

type Problem = (Span, String);

fn people(policy: &mut Policy, tables: BTreeMap<PersonName, PersonTable>) -> Result<(), Problem> {
    for (name, table) in tables {
        for key in &table.keys {
            let fingerprint = key.get_ref().fingerprint();
            if let Some(other) = policy.holders.insert(fingerprint, name.clone()) {
                let message = format!("this key stands at {other} already; a key belongs to one person, once");
                return Err((key.span(), message));
            }
        }
        let person = Person {
            groups: table.groups.iter().map(|g| g.get_ref().clone()).collect(),
            keys: table.keys.into_iter().map(Spanned::into_inner).collect(),
            service: table.kind == PersonKind::Service,
            email: table.email,
        };
        policy.people.insert(name, person);
    }
    Ok(())
}

fn duties(policy: &mut Policy, groups: &Groups, table: &DutiesTable) -> Result<(), Problem> {
    let lists = [
        (Duty::Admins, &table.admins),
        (Duty::Auditors, &table.auditors),
        (Duty::Revokers, &table.revokers),
        (Duty::Reviewers, &table.reviewers),
    ];
    for (duty, list) in lists {
        let people = resolve(policy, groups, list)?;
        policy.duties.insert(duty, people);
        policy.duty_groups.insert(duty, among(groups, list));
    }
    Ok(())
}

fn role(policy: &Policy, groups: &Groups, table: RoleTable, span: Span) -> Result<Role, Problem> {
    let max = table.max.get_ref().0;
    let automatic = table.automatic.map(|a| at_most(&a.max, max, "the role's max")).transpose()?;
    let default = match &table.default {
        Some(default) => at_most(default, max, "the role's max")?,
        None => max.min(automatic.unwrap_or(max)),
    };
    let approvals = match &table.approvals {
        None => 1,
        Some(count) => u32::try_from(*count.get_ref()).ok().filter(|n| (1..=100).contains(n)).ok_or_else(|| {
            (
                count.span(),
                "from 1 to 100 approvals are possible; for none, use automatic = { max = \"15m\" }".to_owned(),
            )
        })?,
    };
    let hosts = unique(&table.hosts)?;
    let principals = unique(&table.principals)?;
    let count = principals.len() * hosts.len().max(1);
    if count == 0 || count > MOST_PRINCIPALS {
        let message = format!("principals times hosts make {count}; from 1 to {MOST_PRINCIPALS} are possible");
        return Err((span, message));
    }
    let description = table.description.map(check_line).transpose()?.unwrap_or_default();
    for extension in &table.extensions {
        options::check_extension(extension.get_ref()).map_err(|e| (extension.span(), e.to_string()))?;
    }
    for (name, value) in &table.critical_options {
        let one = BTreeMap::from([(name.clone(), value.get_ref().clone())]);
        options::check_critical(&one).map_err(|e| (value.span(), e.to_string()))?;
    }
    let critical_options = table.critical_options.into_iter().map(|(name, value)| (name, value.into_inner())).collect();
    let (mut approvers, next) =
        (resolve(policy, groups, &table.approvers)?, resolve(policy, groups, &table.escalate_to)?);
    let escalate_to = next.difference(&approvers).cloned().collect();
    approvers.extend(next);
    let mut approver_groups = among(groups, &table.approvers);
    approver_groups.extend(among(groups, &table.escalate_to));
    Ok(Role {
        description,
        requesters: resolve(policy, groups, &table.requesters)?,
        approvers,
        approver_groups,
        escalate_to,
        remind_after: table.remind_after.map_or(REMIND_AFTER, |w| w.0),
        escalate_after: table.escalate_after.map_or(ESCALATE_AFTER, |w| w.0),
        extensions: unique(&table.extensions)?,
        hosts,
        principals,
        approvals,
        automatic,
        max,
        default,
        critical_options,
        verify_required: table.verify_required,
        decide_within: table.decide_within.map_or(DECIDE_WITHIN, |w| w.0),
        claim_within: table.claim_within.map_or(CLAIM_WITHIN, |w| w.0),
    })
}

fn emergency_key(policy: &Policy, table: EmergencyTable) -> Result<EmergencyKey, Problem> {
    let (person, key) = (table.person.get_ref(), table.key.get_ref());
    if !policy.people.contains_key(person) {
        return Err((table.person.span(), format!("there is no person {person}")));
    }
    if policy.holders.contains_key(&key.fingerprint()) {
        return Err((table.key.span(), "this is an everyday key; an emergency key must be another".to_owned()));
    }
    if policy.emergency_keys.iter().any(|e| e.key == *key) {
        return Err((table.key.span(), "this emergency key stands there twice".to_owned()));
    }
    if table.verify_required && key.application().is_none() {
        let message = "verify_required needs a FIDO key (sk-...), and this is none; it could never break the glass";
        return Err((table.key.span(), message.to_owned()));
    }
    if table.roles.is_empty() {
        return Err((table.key.span(), "roles is empty, so this key could never break the glass".to_owned()));
    }
    if let Some(role) = table.roles.iter().find(|role| !policy.roles.contains_key(role.get_ref())) {
        return Err((role.span(), format!("there is no role {}", role.get_ref())));
    }
    let longest = Seconds::new(EMERGENCY_LONGEST).ok_or((0..0, String::new()))?;
    let max = match &table.max {
        Some(max) => at_most(max, longest, "what break-glass may last")?,
        None => longest,
    };
    Ok(EmergencyKey {
        person: table.person.into_inner(),
        key: table.key.into_inner(),
        roles: table.roles.into_iter().map(Spanned::into_inner).collect(),
        max,
        verify_required: table.verify_required,
    })
}

/// The members of each group.
type Groups = BTreeMap<GroupName, BTreeSet<PersonName>>;

fn groups(policy: &Policy) -> Groups {
    let mut groups = Groups::new();
    for (name, person) in &policy.people {
        for group in &person.groups {
            groups.entry(group.clone()).or_default().insert(name.clone());
        }
    }
    groups
}

/// The groups that a provider may claim. They may have no member here: the provider knows them.
fn claimable(policy: &Policy, groups: &mut Groups, table: &OidcTable) -> Result<BTreeSet<GroupName>, Problem> {
    for group in &table.groups {
        let name = group.get_ref();
        if name.as_str().parse().is_ok_and(|name: PersonName| policy.people.contains_key(&name)) {
            return Err((group.span(), format!("{name} is a person; only groups can be claimed")));
        }
        groups.entry(name.clone()).or_default();
    }
    unique(&table.groups).map(|groups| groups.into_iter().collect())
}

/// The groups in a list of groups and people.
fn among(groups: &Groups, list: &[Spanned<Who>]) -> BTreeSet<GroupName> {
    list.iter().map(|who| who.get_ref().clone()).filter(|name| groups.contains_key(name)).collect()
}

/// Groups and people to people. A name that is neither is a slip of the pen, and refused; a list that
/// is empty means nobody.
fn resolve(policy: &Policy, groups: &Groups, list: &[Spanned<Who>]) -> Result<BTreeSet<PersonName>, Problem> {
    let mut found = BTreeSet::new();
    for who in list {
        let name = who.get_ref();
        let person = name.as_str().parse().ok().filter(|name| policy.people.contains_key(name));
        match (person, groups.get(name)) {
            (None, None) => {
                return Err((who.span(), format!("{name} is neither a person nor a group that somebody is in")));
            }
            (Some(_), Some(_)) => return Err((who.span(), format!("{name} is both a person and a group; rename one"))),
            (Some(person), None) => {
                found.insert(person);
            }
            (None, Some(members)) => found.extend(members.iter().cloned()),
        }
    }
    Ok(found)
}

fn unique<T: Ord + Clone + fmt::Display>(list: &[Spanned<T>]) -> Result<Vec<T>, Problem> {
    let mut set = BTreeSet::new();
    for item in list {
        if !set.insert(item.get_ref().clone()) {
            return Err((item.span(), format!("{} stands there twice", item.get_ref())));
        }
    }
    Ok(set.into_iter().collect())
}

fn at_most(value: &Spanned<Written<Seconds>>, most: Seconds, whose: &str) -> Result<Seconds, Problem> {
    let seconds = value.get_ref().0;
    if seconds > most { Err((value.span(), format!("{seconds} is more than {whose}, {most}"))) } else { Ok(seconds) }
}

fn check_line(text: Spanned<String>) -> Result<String, Problem> {
    if text.get_ref().chars().count() > 200 || text.get_ref().chars().any(super::text::deceives) {
        return Err((text.span(), "write one line of at most 200 visible characters".to_owned()));
    }
    Ok(text.into_inner())
}

impl PolicyError {
    /// Finds line and field of a place in the file: the last table header above it, and the key on its line.
    fn at(text: &str, span: &Span, message: &str) -> Self {
        let before = text.get(..span.start.min(text.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let mut field = String::new();
        for row in text.lines().take(line) {
            // `[a.b]` and `[[a]]`, whatever stands behind them.
            if let Some(header) = row.trim_start().strip_prefix('[') {
                let name = header.trim_start_matches('[').split(']').next().unwrap_or_default();
                name.trim().clone_into(&mut field);
            }
        }
        let key = text.lines().nth(line - 1).and_then(|row| row.split_once('=')).map(|(key, _)| key.trim());
        if let Some(key) = key.filter(|k| !k.is_empty() && !k.starts_with(['#', '"', '['])) {
            field = if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") };
        }
        Self { line, field, message: message.lines().next().unwrap_or_default().to_owned() }
    }
}
