//! `--start`: a moment as people type it, in their own zone. What a change of the clocks makes doubtful is refused,
//! never guessed.

use std::str::FromStr;

use chrono::{DateTime, Days, LocalResult, NaiveDateTime, NaiveTime, TimeZone};

use crate::domain::time::{Patience, Timestamp};

use super::Failure;

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// `+2h`: so many seconds from now.
    After(i64),
    /// `22:00`: the next such time.
    Next(NaiveTime),
    /// `2026-11-26T08:00`, in the reader's zone.
    Local(NaiveDateTime),
    /// The same with an offset, or `Z`.
    Exact(Timestamp),
}

impl FromStr for Start {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(length) = text.strip_prefix('+') {
            return length.parse::<Patience>().map(|length| Self::After(length.seconds())).map_err(|e| e.to_string());
        }
        let time = || NaiveTime::parse_from_str(text, "%H:%M").ok().map(Self::Next);
        let local = || {
            let forms = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"];
            forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).map(Self::Local)
        };
        let exact = || {
            let forms = ["%Y-%m-%dT%H:%M:%S%:z", "%Y-%m-%dT%H:%M%:z"];
            let text = text.strip_suffix('Z').map_or_else(|| text.to_owned(), |rest| format!("{rest}+00:00"));
            let parsed = forms.iter().find_map(|form| DateTime::parse_from_str(&text, form).ok())?;
            Some(Self::Exact(Timestamp::from_unix(parsed.timestamp())))
        };
        time().or_else(local).or_else(exact).ok_or_else(|| {
            "write 22:00, 2026-11-26T08:00 (your time), 2026-11-26T08:00:00+01:00, or +2h from now".to_owned()
        })
    }
}

impl Start {
    /// The moment that is meant, seen from `now` in a zone.
    pub(super) fn at<Z: TimeZone>(&self, now: Timestamp, zone: &Z) -> Result<Timestamp, Failure> {
        let here = now.to_utc().with_timezone(zone).naive_local();
        let at = match self {
            Self::After(seconds) => now.plus(*seconds),
            Self::Next(time) if *time > here.time() => the_one(here.date().and_time(*time), zone)?,
            Self::Next(time) => {
                let tomorrow = here.date().checked_add_days(Days::new(1)).unwrap_or(here.date());
                the_one(tomorrow.and_time(*time), zone)?
            }
            Self::Local(local) => the_one(*local, zone)?,
            Self::Exact(at) => *at,
        };
        if at < now {
            return Err(Failure::misuse("--start: that lies in the past").hint("leave it out to begin at once"));
        }
        Ok(at)
    }
}

