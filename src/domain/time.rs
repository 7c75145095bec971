//! Instants and lengths. Instants are whole seconds of UTC, as certificates count them; lengths are
//! always written with a unit, so that nobody ever gets 90 hours for 90 minutes.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names::{Invalid, as_string};

/// An instant in milliseconds since 1970, written `2026-11-22T10:01:58.042Z`: when the service saw something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// Milliseconds since 1970.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self(Timestamp::from_unix(millis.div_euclid(1000)).0 * 1000 + millis.rem_euclid(1000))
    }

    /// The whole second in which it lies.
    pub fn second(self) -> Timestamp {
        Timestamp(self.0 / 1000)
    }
}

impl FromStr for Moment {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fail = || Invalid::new("time", text, "write UTC as 2026-11-22T10:01:58.042Z");
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| fail())?;
        let moment = Self(parsed.timestamp_millis());
        if moment.0 >= 0 && moment.to_string() == text { Ok(moment) } else { Err(fail()) }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&utc.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}
as_string!(Moment);

/// The longest window that any policy may grant: 12 hours.
pub const LONGEST: u32 = 12 * 3600;

/// An instant in seconds since 1970, written `2026-11-22T10:01:58Z`, in exactly that form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// From the epoch to the end of the year 9999: what the written form can hold.
const RANGE: std::ops::RangeInclusive<i64> = 0..=253_402_300_799;

impl Timestamp {
    /// Seconds since 1970, held to the years 1970 to 9999.
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds.clamp(*RANGE.start(), *RANGE.end()))
    }

    /// Seconds since 1970.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// So many seconds later.
    pub fn plus(self, seconds: i64) -> Self {
        Self::from_unix(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to `self`, negative when it lies later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// What a person typed: any form of RFC 3339, such as `2026-11-22T11:01:58+01:00`.
    pub fn from_typed(text: &str) -> Result<Self, Invalid> {
        let parsed = DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp());
        let rule = "write it as 2026-11-22T10:01:58Z or 2026-11-22T11:01:58+01:00";
        let seconds = parsed.filter(|seconds| RANGE.contains(seconds));
        seconds.map(Self).ok_or_else(|| Invalid::new("time", text, rule))
    }

    /// The same instant for chrono.
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap_or_default()
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rule = "write UTC as 2026-11-22T10:01:58Z";
        let parsed = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ");
        let seconds = parsed.map_err(|_| Invalid::new("time", text, rule))?.and_utc().timestamp();
        let time = Self(seconds);
        if !RANGE.contains(&seconds) || time.to_string() != text {
            return Err(Invalid::new("time", text, rule));
        }
        Ok(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}
as_string!(Timestamp);

/// A length of access: 1 second to 12 hours. In JSON a number of seconds; for people `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(u32);

impl Seconds {
    /// `None` for 0 and for more than 12 hours.
    pub fn new(seconds: u64) -> Option<Self> {
        u32::try_from(seconds).ok().filter(|s| (1..=LONGEST).contains(s)).map(Self)
    }

    /// The number of seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Seconds {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let seconds = parse_length(text)?;
        Self::new(seconds).ok_or_else(|| Invalid::new("duration", text, "from 1s to 12h is possible"))
    }
}

/// How long something may stay undecided or unclaimed: 1 minute to 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patience(u32);

impl Patience {
    /// 30 days.
    pub const LONGEST: Self = Self(30 * 86_400);

    /// From a whole number of hours.
    pub(super) const fn hours(hours: u32) -> Self {
        Self(hours * 3600)
    }

    /// From a whole number of minutes.
    pub(super) const fn minutes(minutes: u32) -> Self {
        Self(minutes * 60)
    }

    /// The number of seconds.
    pub fn seconds(self) -> i64 {
        i64::from(self.0)
    }
}

impl FromStr for Patience {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let seconds = u32::try_from(parse_length(text)?).ok().filter(|s| (60..=Self::LONGEST.0).contains(s));
        seconds.map(Self).ok_or_else(|| Invalid::new("duration", text, "from 1m to 720h is possible"))
    }
}

