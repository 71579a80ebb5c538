//! What an experiment makes of an answer's body on its way to the caller: slower, or broken off.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use palisade_policy::experiment::{Experiment, Pace};
use tokio::time::{Instant, sleep_until};

use super::body::BodyError;
use super::silence::Alarm;
use crate::telemetry::record::FaultType;
use crate::upstream::experiments::Place;

/// With a bandwidth, parts go out this often: as often as Envoy fills its bucket.
const FILL_INTERVAL: Duration = Duration::from_millis(50);
/// Between the last byte that is passed on and the break, so that the codec has sent what it was given: breaking off, it
/// throws away what it still holds.
const SETTLE: Duration = Duration::from_millis(50);

type Came = Option<Result<Frame<Bytes>, BodyError>>;

/// The state of one answer's body under an experiment.
#[derive(Debug)]
pub(crate) struct Shaper {
    place: Rc<Place>,
    /// Bytes until it breaks off.
    left: Option<u64>,
    pace: Option<Paced>,
    /// What came and is not passed on yet.
    held: Bytes,
    /// Until when nothing is passed on.
    pause: Alarm,
    /// The break is near.
    settling: bool,
    /// Whether it was made to wait, and whether that was noted.
    slowed: bool,
    noted: bool,
    over: Over,
}

/// Ready when the experiment is over.
struct Over(Pin<Box<dyn Future<Output = ()>>>);

impl std::fmt::Debug for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Over")
    }
}

/// How much of a body passes at a time.
#[derive(Debug)]
struct Paced {
    pace: Pace,
    /// Bytes that still pass before the next pause.
    left: u64,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Shaped {
    Pass(Came),
    /// There is more than may pass: the answer breaks off.
    Break,
}

impl Paced {
    fn new(pace: Pace) -> Self {
        Self { pace, left: part(pace) }
    }

    /// So many bytes go out. The pause after them, if there is one.
    fn passed(&mut self, bytes: u64) -> Option<Duration> {
        self.left = self.left.saturating_sub(bytes);
        match self.pace {
            Pace::Bandwidth { bytes_per_second } => {
                self.left = part(self.pace);
                Some(time(bytes, bytes_per_second))
            }
            Pace::Slow { pause, .. } if self.left == 0 => {
                self.left = part(self.pace);
                Some(pause)
            }
            Pace::Slow { .. } => None,
        }
    }
}

/// The most bytes that pass at once.
fn part(pace: Pace) -> u64 {
    match pace {
        Pace::Slow { every_bytes, .. } => every_bytes.get(),
        Pace::Bandwidth { bytes_per_second } => {
            let parts = 1_000 / u64::try_from(FILL_INTERVAL.as_millis()).unwrap_or(1_000).max(1);
            (bytes_per_second.get() / parts).max(1)
        }
    }
}

/// How long so many bytes take.
fn time(bytes: u64, bytes_per_second: NonZeroU64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Shaper {
    /// `truncate`: after so many bytes.
    pub(crate) fn new(place: Place, truncate: Option<u64>, pace: Option<Pace>) -> Self {
        let place = Rc::new(place);
        let over = place.clone();
        Self {
            place,
            left: truncate,
            pace: pace.map(Paced::new),
            held: Bytes::new(),
            pause: None,
            settling: false,
            slowed: false,
            noted: false,
            over: Over(Box::pin(async move { over.over().await })),
        }
    }

    pub(super) fn experiment(&self) -> &Arc<Experiment> {
        self.place.experiment()
    }

    /// What is to be noted of it, once: that it is slowed down.
    pub(super) fn news(&mut self) -> Option<FaultType> {
        if !self.slowed || std::mem::replace(&mut self.noted, true) {
            return None;
        }
        self.experiment().pace.map(|pace| match pace {
            Pace::Slow { .. } => FaultType::Slow,
            Pace::Bandwidth { .. } => FaultType::Bandwidth,
        })
    }

    /// What came and waits.
    pub(super) fn held(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX)
    }

    /// The next frame as it may pass. `next`: as it comes from the upstream, which is asked for more only when all that came
    /// has passed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<Came>,
    ) -> Poll<Shaped> {
        if (self.left.is_some() || self.pace.is_some()) && self.over.0.as_mut().poll(cx).is_ready() {
            // What is held up goes on.
            (self.left, self.pace, self.pause) = (None, None, None);
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if !self.held.is_empty() {
                match self.take() {
                    Some(part) => return Poll::Ready(Shaped::Pass(Some(Ok(Frame::data(part))))),
                    None if self.settling => return Poll::Ready(Shaped::Break),
                    None => {
                        self.settling = true;
                        self.rest(SETTLE);
                        continue;
                    }
                }
            }
            match ready!(next(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.held = data,
                    Err(trailers) => return Poll::Ready(Shaped::Pass(Some(Ok(trailers)))),
                },
                other => return Poll::Ready(Shaped::Pass(other)),
            }
        }
    }

