//! Facts: what signed messages from outside say is so, until a moment. `oncall:dba:primary = alice`,
//! `incident:INC-7 = open`. Rules may ask for them.

use std::collections::BTreeMap;

use super::names::{FactName, FactValue, Invalid};
use super::time::Timestamp;

/// In seconds.
const A_DAY: i64 = 24 * 3600;

/// A fact that somebody stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What is so.
    pub value: FactValue,
    /// From when it counts.
    pub since: Timestamp,
    /// The first second in which it does not count any more.
    pub until: Timestamp,
}

/// The facts that were stated, the latest word on each. One that is absent, over or not yet begun does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<FactName, Fact>);

impl Facts {
    /// The fact of this name, if it counts at a moment.
    pub fn at(&self, name: &FactName, at: Timestamp) -> Option<&Fact> {
        self.0.get(name).filter(|fact| fact.since <= at && at < fact.until)
    }
}

impl Facts {
    /// Facts as people write them down, `oncall:dba:primary = alice`: each holds for a day from a moment on.
    pub fn written<'t>(lines: impl IntoIterator<Item = &'t str>, since: Timestamp) -> Result<Self, Invalid> {
        let fact = |line: &'t str| {
            let rule = "write it as in oncall:dba:primary = alice";
            let (name, value) = line.split_once(" = ").ok_or_else(|| Invalid::new("fact", line, rule))?;
            Ok((name.parse()?, Fact { value: value.parse()?, since, until: since.plus(A_DAY) }))
        };
        lines.into_iter().map(fact).collect()
    }
}

impl FromIterator<(FactName, Fact)> for Facts {
    fn from_iter<I: IntoIterator<Item = (FactName, Fact)>>(facts: I) -> Self {
        Self(facts.into_iter().collect())
    }
}
