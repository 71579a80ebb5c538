//! The FaultExperiments that the snapshot in force names: whether each is on, and how much is under way under it. It lives
//! beside the snapshots, so that a push makes no experiment longer and forgets nothing that is under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use palisade_policy::experiment::Experiment;
use palisade_policy::kind::virtual_service::WHOLE_PPM;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::identity::show;

/// The experiments of this proxy.
#[derive(Debug, Default)]
pub struct Experiments {
    switch: Arc<Switch>,
    runs: Mutex<BTreeMap<Arc<str>, Arc<Run>>>,
}

/// Whether an order to stop would be heard, and who is to be told that something stopped.
#[derive(Debug)]
struct Switch {
    heard: AtomicBool,
    stopped: Notify,
}

impl Default for Switch {
    /// In file mode there is nobody to hear of: the file is the switch.
    fn default() -> Self {
        Self { heard: AtomicBool::new(true), stopped: Notify::new() }
    }
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) wall: SystemTime,
    pub(crate) monotonic: Instant,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }
}

/// From the start of an experiment to its end: what all workers and snapshots share.
#[derive(Debug)]
pub(crate) struct Run {
    starts_at: SystemTime,
    duration: Duration,
    /// Start and end by the monotonic clock, as they looked when the experiment was first seen: whatever becomes of the wall
    /// clock, it goes on for no longer than its duration. `None`: it was over.
    window: Option<(Instant, Instant)>,
    /// The snapshot in force does not name it any more.
    is_gone: AtomicBool,
    under_way: AtomicU32,
    switch: Arc<Switch>,
}

/// An experiment of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) experiment: Arc<Experiment>,
    run: Arc<Run>,
}

/// An attempt's place under an experiment; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Trial);

impl Experiments {
    /// Says whether what is in force is what the control plane said last, on a stream that is open. If not, an order to stop
    /// could have been missed: nothing is injected.
    pub(crate) fn set_heard(&self, heard: bool) {
        if self.switch.heard.swap(heard, Release) && !heard {
            self.switch.stopped.notify_waiters();
            if !self.runs.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                tracing::warn!("no order to stop would be heard: fault experiments pause");
            }
        }
    }

    /// A snapshot that names these, each once or more often, comes in force. What it does not name ends now.
    pub(crate) fn named<'e>(&self, all: impl Iterator<Item = &'e Arc<Experiment>>, now: Moment) {
        let mut named = BTreeMap::new();
        for experiment in all {
            named.entry(&experiment.id).or_insert(experiment);
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let before = runs.len();
        runs.retain(|id, run| {
            let stays = named.get(id).is_some_and(|experiment| run.is_of(experiment));
            if !stays {
                run.is_gone.store(true, Release);
                tracing::info!(experiment = %id, "a fault experiment is not in force any more");
            }
            stays
        });
        if runs.len() < before {
            self.switch.stopped.notify_waiters();
        }
        for (id, experiment) in named {
            runs.entry(id.clone()).or_insert_with(|| {
                let (from, until) = (show(experiment.starts_at), show(experiment.ends_at()));
                tracing::info!(experiment = %id, %from, %until, "a fault experiment is in force");
                Arc::new(Run::new(experiment, &self.switch, now))
            });
        }
    }

    /// Those of a destination, in the order of their ids. Locks where there are any: asked for once per worker and push.
    pub(crate) fn trials(&self, all: &[Arc<Experiment>]) -> Box<[Trial]> {
        if all.is_empty() {
            return Box::default();
        }
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let trial = |experiment: &Arc<Experiment>| {
            // The destination may be one of a snapshot that is not in force any more.
            let run = runs.get(&experiment.id).filter(|run| run.is_of(experiment))?;
            Some(Trial { experiment: experiment.clone(), run: run.clone() })
        };
        all.iter().filter_map(trial).collect()
    }
}

/// The first that is on, about such an attempt, and drawn. `dice`: an even choice of the numbers below its argument.
pub(crate) fn pick(
    trials: &[Trial],
    now: Moment,
    fits: impl Fn(&Experiment) -> bool,
    dice: impl Fn(u32) -> u32,
) -> Option<&Trial> {
    trials.iter().find(|trial| {
        let experiment = &trial.experiment;
        trial.is_on(now) && fits(experiment) && dice(WHOLE_PPM) < experiment.share_ppm
    })
}

impl Run {
    fn new(experiment: &Experiment, switch: &Arc<Switch>, now: Moment) -> Self {
        let Experiment { starts_at, duration, .. } = *experiment;
        Self {
            starts_at,
            duration,
            window: window(experiment, now),
            is_gone: AtomicBool::default(),
            under_way: AtomicU32::default(),
            switch: switch.clone(),
        }
    }

