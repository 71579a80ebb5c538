//! What proxies count of deliveries and tries.

use std::iter::Sum;
use std::ops::Add;

use serde::Serialize;

/// Sums, or what is between two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// By the watches of the services' sidecars.
    pub duplicate_deliveries: u64,
    /// Tries after the first, by the callers' proxies.
    pub retries: u64,
}

impl Counts {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            duplicate_deliveries: self.duplicate_deliveries.saturating_sub(before.duplicate_deliveries),
            retries: self.retries.saturating_sub(before.retries),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            duplicate_deliveries: self.duplicate_deliveries + other.duplicate_deliveries,
            retries: self.retries + other.retries,
        }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
