//! The sliding window: what passed, and when each of it stops counting.
//!
//! Up to [`ENTRIES_MAX`] requests a window the log is exact. Above that, requests of one granule (a fifteenth of the
//! window) share an entry, which stops counting with the last of them: quota may come back up to a fifteenth of the
//! window late, never early. So no window, wherever it begins, passes more than the limit.

use std::time::Duration;

use palisade_policy::kind::rate_limit_policy::Limit;
use smallvec::SmallVec;

use super::store::State;
use super::{Standing, nanos};

/// Entries of one key, so that its memory is bounded whatever the limit.
const ENTRIES_MAX: u32 = 16;

/// What passed under one key, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(SmallVec<[Entry; 1]>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// When it counts no more, in nanoseconds on the store's clock.
    until: u64,
    n: u32,
}

/// The numbers of one limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    limit: u32,
    /// Nanoseconds.
    window: u64,
    /// Nanoseconds. 1: every request has an entry of its own, unless two come in the same nanosecond.
    granule: u64,
}

impl Window {
    pub(super) fn new(limit: &Limit) -> Self {
        let window = nanos(limit.window);
        // A span of fifteen granules touches sixteen at most.
        let granule =
            if limit.limit <= ENTRIES_MAX { 1 } else { window.div_ceil(u64::from(ENTRIES_MAX) - 1) };
        Self { limit: limit.limit, window, granule: granule.max(1) }
    }

    /// Takes `cost` at `now` (nanoseconds on the store's clock), or tells when that will be possible.
    pub(super) fn take(&self, log: &mut Log, now: u64, cost: u32) -> Result<Standing, Duration> {
        log.0.retain(|entry| entry.until > now);
        let used = log.0.iter().fold(0_u32, |sum, entry| sum.saturating_add(entry.n));
        let after = used.saturating_add(cost);
        let Some(remaining) = self.limit.checked_sub(after) else {
            return Err(self.wait(log, now, after - self.limit));
        };
        log.add(Entry { until: now.saturating_add(self.window), n: cost }, self.granule);
        let back = log.0.first().map_or(self.window, |entry| entry.until.saturating_sub(now));
        Ok(Standing { remaining, back: Duration::from_nanos(back) })
    }

    /// Until `missing` of what counts now has stopped counting.
    fn wait(&self, log: &Log, now: u64, missing: u32) -> Duration {
        let mut freed = 0_u32;
        let enough = log.0.iter().find(|entry| {
            freed = freed.saturating_add(entry.n);
            freed >= missing
        });
        // None: a cost above the limit, which policy refuses. Such a request can never pass.
        Duration::from_nanos(enough.map_or(self.window, |entry| entry.until.saturating_sub(now)))
    }
}

impl Log {
    fn add(&mut self, new: Entry, granule: u64) {
        match self.0.last_mut() {
            Some(last) if last.until.checked_div(granule) == new.until.checked_div(granule) => {
                last.until = last.until.max(new.until);
                last.n = last.n.saturating_add(new.n);
            }
            _ => self.0.push(new),
        }
    }
}

impl State for Log {
    fn recovered_at(&self) -> u64 {
        self.0.last().map_or(0, |entry| entry.until)
    }
}

#[cfg(test)]
mod tests {
    use palisade_policy::kind::rate_limit_policy::{Mode, Scope};
    use palisade_policy::kind::request_match::RequestMatch;
    use proptest::prelude::*;

    use super::*;

    fn limit(limit: u32, window: Duration) -> Limit {
        Limit {
            id: "id".into(),
            title: "n/p/a".into(),
            name: "a".into(),
            matches: RequestMatch::default(),
            key: Box::default(),
            limit,
            window,
            burst: None,
            cost: 1,
            scope: Scope::Instance,
            mode: Mode::Enforce,
            headers: true,
        }
    }

    proptest! {
        #[test]
        fn no_window_wherever_it_begins_passes_more_than_the_limit(
            most in 1_u32..60,
            steps in prop::collection::vec((0_u64..200_000_000, 1_u32..4), 1..400),
        ) {
            let window = Window::new(&limit(most, Duration::from_secs(1)));
            let (mut log, mut now, mut passed) = (Log::default(), 0, Vec::new());
            for (step, cost) in steps {
                now += step * u64::from(step % 3 != 0);
                let cost = cost.min(most);
                if window.take(&mut log, now, cost).is_ok() {
                    passed.push((now, cost));
                }
                prop_assert!(log.0.len() <= 16);
            }
            for (begin, _) in &passed {
                let within = |at: &u64| (*begin..*begin + 1_000_000_000).contains(at);
                let sum: u32 = passed.iter().filter(|(at, _)| within(at)).map(|(_, cost)| cost).sum();
                prop_assert!(sum <= most, "{sum} of {most} from {begin}");
            }
        }

        #[test]
        fn whoever_waits_as_told_is_let_in_unless_another_came_first(
            most in 1_u32..60,
            steps in prop::collection::vec(0_u64..100_000_000, 1..200),
        ) {
            let window = Window::new(&limit(most, Duration::from_secs(1)));
            let (mut log, mut now) = (Log::default(), 0);
            for step in steps {
                now += step;
                if let Err(wait) = window.take(&mut log, now, 1) {
                    let back = now + nanos(wait);
                    prop_assert!(window.take(&mut log.clone(), back - 1, 1).is_err());
                    prop_assert!(window.take(&mut log.clone(), back, 1).is_ok());
                }
            }
        }
    }

    #[test]
    fn one_entry_needs_no_memory_of_its_own() {
        assert_eq!(size_of::<Log>(), 24);
        let mut log = Log::default();
        assert!(Window::new(&limit(5, Duration::from_secs(60))).take(&mut log, 0, 1).is_ok());
        assert!(!log.0.spilled());
    }
}
