//! Some people of the policy: by name, and as members of groups. Groups share one set of members, so that a
//! thousand roles may name a group of ten thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::domain::names::{GroupName, PersonName};

/// The members of each group.
pub(in crate::domain) type Groups = BTreeMap<GroupName, Arc<BTreeSet<PersonName>>>;

/// Some people. Empty is nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    named: BTreeSet<PersonName>,
    groups: Groups,
}

impl People {
    /// One more person.
    pub(in crate::domain) fn name(&mut self, person: PersonName) {
        self.named.insert(person);
    }

    /// One more group.
    pub(in crate::domain) fn group(&mut self, group: GroupName, members: Arc<BTreeSet<PersonName>>) {
        self.groups.insert(group, members);
    }

    /// These and those.
    pub(in crate::domain) fn join(&mut self, other: &Self) {
        self.named.extend(other.named.iter().cloned());
        self.groups.extend(other.groups.iter().map(|(group, members)| (group.clone(), Arc::clone(members))));
    }

    /// Whether somebody is one of them.
    pub fn contains(&self, person: &PersonName) -> bool {
        self.named.contains(person) || self.groups.values().any(|members| members.contains(person))
    }

    /// Whether this is nobody.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.groups.values().all(|members| members.is_empty())
    }

    /// Each of them once, in the order of their names.
    pub fn all(&self) -> BTreeSet<&PersonName> {
        self.each().collect()
    }

    /// Each of them, some more than once.
    pub(in crate::domain) fn each(&self) -> impl Iterator<Item = &PersonName> {
        self.named.iter().chain(self.groups.values().flat_map(|members| members.iter()))
    }

    /// The groups among them.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.keys()
    }

    /// Whether each name that stands in `other` stands here, too.
    pub(in crate::domain) fn name_all_of(&self, other: &Self) -> bool {
        other.groups.keys().all(|group| self.groups.contains_key(group))
            && other.named.iter().all(|person| self.contains(person))
    }

    /// Whether one of these groups, which a provider claims for somebody, is among them. Good for reading alone.
    pub fn names_any_of(&self, claimed: &BTreeSet<GroupName>) -> bool {
        claimed.iter().any(|group| self.groups.contains_key(group))
    }
}

/// As the policy lists them: groups, then people.
impl fmt::Display for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.keys().map(GroupName::as_str);
        let names: Vec<&str> = groups.chain(self.named.iter().map(PersonName::as_str)).collect();
        f.write_str(if names.is_empty() { "nobody" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}
