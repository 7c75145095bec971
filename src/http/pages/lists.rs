//! The pages that are lists: what waits, what is mine, who has access, broken glass, roles, passkeys, the log.

use askama::Template;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::{PersonName, RequestId};
use crate::domain::policy::{Duty, People, Terms};
use crate::domain::request::State;
use crate::domain::statement::Outcome;
use crate::domain::text::visible;
use crate::domain::time::Timestamp;
use crate::domain::usage::{Seen, summary};
use crate::service::{
    Caller, EmergencyInfo, Listed, PasskeyInfo, Proof, RequestInfo, RoleInfo, RoleUsage, StoredEvent, Usage,
};

use super::request::{Asked, given, story};
use super::{Frame, Pager, Proven, ROWS, ago, joined, listed, page_of, times};

/// So many rows where each holds a form, or a small table.
const LARGE_ROWS: u32 = 15;

#[derive(Template)]
#[template(path = "queue.html")]
pub(in super::super) struct Queue {
    frame: Frame,
    rows: Vec<Row>,
    waiting: u64,
    proven: Option<Proven>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "mine.html")]
pub(in super::super) struct Mine {
    frame: Frame,
    open: Vec<Row>,
    ended: Vec<Row>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "active.html")]
pub(in super::super) struct Active {
    frame: Frame,
    rows: Vec<Row>,
    pager: Pager,
}

/// A request in a list.
struct Row {
    asked: Asked,
    state: State,
    principals: String,
    progress: String,
    others: String,
}

impl Row {
    fn of(info: &RequestInfo) -> Self {
        let needed = info.terms.as_ref().map_or(0, Terms::approvals);
        Self {
            asked: Asked::of(info),
            state: info.state.clone(),
            principals: info.terms.as_ref().map(|terms| joined(&terms.principals, ", ")).unwrap_or_default(),
            progress: format!("{} of {needed}", given(info)),
            others: listed(&info.approvers),
        }
    }
}

impl Row {
    fn can_be_withdrawn(&self) -> bool {
        matches!(self.state, State::Requested { .. } | State::Approved { .. })
    }
}

fn rows(infos: &[RequestInfo]) -> Vec<Row> {
    infos.iter().map(Row::of).collect()
}

impl Queue {
    pub(in super::super) fn of(frame: Frame, queue: &Listed, proof: Option<&Proof>, page: u32) -> Self {
        let proven = proof.map(|proof| Proven::of(proof, frame.now));
        Self { frame, rows: rows(&queue.part), waiting: queue.of, proven, pager: Pager::new(page, queue.of, ROWS) }
    }
}

impl Mine {
    pub(in super::super) fn of(frame: Frame, open: &[RequestInfo], ended: &Listed, page: u32) -> Self {
        Self { frame, open: rows(open), ended: rows(&ended.part), pager: Pager::new(page, ended.of, ROWS) }
    }
}

impl Active {
    pub(in super::super) fn of(frame: Frame, active: &Listed, page: u32) -> Self {
        Self { frame, rows: rows(&active.part), pager: Pager::new(page, active.of, ROWS) }
    }
}

#[derive(Template)]
#[template(path = "emergencies.html")]
pub(in super::super) struct Emergencies {
    frame: Frame,
    rows: Vec<Emergency>,
    open: usize,
    pager: Pager,
}

/// A broken glass.
struct Emergency {
    id: RequestId,
    person: PersonName,
    role: String,
    category: String,
    reason: String,
    serial: String,
    at: Timestamp,
    revoked: bool,
    drill: bool,
    /// What the certificate was used for, where hosts say such things or one did.
    used: String,
    /// Each connection.
    uses: Vec<String>,
    alerted: bool,
    heard: Heard,
    review: Review,
}

/// Who has heard of it, as the reader sees it.
enum Heard {
    /// Nobody, and the reader does not count.
    Nobody,
    /// Nobody, and the reader can say so.
    Yours,
    /// Somebody.
    By(PersonName),
}

/// Where its review stands, as the reader sees it.
enum Review {
    /// There is none of a drill.
    None,
    /// Somebody else must close it.
    Waits { due: Timestamp, overdue: bool },
    /// The reader can close it.
    Yours { due: Timestamp, overdue: bool },
    /// It is closed.
    Done { person: PersonName, outcome: Outcome, comment: String, at: Timestamp },
}

impl Emergencies {
    /// `may_hear` says whose word counts that they have heard of it.
    pub(in super::super) fn of(
        frame: Frame,
        caller: &Caller,
        all: &[EmergencyInfo],
        may_hear: impl Fn(&EmergencyInfo) -> bool,
        page: u32,
    ) -> Self {
        let shown = page_of(all, page, LARGE_ROWS).iter();
        let rows = shown.map(|info| Emergency::of(caller, info, may_hear(info), frame.now)).collect();
        let open = all.iter().filter(|info| info.due.is_some()).count();
        Self { frame, rows, open, pager: Pager::new(page, all.len() as u64, LARGE_ROWS) }
    }
}

