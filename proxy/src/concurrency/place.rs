//! A place among the requests that an application is given at once.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::AdaptiveLimit;
use crate::http::body::Tally;

/// Of a request that has not come whole within this time, its caller decides how long it lasts: it holds no place any longer.
const UPLOAD: Duration = Duration::from_secs(1);
/// What is not answered after so long, and after so many baselines, waits for something else than the application's turn.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_BASELINES: u32 = 20;

/// Held until the answer's head, or until there is none.
#[derive(Debug)]
pub(crate) struct Place {
    limit: Arc<AdaptiveLimit>,
    epoch: u32,
    /// Nearly nothing was under way, as long as there is no more of a crowd.
    quiet_since: Option<u32>,
    state: State,
    /// When the application was given the request.
    given: Option<(Instant, Rc<Tally>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Counted,
    /// Given back; what comes of the request says nothing any more.
    Left,
}

impl Place {
    pub(super) fn new(limit: Arc<AdaptiveLimit>, before: u32) -> Self {
        let epoch = limit.epoch.load(Relaxed);
        let quiet_since = (before < limit.bounds.min).then(|| limit.crowds.load(Relaxed));
        Self { limit, epoch, quiet_since, state: State::Counted, given: None }
    }

    /// Waits for the answer's head, and gives the place back where that is not the application's doing.
    pub(crate) async fn until_answered<T>(
        &mut self,
        tally: &Rc<Tally>,
        mut answer: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        let began = Instant::now();
        self.given = Some((began, tally.clone()));
        if let Ok(answered) = timeout_at(began + UPLOAD, &mut answer).await {
            return answered;
        }
        if tally.request_ended.get() {
            let patience = PATIENCE.max(self.limit.baseline().saturating_mul(PATIENCE_BASELINES));
            tokio::select! {
                biased;
                answered = &mut answer => return answered,
                () = sleep_until(began + patience) => {}
            }
        }
        self.leave();
        answer.await
    }

    /// The head of an answer came. Errors are often faster than answers: they only say that it took as long as that at least.
    pub(crate) fn answered(mut self, good: bool) {
        if let Some(took) = self.took() {
            if good || took > self.limit.well() {
                self.count(took);
            }
            if good && self.quiet_since == Some(self.limit.crowds.load(Relaxed)) {
                self.limit.quiet.add(took);
            }
        }
        // At once, though the request may still be coming: its answer has begun.
        self.leave();
    }

    /// There is no answer.
    pub(crate) fn failed(self) {
        self.answered(false);
    }

    /// From when the application had the whole request: callers may be as slow as they like.
    fn took(&self) -> Option<Duration> {
        let (began, tally) = self.given.as_ref().filter(|_| self.state == State::Counted)?;
        let whole = tally.request_ended.get() && !tally.request_broke.get();
        whole.then(|| tally.request_ended_at.get().map_or(*began, |ended| ended.max(*began)).elapsed())
    }

    fn count(&self, took: Duration) {
        if self.epoch == self.limit.epoch.load(Relaxed) {
            self.limit.latencies.add(took);
        }
    }

    fn leave(&mut self) {
        if self.state == State::Counted {
            self.state = State::Left;
            self.limit.under_way.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.state == State::Left {
            return;
        }
        if self.given.is_none() {
            return self.leave();
        }
        // Its caller has gone. The application goes on with it for a while, as most do.
        if let Some(took) = self.took().filter(|took| *took > self.limit.well()) {
            self.count(took);
        }
        self.state = State::Left;
        self.limit.abandoned.fetch_add(1, Relaxed);
    }
}
