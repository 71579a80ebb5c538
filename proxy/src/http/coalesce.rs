//! Many small writes of one turn of the event loop, made one.
//!
//! h2 flushes to the socket after a DATA frame although a dozen other responses are ready in the same turn, so each
//! would become a TLS record and a system call of its own. Here a flush only wakes a task, which runs behind the ready
//! ones in the worker's queue and then writes everything together.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait. Above it writers wait: 256 KiB is the window of one stream, some sixteen TLS records.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// A buffer larger than this is given back to the allocator once it is empty, so that idle connections stay small.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// A connection whose writes are gathered. The flusher task holds the other end.
#[derive(Debug)]
pub(crate) struct Coalesced<T>(Rc<RefCell<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    waiting: BytesMut,
    dirty: bool,
    /// The codec let go of the connection.
    closed: bool,
    failed: Option<io::ErrorKind>,
    flusher: Option<Waker>,
    /// The codec, waiting for room.
    writer: Option<Waker>,
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Coalesced<T> {
    /// Wraps a connection, and spawns its flusher on the current `LocalSet`.
    pub(crate) fn new(io: T) -> Self {
        let inner = Rc::new(RefCell::new(Inner {
            io,
            waiting: BytesMut::new(),
            dirty: false,
            closed: false,
            failed: None,
            flusher: None,
            writer: None,
        }));
        tokio::task::spawn_local(Flusher(inner.clone()));
        Self(inner)
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    /// Writes what waits. An error is kept for the codec's next call.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        if self.waiting.capacity() > KEPT_BYTES_MAX {
            self.waiting = BytesMut::new();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn error(&self) -> Option<io::Error> {
        self.failed.map(io::Error::from)
    }

    fn wake_flusher(&mut self) {
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        }
    }
}

/// Writes for a connection until the codec lets go of it.
struct Flusher<T>(Rc<RefCell<Inner<T>>>);

impl<T: AsyncWrite + Unpin> Future for Flusher<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        if inner.failed.is_some() || (inner.closed && !inner.dirty) {
            return Poll::Ready(());
        }
        inner.flusher = Some(cx.waker().clone());
        if !inner.dirty {
            return Poll::Pending;
        }
        match inner.poll_write_out(cx) {
            Poll::Ready(Ok(())) => inner.dirty = false,
            Poll::Ready(Err(error)) => inner.failed = Some(error.kind()),
            Poll::Pending => {}
        }
        if (inner.waiting.len() < WAITING_BYTES_MAX || inner.failed.is_some())
            && let Some(writer) = inner.writer.take()
        {
            writer.wake();
        }
        if inner.failed.is_some() || (inner.closed && !inner.dirty) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalesced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if let Some(error) = inner.error() {
            return Poll::Ready(Err(error));
        }
        if inner.waiting.len() >= WAITING_BYTES_MAX {
            inner.writer = Some(cx.waker().clone());
            inner.dirty = true;
            inner.wake_flusher();
            return Poll::Pending;
        }
        let mut written: usize = 0;
        for buf in bufs {
            let room = WAITING_BYTES_MAX.saturating_sub(inner.waiting.len());
            let taken = buf.get(..room.min(buf.len())).unwrap_or_default();
            inner.waiting.extend_from_slice(taken);
            written = written.saturating_add(taken.len());
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only marks: what was written leaves at the end of this turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        if let Some(error) = inner.error() {
            return Poll::Ready(Err(error));
        }
        if !inner.waiting.is_empty() && !inner.dirty {
            inner.dirty = true;
            inner.wake_flusher();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the rest at once, then closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_write_out(cx))?;
        inner.dirty = false;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

impl<T> Drop for Coalesced<T> {
    fn drop(&mut self) {
        let mut inner = self.0.borrow_mut();
        inner.closed = true;
        if let Some(flusher) = inner.flusher.take() {
            flusher.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::task::LocalSet;

    use super::*;
    use crate::http::layer::pass_flush;

    /// Counts the writes that reach it.
    struct Counting {
        io: tokio::io::DuplexStream,
        writes: Rc<RefCell<Vec<usize>>>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
            self.writes.borrow_mut().push(written);
            Poll::Ready(Ok(written))
        }

        pass_flush!(io);
    }

    fn pair(size: usize) -> (Coalesced<Counting>, tokio::io::DuplexStream, Rc<RefCell<Vec<usize>>>) {
        let (near, far) = duplex(size);
        let writes = Rc::<RefCell<Vec<usize>>>::default();
        (Coalesced::new(Counting { io: near, writes: writes.clone() }), far, writes)
    }

    #[tokio::test]
    async fn the_writes_of_one_turn_leave_as_one() {
        let turn = async {
            let (mut near, mut far, writes) = pair(1 << 20);
            for _ in 0..12 {
                near.write_all(b"response").await.unwrap();
                near.flush().await.unwrap();
            }
            assert!(writes.borrow().is_empty());
            let mut read = [0; 96];
            far.read_exact(&mut read).await.unwrap();
            assert_eq!(*writes.borrow(), [96]);
        };
        LocalSet::new().run_until(turn).await;
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back_and_loses_nothing() {
        let slow = async {
            let (mut near, mut far, _) = pair(1024);
            let sent: Vec<u8> = (0..=255).cycle().take(3 * WAITING_BYTES_MAX).collect();
            let expected = sent.clone();
            let writing = tokio::task::spawn_local(async move {
                near.write_all(&sent).await.unwrap();
                near.shutdown().await.unwrap();
            });
            tokio::task::yield_now().await;
            assert!(!writing.is_finished());
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            assert!(read == expected);
            writing.await.unwrap();
        };
        LocalSet::new().run_until(slow).await;
    }

    #[tokio::test]
    async fn a_broken_connection_is_told_at_the_next_write() {
        let broken = async {
            let (mut near, far, _) = pair(1024);
            drop(far);
            near.write_all(b"x").await.unwrap();
            near.flush().await.unwrap();
            tokio::task::yield_now().await;
            assert!(near.write_all(b"y").await.is_err());
        };
        LocalSet::new().run_until(broken).await;
    }

    #[tokio::test]
    async fn what_was_flushed_before_the_codec_let_go_still_leaves() {
        let dropped = async {
            let (mut near, mut far, _) = pair(1024);
            near.write_all(b"goaway").await.unwrap();
            near.flush().await.unwrap();
            drop(near);
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, b"goaway");
        };
        LocalSet::new().run_until(dropped).await;
    }
}
