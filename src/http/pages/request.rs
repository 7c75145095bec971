//! The request page: everything that an approver needs in ten seconds, and the whole of it on demand.

use std::net::IpAddr;

use askama::Template;

use crate::domain::event::{Event, EventKind};
use crate::domain::names::{HostName, PersonName, Principal, RequestId, Ticket};
use crate::domain::policy::{Duty, Terms};
use crate::domain::request::State;
use crate::domain::statement::{Approval, Decision, Revocation};
use crate::domain::text::visible;
use crate::domain::time::{Patience, Seconds, Timestamp};
use crate::domain::usage;
use crate::service::{Ahead, Caller, Extended, FactInfo, History, Listed, RequestInfo, RoleUsage};

use super::{Frame, ago, joined, listed, times};

/// More hosts than these are counted, not named, in the sentence that says what is asked for.
const MOST_NAMED: usize = 5;
/// So many characters of a reason stand in a list.
const MOST_OF_A_REASON: usize = 160;
/// More signs than these nobody reads.
const MOST_SIGNS: usize = 5;

#[derive(Template)]
#[template(path = "request.html")]
pub(in super::super) struct Request {
    pub(super) frame: Frame,
    pub(super) asked: Asked,
    state: State,
    /// When it can be claimed at the latest, where a start was asked for.
    latest: Option<Timestamp>,
    extends: Option<Extended>,
    /// How long access lasts with everything that it extends, if it begins now.
    total: Option<String>,
    extended_by: Vec<RequestId>,
    /// How long an approval can wait to be claimed, in seconds.
    claim_within: Option<i64>,
    signs: Vec<Sign>,
    facts: Vec<(String, Timestamp)>,
    /// How many approvals are there of those that are needed, and of whom.
    given: u32,
    needed: u32,
    needs: String,
    /// Why it cannot be had as things are.
    hindrance: Option<String>,
    /// Which review must be closed before nobody is asked.
    overdue: Option<String>,
    /// The rule by which the policy approved.
    by: Option<String>,
    /// Who else can decide; empty when nobody can.
    others: String,
    /// What hosts say it was used for.
    used: Option<String>,
    stand: Stand,
    /// Whether the reader has the duty to end it, and it is not over.
    may_revoke: bool,
    form: Option<Form>,
    /// Who is told if nobody decides, and when.
    ahead: Vec<(String, Timestamp)>,
    granted: Option<Granted>,
    decisions: Vec<Decided>,
    /// Who revoked it and why.
    revoked: Option<Decided>,
    next: Option<RequestId>,
    waiting: u64,
    certificate: Vec<(&'static str, String)>,
    statement: String,
    story: Vec<(Timestamp, String)>,
}

/// A request in words.
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) person: PersonName,
    pub(super) role: String,
    pub(super) hosts: String,
    pub(super) reason: String,
    pub(super) ticket: Option<Ticket>,
    pub(super) from: Option<IpAddr>,
    pub(super) length: Option<String>,
    pub(super) start: Option<Timestamp>,
    pub(super) at: Timestamp,
}

/// What the reader is to this request.
enum Stand {
    /// They asked.
    Requester,
    /// They may decide and have not.
    Approver,
    /// They may decide and have.
    Decided,
    /// They see it for another reason.
    Reader,
}

/// `again to carol and dan`
fn told(step: &Ahead) -> String {
    format!("{}to {}", if step.again { "again " } else { "" }, listed(&step.people))
}

/// One line of comparison: a mark, a word for those who cannot see marks, and the fact.
struct Sign {
    mark: char,
    text: String,
}

/// What can be chosen, and what the script compares a statement with before it is signed.
struct Form {
    shown: String,
    lengths: Vec<(u32, String)>,
    hosts: Vec<HostName>,
}

/// What the approvals leave, the least of them all.
struct Granted {
    seconds: Seconds,
    principals: Vec<Principal>,
    narrowed: bool,
}

struct Decided {
    person: PersonName,
    words: String,
    comment: String,
    at: Timestamp,
}

