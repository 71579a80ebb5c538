//! Connections lent to a codec. Whoever lent one has it back when the codec is dropped.
//!
//! hyper keeps 8 KiB to read into and 8 KiB to write heads into for as long as a connection lives, which is hardly more
//! than it keeps beside them. A connection without a request needs neither.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where a lent connection comes back to. The lock is taken once in a loan, at its end: an upgraded connection may
/// end on another thread.
#[derive(Debug)]
pub(crate) struct Lender<T>(Arc<Mutex<Option<T>>>);

/// A connection on loan.
#[derive(Debug)]
pub(crate) struct Lent<T> {
    /// There until this is dropped.
    io: Option<T>,
    lender: Arc<Mutex<Option<T>>>,
}

impl<T> Default for Lender<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Lender<T> {
    pub(crate) fn lend(&self, io: T) -> Lent<T> {
        Lent { io: Some(io), lender: self.0.clone() }
    }

    /// The connection, if it is back.
    pub(crate) fn take_back(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        *self.lender.lock().unwrap_or_else(PoisonError::into_inner) = self.io.take();
    }
}

impl<T: Unpin> Lent<T> {
    fn io(&mut self) -> io::Result<Pin<&mut T>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lent<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io()?.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lent<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}
