//! Moments as RFC 3339 writes them: `2026-11-30T12:00:00Z`, `2026-11-30T13:00:00.250+01:00`.

use std::time::{Duration, SystemTime};

/// What [`parse`] takes as a regular expression, but for days that a month does not have and times before 1970.
pub(crate) const PATTERN: &str =
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?(Z|[+-][0-9]{2}:[0-9]{2})$";

const DAY: u64 = 24 * 3600;
/// Days of 400 years, after which the calendar begins anew.
const ERA: u64 = 146_097;
/// From 1 March of the year 0 to 1970.
const TO_1970: u64 = 719_468;

/// Date, `T` and time of day with an offset, all of it written out; of a second, at most milliseconds. Leap seconds and times
/// before 1970 are not taken.
pub fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(11)?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date.strip_suffix('T')?, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at_checked(zone)?;
    let milliseconds = match fraction.strip_prefix('.') {
        Some(digits) => number(&format!("{digits:0<3}"), 3).filter(|_| !digits.is_empty())?,
        None if fraction.is_empty() => 0,
        None => return None,
    };
    let is_day = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_day || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local = (days_to(year, month, day) * DAY) + hour * 3600 + minute * 60 + second;
    let of_1970 = TO_1970 * DAY;
    let seconds = match zone.split_at_checked(1)? {
        ("Z", "") => local,
        ("+", offset) => local.checked_sub(seconds_of(offset)?)?,
        ("-", offset) => local + seconds_of(offset)?,
        _ => return None,
    };
    let since = seconds.checked_sub(of_1970)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since * 1000 + milliseconds))
}

/// In UTC; milliseconds where there are any. A time that [`parse`] does not take is written as the nearest that it does.
pub fn write(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(last());
    let (seconds, milliseconds) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil(seconds / DAY + TO_1970);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let fraction = if milliseconds == 0 { String::new() } else { format!(".{milliseconds:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The end of the year 9999, since 1970.
fn last() -> Duration {
    Duration::from_millis((days_to(10_000, 1, 1) - TO_1970) * DAY * 1000 - 1)
}

fn seconds_of(offset: &str) -> Option<u64> {
    let [hours, minutes] = numbers(offset, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// Numbers of these many digits with `between` them, and nothing else.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(between);
    let mut out = [0; N];
    for (out, digits) in out.iter_mut().zip(digits) {
        *out = number(parts.next()?, digits)?;
    }
    parts.next().is_none().then_some(out)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => {
            let is_leap = year.is_multiple_of(400) || (year.is_multiple_of(4) && !year.is_multiple_of(100));
            28 + u64::from(is_leap)
        }
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1 March of the year 0, after Howard Hinnant's `days_from_civil`: years begin in March, so that a leap day is a
/// year's last. 1 January and February of the year 0 count as the era's first day; both are long before 1970.
fn days_to(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    year / 400 * ERA + year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year
}

/// The way back: year, month and day.
fn civil(days: u64) -> (u64, u64, u64) {
    let of_era = days % ERA;
    let of_years = of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1);
    let year = of_years / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = year + days / ERA * 400;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    /// Of `date --utc --date=... +%s`.
    #[test]
    fn takes_what_rfc_3339_writes_and_nothing_else() {
        let rows = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-30T12:00:00Z", Some(1_796_040_000_000)),
            ("2026-11-30T12:00:00.5Z", Some(1_796_040_000_500)),
            ("2026-11-30T12:00:00.025Z", Some(1_796_040_000_025)),
            ("2026-11-30T13:30:00+01:30", Some(1_796_040_000_000)),
            ("2026-11-30T00:00:00-12:00", Some(1_796_040_000_000)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:00:00+00:01", None),
            ("2023-02-29T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            ("2026-04-31T00:00:00Z", None),
            ("2026-00-10T00:00:00Z", None),
            ("2026-13-10T00:00:00Z", None),
            ("2026-11-00T00:00:00Z", None),
            ("2026-11-30T24:00:00Z", None),
            ("2026-11-30T12:60:00Z", None),
            ("2026-11-30T23:59:60Z", None),
            ("2026-11-30T12:00:00", None),
            ("2026-11-30T12:00Z", None),
            ("2026-11-30 12:00:00Z", None),
            ("2026-11-30t12:00:00z", None),
            ("2026-11-30", None),
            ("2026-11-30T12:00:00.Z", None),
            ("2026-11-30T12:00:00.1234Z", None),
            ("2026-11-30T12:00:00+1:00", None),
            ("2026-11-30T12:00:00+24:00", None),
            ("2026-11-30T12:00:00+0100", None),
            ("2026-11-30T12:00:00Z[UTC]", None),
            ("2026-11-30T12:00:00Z ", None),
            ("+026-11-30T12:00:00Z", None),
            ("2026-11-30T1\u{0662}:00:00Z", None),
            ("", None),
        ];
        let pattern = regex::Regex::new(PATTERN).unwrap();
        for (text, expected) in rows {
            assert_eq!(parse(text), expected.map(at), "{text}");
            assert!(expected.is_none() || pattern.is_match(text), "{text} and the pattern");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(milliseconds in 0..=253_402_300_799_999_u64) {
            prop_assert_eq!(parse(&write(at(milliseconds))), Some(at(milliseconds)));
        }

        #[test]
        fn what_is_read_has_the_pattern(text in r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.0-9]{0,4}[Z+-]?[0-9:]{0,5}") {
            let pattern = regex::Regex::new(PATTERN).unwrap();
            prop_assert!(parse(&text).is_none() || pattern.is_match(&text), "{}", text);
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_is_written_as_the_nearest() {
        assert_eq!(write(SystemTime::UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00Z");
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(999_999_999_999);
        assert_eq!(write(late), "9999-12-31T23:59:59.999Z");
    }
}