/// The instant that a clock on the wall means, if it is one.
fn the_one<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> Result<Timestamp, Failure> {
    let doubt = |what: &str, hint: String| {
        Err(Failure::misuse(format!("--start: {} {what} in your zone", local.format("%Y-%m-%d %H:%M"))).hint(hint))
    };
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Ok(Timestamp::from_unix(at.timestamp())),
        LocalResult::Ambiguous(first, second) => {
            let mut both = [first, second];
            both.sort_by_key(DateTime::timestamp);
            let both = both.map(|at| at.fixed_offset().format("%Y-%m-%dT%H:%M:%S%:z").to_string());
            doubt("comes twice, as the clocks go back then,", format!("write {} or {}", both[0], both[1]))
        }
        LocalResult::None => doubt(
            "does not exist, as the clocks go forward then,",
            "take a time before or after the change, or give its offset".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, NaiveDate, Utc};

    use super::*;

    /// A zone that is an hour ahead of UTC, and two from the end of March to the end of October of 2026.
    #[derive(Debug, Clone, Copy)]
    struct Berlin;

    impl TimeZone for Berlin {
        type Offset = FixedOffset;
        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }
        fn offset_from_local_date(&self, local: &NaiveDate) -> LocalResult<FixedOffset> {
            self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
        }
        fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<FixedOffset> {
            let fits = |hours: i32| {
                let offset = FixedOffset::east_opt(hours * 3600).unwrap();
                let utc = *local - chrono::Duration::hours(i64::from(hours));
                (self.offset_from_utc_datetime(&utc) == offset).then_some(offset)
            };
            match (fits(2), fits(1)) {
                (Some(summer), Some(winter)) => LocalResult::Ambiguous(summer, winter),
                (Some(one), None) | (None, Some(one)) => LocalResult::Single(one),
                (None, None) => LocalResult::None,
            }
        }
        fn offset_from_utc_date(&self, utc: &NaiveDate) -> FixedOffset {
            self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
        }
        fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> FixedOffset {
            let change = |month, day| NaiveDate::from_ymd_opt(2026, month, day).unwrap().and_hms_opt(1, 0, 0).unwrap();
            let summer = (change(3, 29)..change(10, 25)).contains(utc);
            FixedOffset::east_opt(if summer { 7200 } else { 3600 }).unwrap()
        }
    }

    fn meant(typed: &str, now: &str) -> Result<String, String> {
        let start: Start = typed.parse()?;
        start.at(now.parse().unwrap(), &Berlin).map(|at| at.to_string()).map_err(|failure| failure.message)
    }

    #[test]
    fn what_people_type() {
        let noon = "2026-11-25T11:00:00Z";
        let table = [
            ("22:00", "2026-11-25T21:00:00Z"),
            ("08:00", "2026-11-26T07:00:00Z"),
            ("12:00", "2026-11-26T11:00:00Z"),
            ("2026-11-26T08:00", "2026-11-26T07:00:00Z"),
            ("2026-11-26 08:00", "2026-11-26T07:00:00Z"),
            ("2026-11-26T08:00:30", "2026-11-26T07:00:30Z"),
            ("2026-11-26T08:00+02:00", "2026-11-26T06:00:00Z"),
            ("2026-11-26T08:00:00Z", "2026-11-26T08:00:00Z"),
            ("2026-07-01T08:00", "2026-07-01T06:00:00Z"),
            ("+2h", "2026-11-25T13:00:00Z"),
            ("+1h30m", "2026-11-25T12:30:00Z"),
        ];
        for (typed, at) in table {
            let now = if typed.starts_with("2026-07") { "2026-06-30T00:00:00Z" } else { noon };
            assert_eq!(meant(typed, now).as_deref(), Ok(at), "{typed}");
        }
        for typed in ["", "22", "24:00", "22:60", "tomorrow", "+90", "+", "-1h", "26.11.2026", "2026-02-30T08:00", "2h"]
        {
            assert!(typed.parse::<Start>().is_err(), "{typed:?} must be refused");
        }
        assert_eq!(Utc.timestamp_opt(0, 0).unwrap().timestamp(), 0);
    }

    #[test]
    fn what_a_change_of_the_clocks_makes_doubtful_is_refused() {
        let failure = |typed: &str, now: &str| {
            let failure = typed.parse::<Start>().unwrap().at(now.parse().unwrap(), &Berlin).unwrap_err();
            (failure.message, failure.hint.unwrap_or_default())
        };
        let (message, hint) = failure("2026-10-25T02:30", "2026-10-20T00:00:00Z");
        assert!(message.contains("comes twice"), "{message}");
        assert_eq!(hint, "write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00");
        let (message, _) = failure("2026-03-29T02:30", "2026-03-20T00:00:00Z");
        assert!(message.contains("does not exist"), "{message}");
        let (message, _) = failure("02:30", "2026-10-24T20:00:00Z");
        assert!(message.contains("comes twice"), "{message}");
        assert_eq!(meant("2026-10-25T02:30:00+01:00", "2026-10-20T00:00:00Z").as_deref(), Ok("2026-10-25T01:30:00Z"));
    }

    #[test]
    fn nothing_begins_in_the_past() {
        for typed in ["2026-11-25T11:59", "2026-11-25T10:59:59Z"] {
            assert_eq!(meant(typed, "2026-11-25T11:00:00Z"), Err("--start: that lies in the past".to_owned()));
        }
    }
}
