//! What the service knows beside a request when something is decided on it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::facts::Facts;
use crate::domain::policy::{Circumstances, Policy};
use crate::domain::statement::Request;
use crate::domain::time::Timestamp;
use crate::store::{StoreError, Tx, requests};

use super::Service;

/// What one person may have of a role is counted over so many seconds.
const A_DAY: i64 = 24 * 3600;

/// Circumstances, kept.
#[derive(Debug, Clone)]
pub(super) struct Around {
    from: Option<IpAddr>,
    facts: Arc<Facts>,
    held: u64,
}

impl Around {
    /// Of a request that is only looked at: what its person had before is not counted.
    pub(super) fn unknown(from: Option<IpAddr>, facts: Arc<Facts>) -> Self {
        Self { from, facts, held: 0 }
    }

    /// The same, seen from another address.
    pub(super) fn from(&self, from: Option<IpAddr>) -> Self {
        Self { from, ..self.clone() }
    }

    pub(super) fn get(&self) -> Circumstances<'_> {
        Circumstances { from: self.from, facts: &self.facts, held: self.held }
    }
}

impl Service {
    /// What is known of a request that comes, or whose claim comes, from an address.
    pub(super) fn around(
        &self,
        tx: &mut Tx<'_>,
        policy: &Policy,
        asked: &Request,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Around, StoreError> {
        // Where nothing is counted, nothing is read.
        let counted = policy.roles().get(&asked.role).is_some_and(|role| role.daily_max.is_some());
        let held =
            if counted { requests::held(tx, (&asked.person, &asked.role), now.plus(-A_DAY), &asked.id)? } else { 0 };
        Ok(Around { from, facts: self.facts(), held })
    }
}
