//! What looks at one proxy add up to. A proxy that starts anew counts from nothing again; sums here go on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::counts::Counts;
use super::page::{Page, Traffic};
use crate::sample::Window;

/// A breaker that opens and closes all the time says nothing new.
const OPENINGS_MAX: usize = 10_000;
/// One for each look at which a fault was under way.
const INJECTED_MAX: usize = 100_000;

/// Sums since the first look.
#[derive(Clone, Debug)]
struct Look {
    began: Duration,
    ended: Duration,
    counts: Counts,
    traffic: Traffic,
}

/// An endpoint was left out, or a bound refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opening {
    #[serde(skip)]
    pub(crate) at: Duration,
    /// The proxy that says so.
    pub proxy: String,
    pub cluster: String,
    /// As in the proxy's metrics.
    pub cause: String,
}

#[derive(Debug, Default)]
pub(super) struct History {
    looks: Vec<Look>,
    openings: Vec<Opening>,
    /// When so many more faults of one were seen.
    injected: Vec<(Duration, String, u64)>,
    last: Page,
}

/// How much a counter has grown.
fn growth(before: u64, now: u64) -> u64 {
    if now < before { now } else { now - before }
}

/// The same, of one of several. One that is new has counted from nothing.
fn grown<K: Ord>(before: &BTreeMap<K, u64>, key: &K, now: u64) -> u64 {
    growth(before.get(key).copied().unwrap_or_default(), now)
}

impl History {
    /// A look that began and ended then.
    pub(super) fn add(&mut self, proxy: &str, began: Duration, ended: Duration, page: Page) {
        let before = std::mem::replace(&mut self.last, page);
        let first = self.looks.is_empty();
        let now = &self.last;
        let mut look = match self.looks.last() {
            Some(last) => Look { began, ended, ..last.clone() },
            None => Look { began, ended, counts: Counts::default(), traffic: Traffic::default() },
        };
        if !first {
            look.counts.duplicate_deliveries += growth(before.duplicates, now.duplicates);
            look.counts.retries +=
                now.retries.iter().map(|(name, count)| grown(&before.retries, name, *count)).sum::<u64>();
            look.traffic.grow(&before.traffic, &now.traffic);
            for (key, count) in &now.breakers {
                if grown(&before.breakers, key, *count) > 0 && self.openings.len() < OPENINGS_MAX {
                    let (cluster, cause) = key.clone();
                    self.openings.push(Opening { at: ended, proxy: proxy.to_owned(), cluster, cause });
                }
            }
        }
        for (fault, count) in now.injected.iter().filter(|_| !first) {
            let grown = grown(&before.injected, fault, *count);
            if grown > 0 && self.injected.len() < INJECTED_MAX {
                self.injected.push((ended, fault.clone(), grown));
            }
        }
        self.looks.push(look);
    }

    pub(super) fn watches(&self) -> bool {
        self.last.watches
    }

    /// Since when nothing newer is known. `None`: nothing is.
    pub(super) fn known_until(&self) -> Option<Duration> {
        self.looks.last().map(|look| look.began)
    }

    /// The looks that lie around a time. `None`: it is not over for this proxy.
    fn around(&self, from: Duration, to: Duration) -> Option<(&Look, &Look)> {
        let after = self.looks.get(self.looks.partition_point(|look| look.began < to))?;
        Some((self.before(from)?, after))
    }

    /// The last look that was over by then, else the first.
    fn before(&self, time: Duration) -> Option<&Look> {
        let later = self.looks.partition_point(|look| look.ended <= time);
        self.looks.get(later.saturating_sub(1))
    }

    /// `None`: not known yet.
    pub(super) fn counts(&self, from: Duration, to: Duration) -> Option<Counts> {
        self.around(from, to).map(|(before, after)| after.counts.since(before.counts))
    }

    /// So far.
    pub(super) fn counts_since(&self, from: Duration) -> Counts {
        let both = self.before(from).zip(self.looks.last());
        both.map(|(before, last)| last.counts.since(before.counts)).unwrap_or_default()
    }

    /// From the first look until then.
    pub(super) fn counts_until(&self, to: Duration) -> Counts {
        self.before(to).map(|look| look.counts).unwrap_or_default()
    }

    /// Seen from then on, of one fault.
    pub(super) fn injected(&self, from: Duration, fault: &str) -> u64 {
        let of = self.injected.iter().filter(|(at, name, _)| *at >= from && name == fault);
        of.map(|(_, _, count)| count).sum()
    }

    pub(super) fn traffic(&self, from: Duration, to: Duration) -> Option<Traffic> {
        self.around(from, to).map(|(before, after)| after.traffic.since(&before.traffic))
    }

    /// The first one from then on.
    pub(super) fn opening(&self, from: Duration) -> Option<&Opening> {
        self.openings.iter().find(|opening| opening.at >= from)
    }
}

impl Traffic {
    fn grow(&mut self, before: &Self, now: &Self) {
        // All series of one proxy go back together, and a sum that does is that of a new process.
        let restarted = now.total() < before.total();
        let zero = Self::default();
        let before = if restarted { &zero } else { before };
        self.add(&now.since(before));
    }

    fn total(&self) -> u64 {
        self.succeeded + self.failures.values().sum::<u64>()
    }

