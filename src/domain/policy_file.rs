//! `policy.toml` as it is written: its tables, and the checks that turn them into a [`Policy`]. Every
//! error names the line and the field, and nothing of a bad file is used.

mod aftermath;
mod emergency;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::digest::Digest;
use super::facts::NamePattern;
use super::host::are_names;
use super::key::PublicKey;
use super::names::{
    CheckName, GroupName, HostName, Invalid, MailAddress, OptionName, PersonName, PrincipalName, RoleName, RuleName,
    SourceName,
};
use super::options;
use super::policy::conditions::{FactPattern, Hours, TicketPattern};
use super::policy::decide::AUTOMATIC;
use super::policy::people::Groups;
use super::policy::quorum::Part;
use super::policy::ticket::{Pointer, TicketUrl};
use super::policy::{
    Conditions, Duty, Effect, Host, MOST_PRINCIPALS, People, Person, Policy, Quorum, Role, Rule, Span, TicketCheck,
};
use super::policy_bundle::{self, Part as SourcePart, Pattern};
use super::text::visible;
use super::time::{LONGEST, Patience, Seconds};
use super::webhook::WebhookKey;

/// Why a policy is refused, and where: `12: roles.db-prod.max: ...`. What hides in the file is shown escaped: this
/// goes into logs, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The included file, where it is not the first.
    file: Option<String>,
    line: usize,
    field: String,
    message: String,
}

impl PolicyError {
    /// The included file that it speaks of, with which its text begins; `None` for the first.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", visible(file))?;
        }
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
    include: Vec<Spanned<Written<Pattern>>>,
    #[serde(default)]
    people: BTreeMap<PersonName, PersonTable>,
    duties: Option<DutiesTable>,
    oidc: Option<OidcTable>,
    #[serde(default)]
    roles: BTreeMap<RoleName, Spanned<RoleTable>>,
    #[serde(default)]
    sources: BTreeMap<SourceName, Spanned<SourceTable>>,
    #[serde(default)]
    hosts: BTreeMap<HostName, Spanned<HostTable>>,
    #[serde(default)]
    ticket_checks: BTreeMap<CheckName, Spanned<TicketCheckTable>>,
    #[serde(default)]
    rules: Vec<Spanned<RuleTable>>,
    break_glass: Option<Spanned<emergency::BreakGlassTable>>,
    #[serde(default)]
    emergency_keys: Vec<emergency::EmergencyTable>,
    reviews: Option<aftermath::ReviewsTable>,
    drill: Option<aftermath::DrillTable>,
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
    #[serde(default)]
    agree: Vec<Spanned<PartTable>>,
    automatic: Option<AutomaticTable>,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    when: WhenTable,
    daily_max: Option<Spanned<Written<Seconds>>>,
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
    people: Option<Vec<Spanned<Who>>>,
    #[serde(default)]
    hosts: Vec<Spanned<HostName>>,
    #[serde(default)]
    when: WhenTable,
}

/// So many of some people must agree.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartTable {
    of: Vec<Spanned<Who>>,
    approvals: Option<Spanned<i64>>,
}

/// What must be so.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WhenTable {
    #[serde(default)]
    from: Vec<Spanned<Written<IpNet>>>,
    #[serde(default)]
    hours: Vec<Spanned<HoursTable>>,
    ticket: Option<Written<TicketPattern>>,
    ticket_check: Option<Spanned<CheckName>>,
    #[serde(default)]
    facts: Vec<Written<FactPattern>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoursTable {
    days: Vec<String>,
    from: String,
    to: String,
    zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: Spanned<RuleName>,
    effect: EffectWord,
    roles: Option<Vec<Spanned<RoleName>>>,
    people: Option<Vec<Spanned<Who>>>,
    #[serde(default)]
    hosts: Vec<Spanned<HostName>>,
    max: Option<Spanned<Written<Seconds>>>,
    #[serde(default)]
    when: WhenTable,
    because: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum EffectWord {
    Automatic,
    Deny,
}

/// Where tickets are looked up.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketCheckTable {
    url: Written<TicketUrl>,
    expect: ExpectTable,
    timeout: Option<Spanned<Written<Seconds>>>,
}

