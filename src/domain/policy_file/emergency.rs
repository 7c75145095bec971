//! The tables `break_glass` and `emergency_keys`.

use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use super::{Problem, Written, at_most};
use crate::domain::key::PublicKey;
use crate::domain::names::{Invalid, PersonName, RoleName};
use crate::domain::policy::{EMERGENCY_LONGEST, EmergencyKey, EmergencyRules, Policy};
use crate::domain::statement::Category;
use crate::domain::time::{Patience, Seconds};

/// How the glass may be broken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BreakGlassTable {
    categories: Option<Vec<Spanned<Written<Category>>>>,
    cool_off: Option<Written<CoolOff>>,
    per_key: Option<Spanned<i64>>,
    in_all: Option<Spanned<i64>>,
    extend_alone: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) verify_required: bool,
}

/// From when the policy began to name an emergency key to when that acts, in seconds.
struct CoolOff(i64);

impl FromStr for CoolOff {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "none" => Ok(Self(0)),
            _ => text.parse().map(|patience: Patience| Self(patience.seconds())),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmergencyTable {
    person: Spanned<PersonName>,
    key: Spanned<PublicKey>,
    roles: Vec<Spanned<RoleName>>,
    max: Option<Spanned<Written<Seconds>>>,
    #[serde(default)]
    verify_required: bool,
}

pub(super) fn rules(table: BreakGlassTable) -> Result<EmergencyRules, Problem> {
    let usual = EmergencyRules::default();
    let count = |written: Option<Spanned<i64>>, usual| {
        let Some(written) = written else { return Ok(usual) };
        let parsed = u32::try_from(*written.get_ref()).ok().filter(|count| *count <= 10_000);
        parsed.ok_or_else(|| (written.span(), "from 0 to 10000 is possible".to_owned()))
    };
    let categories = match table.categories {
        None => usual.categories,
        Some(list) => list.into_iter().map(|category| category.into_inner().0).collect(),
    };
    if categories.is_empty() {
        return Err((0..0, "break_glass.categories is empty, so no glass could be broken".to_owned()));
    }
    Ok(EmergencyRules {
        categories,
        cool_off: table.cool_off.map_or(usual.cool_off, |written| written.0.0),
        per_key: count(table.per_key, usual.per_key)?,
        in_all: count(table.in_all, usual.in_all)?,
        extend_alone: count(table.extend_alone, usual.extend_alone)?,
    })
}

/// `verified`: all of them must be FIDO keys that ask for PIN or finger.
pub(super) fn keys(
    policy: &mut Policy,
    tables: Vec<EmergencyTable>,
    verified: bool,
    start: usize,
) -> Result<(), Problem> {
    for table in tables {
        let table = EmergencyTable { verify_required: table.verify_required || verified, ..table };
        let place = start + table.person.span().start;
        let emergency = key(policy, table)?;
        policy.emergency_keys.push(EmergencyKey { place, ..emergency });
    }
    Ok(())
}

fn key(policy: &Policy, table: EmergencyTable) -> Result<EmergencyKey, Problem> {
    let (person, key) = (table.person.get_ref(), table.key.get_ref());
    if !policy.people.contains_key(person) {
        return Err((table.person.span(), format!("there is no person {person}")));
    }
    if policy.holders.contains_key(&key.fingerprint()) {
        return Err((table.key.span(), "this is an everyday key; an emergency key must be another".to_owned()));
    }
    if policy.emergency_keys.iter().any(|e| e.key == *key) {
        return Err((table.key.span(), "this emergency key stands there twice".to_owned()));
    }
    if table.verify_required && key.application().is_none() {
        let message = "verify_required needs a FIDO key (sk-...), and this is none; it could never break the glass";
        return Err((table.key.span(), message.to_owned()));
    }
    if table.roles.is_empty() {
        return Err((table.key.span(), "roles is empty, so this key could never break the glass".to_owned()));
    }
    if let Some(role) = table.roles.iter().find(|role| !policy.roles.contains_key(role.get_ref())) {
        return Err((role.span(), format!("there is no role {}", role.get_ref())));
    }
    let real = table.roles.iter().find(|role| !policy.is_canary(role.get_ref()));
    if let Some(role) = real.filter(|_| policy.people.get(person).is_some_and(|person| person.service)) {
        let message = format!("{person} is a service, which may practise on the canary role of [drill] and no other");
        return Err((role.span(), message));
    }
    let longest = Seconds::new(EMERGENCY_LONGEST).ok_or((0..0, String::new()))?;
    let max = match &table.max {
        Some(max) => at_most(max, longest, "what break-glass may last")?,
        None => longest,
    };
    Ok(EmergencyKey {
        person: table.person.into_inner(),
        key: table.key.into_inner(),
        roles: table.roles.into_iter().map(Spanned::into_inner).collect(),
        max,
        verify_required: table.verify_required,
        place: 0,
    })
}
