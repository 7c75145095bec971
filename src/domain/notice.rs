//! What people are told, and in which words. A notice is kept typed until it is delivered; then it becomes plain
//! text here, whatever the channel. Nothing is ever decided by one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::digest::Digest;
use super::names::{HostName, PersonName, Principal, RequestId, RoleName, Ticket};
use super::overuse::Overuse;
use super::policy::{DrillPlan, Terms};
use super::refusal::Refusal;
use super::statement::{BreakGlass, Category, Request};
use super::text::{Comment, Reason, visible};
use super::time::{Seconds, Timestamp};

/// So many characters of what somebody wrote are passed on.
const MOST_OF_A_TEXT: usize = 500;
/// More names than these are counted.
const MOST_NAMED: usize = 20;

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Item {
    /// News about a request.
    News(Notice),
    /// A certificate that the log does not know was used.
    Alarm(Alarm),
}

impl From<Notice> for Item {
    fn from(notice: Notice) -> Self {
        Self::News(notice)
    }
}

impl From<Alarm> for Item {
    fn from(alarm: Alarm) -> Self {
        Self::Alarm(alarm)
    }
}

impl Item {
    /// The same for another reader.
    #[must_use]
    pub fn to(&self, reader: Reader) -> Self {
        match self {
            Self::News(notice) => Self::News(notice.to(reader)),
            Self::Alarm(alarm) => Self::Alarm(alarm.clone()),
        }
    }

    /// The news, where it is about a request.
    pub fn news(&self) -> Option<&Notice> {
        if let Self::News(notice) = self { Some(notice) } else { None }
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::News(notice) => notice.at,
            Self::Alarm(alarm) => alarm.used.began,
        }
    }

    /// A stable name of what happened, for machines.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::News(notice) => notice.topic(),
            Self::Alarm(_) => "certificate.unknown",
        }
    }

    /// Where to look, at a service of this address.
    pub fn link(&self, origin: &str) -> String {
        match self {
            Self::News(notice) => notice.link(origin),
            Self::Alarm(alarm) => alarm.link(origin),
        }
    }

    /// One line made of names alone: nothing that somebody wrote freely is in it.
    pub fn subject(&self) -> String {
        match self {
            Self::News(notice) => notice.subject(),
            Self::Alarm(alarm) => alarm.subject(),
        }
    }

    /// All of it, in lines of plain text. `now` is what "in 5m" is counted from.
    pub fn text(&self, origin: &str, now: Timestamp) -> String {
        match self {
            Self::News(notice) => notice.text(origin, now),
            Self::Alarm(alarm) => alarm.text(origin, now),
        }
    }
}

/// One piece of news about a request, for one kind of reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are named in the words of the design")]
pub struct Notice {
    /// When it happened.
    pub at: Timestamp,
    pub to: Reader,
    pub request: RequestId,
    pub person: PersonName,
    pub role: RoleName,
    pub principals: Vec<Principal>,
    pub hosts: Vec<HostName>,
    pub seconds: Option<Seconds>,
    pub reason: Reason,
    pub ticket: Option<Ticket>,
    pub news: News,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// A room of many.
    Room,
    /// Somebody who may decide.
    Approver,
    /// Whoever asked.
    Requester,
    /// Somebody who closes reviews.
    Reviewer,
    /// Somebody who looks after the service.
    Officer,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum News {
    /// It waits for people.
    Requested(Waiting),
    /// It waits still.
    Reminded(Waiting),
    /// It waits still, and those who stand behind hear of it.
    Escalated(Waiting),
    /// The policy approved by itself.
    ApprovedAutomatically,
    /// A person approved.
    Approved {
        /// Who.
        by: PersonName,
        /// What they said.
        comment: Comment,
        /// So many have.
        have: u32,
        /// So many must.
        needed: u32,
        /// Once enough have: until when it can be claimed.
        claim_by: Option<Timestamp>,
    },
    /// A person refused.
    Denied {
        /// Who.
        by: PersonName,
        /// Why.
        comment: Comment,
    },
    /// Somebody with the duty ended it.
    Revoked {
        /// Who.
        by: PersonName,
        /// Why.
        why: Reason,
    },
    /// The requester took it back.
    Withdrawn,
    /// Time ended it.
    Lapsed {
        /// Whether it had been approved.
        approved: bool,
    },
    /// The glass was broken.
    BreakGlass {
        /// For what kind of emergency.
        category: Category,
        /// So often it was told before, and nobody has said that they heard.
        #[serde(default)]
        again: u32,
        /// Who joined in.
        #[serde(default)]
        second: Option<PersonName>,
        /// By how many seconds the clocks differed when somebody went on all the same.
        #[serde(default)]
        clock_off: Option<i64>,
        /// Only for practice.
        #[serde(default)]
        drill: bool,
    },
    /// Somebody tried to break the glass with a key that may not.
    BreakGlassTried {
        /// Its fingerprint.
        key: Digest,
    },
    /// The review of broken glass is overdue.
    ReviewOverdue {
        /// Since when.
        due: Timestamp,
    },
    /// Somebody breaks the glass too often.
    Overuse(Overuse),
    /// Nobody has shown in time that an emergency key works.
    DrillOverdue {
        /// When somebody last did.
        last: Option<Timestamp>,
    },
}

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// After this nobody can decide.
    pub decide_by: Timestamp,
    /// So many must approve.
    pub needed: u32,
    /// Who can.
    pub deciders: Vec<PersonName>,
}

