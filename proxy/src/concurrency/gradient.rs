//! The rule of an adaptive limit, without clock or counters: what it becomes after each look at how answers come.
//!
//! The limit follows a gradient, as Envoy's adaptive concurrency filter has it: how long answers take where nothing waits,
//! by how long they take now. <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter>

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::AdaptiveConcurrency;

/// What a limit begins with, before anything is known.
const BEGINNING: u32 = 20;
/// Answers that take so much longer than the baseline still count as those of an application that keeps up: a quarter of
/// it, as Envoy has it, and a millisecond, which is no more than a busy host's turn.
const TOLERANCE_PARTS: u64 = 4;
const TOLERANCE: Duration = Duration::from_millis(1);
/// Refusals with pauses no longer than this are one time of refusing.
const SHED_PAUSE: Duration = Duration::from_secs(1);
/// When it has refused for so long, the baseline is doubted: the application itself may have become slower.
const SHED_DOUBT: Duration = Duration::from_secs(3);
/// A measurement that has taken so long ends with what it has.
const MEASURE_MAX: Duration = Duration::from_secs(2);
/// Answers without anybody waiting that make a baseline, and those that must do where answers are slow.
const QUIET: u32 = 10;
const QUIET_SLOW: u32 = 3;

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The median of answers to requests that were let in under the present limit, once there are enough.
    pub(super) now: Option<Duration>,
    /// The same of those beside which nearly nothing was under way.
    pub(super) quiet: Option<Duration>,
    /// More than half the limit was under way.
    pub(super) busy: bool,
    /// Somebody was turned away.
    pub(super) refused: bool,
}

/// What a look led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    /// The limit is another one: answers to requests that were let in before say nothing of it.
    Limit,
    /// A measurement begins: so few are let in that nothing waits.
    Measure,
}

#[derive(Clone, Copy, Debug)]
struct Measuring {
    since: Instant,
    /// The limit that comes in force again.
    resume: u32,
}

/// One limit.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    bounds: AdaptiveConcurrency,
    /// Between the end of a measurement and the begin of the next.
    interval: Duration,
    limit: u32,
    baseline: Option<Duration>,
    measuring: Option<Measuring>,
    not_before: Instant,
    /// The first and the last refusal of a time of refusing.
    shedding: Option<(Instant, Instant)>,
}

impl Gradient {
    pub(super) fn new(bounds: AdaptiveConcurrency, interval: Duration, now: Instant) -> Self {
        let limit = Self::beginning(bounds);
        Self { bounds, interval, limit, baseline: None, measuring: None, not_before: now, shedding: None }
    }

    /// The first limit.
    pub(super) fn beginning(bounds: AdaptiveConcurrency) -> u32 {
        BEGINNING.clamp(bounds.min, bounds.max)
    }

    pub(super) fn limit(&self) -> u32 {
        self.measuring.map_or(self.limit, |_| self.bounds.min)
    }

    /// How long answers take where nothing waits.
    pub(super) fn baseline(&self) -> Option<Duration> {
        self.baseline
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.measuring.is_some()
    }

    /// Whether requests are turned away of late.
    pub(super) fn is_shedding(&self) -> bool {
        self.is_measuring() || self.shedding.is_some()
    }

    /// How many quiet answers are enough.
    pub(super) fn quiet_wanted(&self, now: Instant) -> u32 {
        let long = self.measuring.is_some_and(|measuring| now >= measuring.since + MEASURE_MAX);
        if long { QUIET_SLOW } else { QUIET }
    }

    pub(super) fn look(&mut self, now: Instant, seen: &Seen) -> Turn {
        if let Some(quiet) = seen.quiet {
            // A measurement is believed; what comes by itself only says where it goes.
            let known = self.baseline.filter(|_| !self.is_measuring());
            self.baseline = Some(known.map_or(quiet, |known| (known + quiet) / 2));
        }
        if let Some(measuring) = self.measuring {
            if seen.quiet.is_none() && now < measuring.since + MEASURE_MAX {
                return Turn::Nothing;
            }
            self.measuring = None;
            self.shedding = None;
            self.not_before = now + self.interval;
            self.limit = measuring.resume;
            return Turn::Limit;
        }
        self.note_refusals(now, seen.refused);
        if now >= self.not_before && self.is_doubtful(now, seen) {
            self.measuring = Some(Measuring { since: now, resume: self.limit });
            return Turn::Measure;
        }
        match (seen.now, self.baseline) {
            (Some(median), Some(baseline)) => self.follow(median, baseline, seen.busy),
            _ => Turn::Nothing,
        }
    }

    fn note_refusals(&mut self, now: Instant, refused: bool) {
        self.shedding = match self.shedding {
            Some((first, _)) if refused => Some((first, now)),
            None if refused => Some((now, now)),
            Some((_, last)) if now > last + SHED_PAUSE => None,
            shedding => shedding,
        };
    }

    /// Whether the baseline may be wrong, or is not known though answers come.
    fn is_doubtful(&self, now: Instant, seen: &Seen) -> bool {
        let unknown = self.baseline.is_none() && seen.now.is_some();
        unknown || self.shedding.is_some_and(|(first, _)| now >= first + SHED_DOUBT)
    }

    fn follow(&mut self, median: Duration, baseline: Duration, busy: bool) -> Turn {
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX).max(1);
        let well = micros(baseline + TOLERANCE).saturating_add(micros(baseline) / TOLERANCE_PARTS);
        let limit = u64::from(self.limit);
        // A window of slow answers halves it at most: it may have been bad luck.
        let kept = limit.saturating_mul(well) / micros(median);
        let kept = kept.clamp(limit.div_ceil(2), limit);
        // So much more than the gradient says, or it could never grow; the application's queue is as long as that.
        let next = u32::try_from(kept.saturating_add(limit.isqrt())).unwrap_or(u32::MAX);
        let next = next.clamp(self.bounds.min, self.bounds.max);
        if next == self.limit || (next > self.limit && !busy) {
            return Turn::Nothing;
        }
        self.limit = next;
        Turn::Limit
    }
}

#[cfg(test)]
mod tests;
