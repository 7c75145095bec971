//! The rules once more, as short as they can be said: what each step answers, and why it is refused. Knows nothing of
//! signatures, rows or HTTP, and shares no code with the service.

use std::collections::BTreeMap;

const HOUR: i64 = 3600;
/// What the policy leaves to its defaults.
const DECIDE_WITHIN: i64 = 24 * HOUR;
const CLAIM_WITHIN: i64 = 4 * HOUR;

/// What a policy takes away or demands beside the sample policy.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so or not, whatever the others are")]
pub(super) struct Rules {
    pub(super) carol_left: bool,
    pub(super) alice_left: bool,
    pub(super) dan_revoked: bool,
    pub(super) web_needs_two: bool,
    pub(super) short_vault: bool,
    pub(super) nothing_automatic: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    Requested { by: i64 },
    Approved { by: i64 },
    Active { ends: i64 },
    Over(&'static str),
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) person: &'static str,
    role: &'static str,
    seconds: i64,
    start: i64,
    extends: Option<usize>,
    state: State,
    /// By whom, for how long, and until when it may be claimed.
    approvals: BTreeMap<&'static str, (i64, i64)>,
    denied: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: i64,
    pub(super) rules: Rules,
    pub(super) asked: Vec<Asked>,
    glass: Option<(i64, Answer)>,
}

/// The state that a step leads to, or why it is refused.
pub(super) type Answer = Result<&'static str, &'static str>;

impl State {
    fn at(self, now: i64) -> Self {
        match self {
            Self::Requested { by } | Self::Approved { by } if now > by => Self::Over("lapsed"),
            Self::Active { ends } if now >= ends => Self::Over("expired"),
            other => other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Requested { .. } => "requested",
            Self::Approved { .. } => "approved",
            Self::Active { .. } => "active",
            Self::Over(how) => how,
        }
    }

    fn not_pending(self) -> &'static str {
        if self.name() == "lapsed" { "lapsed" } else { "not-pending" }
    }
}

impl Asked {
    pub(super) fn whose(&self) -> (&'static str, &'static str) {
        (self.person, self.role)
    }
}

impl Rules {
    fn signs(self, person: &str) -> Result<(), &'static str> {
        if self.dan_revoked && person == "dan" { Err("revoked-key") } else { Ok(()) }
    }

    fn approves(self, person: &str) -> bool {
        ["dan", "frank"].contains(&person) || person == "carol" && !self.carol_left
    }

    /// How many must approve.
    fn needs(self, person: &str, role: &str, seconds: i64) -> Result<usize, &'static str> {
        let sre = ["bob", "robot"].contains(&person) || person == "alice" && !self.alice_left;
        if !(sre || role == "web" && (self.approves(person) || person == "erin")) {
            return Err("not-eligible");
        }
        let (max, needs) = match role {
            "db-prod" => (4 * HOUR, usize::from(seconds > 900 || self.nothing_automatic)),
            "web" => (4 * HOUR, 1 + usize::from(self.web_needs_two)),
            _ => (if self.short_vault { HOUR / 2 } else { 2 * HOUR }, 2),
        };
        if seconds > max { Err("too-long") } else { Ok(needs) }
    }

    fn may_decide(self, person: &str, asked: &Asked) -> Result<(), &'static str> {
        if person == asked.person {
            return Err("self-approval");
        }
        self.signs(person)?;
        match person {
            "robot" => Err("service-decides"),
            _ if self.approves(person) => Ok(()),
            _ => Err("not-approver"),
        }
    }
}

impl Model {
    pub(super) fn at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// `start` lies so many seconds ahead.
    pub(super) fn ask(
        &mut self,
        (person, role): (&'static str, &'static str),
        seconds: i64,
        start: i64,
        extends: Option<usize>,
    ) -> Answer {
        self.rules.signs(person)?;
        let needs = self.rules.needs(person, role, seconds)?;
        if start > 30 * 24 * HOUR {
            return Err("start-out-of-reach");
        }
        if let Some(old) = extends.map(|one| &self.asked[one]) {
            let state = old.state.at(self.now);
            match state {
                _ if old.person != person => return Err("unknown-request"),
                State::Active { .. } | State::Over("expired" | "returned") if old.role != role => {
                    return Err("extends-other");
                }
                State::Active { .. } => {}
                _ => return Err("not-extendable"),
            }
        }
        let open = |one: &&Asked| {
            one.person == person && matches!(one.state, State::Requested { .. } | State::Approved { .. })
        };
        if self.asked.iter().filter(open).count() >= 20 {
            return Err("too-many-pending");
        }
        let (decide, claim) = (self.now + DECIDE_WITHIN, self.now + start + CLAIM_WITHIN);
        let state = if needs == 0 { State::Approved { by: claim } } else { State::Requested { by: decide } };
        let start = self.now + start;
        let approvals = BTreeMap::new();
        self.asked.push(Asked { person, role, seconds, start, extends, state, approvals, denied: false });
        Ok(state.name())
    }

