//! What follows broken glass: until when it is reviewed, how often is too often, and how it is practised.

use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDate, Weekday};
use chrono_tz::Tz;

use super::Policy;
use crate::domain::names::{GroupName, HostName, PersonName, RequestId, RoleName};
use crate::domain::time::{Days, Seconds, Timestamp};

/// What is asked of those who answer for broken glass.
#[derive(Debug, Clone)]
pub struct Reviews {
    /// So many working days are there for a review.
    pub(in crate::domain) working_days: u32,
    /// By whose clocks days end.
    pub(in crate::domain) zone: Tz,
    /// More uses by one person or group in 7 days are an alarm.
    pub most_in_7_days: u32,
    /// More in 30 days are one, too.
    pub most_in_30_days: u32,
}

impl Default for Reviews {
    fn default() -> Self {
        Self { working_days: 2, zone: Tz::UTC, most_in_7_days: 2, most_in_30_days: 5 }
    }
}

impl Reviews {
    /// When the review of what was done at a moment is overdue: as the last of the working days ends (Monday to Friday,
    /// by the clocks of the policy's zone; holidays are not known). The day itself is not counted.
    pub fn due(&self, at: Timestamp) -> Timestamp {
        let works = |day: &NaiveDate| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun);
        let today = at.to_utc().with_timezone(&self.zone).date_naive();
        let days = today.iter_days().skip(1).filter(works);
        let last = days.take(self.working_days as usize).last().unwrap_or(today);
        self.end_of(last).map_or(at, |end| Timestamp::from_unix(end.timestamp()))
    }

    /// Midnight, or the first hour that there is where clocks leave midnight out.
    fn end_of(&self, day: NaiveDate) -> Option<DateTime<Tz>> {
        let next = day.succ_opt()?;
        (0..24).find_map(|hour| next.and_hms_opt(hour, 0, 0)?.and_local_timezone(self.zone).earliest())
    }
}

/// A review that nobody closed in time: nothing is approved by itself for the team of whoever broke the glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// Of which broken glass.
    pub id: RequestId,
    /// Who broke it.
    pub person: PersonName,
    /// Since when it is overdue.
    pub due: Timestamp,
}

/// `once the review of 7F3K-9QPX-M2 is closed, which was due 2026-11-25T00:00:00Z`
impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "once the review of {} is closed, which was due {}", self.id, self.due)
    }
}

/// How breaking the glass is practised.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    /// The role that drills open, and nothing else.
    pub role: RoleName,
    /// The one host of that role, which is no other role's.
    pub host: HostName,
    /// Each emergency key must be shown to work this often.
    pub every: Days,
    /// From the command to a shell.
    pub within: Seconds,
}

impl Policy {
    /// What is asked of those who answer for broken glass.
    pub fn reviews(&self) -> &Reviews {
        &self.reviews
    }

    /// How breaking the glass is practised, where it is.
    pub fn drill(&self) -> Option<&DrillPlan> {
        self.drill.as_ref()
    }

    /// Whether a role is there to be practised on.
    pub fn is_canary(&self, role: &RoleName) -> bool {
        self.drill.as_ref().is_some_and(|plan| plan.role == *role)
    }

    /// Whether two people are the same, or share a group: a team is a group.
    pub fn same_team(&self, one: &PersonName, other: &PersonName) -> bool {
        one == other || self.teams(one).any(|group| self.teams(other).any(|theirs| group == theirs))
    }

    /// The groups of a person.
    pub fn teams(&self, person: &PersonName) -> impl Iterator<Item = &GroupName> {
        self.people.get(person).into_iter().flat_map(|person| &person.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(reviews: &Reviews, at: &str) -> String {
        reviews.due(at.parse().unwrap()).to_string()
    }

    #[test]
    fn a_review_is_due_as_a_working_day_ends() {
        let utc = Reviews::default();
        // 2026-11-22 is a Sunday.
        for (at, end) in [
            ("2026-11-23T10:00:00Z", "2026-11-26T00:00:00Z"),
            ("2026-11-23T00:00:00Z", "2026-11-26T00:00:00Z"),
            ("2026-11-26T23:59:59Z", "2026-12-01T00:00:00Z"),
            ("2026-11-27T10:00:00Z", "2026-12-02T00:00:00Z"),
            ("2026-11-28T10:00:00Z", "2026-12-02T00:00:00Z"),
            ("2026-11-29T10:00:00Z", "2026-12-02T00:00:00Z"),
        ] {
            assert_eq!(due(&utc, at), end, "{at}");
        }
        assert_eq!(due(&Reviews { working_days: 5, ..utc }, "2026-11-25T10:00:00Z"), "2026-12-03T00:00:00Z");
    }

    /// 23:30 UTC is the next day in Berlin; and in Santiago clocks leave out the midnight at which it would be due.
    #[test]
    fn days_end_by_the_clocks_of_the_zone() {
        let berlin = Reviews { zone: Tz::Europe__Berlin, ..Reviews::default() };
        assert_eq!(due(&berlin, "2026-11-23T22:30:00Z"), "2026-11-25T23:00:00Z");
        assert_eq!(due(&berlin, "2026-11-23T23:30:00Z"), "2026-11-26T23:00:00Z");
        assert_eq!(due(&berlin, "2026-03-26T12:00:00Z"), "2026-03-30T22:00:00Z", "summer time began in between");
        let santiago = Reviews { working_days: 1, zone: Tz::America__Santiago, ..Reviews::default() };
        let end = santiago.end_of(NaiveDate::from_ymd_opt(2026, 9, 5).unwrap()).unwrap();
        assert_eq!(end.to_rfc3339(), "2026-09-06T01:00:00-03:00");
    }
}
