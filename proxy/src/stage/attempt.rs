//! One try of a request at one endpoint.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use palisade_policy::traffic::PoolBounds;
use tokio::time::Instant;

use super::again::Failed;
use super::deadline::over;
use super::experiment::{Trial, drawn};
use super::forward::{Answer, Outgoing, Route, To};
use super::open::Why;
use super::route::random;
use crate::error::ProxyError;
use crate::http::body::Tally;
use crate::http::codec::{is_malformed, was_refused};
use crate::http::headers::REFUSED;
use crate::http::normalize::{Malformed, has_plain_length};
use crate::http::silence::too_long;
use crate::telemetry::record::Record;
use crate::upstream::connect::{ConnectError, Key};
use crate::upstream::endpoint::{Local, Seen};
use crate::upstream::pool::{Asking, Lease};
use crate::worker::Worker;

/// How a try ended. Requests that come back are rare, and boxed: this is moved for every request.
pub(super) enum Attempted {
    Answered(Answer),
    /// A kept connection had closed before the first byte left.
    Stale(Box<Outgoing>, ProxyError),
    Failed {
        failed: Failed,
        error: ProxyError,
        /// The request, where nothing of it left.
        unsent: Option<Box<Outgoing>>,
    },
    /// Another try would be of no use, or no try at all is allowed any more.
    Over(ProxyError),
}

/// Why there is no answer.
pub(super) enum Late {
    Closed(Why),
    Deadline,
    Try,
    Response,
    Silent,
}

/// To the application there are as many connections as there are requests from the mesh.
static NO_BOUNDS: PoolBounds = PoolBounds::DEFAULT;

/// Sends the request and waits for the answer's head.
pub(super) async fn attempt(
    worker: &Rc<Worker>,
    route: &Route,
    address: SocketAddr,
    mut request: Outgoing,
    record: &mut Record,
) -> Attempted {
    if let Some(trace) = &mut record.trace {
        trace.attempt(address, route.wire, &route.security, &mut request);
    }
    let patience = route.retries.as_ref().and_then(|retries| retries.per_try_timeout);
    let patience = patience.map(|limit| Instant::now() + limit);
    let mut lease = match lease(worker, route, address, patience).await {
        Ok(lease) => lease,
        Err(error) => return not_connected(worker, route, error, request, record),
    };
    if let Some(place) = drawn(route, &request, record, random) {
        let trial = Trial { worker, route, address, patience };
        return Box::pin(trial.attempt(place, lease, request, record)).await;
    }
    let sent = match hand_over(route, &lease, &mut request, record) {
        Ok(sent) => sent,
        Err(error) => return Attempted::Over(error),
    };
    let tally = record.tally.clone();
    let answer = {
        let sending = pin!(lease.send(request));
        in_time(route, &tally, patience, sending).await
    };
    match answer {
        Ok(answer) => settled(answer, lease, sent, record),
        Err(late) => too_late(&late, route, record),
    }
}

/// What is done when the request is given to a connection. Gives the time.
pub(super) fn hand_over(
    route: &Route,
    lease: &Lease,
    request: &mut Outgoing,
    record: &mut Record,
) -> Result<Instant, ProxyError> {
    if let Some(deadline) = &route.deadline
        && !deadline.write(request, route.is_mesh(), record.is_grpc())
    {
        return Err(ProxyError::RequestTimeout);
    }
    let sent = Instant::now();
    record.upstream_sent_at = Some(sent);
    record.delivered();
    let leash = &record.tally.leash;
    leash.set_server(lease.server());
    leash.over().map_or(Ok(sent), |why| Err(ProxyError::Closed(why)))
}

/// What came of a request that was given to its connection at `sent`.
pub(super) fn settled(
    answer: Result<http::Response<Incoming>, TrySendError<Outgoing>>,
    lease: Lease,
    sent: Instant,
    record: &mut Record,
) -> Attempted {
    match answer {
        // Over HTTP/1.1 the reader below hyper has seen to it; over HTTP/2 nobody has, and callers may read HTTP/1.1.
        Ok(response) if !has_plain_length(response.headers()) => {
            record.saw(Seen::Local(Local::Reset));
            Attempted::Over(ProxyError::UpstreamLengths)
        }
        Ok(response) => {
            if let Some(visit) = record.visit.as_ref().filter(|_| !is_refusal(&response, record)) {
                visit.took(sent.elapsed());
            }
            Attempted::Answered((response, lease))
        }
        Err(error) => broken(error, &lease, record),
    }
}

/// Whether another sidecar answers in its application's place: how fast that is must not draw requests there.
fn is_refusal<B>(response: &http::Response<B>, record: &Record) -> bool {
    let may_be = response.status().as_u16() >= 400 || record.is_grpc();
    may_be && record.mesh_upstream && response.headers().contains_key(REFUSED)
}

