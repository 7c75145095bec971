//! How many people must agree, and who: one list, or several of which each must agree.

use std::fmt;

use super::people::People;
use crate::domain::names::PersonName;

/// Who must agree. Empty: nobody needs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quorum {
    parts: Vec<Part>,
}

/// So many of some people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of whom.
    pub of: People,
    /// How many distinct people: at least 1.
    pub approvals: u32,
}

impl Quorum {
    /// All of these parts.
    pub(in crate::domain) fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// The parts, each of which must agree.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many people it takes in all: each counts once, for one part.
    pub fn total(&self) -> u32 {
        self.parts.iter().map(|part| part.approvals).sum()
    }

    /// How many of the approvals that are needed these people can give, each of them one.
    pub fn given_by(&self, people: &[PersonName]) -> u32 {
        let mut given = Giving { quorum: self, people, taken: vec![None; people.len()] };
        let seats = self.parts.iter().enumerate().flat_map(|(i, part)| (0..part.approvals).map(move |_| i));
        let found = seats.filter(|part| given.seat(*part, &mut vec![false; people.len()])).count();
        u32::try_from(found).unwrap_or(u32::MAX)
    }

    /// Whether these people are enough.
    pub fn met_by(&self, people: &[PersonName]) -> bool {
        self.given_by(people) == self.total()
    }

    /// Whether there are people who could agree, among those that `may`.
    pub fn possible(&self, may: impl Fn(&PersonName) -> bool) -> bool {
        let enough = self.total() as usize;
        let some = |part: &Part| {
            let mut found: Vec<PersonName> = Vec::new();
            for person in part.of.each().filter(|person| may(person)) {
                // More of one part than all parts take make no difference.
                if found.len() >= enough {
                    break;
                }
                if !found.contains(person) {
                    found.push(person.clone());
                }
            }
            found
        };
        let mut people: Vec<PersonName> = self.parts.iter().flat_map(some).collect();
        people.sort_unstable();
        people.dedup();
        self.met_by(&people)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.approvals, self.of)
    }
}

/// `1 of dba and 1 of security`
impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(Part::to_string).collect();
        f.write_str(&parts.join(" and "))
    }
}

/// Gives people seats: a matching by augmenting paths (Kuhn's algorithm). Somebody who sits moves to another part
/// when that lets one more sit down.
struct Giving<'a> {
    quorum: &'a Quorum,
    people: &'a [PersonName],
    /// For which part each person counts.
    taken: Vec<Option<usize>>,
}

impl Giving<'_> {
    fn seat(&mut self, part: usize, seen: &mut Vec<bool>) -> bool {
        for (i, person) in self.people.iter().enumerate() {
            if seen[i] || !self.quorum.parts[part].of.contains(person) {
                continue;
            }
            seen[i] = true;
            if self.taken[i].is_none_or(|other| self.seat(other, seen)) {
                self.taken[i] = Some(part);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::testing::parsed;

    fn quorum(parts: &[(&[&str], u32)]) -> Quorum {
        let part = |(of, approvals): &(&[&str], u32)| {
            let mut people = People::default();
            of.iter().for_each(|name| people.name(parsed(name)));
            Part { of: people, approvals: *approvals }
        };
        Quorum::new(parts.iter().map(part).collect())
    }

    fn people(names: &[&str]) -> Vec<PersonName> {
        names.iter().map(|name| parsed(name)).collect()
    }

    #[test]
    fn a_person_counts_once_and_for_one_part() {
        let both = quorum(&[(&["ann", "bob"], 1), (&["bob", "cid"], 1)]);
        assert_eq!(both.total(), 2);
        for (who, given) in [
            (&["bob"][..], 1),
            (&["bob", "bob2"], 1),
            (&["ann"], 1),
            (&["ann", "bob"], 2),
            // bob came first and took ann's part: he moves.
            (&["bob", "ann"], 2),
            (&["bob", "cid"], 2),
            (&["ann", "cid"], 2),
            (&[], 0),
        ] {
            assert_eq!(both.given_by(&people(who)), given, "{who:?}");
            assert_eq!(both.met_by(&people(who)), given == 2, "{who:?}");
        }
        let two = quorum(&[(&["ann", "bob", "cid"], 2)]);
        assert!(!two.met_by(&people(&["ann"])) && two.met_by(&people(&["cid", "ann"])));
        assert!(Quorum::default().met_by(&[]));
    }

    #[test]
    fn it_is_possible_only_with_people_who_may() {
        let both = quorum(&[(&["ann", "bob"], 1), (&["bob"], 1)]);
        assert!(both.possible(|_| true));
        assert!(!both.possible(|person| person.as_str() != "ann"), "bob cannot be both");
        assert!(!both.possible(|person| person.as_str() != "bob"));
        assert!(!quorum(&[(&[], 1)]).possible(|_| true));
    }

    proptest! {
        /// Against every way of giving each person one part.
        #[test]
        fn the_matching_finds_what_trying_everything_finds(
            parts in proptest::collection::vec((proptest::collection::vec(0..5usize, 0..5), 1..3u32), 1..4),
            who in proptest::sample::subsequence(vec![0, 1, 2, 3, 4], 0..=5).prop_shuffle(),
        ) {
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let named: Vec<(Vec<&str>, u32)> =
                parts.iter().map(|(of, n)| (of.iter().map(|i| NAMES[*i]).collect(), *n)).collect();
            let borrowed: Vec<(&[&str], u32)> = named.iter().map(|(of, n)| (of.as_slice(), *n)).collect();
            let quorum = quorum(&borrowed);
            let people = people(&who.iter().map(|i| NAMES[*i]).collect::<Vec<_>>());
            prop_assert_eq!(quorum.given_by(&people), most(&quorum, &people, &mut vec![0; parts.len()]));
        }
    }

    fn most(quorum: &Quorum, people: &[PersonName], given: &mut Vec<u32>) -> u32 {
        let Some((person, rest)) = people.split_first() else { return given.iter().sum() };
        let mut best = most(quorum, rest, given);
        for (i, part) in quorum.parts().iter().enumerate() {
            if part.of.contains(person) && given[i] < part.approvals {
                given[i] += 1;
                best = best.max(most(quorum, rest, given));
                given[i] -= 1;
            }
        }
        best
    }
}
