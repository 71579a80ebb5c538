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
/// it, as Envoy has it, and five milliseconds, which on a busy host are no more than other programs' turns.
const TOLERANCE_PARTS: u32 = 4;
const TOLERANCE: Duration = Duration::from_millis(5);
/// Refusals with pauses no longer than this are one time of refusing.
const SHED_PAUSE: Duration = Duration::from_secs(1);
/// When it has refused for so long, in half of all looks, the baseline is doubted: the application itself may have become
/// slower.
const SHED_DOUBT: Duration = Duration::from_secs(3);
/// What came first is no more than a guess at the baseline: if nothing better has come within this time, it is measured.
const GUESS: Duration = Duration::from_secs(10);
/// A measurement that has taken so many baselines ends with what it has: what is under way has to end first, and slow answers
/// take their time.
const MEASURE_BASELINES: u32 = 4;
const MEASURE_MIN: Duration = Duration::from_secs(2);
const MEASURE_MAX: Duration = Duration::from_secs(10);
/// And between two of them there are so many times its length at least.
const MEASURE_PAUSE: u32 = 10;
/// What comes by itself moves the baseline no more often than this.
const LEARN_INTERVAL: Duration = Duration::from_secs(1);
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
    until: Instant,
    /// The limit that comes in force again.
    resume: u32,
}

/// A time of refusing.
#[derive(Clone, Copy, Debug)]
struct Shedding {
    first: Instant,
    last: Instant,
    looks: u32,
    /// Those that saw a refusal.
    refusing: u32,
}

/// One limit.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    bounds: AdaptiveConcurrency,
    /// Between the end of a measurement and the begin of the next.
    interval: Duration,
    limit: u32,
    baseline: Option<Duration>,
    /// It was seen where nothing waits; else it is only what came first.
    certain: bool,
    began: Instant,
    learned_at: Option<Instant>,
    /// The limit before it was lowered, step by step, and the median that it was lowered for first.
    lowered: Option<(u32, Duration)>,
    /// Lowering it did not help.
    in_vain: bool,
    measuring: Option<Measuring>,
    /// No measurement before this.
    not_before: Instant,
    shedding: Option<Shedding>,
}

impl Gradient {
    pub(super) fn new(bounds: AdaptiveConcurrency, interval: Duration, now: Instant) -> Self {
        Self {
            bounds,
            interval,
            limit: Self::beginning(bounds),
            baseline: None,
            certain: false,
            began: now,
            learned_at: None,
            lowered: None,
            in_vain: false,
            measuring: None,
            not_before: now,
            shedding: None,
        }
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

    /// What takes longer than this is slow; `None`: not known yet.
    pub(super) fn well(&self) -> Option<Duration> {
        self.baseline.map(|baseline| baseline + baseline / TOLERANCE_PARTS + TOLERANCE)
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
        if self.measuring.is_some_and(|measuring| now >= measuring.until) { QUIET_SLOW } else { QUIET }
    }

    pub(super) fn look(&mut self, now: Instant, seen: &Seen) -> Turn {
        self.learn(now, seen);
        if let Some(measuring) = self.measuring {
            if seen.quiet.is_none() && now < measuring.until {
                return Turn::Nothing;
            }
            self.measuring = None;
            self.shedding = None;
            self.lowered = None;
            self.in_vain = false;
            // Where it brought nothing, another one would not either: the guess holds until there is a reason to doubt it.
            self.certain |= self.baseline.is_some();
            let took = now.saturating_duration_since(measuring.since);
            self.not_before = now + self.interval.max(took.saturating_mul(MEASURE_PAUSE));
            self.limit = measuring.resume;
            return Turn::Limit;
        }
        self.note_refusals(now, seen.refused);
        self.note_median(seen.now);
        if now >= self.not_before && self.is_doubtful(now) {
            let patience = self.baseline.unwrap_or_default().saturating_mul(MEASURE_BASELINES);
            let until = now + patience.clamp(MEASURE_MIN, MEASURE_MAX);
            // A limit that was found by a guess is none.
            let resume = if self.certain { self.limit } else { Self::beginning(self.bounds) };
            self.measuring = Some(Measuring { since: now, until, resume });
            return Turn::Measure;
        }
        match (seen.now, self.well()) {
            (Some(median), Some(well)) => self.follow(median, well, seen.busy),
            _ => Turn::Nothing,
        }
    }

    /// A measurement is believed, but it lowers the baseline by a fifth at most: whoever may call could fill it with requests that
    /// cost nothing. What comes by itself says where the baseline goes; under load, that it is no longer than so.
    fn learn(&mut self, now: Instant, seen: &Seen) {
        let known = self.baseline.filter(|_| self.certain || seen.quiet.is_none());
        self.certain |= seen.quiet.is_some();
        let Some(known) = known else {
            self.baseline = seen.quiet.or(seen.now);
            return;
        };
        if self.is_measuring() {
            self.baseline = Some(seen.quiet.map_or(known, |quiet| quiet.max(known / 5 * 4)));
            return;
        }
        let less = seen.now.filter(|median| *median < known);
        if let Some(new) = seen.quiet.or(less)
            && self.learned_at.is_none_or(|last| now >= last + LEARN_INTERVAL)
        {
            self.baseline = Some((known + new) / 2);
            self.learned_at = Some(now);
        }
    }

    /// An application that has too much to do answers faster when it is given less. One that does not has another reason.
    fn note_median(&mut self, median: Option<Duration>) {
        if let (Some(median), Some((limit, before))) = (median, self.lowered) {
            let lower = self.limit <= limit / 4 * 3;
            self.in_vain |= lower && median >= before / 10 * 9;
        }
    }

    fn note_refusals(&mut self, now: Instant, refused: bool) {
        let Some(shedding) = &mut self.shedding else {
            self.shedding = refused.then_some(Shedding { first: now, last: now, looks: 1, refusing: 1 });
            return;
        };
        shedding.looks = shedding.looks.saturating_add(1);
        if refused {
            shedding.last = now;
            shedding.refusing = shedding.refusing.saturating_add(1);
        } else if now > shedding.last + SHED_PAUSE {
            self.shedding = None;
        }
    }

    /// Whether the baseline may be wrong.
    fn is_doubtful(&self, now: Instant) -> bool {
        let long = |shedding: &Shedding| now >= shedding.first + SHED_DOUBT;
        let much = |shedding: &Shedding| shedding.refusing >= shedding.looks.div_ceil(2);
        let guessed = !self.certain && self.baseline.is_some() && now >= self.began + GUESS;
        guessed
            || self.in_vain
            || self.shedding.as_ref().is_some_and(|shedding| long(shedding) && much(shedding))
    }

    fn follow(&mut self, median: Duration, well: Duration, busy: bool) -> Turn {
        let micros = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX).max(1);
        let limit = u64::from(self.limit);
        let kept = (limit.saturating_mul(micros(well)) / micros(median)).min(limit);
        // So much more than the gradient says, or it could never grow; the application's queue is as long as that. A window
        // of slow answers halves it at most: it may have been bad luck.
        let next = kept.saturating_add(kept.isqrt()).max(limit.div_ceil(2));
        let next = u32::try_from(next).unwrap_or(u32::MAX).clamp(self.bounds.min, self.bounds.max);
        // A limit that nobody comes near has nothing to do with how long answers take.
        if next == self.limit || !busy {
            return Turn::Nothing;
        }
        if next < self.limit {
            self.lowered = self.lowered.or(Some((self.limit, median)));
        } else {
            (self.lowered, self.in_vain) = (None, false);
        }
        self.limit = next;
        Turn::Limit
    }
}

#[cfg(test)]
mod tests;
