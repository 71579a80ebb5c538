//! How long a connection may keep us waiting: for the rest of a head, and for room to write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Why we ended a connection that its client might have gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ended {
    /// No request for a while.
    Idle,
    /// A head that was begun and not finished.
    HeadTimeout,
    /// A response that is not read.
    SlowReader,
    Resets,
    ControlFrames,
    WindowUpdates,
    /// The codec's own ENHANCE_YOUR_CALM: too much CONTINUATION, empty DATA, headers out of all measure.
    Abuse,
}

impl Ended {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::HeadTimeout,
        Self::SlowReader,
        Self::Resets,
        Self::ControlFrames,
        Self::WindowUpdates,
        Self::Abuse,
    ];

    /// In metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::HeadTimeout => "head_timeout",
            Self::SlowReader => "slow_reader",
            Self::Resets => "http2_resets",
            Self::ControlFrames => "http2_control_frames",
            Self::WindowUpdates => "http2_window_updates",
            Self::Abuse => "http2_abuse",
        }
    }
}

/// What the parts of one connection tell each other. Atomic because an upgraded connection may move.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    why: AtomicU8,
    /// A head has begun and is not whole.
    in_head: AtomicBool,
    /// Requests are under way.
    busy: AtomicBool,
    /// The last byte that was read ended a message.
    between: AtomicBool,
    /// Bytes were written that may not have left.
    unflushed: AtomicBool,
    /// Heads that were read whole, less the requests that the codec made of them.
    heads_ahead: AtomicI64,
    /// A request's body had not been taken from the codec when its answer ended.
    keeps_body: AtomicBool,
}

