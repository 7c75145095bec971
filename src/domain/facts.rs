//! Facts: what signed messages from outside say is so, until a moment. `oncall:dba:primary = alice`,
//! `incident:INC-7 = open`. Rules may ask for them.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::DateTime;
use serde::{Deserialize, Deserializer};

use super::digest::Digest;
use super::names::{FactName, FactValue, Invalid, SourceName};
use super::refusal::Refusal;
use super::time::{Moment, Timestamp};
use super::verify::{self, VerifiedSet};
use super::webhook::{self, Delivery, WebhookKey, WebhookSecret};

/// No fact is stated for longer, in seconds: 30 days. What is older need not be read again at a start.
pub const LONGEST: i64 = 30 * 86_400;
/// So many facts are in one message at most.
pub const MOST: usize = 100;

/// Who states facts, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The key that signs them; without one only a secret can.
    pub key: Option<WebhookKey>,
    /// The names that it may speak of.
    pub facts: Vec<NamePattern>,
}

/// A fact's name, or how names begin: `oncall:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    begins: String,
    whole: bool,
}

impl NamePattern {
    /// Whether a name is one of these.
    fn fits(&self, name: &FactName) -> bool {
        if self.whole { name.as_str() == self.begins } else { name.as_str().starts_with(&self.begins) }
    }
}

impl FromStr for NamePattern {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let begins = text.strip_suffix('*').unwrap_or(text);
        let named: Result<FactName, _> = begins.parse();
        named.map_err(|_| Invalid::new("fact", text, "write a name, or how it begins and * at its end: oncall:*"))?;
        Ok(Self { begins: begins.to_owned(), whole: begins.len() == text.len() })
    }
}

/// Which of two words on one fact is the later: when it became so, as its source says, then when that was sent. Not
/// the other way round: an attempt that is made again is sent later and tells the same old story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The body's `timestamp`.
    pub at: Moment,
    /// `webhook-timestamp`.
    pub sent: Timestamp,
}

/// What a source said, signed by one of its keys and within what the policy lets it say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub source: SourceName,
    /// SHA-256 of what was signed.
    pub digest: Digest,
    /// When it became so.
    pub order: Order,
    /// Each name once.
    lines: BTreeMap<FactName, Option<(FactValue, Timestamp)>>,
}

impl Message {
    /// Verifies a webhook by the policy's word on its source, and by the secrets that are shared with it, and reads it.
    pub fn check(
        delivery: &Delivery,
        source: Option<&Source>,
        secrets: &[WebhookSecret],
        seen: &VerifiedSet,
    ) -> Result<Self, Refusal> {
        let source = source.ok_or(Refusal::UnknownSource)?;
        delivery.check(source.key.as_ref(), secrets, seen)?;
        Self::read(delivery)?.within(source)
    }

    /// Refuses a message that speaks of what is not its source's.
    pub fn within(self, source: &Source) -> Result<Self, Refusal> {
        match self.lines.keys().find(|name| !source.facts.iter().any(|pattern| pattern.fits(name))) {
            Some(name) => Err(Refusal::ForeignFact { name: name.clone(), by: self.source.clone() }),
            None => Ok(self),
        }
    }

    /// Reads a webhook, whoever signed it.
    pub fn read(delivery: &Delivery) -> Result<Self, Refusal> {
        let fail = |what: &str| Refusal::Facts { what: what.to_owned() };
        if delivery.body.len() > webhook::LONGEST_BODY {
            return Err(fail("a message has at most 16 KiB"));
        }
        let body: Body = serde_json::from_slice(&delivery.body).map_err(|e| fail(&e.to_string()))?;
        let ahead = body.timestamp.0.second().since(delivery.sent);
        if ahead > webhook::AHEAD_BY {
            return Err(Refusal::WebhookFuture { seconds: ahead });
        }
        if !(1..=MOST).contains(&body.data.facts.len()) {
            return Err(fail("a message has 1 to 100 facts"));
        }
        let order = Order { at: body.timestamp.0, sent: delivery.sent };
        let mut lines = BTreeMap::new();
        for line in body.data.facts {
            let said = match (line.value, line.until.map(|until| until.0.second())) {
                (None, None) => None,
                (None, Some(_)) => return Err(fail("what ends has no until")),
                (Some(_), None) => return Err(fail("until is missing: when does it end?")),
                (Some(value), Some(until)) => Some((value, until)),
            };
            if said.as_ref().is_some_and(|(_, until)| !(1..=LONGEST).contains(&until.since(order.at.second()))) {
                return Err(fail("until lies after timestamp, at most 30 days"));
            }
            if lines.insert(line.name, said).is_some() {
                return Err(fail("a name stands there twice"));
            }
        }
        Ok(Self { source: delivery.from.clone(), digest: delivery.digest(), order, lines })
    }

