//! How far hosts are, and what a rotation waits for.

use std::sync::Arc;

use crate::domain::certificate::is_of_ca;
use crate::domain::host_status::HostStatus;
use crate::domain::host_word;
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, InstanceId};
use crate::domain::policy::{Duty, EMERGENCY_LONGEST, Policy};
use crate::domain::rotation::Progress;
use crate::domain::time::Timestamp;
use crate::domain::trust::{CaRole, Chain};
use crate::domain::verify::Signed;
use crate::store::{StoreError, Tx, certificates, host_statuses, trust};

use super::{Caller, Error, Service};

/// Broken glass that was being signed when the CA changed has ended after its longest length and this, in seconds.
const IN_FLIGHT: i64 = 60;

/// A host that the policy has keys of, and what it said last.
#[derive(Debug, Clone)]
pub struct HostInfo {
    /// Its name.
    pub name: HostName,
    /// How far it is; `None` when it never said.
    pub status: Option<HostStatus>,
}

impl Service {
    /// Hears how far a host is.
    pub async fn note_host_status(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        let status: HostStatus = host_word::hear(&signed, &self.policy(), &self.instance, self.clock.now().second())?;
        self.store.write(move |tx| host_statuses::keep(tx, &status.host, status.at, &signed)).await?;
        Ok(())
    }

    /// The hosts that the policy has keys of, for auditors and administrators.
    pub async fn hosts(&self, caller: &Caller) -> Result<Vec<HostInfo>, Error> {
        caller.needs(&[Duty::Auditors, Duty::Admins])?;
        let (policy, instance) = (self.policy(), self.instance.clone());
        Ok(self.store.read(move |tx| hosts(tx, &policy, &instance)).await?)
    }
}

fn hosts(tx: &mut Tx<'_>, policy: &Policy, instance: &InstanceId) -> Result<Vec<HostInfo>, StoreError> {
    let said = host_statuses::all(tx)?;
    let said: Vec<HostStatus> = said.iter().filter_map(|s| host_word::read(s, policy, instance).ok()).collect();
    let info = |name: &HostName| HostInfo {
        name: name.clone(),
        status: said.iter().find(|status| status.host == *name).cloned(),
    };
    Ok(policy.hosts().keys().map(info).collect())
}

/// How far everybody is with the rotation of a CA whose `old` keys are to go, as a look at the database finds it.
pub fn progress(
    tx: &mut Tx<'_>,
    (policy, chain): (&Policy, &Chain),
    (role, old): (CaRole, &[PublicKey]),
    now: Timestamp,
) -> Result<Progress, StoreError> {
    let taken = trust::taken(tx)?;
    let last_end = match role {
        CaRole::User => certificates::live(tx, now)?
            .into_iter()
            .filter(|(tbs, _)| old.iter().any(|ca| is_of_ca(tbs, ca)))
            .map(|(_, ends)| ends)
            .max(),
        // Which key signed broken glass is on no row. None was signed by the old one after another took its place.
        CaRole::BreakGlass => {
            let signs = chain.newest().cas(role).first();
            let since = chain.since(|trust| trust.cas(role).first() == signs);
            let since = taken.iter().find(|taken| Some(taken.number) == since);
            let longest = i64::try_from(EMERGENCY_LONGEST).unwrap_or(i64::MAX);
            since.map(|taken| taken.at.plus(longest.saturating_add(IN_FLIGHT)))
        }
        CaRole::Host => None,
    };
    let hosts = hosts(tx, policy, &chain.newest().instance)?;
    Ok(Progress {
        taken: taken.last().map_or(0, |taken| taken.number),
        hosts: hosts.into_iter().map(|host| (host.name, host.status)).collect(),
        last_end,
        now,
    })
}