impl Verdict {
    /// The connection is ended for this; the first reason stays.
    pub(crate) fn set(&self, why: Ended) {
        let index = Ended::ALL.iter().position(|ended| *ended == why);
        let index = index.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or_default();
        let _kept = self.why.compare_exchange(0, index, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Ended> {
        let index = usize::from(self.why.load(Ordering::Relaxed)).checked_sub(1)?;
        Ended::ALL.get(index).copied()
    }

    pub(crate) fn is_in_head(&self) -> bool {
        self.in_head.load(Ordering::Relaxed)
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// The codec made a request of a head.
    pub(crate) fn handed_on(&self) {
        self.add_heads_ahead(-1);
    }

    /// The codec holds a part of a body that somebody may yet ask for: from now on it is not let go of.
    pub(crate) fn keep_body(&self) {
        self.keeps_body.store(true, Ordering::Relaxed);
    }

    fn add_heads_ahead(&self, heads: i64) {
        let ahead = self.heads_ahead.load(Ordering::Relaxed).saturating_add(heads);
        self.heads_ahead.store(ahead, Ordering::Relaxed);
    }

    /// Whether the codec holds no byte of either side's. A request that was sent ahead may be in its buffer whole.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.heads_ahead.load(Ordering::Relaxed) == 0
            && self.between.load(Ordering::Relaxed)
            && !self.unflushed.load(Ordering::Relaxed)
            && !self.busy.load(Ordering::Relaxed)
            && !self.keeps_body.load(Ordering::Relaxed)
    }
}

/// A reader that knows where heads begin and end.
pub(crate) trait Heads {
    /// The number of the head that has begun and is not whole.
    fn unfinished_head(&self) -> Option<u64>;

    /// The number of heads that were read whole.
    fn heads(&self) -> u64;

    /// Whether the next byte begins a message, and none is under way that the reader knows of.
    fn is_between(&self) -> bool;

    /// What is written to a client whose head took too long. `None`: other requests may be under way, and go first.
    const TIMED_OUT: Option<&'static [u8]>;
}

/// Ends a connection whose head takes longer than `limit` from its first byte, however many bytes come in between.
#[derive(Debug)]
pub(crate) struct HeadDeadline<T> {
    io: T,
    limit: Duration,
    verdict: Arc<Verdict>,
    /// The head under way.
    head: Option<u64>,
    /// Whole heads that the verdict was told of.
    heads: u64,
    /// Made with the first head that does not come in one piece, and used again.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The codec has nothing more to write: what we write stands between messages.
    written: bool,
}

impl<T: Heads> HeadDeadline<T> {
    pub(crate) fn new(io: T, limit: Duration, verdict: Arc<Verdict>) -> Self {
        Self { io, limit, verdict, head: None, heads: 0, deadline: None, written: true }
    }

    /// Starts the clock where a head begins.
    fn look(&mut self) {
        self.verdict.between.store(self.io.is_between(), Ordering::Relaxed);
        let heads = self.io.heads();
        if heads != self.heads {
            let more = heads.wrapping_sub(self.heads);
            self.heads = heads;
            self.verdict.add_heads_ahead(i64::try_from(more).unwrap_or(i64::MAX));
        }
        let head = self.io.unfinished_head();
        if head == self.head {
            return;
        }
        self.head = head;
        self.verdict.in_head.store(head.is_some(), Ordering::Relaxed);
        if head.is_some() {
            self.restart();
        }
    }

    fn restart(&mut self) {
        let at = Instant::now() + self.limit;
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().reset(at),
            None => self.deadline = Some(Box::pin(sleep_until(at))),
        }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = &mut self.deadline else { return false };
        if self.head.is_none() || deadline.as_mut().poll(cx).is_pending() {
            return false;
        }
        if T::TIMED_OUT.is_some() && self.verdict.busy.load(Ordering::Relaxed) {
            // Sent ahead while its connection serves another request: nobody waits for it yet.
            self.restart();
            return false;
        }
        true
    }
}

impl<T> HeadDeadline<T> {
    fn wrote(&mut self, polled: &Poll<io::Result<usize>>, all: usize) {
        self.written = matches!(polled, Poll::Ready(Ok(count)) if *count == all);
        self.verdict.unflushed.store(true, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + AsyncWrite + Heads + Unpin> AsyncRead for HeadDeadline<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.look();
        if !this.is_late(cx) {
            return polled;
        }
        this.verdict.set(Ended::HeadTimeout);
        if let Some(words) = T::TIMED_OUT.filter(|_| this.written) {
            let _courtesy = Pin::new(&mut this.io).poll_write(cx, words);
            let _courtesy = Pin::new(&mut this.io).poll_flush(cx);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadDeadline<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(&polled, buf.len());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(&polled, bufs.iter().map(|buf| buf.len()).sum());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        // A codec flushes when it has handed on all that it has.
        self.verdict.unflushed.store(!matches!(polled, Poll::Ready(Ok(()))), Ordering::Relaxed);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Ends a connection that takes no byte of what we write for `limit`.
#[derive(Debug)]
pub(crate) struct WriteDeadline<T> {
    io: T,
    limit: Option<Duration>,
    verdict: Arc<Verdict>,
    waiting: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T> WriteDeadline<T> {
    /// `None`: for ever.
    pub(crate) fn new(io: T, limit: Option<Duration>, verdict: Arc<Verdict>) -> Self {
        Self { io, limit, verdict, waiting: false, deadline: None }
    }

    /// Watches over one answer of the connection below.
    fn watch<R>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        let (Poll::Pending, Some(limit)) = (&polled, self.limit) else {
            self.waiting = false;
            return polled;
        };
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        if !self.waiting {
            self.waiting = true;
            deadline.as_mut().reset(Instant::now() + limit);
        }
        if deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.verdict.set(Ended::SlowReader);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteDeadline<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::advance;

    use super::*;
    use crate::http::layer::{pass_flush, pass_writes};

    const LIMIT: Duration = Duration::from_secs(10);
    const HALF: Duration = Duration::from_secs(6);

    /// A head is a line.
    struct Lines {
        io: DuplexStream,
        ended: u64,
        begun: bool,
    }

    impl Heads for Lines {
        fn unfinished_head(&self) -> Option<u64> {
            self.begun.then_some(self.ended)
        }

        fn heads(&self) -> u64 {
            self.ended
        }

        fn is_between(&self) -> bool {
            !self.begun
        }

        const TIMED_OUT: Option<&'static [u8]> = Some(b"late");
    }

    impl AsyncRead for Lines {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buf.filled().len();
            let polled = Pin::new(&mut self.io).poll_read(cx, buf);
            for byte in &buf.filled()[before..] {
                self.begun = *byte != b'\n';
                self.ended += u64::from(!self.begun);
            }
            polled
        }
    }

    impl AsyncWrite for Lines {
        pass_writes!(io);
        pass_flush!(io);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heads_clock_runs_from_its_first_byte_and_each_head_has_its_own() {
        let (near, mut far) = duplex(1024);
        let verdict = Arc::<Verdict>::default();
        let mut io = HeadDeadline::new(Lines { io: near, ended: 0, begun: false }, LIMIT, verdict.clone());
        let mut buffer = [0; 64];
        // Silence between heads is no head.
        advance(LIMIT * 10).await;
        far.write_all(b"a").await.unwrap();
        assert_eq!(io.read(&mut buffer).await.unwrap(), 1);
        advance(HALF).await;
        // The end of one head and the start of the next in one piece.
        far.write_all(b"b\nc").await.unwrap();
        assert_eq!(io.read(&mut buffer).await.unwrap(), 3);
        advance(HALF).await;
        far.write_all(b"d").await.unwrap();
        assert_eq!(io.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(verdict.get(), None);
        // A byte now and then buys no time.
        let start = Instant::now();
        assert_eq!(io.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMIT - HALF);
        assert_eq!(verdict.get(), Some(Ended::HeadTimeout));
        let mut told = [0; 4];
        far.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"late");
    }

    #[tokio::test]
    async fn a_codec_that_holds_a_whole_head_of_which_it_made_no_request_is_not_at_rest() {
        let (near, mut far) = duplex(1024);
        let verdict = Arc::<Verdict>::default();
        let mut io = HeadDeadline::new(Lines { io: near, ended: 0, begun: false }, LIMIT, verdict.clone());
        far.write_all(b"a\nb\n").await.unwrap();
        assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 4);
        verdict.handed_on();
        assert!(!verdict.is_at_rest(), "the second is in the codec's buffer");
        verdict.handed_on();
        assert!(verdict.is_at_rest());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_was_sent_ahead_is_waited_for_while_another_request_is_served() {
        let (near, mut far) = duplex(1024);
        let verdict = Arc::<Verdict>::default();
        let mut io = HeadDeadline::new(Lines { io: near, ended: 0, begun: false }, LIMIT, verdict.clone());
        verdict.set_busy(true);
        far.write_all(b"a").await.unwrap();
        assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 1);
        let reading = tokio::time::timeout(LIMIT + HALF, io.read(&mut [0; 64])).await;
        assert!(reading.is_err());
        verdict.set_busy(false);
        assert!(io.read(&mut [0; 64]).await.is_err());
        assert_eq!(verdict.get(), Some(Ended::HeadTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_byte_in_time_is_waited_for_and_one_that_takes_none_is_not() {
        let (near, mut far) = duplex(16);
        let verdict = Arc::<Verdict>::default();
        let mut io = WriteDeadline::new(near, Some(LIMIT), verdict.clone());
        io.write_all(&[0; 16]).await.unwrap();
        for _ in 0..3 {
            let (written, ()) = tokio::join!(io.write(&[0; 16]), async {
                tokio::time::sleep(HALF).await;
                far.read_exact(&mut [0; 1]).await.unwrap();
            });
            written.unwrap();
        }
        assert_eq!(verdict.get(), None);
        let start = Instant::now();
        assert_eq!(io.write(&[0; 16]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMIT);
        assert_eq!(verdict.get(), Some(Ended::SlowReader));
    }

    #[test]
    fn the_first_reason_stays() {
        for why in Ended::ALL {
            let verdict = Verdict::default();
            assert_eq!(verdict.get(), None);
            verdict.set(why);
            verdict.set(Ended::Idle);
            assert_eq!(verdict.get(), Some(why));
        }
    }
}
