//! What is judged: requests of our own, or those that proxies count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_policy::rehearsal::Conditions;

use crate::judge;
use crate::observe::Observer;
use crate::sample::{Hope, Samples, Window};

/// Between two times at which a system may have recovered.
const GRAIN: Duration = Duration::from_millis(100);

/// The samples of a load, which its requests add to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<Samples>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) enum Evidence {
    Load(Shared),
    Live,
}

impl Evidence {
    /// Of the requests of a time. `None`: not all is known of them yet.
    pub(crate) fn of(&self, observer: &Observer, from: Duration, to: Duration) -> Option<Window> {
        match self {
            Self::Load(samples) => samples.lock().due(from, to),
            Self::Live => observer.live(from, to),
        }
    }

    /// The same, of as many as are known.
    pub(crate) fn known(&self, observer: &Observer, from: Duration, to: Duration) -> Window {
        match self {
            Self::Load(samples) => samples.lock().known(from, to),
            Self::Live => observer.live(from, to.min(observer.live_until())).unwrap_or_default(),
        }
    }

    /// What the guard looks at. Of the requests of the last window, those under way are taken for good: what failed fast is
    /// seen at once. Of those of the window `patience` earlier, they are taken for failed: so is what hangs.
    pub(crate) fn of_late(&self, observer: &Observer, of: &Late) -> [Window; 2] {
        match self {
            Self::Load(samples) => {
                let samples = samples.lock();
                let window = |to: Duration, hope| {
                    let from = to.saturating_sub(of.window).max(of.since);
                    samples.so_far(from, to, of.now, hope)
                };
                [window(of.now, Hope::Good), window(of.now.saturating_sub(of.patience), Hope::Failed)]
            }
            // Proxies count what has ended.
            Self::Live => {
                let to = observer.live_until();
                let from = to.saturating_sub(of.window).max(of.since);
                [observer.live(from, to).unwrap_or_default(), Window::default()]
            }
        }
    }

    /// For how long nothing was heard.
    pub(crate) fn blind(&self, observer: &Observer, now: Duration) -> Duration {
        match self {
            Self::Load(_) => Duration::ZERO,
            Self::Live => now.saturating_sub(observer.live_until()),
        }
    }
}

/// A look of the guard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Late {
    pub(crate) now: Duration,
    /// What was due before this is nothing to judge by.
    pub(crate) since: Duration,
    pub(crate) window: Duration,
    /// A request that is under way for longer has failed.
    pub(crate) patience: Duration,
}

/// Looks for the first time from which on the steady state holds for a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    /// From when on it may have recovered.
    from: Duration,
    window: Duration,
    within: Duration,
    candidate: Duration,
}

/// What a recovery has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovered {
    NotYet,
    /// So long after the end of the step.
    After(Duration),
    NotInTime,
}

impl Recovery {
    pub(crate) fn new(from: Duration, window: Duration, within: Duration) -> Self {
        Self { from, window, within, candidate: from }
    }

    /// `seen`: the requests of a time, or `None` while not all is known of them.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        steady: &Conditions,
        seen: impl Fn(Duration, Duration) -> Option<Window>,
    ) -> Recovered {
        while self.candidate.saturating_sub(self.from) <= self.within {
            let until = self.candidate.saturating_add(self.window);
            if now < until {
                return Recovered::NotYet;
            }
            match seen(self.candidate, until) {
                None => return Recovered::NotYet,
                Some(window) if judge::requests(steady, &window).is_empty() => {
                    return Recovered::After(self.candidate.saturating_sub(self.from));
                }
                Some(_) => self.candidate += GRAIN,
            }
        }
        Recovered::NotInTime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn good(holds: bool) -> Window {
        Window { succeeded: u64::from(holds), failed: u64::from(!holds), ..Window::default() }
    }

    const STEADY: Conditions = Conditions {
        success_ppm: Some(1_000_000),
        p50: None,
        p99: None,
        duplicates: None,
        retries: None,
        breaker_within: None,
    };

    #[test]
    fn a_system_has_recovered_when_a_whole_window_is_good() {
        let mut recovery = Recovery::new(seconds(10), seconds(2), seconds(30));
        let mut look = |now, good_from: Duration, known_to: Duration| {
            recovery.look(now, &STEADY, |from, to| (to <= known_to).then(|| good(from >= good_from)))
        };
        let at = ms(13_450);
        assert_eq!(look(ms(11_900), at, seconds(99)), Recovered::NotYet, "no window is over");
        assert_eq!(look(ms(13_000), at, seconds(99)), Recovered::NotYet);
        assert_eq!(look(ms(15_400), at, seconds(99)), Recovered::NotYet);
        assert_eq!(look(ms(15_500), at, ms(15_499)), Recovered::NotYet, "not all is known");
        assert_eq!(look(ms(15_600), at, ms(15_500)), Recovered::After(ms(3_500)));
    }

    #[test]
    fn a_system_that_never_suffered_recovers_at_once() {
        let mut recovery = Recovery::new(seconds(10), seconds(2), seconds(30));
        assert_eq!(
            recovery.look(seconds(12), &STEADY, |_, _| Some(good(true))),
            Recovered::After(Duration::ZERO)
        );
    }

    #[test]
    fn a_system_that_is_good_too_late_has_not_recovered() {
        let look = |good_from| {
            let mut recovery = Recovery::new(seconds(10), seconds(2), seconds(3));
            recovery.look(seconds(99), &STEADY, |from, _| Some(good(from >= good_from)))
        };
        assert_eq!(look(seconds(13)), Recovered::After(seconds(3)));
        assert_eq!(look(ms(13_001)), Recovered::NotInTime);
    }
}
