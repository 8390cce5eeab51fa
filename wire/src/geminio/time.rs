//! Wall-clock times as Go writes them (RFC 3339, up to nine digits of fraction).
//!
//! The calendar is jiff's. The text is taken apart here, because jiff's parser accepts what Go refuses (a space in
//! place of the `T`, a 60th second, a time without seconds), and refuses what Go accepts (more than nine digits of
//! fraction, the last hours of the year 9999).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// Seconds from Go's zero time, the beginning of the year 1, to 1970.
const ZERO: i64 = -62_135_596_800;
/// The last second with a year of four digits: Go reads nothing later.
const LAST: i64 = 253_402_300_799;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A point in time. Go's zero time, which means "none", is never one: see [`Time::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970.
    pub secs: i64,
    /// Nanoseconds of that second, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// Reads a time. `Some(None)`: Go's zero time; `None`: the text is not a time.
    pub fn parse(text: &str) -> Option<Option<Time>> {
        let bytes = text.as_bytes();
        let (date, rest) = bytes.split_at_checked(19)?;
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if marks.iter().any(|(at, mark)| date[*at] != *mark) {
            return None;
        }
        let year = i16::from(two_digits(&date[..2])?) * 100 + i16::from(two_digits(&date[2..4])?);
        let (month, day) = (two_digits(&date[5..7])?, two_digits(&date[8..10])?);
        let (hour, minute) = (two_digits(&date[11..13])?, two_digits(&date[14..16])?);
        let local = DateTime::new(year, month, day, hour, minute, two_digits(&date[17..])?, 0).ok()?;
        let (nanos, zone) = fraction(rest)?;
        let secs = local.duration_since(EPOCH).as_secs() - offset(zone)?;
        let time = Time { secs, nanos };
        Some((time != Time { secs: ZERO, nanos: 0 }).then_some(time))
    }

    /// The time `wait` after `now`, which is a wall-clock time.
    pub fn after(now: SystemTime, wait: Duration) -> Time {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(wait);
        Time { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    }

    /// How long after `now` this time is; `None` if it has passed.
    pub fn remaining(self, now: SystemTime) -> Option<Duration> {
        let secs = u64::try_from(self.secs).ok()?;
        let at = UNIX_EPOCH.checked_add(Duration::new(secs, self.nanos))?;
        at.duration_since(now).ok().filter(|left| !left.is_zero())
    }
}

/// A number of exactly two ASCII digits.
fn two_digits(digits: &[u8]) -> Option<i8> {
    match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(((tens - b'0') * 10 + ones - b'0') as i8),
        _ => None,
    }
}

/// The fraction in nanoseconds, 0 if there is none, and the text behind it. Digits beyond nine are dropped, as in Go.
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
        [sign @ (b'+' | b'-'), hours @ .., b':', m0, m1] => {
            let (hours, minutes) = (two_digits(hours)?, two_digits(&[*m0, *m1])?);
            let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

impl fmt::Display for Time {
    /// As Go writes it in UTC, without zeros at the end of the fraction. A time before Go's zero time or after the
    /// year 9999, which Go could not read, is written as the nearest that it can.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = SignedDuration::from_secs(self.secs.clamp(ZERO, LAST));
        let nanos = SignedDuration::from_nanos(self.nanos.min(999_999_999).into());
        write!(f, "{}Z", EPOCH.saturating_add(since).saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_with_any_fraction_and_zone() {
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