    /// One that begins anew, or ends at another time, is another one.
    fn is_of(&self, experiment: &Experiment) -> bool {
        (self.starts_at, self.duration) == (experiment.starts_at, experiment.duration)
    }
}

fn window(experiment: &Experiment, now: Moment) -> Option<(Instant, Instant)> {
    let until_start = experiment.starts_at.duration_since(now.wall).unwrap_or_default();
    let until_end = experiment.ends_at().duration_since(now.wall).ok()?;
    Some((now.monotonic.checked_add(until_start)?, now.monotonic.checked_add(until_end)?))
}

impl Trial {
    /// Whether faults are injected now. By the wall clock, so that everybody ends together; and by the monotonic one.
    pub(crate) fn is_on(&self, now: Moment) -> bool {
        let Some((start, end)) = self.run.window else { return false };
        self.run.switch.heard.load(Acquire)
            && !self.run.is_gone.load(Acquire)
            && self.experiment.is_on(now.wall)
            && (start..end).contains(&now.monotonic)
    }

    /// `None`: as many attempts as may be are under it.
    pub(crate) fn enter(&self) -> Option<Place> {
        let place = Place(self.clone());
        (self.run.under_way.fetch_add(1, Relaxed) < self.experiment.max_active).then_some(place)
    }

    /// When it is over at the latest, as it looks now.
    fn end(&self, now: Moment) -> Instant {
        let left = self.experiment.ends_at().duration_since(now.wall).unwrap_or_default();
        let by_wall = now.monotonic.checked_add(left);
        let by_run = self.run.window.map_or(now.monotonic, |(_, end)| end);
        by_wall.map_or(by_run, |end| end.min(by_run))
    }
}

impl Place {
    pub(crate) fn experiment(&self) -> &Arc<Experiment> {
        &self.0.experiment
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_on(Moment::now())
    }

