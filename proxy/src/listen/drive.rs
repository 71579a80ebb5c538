//! Running a codec on a connection until its end, or until the connection has to end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;

use super::answers::{Answer, Answers, Watched};
use super::detect::Rewound;
use super::refused::CodecRefusal;
use super::rest;
use crate::http::body::ResponseBody;
use crate::http::calm::Calm;
use crate::http::coalesce::Coalesced;
use crate::http::codec;
use crate::http::exec::LocalExec;
use crate::http::ledger::{Ledger, Refused};
use crate::http::patience::{Ended, HeadDeadline, Verdict, WriteDeadline};
use crate::http::transport::Transport;
use crate::upstream::connect::Wire;
use crate::worker::Worker;

/// From the decision to end a connection to its forced end, for the last words to leave.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// No limit, for clocks that want a time: a year.
pub(super) const FOR_EVER: Duration = Duration::from_hours(365 * 24);

/// How long a connection may keep us waiting, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without a request.
    pub(super) idle: Duration,
    /// For the rest of a head.
    pub(super) head: Duration,
    /// For a client that reads; `None`: for ever.
    pub(super) stall: Option<Duration>,
    /// Strangers: their HTTP/2 frames are counted.
    pub(super) strict: bool,
}

/// Serves one connection. When `stop` ends, no new request is taken; what is in flight may take `grace` to end
/// (`None`: as long as the worker lives). `refused` hears of what the codec refuses before it is a request.
pub(super) async fn drive<F, R>(
    worker: &Rc<Worker>,
    wire: Wire,
    io: Rewound<Transport>,
    patience: Patience,
    handler: F,
    stop: impl Future<Output = Option<Duration>>,
    refused: impl Fn(CodecRefusal),
) -> Option<Ended>
where
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody>> + 'static,
{
    let limits = &worker.shared.limits;
    let ledger = Ledger::new();
    let verdict = Arc::<Verdict>::default();
    let answers = Answers::new(verdict.clone());
    let service = service_fn(|request: Request<Incoming>| {
        ledger.handed_on();
        let with_body = !request.body().is_end_stream();
        Answering { answer: Some(answers.begin()), with_body, response: Box::pin(handler(request)) }
    });
    let stop = async {
        tokio::select! {
            grace = stop => grace,
            why = answers.outstayed(patience.idle, patience.stall) => {
                verdict.set(why);
                Some(LAST_WORDS)
            }
        }
    };
    // What the codec ended is told once: by the verdict, where there is one.
    let settle = || {
        ledger.settle(|why| {
            if why != Refused::Connection || verdict.get().is_none() {
                refused(CodecRefusal::of_http2(why));
            }
        });
    };
    match wire {
        Wire::Http1 => {
            if let Err(error) = rest::serve(limits, io, patience, &service, stop, &answers, &verdict).await
                && verdict.get().is_none()
                && let Some(refusal) = CodecRefusal::of_http1(&error)
            {
                refused(refusal);
            }
        }
        Wire::Http2 => {
            let io = WriteDeadline::new(io, patience.stall, verdict.clone());
            let allowances = patience.strict.then_some(&**limits);
            let io = Calm::new(Coalesced::new(io), ledger.clone(), allowances, verdict.clone());
            let io = HeadDeadline::new(io, patience.head, verdict.clone());
            let connection =
                Box::pin(codec::server_http2(limits).serve_connection(TokioIo::new(io), service));
            let stop = std::pin::pin!(stop);
            let _ended = until(connection, stop, std::future::pending(), settle).await;
        }
    }
    verdict.get()
}

/// Why a codec no longer serves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    ForGood,
    /// Until there is something to read.
    ToRest,
}

/// The connection comes in a box: a future keeps what it was given beside what it made of it, and an idle connection is
/// hardly more than this.
pub(super) async fn until<C: Graceful>(
    connection: Pin<Box<C>>,
    stop: Pin<&mut impl Future<Output = Option<Duration>>>,
    rest: impl Future<Output = ()>,
    after_turn: impl Fn() + Unpin,
) -> hyper::Result<Left> {
    let mut connection = Turns { connection, after_turn };
    tokio::select! {
        biased;
        // First: it may have been woken for bytes that it has not looked at.
        result = &mut connection => result?,
        () = rest => return Ok(Left::ToRest),
        grace = stop => {
            connection.connection.as_mut().graceful_shutdown();
            match grace {
                Some(grace) => tokio::time::timeout(grace, connection).await.unwrap_or(Ok(()))?,
                None => connection.await?,
            }
        }
    }
    Ok(Left::ForGood)
}

/// A request under way. The codecs move it about and keep room for it while there is none, so that what it is made of
/// (some 5 KB) is better elsewhere.
struct Answering<R> {
    response: Pin<Box<R>>,
    answer: Option<Answer>,
    with_body: bool,
}

impl<R: Future<Output = Response<ResponseBody>>> Future for Answering<R> {
    type Output = Result<Response<Watched>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.response.as_mut().poll(cx));
        let (head, body) = response.into_parts();
        Poll::Ready(Ok(Response::from_parts(head, Watched::new(body, self.answer.take(), self.with_body))))
    }
}

/// A connection, and what is done after every turn of its codec.
struct Turns<C, A> {
    connection: Pin<Box<C>>,
    after_turn: A,
}

impl<C: Graceful, A: Fn() + Unpin> Future for Turns<C, A> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = this.connection.as_mut().poll(cx);
        (this.after_turn)();
        polled
    }
}

/// What hyper's two server connections have in common.
pub(super) trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = Watched>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

impl<I, S> Graceful for http2::Connection<I, S, LocalExec>
where
    S: HttpService<Incoming, ResBody = Watched>,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}