impl Emergency {
    fn of(caller: &Caller, info: &EmergencyInfo, may_hear: bool, now: Timestamp) -> Self {
        let said = &info.statement;
        let may_review = said.person != caller.person && caller.has_any(&[Duty::Reviewers]);
        Self {
            id: said.id.clone(),
            person: said.person.clone(),
            role: said.role.to_string(),
            category: said.category.to_string(),
            reason: visible(said.reason.as_str()),
            serial: info.serial.to_string(),
            at: info.at,
            revoked: info.revoked,
            alerted: info.alerted.is_some(),
            heard: match &info.heard {
                Some(person) => Heard::By(person.clone()),
                None if may_hear => Heard::Yours,
                None => Heard::Nobody,
            },
            drill: info.is_drill(),
            used: summary(&info.uses, now),
            uses: info.uses.iter().map(connection).collect(),
            review: match (&info.review, info.due) {
                (Some(review), _) => Review::Done {
                    person: review.person.clone(),
                    outcome: review.outcome,
                    comment: visible(review.comment.as_str()),
                    at: review.at,
                },
                (None, Some(due)) if may_review => Review::Yours { due, overdue: due <= now },
                (None, Some(due)) => Review::Waits { due, overdue: due <= now },
                (None, None) => Review::None,
            },
        }
    }
}

/// `db1 as postgres from 192.0.2.7`
fn connection(seen: &Seen) -> String {
    format!("{} as {} from {}", seen.host, visible(&seen.account), visible(&seen.source))
}

#[derive(Template)]
#[template(path = "roles.html")]
pub(in super::super) struct Roles {
    frame: Frame,
    rows: Vec<Role>,
    pager: Pager,
}

/// A role of the catalogue.
struct Role {
    name: String,
    description: String,
    gives: String,
    lengths: String,
    conditions: String,
    rules: Vec<String>,
    requesters: String,
    approvers: String,
    used: String,
    may_request: bool,
}

impl Roles {
    pub(in super::super) fn of(frame: Frame, roles: &[RoleInfo], usage: &Usage, page: u32) -> Self {
        let row = |info: &RoleInfo| Role::of(info, &usage.of(&info.name), frame.now);
        let rows = page_of(roles, page, LARGE_ROWS).iter().map(row).collect();
        Self { frame, rows, pager: Pager::new(page, roles.len() as u64, LARGE_ROWS) }
    }
}

impl Role {
    fn of(info: &RoleInfo, usage: &RoleUsage, now: Timestamp) -> Self {
        let (role, names) = (&info.role, |people: &People| listed(&people.all().into_iter().collect::<Vec<_>>()));
        let hosts = if role.hosts.is_empty() { String::new() } else { format!(" on {}", listed(&role.hosts)) };
        let approvers = match (role.quorum.parts(), role.approvers.all().len()) {
            ([one], 2) if one.approvals == 2 => format!("both {}", names(&role.approvers)),
            ([one], _) if one.approvals == 1 => format!("one of {}", names(&role.approvers)),
            ([one], _) => format!("{} of {}", one.approvals, names(&role.approvers)),
            _ => role.quorum.to_string(),
        };
        let daily = role.daily_max.map(|most| format!("; {most} a day for each person")).unwrap_or_default();
        Self {
            name: info.name.to_string(),
            description: visible(&role.description),
            gives: format!("{}{hosts}", listed(&role.principals)),
            lengths: format!("{} unless said otherwise, {} at most{daily}", role.default, role.max),
            conditions: joined(&role.conditions.listed(), "; "),
            rules: role.rules.iter().map(|rule| visible(&rule.to_string())).collect(),
            requesters: names(&role.requesters),
            approvers,
            used: used(usage, now),
            may_request: info.may_request,
        }
    }
}

fn used(usage: &RoleUsage, now: Timestamp) -> String {
    let Some(last) = usage.last else { return "never in 90 days".to_owned() };
    let most = usage.people.iter().take(3).map(|(person, count)| format!("{person} {}", times(*count)));
    let more = if usage.people.len() > 3 { format!(" and {} more", usage.people.len() - 3) } else { String::new() };
    let most = joined(&most.collect::<Vec<_>>(), ", ");
    format!("{} in 90 days, last {}: {most}{more}", times(usage.count()), ago(last, now))
}

#[derive(Template)]
#[template(path = "passkeys.html")]
pub(in super::super) struct Passkeys {
    frame: Frame,
    rows: Vec<Passkey>,
}

struct Passkey {
    fingerprint: Digest,
    at: Timestamp,
    until: Timestamp,
}

impl Passkeys {
    pub(in super::super) fn of(frame: Frame, mine: &[PasskeyInfo]) -> Self {
        let row = |info: &PasskeyInfo| {
            let said = info.enrolled.get();
            Passkey { fingerprint: said.key.fingerprint(), at: said.at, until: said.until }
        };
        Self { frame, rows: mine.iter().map(row).collect() }
    }
}

#[derive(Template)]
#[template(path = "log.html")]
pub(in super::super) struct Log {
    frame: Frame,
    rows: Vec<Entry>,
    older: Option<u64>,
}

/// An event of the log.
struct Entry {
    seq: u64,
    at: Timestamp,
    words: String,
    request: Option<RequestId>,
}

impl Log {
    /// The newest first; `older` is the number of the next one below.
    pub(in super::super) fn of(frame: Frame, events: &[StoredEvent], older: Option<u64>) -> Self {
        let parsed = events.iter().rev().filter_map(|stored| serde_json::from_slice::<Event>(&stored.leaf).ok());
        let row = |event: Event| Entry {
            seq: event.seq,
            at: event.at.second(),
            words: story(&event),
            request: event.request.filter(|_| !of_emergency(event.kind)),
        };
        Self { frame, rows: parsed.map(row).collect(), older }
    }
}

/// The id that such an event names is a broken glass's, and no request has it.
fn of_emergency(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::BreakGlass
            | EventKind::BreakGlassRefused
            | EventKind::Alerted
            | EventKind::Unalerted
            | EventKind::Acknowledged
            | EventKind::Reviewed
            | EventKind::ReviewOverdue
            | EventKind::BreakGlassOveruse
            | EventKind::Drilled
    )
}
