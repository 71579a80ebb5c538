//! A bound on what the store may send: the client library has none.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use crate::http::layer::{pass_flush, pass_writes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Fails when more bytes come than are allowed now. Whoever asks a question raises the allowance.
pub(super) struct Bounded {
    inner: Box<dyn Stream>,
    allowance: Arc<AtomicUsize>,
}

impl Bounded {
    pub(super) fn new(inner: Box<dyn Stream>, allowance: Arc<AtomicUsize>) -> Self {
        Self { inner, allowance }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let came = buf.filled().len().saturating_sub(before);
        let left = |allowed: usize| allowed.checked_sub(came);
        // One thread at a time writes it; atomic because the client library wants to be able to move the stream.
        match self.allowance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_before) => Poll::Ready(Ok(())),
            Err(_too_little) => {
                let why = "the store sends more than it was asked for";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)))
            }
        }
    }
}

impl AsyncWrite for Bounded {
    pass_writes!(inner);
    pass_flush!(inner);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_store_that_sends_without_end_is_cut_off() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let allowance = Arc::new(AtomicUsize::new(10));
        let mut bounded = Bounded::new(Box::new(ours), allowance.clone());
        let mut answer = [0; 8];
        theirs.write_all(b"12345678").await.unwrap();
        bounded.read_exact(&mut answer).await.unwrap();
        allowance.store(8, Ordering::Relaxed);
        theirs.write_all(b"12345678").await.unwrap();
        bounded.read_exact(&mut answer).await.unwrap();
        theirs.write_all(b"1").await.unwrap();
        assert!(bounded.read_exact(&mut answer).await.is_err());
    }
}
