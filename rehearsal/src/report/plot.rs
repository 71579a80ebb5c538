//! What happened by second, and curves of it.

use std::time::Duration;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::observe::{Counts, Observer};
use crate::sample::{Sample, Window, milliseconds};

/// One second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    pub second: u64,
    pub succeeded: u64,
    pub failed: u64,
    #[serde(rename = "p50_ms", serialize_with = "milliseconds")]
    pub p50: Option<Duration>,
    #[serde(rename = "p99_ms", serialize_with = "milliseconds")]
    pub p99: Option<Duration>,
    /// At its end. `None`: proxies do not say.
    pub in_flight: Option<u64>,
    /// Since the begin.
    #[serde(flatten)]
    pub counts: Counts,
}

impl Point {
    fn of(second: u64, window: &Window, in_flight: Option<u64>, observer: &Observer) -> Self {
        let counts = observer.counts_until(Duration::from_secs(second + 1));
        let (succeeded, failed) = (window.succeeded, window.failed);
        Self { second, succeeded, failed, p50: window.p50, p99: window.p99, in_flight, counts }
    }
}

pub(crate) fn points(evidence: &Evidence, observer: &Observer, now: Duration) -> Vec<Point> {
    match evidence {
        Evidence::Load(samples) => {
            let samples = samples.lock();
            let seconds = by_second(samples.all(), now);
            let point = |(second, (window, in_flight)): (u64, (Window, u64))| {
                Point::of(second, &window, Some(in_flight), observer)
            };
            (0..).zip(seconds).map(point).collect()
        }
        Evidence::Live => {
            let second = |second| {
                let window = observer.live(Duration::from_secs(second), Duration::from_secs(second + 1));
                Point::of(second, &window.unwrap_or_default(), None, observer)
            };
            (0..now.as_secs()).map(second).collect()
        }
    }
}

/// The requests that were due in each second, and how many were under way at its end. The last one may be a part.
fn by_second(samples: &[Sample], now: Duration) -> Vec<(Window, u64)> {
    let count = usize::try_from(now.as_secs() + u64::from(now.subsec_nanos() > 0)).unwrap_or(usize::MAX);
    let mut due: Vec<Vec<Sample>> = vec![Vec::new(); count];
    let mut ended = vec![0_u64; count];
    for sample in samples {
        let place = |time: Duration| usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
        due.get_mut(place(sample.due)).into_iter().for_each(|second| second.push(*sample));
        ended.get_mut(place(sample.ended())).into_iter().for_each(|second| *second += 1);
    }
    let mut under_way = 0_u64;
    let one = |(due, ended): (Vec<Sample>, u64)| {
        under_way = (under_way + u64::try_from(due.len()).unwrap_or(u64::MAX)).saturating_sub(ended);
        (Window::of(due.iter()), under_way)
    };
    due.into_iter().zip(ended).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Outcome;

    #[test]
    fn seconds_have_what_was_due_in_them_and_what_was_under_way_at_their_end() {
        let sample = |due: u64, latency: u64, status| Sample {
            due: Duration::from_millis(due),
            latency: Duration::from_millis(latency),
            outcome: Outcome::Answered(status),
        };
        let samples =
            [sample(0, 5, 200), sample(1100, 100, 200), sample(500, 2000, 503), sample(1200, 3000, 200)];
        let seconds = by_second(&samples, Duration::from_millis(4900));
        let shown: Vec<_> =
            seconds.iter().map(|(window, under_way)| (window.succeeded, window.failed, *under_way)).collect();
        assert_eq!(shown, [(1, 1, 1), (2, 0, 2), (0, 0, 1), (0, 0, 1), (0, 0, 0)]);
        assert_eq!(seconds[0].0.p99, Some(Duration::from_secs(2)));
        assert_eq!(by_second(&samples, Duration::ZERO), []);
    }
}