impl Asked {
    pub(super) fn of(info: &RequestInfo) -> Self {
        let asked = &info.request;
        let hosts = info.terms.as_ref().map_or(&asked.hosts, |terms| &terms.hosts);
        Self {
            id: asked.id.clone(),
            person: asked.person.clone(),
            role: asked.role.to_string(),
            hosts: match hosts.len() {
                0 => String::new(),
                1..=MOST_NAMED => listed(hosts),
                many => format!("{many} hosts"),
            },
            reason: visible(asked.reason.as_str()),
            ticket: asked.ticket.clone(),
            from: info.peer,
            length: info.terms.as_ref().map(|terms| terms.seconds).or(asked.seconds).map(|s| s.to_string()),
            start: asked.start,
            at: asked.at,
        }
    }
}

impl Asked {
    /// The reason, or as much of it as a list has room for.
    pub(super) fn brief(&self) -> String {
        match self.reason.char_indices().nth(MOST_OF_A_REASON) {
            Some((end, _)) => format!("{}…", &self.reason[..end]),
            None => self.reason.clone(),
        }
    }
}

impl Request {
    pub(in super::super) fn of(
        frame: Frame,
        caller: &Caller,
        info: &RequestInfo,
        events: &[Event],
        usual: (&History, &RoleUsage),
        queue: &Listed,
    ) -> Self {
        let stand = Stand::of(caller, info);
        let form = matches!(stand, Stand::Approver).then(|| Form::of(info)).flatten();
        let next = queue.part.iter().map(|other| &other.request.id).find(|id| **id != info.request.id).cloned();
        let others = info.approvers.iter().filter(|name| **name != caller.person && info.waits_for(name));
        let others: Vec<&PersonName> = others.collect();
        let (granted, now) = (Granted::of(info), frame.now);
        Self {
            frame: frame.following(&info.request.id),
            asked: Asked::of(info),
            state: info.state.clone(),
            latest: info.request.start.zip(info.claim_within).map(|(start, within)| start.plus(within.seconds())),
            extends: info.extended.clone(),
            total: total(info, now),
            extended_by: info.extended_by.clone(),
            claim_within: info.claim_within.map(Patience::seconds),
            signs: signs(info, usual),
            facts: info.facts.iter().map(|info| (fact(info), info.fact.until)).collect(),
            given: given(info),
            needed: info.terms.as_ref().map_or(0, Terms::approvals),
            needs: info.terms.as_ref().map(|terms| terms.quorum.to_string()).unwrap_or_default(),
            hindrance: info.hindrance.as_ref().map(|hindrance| visible(&hindrance.to_string())),
            overdue: info.overdue.as_ref().map(ToString::to_string),
            by: by_itself(events),
            used: info.uses.as_ref().map(|uses| usage::summary(uses, now)),
            others: if others.is_empty() { String::new() } else { listed(&others) },
            stand,
            // Who can deny it has a word for that already.
            may_revoke: caller.has_any(&[Duty::Revokers]) && !info.state.is_final() && form.is_none(),
            form,
            ahead: info.ahead.iter().map(|step| (told(step), step.at)).collect(),
            decisions: info.decisions.iter().map(Decided::of).collect(),
            revoked: info.revocation.as_ref().map(Decided::revoked),
            next,
            waiting: queue.of,
            certificate: certificate(info, granted.as_ref()),
            granted,
            statement: visible(&String::from_utf8_lossy(info.signed.bytes())),
            story: events.iter().map(|event| (event.at.second(), story(event))).collect(),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Requested { .. })
    }

    /// `asks`, or `asked` once nobody can decide any more.
    fn verb(&self) -> &'static str {
        if self.is_open() { "asks" } else { "asked" }
    }

    /// What the certificate, if there is one, has to do with what was asked for.
    fn holds(&self) -> &'static str {
        match self.state {
            State::Requested { .. } => "would hold",
            State::Approved { .. } => "will hold",
            State::Denied | State::Withdrawn | State::Lapsed { .. } | State::Revoked { serial: None } => {
                "would have held"
            }
            State::Active { .. } | State::Expired { .. } | State::Returned { .. } | State::Revoked { .. } => "holds",
        }
    }

    /// Whether something may come of it yet.
    fn may_be_had(&self) -> bool {
        matches!(self.state, State::Requested { .. } | State::Approved { .. })
    }

    fn approved_by(&self) -> String {
        listed(&self.decisions.iter().map(|decision| &decision.person).collect::<Vec<_>>())
    }
}

