//! The life of a request once more, as short as it can be said: what each step answers, and why it is refused. Knows
//! nothing of signatures, rows or HTTP, and shares no code with the service.

use std::collections::BTreeMap;

use super::rules::{Answer, Glass, HOUR, Known, Refusable, demand, seated};
use super::world::{Ask, Policy, TICKET};

/// What a policy leaves to its defaults.
const DECIDE_WITHIN: i64 = 24 * HOUR;
const CLAIM_WITHIN: i64 = 4 * HOUR;

#[derive(Debug)]
struct Claimed {
    policy: Policy,
    known: Known,
    begins: i64,
    ends: i64,
    /// Whether it ends with being on call.
    hangs: bool,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    inside: bool,
    begins: i64,
    state: &'static str,
    /// Until when it is in this state, if that ends by itself.
    until: i64,
    /// By whom, for how long, and until when it may be claimed.
    approvals: BTreeMap<&'static str, (i64, i64)>,
    claimed: Option<Claimed>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: i64,
    pub(super) policy: Policy,
    pub(super) inside: bool,
    pub(super) ticket_open: bool,
    pub(super) on_call: Option<(&'static str, i64)>,
    pub(super) asked: Vec<Asked>,
    pub(super) glass: Glass,
}

impl Asked {
    fn state(&self, now: i64) -> &'static str {
        match self.state {
            "requested" | "approved" if now > self.until => "lapsed",
            "active" if now >= self.until => "expired",
            other => other,
        }
    }

    fn pending(&self, now: i64, states: &[&str]) -> Refusable {
        let state = self.state(now);
        demand(states.contains(&state), if state == "lapsed" { state } else { "not-pending" })
    }

    fn approvers(&self) -> Vec<&'static str> {
        self.approvals.keys().copied().collect()
    }
}

impl Model {
    /// What is known of a request, at a moment that may lie ahead.
    fn known(&self, (one, ask): (usize, &Ask), inside: bool, at: i64) -> Known {
        let (since, whose) = (self.now - 24 * HOUR, (ask.person, ask.role));
        let others =
            self.asked.iter().enumerate().filter(|(i, other)| *i != one && (other.ask.person, other.ask.role) == whose);
        let claimed = others.filter_map(|(_, other)| other.claimed.as_ref());
        let held = claimed.map(|claimed| (claimed.ends - claimed.begins.max(since)).max(0)).sum();
        let on_call = self.on_call.filter(|(who, until)| *who == ask.person && at.max(self.now) < *until);
        let ticket = self.ticket_open && ask.ticket == Some(TICKET);
        Known { at, inside, ticket, on_call: on_call.map(|(_, until)| until), held }
    }

    pub(super) fn ask(&mut self, ask: Ask) -> Answer {
        let (inside, begins) = (self.inside, self.now + ask.start);
        self.policy.signs(ask.person)?;
        let known = self.known((self.asked.len(), &ask), inside, begins);
        let (seats, _) = self.policy.terms(&ask, &known)?;
        demand(ask.start <= 30 * 24 * HOUR, "start-out-of-reach")?;
        if let Some(old) = ask.extends.map(|old| &self.asked[old]) {
            let state = old.state(self.now);
            demand(old.ask.person == ask.person, "unknown-request")?;
            demand(old.claimed.is_none() || old.ask.role == ask.role, "extends-other")?;
            demand(state == "active", "not-extendable")?;
        }
        let (state, until) = match seats[..] {
            [] => ("approved", begins + CLAIM_WITHIN),
            _ => ("requested", self.now + DECIDE_WITHIN),
        };
        let (approvals, claimed) = (BTreeMap::new(), None);
        self.asked.push(Asked { ask, inside, begins, state, until, approvals, claimed });
        Ok(state)
    }