    pub(super) fn decide(&mut self, by: &'static str, one: usize, yes: bool, seconds: i64) -> Answer {
        let (now, rules, asked) = (self.now, self.rules, &mut self.asked[one]);
        rules.signs(by)?;
        if asked.denied {
            return Err(if yes { "not-pending" } else { "denied" });
        }
        rules.may_decide(by, asked)?;
        let needs = if yes {
            rules.signs(asked.person)?;
            rules.needs(asked.person, asked.role, asked.seconds)?
        } else {
            0
        };
        let state = asked.state.at(now);
        let State::Requested { .. } = state else { return Err(state.not_pending()) };
        if asked.approvals.contains_key(by) {
            return Err("decided-already");
        }
        if !yes {
            (asked.denied, asked.state) = (true, State::Over("denied"));
            return Ok("denied");
        }
        asked.approvals.insert(by, (seconds.min(asked.seconds), now.max(asked.start) + CLAIM_WITHIN));
        if asked.approvals.len() >= needs {
            let by = asked.approvals.values().map(|(_, by)| *by).min().unwrap_or(now);
            asked.state = State::Approved { by };
        }
        Ok(asked.state.name())
    }

    pub(super) fn withdraw(&mut self, by: &'static str, one: usize) -> Answer {
        let (now, rules, asked) = (self.now, self.rules, &mut self.asked[one]);
        rules.signs(by)?;
        if asked.denied {
            return Err("denied");
        }
        if by != asked.person {
            return Err("unknown-request");
        }
        let state = asked.state.at(now);
        if !matches!(state, State::Requested { .. } | State::Approved { .. }) {
            return Err(state.not_pending());
        }
        asked.state = State::Over("withdrawn");
        Ok("withdrawn")
    }

    /// Gives how long the certificate lasts.
    pub(super) fn claim(&mut self, one: usize, by_subject: bool) -> Result<i64, &'static str> {
        let (now, rules) = (self.now, self.rules);
        let old = self.asked[one].extends.map(|old| self.asked[old].state.at(now));
        let asked = &mut self.asked[one];
        if asked.denied {
            return Err("denied");
        }
        if !by_subject {
            return Err("bad-signature");
        }
        let state = asked.state.at(now);
        if !matches!(state, State::Approved { .. } | State::Active { .. }) {
            return Err(if state.name() == "lapsed" { "lapsed" } else { "not-approved" });
        }
        let stands = matches!(old, None | Some(State::Active { .. } | State::Over("expired")));
        if matches!(state, State::Approved { .. }) && !stands {
            return Err("not-extendable");
        }
        rules.signs(asked.person)?;
        let needs = rules.needs(asked.person, asked.role, asked.seconds)?;
        asked.approvals.keys().try_for_each(|by| rules.may_decide(by, asked))?;
        if asked.approvals.len() < needs {
            return Err("not-enough-approvals");
        }
        if asked.start > now {
            return Err("too-early");
        }
        let seconds = asked.approvals.values().map(|(seconds, _)| *seconds).fold(asked.seconds, i64::min);
        if let State::Approved { .. } = state {
            asked.state = State::Active { ends: now - 5.min(seconds / 4) + seconds };
        }
        Ok(seconds)
    }

    pub(super) fn give_back(&mut self, one: usize) -> Answer {
        let (now, asked) = (self.now, &mut self.asked[one]);
        match asked.state.at(now) {
            _ if asked.denied => Err("denied"),
            State::Active { .. } => {
                asked.state = State::Over("returned");
                Ok("returned")
            }
            _ => Err("not-active"),
        }
    }

    pub(super) fn break_glass(&mut self, most: i64, seconds: i64) -> Answer {
        let answer = if seconds > most { Err("too-long") } else { Ok("broken") };
        self.glass = Some((self.now, answer));
        answer
    }

    /// The last break-glass once more; `None` where there was none.
    pub(super) fn break_again(&mut self) -> Option<Answer> {
        let (at, answer) = self.glass?;
        Some(if self.now - at > 60 { Err("stale") } else { answer.and(Err("replayed")) })
    }

    /// How many have ended by time alone.
    pub(super) fn sweep(&mut self) -> usize {
        let ended = self.asked.iter_mut().filter(|asked| asked.state.at(self.now) != asked.state);
        ended.map(|asked| asked.state = asked.state.at(self.now)).count()
    }
}
