//! A number that may also be none, written out.

use std::fmt;
use std::str::FromStr;

/// How many of something there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    AtMost(usize),
    Unlimited,
}

/// Why a text is no cap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cap: write a whole number from 1 to 1000000, or \"unlimited\"")]
pub struct CapError(String);

/// More than a process has file descriptors for.
const MAX: usize = 1_000_000;

impl Cap {
    /// Whether one more may come to `count`.
    pub fn has_room(self, count: usize) -> bool {
        match self {
            Self::AtMost(max) => count < max,
            Self::Unlimited => true,
        }
    }
}

impl FromStr for Cap {
    type Err = CapError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let number = text.parse().ok().filter(|number| (1..=MAX).contains(number));
        number.map(Self::AtMost).ok_or_else(|| CapError(text.into()))
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(max) => write!(f, "{max}"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_the_word_and_never_takes_nought_for_no_limit() {
        assert_eq!("1".parse(), Ok(Cap::AtMost(1)));
        assert_eq!("1000000".parse(), Ok(Cap::AtMost(1_000_000)));
        assert_eq!("unlimited".parse(), Ok(Cap::Unlimited));
        for text in ["", "0", "-1", "1000001", "Unlimited", "none", "1k", "99999999999999999999"] {
            assert_eq!(text.parse::<Cap>(), Err(CapError(text.into())));
        }
    }

    #[test]
    fn has_room_below_its_number() {
        for (cap, count, room) in
            [(Cap::AtMost(2), 1, true), (Cap::AtMost(2), 2, false), (Cap::Unlimited, usize::MAX, true)]
        {
            assert_eq!(cap.has_room(count), room, "{cap} {count}");
        }
    }
}