    pub(super) fn decide(&mut self, by: &'static str, one: usize, yes: bool, seconds: i64) -> Answer {
        let (now, asked) = (self.now, &self.asked[one]);
        self.policy.signs(by)?;
        demand(asked.state != "denied", if yes { "not-pending" } else { "denied" })?;
        self.policy.may_decide(by, &asked.ask)?;
        let mut seats = vec![];
        if yes {
            self.policy.signs(asked.ask.person)?;
            let known = self.known((one, &asked.ask), asked.inside, now.max(asked.begins));
            seats = self.policy.terms(&asked.ask, &known)?.0;
        }
        asked.pending(now, &["requested"])?;
        demand(!asked.approvals.contains_key(by), "decided-already")?;
        let asked = &mut self.asked[one];
        if !yes {
            asked.state = "denied";
            return Ok("denied");
        }
        asked.approvals.insert(by, (seconds.min(asked.ask.seconds), now.max(asked.begins) + CLAIM_WITHIN));
        if seated(&seats, &asked.approvers()) {
            asked.state = "approved";
            asked.until = asked.approvals.values().map(|(_, by)| *by).min().unwrap_or(now);
        }
        Ok(asked.state)
    }

    pub(super) fn withdraw(&mut self, by: &'static str, one: usize) -> Answer {
        let asked = &mut self.asked[one];
        self.policy.signs(by)?;
        demand(asked.state != "denied", "denied")?;
        demand(by == asked.ask.person, "unknown-request")?;
        asked.pending(self.now, &["requested", "approved"])?;
        asked.state = "withdrawn";
        Ok("withdrawn")
    }

    /// Gives how long the certificate lasts.
    pub(super) fn claim(&mut self, one: usize, by_subject: bool) -> Refusable<i64> {
        let (now, asked) = (self.now, &self.asked[one]);
        let state = asked.state(now);
        demand(state != "denied", "denied")?;
        demand(by_subject, "bad-signature")?;
        let over = ["lapsed", "revoked"].contains(&state);
        demand(["approved", "active"].contains(&state), if over { state } else { "not-approved" })?;
        let stands = |old: usize| ["active", "expired"].contains(&self.asked[old].state(now));
        demand(state == "active" || asked.ask.extends.is_none_or(stands), "not-extendable")?;
        let at = asked.claimed.as_ref().map_or(now, |claimed| claimed.known.at);
        let known = self.known((one, &asked.ask), self.inside, at);
        let hangs = self.policy.gives(&asked.ask, &asked.approvers(), &known)?;
        demand(asked.begins <= at, "too-early")?;
        if let Some(claimed) = &asked.claimed {
            return Ok(claimed.ends - claimed.begins);
        }
        let least = asked.approvals.values().map(|(seconds, _)| *seconds).fold(asked.ask.seconds, i64::min);
        let seconds = known.on_call.filter(|_| hangs).map_or(least, |until| least.min(until - now));
        let begins = now - 5.min(seconds / 4);
        let (policy, ends, asked) = (self.policy, begins + seconds, &mut self.asked[one]);
        asked.claimed = Some(Claimed { policy, known, begins, ends, hangs });
        (asked.state, asked.until) = ("active", ends);
        Ok(seconds)
    }

    pub(super) fn give_back(&mut self, one: usize) -> Answer {
        let asked = &mut self.asked[one];
        demand(asked.state != "denied", "denied")?;
        demand(asked.state(self.now) == "active", "not-active")?;
        asked.state = "returned";
        Ok("returned")
    }

    pub(super) fn revoke(&mut self, by: &'static str, one: usize) -> Answer {
        self.policy.may_revoke(by)?;
        let asked = &mut self.asked[one];
        demand(["requested", "approved", "active"].contains(&asked.state(self.now)), "not-active")?;
        asked.state = "revoked";
        Ok(asked.state)
    }

    /// What hung on being on call ends, unless it would be given without.
    pub(super) fn page(&mut self) {
        for one in 0..self.asked.len() {
            let asked = &self.asked[one];
            let Some(claimed) = asked.claimed.as_ref().filter(|claimed| claimed.hangs) else { continue };
            let on_call = self.known((one, &asked.ask), false, self.now).on_call;
            let known = Known { on_call, ..claimed.known };
            if asked.state(self.now) == "active"
                && claimed.policy.gives(&asked.ask, &asked.approvers(), &known).is_err()
            {
                self.asked[one].state = "revoked";
            }
        }
    }

    /// How many have ended by time alone.
    pub(super) fn sweep(&mut self) -> usize {
        let ended = self.asked.iter_mut().filter(|asked| asked.state(self.now) != asked.state);
        let ended = ended.map(|asked| asked.state = asked.state(self.now)).count();
        self.page();
        ended
    }
}
