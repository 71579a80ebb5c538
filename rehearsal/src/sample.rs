//! What became of requests: one sample for each, and what is still under way.
//!
//! Times are since the start of the rehearsal. A latency runs from when a request was due, not from when it was sent: a
//! generator that is kept from sending would hide from itself how long callers wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// One request that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it was due.
    pub(crate) due: Duration,
    pub(crate) latency: Duration,
    pub(crate) outcome: Outcome,
}

impl Sample {
    pub(crate) fn ended(&self) -> Duration {
        self.due.saturating_add(self.latency)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The answer came whole.
    Answered(u16),
    /// As many as there may be were under way already.
    NotSent,
    /// No connection.
    NotConnected,
    /// The connection ended before the answer did.
    BrokenOff,
    /// The answer is larger than anybody reads.
    TooLarge,
    TimedOut,
}

impl Outcome {
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Answered(200..=399))
    }

    /// In reports.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Answered(status) => return status.to_string(),
            Self::NotSent => "not sent",
            Self::NotConnected => "not connected",
            Self::BrokenOff => "broken off",
            Self::TooLarge => "too large",
            Self::TimedOut => "timed out",
        }
        .to_owned()
    }
}

/// Some requests, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    pub succeeded: u64,
    pub failed: u64,
    /// How the others ended: a status, or why there was none.
    pub failures: BTreeMap<String, u64>,
    /// Of all that were sent. `None`: there were none.
    #[serde(rename = "p50_ms", serialize_with = "milliseconds")]
    pub p50: Option<Duration>,
    #[serde(rename = "p99_ms", serialize_with = "milliseconds")]
    pub p99: Option<Duration>,
}

pub(crate) fn milliseconds<S: serde::Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.map(|value| (value.as_secs_f64() * 1e6).round() / 1e3).serialize(serializer)
}

impl Window {
    pub fn requests(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// Of a million requests. `None`: there were none.
    pub fn success_ppm(&self) -> Option<u64> {
        self.succeeded.saturating_mul(1_000_000).checked_div(self.requests())
    }

    pub(crate) fn of<'s>(samples: impl Iterator<Item = &'s Sample>) -> Self {
        let mut window = Self::default();
        let mut latencies = Vec::new();
        for sample in samples {
            // What was not sent was not slow, and not fast either.
            if sample.outcome != Outcome::NotSent {
                latencies.push(sample.latency);
            }
            if sample.outcome.is_success() {
                window.succeeded += 1;
            } else {
                window.failed += 1;
                *window.failures.entry(sample.outcome.name()).or_default() += 1;
            }
        }
        latencies.sort_unstable();
        window.p50 = percentile(&latencies, 50);
        window.p99 = percentile(&latencies, 99);
        window
    }
}

/// The smallest of the values that at least so many percent of all are not above (nearest rank). Sorted ones.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// All requests of a load.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// In the order in which they ended.
    ended: Vec<Sample>,
    /// Those under way: when each was due.
    under_way: BTreeMap<u64, Duration>,
    /// How late the generator itself was at most.
    late: Duration,
}

impl Samples {
    pub(crate) fn begun(&mut self, number: u64, due: Duration, now: Duration) {
        self.under_way.insert(number, due);
        self.late = self.late.max(now.saturating_sub(due));
    }

    pub(crate) fn late(&self) -> Duration {
        self.late
    }

    /// `now` is no earlier than with those before it.
    pub(crate) fn over(&mut self, number: u64, now: Duration, outcome: Outcome) {
        if let Some(due) = self.under_way.remove(&number) {
            self.ended.push(Sample { due, latency: now.saturating_sub(due), outcome });
        }
    }

    pub(crate) fn all(&self) -> &[Sample] {
        &self.ended
    }

    /// The requests that were due from `from` until before `to`. `None`: some of them are still under way.
    pub(crate) fn due(&self, from: Duration, to: Duration) -> Option<Window> {
        let within = |due: &Duration| (from..to).contains(due);
        if self.under_way.values().any(within) {
            return None;
        }
        // What was due in time has ended after that.
        let later = self.ended.iter().rev().take_while(|sample| sample.ended() >= from);
        Some(Window::of(later.filter(|sample| within(&sample.due))))
    }

