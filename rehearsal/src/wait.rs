//! Waiting while the guard looks on.

use std::pin::pin;
use std::time::Duration;

use anyhow::Error;
use palisade_policy::rehearsal::Traffic;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::evidence::Late;
use crate::faults::Faults;
use crate::judge::{self, Breach};
use crate::observe::Counts;
use crate::play::Play;
use crate::report::Verdict;
use crate::sample::Window;

/// Between two looks of the guard.
const GUARD_INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions whether something is known by now.
const GRAIN: Duration = Duration::from_millis(50);
/// For how long nothing may be heard of proxies by whose counts is judged.
const BLIND_MAX: Duration = Duration::from_secs(10);
/// Proxies are looked at several times a second. One that is not read within this is away.
const COUNTED_WITHIN: Duration = Duration::from_secs(5);
/// From a request's deadline until its end is known.
const END_KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// Why a rehearsal is over before its last step.
#[derive(Debug)]
pub(crate) enum Early {
    Guard(Breach),
    NotRecovered,
    Interrupted,
    Failed(Error),
}

impl Early {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Guard(_) => Verdict::Aborted,
            Self::NotRecovered => Verdict::Broken,
            Self::Interrupted => Verdict::Interrupted,
            Self::Failed(_) => Verdict::Failed,
        }
    }

    pub(crate) fn why(&self) -> String {
        match self {
            Self::Guard(breach) => format!("the guard broke: {breach}"),
            Self::NotRecovered => "nothing more is broken while the steady state does not hold".to_owned(),
            Self::Interrupted => "it was told to stop".to_owned(),
            Self::Failed(error) => format!("{error:#}"),
        }
    }
}

/// Returns when it is to stop, and when nobody is left who could say so.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    let _nobody = stop.wait_for(|stop| *stop).await;
}

impl<F: Faults> Play<'_, F> {
    /// Waits for something, unless the rehearsal is to stop before that.
    pub(crate) async fn watched<T>(&mut self, waited: impl Future<Output = T>) -> Result<T, Early> {
        let mut waited = pin!(waited);
        loop {
            tokio::select! {
                biased;
                () = told(&mut self.stop) => return Err(Early::Interrupted),
                done = &mut waited => return Ok(done),
                () = sleep_until(self.next_guard), if self.armed => self.look()?,
            }
        }
    }

    /// One look of the guard.
    fn look(&mut self) -> Result<(), Early> {
        self.next_guard = Instant::now() + GUARD_INTERVAL;
        let now = self.now();
        let since = self.evidence.blind(&self.observer, now);
        if since > BLIND_MAX {
            return Err(Early::Guard(Breach::Blind { since }));
        }
        let (since, window) = (self.judged_from, self.rehearsal.window);
        let late = Late { now, since, window, patience: self.patience() };
        let windows = self.evidence.of_late(&self.observer, &late);
        let duplicates = self.observer.counts_since(since).duplicate_deliveries;
        let broken =
            windows.iter().find_map(|window| judge::guard(&self.rehearsal.abort_when, window, duplicates));
        broken.map_or(Ok(()), |breach| Err(Early::Guard(breach)))
    }

    /// How long a request may be under way before the guard takes it for failed.
    fn patience(&self) -> Duration {
        let limit = match &self.rehearsal.traffic {
            Traffic::Load(load) => load.timeout,
            Traffic::Live(_) => Duration::ZERO,
        };
        self.rehearsal.abort_when.p99_above.map_or(limit, |above| above.min(limit))
    }

    /// The requests of a time that is over, once all of them are over too.
    pub(crate) async fn requests(&mut self, from: Duration, to: Duration) -> Result<Window, Early> {
        let limit = match &self.rehearsal.traffic {
            Traffic::Load(load) => load.timeout + END_KNOWN_WITHIN,
            Traffic::Live(_) => COUNTED_WITHIN,
        };
        let end = Instant::now() + limit;
        loop {
            match self.evidence.of(&self.observer, from, to) {
                Some(window) => return Ok(window),
                None if Instant::now() > end => return Ok(self.evidence.known(&self.observer, from, to)),
                None => self.watched(sleep(GRAIN)).await?,
            }
        }
    }

    /// What was counted within a time that is over; or the proxy of which that is not known.
    pub(crate) async fn counts(
        &mut self,
        from: Duration,
        to: Duration,
    ) -> Result<Result<Counts, String>, Early> {
        let end = Instant::now() + COUNTED_WITHIN;
        loop {
            match self.observer.counts(from, to).map_err(ToOwned::to_owned) {
                Err(_) if Instant::now() < end => self.watched(sleep(GRAIN)).await?,
                counted => return Ok(counted),
            }
        }
    }
}
