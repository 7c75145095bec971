//! Cases: what a policy should make of some requests, written down beside it, for its own tests.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::facts::Facts;
use super::names::{CheckName, HostName, Invalid, PersonName, RoleName, RuleName, Ticket};
use super::policy::{Asked, Circumstances, Explained, Policy, Tickets};
use super::policy_file::{PolicyError, Written};
use super::time::{Seconds, Timestamp};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The policy that they are about, relative to this file.
    pub policy: Option<String>,
    /// When, where a case does not say.
    at: Option<Written<Time>>,
    #[serde(default, rename = "case")]
    all: Vec<Case>,
}

/// A request, and what should become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Spanned<String>,
    person: PersonName,
    role: RoleName,
    #[serde(rename = "for")]
    length: Option<Written<Seconds>>,
    at: Option<Written<Time>>,
    from: Option<IpAddr>,
    ticket: Option<Ticket>,
    /// The checks that call the ticket good.
    #[serde(default)]
    checked: Vec<CheckName>,
    #[serde(default)]
    hosts: Vec<HostName>,
    #[serde(default)]
    facts: Vec<String>,
    held: Option<Written<Seconds>>,
    expect: Expected,
    /// A refusal's code.
    code: Option<String>,
    /// The rule that approves.
    by: Option<RuleName>,
    approvals: Option<u32>,
    /// A part of the verdict, or of what would pass.
    says: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Automatic,
    Approval,
    Denied,
}

/// A time as people write it.
#[derive(Debug, Clone, Copy)]
struct Time(Timestamp);

impl std::str::FromStr for Time {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Timestamp::from_typed(text).map(Self)
    }
}

/// A case that came out otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Failed {
    /// The line of its name.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// What was expected.
    pub expected: String,
    /// What came instead.
    pub came: String,
    /// Each rule that was met.
    pub met: Vec<String>,
}

impl Cases {
    /// Reads a file of cases. An error names line and field.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        toml::from_str(text).map_err(|e| PolicyError::at(None, text, &e.span().unwrap_or(0..0), e.message()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The cases that come out otherwise under a policy. `text` is what they were read from; `now` counts where
    /// nothing else is said.
    pub fn failed(&self, text: &str, policy: &Policy, now: Timestamp) -> Result<Vec<Failed>, Invalid> {
        let mut failed = Vec::new();
        for case in &self.all {
            let at = case.at.or(self.at).map_or(now, |at| at.0.0);
            let explained = case.explained(policy, at)?;
            if let Some(expected) = case.differs(&explained) {
                let line = text.get(..case.name.span().start).unwrap_or_default().matches('\n').count() + 1;
                let met = explained.met.iter().map(ToString::to_string).collect();
                let name = case.name.get_ref().clone();
                failed.push(Failed { line, name, expected, came: told(&explained), met });
            }
        }
        Ok(failed)
    }
}

impl Case {
    fn explained(&self, policy: &Policy, at: Timestamp) -> Result<Explained, Invalid> {
        let facts = Facts::written(self.facts.iter().map(String::as_str), at)?;
        let tickets = Tickets::yes(&self.checked);
        let held = self.held.map_or(0, |held| held.0.get().into());
        let asked = Asked {
            person: &self.person,
            role: &self.role,
            hosts: &self.hosts,
            principals: &[],
            seconds: self.length.map(|length| length.0),
            ticket: self.ticket.as_ref(),
        };
        Ok(policy.explain(
            &asked,
            at,
            &Circumstances { from: self.from, facts: &facts, tickets: &tickets, held, overdue: None },
        ))
    }

    /// What was expected and did not come.
    fn differs(&self, came: &Explained) -> Option<String> {
        let (outcome, code, by, approvals) = match &came.outcome {
            Ok(terms) if terms.by.is_some() => (Expected::Automatic, None, terms.by.as_ref(), None),
            Ok(terms) => (Expected::Approval, None, None, Some(terms.approvals())),
            Err(refusal) => (Expected::Denied, Some(refusal.code()), None, None),
        };
        if outcome != self.expect {
            return Some(self.expect.to_string());
        }
        let differs = |what: &str, wanted: &dyn fmt::Display, same: bool| {
            (!same).then(|| format!("{}, {what} {wanted}", self.expect))
        };
        let wanted = self.code.as_ref().and_then(|wanted| differs("code", wanted, code == Some(wanted)));
        wanted
            .or_else(|| self.by.as_ref().and_then(|wanted| differs("by", wanted, by == Some(wanted))))
            .or_else(|| self.approvals.and_then(|wanted| differs("approvals", &wanted, approvals == Some(wanted))))
            .or_else(|| {
                self.says.as_ref().and_then(|wanted| differs("that says", wanted, told(came).contains(wanted.as_str())))
            })
    }
}

/// The verdict, and what would pass.
fn told(explained: &Explained) -> String {
    match explained.would.as_slice() {
        [] => explained.verdict(),
        ways => format!("{}; would pass {}", explained.verdict(), ways.join(", or ")),
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Automatic => "automatic",
            Self::Approval => "approval",
            Self::Denied => "denied",
        })
    }
}