/// A connection, for as long as this try and the request wait for it.
pub(super) async fn lease(
    worker: &Rc<Worker>,
    route: &Route,
    address: SocketAddr,
    patience: Option<Instant>,
) -> Result<Lease, ConnectError> {
    let key = Key { address, wire: route.wire, security: route.security.clone() };
    let (bounds, cluster) = match &route.to {
        To::Application(_) => (&NO_BOUNDS, None),
        To::Members(members) => (&members.destination.traffic.pool, Some(&members.cluster)),
    };
    let until = route.deadline.map(|deadline| deadline.at).into_iter().chain(patience).min();
    worker
        .pool
        .lease(Asking { worker, identity: route.identity.as_deref(), bounds, cluster, until }, key)
        .await
}

pub(super) fn not_connected(
    worker: &Worker,
    route: &Route,
    error: ConnectError,
    request: Outgoing,
    record: &Record,
) -> Attempted {
    if !error.is_of_endpoint() {
        return Attempted::Over(ProxyError::Connection(error));
    }
    let late = route.deadline.filter(|deadline| deadline.at <= Instant::now());
    if let (To::Members(members), Some(visit)) = (&route.to, &record.visit) {
        // Callers may be as impatient as they like: others come first for a moment, but nobody is left out for that.
        if late.is_none_or(|deadline| deadline.ours) {
            visit.saw(Seen::Local(Local::Connect));
        }
        members.cluster.avoid(&visit.endpoint, worker.shared.limits.endpoint_penalty, &error);
    }
    if late.is_some() {
        return Attempted::Over(ProxyError::RequestTimeout);
    }
    Attempted::Failed {
        failed: Failed::Connect,
        error: ProxyError::Connection(error),
        unsent: Some(Box::new(request)),
    }
}

/// Waits for the answer's head for as long as anybody wants it.
pub(super) async fn in_time<T>(
    route: &Route,
    tally: &Tally,
    patience: Option<Instant>,
    sending: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Late> {
    let waited = async {
        match route.response_timeout {
            Some(limit) => within(limit, tally, sending).await.ok_or(Late::Response),
            None => unless_silent(tally, sending).await.ok_or(Late::Silent),
        }
    };
    tokio::select! {
        biased;
        // First: an answer that came together with the change must not begin, only to break off at once.
        why = tally.leash.ended() => Err(Late::Closed(why)),
        waited = waited => waited,
        () = over(route.deadline, tally) => Err(Late::Deadline),
        () = at(patience) => Err(Late::Try),
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn broken(mut error: TrySendError<Outgoing>, lease: &Lease, record: &mut Record) -> Attempted {
    let tally = record.tally.clone();
    // Not tried again: what is left of the body is no request any more.
    if let Some(why) = tally.cut.get() {
        return Attempted::Over(record.cut(why));
    }
    if let Some(unsent) = error.take_message() {
        let error = ProxyError::UpstreamReset(error.into_error());
        if lease.is_reused() {
            return Attempted::Stale(Box::new(unsent), error);
        }
        record.saw(Seen::Local(Local::Reset));
        return Attempted::Failed { failed: Failed::Connect, error, unsent: Some(Box::new(unsent)) };
    }
    if tally.request_malformed.get() {
        return Attempted::Over(ProxyError::Malformed(Malformed::Framing));
    }
    if tally.request_broke.get() {
        return Attempted::Over(ProxyError::UpstreamReset(error.into_error()));
    }
    if is_malformed(error.error()) {
        record.saw(Seen::Local(Local::Reset));
        return Attempted::Over(ProxyError::UpstreamMalformed(error.into_error()));
    }
    let refused = was_refused(error.error());
    if !refused {
        record.saw(Seen::Local(Local::Reset));
    }
    let failed = if refused { Failed::Refused } else { Failed::Reset };
    Attempted::Failed { failed, error: ProxyError::UpstreamReset(error.into_error()), unsent: None }
}

pub(super) fn too_late(late: &Late, route: &Route, record: &Record) -> Attempted {
    let of_endpoint = match late {
        Late::Try | Late::Response => true,
        // Callers may be as impatient as they like.
        Late::Deadline => route.deadline.is_some_and(|deadline| deadline.ours),
        Late::Closed(_) | Late::Silent => false,
    };
    if of_endpoint {
        record.saw(Seen::Local(Local::Timeout));
    }
    match late {
        Late::Closed(why) => Attempted::Over(ProxyError::Closed(*why)),
        Late::Deadline => Attempted::Over(ProxyError::RequestTimeout),
        Late::Response => Attempted::Over(ProxyError::ResponseTimeout),
        Late::Silent => Attempted::Over(ProxyError::StreamIdle),
        Late::Try => {
            Attempted::Failed { failed: Failed::Late, error: ProxyError::ResponseTimeout, unsent: None }
        }
    }
}

/// Waits for the response head. A caller that is still sending its body, and gets on with it, extends the wait.
async fn within<T>(
    limit: Duration,
    tally: &Tally,
    mut sending: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut seen = tally.progress();
    loop {
        if let Ok(answer) = tokio::time::timeout(limit, &mut sending).await {
            return Some(answer);
        }
        let now = tally.progress();
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