/// How often something must be done: 1 to 366 days, written `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Days(u32);

impl Days {
    /// The number of seconds.
    pub fn seconds(self) -> i64 {
        i64::from(self.0) * 86_400
    }
}

impl FromStr for Days {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let days = text.strip_suffix('d').and_then(|number| number.parse().ok()).map(Self);
        let written = days.filter(|days| (1..=366).contains(&days.0) && days.to_string() == text);
        written.ok_or_else(|| Invalid::new("days", text, "from 1d to 366d is possible"))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.0)
    }
}

/// Reads `90s`, `15m`, `1h30m`: units in falling order, each at most once, no bare number.
fn parse_length(text: &str) -> Result<u64, Invalid> {
    let fail = |rule| Invalid::new("duration", text, rule);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fail("add a unit, as in 90m, 2h or 1h30m"));
    }
    let (mut rest, mut total, mut last_unit) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| fail("write it as 90m, 2h or 1h30m"))?;
        let unit = match rest.as_bytes().get(digits) {
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(fail("write it as 90m, 2h or 1h30m")),
        };
        if unit >= last_unit {
            return Err(fail("write it as 90m, 2h or 1h30m"));
        }
        (rest, last_unit) = (&rest[digits + 1..], unit);
        total = number.checked_mul(unit).and_then(|s| s.checked_add(total)).ok_or_else(|| fail("that is too long"))?;
    }
    Ok(total)
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (size, unit) in [(3600, "h"), (60, "m"), (1, "s")] {
            let count = match size {
                3600 => self.0 / 3600,
                60 => self.0 % 3600 / 60,
                _ => self.0 % 60,
            };
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let seconds = u64::deserialize(input)?;
        Self::new(seconds).ok_or_else(|| serde::de::Error::custom("seconds: from 1 to 43200 (12h) is possible"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V01: no spelling of "no end" is a length.
    #[test]
    fn lengths_need_a_unit_and_an_end() {
        for text in [
            "",
            "90",
            "0",
            "0s",
            "-1m",
            "1d",
            "1.5h",
            "h",
            "1h 30m",
            "30m1h",
            "1m1m",
            "18446744073709551616s",
            "12h1s",
            "forever",
            "NaN",
            "1e3s",
            "９0m",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text:?} must be refused");
        }
        let error = "90".parse::<Seconds>().unwrap_err().to_string();
        assert!(error.contains("add a unit, as in 90m"), "{error}");
        for (text, seconds) in [("1s", 1), ("90m", 5400), ("1h30m", 5400), ("12h", 43200), ("1h1m1s", 3661)] {
            assert_eq!(text.parse::<Seconds>().map(Seconds::get), Ok(seconds));
        }
        for json in ["0", "-1", "43201", "18446744073709551616", "1.5", "null", "\"1h\""] {
            assert!(serde_json::from_str::<Seconds>(json).is_err(), "{json} must be refused");
        }
    }

    #[test]
    fn lengths_are_shown_as_they_are_written() {
        for text in ["1s", "15m", "1h30m", "12h", "1h1m1s"] {
            assert_eq!(text.parse::<Seconds>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn instants_have_one_form() {
        let time: Timestamp = "2026-11-22T10:01:58Z".parse().unwrap();
        assert_eq!((time.unix(), time.to_string().as_str()), (1_795_341_718, "2026-11-22T10:01:58Z"));
        for text in [
            "2026-11-22T10:01:58+00:00",
            "2026-11-22 10:01:58Z",
            "2026-11-22T10:01:58.0Z",
            "2026-1-2T3:4:5Z",
            "1969-12-31T23:59:59Z",
            "2026-11-22T10:01:60Z",
            "+2026-11-22T10:01:58Z",
            "12026-11-22T10:01:58Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?} must be refused");
        }
        assert_eq!(Timestamp::from_unix(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
    }
}
