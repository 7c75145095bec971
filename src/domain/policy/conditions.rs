//! Under which conditions something holds: from where, when, with which ticket, while which facts are so. What is
//! not known does not hold.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use chrono::{Datelike as _, NaiveDate, NaiveTime, Timelike as _, Weekday};
use chrono_tz::Tz;
use ipnet::IpNet;
use regex_lite::Regex;

use super::aftermath::Overdue;
use super::decide::Asked;
use super::ticket::{TicketAnswer, Tickets};
use crate::domain::digest::Digest;
use crate::domain::facts::Facts;
use crate::domain::names::{CheckName, FactName, FactValue, Invalid};
use crate::domain::time::Timestamp;

/// What the service knows beside the request, when something is decided.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Where the request, or the claim, comes from; `None` when that is not known.
    pub from: Option<IpAddr>,
    /// What was stated from outside.
    pub facts: &'a Facts,
    /// What the ticket checks say.
    pub tickets: &'a Tickets,
    /// For how many seconds of the last 24 hours the person was given the role already.
    pub held: u64,
    /// A review that is overdue in the person's team: while there is one, nothing is approved without asking.
    pub overdue: Option<&'a Overdue>,
}

/// What must be so. Without a condition it always is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// The networks to come from; any when empty.
    pub from: Vec<IpNet>,
    /// The hours, one of which it must be; any when empty.
    pub hours: Vec<Hours>,
    /// What the ticket looks like that must be given.
    pub ticket: Option<TicketPattern>,
    /// Where that ticket is looked up.
    pub ticket_check: Option<CheckName>,
    /// What must have been stated.
    pub facts: Vec<FactPattern>,
}