/// What must stand there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectTable {
    status: Option<u16>,
    field: Option<Written<Pointer>>,
    #[serde(default)]
    value: Vec<String>,
    assignee_field: Option<Written<Pointer>>,
}

/// Who states facts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    key: Option<Written<WebhookKey>>,
    facts: Vec<Written<NamePattern>>,
}

/// A host that says what its connections were opened with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostTable {
    keys: Vec<PublicKey>,
    #[serde(default)]
    aliases: Vec<HostName>,
}

/// A value that the file writes as text, such as `"4h"`, while JSON has a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<T>(pub(super) T);

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

/// One of the files that make a policy.
struct Source<'t> {
    part: SourcePart<'t>,
    file: File,
}

/// Parses and checks a whole policy: the first file, and those that it includes, each behind a line with its name.
pub(super) fn parse(text: &str) -> Result<Policy, PolicyError> {
    let mut sources = sources(text)?;
    let mut policy = Policy::empty(text);
    for source in &mut sources {
        policy.revoked_keys.extend(source.file.revoked_keys.iter().map(|key| key.0));
        let tables = std::mem::take(&mut source.file.people);
        people(&mut policy, tables).map_err(|problem| source.at(&problem))?;
    }
    let mut groups = groups(&policy);
    once(&sources, "oidc", |file| file.oidc.is_some())?;
    once(&sources, "duties", |file| file.duties.is_some())?;
    once(&sources, "break_glass", |file| file.break_glass.is_some())?;
    once(&sources, "reviews", |file| file.reviews.is_some())?;
    once(&sources, "drill", |file| file.drill.is_some())?;
    for source in &sources {
        if let Some(table) = &source.file.oidc {
            let claimable = claimable(&policy, &mut groups, table).map_err(|problem| source.at(&problem))?;
            policy.claimable = Some(claimable);
        }
    }
    for source in &mut sources {
        let tables = std::mem::take(&mut source.file.ticket_checks);
        ticket_checks(&mut policy, tables).map_err(|problem| source.at(&problem))?;
    }
    for source in &mut sources {
        let file = &mut source.file;
        let (tables, listed) = (std::mem::take(&mut file.roles), file.duties.take().unwrap_or_default());
        duties(&mut policy, &groups, &listed)
            .and_then(|()| roles(&mut policy, &groups, tables, source.part.start))
            .map_err(|problem| source.at(&problem))?;
    }
    for source in &mut sources {
        let tables = std::mem::take(&mut source.file.sources);
        self::stating(&mut policy, tables).map_err(|problem| source.at(&problem))?;
        let tables = std::mem::take(&mut source.file.hosts);
        hosts(&mut policy, tables).map_err(|problem| source.at(&problem))?;
    }
    let verified =
        sources.iter().any(|source| source.file.break_glass.as_ref().is_some_and(|t| t.get_ref().verify_required));
    for source in &mut sources {
        if let Some(table) = source.file.break_glass.take() {
            let rules = emergency::rules(table.into_inner()).map_err(|problem| source.at(&problem))?;
            policy.emergency_rules = rules;
        }
        if let Some(table) = source.file.reviews.take() {
            policy.reviews = aftermath::reviews(table).map_err(|problem| source.at(&problem))?;
        }
        if let Some(table) = source.file.drill.take() {
            policy.drill = Some(aftermath::drill(&policy, table).map_err(|problem| source.at(&problem))?);
        }
    }
    for source in &mut sources {
        let (rules, keys) = (std::mem::take(&mut source.file.rules), std::mem::take(&mut source.file.emergency_keys));
        self::rules(&mut policy, &groups, rules, source.part.start)
            .and_then(|()| emergency::keys(&mut policy, keys, verified, source.part.start))
            .map_err(|problem| source.at(&problem))?;
    }
    Ok(policy)
}

