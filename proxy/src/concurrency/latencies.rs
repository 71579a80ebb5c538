//! How long answers took, counted by many threads at once, without a lock.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Of each power of two: an eighth is the precision of what is read.
const PARTS: u64 = 8;
/// Up to 2^27 µs, more than two minutes. What takes longer is counted there.
const BUCKETS: usize = 200;

/// Counts by logarithmic buckets of microseconds.
#[derive(Debug)]
pub(super) struct Latencies([AtomicU32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Latencies {
    pub(super) fn add(&self, latency: Duration) {
        if let Some(bucket) = self.0.get(place(latency)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().fold(0, |sum, bucket| sum.saturating_add(bucket.load(Relaxed)))
    }

    /// The median of what was counted since the last time; counting begins anew. `None`: nothing was.
    pub(super) fn take(&self) -> Option<Duration> {
        let counts = self.0.each_ref().map(|bucket| bucket.swap(0, Relaxed));
        let sum: u64 = counts.iter().copied().map(u64::from).sum();
        let mut below = 0;
        let middle = counts.iter().position(|count| {
            below += u64::from(*count);
            below > sum / 2
        });
        middle.map(value)
    }
}

fn place(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros.checked_ilog2().filter(|octave| *octave >= PARTS.ilog2()) else {
        return usize::try_from(micros).unwrap_or(BUCKETS - 1);
    };
    let part = (micros >> (octave - PARTS.ilog2())) % PARTS;
    let place = u64::from(octave - PARTS.ilog2() + 1) * PARTS + part;
    usize::try_from(place).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn value(place: usize) -> Duration {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    let (octave, part) = (place / PARTS, place % PARTS);
    Duration::from_micros(match octave.checked_sub(1) {
        None => part,
        Some(doublings) => {
            let width = 1 << doublings;
            (PARTS + part) * width + width / 2
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_right_to_an_eighth() {
        let rows: [(&[u64], u64); 8] = [
            (&[0], 0),
            (&[7], 7),
            (&[9], 9),
            (&[1_000], 992),
            (&[1_000, 20_000, 3], 992),
            (&[20_000, 20_000, 21_000, 5, 5], 19_456),
            (&[59_000_000], 60_817_408),
            (&[u64::MAX], 130_023_424),
        ];
        for (micros, median) in rows {
            let latencies = Latencies::default();
            micros.iter().for_each(|micros| latencies.add(Duration::from_micros(*micros)));
            assert_eq!(latencies.count(), u32::try_from(micros.len()).unwrap());
            assert_eq!(latencies.take(), Some(Duration::from_micros(median)), "{micros:?}");
            assert_eq!(latencies.take(), None, "counting begins anew");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_latency_has_a_bucket_whose_middle_is_near_it(micros in 0..130_000_000_u64) {
            let read = u64::try_from(value(place(Duration::from_micros(micros))).as_micros()).unwrap();
            proptest::prop_assert!(read.abs_diff(micros) <= micros / 8, "{micros} is read as {read}");
        }
    }
}
