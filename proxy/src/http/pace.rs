//! Whether a caller gets on with its body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What has to come in the time of one limit. Far below any link; a caller that sends a byte now and then stays under it.
const BYTES_MIN: usize = 1024;

/// The clock of one body. It runs only while we wait for the caller.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: Duration,
    /// Of the limit.
    left: Duration,
    came: usize,
    waiting_since: Option<Instant>,
    deadline: Pin<Box<Sleep>>,
}

impl Pace {
    pub(crate) fn new(limit: Duration) -> Self {
        let deadline = Box::pin(sleep_until(Instant::now() + limit));
        Self { limit, left: limit, came: 0, waiting_since: None, deadline }
    }

    /// Nothing has come. Whether that has been so for too long; if not, the task is woken when it is.
    pub(crate) fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            self.deadline.as_mut().reset(now + self.left);
        }
        matches!(self.deadline.as_mut().poll(cx), Poll::Ready(()))
    }

    pub(crate) fn came(&mut self, bytes: usize) {
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        // Longer than there was: then nobody asked at the deadline, because the upstream took nothing. Not the caller's
        // fault.
        self.left = self.left.checked_sub(waited).unwrap_or(self.left);
        self.came = self.came.saturating_add(bytes);
        if self.came >= BYTES_MIN {
            self.came = 0;
            self.left = self.limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    async fn late(pace: &mut Pace) {
        poll_fn(|cx| if pace.is_late(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn silence_for_the_limit_is_too_long() {
        let mut pace = Pace::new(LIMIT);
        advance(LIMIT * 2).await;
        let start = Instant::now();
        late(&mut pace).await;
        assert_eq!(start.elapsed(), LIMIT, "from when we began to wait");
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_buys_no_time_and_enough_of_them_does() {
        for (bytes, ends) in [(1, true), (BYTES_MIN / 28, false)] {
            let mut pace = Pace::new(LIMIT);
            let dripping = async {
                for _ in 0..100 {
                    if timeout(SECOND, late(&mut pace)).await.is_ok() {
                        return true;
                    }
                    pace.came(bytes);
                }
                false
            };
            assert_eq!(dripping.await, ends, "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_asks_is_not_the_callers() {
        let mut pace = Pace::new(LIMIT);
        assert!(timeout(SECOND, late(&mut pace)).await.is_err());
        // The upstream takes nothing for an hour; then there are bytes at once.
        advance(LIMIT * 120).await;
        pace.came(1);
        assert!(timeout(LIMIT - SECOND * 2, late(&mut pace)).await.is_err());
    }
}