impl Notice {
    /// About a request; `terms` are what the policy makes of it, where it still does.
    pub fn of(asked: &Request, terms: Option<&Terms>, news: News, at: Timestamp) -> Self {
        let (principals, hosts) =
            terms.map_or((&asked.principals, &asked.hosts), |terms| (&terms.principals, &terms.hosts));
        Self {
            at,
            to: Reader::Room,
            request: asked.id.clone(),
            person: asked.person.clone(),
            role: asked.role.clone(),
            principals: principals.clone(),
            hosts: hosts.clone(),
            seconds: terms.map(|terms| terms.seconds).or(asked.seconds),
            reason: asked.reason.clone(),
            ticket: asked.ticket.clone(),
            news,
        }
    }

    /// About a broken glass; `terms` are what the policy gives its key.
    pub fn of_emergency(said: &BreakGlass, terms: Option<&Terms>, at: Timestamp) -> Self {
        let (principals, hosts) =
            terms.map_or((&said.principals, &said.hosts), |terms| (&terms.principals, &terms.hosts));
        Self {
            at,
            to: Reader::Room,
            request: said.id.clone(),
            person: said.person.clone(),
            role: said.role.clone(),
            principals: principals.clone(),
            hosts: hosts.clone(),
            seconds: terms.map(|terms| terms.seconds).or(said.seconds),
            reason: said.reason.clone(),
            ticket: None,
            news: News::BreakGlass {
                category: said.category,
                again: 0,
                second: None,
                clock_off: said.clock_off,
                drill: said.drill.is_some(),
            },
        }
    }