impl Stand {
    fn of(caller: &Caller, info: &RequestInfo) -> Self {
        if info.request.person == caller.person {
            Self::Requester
        } else if info.waits_for(&caller.person) {
            Self::Approver
        } else if info.decisions.iter().any(|decision| decision.person == caller.person) {
            Self::Decided
        } else {
            Self::Reader
        }
    }
}

impl Sign {
    fn new(mark: char, text: impl Into<String>) -> Self {
        Self { mark, text: text.into() }
    }

    fn word(&self) -> &'static str {
        match self.mark {
            '+' => "more than usual:",
            '!' => "mind:",
            _ => "as usual:",
        }
    }
}

impl Form {
    fn of(info: &RequestInfo) -> Option<Self> {
        let terms = info.terms.as_ref()?;
        let shown = serde_json::json!({
            "id": info.request.id, "request": info.signed.digest(), "requester": info.request.person,
            "role": info.request.role, "key": info.request.key.fingerprint(), "seconds": terms.seconds,
            "hosts": terms.hosts, "principals": terms.principals, "start": info.request.start,
            "extensions": info.extensions, "critical_options": info.critical_options, "policy": info.policy,
            "claim_within": info.claim_within.map(Patience::seconds),
        });
        let hosts = if terms.hosts.len() > 1 { terms.hosts.clone() } else { Vec::new() };
        Some(Self { shown: shown.to_string(), lengths: lengths(terms.seconds), hosts })
    }
}

/// Lengths that an approver may want instead: the usual ones below what was asked, and that itself.
fn lengths(asked: Seconds) -> Vec<(u32, String)> {
    let usual = [300, 900, 1800, 3600, 7200, 14400].into_iter().filter_map(Seconds::new).filter(|s| *s < asked);
    usual.chain([asked]).map(|s| (s.get(), s.to_string())).collect()
}

impl Granted {
    fn words(&self) -> String {
        let less = if self.narrowed { ", less than was asked" } else { "" };
        format!("{} for {}{less}", self.seconds, listed(&self.principals))
    }

    fn of(info: &RequestInfo) -> Option<Self> {
        let terms = info.terms.as_ref()?;
        let approvals = || info.decisions.iter().filter(|decision| decision.decision == Decision::Approve);
        let seconds =
            approvals().map(|approval| approval.seconds).min().map_or(terms.seconds, |s| s.min(terms.seconds));
        let mut principals = terms.principals.clone();
        principals.retain(|principal| approvals().all(|approval| approval.principals.contains(principal)));
        let narrowed = seconds < terms.seconds || principals.len() < terms.principals.len();
        Some(Self { seconds, principals, narrowed })
    }
}

impl Decided {
    fn of(decision: &Approval) -> Self {
        let words = match decision.decision {
            Decision::Approve => format!("approved {} for {}", decision.seconds, listed(&decision.principals)),
            Decision::Deny => "denied it".to_owned(),
        };
        Self { person: decision.person.clone(), words, comment: visible(decision.comment.as_str()), at: decision.at }
    }
}

impl Decided {
    fn revoked(said: &Revocation) -> Self {
        Self { person: said.person.clone(), words: String::new(), comment: visible(said.reason.as_str()), at: said.at }
    }
}