/// A condition that does not hold, or one as the policy states it, said so that it can be mended.
#[derive(Debug, Clone, Copy)]
enum Unmet<'c> {
    From(&'c [IpNet]),
    Hours(&'c [Hours]),
    Ticket(&'c TicketPattern),
    /// What is wrong with the ticket that was given.
    Checked(&'c str),
    /// Nobody knows whether anything is.
    Unchecked,
    Fact(&'c FactPattern, Option<&'c Asked<'c>>),
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(networks) => write!(f, "from {}", joined(networks, " or ")),
            Self::Hours(hours) => f.write_str(&joined(hours, " or ")),
            Self::Ticket(pattern) => write!(f, "with a ticket like {pattern}"),
            Self::Checked(words) => write!(f, "with a ticket that is good: {words}"),
            Self::Unchecked => f.write_str("with a ticket that is good: the ticket could not be checked; try again"),
            Self::Fact(pattern, Some(asked)) => write!(f, "while {}", pattern.filled(asked)),
            Self::Fact(pattern, None) => write!(f, "while {pattern}"),
        }
    }
}

impl Conditions {
    /// Whether all of this holds for a request at a moment.
    pub fn hold(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> bool {
        self.each_unmet(asked, at, around).next().is_none()
    }

    /// What of this does not hold, in words; nothing when all of it does.
    pub fn unmet(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> Vec<String> {
        self.each_unmet(asked, at, around).map(|unmet| unmet.to_string()).collect()
    }

    fn each_unmet<'c>(
        &'c self,
        asked: &'c Asked<'c>,
        at: Timestamp,
        around: &'c Circumstances<'c>,
    ) -> impl Iterator<Item = Unmet<'c>> {
        // ::ffff:10.0.0.1 is 10.0.0.1, whichever way the listener shows it.
        let inside = |from: IpAddr| self.from.iter().any(|network| network.contains(&from.to_canonical()));
        let from = !self.from.is_empty() && !around.from.is_some_and(inside);
        let hours = move || !self.hours.is_empty() && !self.hours.iter().any(|hours| hours.hold(at));
        let facts = self.facts.iter().filter(move |pattern| pattern.until(asked, at, around.facts).is_none());
        // What costs more to look at comes later.
        let ticket = self.ticket.iter().filter(move |_| !self.ticket_fits(asked)).map(Unmet::Ticket);
        let checked = self.check(asked).into_iter().filter_map(|check| match around.tickets.of(check) {
            TicketAnswer::Valid => None,
            TicketAnswer::Not(words) => Some(Unmet::Checked(words)),
            TicketAnswer::Unknown => Some(Unmet::Unchecked),
        });
        from.then_some(Unmet::From(&self.from))
            .into_iter()
            .chain(std::iter::once_with(move || hours().then_some(Unmet::Hours(&self.hours))).flatten())
            .chain(ticket)
            .chain(checked)
            .chain(facts.map(|pattern| Unmet::Fact(pattern, Some(asked))))
    }

    /// Each condition in words.
    pub fn listed(&self) -> Vec<String> {
        let from = (!self.from.is_empty()).then(|| Unmet::From(&self.from));
        let hours = (!self.hours.is_empty()).then(|| Unmet::Hours(&self.hours));
        let ticket = self.ticket.as_ref().map(Unmet::Ticket);
        let facts = self.facts.iter().map(|fact| Unmet::Fact(fact, None));
        let words = from.into_iter().chain(hours).chain(ticket).chain(facts).map(|condition| condition.to_string());
        words.chain(self.ticket_check.iter().map(|check| format!("after asking {check} for the ticket"))).collect()
    }

    /// The moment when the first of the facts ends that this asks for; `None` when it asks for none.
    pub fn end(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> Option<Timestamp> {
        self.facts.iter().filter_map(|pattern| pattern.until(asked, at, around.facts)).min()
    }

    fn ticket_fits(&self, asked: &Asked<'_>) -> bool {
        self.ticket.as_ref().is_none_or(|pattern| asked.ticket.is_some_and(|ticket| pattern.fits(ticket.as_str())))
    }

    /// The check to ask, where there is a ticket that is worth it.
    pub fn check(&self, asked: &Asked<'_>) -> Option<&CheckName> {
        self.ticket_check.as_ref().filter(|_| self.ticket_fits(asked))
    }

    /// The names of the facts that this asks for.
    pub fn names<'c>(&'c self, asked: &'c Asked<'_>) -> impl Iterator<Item = FactName> + 'c {
        self.facts.iter().filter_map(|pattern| pattern.name(asked))
    }

    /// The facts that this hangs on, where all of it holds, and the messages that stated them.
    pub fn hangs_on(&self, asked: &Asked<'_>, at: Timestamp, around: &Circumstances<'_>) -> BTreeMap<FactName, Digest> {
        let named = self.names(asked);
        named.filter_map(|name| around.facts.at(&name, at).map(|fact| (name.clone(), fact.message))).collect()
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.from.is_empty()
            && self.hours.is_empty()
            && self.ticket.is_none()
            && self.ticket_check.is_none()
            && self.facts.is_empty()
    }

    /// Whether these hold wherever `other` do, as far as that can be told from how they are written.
    pub(in crate::domain) fn cover(&self, other: &Self) -> bool {
        let within = |inner: &IpNet| self.from.iter().any(|outer| outer.contains(inner));
        let from = self.from.is_empty() || !other.from.is_empty() && other.from.iter().all(within);
        let known = |hours: &Hours| self.hours.contains(hours);
        let hours = self.hours.is_empty() || !other.hours.is_empty() && other.hours.iter().all(known);
        let ticket = self.ticket.is_none() || self.ticket == other.ticket;
        let check = self.ticket_check.is_none() || self.ticket_check == other.ticket_check;
        from && hours && ticket && check && self.facts.iter().all(|fact| other.facts.contains(fact))
    }

    /// Whether the two have hours that never come together. Looks through a year, in which each clock is changed.
    pub(in crate::domain) fn never_meet(&self, other: &Self) -> bool {
        let meet = |ours: &[Hours], theirs: &[Hours]| {
            ours.iter().flat_map(Hours::begins).any(|begin| theirs.iter().any(|hours| hours.hold(begin)))
        };
        let both = !self.hours.is_empty() && !other.hours.is_empty();
        both && !meet(&self.hours, &other.hours) && !meet(&other.hours, &self.hours)
    }
}

fn joined<T: fmt::Display>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// Some hours of some days, by the clocks of a zone. An instant has one local time, also where clocks are set
/// back or forward: an hour that comes twice counts twice, one that is left out does not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    days: Vec<Weekday>,
    /// Minutes after midnight; `to` may lie before `from`, and is then on the next day.
    from: u32,
    to: u32,
    zone: Tz,
}

const MIDNIGHT: u32 = 24 * 60;

impl Hours {
    /// From what the policy file says. Days are `mon` or `mon-fri`, times `08:00`, the zone is one of IANA's.
    pub fn new(days: &[String], from: &str, to: &str, zone: &str) -> Result<Self, Invalid> {
        let parsed = days.iter().map(|days| span_of_days(days)).collect::<Result<Vec<_>, _>>()?.concat();
        let (from, to) = (minutes(from)?, minutes(to)?);
        if parsed.is_empty() {
            return Err(Invalid::new("days", "", "name at least one, as in [\"mon-fri\"]"));
        }
        if from == to || from == MIDNIGHT {
            return Err(Invalid::new(
                "hours",
                &shown(from),
                "to must be another time than from; a whole day is 00:00 to 24:00",
            ));
        }
        let zone = zone
            .parse()
            .map_err(|_| Invalid::new("zone", zone, "use a name of IANA's, such as Europe/Berlin or UTC"))?;
        Ok(Self { days: parsed, from, to, zone })
    }

    /// Whether it is one of these hours.
    pub fn hold(&self, at: Timestamp) -> bool {
        let local = at.to_utc().with_timezone(&self.zone);
        let (today, minute) = (local.weekday(), local.hour() * 60 + local.minute());
        if self.from < self.to {
            return self.days.contains(&today) && (self.from..self.to).contains(&minute);
        }
        // Over midnight: the night belongs to the day on which it begins.
        self.days.contains(&today) && minute >= self.from || self.days.contains(&today.pred()) && minute < self.to
    }
}

