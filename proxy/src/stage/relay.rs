//! Carrying bytes between two connections of which nothing is read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use palisade_policy::{Permit, Snapshot};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use crate::http::body::Tally;
use crate::http::layer::pass_flush;
use crate::http::silence::too_long;
use crate::http::transport::Transport;
use crate::stage::revoked::revoked;
use crate::stage::tunnel::{disallowed, expired};
use crate::telemetry::record::{Record, TcpEnd};
use crate::worker::Worker;

/// What ends a connection before its two sides do.
pub(crate) struct Terms<'t> {
    /// Whether the snapshot still allows what it was opened for.
    pub(crate) allowed: &'t dyn Fn(&Snapshot) -> bool,
    pub(crate) expires: Option<SystemTime>,
    /// Of the certificate that the other end in the mesh showed.
    pub(crate) serial: Option<&'t str>,
    /// From now on.
    pub(crate) life: Option<Duration>,
    /// A rule said how the upstream is asked whether it is there.
    pub(crate) keeps_alive: bool,
}

/// Carries bytes until both sides have ended, or one of `terms` is over. Whoever ends its side may still read the other's.
/// Ends that are none are passed on as resets: nobody may take a part for the whole.
pub(crate) async fn relay(
    permit: Permit,
    worker: &Worker,
    caller: Transport,
    upstream: Transport,
    record: &mut Record,
    terms: Terms<'_>,
) {
    drop(permit);
    let limits = &worker.shared.limits;
    prepare(caller.socket(), Some(limits.tcp_keepalive));
    prepare(upstream.socket(), (!terms.keeps_alive).then_some(limits.tcp_keepalive));
    record.tcp_opened();
    let tally = record.tally.clone();
    let (mut caller, mut upstream) = (Counted::new(caller, &tally), Counted::new(upstream, &tally));
    let (from_caller, from_upstream) = (caller.flow.clone(), upstream.flow.clone());
    let end = {
        let size = limits.tcp_buffer_bytes;
        let copying = copy_bidirectional_with_sizes(&mut caller, &mut upstream, size, size);
        tokio::pin!(copying);
        let mut report = interval(limits.tcp_report_interval);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closing = async {
            tokio::select! {
                biased;
                () = revoked(worker, terms.serial) => TcpEnd::Closed("closed_by_revocation"),
                () = disallowed(worker, terms.allowed) => TcpEnd::Closed("closed_by_policy_change"),
                () = expired(terms.expires) => TcpEnd::Closed("closed_at_certificate_expiry"),
                () = passed(terms.life) => TcpEnd::Closed("closed_at_max_connection_duration"),
                () = too_long(tally.silence.as_ref()) => TcpEnd::Idle,
            }
        };
        tokio::pin!(closing);
        loop {
            tokio::select! {
                biased;
                end = &mut closing => break end,
                copied = &mut copying => break match copied {
                    Ok(_bytes) => TcpEnd::Whole,
                    Err(_) if from_upstream.broke.get() => TcpEnd::Upstream,
                    Err(_) => TcpEnd::Caller,
                },
                _at = report.tick() => record.tcp_carried(from_caller.read.get(), from_upstream.read.get()),
            }
        }
    };
    if end == TcpEnd::Whole {
        linger(caller.io.socket(), None);
        linger(upstream.io.socket(), None);
    }
    record.tcp_carried(from_caller.read.get(), from_upstream.read.get());
    record.tcp_ended(end);
}

/// From now on a connection that is dropped is reset, unless it ended well.
fn prepare(socket: &TcpStream, keepalive: Option<Duration>) {
    linger(socket, Some(Duration::ZERO));
    let Some(time) = keepalive else { return };
    let keepalive = TcpKeepalive::new().with_time(time);
    if let Err(error) = SockRef::from(socket).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "a silent connection is not asked whether it is there");
    }
}

async fn passed(life: Option<Duration>) {
    match life {
        Some(life) => tokio::time::sleep(life).await,
        None => std::future::pending().await,
    }
}

/// How a socket is closed: in order, or with a reset.
pub(crate) fn linger(socket: &TcpStream, time: Option<Duration>) {
    if let Err(error) = SockRef::from(socket).set_linger(time) {
        tracing::debug!(%error, "a connection is closed in another way than it ended");
    }
}

/// What was read from a connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) read: Cell<u64>,
    /// It failed, and did not end.
    pub(crate) broke: Cell<bool>,
}

/// A connection that counts what is read from it.
pub(crate) struct Counted<T> {
    io: T,
    pub(crate) flow: Rc<Flow>,
    tally: Rc<Tally>,
}

impl<T> Counted<T> {
    pub(crate) fn new(io: T, tally: &Rc<Tally>) -> Self {
        Self { io, flow: Rc::default(), tally: tally.clone() }
    }

    fn note<R>(&self, result: &Poll<io::Result<R>>) {
        if matches!(result, Poll::Ready(Err(_))) {
            self.flow.broke.set(true);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.note(&result);
        ready!(result)?;
        let read = buf.filled().len().saturating_sub(before);
        if let Some(silence) = &self.tally.silence {
            silence.broken();
        }
        let read = u64::try_from(read).unwrap_or(0);
        self.flow.read.set(self.flow.read.get().saturating_add(read));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(&result);
        result
    }

    pass_flush!(io);
}
