//! The tables `reviews` and `drill`.

use chrono_tz::Tz;
use serde::Deserialize;
use toml::Spanned;

use super::{Problem, Written};
use crate::domain::names::{HostName, RoleName};
use crate::domain::policy::{DrillPlan, Policy, Reviews};
use crate::domain::time::{Days, Seconds};

/// What is asked of those who answer for broken glass.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReviewsTable {
    working_days: Option<Spanned<i64>>,
    zone: Option<Spanned<String>>,
    most_in_7_days: Option<Spanned<i64>>,
    most_in_30_days: Option<Spanned<i64>>,
}

/// How breaking the glass is practised.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrillTable {
    role: Spanned<RoleName>,
    host: Spanned<HostName>,
    every: Option<Written<Days>>,
    within: Option<Written<Seconds>>,
}

pub(super) fn reviews(table: ReviewsTable) -> Result<Reviews, Problem> {
    let usual = Reviews::default();
    let zone = table.zone.map_or(Ok(usual.zone), |zone| {
        let rule = "use a name of IANA's, such as Europe/Berlin or UTC";
        zone.get_ref().parse::<Tz>().map_err(|_| (zone.span(), format!("{:?}: {rule}", zone.get_ref())))
    })?;
    Ok(Reviews {
        working_days: count(table.working_days, 1..=30, usual.working_days)?,
        zone,
        most_in_7_days: count(table.most_in_7_days, 0..=1000, usual.most_in_7_days)?,
        most_in_30_days: count(table.most_in_30_days, 0..=1000, usual.most_in_30_days)?,
    })
}

fn count(given: Option<Spanned<i64>>, range: std::ops::RangeInclusive<u32>, usual: u32) -> Result<u32, Problem> {
    let Some(given) = given else { return Ok(usual) };
    let number = u32::try_from(*given.get_ref()).ok().filter(|number| range.contains(number));
    number.ok_or_else(|| (given.span(), format!("from {} to {} is possible", range.start(), range.end())))
}