    /// What it speaks of.
    pub fn names(&self) -> impl Iterator<Item = &FactName> {
        self.lines.keys()
    }

    /// What it says of one name: `None` inside when that is over.
    pub fn says(&self, name: &FactName) -> Option<Option<Fact>> {
        let said = self.lines.get(name)?;
        Some(said.as_ref().map(|(value, until)| Fact {
            value: value.clone(),
            // A claim may have been signed so long before it is decided on.
            since: self.order.at.second().plus(-verify::FRESH_FOR),
            until: *until,
            source: Some(self.source.clone()),
            message: self.digest,
        }))
    }
}

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
    /// Who says so.
    pub source: Option<SourceName>,
    /// SHA-256 of the message.
    pub message: Digest,
}

/// The facts that were stated, the latest word on each. One that is absent, over or not yet begun does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<FactName, Word>);

/// The latest word on one name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    order: Option<Order>,
    fact: Option<Fact>,
}

impl Facts {
    /// The fact of this name, if it counts at a moment.
    pub fn at(&self, name: &FactName, at: Timestamp) -> Option<&Fact> {
        let fact = self.0.get(name)?.fact.as_ref();
        fact.filter(|fact| fact.since <= at && at < fact.until)
    }

    /// All that count at a moment.
    pub fn all_at(&self, at: Timestamp) -> impl Iterator<Item = (&FactName, &Fact)> {
        self.0.keys().filter_map(move |name| Some((name, self.at(name, at)?)))
    }

    /// Hears a message: for each name that it speaks of, unless a later word on it was heard. Of two words of one
    /// moment the one that comes later counts.
    pub fn hear(&mut self, message: &Message) {
        for name in message.lines.keys() {
            if self.order(name).is_none_or(|known| known <= message.order) {
                let fact = message.says(name).flatten();
                self.0.insert(name.clone(), Word { order: Some(message.order), fact });
            }
        }
    }

    /// Hears what a message says of one name, and nothing else of it.
    pub fn hear_of(&mut self, name: &FactName, message: &Message) {
        let word = Word { order: Some(message.order), fact: message.says(name).flatten() };
        self.0.insert(name.clone(), word);
    }

    /// The same for messages that are read again, the newest first.
    pub fn recall(&mut self, message: &Message) {
        for name in message.lines.keys().filter(|name| self.order(name).is_none()).cloned().collect::<Vec<_>>() {
            self.hear_of(&name, message);
        }
    }

    /// How late the last word on a name is.
    pub fn order(&self, name: &FactName) -> Option<Order> {
        self.0.get(name)?.order
    }

    /// Those that count at a moment, as if they always had: for what was claimed before they were stated again.
    #[must_use]
    pub fn standing(&self, at: Timestamp) -> Self {
        let always = |fact: &Fact| Fact { since: Timestamp::from_unix(0), ..fact.clone() };
        self.all_at(at).map(|(name, fact)| (name.clone(), always(fact))).collect()
    }
}

impl Facts {
    /// Facts as people write them down, `oncall:dba:primary = alice`: each holds for a day from a moment on.
    pub fn written<'t>(lines: impl IntoIterator<Item = &'t str>, since: Timestamp) -> Result<Self, Invalid> {
        let fact = |line: &'t str| {
            let rule = "write it as in oncall:dba:primary = alice";
            let (name, value) = line.split_once(" = ").ok_or_else(|| Invalid::new("fact", line, rule))?;
            Ok((
                name.parse()?,
                Fact { value: value.parse()?, since, until: since.plus(A_DAY), source: None, message: Digest::of(b"") },
            ))
        };
        lines.into_iter().map(fact).collect()
    }
}

impl FromIterator<(FactName, Fact)> for Facts {
    fn from_iter<I: IntoIterator<Item = (FactName, Fact)>>(facts: I) -> Self {
        Self(facts.into_iter().map(|(name, fact)| (name, Word { order: None, fact: Some(fact) })).collect())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "type")]
    _type: Tag,
    timestamp: Instant,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tag {
    Facts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    facts: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: FactName,
    /// `null` must be written: a field that was forgotten ends nothing.
    #[serde(deserialize_with = "Option::deserialize")]
    value: Option<FactValue>,
    until: Option<Instant>,
}

/// An instant as RFC 3339 has it, in any zone and with any fraction: other people's programs write it.
struct Instant(Moment);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let parsed = DateTime::parse_from_rfc3339(&text).ok().filter(|time| time.timestamp() >= 0);
        let time = parsed.ok_or_else(|| serde::de::Error::custom("write times as 2026-11-26T08:00:00Z"))?;
        Ok(Self(Moment::from_unix_millis(time.timestamp_millis())))
    }
}

#[cfg(test)]
mod tests;
