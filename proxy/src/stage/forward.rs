//! The one place that sends a request upstream. It wants a permit.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use palisade_policy::Permit;
use palisade_policy::traffic::Retries;
use tokio::time::Instant;

use super::attempt::{Attempted, attempt};
use super::deadline::Deadline;
use super::tries::{Leave, Tries};
use crate::error::ProxyError;
use crate::http::body::RequestBody;
use crate::http::normalize::Target;
use crate::identity::Identity;
use crate::telemetry::record::Record;
use crate::upstream::connect::{Security, Wire};
use crate::upstream::members::Members;
use crate::upstream::pool::Lease;
use crate::worker::Worker;

/// Where to, and how.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) to: To,
    pub(crate) wire: Wire,
    pub(crate) security: Security,
    /// The identity that the request was judged with: a new one may come in force before the connection is made.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Until the response head. `None` for calls that may stay silent: where the stream's own limit lets them.
    pub(crate) response_timeout: Option<Duration>,
    /// When nobody waits for the answer any more.
    pub(crate) deadline: Option<Deadline>,
    /// `None`: the default.
    pub(crate) retries: Option<Arc<Retries>>,
    /// Processing the request twice does no harm.
    pub(crate) repeatable: bool,
    /// Of what the destination's endpoints are chosen by.
    pub(crate) hash: Option<u64>,
}

impl Route {
    pub(super) fn is_mesh(&self) -> bool {
        matches!(self.security, Security::Mesh { .. })
    }
}

/// Whom to ask.
#[derive(Debug)]
pub(crate) enum To {
    /// The application beside us.
    Application(SocketAddr),
    Members(Rc<Members>),
}

pub(crate) type Outgoing = Request<RequestBody>;
/// The response and the connection it comes from.
pub(crate) type Answer = (http::Response<Incoming>, Lease);

/// Sends the request to an endpoint, and to others where the first does not do and sending it again does no harm.
pub(crate) async fn forward(
    permit: Permit,
    worker: &Rc<Worker>,
    route: Route,
    mut request: Outgoing,
    record: &mut Record,
) -> Result<Answer, ProxyError> {
    if route.deadline.is_some_and(|deadline| deadline.at <= Instant::now()) {
        // Work that nobody waits for is not begun.
        return Err(ProxyError::RequestTimeout);
    }
    if let To::Members(members) = &route.to {
        let admitted = members.cluster.enter_request(&members.destination.traffic.pool);
        record.admitted = Some(admitted.map_err(ProxyError::UpstreamOverflow)?);
    }
    frame(&mut request, route.wire);
    record.tally.deadline.set(route.deadline.map(|deadline| deadline.at));
    let mut tries = Tries::new(worker, &route, &mut request);
    loop {
        let address = tries.next(&mut request, record)?;
        let leave = match attempt(worker, &route, address, request, record).await {
            Attempted::Answered(mut answer) => match tries.judge(&mut answer.0, record) {
                Leave::Again(next) => next,
                Leave::No => {
                    tries.over();
                    drop(permit);
                    return Ok(answer);
                }
                Leave::Exhausted => {
                    record.retries_exhausted();
                    tries.over();
                    drop(permit);
                    return Ok(answer);
                }
            },
            Attempted::Stale(unsent, error) => {
                record.attempt_failed(&error);
                request = tries.after_stale(unsent).ok_or(error)?;
                continue;
            }
            Attempted::Failed { failed, error, unsent } => {
                record.attempt_failed(&error);
                match tries.leave(failed, unsent) {
                    Leave::Again(next) => next,
                    Leave::No | Leave::Exhausted => return Err(error),
                }
            }
            Attempted::Over(error) => return Err(error),
        };
        request = tries.pause(leave, record).await?;
    }
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
