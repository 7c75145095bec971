//! What a policy gives, once more and as short as it can be said: who may ask, on which conditions, and who must
//! approve. Shares no code with the service.

use super::world::{Ask, PEOPLE, Policy, Quorum, When};

pub(super) const HOUR: i64 = 3600;

/// Nothing, or why it is refused.
pub(super) type Refusable<T = ()> = Result<T, &'static str>;
/// The state that a step leads to, or why it is refused.
pub(super) type Answer = Refusable<&'static str>;
/// Whom it takes: a list for each seat.
type Seats = Vec<Vec<&'static str>>;

/// What is known when something is decided; of being on call, until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) at: i64,
    pub(super) inside: bool,
    pub(super) ticket: bool,
    pub(super) on_call: Option<i64>,
    /// For so many seconds of this day they had it already.
    pub(super) held: i64,
}

pub(super) fn demand(so: bool, otherwise: &'static str) -> Refusable {
    if so { Ok(()) } else { Err(otherwise) }
}

fn holds(when: When, known: &Known) -> bool {
    (!when.inside || known.inside)
        && (!when.by_day || (8..20).contains(&(known.at / HOUR % 24)))
        && (!when.ticket || known.ticket)
        && (!when.on_call || known.on_call.is_some())
}

/// Whether there is somebody for each seat, and nobody on two.
pub(super) fn seated(seats: &[Vec<&str>], people: &[&str]) -> bool {
    let Some((seat, rest)) = seats.split_first() else { return true };
    let without = |one: &&str| people.iter().copied().filter(|other| other != one).collect::<Vec<_>>();
    people.iter().any(|one| seat.contains(one) && seated(rest, &without(one)))
}

impl Policy {
    pub(super) fn signs(&self, person: &str) -> Refusable {
        demand(!(self.dan_revoked && person == "dan"), "revoked-key")
    }

    pub(super) fn may_revoke(&self, person: &str) -> Refusable {
        self.signs(person)?;
        demand(self.dba().contains(&person), "no-duty")
    }

    fn dba(&self) -> Vec<&'static str> {
        if self.carol_left { vec!["dan", "frank"] } else { vec!["carol", "dan", "frank"] }
    }

    fn seats(&self, role: usize) -> Seats {
        match self.roles[role].quorum {
            Quorum::One => vec![self.dba()],
            Quorum::Two => vec![self.dba(), self.dba()],
            Quorum::Agree => vec![self.dba(), vec!["frank", "erin"]],
        }
    }

    /// Who must approve, and whether access ends with being on call.
    pub(super) fn terms(&self, ask: &Ask, known: &Known) -> Refusable<(Seats, bool)> {
        let role = self.roles[ask.role];
        let sre = ["bob", "robot"].contains(&ask.person) || ask.person == "alice" && !self.alice_left;
        let web = ask.role == 1 && (ask.person == "erin" || self.dba().contains(&ask.person));
        demand(sre || web, "not-eligible")?;
        demand(ask.seconds <= if role.short { HOUR / 2 } else { 4 * HOUR }, "too-long")?;
        demand(!role.deny.is_some_and(|when| holds(when, known)), "denied-by-rule")?;
        demand(holds(role.when, known), "conditions")?;
        demand(!role.capped || known.held + ask.seconds <= 2 * HOUR, "daily-max")?;
        for (rule, max) in [(role.automatic, HOUR / 4), (self.automatic, HOUR)] {
            if let Some(when) = rule.filter(|when| !role.sensitive && ask.seconds <= max && holds(*when, known)) {
                return Ok((vec![], when.on_call || role.when.on_call));
            }
        }
        let others: Vec<&str> = PEOPLE.into_iter().filter(|person| *person != ask.person).collect();
        demand(seated(&self.seats(ask.role), &others), "nobody-decides")?;
        Ok((self.seats(ask.role), role.when.on_call))
    }

    pub(super) fn may_decide(&self, person: &str, ask: &Ask) -> Refusable {
        demand(person != ask.person, "self-approval")?;
        self.signs(person)?;
        demand(person != "robot", "service-decides")?;
        demand(self.seats(ask.role).concat().contains(&person), "not-approver")
    }

    /// Whether this is given to whom these have approved, and whether it ends with being on call.
    pub(super) fn gives(&self, ask: &Ask, approvers: &[&str], known: &Known) -> Refusable<bool> {
        self.signs(ask.person)?;
        let (seats, hangs) = self.terms(ask, known)?;
        approvers.iter().try_for_each(|by| self.may_decide(by, ask))?;
        demand(seated(&seats, approvers), "not-enough-approvals")?;
        Ok(hangs)
    }
}

/// Broken glass: the last statement, and whether it was taken.
#[derive(Debug, Default)]
pub(super) struct Glass(Option<Broken>);

#[derive(Debug)]
struct Broken {
    at: i64,
    role: usize,
    fits: bool,
    spent: bool,
}

impl Glass {
    pub(super) fn breaks(&mut self, policy: &Policy, now: i64, role: usize, fits: bool) -> Answer {
        self.0 = Some(Broken { at: now, role, fits, spent: false });
        self.again(policy, now).unwrap_or(Err("never"))
    }

    /// The same statement once more; `None` where there was none. Denials hold by hours; nobody comes from inside here.
    pub(super) fn again(&mut self, policy: &Policy, now: i64) -> Option<Answer> {
        let said = self.0.as_mut()?;
        let known = Known { at: said.at, inside: false, ticket: false, on_call: None, held: 0 };
        let denied = policy.roles[said.role].deny.is_some_and(|when| holds(when, &known));
        let answer = demand(now - said.at <= 60, "stale")
            .and_then(|()| demand(!said.spent, "replayed"))
            .and_then(|()| demand(said.fits, "too-long"))
            .and_then(|()| demand(!denied, "denied-by-rule"));
        said.spent |= answer.is_ok();
        Some(answer.map(|()| "broken"))
    }
}
