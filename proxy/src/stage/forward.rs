//! The one place that sends a request upstream. It wants a permit.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use palisade_policy::Permit;
use tokio::time::Instant;

use crate::error::ProxyError;
use crate::http::body::{RequestBody, Tally};
use crate::http::codec::is_malformed;
use crate::http::normalize::{Malformed, Target, has_plain_length};
use crate::http::silence::too_long;
use crate::identity::Identity;
use crate::telemetry::record::Record;
use crate::upstream::balance::Candidates;
use crate::upstream::connect::{ConnectError, Key, Security, Wire};
use crate::upstream::pool::Lease;
use crate::worker::Worker;

/// Where to, and how.
#[derive(Debug)]
pub(crate) struct Route {
    /// In the order to be tried; none means that the service has no endpoint.
    pub(crate) candidates: Candidates,
    pub(crate) wire: Wire,
    pub(crate) security: Security,
    /// The identity that the request was judged with: a new one may come in force before the connection is made.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Until the response head. `None` for calls that may stay silent: where the stream's own limit lets them.
    pub(crate) response_timeout: Option<Duration>,
}

type Outgoing = Request<RequestBody>;
/// The response and the connection it comes from.
pub(crate) type Answer = (http::Response<Incoming>, Lease);

/// Sends the request to the first candidate that takes it.
///
/// Tried again is only what was never sent: a connection that could not be made, or a kept one that closed before
/// the first byte (hyper then gives the request back). Anything else might be done twice.
pub(crate) async fn forward(
    permit: Permit,
    worker: &Rc<Worker>,
    route: Route,
    mut request: Outgoing,
    record: &mut Record,
) -> Result<Answer, ProxyError> {
    frame(&mut request, route.wire);
    let mut failure = ProxyError::NoEndpoint;
    let attempts = worker.shared.limits.attempts_max;
    let mut fresh_tries = 0;
    for (attempt, address) in route.candidates.iter().cycle().take(attempts).enumerate() {
        if fresh_tries >= route.candidates.len() {
            break;
        }
        record.retries = u64::try_from(attempt).unwrap_or(u64::MAX);
        record.upstream_host = Some(*address);
        if let Some(trace) = &mut record.trace {
            trace.attempt(*address, route.wire, &route.security, &mut request);
        }
        let key = Key { address: *address, wire: route.wire, security: route.security.clone() };
        let mut lease = match worker.pool.lease(worker, key, route.identity.as_deref()).await {
            Ok(lease) => lease,
            Err(error) => {
                fresh_tries += 1;
                note_failed_connection(worker, *address, &error);
                failure = ProxyError::Connection(error);
                record.attempt_failed(&failure);
                continue;
            }
        };
        // A reused connection that closed says nothing about its endpoint: the same one may be tried afresh.
        fresh_tries += usize::from(!lease.is_reused());
        record.upstream_sent_at = Some(Instant::now());
        let tally = record.tally.clone();
        tally.leash.set_server(lease.server());
        if let Some(why) = tally.leash.over() {
            return Err(ProxyError::Closed(why));
        }
        let waited = async {
            match route.response_timeout {
                Some(limit) => {
                    within(limit, &tally, lease.send(request)).await.ok_or(ProxyError::ResponseTimeout)
                }
                None => unless_silent(&tally, lease.send(request)).await.ok_or(ProxyError::StreamIdle),
            }
        };
        let waited = tokio::select! {
            biased;
            // First: an answer that came together with the change must not begin, only to break off at once.
            why = tally.leash.ended() => Err(ProxyError::Closed(why)),
            waited = waited => waited,
        };
        match waited? {
            // Over HTTP/1.1 the reader below hyper has seen to it; over HTTP/2 nobody has, and callers may read HTTP/1.1.
            Ok(response) if !has_plain_length(response.headers()) => {
                return Err(ProxyError::UpstreamLengths);
            }
            Ok(response) => {
                drop(permit);
                return Ok((response, lease));
            }
            // Not tried again: what is left of the body is no request any more.
            Err(_) if let Some(why) = tally.cut.get() => return Err(record.cut(why)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => {
                    request = unsent;
                    failure = ProxyError::UpstreamReset(error.into_error());
                    record.attempt_failed(&failure);
                }
                None if tally.request_malformed.get() => {
                    return Err(ProxyError::Malformed(Malformed::Framing));
                }
                None if is_malformed(error.error()) => {
                    return Err(ProxyError::UpstreamMalformed(error.into_error()));
                }
                None => return Err(ProxyError::UpstreamReset(error.into_error())),
            },
        }
    }
    Err(failure)
}

/// Says that a body comes whose length nobody knows. Left to itself, hyper takes a GET or HEAD for one without a body
/// then, and what the caller sent would be lost without a word.
fn frame(request: &mut Outgoing, wire: Wire) {
    let body = request.body();
    let unknown = !body.is_end_stream() && body.size_hint().exact().is_none();
    if wire == Wire::Http1 && unknown && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn note_failed_connection(worker: &Worker, address: std::net::SocketAddr, error: &ConnectError) {
    worker.balancer.failed(address);
    tracing::debug!(upstream.addr = %address, %error, "no connection to an endpoint");
}

/// Waits for the response head. A caller that is still sending its body, and gets on with it, extends the wait.
async fn within<T>(
    limit: Duration,
    tally: &Tally,
    sending: impl Future<Output = Result<T, TrySendError<Outgoing>>>,
) -> Option<Result<T, TrySendError<Outgoing>>> {
    tokio::pin!(sending);
    let mut seen = (tally.received.get(), tally.request_ended.get());
    loop {
        if let Ok(result) = tokio::time::timeout(limit, &mut sending).await {
            return Some(result);
        }
        let now = (tally.received.get(), tally.request_ended.get());
        if now == seen {
            return None;
        }
        seen = now;
    }
}

/// Waits for the response head while anything comes from the caller, and the stream's limit of silence beyond that.
async fn unless_silent<T>(tally: &Tally, sending: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = sending => Some(answer),
        () = too_long(tally.silence.as_ref()) => None,
    }
}

/// Writes the target into the request in the form that `wire` wants (RFC 9112 section 3.2.1, RFC 9113 section 8.3.1).
pub(crate) fn address(head: &mut http::request::Parts, target: &Target, wire: Wire, security: &Security) {
    match wire {
        Wire::Http1 => {
            head.version = Version::HTTP_11;
            head.uri = Uri::from(target.path.clone());
            head.headers.insert(HOST, host_value(&target.authority));
        }
        Wire::Http2 => {
            head.version = Version::HTTP_2;
            head.headers.remove(HOST);
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(match security {
                Security::Plaintext => Scheme::HTTP,
                Security::Mesh { .. } | Security::Tls { .. } => Scheme::HTTPS,
            });
            parts.authority = Some(target.authority.clone());
            parts.path_and_query = Some(target.path.clone());
            // All three parts are present, which is all that `from_parts` asks.
            head.uri = Uri::from_parts(parts).unwrap_or_default();
        }
    }
}

fn host_value(authority: &Authority) -> HeaderValue {
    // An authority holds no byte that a header value may not.
    HeaderValue::from_str(authority.as_str()).unwrap_or_else(|_never| HeaderValue::from_static(""))
}