    fn since(&self, before: &Self) -> Self {
        let failures = self.failures.iter().map(|(status, count)| {
            (status.clone(), count.saturating_sub(before.failures.get(status).copied().unwrap_or_default()))
        });
        let earlier = |bound| {
            let found = before.buckets.iter().find(|(other, _)| *other == bound);
            found.map_or(0, |(_, count)| *count)
        };
        let buckets =
            self.buckets.iter().map(|(bound, count)| (*bound, count.saturating_sub(earlier(*bound))));
        Self {
            succeeded: self.succeeded.saturating_sub(before.succeeded),
            failures: failures.filter(|(_, count)| *count > 0).collect(),
            buckets: buckets.collect(),
            above: self.above.saturating_sub(before.above),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        for (status, count) in &other.failures {
            *self.failures.entry(status.clone()).or_default() += count;
        }
        let mut buckets: BTreeMap<Duration, u64> = self.buckets.iter().copied().collect();
        for (bound, count) in &other.buckets {
            *buckets.entry(*bound).or_default() += count;
        }
        self.buckets = buckets.into_iter().collect();
        self.above += other.above;
    }

    pub(super) fn window(&self) -> Window {
        Window {
            succeeded: self.succeeded,
            failed: self.failures.values().sum(),
            failures: self.failures.clone(),
            p50: self.percentile(50),
            p99: self.percentile(99),
        }
    }

    /// As Prometheus's `histogram_quantile` has it: evenly spread within a bucket; beyond the last bound, that bound.
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let total = self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.above;
        let rank = total.saturating_mul(percent).div_ceil(100);
        if total == 0 {
            return None;
        }
        let (mut below, mut from) = (0, Duration::ZERO);
        for (bound, count) in &self.buckets {
            if below + count >= rank && *count > 0 {
                let (part, whole) = (u32::try_from(rank - below).ok()?, u32::try_from(*count).ok()?);
                return Some(from + (*bound - from).mul_f64(f64::from(part) / f64::from(whole)));
            }
            below += count;
            from = *bound;
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn page(duplicates: u64, ejections: u64, succeeded: u64) -> Page {
        let key = ("ledger".to_owned(), "consecutive_5xx".to_owned());
        let traffic = Traffic {
            succeeded,
            failures: BTreeMap::from([("503".to_owned(), 2 * succeeded)]),
            buckets: vec![(ms(10), succeeded), (ms(100), 2 * succeeded)],
            above: 0,
        };
        let injected = BTreeMap::from([("bank/slow".to_owned(), ejections)]);
        let retries = BTreeMap::from([("ledger".to_owned(), 10 * duplicates)]);
        let breakers = BTreeMap::from([(key, ejections)]);
        Page { watches: true, duplicates, retries, injected, breakers, traffic }
    }

    fn counts(duplicate_deliveries: u64) -> Counts {
        Counts { duplicate_deliveries, retries: 10 * duplicate_deliveries }
    }

    /// Looks at 0, 1, 2... seconds that take 100 ms each.
    fn history(pages: impl IntoIterator<Item = Page>) -> History {
        let mut history = History::default();
        for (page, second) in pages.into_iter().zip(0..) {
            history.add("payments", ms(second * 1000), ms(second * 1000 + 100), page);
        }
        history
    }

    #[test]
    fn counts_of_before_the_first_look_are_nobodys() {
        let history = history([page(7, 3, 50), page(7, 3, 50)]);
        assert_eq!(history.counts(ms(0), ms(1000)), Some(Counts::default()));
        assert_eq!(history.opening(ms(0)), None);
        assert_eq!(history.traffic(ms(0), ms(1000)).unwrap().window().requests(), 0);
    }

    #[test]
    fn a_time_is_known_once_a_look_began_after_it() {
        let history = history([page(0, 0, 0), page(1, 0, 0), page(3, 0, 0)]);
        let rows = [
            (100, 1000, Some(1)),
            (100, 1001, Some(3)),
            (1099, 2000, Some(3)),
            (1100, 2000, Some(2)),
            (100, 2001, None),
        ];
        for (from, to, expected) in rows {
            assert_eq!(history.counts(ms(from), ms(to)), expected.map(counts), "{from} to {to}");
        }
        assert_eq!((history.counts_since(ms(1100)), history.counts_until(ms(1100))), (counts(2), counts(1)));
    }

    #[test]
    fn a_proxy_that_starts_anew_counts_on() {
        let history = history([page(5, 5, 5), page(6, 6, 6), page(1, 1, 1), page(2, 1, 2)]);
        assert_eq!(history.counts(ms(100), ms(3000)), Some(counts(3)));
        assert_eq!(history.traffic(ms(100), ms(3000)).unwrap().succeeded, 3);
        let openings: Vec<_> = history.openings.iter().map(|opening| opening.at.as_millis()).collect();
        assert_eq!(openings, [1100, 2100]);
        assert_eq!(history.opening(ms(1101)).unwrap().at, ms(2100));
        let injected = [ms(0), ms(1101)].map(|from| history.injected(from, "bank/slow"));
        assert_eq!((injected, history.injected(ms(0), "bank/other")), ([2, 1], 0));
    }

    #[test]
    fn percentiles_of_buckets_are_spread_evenly_within_one() {
        let rows = [
            (vec![], 0, 99, None),
            (vec![(ms(10), 100)], 0, 50, Some(ms(5))),
            (vec![(ms(10), 98), (ms(110), 2)], 0, 99, Some(ms(60))),
            (vec![(ms(10), 50), (ms(20), 0), (ms(40), 50)], 0, 50, Some(ms(10))),
            (vec![(ms(10), 1)], 99, 99, Some(ms(10))),
        ];
        for (buckets, above, percent, expected) in rows {
            let traffic = Traffic { buckets: buckets.clone(), above, ..Traffic::default() };
            assert_eq!(traffic.percentile(percent), expected, "{buckets:?} {above}");
        }
    }
}