    /// The same, of those that are over.
    pub(crate) fn known(&self, from: Duration, to: Duration) -> Window {
        Window::of(self.ended.iter().filter(|sample| (from..to).contains(&sample.due)))
    }

    /// The same, as far as it has come: those that are under way count as good or as failed, with their latency so far.
    pub(crate) fn so_far(&self, from: Duration, to: Duration, now: Duration, under_way: Hope) -> Window {
        let within = |due: &Duration| (from..to).contains(due);
        let ended = self.ended.iter().rev().take_while(|sample| sample.ended() >= from);
        let ended = ended.filter(|sample| within(&sample.due)).copied();
        let outcome = match under_way {
            Hope::Good => Outcome::Answered(200),
            Hope::Failed => Outcome::TimedOut,
        };
        let hanging = self.under_way.values().filter(|due| within(due));
        let hanging = hanging.map(|due| Sample { due: *due, latency: now.saturating_sub(*due), outcome });
        let all: Vec<Sample> = ended.chain(hanging).collect();
        Window::of(all.iter())
    }
}

/// What requests are taken for that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    Good,
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let all: Vec<_> = (1..=200).map(ms).collect();
        let rows = [
            (0, 50, None),
            (1, 50, Some(1)),
            (1, 99, Some(1)),
            (2, 50, Some(1)),
            (99, 99, Some(99)),
            (100, 99, Some(99)),
            (101, 99, Some(100)),
            (200, 50, Some(100)),
        ];
        for (count, percent, expected) in rows {
            assert_eq!(percentile(&all[..count], percent), expected.map(ms), "{percent} of {count}");
        }
    }

    #[test]
    fn a_request_counts_where_it_was_due_and_only_when_all_of_them_are_over() {
        let mut samples = Samples::default();
        for (number, due) in [(0, 0), (1, 10), (2, 20), (3, 30)] {
            samples.begun(number, ms(due), ms(due));
        }
        samples.over(2, ms(25), Outcome::Answered(503));
        samples.over(0, ms(40), Outcome::Answered(200));
        assert_eq!(samples.due(ms(10), ms(30)), None, "one is under way");
        assert_eq!(samples.due(ms(0), ms(10)).unwrap().p99, Some(ms(40)), "from when it was due");
        samples.over(1, ms(110), Outcome::Answered(201));
        let window = samples.due(ms(10), ms(30)).unwrap();
        assert_eq!((window.succeeded, window.failed, window.p50), (1, 1, Some(ms(5))));
        assert_eq!(window.failures, BTreeMap::from([("503".to_owned(), 1)]));
        assert_eq!(window.success_ppm(), Some(500_000));
        samples.begun(4, ms(40), ms(40));
        samples.over(4, ms(40), Outcome::NotSent);
        let not_sent = samples.known(ms(40), ms(50));
        assert_eq!((not_sent.failed, not_sent.p50), (1, None), "it has no latency");
        assert_eq!(samples.due(ms(21), ms(30)).unwrap().success_ppm(), None, "nothing was due");
    }

    #[test]
    fn what_is_under_way_is_what_it_is_taken_for() {
        let mut samples = Samples::default();
        for number in 0..4 {
            samples.begun(number, ms(number * 10), ms(number * 10));
        }
        samples.over(0, ms(15), Outcome::Answered(200));
        samples.over(1, ms(100), Outcome::Answered(503));
        let so_far = |from, hope| samples.so_far(ms(from), ms(30), ms(120), hope);
        let good = so_far(0, Hope::Good);
        assert_eq!((good.succeeded, good.failed, good.p99), (2, 1, Some(ms(100))));
        let failed = so_far(0, Hope::Failed);
        assert_eq!((failed.succeeded, failed.failed), (1, 2));
        assert_eq!(so_far(20, Hope::Failed).p99, Some(ms(100)), "it has lasted so long");
        assert_eq!(so_far(40, Hope::Good), Window::default());
    }

    #[test]
    fn success_is_an_answer_that_is_no_error() {
        let rows = [
            (Outcome::Answered(199), false),
            (Outcome::Answered(200), true),
            (Outcome::Answered(399), true),
            (Outcome::Answered(400), false),
            (Outcome::Answered(503), false),
            (Outcome::NotSent, false),
            (Outcome::TimedOut, false),
        ];
        for (outcome, expected) in rows {
            assert_eq!(outcome.is_success(), expected, "{outcome:?}");
        }
    }
}
