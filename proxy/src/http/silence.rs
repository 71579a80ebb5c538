//! How long a stream may carry no byte either way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The clock of one stream: a request and its answer, or a tunnel.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    since: Cell<Instant>,
    /// Somebody found it too long; then it stays so.
    is_over: Cell<bool>,
    /// Whoever sends the request on, and has to break it off then.
    sender: RefCell<Option<Waker>>,
}

/// What wakes whoever waits; made when it first has to.
pub(crate) type Alarm = Option<Pin<Box<Sleep>>>;

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        let (is_over, sender) = (Cell::default(), RefCell::default());
        Self { limit, since: Cell::new(Instant::now()), is_over, sender }
    }

    /// A byte went by, or we have only now begun to wait for one.
    pub(crate) fn broken(&self) {
        self.since.set(Instant::now());
    }

    /// Ready when it has been silent for too long; else the task is woken when it may be.
    pub(crate) fn poll_too_long(&self, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(self.ends())));
        loop {
            ready!(alarm.as_mut().poll(cx));
            let ends = self.ends();
            if ends <= Instant::now() {
                self.is_over.set(true);
                self.sender.take().into_iter().for_each(Waker::wake);
                return Poll::Ready(());
            }
            alarm.as_mut().reset(ends);
        }
    }

    /// For the request's sender. Ready once whoever waits for the answer has found the silence too long: that one first, so
    /// that the caller is told.
    pub(crate) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_over.get() {
            return Poll::Ready(());
        }
        let mut sender = self.sender.borrow_mut();
        if !sender.as_ref().is_some_and(|sender| sender.will_wake(cx.waker())) {
            *sender = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Returns when it has been silent for too long.
    pub(crate) async fn too_long(&self) {
        let mut alarm = None;
        poll_fn(|cx| self.poll_too_long(&mut alarm, cx)).await;
    }

    /// Whether another proxy with the same limit may have found it too long already.
    pub(crate) fn is_nearly_too_long(&self) -> bool {
        self.ends() <= Instant::now() + self.limit / 10
    }

    fn ends(&self) -> Instant {
        self.since.get() + self.limit
    }
}

/// Returns when it has been silent for too long; never where nothing limits it.
pub(crate) async fn too_long(silence: Option<&Silence>) {
    match silence {
        Some(silence) => silence.too_long().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_mins(5);
    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_nearly_too_long_for_its_last_tenth() {
        let silence = Silence::new(LIMIT);
        advance(LIMIT / 10 * 8).await;
        assert!(!silence.is_nearly_too_long());
        advance(LIMIT / 10).await;
        assert!(silence.is_nearly_too_long());
        silence.broken();
        assert!(!silence.is_nearly_too_long());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_silent_for_too_long_a_limit_after_its_last_byte() {
        let silence = Silence::new(LIMIT);
        let start = Instant::now();
        let speaking = async {
            for _ in 0..10 {
                tokio::time::sleep(MINUTE * 4).await;
                silence.broken();
            }
        };
        tokio::join!(speaking, silence.too_long());
        assert_eq!(start.elapsed(), MINUTE * 40 + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_anew_waits_for_what_is_left() {
        let silence = Silence::new(LIMIT);
        assert!(timeout(MINUTE * 4, silence.too_long()).await.is_err());
        advance(MINUTE / 2).await;
        let start = Instant::now();
        silence.too_long().await;
        assert_eq!(start.elapsed(), MINUTE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sender_of_the_request_is_woken_when_the_answer_is_given_up() {
        let silence = Silence::new(LIMIT);
        let start = Instant::now();
        let sending = poll_fn(|cx| silence.poll_over(cx));
        assert!(timeout(LIMIT * 2, sending).await.is_err(), "nobody has given up");
        tokio::join!(poll_fn(|cx| silence.poll_over(cx)), silence.too_long());
        assert_eq!(start.elapsed(), LIMIT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_silence_never_ends() {
        assert!(timeout(MINUTE * 1000, too_long(None)).await.is_err());
    }
}
