//! How the glass may be broken: by which keys, how soon, how often alone, and for what kinds of emergencies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::conditions::Circumstances;
use super::decide::Asked;
use super::ticket::Tickets;
use super::{EMERGENCY_DEFAULT, EmergencyKey, Policy, Quorum, Terms};
use crate::domain::digest::Digest;
use crate::domain::facts::Facts;
use crate::domain::names::{PersonName, RoleName};
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::BadSignature;
use crate::domain::statement::{BreakGlass, Category, Seconding};
use crate::domain::time::Seconds;
use crate::domain::verify::Verified;

/// `[break_glass]` of the policy.
#[derive(Debug, Clone)]
pub struct EmergencyRules {
    /// The kinds of emergencies that are taken.
    pub categories: BTreeSet<Category>,
    /// A key that the policy began to name acts so many seconds later.
    pub cool_off: i64,
    /// So often one key may be used alone in an hour.
    pub per_key: u32,
    /// So often all keys together may be used alone in an hour.
    pub in_all: u32,
    /// So often somebody may go on alone with what ends.
    pub extend_alone: u32,
}

impl Default for EmergencyRules {
    fn default() -> Self {
        Self {
            categories: Category::ALL.iter().copied().collect(),
            cool_off: 24 * 3600,
            per_key: 3,
            in_all: 10,
            extend_alone: 1,
        }
    }
}

impl EmergencyRules {
    /// Refuses a kind of emergency that is not taken.
    fn takes(&self, category: Category) -> Result<(), Refusal> {
        if self.categories.contains(&category) {
            return Ok(());
        }
        let taken: Vec<&str> = self.categories.iter().map(|category| category.as_str()).collect();
        Err(Refusal::CategoryNotTaken { taken: taken.join(", ") })
    }
}

impl Policy {
    /// How the glass may be broken.
    pub fn emergency_rules(&self) -> &EmergencyRules {
        &self.emergency_rules
    }

    /// How many emergency keys that count open a role.
    pub fn emergency_keys_of(&self, role: &RoleName) -> u32 {
        let opens = |key: &&EmergencyKey| key.roles.contains(role) && self.not_revoked(&key.key).is_ok();
        u32::try_from(self.emergency_keys.iter().filter(opens).count()).unwrap_or(u32::MAX)
    }

    /// Whose emergency keys the policy names: a name and the fingerprint of a key.
    pub fn emergency_holders(&self) -> BTreeSet<(PersonName, Digest)> {
        self.emergency_keys.iter().map(|key| (key.person.clone(), key.key.fingerprint())).collect()
    }

    /// What an emergency key gives. The policy's denials hold in emergencies, too, as far as their conditions can be
    /// told without asking anybody: hours and addresses. A denial that hangs on a fact or a ticket is left out.
    pub fn emergency_terms(
        &self,
        emergency: &EmergencyKey,
        asked: &BreakGlass,
        from: Option<IpAddr>,
    ) -> Result<Terms, Refusal> {
        let role = self.roles.get(&asked.role).filter(|_| emergency.roles.contains(&asked.role));
        let role = role.ok_or(Refusal::NotEmergencyKey)?;
        // A drill is an emergency of no kind.
        if asked.drill.is_none() {
            self.emergency_rules.takes(asked.category)?;
        }
        let default = Seconds::new(EMERGENCY_DEFAULT).map_or(emergency.max, |d| d.min(emergency.max));
        let seconds = asked.seconds.unwrap_or(default);
        if seconds > emergency.max {
            return Err(Refusal::TooLong { asked: seconds, most: emergency.max, role: asked.role.clone() });
        }
        let hosts = role.resolve_hosts(&asked.role, &asked.hosts)?;
        let principals = role.resolve_principals(&hosts, &asked.principals)?;
        let (facts, tickets) = (Facts::default(), Tickets::default());
        let around = Circumstances { from, facts: &facts, tickets: &tickets, held: 0, overdue: None };
        let wanted = Asked {
            person: &asked.person,
            role: &asked.role,
            hosts: &asked.hosts,
            principals: &asked.principals,
            seconds: asked.seconds,
            ticket: None,
        };
        role.not_denied(&wanted, &hosts, asked.at, &around, &mut |_| ())?;
        Ok(Terms {
            principals,
            hosts,
            seconds,
            quorum: Quorum::default(),
            by: None,
            ends_by: None,
            facts: std::collections::BTreeMap::new(),
        })
    }

    /// Whether somebody may join in so that another person breaks the glass: it is another person, who has an
    /// emergency key for that very role and means that very person. Whether the key was used for it before, the
    /// journal knows.
    pub fn may_second(&self, asked: &BreakGlass, second: &Verified<Seconding>) -> Result<(), Refusal> {
        let said = second.get();
        let emergency = self.emergency_key(&said.person, second.key())?;
        if said.person == asked.person {
            return Err(Refusal::SecondUnfit { why: "nobody joins in with themselves; it takes another person" });
        }
        if (&said.requester, &said.role) != (&asked.person, &asked.role) {
            return Err(Refusal::SecondUnfit { why: "it was signed for another person or another role" });
        }
        if !emergency.roles.contains(&asked.role) {
            return Err(Refusal::SecondUnfit { why: "that emergency key is not for this role" });
        }
        if emergency.verify_required && !second.signed().signature().user_verified() {
            return Err(Refusal::Signature { why: BadSignature::NotVerified });
        }
        said.reason.fits_emergency().map_err(Refusal::from)
    }
}
