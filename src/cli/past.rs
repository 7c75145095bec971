//! What the log tells of the requests of the past: for what looks back on them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::names::{Invalid, PersonName};
use crate::domain::policy::{Policy, Tickets};
use crate::domain::statement::{Approval, Request};
use crate::domain::time::{Patience, Seconds, Timestamp};
use crate::domain::verify::Signed;
use crate::wire::{EventView, PolicyView};

use super::person::Person;
use super::{Failure, audit};

const A_DAY: i64 = 24 * 3600;

/// How far back, in seconds: `90d`, `36h`.
pub(super) fn period(text: &str) -> Result<i64, Invalid> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok()).map(|days| i64::from(days) * A_DAY);
    let short = || text.parse::<Patience>().ok().map(Patience::seconds);
    days.or_else(short).ok_or_else(|| Invalid::new("duration", text, "write it as 90d or 36h"))
}

/// A request as the log has it.
pub(super) struct Past {
    pub(super) request: Request,
    /// When it came.
    pub(super) at: Timestamp,
    pub(super) from: Option<IpAddr>,
    pub(super) tickets: Tickets,
    /// The policy that judged it.
    pub(super) policy: Digest,
    /// Who approved it, for how long.
    pub(super) approved: Vec<(PersonName, Seconds)>,
    /// Whether the policy approved by itself.
    pub(super) automatic: bool,
    /// When people had decided: the last approval, or the denial.
    pub(super) decided: Option<Timestamp>,
    pub(super) claimed: Option<Timestamp>,
    /// Whether a host told that it was used.
    pub(super) used: bool,
    /// What became of it last.
    pub(super) became: EventKind,
}

/// What the log tells.
pub(super) struct Told {
    /// Every request, with what became of it, the oldest first.
    pub(super) requests: Vec<Past>,
    /// How many are there without their text.
    pub(super) erased: u32,
    /// Each policy that was put into force, and when, the oldest first.
    pub(super) policies: Vec<(Timestamp, Digest)>,
}

/// Reads the whole log.
pub(super) fn read(person: &mut Person<'_>) -> Result<Told, Failure> {
    let (mut past, mut erased, mut policies) = (BTreeMap::new(), 0, Vec::new());
    let size = audit::head(person)?.size;
    audit::every(person, size, |_, view| {
        let (event, view) = (audit::parse(&view.leaf)?, &view);
        if event.kind == EventKind::PolicyLoaded {
            policies.extend(event.policy.map(|policy| (event.at.second(), policy)));
        }
        let Some(id) = event.request.clone() else { return Ok(()) };
        if event.kind == EventKind::Requested {
            match asked(&event, view)? {
                Some(request) => drop(past.insert(id, request)),
                None => erased += 1,
            }
        } else if let Some(past) = past.get_mut(&id) {
            become_of(past, &event, view)?;
        }
        Ok(())
    })?;
    let mut requests: Vec<Past> = past.into_values().collect();
    requests.sort_by_key(|past| past.at);
    Ok(Told { requests, erased, policies })
}

fn asked(event: &Event, view: &EventView) -> Result<Option<Past>, Failure> {
    let (Some(text), Some(policy)) = (&view.statement, event.policy) else { return Ok(None) };
    Ok(Some(Past {
        request: Signed::try_from(text)?.claims()?,
        at: event.at.second(),
        from: event.from,
        tickets: Tickets::yes(&event.tickets),
        policy,
        approved: Vec::new(),
        automatic: false,
        decided: None,
        claimed: None,
        used: false,
        became: event.kind,
    }))
}

fn become_of(past: &mut Past, event: &Event, view: &EventView) -> Result<(), Failure> {
    let at = event.at.second();
    match event.kind {
        EventKind::Claimed => past.claimed = Some(at),
        EventKind::Used => {
            past.used = true;
            return Ok(());
        }
        EventKind::Approved => {
            past.decided = Some(at);
            if let Some(text) = &view.statement {
                let approval: Approval = Signed::try_from(text)?.claims()?;
                past.approved.push((approval.person, approval.seconds));
            }
        }
        EventKind::Denied => past.decided = Some(at),
        EventKind::ApprovedAutomatically => past.automatic = true,
        EventKind::Withdrawn | EventKind::Lapsed | EventKind::Returned | EventKind::Revoked | EventKind::Expired => {}
        _ => return Ok(()),
    }
    past.became = event.kind;
    Ok(())
}

/// Policies of the past, as the service stored them.
#[derive(Default)]
pub(super) struct Policies(BTreeMap<Digest, Option<Policy>>);

impl Policies {
    /// The policy of this digest; `None` when this program does not read it.
    pub(super) fn get(&mut self, person: &mut Person<'_>, sha256: Digest) -> Result<Option<&Policy>, Failure> {
        let policy = match self.0.entry(sha256) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(policy(person, sha256)?),
        };
        Ok(policy.as_ref())
    }
}

/// The policy of this digest, as the service stored it; `None` when this program does not read it.
pub(super) fn policy(person: &mut Person<'_>, sha256: Digest) -> Result<Option<Policy>, Failure> {
    let path = format!("/v1/policies?sha256={}", sha256.to_string().replace('+', "%2B"));
    let view: PolicyView = person.read(&path)?;
    Ok(Policy::parse(&view.text).ok().filter(|policy| policy.digest() == sha256))
}
