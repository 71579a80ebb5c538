//! Durations as Istio and Go write them: `60s`, `1h30m`, `500ms`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What [`parse`] takes as a regular expression, but for its upper end.
pub(crate) fn pattern() -> String {
    let units: String = UNITS.iter().map(|(unit, _)| format!("([0-9]{{1,10}}{unit})?")).collect();
    format!("^{units}$")
}

/// Numbers with a unit (`h`, `m`, `s`, `ms`), largest unit first, each at most once. Whole numbers only; at most ten
/// digits each. `None` for anything else: a bare number has no unit, and guessing one would be wrong by a thousand.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut milliseconds: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).filter(|_| (1..=10).contains(&digits))?;
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        milliseconds = milliseconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail;
    }
    Some(Duration::from_millis(milliseconds))
}

/// With the largest unit that divides it; below a millisecond nothing is written.
pub fn write(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.as_millis());
    match seconds {
        _ if duration.subsec_nanos() != 0 => format!("{milliseconds}ms"),
        1.. if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        1.. if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;

    #[test]
    fn takes_units_in_order_and_nothing_else() {
        let rows = [
            ("60s", Some(60_000)),
            ("1h", Some(3_600_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("1m2s3ms", Some(62_003)),
            ("0s", Some(0)),
            ("60", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1S", None),
            ("1s1h", None),
            ("1s1s", None),
            ("1d", None),
            ("99999999999s", None),
        ];
        let pattern = regex::Regex::new(&pattern()).unwrap();
        for (text, expected) in rows {
            assert_eq!(parse(text), expected.map(Duration::from_millis), "{text}");
            let fits = !text.is_empty() && pattern.is_match(text);
            assert_eq!(fits, expected.is_some(), "{text} and the pattern");
        }
    }

    #[test]
    fn what_is_written_is_read_again_in_the_largest_unit() {
        let rows = [
            (0, "0s"),
            (500, "500ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (300_000, "5m"),
            (7_200_000, "2h"),
        ];
        for (milliseconds, text) in rows {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!((write(duration).as_str(), parse(text)), (text, Some(duration)));
        }
    }
}
