//! The life of a request. A state carries exactly its facts; a transition consumes it, and looks at
//! the clock itself, so that no caller can forget that time ends things.
//!
//! ```text
//! requested ──approve (quorum)──▶ approved ──claim──▶ active ──▶ ended: expired | returned | revoked
//!     ├─ deny ─▶ denied              ├─ not claimed in time ─▶ lapsed
//!     ├─ withdraw ─▶ withdrawn       └─ revoke ─▶ revoked
//!     ├─ revoke ─▶ revoked
//!     └─ not decided in time ─▶ lapsed
//! ```

use super::names::PersonName;
use super::refusal::Refusal;
use super::statement::Serial;
use super::time::Timestamp;

/// Where a request is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for people to decide.
    Requested {
        /// After this nobody can decide any more.
        decide_by: Timestamp,
        /// Who has approved so far: fewer than are needed.
        approved_by: Vec<PersonName>,
    },
    /// May be claimed.
    Approved {
        /// After this it cannot be claimed any more.
        claim_by: Timestamp,
    },
    /// A certificate was signed.
    Active {
        /// The certificate's serial.
        serial: Serial,
        /// `valid_before`: the first second in which the certificate is refused.
        ends: Timestamp,
    },
    /// An approver said no.
    Denied,
    /// The requester took it back.
    Withdrawn,
    /// Nobody decided, or nobody claimed, in time.
    Lapsed {
        /// When it did.
        at: Timestamp,
    },
    /// The certificate ran out.
    Expired {
        /// The certificate's serial.
        serial: Serial,
        /// When it did.
        at: Timestamp,
    },
    /// The requester gave access back early.
    Returned {
        /// The certificate's serial.
        serial: Serial,
    },
    /// Somebody with the duty ended it.
    Revoked {
        /// The certificate's serial; none when there was no certificate yet.
        serial: Option<Serial>,
    },
}

