//! A connection whose reads are looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::request::Request;
use super::response::{Response, Turn};
use super::{Framing, Message};
use crate::http::layer::{pass_flush, pass_writes};
use crate::http::patience::Heads;

#[derive(Debug)]
pub(crate) struct Guarded<T, M> {
    io: T,
    framing: Framing<M>,
    broken: Option<Broken>,
}

/// What is read instead of ambiguous bytes.
#[derive(Clone, Copy, Debug)]
enum Broken {
    /// What is left of the poison; behind it comes the end.
    Poison(&'static [u8]),
    Error,
}

impl<T> Guarded<T, Request> {
    /// A caller's connection.
    pub(crate) fn requests(io: T) -> Self {
        Self { io, framing: Framing::default(), broken: None }
    }
}

impl<T> Guarded<T, Response> {
    /// A connection to an upstream, where each response answers a request that `turn` tells of.
    pub(crate) fn responses(io: T, turn: Turn) -> Self {
        Self { io, framing: Framing::of(turn), broken: None }
    }
}

impl<T: AsyncRead + Unpin, M: Message + Unpin> AsyncRead for Guarded<T, M> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.broken.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let read = buf.filled().get(before..).unwrap_or_default();
            let Err(good) = this.framing.follow(read) else { return Poll::Ready(Ok(())) };
            buf.set_filled(before.saturating_add(good));
            this.broken = Some(match M::POISON {
                Some(poison) if !this.framing.broke_in_body => Broken::Poison(poison),
                _ => Broken::Error,
            });
            if good > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        match this.broken {
            Some(Broken::Poison(poison)) => {
                let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
                buf.put_slice(now);
                this.broken = Some(Broken::Poison(later));
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
    }
}

impl<T: AsyncWrite + Unpin, M: Unpin> AsyncWrite for Guarded<T, M> {
    pass_writes!(io);
    pass_flush!(io);
}

impl<T> Heads for Guarded<T, Request> {
    fn unfinished_head(&self) -> Option<u64> {
        self.framing.unfinished_head()
    }

    fn heads(&self) -> u64 {
        self.framing.heads
    }

    fn is_between(&self) -> bool {
        self.broken.is_none() && self.framing.is_between()
    }

    const TIMED_OUT: Option<&'static [u8]> =
        Some(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
}