    /// Returns when its experiment injects nothing any more. Whoever is held up goes on then.
    pub(crate) async fn over(&self) {
        let Self(trial) = self;
        loop {
            // Before the look: what changes between the two is heard of.
            let stopped = trial.run.switch.stopped.notified();
            let now = Moment::now();
            if !trial.is_on(now) {
                return;
            }
            tokio::select! {
                () = stopped => {}
                () = sleep_until(trial.end(now)) => {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.run.under_way.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use palisade_policy::experiment::{Harm, Matches};
    use tokio::time::{advance, timeout};

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// On from now on, for five minutes.
    pub(crate) fn experiment(id: &str) -> Experiment {
        Experiment {
            id: id.into(),
            starts_at: SystemTime::now(),
            duration: MINUTE * 5,
            share_ppm: WHOLE_PPM,
            max_active: 2,
            delay: None,
            harm: Some(Harm::Reset),
            pace: None,
            matches: Matches::default(),
        }
    }

    /// A proxy with these experiments.
    pub(crate) fn all_on(all: &[Experiment]) -> (Experiments, Vec<Trial>) {
        let experiments = Experiments::default();
        let trials = named(&experiments, all, Moment::now());
        (experiments, trials)
    }

    fn named(experiments: &Experiments, all: &[Experiment], now: Moment) -> Vec<Trial> {
        let all: Vec<_> = all.iter().cloned().map(Arc::new).collect();
        experiments.named(all.iter(), now);
        experiments.trials(&all).into_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn an_experiment_is_on_by_both_clocks_and_never_longer_than_its_duration() {
        let (start, began) = (SystemTime::now() + MINUTE * 1000, Instant::now());
        let at = |minutes: i64| {
            let length = MINUTE * u32::try_from(minutes.abs()).unwrap();
            if minutes < 0 { start - length } else { start + length }
        };
        let mut one = experiment("payments/slow");
        one.starts_at = start;
        // The wall clock when it is first seen; then both clocks, in minutes from the start and from that moment.
        let rows = [
            (0, (0, 0), true),
            (0, (4, 4), true),
            (0, (5, 5), false),
            (-2, (-1, 1), false),
            (-2, (0, 2), true),
            (-2, (4, 6), true),
            (-2, (5, 7), false),
            (3, (4, 1), true),
            (3, (5, 2), false),
            (5, (5, 0), false),
            (9, (9, 0), false),
            // The wall clock was set back, and forward.
            (0, (0, 5), false),
            (3, (1, 2), false),
            (5, (0, 1), false),
            (-2, (5, 2), false),
            (-2, (0, 1), false),
        ];
        for (seen, (wall, monotonic), expected) in rows {
            let experiments = Experiments::default();
            let first = Moment { wall: at(seen), monotonic: began };
            let trial = named(&experiments, &[one.clone()], first).remove(0);
            let now = Moment { wall: at(wall), monotonic: began + MINUTE * monotonic };
            assert_eq!(trial.is_on(now), expected, "first seen at {seen}, at {wall} after {monotonic}");
            // Another push is no first sight.
            let later = Moment { wall: at(-2), monotonic: began + MINUTE };
            let trial = named(&experiments, &[one.clone()], later).remove(0);
            assert_eq!(trial.is_on(now), expected, "pushed again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_no_clock_reaches_is_none() {
        let mut one = experiment("payments/slow");
        one.starts_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 62);
        let (_experiments, trials) = all_on(&[one]);
        assert!(!trials[0].is_on(Moment::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_is_on_and_fits_and_is_drawn_is_taken() {
        let of = |id: &str, share_ppm: u32, starts_in: Duration| Experiment {
            share_ppm,
            starts_at: SystemTime::now() + starts_in,
            ..experiment(id)
        };
        let all = [
            of("n/a-later", WHOLE_PPM, MINUTE),
            of("n/b-other", WHOLE_PPM, Duration::ZERO),
            of("n/c-half", 500_000, Duration::ZERO),
            of("n/d-tenth", 100_000, Duration::ZERO),
            of("n/e-none", 0, Duration::ZERO),
        ];
        let (_experiments, trials) = all_on(&all);
        let rows: [(&[u32], Option<&str>); 5] = [
            (&[0], Some("n/c-half")),
            (&[499_999], Some("n/c-half")),
            (&[500_000, 0], Some("n/d-tenth")),
            (&[500_000, 99_999], Some("n/d-tenth")),
            (&[999_999, 100_000, 0], None),
        ];
        for (rolls, expected) in rows {
            let next = Cell::new(0);
            let dice = |below: u32| {
                assert_eq!(below, WHOLE_PPM);
                rolls[next.replace(next.get() + 1)]
            };
            let picked = pick(&trials, Moment::now(), |e| &*e.id != "n/b-other", dice);
            assert_eq!(picked.map(|trial| &*trial.experiment.id), expected, "{rolls:?}");
            assert_eq!(
                next.get(),
                rolls.len(),
                "nobody draws for one that is not on, or about something else"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_attempts_are_under_it_at_once_whatever_is_pushed_meanwhile() {
        let one = experiment("payments/slow");
        let (experiments, trials) = all_on(std::slice::from_ref(&one));
        let mut places: Vec<_> = (0..2).map(|_| trials[0].enter().unwrap()).collect();
        assert!(trials[0].enter().is_none());
        let pushed = named(&experiments, &[Experiment { max_active: 3, ..one.clone() }], Moment::now());
        places.push(pushed[0].enter().unwrap());
        assert!(pushed[0].enter().is_none() && trials[0].enter().is_none());
        places.clear();
        assert!(trials[0].enter().is_some());
        // One that begins anew is another one, and ends those under way.
        let place = trials[0].enter().unwrap();
        let anew = Experiment { starts_at: one.starts_at - MINUTE, ..one };
        let anew = named(&experiments, &[anew], Moment::now());
        assert!(!place.is_on() && anew[0].is_on(Moment::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_held_up_goes_on_when_it_is_stopped_or_nobody_could_stop_it() {
        let one = experiment("payments/slow");
        let (experiments, trials) = all_on(&[one.clone(), experiment("payments/other")]);
        let place = trials[0].enter().unwrap();
        assert!(timeout(MINUTE, place.over()).await.is_err());
        named(&experiments, std::slice::from_ref(&one), Moment::now());
        assert!(timeout(MINUTE, place.over()).await.is_err(), "another one was stopped");
        let now = Instant::now();
        tokio::join!(place.over(), async { experiments.set_heard(false) });
        assert!(now.elapsed().is_zero() && !place.is_on());
        experiments.set_heard(true);
        assert!(place.is_on());
        tokio::join!(place.over(), async { drop(named(&experiments, &[], Moment::now())) });
        assert!(now.elapsed().is_zero() && !place.is_on());
        assert!(experiments.runs.lock().unwrap().is_empty());
        // A request that has a destination of the snapshot before finds nothing either.
        assert!(experiments.trials(&[Arc::new(one)]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_by_itself_though_the_wall_clock_stands_still() {
        let (_experiments, trials) = all_on(&[experiment("payments/slow")]);
        let (place, began) = (trials[0].enter().unwrap(), Instant::now());
        place.over().await;
        assert!(began.elapsed() <= MINUTE * 5 && began.elapsed() > MINUTE * 4, "{:?}", began.elapsed());
        advance(MINUTE).await;
        assert!(!place.is_on());
    }
}
