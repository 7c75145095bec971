//! How far hosts are, and what a rotation waits for.

use std::sync::Arc;

use crate::domain::certificate::is_of_ca;
use crate::domain::host::EnrolledHost;
use crate::domain::host_status::HostStatus;
use crate::domain::host_word;
use crate::domain::key::PublicKey;
use crate::domain::names::{HostName, InstanceId};
use crate::domain::policy::{EMERGENCY_LONGEST, Policy};
use crate::domain::rotation::Progress;
use crate::domain::time::Timestamp;
use crate::domain::trust::{CaRole, Chain};
use crate::domain::verify::Signed;
use crate::store::{StoreError, Tx, certificates, host_statuses, hosts, trust};

use super::{Error, Service};

/// Broken glass that was being signed when the CA changed has ended after its longest length and this, in seconds.
const IN_FLIGHT: i64 = 60;

impl Service {
    /// Hears how far a host is.
    pub async fn note_host_status(self: &Arc<Self>, signed: Signed) -> Result<(), Error> {
        let policy = self.policy();
        let enrolled = self.enrolled_with(&policy, signed.signature().key()).await?;
        let now = self.clock.now().second();
        let status: HostStatus = host_word::hear(&signed, (&policy, enrolled.as_ref()), &self.instance, now)?;
        self.store.write(move |tx| host_statuses::keep(tx, &status.host, status.at, &signed)).await?;
        Ok(())
    }
}

/// What a host said last, if its key signed it.
pub(super) fn status_of(
    said: &[Signed],
    by: (&Policy, Option<&EnrolledHost>),
    host: &HostName,
    instance: &InstanceId,
) -> Option<HostStatus> {
    let mut said = said.iter().filter_map(|signed| host_word::read::<HostStatus>(signed, by, instance).ok());
    said.find(|status| status.host == *host)
}

/// How far everybody is with the rotation of a CA whose `old` keys are to go, as a look at the database finds it.
pub fn progress(
    tx: &mut Tx<'_>,
    (policy, chain): (&Policy, &Chain),
    (role, old): (CaRole, &[PublicKey]),
    now: Timestamp,
) -> Result<Progress, StoreError> {
    let taken = trust::taken(tx)?;
    let last = |live: Vec<(Vec<u8>, Timestamp)>| {
        let theirs = live.into_iter().filter(|(tbs, _)| old.iter().any(|ca| is_of_ca(tbs, ca)));
        theirs.map(|(_, ends)| ends).max()
    };
    let last_end = match role {
        CaRole::User => last(certificates::live(tx, now)?),
        CaRole::Host => last(hosts::live(tx, now)?),
        // Which key signed broken glass is on no row. None was signed by the old one after another took its place.
        CaRole::BreakGlass => {
            let signs = chain.newest().cas(role).first();
            let since = chain.since(|trust| trust.cas(role).first() == signs);
            let since = taken.iter().find(|taken| Some(taken.number) == since);
            let longest = i64::try_from(EMERGENCY_LONGEST).unwrap_or(i64::MAX);
            since.map(|taken| taken.at.plus(longest.saturating_add(IN_FLIGHT)))
        }
    };
    let (said, instance) = (host_statuses::all(tx)?, &chain.newest().instance);
    let status = |host: &HostName| (host.clone(), status_of(&said, (policy, None), host, instance));
    Ok(Progress {
        taken: taken.last().map_or(0, |taken| taken.number),
        hosts: policy.hosts().keys().map(status).collect(),
        last_end,
        now,
    })
}
