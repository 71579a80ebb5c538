//! Between what bounds a sidecar looks for the number of requests that its application keeps up with.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// `MIN-MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// Requests that the application is given at once in any case, and no more while it is measured: so few that none waits
    /// for another.
    pub min: u32,
    /// And never more than these.
    pub max: u32,
}

impl AdaptiveConcurrency {
    /// Envoy's.
    pub const DEFAULT: Self = Self { min: 3, max: 1000 };
    const RANGE: RangeInclusive<u32> = 1..=100_000;
}

/// Why a text is no `--adaptive-concurrency` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} are no bounds: write MIN-MAX, numbers from 1 to 100000, the lesser first, for example 3-1000")]
pub struct AdaptiveConcurrencyError(String);

impl FromStr for AdaptiveConcurrency {
    type Err = AdaptiveConcurrencyError;

    fn from_str(text: &str) -> Result<Self, AdaptiveConcurrencyError> {
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|n| digits && Self::RANGE.contains(n))
        };
        let bounds = text.split_once('-').and_then(|(min, max)| {
            let (min, max) = (number(min)?, number(max)?);
            (min <= max).then_some(Self { min, max })
        });
        bounds.ok_or_else(|| AdaptiveConcurrencyError(text.into()))
    }
}

impl fmt::Display for AdaptiveConcurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_as_they_are_shown_and_near_misses_refused() {
        for text in ["1-1", "3-1000", "1-100000"] {
            assert_eq!(text.parse::<AdaptiveConcurrency>().unwrap().to_string(), text);
        }
        assert_eq!(AdaptiveConcurrency::DEFAULT.to_string(), "3-1000");
        for text in
            ["", "3", "-", "3-", "-3", "0-3", "4-3", "1-100001", "+1-3", "1-+3", "1 - 3", "a-b", "1-2-3"]
        {
            let error = text.parse::<AdaptiveConcurrency>().unwrap_err().to_string();
            assert!(error.contains("for example 3-1000"), "{text}: {error}");
        }
    }
}
