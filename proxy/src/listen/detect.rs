//! Which protocol the first bytes speak, where no ALPN says it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::http::layer::{pass_flush, pass_writes};
use crate::upstream::connect::Wire;

/// RFC 9113 section 3.4. No HTTP/1 request starts like it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until the first bytes can be no preface, or are one. `None`: closed without a byte.
pub(super) async fn wire<T: AsyncRead + Unpin>(mut io: T) -> io::Result<Option<(Wire, Rewound<T>)>> {
    let mut start = BytesMut::with_capacity(PREFACE.len());
    let wire = loop {
        if start.len() >= PREFACE.len() {
            break Wire::Http2;
        }
        let rest = PREFACE.len().saturating_sub(start.len());
        let read = (&mut io).take(u64::try_from(rest).unwrap_or(0)).read_buf(&mut start).await?;
        if !PREFACE.starts_with(&start) {
            break Wire::Http1;
        }
        if read == 0 {
            if start.is_empty() {
                return Ok(None);
            }
            break Wire::Http1;
        }
    };
    Ok(Some((wire, Rewound { start, io })))
}

/// A connection whose first bytes were read already.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    start: BytesMut,
    io: T,
}

impl<T> Rewound<T> {
    pub(super) fn new(io: T) -> Self {
        Self { start: BytesMut::new(), io }
    }
}

impl<T: AsyncRead + Unpin> Rewound<T> {
    /// Waits until there is something to read. `false`: the other side has closed the connection, or lost it.
    pub(super) async fn is_spoken_to(&mut self) -> bool {
        if !self.start.is_empty() {
            return true;
        }
        let mut first = [0];
        match self.io.read(&mut first).await {
            Ok(0) | Err(_) => false,
            Ok(_) => {
                self.start.extend_from_slice(&first);
                true
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let now = self.start.len().min(buf.remaining());
        buf.put_slice(self.start.get(..now).unwrap_or_default());
        self.start.advance(now);
        if self.start.is_empty() {
            self.start = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    pass_writes!(io);
    pass_flush!(io);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn detect(chunks: &[&[u8]]) -> Option<(Wire, Vec<u8>)> {
        let mut mock = tokio_test_io(chunks);
        let (wire, mut rewound) = wire(&mut mock).await.unwrap()?;
        let mut all = Vec::new();
        rewound.read_to_end(&mut all).await.unwrap();
        Some((wire, all))
    }

    /// Gives one chunk per read.
    fn tokio_test_io(chunks: &[&[u8]]) -> Chunks {
        Chunks(chunks.iter().map(|chunk| chunk.to_vec()).rev().collect())
    }

    struct Chunks(Vec<Vec<u8>>);

    impl AsyncRead for Chunks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut chunk) = self.0.pop() {
                let rest = chunk.split_off(chunk.len().min(buf.remaining()));
                buf.put_slice(&chunk);
                if !rest.is_empty() {
                    self.0.push(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn tells_http2_from_http1_and_loses_no_byte() {
        let whole = [PREFACE, b"more"].concat();
        assert_eq!(detect(&[&whole]).await, Some((Wire::Http2, whole.clone())));
        assert_eq!(detect(&[b"P", b"RI ", &whole[4..]]).await, Some((Wire::Http2, whole.clone())));
        for text in ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\n", "PRI / HTTP/1.1\r\n\r\n", "P"] {
            assert_eq!(detect(&[text.as_bytes()]).await, Some((Wire::Http1, text.into())), "{text}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_closes_at_once_is_none() {
        assert_eq!(detect(&[]).await, None);
    }
}