fn sources(text: &str) -> Result<Vec<Source<'_>>, PolicyError> {
    let parse = |part: SourcePart<'_>| {
        toml::from_str(part.text)
            .map_err(|e| PolicyError::at(part.name, part.text, &e.span().unwrap_or(0..0), e.message()))
    };
    let parts = policy_bundle::split(text).into_iter();
    let sources = parts.map(|part| Ok(Source { part, file: parse(part)? })).collect::<Result<Vec<_>, _>>()?;
    included(&sources)?;
    Ok(sources)
}

/// The files are those that the first one includes, each once: it alone says what belongs to the policy.
fn included(sources: &[Source<'_>]) -> Result<(), PolicyError> {
    let Some((first, others)) = sources.split_first() else { return Ok(()) };
    let mut before = "";
    for source in others {
        if let Some(pattern) = source.file.include.first() {
            return Err(source.at(&(pattern.span(), "only the first file may include others".to_owned())));
        }
        let name = source.part.name.unwrap_or_default();
        if !first.file.include.iter().any(|pattern| pattern.get_ref().0.matches(name)) {
            return Err(source.at(&(0..0, "the first file does not include this one".to_owned())));
        }
        if before >= name {
            return Err(source.at(&(0..0, format!("it stands behind {before}; files are sorted by name"))));
        }
        before = name;
    }
    let there = |pattern: &Pattern| others.iter().any(|source| source.part.name == Some(pattern.as_str()));
    match first.file.include.iter().find(|p| !p.get_ref().0.is_wild() && !there(&p.get_ref().0)) {
        Some(missing) => Err(first.at(&(missing.span(), format!("{} is not there", missing.get_ref().0)))),
        None => Ok(()),
    }
}

impl Source<'_> {
    fn at(&self, (span, message): &Problem) -> PolicyError {
        PolicyError::at(self.part.name, self.part.text, span, message)
    }
}

