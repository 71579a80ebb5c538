//! Running a codec on a connection until its end, or until the connection has to end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::refused::CodecRefusal;
use crate::http::body::ResponseBody;
use crate::http::coalesce::Coalesced;
use crate::http::codec;
use crate::http::exec::LocalExec;
use crate::http::frames::{Ledger, Watched};
use crate::http::framing::Guarded;
use crate::upstream::connect::Wire;
use crate::worker::Worker;

/// Serves one connection. When `stop` ends, no new request is taken; what is in flight may take `grace` to end
/// (`None`: as long as the worker lives). `refused` hears of what the codec refuses before it is a request.
pub(super) async fn drive<T, F, R>(
    worker: &Rc<Worker>,
    wire: Wire,
    io: T,
    idle: Duration,
    handler: F,
    stop: impl Future<Output = Option<Duration>>,
    refused: impl Fn(CodecRefusal),
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody>> + 'static,
{
    let limits = &worker.shared.limits;
    let ledger = Ledger::new();
    let service = service_fn(|request| {
        ledger.handed_on();
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    match wire {
        Wire::Http1 => {
            let connection = codec::server_http1(limits, idle)
                .serve_connection(TokioIo::new(Guarded::requests(io)), service)
                .with_upgrades();
            if let Err(error) = until(connection, stop, || {}).await
                && let Some(refusal) = CodecRefusal::of_http1(&error)
            {
                refused(refusal);
            }
        }
        Wire::Http2 => {
            let io = Watched::new(Coalesced::new(io), ledger.clone());
            let connection = codec::server_http2(limits).serve_connection(TokioIo::new(io), service);
            let settle = || ledger.settle(|why| refused(CodecRefusal::of_http2(why)));
            // An error is told by the ledger, where it is one of the peer's making.
            let _ended = until(connection, stop, settle).await;
        }
    }
}

async fn until<C: Graceful>(
    connection: C,
    stop: impl Future<Output = Option<Duration>>,
    after_turn: impl Fn() + Unpin,
) -> hyper::Result<()> {
    tokio::pin!(connection);
    let mut connection = Turns { connection, after_turn };
    tokio::select! {
        result = &mut connection => result,
        grace = stop => {
            connection.connection.as_mut().graceful_shutdown();
            match grace {
                Some(grace) => tokio::time::timeout(grace, connection).await.unwrap_or(Ok(())),
                None => connection.await,
            }
        }
    }
}

/// A connection, with something to do whenever its codec has done what it can for now.
struct Turns<'c, C, A> {
    connection: Pin<&'c mut C>,
    after_turn: A,
}

impl<C: Graceful, A: Fn() + Unpin> Future for Turns<'_, C, A> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = this.connection.as_mut().poll(cx);
        (this.after_turn)();
        polled
    }
}

/// What hyper's two server connections have in common.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

impl<I, S> Graceful for http2::Connection<I, S, LocalExec>
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}