    /// As much of what is held as may pass now; `None`: nothing may any more.
    fn take(&mut self) -> Option<Bytes> {
        if self.left == Some(0) {
            return None;
        }
        let most = [self.left, self.pace.as_ref().map(|pace| pace.left)].into_iter().flatten().min();
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let part = self.held.split_to(most.min(self.held.len()));
        let bytes = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        if let Some(pause) = self.pace.as_mut().and_then(|pace| pace.passed(bytes)) {
            self.slowed = true;
            self.rest(pause);
        }
        Some(part)
    }

    fn rest(&mut self, pause: Duration) {
        self.pause = Some(Box::pin(sleep_until(Instant::now() + pause)));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::HeaderMap;

    use super::*;
    use crate::upstream::experiments::tests::{all_on, experiment};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// What comes from the upstream, all at once.
    struct Upstream(Vec<Came>);

    impl Upstream {
        /// Parts of so many bytes.
        fn of(parts: &[usize]) -> Self {
            Self(parts.iter().map(|len| Some(Ok(Frame::data(vec![b'x'; *len].into())))).collect())
        }

        fn with(mut self, last: Came) -> Self {
            self.0.push(last);
            self
        }

        fn next(&mut self) -> Poll<Came> {
            Poll::Ready(if self.0.is_empty() { None } else { self.0.remove(0) })
        }
    }

    /// What passed: bytes and when, in milliseconds; and how it ended.
    async fn passed(shaper: &mut Shaper, mut upstream: Upstream) -> (Vec<(usize, u128)>, &'static str) {
        let (mut parts, began) = (Vec::new(), Instant::now());
        loop {
            let shaped = poll_fn(|cx| shaper.poll(cx, |_| upstream.next())).await;
            match shaped {
                Shaped::Break => return (parts, "broken off"),
                Shaped::Pass(None) => return (parts, "whole"),
                Shaped::Pass(Some(Err(_))) => return (parts, "failed"),
                Shaped::Pass(Some(Ok(frame))) => match frame.data_ref() {
                    Some(data) => parts.push((data.len(), began.elapsed().as_millis())),
                    None => return (parts, "trailers"),
                },
            }
        }
    }

    fn slow(every_bytes: u64, pause: u64) -> Option<Pace> {
        Some(Pace::Slow { every_bytes: every_bytes.try_into().unwrap(), pause: MS(pause) })
    }

    fn bandwidth(bytes_per_second: u64) -> Option<Pace> {
        Some(Pace::Bandwidth { bytes_per_second: bytes_per_second.try_into().unwrap() })
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_broken_off_and_slowed_down_to_the_byte() {
        let trailers = || Some(Ok(Frame::trailers(HeaderMap::new())));
        let failed = || Some(Err(BodyError::Reset));
        type Row<'r> = (Option<u64>, Option<Pace>, Upstream, &'r [(usize, u128)], &'r str);
        let rows: [Row<'_>; 15] = [
            (None, None, Upstream::of(&[3, 4]), &[(3, 0), (4, 0)], "whole"),
            (Some(0), None, Upstream::of(&[3]), &[], "broken off"),
            (Some(2), None, Upstream::of(&[3]), &[(2, 0)], "broken off"),
            (Some(5), None, Upstream::of(&[3, 4]), &[(3, 0), (2, 0)], "broken off"),
            // All that there is was passed on: it is whole.
            (Some(3), None, Upstream::of(&[3]), &[(3, 0)], "whole"),
            (Some(3), None, Upstream::of(&[3, 0]), &[(3, 0)], "whole"),
            (Some(3), None, Upstream::of(&[3]).with(trailers()), &[(3, 0)], "trailers"),
            (Some(3), None, Upstream::of(&[3, 1]), &[(3, 0)], "broken off"),
            (Some(9), None, Upstream::of(&[3]).with(failed()), &[(3, 0)], "failed"),
            (None, slow(4, 100), Upstream::of(&[10]), &[(4, 0), (4, 100), (2, 200)], "whole"),
            (None, slow(4, 100), Upstream::of(&[3, 3]), &[(3, 0), (1, 0), (2, 100)], "whole"),
            (None, slow(9, 100), Upstream::of(&[3, 3]), &[(3, 0), (3, 0)], "whole"),
            // A twentieth of a second's bytes at a time.
            (None, bandwidth(100), Upstream::of(&[12]), &[(5, 0), (5, 50), (2, 100)], "whole"),
            (None, bandwidth(2), Upstream::of(&[3]), &[(1, 0), (1, 500), (1, 1000)], "whole"),
            (Some(6), slow(4, 100), Upstream::of(&[10]), &[(4, 0), (2, 100)], "broken off"),
        ];
        for (truncate, pace, upstream, expected, end) in rows {
            let (_experiments, trials) = all_on(&[experiment("n/e")]);
            let mut shaper = Shaper::new(trials[0].enter().unwrap(), truncate, pace);
            let got = passed(&mut shaper, upstream).await;
            assert_eq!(got, (expected.to_vec(), end), "{truncate:?} {pace:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_passed_on_has_time_to_leave_before_the_break() {
        let (_experiments, trials) = all_on(&[experiment("n/e")]);
        let mut shaper = Shaper::new(trials[0].enter().unwrap(), Some(2), None);
        let began = Instant::now();
        assert_eq!(passed(&mut shaper, Upstream::of(&[3])).await, (vec![(2, 0)], "broken off"));
        assert_eq!(began.elapsed(), SETTLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_goes_on_unharmed_when_its_experiment_is_stopped() {
        for (truncate, pace) in [(Some(2), None), (None, slow(2, 60_000)), (None, bandwidth(2))] {
            let (experiments, trials) = all_on(&[experiment("n/e")]);
            let mut shaper = Shaper::new(trials[0].enter().unwrap(), truncate, pace);
            let stopping = async {
                tokio::time::sleep(MS(20)).await;
                experiments.set_heard(false);
            };
            let ((parts, end), ()) = tokio::join!(passed(&mut shaper, Upstream::of(&[5, 5])), stopping);
            assert_eq!((parts.iter().map(|(len, _)| len).sum::<usize>(), end), (10, "whole"));
            assert_eq!(parts.last().unwrap().1, 20, "{truncate:?} {pace:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_held_until_the_body_is_let_go() {
        let (_experiments, trials) = all_on(&[experiment("n/e")]);
        let shapers = [(); 2].map(|()| Shaper::new(trials[0].enter().unwrap(), Some(2), None));
        assert!(trials[0].enter().is_none());
        drop(shapers);
        assert!(trials[0].enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_made_to_wait_is_noted_and_once() {
        let mut one = experiment("n/e");
        one.pace = slow(4, 100);
        let (_experiments, trials) = all_on(&[one.clone()]);
        let mut shaper = Shaper::new(trials[0].enter().unwrap(), None, one.pace);
        passed(&mut shaper, Upstream::of(&[3])).await;
        assert_eq!(shaper.news(), None);
        passed(&mut shaper, Upstream::of(&[3])).await;
        assert_eq!((shaper.news(), shaper.news()), (Some(FaultType::Slow), None));
    }
}