impl Hours {
    /// The instants in 2026 at which they begin, but for those that clocks leave out.
    fn begins(&self) -> impl Iterator<Item = Timestamp> {
        let first = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default();
        let days = first.iter_days().take(366).filter(|day| self.days.contains(&day.weekday()));
        let begin = |day: NaiveDate| {
            day.and_hms_opt(self.from / 60, self.from % 60, 0)?.and_local_timezone(self.zone).earliest()
        };
        days.filter_map(begin).map(|begin| Timestamp::from_unix(begin.timestamp()))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<String> = self.days.iter().map(|day| day.to_string().to_ascii_lowercase()).collect();
        write!(f, "{} {}-{} {}", days.join(","), shown(self.from), shown(self.to), self.zone)
    }
}

fn span_of_days(text: &str) -> Result<Vec<Weekday>, Invalid> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    const WEEK: [Weekday; 7] =
        [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];
    let fail = || Invalid::new("days", text, "write mon, tue, wed, thu, fri, sat or sun, or two of them as in mon-fri");
    let day = |name: &str| DAYS.iter().position(|day| *day == name).ok_or_else(fail);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    // fri-mon goes over the end of the week.
    let count = (last + 7 - first) % 7 + 1;
    Ok((0..count).map(|i| WEEK[(first + i) % 7]).collect())
}

fn minutes(text: &str) -> Result<u32, Invalid> {
    if text == "24:00" {
        return Ok(MIDNIGHT);
    }
    let time = NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5);
    let time =
        time.ok_or_else(|| Invalid::new("time", text, "write hours and minutes, as in 08:00; the last is 24:00"))?;
    Ok(time.hour() * 60 + time.minute())
}

fn shown(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// What a ticket looks like: a regular expression that must match all of it.
#[derive(Debug, Clone)]
pub struct TicketPattern {
    text: String,
    regex: Regex,
}

impl PartialEq for TicketPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl TicketPattern {
    /// Whether a ticket is like this.
    pub fn fits(&self, ticket: &str) -> bool {
        self.regex.is_match(ticket)
    }
}

impl FromStr for TicketPattern {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fail = |rule| Invalid::new("ticket", text, rule);
        if text.is_empty() || text.len() > 200 || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(fail("write a regular expression of 1 to 200 ASCII characters"));
        }
        // By itself first: an expression that closes our group would match parts. Matching takes linear time.
        let whole = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")));
        let regex = whole.map_err(|_| fail("it is not a regular expression, as in INC-[0-9]+"))?;
        Ok(Self { text: text.to_owned(), regex })
    }
}

impl fmt::Display for TicketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A fact that a rule asks for: `oncall:dba:primary = {person}`. `{person}`, `{role}` and `{ticket}` stand for those
/// of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactPattern {
    name: String,
    value: String,
}

impl FactPattern {
    /// When the fact ends, if it is so at a moment.
    fn until(&self, asked: &Asked<'_>, at: Timestamp, facts: &Facts) -> Option<Timestamp> {
        let name = self.name(asked)?;
        let value: FactValue = fill(&self.value, asked)?.parse().ok()?;
        facts.at(&name, at).filter(|fact| fact.value == value).map(|fact| fact.until)
    }

    fn name(&self, asked: &Asked<'_>) -> Option<FactName> {
        fill(&self.name, asked)?.parse().ok()
    }

    fn filled(&self, asked: &Asked<'_>) -> String {
        let name = fill(&self.name, asked).unwrap_or_else(|| self.name.clone());
        format!("{name} = {}", fill(&self.value, asked).unwrap_or_else(|| self.value.clone()))
    }
}

/// `None` when the request has no ticket, and one is asked for.
fn fill(text: &str, asked: &Asked<'_>) -> Option<String> {
    let text = text.replace("{person}", asked.person.as_str()).replace("{role}", asked.role.as_str());
    if !text.contains("{ticket}") {
        return Some(text);
    }
    asked.ticket.map(|ticket| text.replace("{ticket}", ticket.as_str()))
}

impl FromStr for FactPattern {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fail = |rule| Invalid::new("fact", text, rule);
        let (name, value) =
            text.split_once(" = ").ok_or_else(|| fail("write it as in oncall:dba:primary = {person}"))?;
        let plain = |text: &str| text.replace("{person}", "x").replace("{role}", "x").replace("{ticket}", "x");
        let rule = "use letters, digits, . _ / # - : and {person}, {role}, {ticket}";
        let _: FactName = plain(name).parse().map_err(|_| fail(rule))?;
        let _: FactValue = plain(value).parse().map_err(|_| fail(rule))?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for FactPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.value)
    }
}
