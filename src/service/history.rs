//! What is usual: what a person asked of a role before, and how much a role is used. Approvers compare with
//! it; nothing is decided by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use chrono::Timelike as _;

use crate::domain::names::{HostName, PersonName, RoleName};
use crate::domain::statement::Request;
use crate::domain::time::{Seconds, Timestamp};
use crate::store::requests;

use super::{Error, RequestInfo, Service};

/// So far back people are compared with themselves, in seconds: 90 days.
const HISTORY: i64 = 90 * 86_400;
/// So many earlier requests are looked at, the newest.
const MOST: u32 = 200;
/// Fewer requests than these say nothing of usual hours.
const ENOUGH_FOR_HOURS: usize = 5;
/// How long a count of uses is good for, in seconds: it reads every request of 90 days.
const USAGE_FRESH: i64 = 60;

/// What a person asked of a role in the 90 days before a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How many requests, 200 at most.
    pub count: usize,
    /// When the last one was.
    pub last: Option<Timestamp>,
    /// The length asked for most often, where lengths were given.
    pub usual: Option<Seconds>,
    /// Those of the hosts asked for now that none of them asked for.
    pub new_hosts: Vec<HostName>,
    /// The first and last hour of the day (UTC) in which they were made, if they are enough to tell.
    pub hours: Option<(u32, u32)>,
    /// Whether the last one gave the same reason.
    pub reason_repeats: bool,
}

/// How much each role was asked for in the last 90 days.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage(BTreeMap<RoleName, RoleUsage>);

/// How much one role was asked for in the last 90 days.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleUsage {
    /// How many requests of how many people: the most frequent first.
    pub people: Vec<(PersonName, u64)>,
    /// When the last one was.
    pub last: Option<Timestamp>,
}

impl Usage {
    /// Of one role.
    pub fn of(&self, role: &RoleName) -> RoleUsage {
        self.0.get(role).cloned().unwrap_or_default()
    }
}

impl RoleUsage {
    /// How many requests.
    pub fn count(&self) -> u64 {
        self.people.iter().map(|(_, count)| count).sum()
    }
}

impl Service {
    /// What the requester asked of this role before.
    pub async fn history(&self, info: &RequestInfo) -> Result<History, Error> {
        let (asked, role) = (info.request.clone(), self.policy().roles().get(&info.request.role).cloned());
        let (person, name, since) = (asked.person.clone(), asked.role.clone(), asked.at.plus(-HISTORY));
        let found = self.store.read(move |tx| requests::history(tx, &person, &name, since, MOST)).await?;
        let earlier = found.iter().filter_map(|signed| signed.claims::<Request>().ok());
        let earlier: Vec<Request> = earlier.filter(|r| r.id != asked.id && r.at <= asked.at).collect();
        let all = role.map(|role| role.hosts).unwrap_or_default();
        // A request that named no host asked for all that the role has.
        let known: BTreeSet<&HostName> =
            earlier.iter().flat_map(|r| if r.hosts.is_empty() { &all } else { &r.hosts }).collect();
        let wanted = info.terms.as_ref().map_or(&[][..], |terms| &terms.hosts);
        let last = earlier.iter().max_by_key(|r| r.at);
        let hours = || earlier.iter().map(|r| r.at.to_utc().hour());
        Ok(History {
            count: earlier.len(),
            last: last.map(|r| r.at),
            usual: most_frequent(earlier.iter().filter_map(|r| r.seconds)),
            new_hosts: wanted.iter().filter(|host| !known.contains(host)).cloned().collect(),
            hours: hours().min().zip(hours().max()).filter(|_| earlier.len() >= ENOUGH_FOR_HOURS),
            reason_repeats: last.is_some_and(|r| asked.reason.says_the_same_as(r.reason.as_str())),
        })
    }

    /// How much each role is used: counted at most once a minute.
    pub async fn usage(&self) -> Result<Arc<Usage>, Error> {
        let now = self.now().second();
        let fresh = |(at, _): &&(Timestamp, Arc<Usage>)| (0..USAGE_FRESH).contains(&now.since(*at));
        let lock = || self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, usage)) = lock().as_ref().filter(fresh) {
            return Ok(Arc::clone(usage));
        }
        let counted = self.store.read(move |tx| requests::usage(tx, now.plus(-HISTORY))).await?;
        let mut usage = Usage::default();
        for (role, person, count, last) in counted {
            let of_role = usage.0.entry(role).or_default();
            of_role.people.push((person, count));
            of_role.last = of_role.last.max(Some(last));
        }
        for of_role in usage.0.values_mut() {
            of_role.people.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        }
        let usage = Arc::new(usage);
        *lock() = Some((now, Arc::clone(&usage)));
        Ok(usage)
    }
}

fn most_frequent(lengths: impl Iterator<Item = Seconds>) -> Option<Seconds> {
    let mut counts: BTreeMap<Seconds, usize> = BTreeMap::new();
    for length in lengths {
        *counts.entry(length).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(length, _)| length)
}
