//! The requests under way on one connection, and whom they wait for.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep, sleep_until};

use crate::http::body::{BodyError, ResponseBody};
use crate::http::patience::{Ended, Verdict};

/// Requests of one connection that are under way.
#[derive(Debug)]
pub(super) struct Answers {
    slots: RefCell<Slots>,
    idle_since: Cell<Instant>,
    verdict: Arc<Verdict>,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Free,
    /// We or the upstream are to go on.
    Ours,
    /// The codec took bytes and asks for no more: the client is to read.
    Clients(Instant),
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Answer {
    answers: Rc<Answers>,
    index: usize,
}

impl Answers {
    pub(super) fn new(verdict: Arc<Verdict>) -> Rc<Self> {
        Rc::new(Self { slots: RefCell::default(), idle_since: Cell::new(Instant::now()), verdict })
    }

    pub(super) fn begin(self: &Rc<Self>) -> Answer {
        let mut slots = self.slots.borrow_mut();
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                slots.all.push(Slot::Free);
                slots.all.len().saturating_sub(1)
            }
        };
        slots.set(index, Slot::Ours);
        self.verdict.set_busy(true);
        self.verdict.handed_on();
        Answer { answers: self.clone(), index }
    }

    /// Waits until the connection has been without a request for `idle`, or a response without a reader for `stall`.
    ///
    /// Nobody wakes this: it looks when the first deadline could be over, so that a request costs it nothing.
    pub(super) async fn outstayed(&self, idle: Duration, stall: Option<Duration>) -> Ended {
        loop {
            let now = Instant::now();
            let (busy, waiting) = self.slots.borrow().look();
            // What is not so now can be so for the whole time at the earliest after that time.
            let quiet = !busy && !self.verdict.is_in_head();
            let idle_end = if quiet { self.idle_since.get() + idle } else { now + idle };
            let stall_end = stall.map(|stall| waiting.unwrap_or(now) + stall);
            if idle_end <= now {
                return Ended::Idle;
            }
            if stall_end.is_some_and(|end| end <= now) {
                return Ended::SlowReader;
            }
            sleep_until(stall_end.map_or(idle_end, |end| end.min(idle_end))).await;
        }
    }

    /// Waits until nothing of a request or an answer has been on its way for `rest`. Nobody wakes this either; a busy
    /// connection is looked at again after `look`.
    pub(super) async fn at_rest(&self, rest: Duration, look: Duration) {
        sleep(rest).await;
        loop {
            let now = Instant::now();
            let end = if self.verdict.is_at_rest() { self.idle_since.get() + rest } else { now + look };
            if end <= now {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Slots {
    fn set(&mut self, index: usize, slot: Slot) {
        if let Some(place) = self.all.get_mut(index) {
            *place = slot;
        }
    }

    /// Whether anything is under way, and since when the longest waiting client has not read.
    fn look(&self) -> (bool, Option<Instant>) {
        let waiting = self.all.iter().filter_map(|slot| match slot {
            Slot::Clients(since) => Some(*since),
            Slot::Free | Slot::Ours => None,
        });
        (self.free.len() < self.all.len(), waiting.min())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut slots = self.answers.slots.borrow_mut();
        slots.set(self.index, Slot::Free);
        slots.free.push(self.index);
        if slots.free.len() == slots.all.len() {
            self.answers.idle_since.set(Instant::now());
            self.answers.verdict.set_busy(false);
        }
    }
}

/// A response body that notes whose turn it is.
#[derive(Debug)]
pub(super) struct Watched {
    body: ResponseBody,
    answer: Option<Answer>,
    /// The request had a body.
    asked_with_body: bool,
}

impl Watched {
    pub(super) fn new(body: ResponseBody, answer: Option<Answer>, asked_with_body: bool) -> Self {
        Self { body, answer, asked_with_body }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.asked_with_body
            && !self.body.request_ended()
            && let Some(answer) = &self.answer
        {
            answer.answers.verdict.keep_body();
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let slot = match &polled {
            Poll::Ready(Some(Ok(_))) => Slot::Clients(Instant::now()),
            _ => Slot::Ours,
        };
        if let Some(answer) = &self.answer {
            answer.answers.slots.borrow_mut().set(answer.index, slot);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const IDLE: Duration = Duration::from_secs(75);
    const STALL: Duration = Duration::from_secs(60);

    fn answers() -> Rc<Answers> {
        Answers::new(Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_runs_from_the_end_of_the_last_request() {
        let answers = answers();
        let start = Instant::now();
        let (why, ()) = tokio::join!(answers.outstayed(IDLE, None), async {
            sleep(Duration::from_secs(10)).await;
            let (first, second) = (answers.begin(), answers.begin());
            sleep(Duration::from_secs(100)).await;
            drop(first);
            sleep(Duration::from_secs(100)).await;
            drop(second);
        });
        assert_eq!((why, start.elapsed()), (Ended::Idle, Duration::from_secs(210) + IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_the_midst_of_a_head_is_not_idle() {
        let answers = answers();
        assert_eq!(answers.outstayed(IDLE, None).await, Ended::Idle);
        answers.begin();
        advance(IDLE).await;
        assert!(!answers.verdict.is_in_head());
        assert_eq!(answers.outstayed(IDLE, None).await, Ended::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_that_reads_nothing_is_ended_and_the_upstream_that_sends_nothing_is_not() {
        let answers = answers();
        let (slow, busy) = (answers.begin(), answers.begin());
        let start = Instant::now();
        let set = |answer: &Answer, slot| answers.slots.borrow_mut().set(answer.index, slot);
        let (why, ()) = tokio::join!(answers.outstayed(IDLE, Some(STALL)), async {
            sleep(STALL * 3).await;
            set(&slow, Slot::Clients(Instant::now()));
            for _ in 0..5 {
                set(&busy, Slot::Clients(Instant::now()));
                sleep(Duration::from_secs(20)).await;
            }
        });
        assert_eq!(why, Ended::SlowReader);
        assert!(start.elapsed() >= STALL * 4 && start.elapsed() <= STALL * 5, "{:?}", start.elapsed());
    }
}