/// The canary role opens its host alone, and nothing else opens that: what is practised on is nobody's work.
pub(super) fn drill(policy: &Policy, table: DrillTable) -> Result<DrillPlan, Problem> {
    let DrillTable { role, host, every, within } = table;
    let (span, place) = (role.span(), host.span());
    let (role, host) = (role.into_inner(), host.into_inner());
    let Some(found) = policy.roles.get(&role) else { return Err((span, format!("there is no role {role}"))) };
    if found.hosts != [host.clone()] {
        return Err((span, format!("{role} must have this one host and no other: hosts = [\"{host}\"]")));
    }
    let other = policy.roles.iter().find(|(name, other)| **name != role && other.hosts.contains(&host));
    if let Some((name, _)) = other {
        return Err((place, format!("{name} opens {host}, too; practise on a host that nothing else opens")));
    }
    let quarter = "90d".parse().map(Written).map_err(|_| (0..0, String::new()));
    let minute = "60s".parse().map(Written).map_err(|_| (0..0, String::new()));
    Ok(DrillPlan { role, host, every: every.map_or(quarter, Ok)?.0, within: within.map_or(minute, Ok)?.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::*;

    const CANARY: &str = "\n[roles.canary]\nhosts = [\"canary1\"]\nprincipals = [\"canary\"]\nrequesters = [\"sre\"]\n\
                          approvers = [\"dba\"]\nmax = \"1h\"\n";
    const DRILL: &str = "[drill]\nrole = \"canary\"\nhost = \"canary1\"\n";

    fn refusal(more: &str) -> String {
        let error = Policy::parse(&(policy_text() + more)).map(|_| ()).unwrap_err().to_string();
        error.split_once(": ").map(|(_line, rest)| rest.to_owned()).unwrap()
    }

    #[test]
    fn what_is_not_written_is_usual() {
        let policy = policy();
        assert!(policy.drill().is_none() && !policy.is_canary(&role("db-prod")));
        let reviews = policy.reviews();
        assert_eq!((reviews.working_days, reviews.most_in_7_days, reviews.most_in_30_days), (2, 2, 5));
        let policy = Policy::parse(&(policy_text() + CANARY + DRILL)).unwrap();
        let plan = policy.drill().unwrap();
        assert_eq!((plan.every.seconds(), plan.within.get()), (90 * 86_400, 60));
        assert!(policy.is_canary(&role("canary")) && !policy.is_canary(&role("db-prod")));
        let more = "every = \"7d\"\nwithin = \"30s\"\n[reviews]\nworking_days = 5\nzone = \"Europe/Berlin\"\n\
                    most_in_7_days = 0\nmost_in_30_days = 1000\n";
        let policy = Policy::parse(&(policy_text() + CANARY + DRILL + more)).unwrap();
        let (plan, reviews) = (policy.drill().unwrap(), policy.reviews());
        assert_eq!((plan.every.to_string().as_str(), plan.within.get()), ("7d", 30));
        assert_eq!((reviews.working_days, reviews.zone), (5, Tz::Europe__Berlin));
    }

    /// What a drill opens is nobody's work, and it opens nothing else.
    #[test]
    fn the_canary_has_one_host_of_its_own() {
        let with = |from: &str, to: &str| refusal(&edit(&(CANARY.to_owned() + DRILL), from, to));
        assert_eq!(refusal(DRILL), "drill.role: there is no role canary");
        let one = "drill.role: canary must have this one host and no other: hosts = [\"canary1\"]";
        assert_eq!(with("hosts = [\"canary1\"]", "hosts = [\"canary1\", \"db1\"]"), one);
        assert_eq!(with("hosts = [\"canary1\"]\n", ""), one);
        assert_eq!(with("hosts = [\"canary1\"]", "hosts = [\"canary2\"]"), one);
        let other = "\n[roles.other]\nhosts = [\"canary1\"]\nprincipals = [\"x\"]\nmax = \"1h\"\n";
        let shared = "drill.host: other opens canary1, too; practise on a host that nothing else opens";
        assert_eq!(refusal(&format!("{other}{CANARY}{DRILL}")), shared);
        for (text, field) in [
            ("every = \"90\"", "days"),
            ("every = \"0d\"", "days"),
            ("every = \"367d\"", "days"),
            ("within = \"13h\"", "duration"),
        ] {
            assert!(refusal(&format!("{CANARY}{DRILL}{text}")).contains(field), "{text}");
        }
    }

    #[test]
    fn reviews_are_due_some_day() {
        let number = "from 1 to 30 is possible";
        for (text, end) in [
            ("working_days = 0", number),
            ("working_days = 31", number),
            ("working_days = -1", number),
            ("most_in_7_days = -1", "from 0 to 1000 is possible"),
            ("most_in_30_days = 1001", "from 0 to 1000 is possible"),
            ("zone = \"Berlin\"", "use a name of IANA's, such as Europe/Berlin or UTC"),
        ] {
            let refusal = refusal(&format!("[reviews]\n{text}\n"));
            let field = text.split(' ').next().unwrap();
            assert!(refusal.starts_with(&format!("reviews.{field}: ")) && refusal.ends_with(end), "{text}: {refusal}");
        }
    }

    /// Machines practise; what is real is a person's.
    #[test]
    fn a_service_practises_only() {
        let key = |roles: &str| {
            let key = stranger().public();
            format!("{CANARY}{DRILL}[[emergency_keys]]\nperson = \"robot\"\nkey = \"{key}\"\nroles = {roles}\n")
        };
        assert!(Policy::parse(&(policy_text() + &key("[\"canary\"]"))).is_ok());
        let rule =
            "emergency_keys.roles: robot is a service, which may practise on the canary role of [drill] and no other";
        assert_eq!(refusal(&key("[\"canary\", \"db-prod\"]")), rule);
        assert_eq!(refusal(&key("[\"web\"]")), rule);
    }
}
