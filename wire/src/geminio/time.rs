//! Wall-clock times as Go writes them (RFC 3339, up to nine digits of fraction).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from Go's zero time, the beginning of year 1, to 1970.
const ZERO: i64 = -62_135_596_800;
const DAY: i64 = 86_400;

/// A point in time. Go's zero time, which means "none", is never one: see [`Time::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970.
    pub secs: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// Reads a time. `Some(None)`: the zero time; `None`: no time at all.
    pub fn parse(text: &str) -> Option<Option<Time>> {
        let bytes = text.as_bytes();
        let (date, rest) = bytes.split_at_checked(19)?;
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if marks.iter().any(|(at, mark)| date[*at] != *mark) {
            return None;
        }
        let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?);
        let (hour, minute, second) = (number(&date[11..13])?, number(&date[14..16])?, number(&date[17..])?);
        let possible = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !possible {
            return None;
        }
        let (nanos, zone) = fraction(rest)?;
        let local = days(year, month, day) * DAY + hour * 3_600 + minute * 60 + second;
        let time = Time { secs: local - offset(zone)?, nanos };
        Some((time != Time { secs: ZERO, nanos: 0 }).then_some(time))
    }

    /// So long after `now`, which is a wall-clock time.
    pub fn after(now: SystemTime, wait: Duration) -> Time {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(wait);
        Time { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    }

    /// How long after `now` it is; `None`: it has passed.
    pub fn remaining(self, now: SystemTime) -> Option<Duration> {
        let secs = u64::try_from(self.secs).ok()?;
        let at = UNIX_EPOCH.checked_add(Duration::new(secs, self.nanos))?;
        at.duration_since(now).ok().filter(|left| !left.is_zero())
    }
}

/// Up to four ASCII digits.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// A fraction, if there is one, as nanoseconds, and what follows it. Digits beyond nine are cut.
fn fraction(rest: &[u8]) -> Option<(u32, &[u8])> {
    let Some(after) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nanos = (0..9).map(|at| if at < count { u32::from(after[at] - b'0') } else { 0 });
    Some((nanos.fold(0, |sum, digit| sum * 10 + digit), &after[count..]))
}

/// Seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', m0, m1] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&[*m0, *m1])?);
            let seconds = hours * 3_600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms", days_from_civil).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day (the same source, civil_from_days).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

impl fmt::Display for Time {
    /// As Go writes it in UTC; zeros at the end of the fraction are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lies outside of four-digit years is nothing that Go could read.
        let secs = self.secs.clamp(ZERO, 253_402_300_799);
        let (year, month, day) = civil(secs.div_euclid(DAY));
        let of_day = secs.rem_euclid(DAY);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos > 0 {
            let nanos = format!("{:09}", self.nanos.min(999_999_999));
            write!(f, ".{}", nanos.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_with_any_fraction_and_zone() {
        let at = |text| Time::parse(text).flatten();
        let noon = at("2026-11-23T12:00:00Z").unwrap();
        assert_eq!(at("2026-11-23T14:30:00+02:30"), Some(noon));
        assert_eq!(at("2026-11-23T07:00:00.000-05:00"), Some(noon));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some(Time { secs: 1, nanos: 500_000_000 }));
        assert_eq!(at("2000-02-29T00:00:00Z").map(|time| time.secs), Some(951_782_400));
        assert_eq!(Time::parse("0001-01-01T00:00:00Z"), Some(None));
        for bad in [
            "",
            "2026-11-23",
            "2026-02-29T00:00:00Z",
            "2026-11-23T12:00:00",
            "2026-11-23T12:00:00.Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23 12:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T12:00:00+2:00",
            "2026-11-23T12:00:00Zx",
            "2026-11-23T12:00:00é",
        ] {
            assert_eq!(Time::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn survives_being_written(secs in ZERO + 1..253_402_300_800_i64, nanos in 0..1_000_000_000_u32) {
            let time = Time { secs, nanos };
            proptest::prop_assert_eq!(Time::parse(&time.to_string()), Some(Some(time)));
        }

        #[test]
        fn no_text_breaks_it(text in ".{0,40}") {
            let _ = Time::parse(&text);
        }
    }
}