/// The request beside what this person and this role usually see: what is unusual first.
fn signs(info: &RequestInfo, (history, usage): (&History, &RoleUsage)) -> Vec<Sign> {
    let (role, asked) = (&info.request.role, info.terms.as_ref());
    let (mut unusual, mut usual) = (Vec::new(), Vec::new());
    match history.last {
        None => unusual.push(Sign::new('+', format!("first time for {role} in 90 days"))),
        Some(last) => {
            let text = format!("{} in 90 days, last {}", times(history.count as u64), ago(last, info.request.at));
            usual.push(Sign::new('=', format!("asked for {role} {text}")));
            unusual.extend(new_hosts(asked, &history.new_hosts));
        }
    }
    if let (Some(before), Some(terms)) = (history.usual, asked)
        && terms.seconds > before
    {
        unusual.push(Sign::new('+', format!("longer than usual, which is {before}")));
    }
    if history.reason_repeats {
        unusual.push(Sign::new('!', "the same reason as last time"));
    }
    unusual.extend(odd_hour(info.request.at, history.hours));
    let others = usage.people.iter().filter(|(person, _)| *person != info.request.person);
    let (people, uses) = others.fold((0, 0), |(people, uses), (_, count)| (people + 1, uses + count));
    usual.push(match people {
        0 => Sign::new('=', format!("nobody else asked for {role} in 90 days")),
        1 => Sign::new('=', format!("one other asked for {role} {} in 90 days", times(uses))),
        _ => Sign::new('=', format!("{people} others asked for {role} {} in 90 days", times(uses))),
    });
    unusual.into_iter().chain(usual).take(MOST_SIGNS).collect()
}

/// `on call (dba:primary): alice`, `incident:INC-7: open`
fn fact(info: &FactInfo) -> String {
    match info.name.as_str().strip_prefix("oncall:") {
        Some(duty) => format!("on call ({duty}): {}", info.fact.value),
        None => format!("{}: {}", info.name, info.fact.value),
    }
}

fn new_hosts(terms: Option<&Terms>, new: &[HostName]) -> Option<Sign> {
    let all = terms.map_or(0, |terms| terms.hosts.len());
    let names = if new.len() > MOST_NAMED { format!("{} of {all} hosts", new.len()) } else { listed(new) };
    (!new.is_empty()).then(|| Sign::new('+', format!("{names}: never before")))
}

/// Whose zone a person lives in is not known, so hours are UTC, and said to be.
fn odd_hour(at: Timestamp, hours: Option<(u32, u32)>) -> Option<Sign> {
    let (first, last) = hours?;
    let utc = at.to_utc();
    let hour = utc.format("%H").to_string().parse::<u32>().ok()?;
    let text = || format!("at {} UTC; usually from {first:02} to {:02} h", utc.format("%H:%M"), last + 1);
    (hour + 1 < first || hour > last + 1).then(|| Sign::new('!', text()))
}

fn total(info: &RequestInfo, now: Timestamp) -> Option<String> {
    let (extended, terms) = (info.extended.as_ref()?, info.terms.as_ref()?);
    let seconds = now.since(extended.first).max(0) + i64::from(terms.seconds.get());
    Some(format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60))
}

fn certificate(info: &RequestInfo, granted: Option<&Granted>) -> Vec<(&'static str, String)> {
    let options: Vec<String> =
        info.critical_options.iter().map(|(name, value)| format!("{name}={}", visible(value))).collect();
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    vec![
        ("principals", or_none(granted.map(|granted| joined(&granted.principals, " ")).unwrap_or_default())),
        ("for", or_none(granted.map(|granted| granted.seconds.to_string()).unwrap_or_default())),
        ("key", info.request.key.fingerprint().to_string()),
        ("permits", or_none(joined(&info.extensions, " "))),
        ("restricts", or_none(options.join(" "))),
        ("key id", format!("ssh-jit/{}/{}/{}/...", info.request.id, info.request.person, info.request.role)),
        ("policy", info.policy.to_string()),
    ]
}

/// An event in a sentence.
/// How many approvals the people give who approved: each of them one, for a list that they stand in.
pub(super) fn given(info: &RequestInfo) -> u32 {
    let approved = info.decisions.iter().filter(|decision| decision.decision == Decision::Approve);
    let people: Vec<PersonName> = approved.map(|decision| decision.person.clone()).collect();
    info.terms.as_ref().map_or(0, |terms| terms.quorum.given_by(&people))
}

/// The rule by which the policy approved, if it did.
fn by_itself(events: &[Event]) -> Option<String> {
    let approved = events.iter().find(|event| event.kind == EventKind::ApprovedAutomatically)?;
    approved.detail.as_ref().map(|rule| visible(rule))
}