/// Some tables stand in one file, so that nobody has to look for the other half.
fn once(sources: &[Source<'_>], table: &str, has: impl Fn(&File) -> bool) -> Result<(), PolicyError> {
    match sources.iter().filter(|source| has(&source.file)).nth(1) {
        None => Ok(()),
        Some(second) => {
            let header = second.part.text.find(&format!("[{table}")).unwrap_or(0);
            Err(second.at(&(header..header, format!("another file has the table {table} already"))))
        }
    }
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
        if policy.people.contains_key(&name) {
            let here = table.keys.first().map_or(0..0, Spanned::span);
            return Err((here, format!("another file has {name} already")));
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
        policy.duties.entry(duty).or_default().join(&people);
    }
    Ok(())
}

/// `start` is where the file begins in the policy's whole text.
fn roles(
    policy: &mut Policy,
    groups: &Groups,
    tables: BTreeMap<RoleName, Spanned<RoleTable>>,
    start: usize,
) -> Result<(), Problem> {
    for (name, table) in tables {
        let span = table.span();
        if policy.roles.contains_key(&name) {
            return Err((span, format!("another file has {name} already")));
        }
        let place = start + span.start;
        let mut role = role(policy, groups, table.into_inner(), span)?;
        role.place = place;
        for own in role.rules.iter_mut().filter_map(Arc::get_mut) {
            own.place = place;
        }
        policy.roles.insert(name, role);
    }
    Ok(())
}

fn role(policy: &Policy, groups: &Groups, mut table: RoleTable, span: Span) -> Result<Role, Problem> {
    let max = table.max.get_ref().0;
    let own = table.automatic.take();
    let automatic = own.as_ref().map(|own| at_most(&own.max, max, "the role's max")).transpose()?;
    if let Some(own) = own.as_ref().filter(|_| table.sensitive) {
        return Err((own.max.span(), "a sensitive role is never approved automatically".to_owned()));
    }
    let default = match &table.default {
        Some(default) => at_most(default, max, "the role's max")?,
        None => max.min(automatic.unwrap_or(max)),
    };
    let quorum = quorum(policy, groups, &table)?;
    let escalate_to = resolve(policy, groups, &table.escalate_to)?;
    if let Some(first) = table.escalate_to.first().filter(|_| !table.agree.is_empty()) {
        let message = "nobody stands in for one of several lists; name those people in a list of agree".to_owned();
        return Err((first.span(), message));
    }
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
    let (asked_first, quorum) = (everybody(&quorum), with_those_behind(quorum, &escalate_to));
    let longest_a_day = Seconds::new(LONGEST.into()).unwrap_or(max);
    Ok(Role {
        description,
        requesters: resolve(policy, groups, &table.requesters)?,
        approvers: everybody(&quorum),
        quorum,
        asked_first,
        escalate_to,
        remind_after: table.remind_after.map_or(REMIND_AFTER, |w| w.0),
        escalate_after: table.escalate_after.map_or(ESCALATE_AFTER, |w| w.0),
        conditions: conditions(policy, table.when)?,
        rules: own.map(|own| own_rule(policy, groups, &hosts, own)).transpose()?.into_iter().map(Arc::new).collect(),
        sensitive: table.sensitive,
        daily_max: table.daily_max.map(|most| at_most(&most, longest_a_day, "what can be had in a day")).transpose()?,
        extensions: unique(&table.extensions)?,
        hosts,
        principals,
        max,
        default,
        critical_options,
        verify_required: table.verify_required,
        decide_within: table.decide_within.map_or(DECIDE_WITHIN, |w| w.0),
        claim_within: table.claim_within.map_or(CLAIM_WITHIN, |w| w.0),
        place: 0,
    })
}

/// Everybody who counts for a quorum.
fn everybody(quorum: &Quorum) -> People {
    let mut all = People::default();
    quorum.parts().iter().for_each(|part| all.join(&part.of));
    all
}

/// Those who are asked later may decide as well as those who are asked first.
fn with_those_behind(quorum: Quorum, behind: &People) -> Quorum {
    let mut parts = quorum.parts().to_vec();
    for part in &mut parts {
        part.of.join(behind);
    }
    Quorum::new(parts)
}

/// Either `approvers` and `approvals`, or several lists in `agree`.
fn quorum(policy: &Policy, groups: &Groups, table: &RoleTable) -> Result<Quorum, Problem> {
    if let Some(first) = table.agree.first()
        && (!table.approvers.is_empty() || table.approvals.is_some())
    {
        return Err((first.span(), "a role has either approvers and approvals, or agree".to_owned()));
    }
    if table.agree.is_empty() {
        let (of, approvals) = (resolve(policy, groups, &table.approvers)?, count(table.approvals.as_ref())?);
        return Ok(Quorum::new(vec![Part { of, approvals }]));
    }
    let part = |part: &Spanned<PartTable>| {
        let PartTable { of, approvals } = part.get_ref();
        Ok(Part { of: resolve(policy, groups, of)?, approvals: count(approvals.as_ref())? })
    };
    table.agree.iter().map(part).collect::<Result<_, _>>().map(Quorum::new)
}

fn count(approvals: Option<&Spanned<i64>>) -> Result<u32, Problem> {
    let Some(count) = approvals else { return Ok(1) };
    let rule = "from 1 to 100 approvals are possible; for none, use automatic = { max = \"15m\" }";
    let parsed = u32::try_from(*count.get_ref()).ok().filter(|n| (1..=100).contains(n));
    parsed.ok_or_else(|| (count.span(), rule.to_owned()))
}

fn conditions(policy: &Policy, when: WhenTable) -> Result<Conditions, Problem> {
    for network in &when.from {
        let written = network.get_ref().0;
        if written.trunc() != written {
            return Err((network.span(), format!("{written} has bits behind the mask; write {}", written.trunc())));
        }
        if matches!(written, IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some()) {
            return Err((network.span(), format!("{written}: write an IPv4 network as one")));
        }
    }
    let parse = |spanned: &Spanned<HoursTable>| {
        let HoursTable { days, from, to, zone } = spanned.get_ref();
        Hours::new(days, from, to, zone).map_err(|e: Invalid| (spanned.span(), e.to_string()))
    };
    if let Some(check) = &when.ticket_check {
        if !policy.ticket_checks.contains_key(check.get_ref()) {
            return Err((check.span(), format!("there is no ticket check {}", check.get_ref())));
        }
        if when.ticket.is_none() {
            return Err((check.span(), "ticket is missing: what does a ticket look like?".to_owned()));
        }
    }
    Ok(Conditions {
        from: when.from.iter().map(|network| network.get_ref().0).collect(),
        hours: when.hours.iter().map(parse).collect::<Result<_, _>>()?,
        ticket: when.ticket.map(|written| written.0),
        ticket_check: when.ticket_check.map(Spanned::into_inner),
        facts: when.facts.into_iter().map(|written| written.0).collect(),
    })
}

/// The rule that stands in a role as `automatic`.
fn own_rule(policy: &Policy, groups: &Groups, hosts: &[HostName], table: AutomaticTable) -> Result<Rule, Problem> {
    if let Some(host) = table.hosts.iter().find(|host| !hosts.contains(host.get_ref())) {
        return Err((host.span(), format!("the role does not cover {}", host.get_ref())));
    }
    let name = AUTOMATIC.parse().map_err(|e: Invalid| (table.max.span(), e.to_string()))?;
    Ok(Rule {
        name,
        effect: Effect::Automatic { max: table.max.get_ref().0 },
        people: table.people.map(|people| resolve(policy, groups, &people)).transpose()?,
        hosts: unique(&table.hosts)?,
        conditions: conditions(policy, table.when)?,
        because: String::new(),
        place: 0,
    })
}

/// Hands each rule to the roles that it is over.
fn rules(policy: &mut Policy, groups: &Groups, tables: Vec<Spanned<RuleTable>>, start: usize) -> Result<(), Problem> {
    for table in tables {
        let span = table.span();
        let mut table = table.into_inner();
        let name = table.name.get_ref();
        if name.as_str() == AUTOMATIC || !policy.rule_names.insert(name.clone()) {
            return Err((table.name.span(), format!("there is a rule {name} already")));
        }
        let over = table.roles.take();
        if let Some(unknown) = over.iter().flatten().find(|role| !policy.roles.contains_key(role.get_ref())) {
            return Err((unknown.span(), format!("there is no role {}", unknown.get_ref())));
        }
        let rule = Arc::new(Rule { place: start + span.start, ..rule(policy, groups, table, &span)? });
        policy.rules.push(Arc::clone(&rule));
        let Some(over) = over else {
            let general = policy.roles.values_mut().filter(|role| !role.sensitive || rule.effect == Effect::Deny);
            general.for_each(|role| role.rules.push(Arc::clone(&rule)));
            continue;
        };
        for name in over {
            let Some(role) = policy.roles.get_mut(name.get_ref()) else { continue };
            rule_fits(role, &rule).map_err(|message| (name.span(), message))?;
            role.rules.push(Arc::clone(&rule));
        }
    }
    Ok(())
}

fn rule(policy: &Policy, groups: &Groups, table: RuleTable, span: &Span) -> Result<Rule, Problem> {
    let effect = match (table.effect, table.max) {
        (EffectWord::Automatic, Some(max)) => Effect::Automatic { max: max.get_ref().0 },
        (EffectWord::Automatic, None) => {
            return Err((span.clone(), "max is missing: up to which length is nobody asked?".to_owned()));
        }
        (EffectWord::Deny, Some(max)) => return Err((max.span(), "a rule that denies has no max".to_owned())),
        (EffectWord::Deny, None) => Effect::Deny,
    };
    Ok(Rule {
        name: table.name.into_inner(),
        effect,
        people: table.people.map(|people| resolve(policy, groups, &people)).transpose()?,
        hosts: unique(&table.hosts)?,
        conditions: conditions(policy, table.when)?,
        because: table.because.map(check_line).transpose()?.unwrap_or_default(),
        place: 0,
    })
}

/// Whether a rule that names a role can be meant for it.
fn rule_fits(role: &Role, rule: &Rule) -> Result<(), String> {
    match rule.effect {
        Effect::Automatic { .. } if role.sensitive => {
            Err("a sensitive role is never approved automatically".to_owned())
        }
        Effect::Automatic { max } if max > role.max => Err(format!("{max} is more than the role's max, {}", role.max)),
        _ => match rule.hosts.iter().find(|host| !role.hosts.contains(host)) {
            Some(host) => Err(format!("the role does not cover {host}")),
            None => Ok(()),
        },
    }
}

fn ticket_checks(policy: &mut Policy, tables: BTreeMap<CheckName, Spanned<TicketCheckTable>>) -> Result<(), Problem> {
    let three = Seconds::new(3).ok_or((0..0, String::new()))?;
    for (name, table) in tables {
        let span = table.span();
        let TicketCheckTable { url, expect, timeout } = table.into_inner();
        if expect.field.is_some() == expect.value.is_empty() {
            return Err((span, "expect: field and value belong together".to_owned()));
        }
        let longest = Seconds::new(10).unwrap_or(three);
        let check = TicketCheck {
            url: url.0,
            status: expect.status.unwrap_or(200),
            field: expect.field.map(|field| (field.0, expect.value)),
            assignee: expect.assignee_field.map(|field| field.0),
            timeout: timeout.map_or(Ok(three), |time| at_most(&time, longest, "what somebody may be kept waiting"))?,
        };
        if policy.ticket_checks.insert(name.clone(), check).is_some() {
            return Err((span, format!("another file has {name} already")));
        }
    }
    Ok(())
}

/// Who states facts, and which. Its secrets, where it has some, are the service's own affair.
fn stating(policy: &mut Policy, tables: BTreeMap<SourceName, Spanned<SourceTable>>) -> Result<(), Problem> {
    for (name, table) in tables {
        let span = table.span();
        let SourceTable { key, facts } = table.into_inner();
        if facts.is_empty() {
            return Err((span, "facts is empty, so it could never state anything".to_owned()));
        }
        let facts = facts.into_iter().map(|pattern| pattern.0).collect();
        let source = super::facts::Source { key: key.map(|key| key.0), facts };
        if policy.sources.insert(name.clone(), source).is_some() {
            return Err((span, format!("another file has {name} already")));
        }
    }
    Ok(())
}

/// The hosts that are believed about their connections and certified, each with its SSH host keys.
fn hosts(policy: &mut Policy, tables: BTreeMap<HostName, Spanned<HostTable>>) -> Result<(), Problem> {
    for (name, table) in tables {
        let span = table.span();
        let HostTable { keys, aliases } = table.into_inner();
        if keys.is_empty() {
            return Err((span, "keys is empty, so the host could never say anything".to_owned()));
        }
        are_names(&name, &aliases).map_err(|refusal| (span.clone(), refusal.to_string()))?;
        if policy.hosts.insert(name.clone(), Host { keys, aliases }).is_some() {
            return Err((span, format!("another file has {name} already")));
        }
    }
    Ok(())
}

fn groups(policy: &Policy) -> Groups {
    let mut groups = BTreeMap::<GroupName, BTreeSet<PersonName>>::new();
    for (name, person) in &policy.people {
        for group in &person.groups {
            groups.entry(group.clone()).or_default().insert(name.clone());
        }
    }
    groups.into_iter().map(|(group, members)| (group, Arc::new(members))).collect()
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

/// Groups and people. A name that is neither is a slip of the pen, and refused; a list that is empty means nobody.
fn resolve(policy: &Policy, groups: &Groups, list: &[Spanned<Who>]) -> Result<People, Problem> {
    let mut found = People::default();
    for who in list {
        let name = who.get_ref();
        let person = name.as_str().parse().ok().filter(|name| policy.people.contains_key(name));
        match (person, groups.get(name)) {
            (None, None) => {
                return Err((who.span(), format!("{name} is neither a person nor a group that somebody is in")));
            }
            (Some(_), Some(_)) => return Err((who.span(), format!("{name} is both a person and a group; rename one"))),
            (Some(person), None) => found.name(person),
            (None, Some(members)) => found.group(name.clone(), Arc::clone(members)),
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
    pub(super) fn at(file: Option<&str>, text: &str, span: &Span, message: &str) -> Self {
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
        Self {
            file: file.map(str::to_owned),
            line,
            field,
            message: message.lines().next().unwrap_or_default().to_owned(),
        }
    }
}