    /// About an emergency key that nobody has shown to work in time. Fails where the policy's names make no words.
    pub fn of_overdue_drill(
        id: RequestId,
        person: &PersonName,
        plan: &DrillPlan,
        last: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            at,
            to: Reader::Room,
            request: id,
            person: person.clone(),
            role: plan.role.clone(),
            principals: Vec::new(),
            hosts: vec![plan.host.clone()],
            seconds: None,
            reason: format!("the policy has each emergency key practised every {}", plan.every).parse()?,
            ticket: None,
            news: News::DrillOverdue { last },
        })
    }

    /// The same for another reader.
    pub fn to(&self, reader: Reader) -> Self {
        Self { to: reader, ..self.clone() }
    }

    /// A stable name of what happened, for machines.
    pub fn topic(&self) -> &'static str {
        match &self.news {
            News::Requested(_) => "request.requested",
            News::Reminded(_) => "request.reminded",
            News::Escalated(_) => "request.escalated",
            News::ApprovedAutomatically => "request.approved-automatically",
            News::Approved { claim_by: Some(_), .. } => "request.approved",
            News::Approved { claim_by: None, .. } => "request.approved-in-part",
            News::Denied { .. } => "request.denied",
            News::Revoked { .. } => "request.revoked",
            News::Withdrawn => "request.withdrawn",
            News::Lapsed { .. } => "request.lapsed",
            News::BreakGlass { drill: true, .. } => "break-glass.drill",
            News::BreakGlass { again: 0, .. } => "break-glass.opened",
            News::BreakGlass { .. } => "break-glass.unheard",
            News::BreakGlassTried { .. } => "break-glass.refused",
            News::ReviewOverdue { .. } => "break-glass.review-overdue",
            News::Overuse(_) => "break-glass.overuse",
            News::DrillOverdue { .. } => "break-glass.drill-overdue",
        }
    }

    /// Where to look, at a service of this address.
    pub fn link(&self, origin: &str) -> String {
        match self.news {
            News::BreakGlass { .. } => format!("{origin}/emergencies#{}", self.request),
            News::BreakGlassTried { .. } => format!("{origin}/log"),
            News::ReviewOverdue { .. } | News::Overuse(_) | News::DrillOverdue { .. } => {
                format!("{origin}/emergencies")
            }
            _ => format!("{origin}/requests/{}", self.request),
        }
    }

    /// One line made of names alone: nothing that somebody wrote freely is in it.
    pub fn subject(&self) -> String {
        let Self { person, role, .. } = self;
        let asked = format!("{person}'s request for {role}");
        match &self.news {
            News::Requested(_) if self.to == Reader::Requester => format!("Your request for {role} waits"),
            News::Requested(_) => format!("{person} asks for {role}{}", self.on_and_for()),
            News::Reminded(_) => format!("Still waiting: {person} asks for {role}{}", self.on_and_for()),
            News::Escalated(_) => format!("Nobody has decided: {person} asks for {role}{}", self.on_and_for()),
            News::ApprovedAutomatically => {
                format!("The policy approved {role}{} for {person} by itself", self.on_and_for())
            }
            News::Approved { by, claim_by: Some(_), .. } => format!("{by} approved {asked}"),
            News::Approved { by, have, needed, .. } => format!("{by} approved {asked} ({have} of {needed})"),
            News::Denied { by, .. } => format!("{by} denied {asked}"),
            News::Revoked { by, .. } => format!("{by} revoked {role} of {person}"),
            News::Withdrawn => format!("{person} withdrew the request for {role}"),
            News::Lapsed { approved: true } => format!("{asked} lapsed: nobody started it in time"),
            News::Lapsed { approved: false } => format!("{asked} lapsed: nobody decided in time"),
            News::BreakGlass { drill: true, .. } => format!("DRILL: {person} practises on {role}{}", self.on_and_for()),
            News::BreakGlass { again: 0, .. } => format!("BREAK-GLASS: {person} opened {role}{}", self.on_and_for()),
            News::BreakGlass { .. } => {
                format!("BREAK-GLASS, nobody has heard: {person} opened {role}{}", self.on_and_for())
            }
            News::BreakGlassTried { .. } => {
                format!("BREAK-GLASS REFUSED: in {person}'s name for {role}, by a key that may not")
            }
            News::ReviewOverdue { .. } => {
                format!("Overdue: nobody has reviewed how {person} broke the glass for {role}")
            }
            News::Overuse(overuse) => format!("Too often: {overuse}"),
            News::DrillOverdue { .. } => format!("Overdue: nobody has shown that {person}'s emergency key works"),
        }
    }

    /// All of it, in lines of plain text. `now` is what "in 5m" is counted from.
    pub fn text(&self, origin: &str, now: Timestamp) -> String {
        let mut lines = vec![format!("{}.", self.subject())];
        if self.news != News::ApprovedAutomatically {
            self.body(&mut lines, now);
        }
        if let News::BreakGlass { .. } = self.news {
            lines.push(format!("To end it: ssh-jit revoke {} --reason \"...\"", self.request));
        }
        let link = self.link(origin);
        lines.push(match (&self.news, self.to) {
            (News::Requested(_) | News::Reminded(_) | News::Escalated(_), Reader::Room | Reader::Approver) => {
                format!("Decide: {link} or ssh-jit approve {}", self.request)
            }
            (News::BreakGlass { .. }, _) => {
                format!("Say that you have heard: {link} or ssh-jit ack {}", self.request)
            }
            _ => link,
        });
        lines.join("\n")
    }

    fn body(&self, lines: &mut Vec<String>, now: Timestamp) {
        if let News::BreakGlassTried { key } = &self.news {
            // What a stranger wrote is passed on to nobody.
            return lines.push(format!("Nothing was signed. The key: {key}"));
        }
        match &self.news {
            News::Approved { by, comment, .. } | News::Denied { by, comment } if !comment.as_str().is_empty() => {
                lines.push(format!("{by} said: {}", cut(comment.as_str())));
            }
            News::Revoked { by, why } => lines.push(format!("{by} said: {}", cut(why.as_str()))),
            _ => {}
        }
        if let News::BreakGlass { category, second, clock_off, .. } = &self.news {
            lines.push(format!("Category: {}", category.as_str()));
            lines.extend(second.iter().map(|second| format!("Together with: {second}")));
            lines.extend(clock_off.iter().map(|off| format!("The clocks were {off} s apart, and they went on.")));
        }
        if !self.principals.is_empty() {
            lines.push(format!("Principals: {}", listed(&self.principals)));
        }
        lines.push(format!("Reason: {}", cut(self.reason.as_str())));
        if let Some(ticket) = &self.ticket {
            lines.push(format!("Ticket: {ticket}"));
        }
        match &self.news {
            News::Requested(waiting) | News::Reminded(waiting) | News::Escalated(waiting) => {
                let Waiting { decide_by, needed, deciders } = waiting;
                lines.push(format!("Can decide: {}. It takes {needed}.", listed(deciders)));
                lines.push(format!("It lapses {} if nobody does.", when(*decide_by, now)));
            }
            News::Approved { claim_by: Some(claim_by), .. } => {
                let length = self.seconds.map(|seconds| format!(" for {seconds}")).unwrap_or_default();
                lines.push(format!("It can be started{length} until {}.", when(*claim_by, now)));
                if self.to == Reader::Requester {
                    lines.push(format!("To start it: ssh-jit login {}", self.request));
                }
            }
            News::BreakGlass { drill, .. } => {
                let end = self.seconds.map(|seconds| self.at.plus(seconds.get().into()));
                let until = end.map(|end| format!(", until {}", when(end, now))).unwrap_or_default();
                let then = if *drill { ", for practice: nothing is wrong." } else { ". Somebody else must review it." };
                lines.push(format!("It was opened {}{until}{then}", when(self.at, now)));
            }
            News::ReviewOverdue { due } => {
                lines.push(format!("The review was due {}. Until it is closed nothing is approved", when(*due, now)));
                lines.push(format!("by itself for the groups of {}.", self.person));
                lines.push(format!("Close it: ssh-jit review {}", self.request));
            }
            News::Overuse(overuse) => lines.push(format!("What would have done: {}.", overuse.instead)),
            News::DrillOverdue { last } => {
                let last = last.map_or_else(|| "never".to_owned(), |last| when(last, now));
                lines.push(format!("Last shown: {last}. To show it: ssh-jit drill run"));
            }
            _ => {}
        }
    }

    /// ` on db1, db2 for 2h`.
    fn on_and_for(&self) -> String {
        let hosts = if self.hosts.is_empty() { String::new() } else { format!(" on {}", listed(&self.hosts)) };
        let length = self.seconds.map(|seconds| format!(" for {seconds}")).unwrap_or_default();
        hosts + &length
    }
}

/// What somebody wrote, as plain text of a sensible length.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_OF_A_TEXT) {
        Some((end, _)) => visible(&text[..end]) + "…",
        None => visible(text),
    }
}

/// `db1, db2 and 14 more`.
fn listed<T: fmt::Display>(items: &[T]) -> String {
    let named = items.iter().take(MOST_NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match items.len() {
        0 => "nobody".to_owned(),
        count if count > MOST_NAMED => format!("{named} and {} more", count - MOST_NAMED),
        _ => named,
    }
}

/// `2026-11-23 10:01 UTC (in 24h)`.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    let minutes = at.since(now).abs() / 60;
    let length = match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    let relative = match at.since(now) {
        -59..=59 => "now".to_owned(),
        60.. => format!("in {length}"),
        _ => format!("{length} ago"),
    };
    format!("{} ({relative})", at.to_utc().format("%Y-%m-%d %H:%M UTC"))
}

#[cfg(test)]
mod tests;