pub(super) fn story(event: &Event) -> String {
    let who = event.person.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
    let role = event.role.as_ref().map(|role| format!(" {role}")).unwrap_or_default();
    let serial = event.serial.map(|serial| format!(", serial {serial}")).unwrap_or_default();
    let from = event.from.map(|from| format!(" from {from}")).unwrap_or_default();
    let detail = visible(event.detail.as_deref().unwrap_or_default());
    match event.kind {
        EventKind::ServiceStarted => format!("the service started, version {detail}"),
        EventKind::JournalBegun => format!("break-glass journal {detail} was begun"),
        EventKind::PolicyLoaded => {
            let digest = event.policy.map(|policy| policy.to_string()).unwrap_or_default();
            format!("the policy {digest} came into force")
        }
        EventKind::TrustChanged => format!("trust document {detail}"),
        EventKind::SessionOpened => format!("{who} signed in to read"),
        EventKind::PasskeyEnrolled => format!("{who} enrolled a passkey"),
        EventKind::PasskeyRemoved => format!("{who} removed a passkey"),
        EventKind::Requested => format!("{who} asked for{role}{from}"),
        EventKind::ApprovedAutomatically => format!("the policy approved{role} for {who} by its rule {detail}"),
        EventKind::Approved => format!("{who} approved{role}"),
        EventKind::Denied => format!("{who} denied{role}"),
        EventKind::Reminded => format!("those who can decide on{role} for {who} were reminded"),
        EventKind::Escalated => format!("those behind them were told that {who} waits for{role}"),
        EventKind::Undelivered => format!("the channel {detail} could not tell of{role} for {who}"),
        EventKind::Withdrawn => format!("{who} withdrew the request for{role}"),
        EventKind::Lapsed => format!("the request of {who} for{role} lapsed"),
        EventKind::Claimed => format!("{who} claimed{role}{from}: a certificate{serial}"),
        EventKind::Returned => format!("{who} gave{role} back{serial}"),
        EventKind::Used => format!("the certificate opened {detail}{from}{serial}"),
        EventKind::UnknownCertificate => {
            format!("ALARM: a certificate that is not in this log opened {detail}{from}{serial}")
        }
        EventKind::HostEnrolled => format!("the host {detail} redeemed the invitation of {who}"),
        EventKind::HostCertified => format!("the host {detail} was certified{serial}"),
        EventKind::HostRemoved => format!("{who} had the host {detail} certified no more"),
        EventKind::FactsStated => format!("{detail}: facts were stated"),
        EventKind::Revoked if !detail.is_empty() => {
            format!("the access of {who} to{role} ended with the {detail}{serial}")
        }
        EventKind::Revoked => format!("{who} revoked{role}{serial}"),
        EventKind::Expired => format!("the access of {who} to{role} ran out{serial}"),
        EventKind::Refused => format!("refused to {who}: {detail}"),
        EventKind::BreakGlass if !detail.is_empty() => format!("{detail}: {who} practised on{role}{serial}"),
        EventKind::BreakGlass => format!("{who} broke the glass for{role}{serial}"),
        EventKind::BreakGlassRefused => format!("breaking the glass was refused to {who}: {detail}"),
        EventKind::Alerted => format!("people were told by {detail} that {who} broke the glass for{role}"),
        EventKind::Unalerted => format!("the channel {detail} could not tell that {who} broke the glass for{role}"),
        EventKind::Acknowledged => format!("{who} has heard of the broken glass of{role}"),
        EventKind::Reviewed => format!("{who} reviewed the broken glass of{role}: {detail}"),
        EventKind::ReviewOverdue => format!("nobody has reviewed in time how {who} broke the glass for{role}"),
        EventKind::BreakGlassOveruse => format!("too often: {detail}"),
        EventKind::Drilled => format!("{who} reported a drill on{role}, which {detail}"),
        EventKind::DrillOverdue => format!("nobody has shown in time that the emergency key {detail} of {who} works"),
    }
}
