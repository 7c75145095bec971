//! What the service knows beside a request when something is decided on it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::event::Event;
use crate::domain::facts::Facts;
use crate::domain::names::CheckName;
use crate::domain::policy::{Circumstances, Overdue, Policy, Tickets};
use crate::domain::statement::Request;
use crate::domain::time::Timestamp;
use crate::store::{StoreError, Tx, requests};

use super::Service;

/// What one person may have of a role is counted over so many seconds.
const A_DAY: i64 = 24 * 3600;

/// What comes with a call, and what was looked up for it before the transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) from: Option<IpAddr>,
    pub(super) tickets: Arc<Tickets>,
}

/// Circumstances, kept.
#[derive(Debug, Clone)]
pub(super) struct Around {
    from: Option<IpAddr>,
    facts: Arc<Facts>,
    tickets: Arc<Tickets>,
    held: u64,
    overdue: Option<Overdue>,
}

impl Around {
    /// Of a request that is only looked at: what its person had before is not counted.
    pub(super) fn unknown(origin: Origin, facts: Arc<Facts>, overdue: Option<Overdue>) -> Self {
        Self { from: origin.from, facts, tickets: origin.tickets, held: 0, overdue }
    }

    /// Of a claim that was decided on before: what the log says was known then, and these facts. A review that is
    /// overdue since takes nothing back.
    pub(super) fn at_claim(claimed: &Event, facts: Arc<Facts>) -> Self {
        Self { from: claimed.from, facts, tickets: Arc::new(Tickets::yes(&claimed.tickets)), held: 0, overdue: None }
    }

    /// The same with the facts that count at a moment, as if they always had, and for access that was given already.
    pub(super) fn standing(&self, now: Timestamp) -> Self {
        Self { facts: Arc::new(self.facts.standing(now)), overdue: None, ..self.clone() }
    }

    /// The ticket checks that said yes.
    pub(super) fn checked(&self) -> Vec<CheckName> {
        self.tickets.valid()
    }

    pub(super) fn get(&self) -> Circumstances<'_> {
        Circumstances {
            from: self.from,
            facts: &self.facts,
            tickets: &self.tickets,
            held: self.held,
            overdue: self.overdue.as_ref(),
        }
    }
}

impl Service {
    /// What is known of a request that comes, or whose claim comes, from an address.
    pub(super) fn around(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        asked: &Request,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Around, StoreError> {
        // Where nothing is counted, nothing is read; nor any fact where none is asked for.
        let role = policy.roles().get(&asked.role);
        let counted = role.is_some_and(|role| role.daily_max.is_some());
        let names = role.map(|role| role.facts_asked(&asked.into())).unwrap_or_default();
        let held =
            if counted { requests::held(tx, (&asked.person, &asked.role), now.plus(-A_DAY), &asked.id)? } else { 0 };
        let Origin { from, tickets } = origin.clone();
        let overdue = self.overdue(policy, &asked.person, now);
        Ok(Around { from, tickets, facts: self.facts_of(tx, policy, &names)?, held, overdue })
    }
}
