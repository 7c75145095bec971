//! How often is too often: broken glass is for what is rare, and whoever needs it often lacks a role.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::{PersonName, RoleName};
use super::policy::Policy;
use super::time::Timestamp;

const A_DAY: i64 = 86_400;

/// One use of an emergency key; drills are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Who.
    pub person: PersonName,
    /// What for.
    pub role: RoleName,
    /// When.
    pub at: Timestamp,
}

/// Who breaks the glass too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overuse {
    /// A person, or a group of the policy.
    pub who: String,
    /// How often.
    pub uses: u32,
    /// In how many days.
    pub days: u32,
    /// What would have made it unnecessary.
    pub instead: String,
}

/// `alice broke the glass 3 times in 7 days`
impl fmt::Display for Overuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broke the glass {} times in {} days", self.who, self.uses, self.days)
    }
}

/// The people and groups that broke the glass more often than the policy says, counted back from `now`. A group is left
/// out where one of its members does so alone.
pub fn overuse(policy: &Policy, uses: &[Used], now: Timestamp) -> Vec<Overuse> {
    let people = sorted(uses.iter().map(|used| &used.person));
    let alone: Vec<_> =
        people.into_iter().filter_map(|person| Some((person, of_person(policy, uses, person, now)?))).collect();
    let groups = sorted(uses.iter().flat_map(|used| policy.teams(&used.person)));
    let shared =
        groups.into_iter().filter(|group| !alone.iter().any(|(person, _)| policy.teams(person).any(|g| g == *group)));
    let of_group = |group: &super::names::GroupName| {
        let theirs = |used: &&Used| policy.teams(&used.person).any(|team| team == group);
        too_many(policy, group.as_str(), &uses.iter().filter(theirs).collect::<Vec<_>>(), now)
    };
    let shared: Vec<_> = shared.filter_map(of_group).collect();
    alone.into_iter().map(|(_, overuse)| overuse).chain(shared).collect()
}

fn of_person(policy: &Policy, uses: &[Used], person: &PersonName, now: Timestamp) -> Option<Overuse> {
    too_many(policy, person.as_str(), &uses.iter().filter(|used| used.person == *person).collect::<Vec<_>>(), now)
}

fn too_many(policy: &Policy, who: &str, uses: &[&Used], now: Timestamp) -> Option<Overuse> {
    let limits = [(7, policy.reviews().most_in_7_days), (30, policy.reviews().most_in_30_days)];
    limits.into_iter().find_map(|(days, most)| {
        let within: Vec<&&Used> = uses.iter().filter(|used| now.since(used.at) < i64::from(days) * A_DAY).collect();
        let count = u32::try_from(within.len()).unwrap_or(u32::MAX);
        let last = within.iter().max_by_key(|used| used.at)?;
        (count > most).then(|| Overuse { who: who.to_owned(), uses: count, days, instead: instead(policy, last) })
    })
}

/// What would have made a use unnecessary.
fn instead(policy: &Policy, used: &Used) -> String {
    let Used { person, role, .. } = used;
    match policy.roles().get(role) {
        Some(found) if !found.requesters.contains(person) => {
            format!("let {person} ask for it: roles.{role}.requesters")
        }
        Some(found) if found.automatic().is_none() && !found.sensitive => {
            format!(
                "let it be had for minutes without asking: roles.{role}.automatic, or name who answers next: roles.{role}.escalate_to"
            )
        }
        Some(_) => format!("name who answers when the first do not: roles.{role}.escalate_to"),
        None => format!("there is no role {role} any more: make one that can be asked for"),
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = items.collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::*;

    /// Who used it how many days ago, for which role.
    fn found(policy: &Policy, uses: &[(&str, i64, &str)]) -> Vec<String> {
        let used =
            |(name, days, of): &(&str, i64, &str)| Used { person: person(name), role: role(of), at: at(-days * A_DAY) };
        let uses: Vec<Used> = uses.iter().map(used).collect();
        overuse(policy, &uses, at(0)).iter().map(ToString::to_string).collect()
    }

    fn with(text: &str) -> Policy {
        Policy::parse(&(policy_text() + text)).unwrap()
    }

    /// R47: the third in 7 days.
    #[test]
    fn the_third_use_in_a_week_is_one_too_many() {
        let policy = policy();
        assert_eq!(found(&policy, &[]), [""; 0]);
        assert_eq!(found(&policy, &[("alice", 0, "db-prod"), ("alice", 6, "db-prod")]), [""; 0]);
        let three = [("alice", 0, "db-prod"), ("alice", 3, "db-prod"), ("alice", 6, "web")];
        assert_eq!(found(&policy, &three), ["alice broke the glass 3 times in 7 days"]);
        let (a, b) = (three[0], three[1]);
        assert_eq!(found(&policy, &[a, b, ("alice", 7, "web")]), [""; 0], "7 days are over");
        assert_eq!(found(&policy, &[a, b, ("bob", 1, "web")]), ["sre broke the glass 3 times in 7 days"], "a group");
        assert_eq!(found(&policy, &[a, b, ("dan", 1, "vault")]), [""; 0], "of two groups");
        let month: Vec<_> = (0..6).map(|n| ("dan", 4 * n + 4, "vault")).collect();
        assert_eq!(found(&policy, &month), ["dan broke the glass 6 times in 30 days"]);
        assert_eq!(found(&policy, &month[1..]), [""; 0]);
    }

    #[test]
    fn the_policy_says_how_often_is_too_often() {
        let once = [("alice", 0, "db-prod")];
        assert_eq!(found(&with("[reviews]\nmost_in_7_days = 0"), &once), ["alice broke the glass 1 times in 7 days"]);
        let strict = with("[reviews]\nmost_in_30_days = 0");
        assert_eq!(found(&strict, &once), ["alice broke the glass 1 times in 30 days"]);
    }

    #[test]
    fn it_says_what_would_have_done() {
        let instead = |name: &str, of: &str| {
            let policy = with("[reviews]\nmost_in_7_days = 0");
            let used = Used { person: person(name), role: role(of), at: at(0) };
            overuse(&policy, &[used], at(0)).remove(0).instead
        };
        assert_eq!(instead("dan", "vault"), "let dan ask for it: roles.vault.requesters");
        assert!(instead("alice", "vault").contains("roles.vault.automatic"));
        assert!(instead("alice", "db-prod").contains("roles.db-prod.escalate_to"));
        assert_eq!(instead("alice", "gone"), "there is no role gone any more: make one that can be asked for");
    }
}