impl State {
    /// A word for people and for the store.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "requested",
            Self::Approved { .. } => "approved",
            Self::Active { .. } => "active",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Lapsed { .. } => "lapsed",
            Self::Expired { .. } => "expired",
            Self::Returned { .. } => "returned",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Whether nothing can change any more.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Requested { .. } | Self::Approved { .. } | Self::Active { .. })
    }

    /// The certificate, once there was one.
    pub fn serial(&self) -> Option<Serial> {
        match self {
            Self::Active { serial, .. } | Self::Expired { serial, .. } | Self::Returned { serial } => Some(*serial),
            Self::Revoked { serial } => *serial,
            _ => None,
        }
    }

    /// The certificate that gives access, and its end.
    pub fn certificate(&self) -> Option<(Serial, Timestamp)> {
        match self {
            Self::Active { serial, ends } => Some((*serial, *ends)),
            _ => None,
        }
    }

    /// What time alone has made of it.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        match self {
            Self::Requested { decide_by: end, .. } | Self::Approved { claim_by: end } if now > end => {
                Self::Lapsed { at: end }
            }
            Self::Active { serial, ends } if now >= ends => Self::Expired { serial, at: ends },
            other => other,
        }
    }

    /// One more person approves; when these are `enough`, it may be claimed until `claim_by`.
    pub fn approve(
        self,
        person: PersonName,
        enough: impl FnOnce(&[PersonName]) -> bool,
        claim_by: Timestamp,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        match self.at(now) {
            Self::Requested { approved_by, .. } if approved_by.contains(&person) => {
                Err(Refusal::DecidedAlready { person })
            }
            Self::Requested { decide_by, mut approved_by } => {
                approved_by.push(person);
                if enough(&approved_by) {
                    Ok(Self::Approved { claim_by })
                } else {
                    Ok(Self::Requested { decide_by, approved_by })
                }
            }
            other => Err(other.not_pending()),
        }
    }

    /// Somebody who may decide says no, once the quorum is not there yet.
    pub fn deny(self, now: Timestamp) -> Result<Self, Refusal> {
        match self.at(now) {
            Self::Requested { .. } => Ok(Self::Denied),
            other => Err(other.not_pending()),
        }
    }

    /// The requester takes it back, approved or not.
    pub fn withdraw(self, now: Timestamp) -> Result<Self, Refusal> {
        match self.at(now) {
            Self::Requested { .. } | Self::Approved { .. } => Ok(Self::Withdrawn),
            other => Err(other.not_pending()),
        }
    }

    /// The certificate is about to be signed.
    pub fn claim(self, serial: Serial, ends: Timestamp, now: Timestamp) -> Result<Self, Refusal> {
        self.at(now).claimable()?;
        Ok(Self::Active { serial, ends })
    }

    /// Refuses every state but approved, before anything else is looked at.
    pub fn claimable(&self) -> Result<(), Refusal> {
        match self {
            Self::Approved { .. } => Ok(()),
            Self::Lapsed { at } => Err(Refusal::Lapsed { at: *at }),
            Self::Revoked { .. } => Err(Refusal::Revoked),
            other => Err(Refusal::NotApproved { state: other.name() }),
        }
    }

    /// The requester gives access back.
    pub fn give_back(self, now: Timestamp) -> Result<Self, Refusal> {
        match self.at(now) {
            Self::Active { serial, .. } => Ok(Self::Returned { serial }),
            other => Err(Refusal::NotActive { state: other.name() }),
        }
    }

    /// Somebody with the duty ends it, whether it gives access already or could yet.
    pub fn revoke(self, now: Timestamp) -> Result<Self, Refusal> {
        match self.at(now) {
            Self::Active { serial, .. } => Ok(Self::Revoked { serial: Some(serial) }),
            Self::Requested { .. } | Self::Approved { .. } => Ok(Self::Revoked { serial: None }),
            other => Err(Refusal::NotActive { state: other.name() }),
        }
    }

    fn not_pending(&self) -> Refusal {
        match self {
            Self::Lapsed { at } => Refusal::Lapsed { at: *at },
            other => Refusal::NotPending { state: other.name() },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(i64),
        Approve(u8),
        Deny,
        Withdraw,
        Claim,
        GiveBack,
        Revoke,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40i64).prop_map(Step::Wait),
            (0..3u8).prop_map(Step::Approve),
            Just(Step::Deny),
            Just(Step::Withdraw),
            Just(Step::Claim),
            Just(Step::GiveBack),
            Just(Step::Revoke),
        ]
    }

    proptest! {
        /// R24: whatever happens in whatever order, nothing becomes active without its quorum of
        /// distinct people, in time; and what has ended stays ended.
        #[test]
        fn no_path_skips_approval(steps in proptest::collection::vec(step(), 0..40), needed in 1..3u32) {
            let serial = Serial::new(1, 1).unwrap();
            let (mut now, mut approvers, mut approved_at) = (0, std::collections::BTreeSet::new(), None);
            let mut state = State::Requested { decide_by: time(50), approved_by: vec![] };
            for step in steps {
                let before = state.clone().at(time(now));
                let next = match step {
                    Step::Wait(seconds) => { now += seconds; Ok(before.clone().at(time(now))) }
                    Step::Approve(n) => {
                        let name: PersonName = format!("p{n}").parse().unwrap();
                        let next = before.clone().approve(name.clone(), |by| by.len() >= needed as usize, time(now + 30), time(now));
                        if next.is_ok() { prop_assert!(now <= 50); prop_assert!(approvers.insert(name)); }
                        next
                    }
                    Step::Deny => before.clone().deny(time(now)),
                    Step::Withdraw => before.clone().withdraw(time(now)),
                    Step::Claim => before.clone().claim(serial, time(now + 20), time(now)),
                    Step::GiveBack => before.clone().give_back(time(now)),
                    Step::Revoke => before.clone().revoke(time(now)),
                };
                let Ok(after) = next else { continue };
                if before.is_final() { prop_assert_eq!(&after, &before); }
                if matches!(after, State::Approved { .. }) && approved_at.is_none() { approved_at = Some(now); }
                if matches!((&before, &after), (State::Approved { .. }, State::Active { .. })) {
                    prop_assert!(approvers.len() >= needed as usize);
                    prop_assert!(approved_at.is_some_and(|at| now <= at + 30));
                } else if matches!(after, State::Active { .. }) {
                    prop_assert!(before.serial().is_some(), "from {:?}", before);
                }
                state = after;
            }
        }
    }

    type Transition = Box<dyn Fn(State) -> Result<State, Refusal>>;

    /// R04: each state's answer to each transition: what it becomes, or the refusal's code.
    #[test]
    fn each_state_answers_each_transition() {
        let serial = Serial::new(1, 1).unwrap();
        let other = Serial::new(1, 2).unwrap();
        let alice = || "alice".parse::<PersonName>().unwrap();
        let waiting = || State::Requested { decide_by: time(50), approved_by: vec![alice()] };
        let bob =
            |needed| move |s: State| s.approve("bob".parse().unwrap(), |by| by.len() >= needed, time(60), time(10));
        let steps: [Transition; 9] = [
            Box::new(bob(2)),
            Box::new(bob(3)),
            Box::new(move |s| s.approve(alice(), |by| by.len() >= 2, time(60), time(10))),
            Box::new(|s| s.deny(time(10))),
            Box::new(|s| s.withdraw(time(10))),
            Box::new(move |s| s.claim(other, time(70), time(10))),
            Box::new(|s| s.give_back(time(10))),
            Box::new(|s| s.revoke(time(10))),
            Box::new(|s| Ok(s.at(time(1000)))),
        ];
        let (pending, approved, active) = ("not-pending", "not-approved", "not-active");
        #[rustfmt::skip]
        let table: [(State, [&str; 9]); 9] = [
            //         quorum      one more     the same again    deny      withdraw     claim     give back   revoke     time
            (waiting(), ["approved", "requested", "decided-already", "denied", "withdrawn", approved, active, "revoked", "lapsed"]),
            (State::Approved { claim_by: time(50) }, [pending, pending, pending, pending, "withdrawn", "active", active, "revoked", "lapsed"]),
            (State::Active { serial, ends: time(50) }, [pending, pending, pending, pending, pending, approved, "returned", "revoked", "expired"]),
            (State::Denied, [pending, pending, pending, pending, pending, approved, active, active, "denied"]),
            (State::Withdrawn, [pending, pending, pending, pending, pending, approved, active, active, "withdrawn"]),
            (State::Lapsed { at: time(5) }, ["lapsed", "lapsed", "lapsed", "lapsed", "lapsed", "lapsed", active, active, "lapsed"]),
            (State::Expired { serial, at: time(5) }, [pending, pending, pending, pending, pending, approved, active, active, "expired"]),
            (State::Returned { serial }, [pending, pending, pending, pending, pending, approved, active, active, "returned"]),
            (State::Revoked { serial: Some(serial) }, [pending, pending, pending, pending, pending, "revoked", active, active, "revoked"]),
        ];
        for (state, expected) in table {
            for (i, step) in steps.iter().enumerate() {
                let outcome = step(state.clone());
                let answer = outcome.as_ref().map_or_else(Refusal::code, State::name);
                assert_eq!(answer, expected[i], "{} at step {i}", state.name());
                // "lapsed" is a state and a refusal: only time makes the one, only people get the other.
                // So is "revoked": a claim of it is refused.
                let refused =
                    i < 8 && (answer == "lapsed" || !NAMES.contains(&answer) || i == 5 && answer == "revoked");
                assert_eq!(outcome.is_err(), refused);
                if let (Some(before), Ok(after)) = (state.serial(), &outcome) {
                    assert_eq!(after.serial(), Some(before), "a serial stays");
                }
            }
        }
    }

    const NAMES: [&str; 9] =
        ["requested", "approved", "active", "denied", "withdrawn", "lapsed", "expired", "returned", "revoked"];

    #[test]
    fn transitions_carry_their_facts() {
        let serial = Serial::new(1, 1).unwrap();
        let people = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<PersonName>>();
        let waiting = |names: &[&str]| State::Requested { decide_by: time(50), approved_by: people(names) };
        let approve = |s: State, name: &str| s.approve(name.parse().unwrap(), |by| by.len() >= 3, time(60), time(50));
        assert_eq!(approve(waiting(&[]), "bob"), Ok(waiting(&["bob"])));
        assert_eq!(approve(waiting(&["bob"]), "carol"), Ok(waiting(&["bob", "carol"])));
        assert_eq!(approve(waiting(&["bob", "carol"]), "dan"), Ok(State::Approved { claim_by: time(60) }));
        let approved = State::Approved { claim_by: time(60) };
        assert_eq!(approved.claim(serial, time(70), time(60)), Ok(State::Active { serial, ends: time(70) }));
        let active = State::Active { serial, ends: time(70) };
        assert_eq!(active.clone().at(time(70)), State::Expired { serial, at: time(70) });
        assert_eq!(active.clone().give_back(time(60)), Ok(State::Returned { serial }));
        assert_eq!(active.revoke(time(60)), Ok(State::Revoked { serial: Some(serial) }));
        assert_eq!(waiting(&[]).revoke(time(50)), Ok(State::Revoked { serial: None }));
        assert_eq!(waiting(&[]).deny(time(51)), Err(Refusal::Lapsed { at: time(50) }));
    }

    #[test]
    fn the_last_second_counts_and_the_next_does_not() {
        let serial = Serial::new(1, 1).unwrap();
        let approved = State::Approved { claim_by: time(10) };
        assert!(approved.clone().claim(serial, time(20), time(10)).is_ok());
        assert_eq!(approved.claim(serial, time(20), time(11)), Err(Refusal::Lapsed { at: time(10) }));
        let active = State::Active { serial, ends: time(20) };
        assert!(active.clone().give_back(time(19)).is_ok());
        assert_eq!(active.give_back(time(20)), Err(Refusal::NotActive { state: "expired" }));
    }
}
