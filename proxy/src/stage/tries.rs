//! The tries of one request: where each goes, and whether there is leave for one more.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use palisade_policy::fault::http_of_grpc;
use palisade_policy::traffic::Retries;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::again::{Failed, Refused, may_repeat};
use super::forward::{Outgoing, Route, To};
use crate::error::ProxyError;
use crate::http::body::RequestBody;
use crate::http::replay::Replay;
use crate::telemetry::record::{Record, grpc_status};
use crate::upstream::cluster::{Held, Visit};
use crate::upstream::connect::Wire;
use crate::upstream::endpoint::Seen;
use crate::upstream::members::Picked;
use crate::worker::Worker;

/// Which try it is, from the second on; Envoy's name.
pub(crate) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// Of routes that say nothing.
static RETRIES: Retries = Retries::DEFAULT;

pub(super) struct Tries<'r> {
    worker: &'r Worker,
    route: &'r Route,
    retries: &'r Retries,
    /// What the request is made of once more; `None`: it can be sent once.
    template: Option<Template>,
    tried: SmallVec<[SocketAddr; 4]>,
    last: Option<SocketAddr>,
    /// Tries after the first that had leave.
    repeated: u32,
    /// Tries on connections that turned out to be closed.
    stale: usize,
}

struct Template {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    /// `None`: it has no body.
    body: Option<Rc<Replay>>,
}

/// Whether a request may be sent once more.
pub(super) enum Leave {
    Again(Next),
    /// The try did not fail, or the request may not be sent again for what it is.
    No,
    /// It might, but there were enough tries, or too many are under way, or its body is not there any more.
    Exhausted,
}

/// The next try.
pub(super) struct Next {
    request: Box<Outgoing>,
    pause: Duration,
    held: Option<Held>,
}

impl<'r> Tries<'r> {
    pub(super) fn new(worker: &'r Worker, route: &'r Route, request: &mut Outgoing) -> Self {
        let retries = route.retries.as_deref().unwrap_or(&RETRIES);
        // The application is one, and asked again by its callers if at all.
        let others = matches!(route.to, To::Members(_)) && retries.attempts > 0;
        let mut template = None;
        // Without HTTP/2 nobody says that a request was refused unread.
        if others && (route.repeatable || route.wire == Wire::Http2 || route.is_mesh()) {
            template = Some(Template::of(request, worker.shared.limits.retry_body_bytes_max));
        }
        let tried = SmallVec::new();
        Self { worker, route, retries, template, tried, last: None, repeated: 0, stale: 0 }
    }

    /// Where the next try goes.
    pub(super) fn next(
        &mut self,
        request: &mut Outgoing,
        record: &mut Record,
    ) -> Result<SocketAddr, ProxyError> {
        record.retries =
            u64::from(self.repeated).saturating_add(u64::try_from(self.stale).unwrap_or(u64::MAX));
        let members = match &self.route.to {
            To::Application(address) => {
                record.upstream_host = Some(*address);
                return Ok(*address);
            }
            To::Members(members) => members,
        };
        let tried: &[SocketAddr] = if self.retries.ignore_previous_hosts { &self.tried } else { &[] };
        let endpoint = match members.pick(self.route.hash, tried) {
            Picked::Member(member) => &member.endpoint,
            Picked::Nobody => return Err(ProxyError::NoEndpoint),
            Picked::AllOut => return Err(ProxyError::NoHealthyEndpoint),
        };
        if self.repeated > 0 {
            let count = HeaderValue::from(self.repeated.saturating_add(1));
            request.headers_mut().insert(ATTEMPT_COUNT, count);
        }
        record.visit = Some(Visit::at(&members.cluster, endpoint));
        self.last = Some(endpoint.address);
        record.upstream_host = Some(endpoint.address);
        Ok(endpoint.address)
    }

    /// Notes what an answer says of its endpoint, and whether the request is to be sent once more instead.
    pub(super) fn judge(&mut self, response: &mut Response<Incoming>, record: &mut Record) -> Leave {
        let status = response.status();
        let Some(visit) = &record.visit else { return Leave::No };
        if status.as_u16() < 400 && !record.is_grpc() {
            visit.saw(Seen::Status(status.as_u16()));
            return Leave::No;
        }
        let refused = if self.route.is_mesh() { Refused::take(response.headers_mut()) } else { None };
        let grpc = if record.is_grpc() { grpc_status(response.headers()) } else { None };
        let stands_for = grpc.map_or(status.as_u16(), http_of_grpc);
        let is_answer = status.as_u16() >= 400 || grpc.is_some();
        match refused {
            // Of a gRPC call that goes well so far, the trailers will tell.
            None if is_answer => visit.saw(Seen::Status(stands_for)),
            Some(refused) if refused.counts() => visit.saw(Seen::Status(stands_for)),
            Some(_) => visit.ignore(),
            None => {}
        }
        if refused == Some(Refused::Unwell) {
            let cause = "its sidecar says that its application is not well";
            visit.avoid(self.worker.shared.limits.unwell_penalty, &cause);
            return self.leave(Failed::Unwell, None);
        }
        if refused == Some(Refused::Busy) {
            visit.turned_away();
        }
        if refused.is_some_and(Refused::is_unprocessed) && stands_for == 503 {
            return self.leave(Failed::Refused, None);
        }
        match grpc {
            Some(0) => Leave::No,
            Some(grpc) => self.leave(Failed::Grpc(grpc), None),
            None if is_answer => self.leave(Failed::Status(status), None),
            None => Leave::No,
        }
    }

    /// Whether a try that failed may be followed by another. `unsent`: the request, where nothing of it left.
    pub(super) fn leave(&mut self, failed: Failed, unsent: Option<Box<Outgoing>>) -> Leave {
        let To::Members(members) = &self.route.to else { return Leave::No };
        if !may_repeat(failed, self.route.repeatable, &self.retries.on) {
            return Leave::No;
        }
        if let Some(visited) = self.last {
            self.tried.push(visited);
        }
        let over = self.route.deadline.is_some_and(|deadline| deadline.at <= Instant::now());
        if over || self.repeated >= self.retries.attempts {
            return Leave::Exhausted;
        }
        let Some(request) =
            unsent.or_else(|| self.template.as_ref().and_then(Template::request).map(Box::new))
        else {
            return Leave::Exhausted;
        };
        let held = match failed {
            Failed::Unwell => members.cluster.retry_freely(),
            _ => match members.cluster.enter_retry() {
                Ok(held) => Some(held),
                Err(_overflow) => return Leave::Exhausted,
            },
        };
        self.repeated = self.repeated.saturating_add(1);
        let fresh = failed.is_unprocessed() && members.len() > self.tried.len();
        let pause =
            if fresh { Duration::ZERO } else { backoff(self.retries.backoff, self.repeated, rand::random()) };
        Leave::Again(Next { request, pause, held })
    }

    /// Nothing left on a connection that was kept and turned out to be closed: it is tried again whatever policy says, and
    /// says nothing about the endpoint.
    pub(super) fn after_stale(&mut self, unsent: Box<Outgoing>) -> Option<Outgoing> {
        self.stale = self.stale.saturating_add(1);
        (self.stale < self.worker.shared.limits.attempts_max).then_some(*unsent)
    }

    /// Waits before the next try, and no longer than anybody waits for the answer.
    pub(super) async fn pause(&self, next: Next, record: &mut Record) -> Result<Outgoing, ProxyError> {
        let Next { request, pause, held } = next;
        // Before the old place is given back.
        record.retrying = held;
        record.visit = None;
        if !pause.is_zero() {
            let tally = record.tally.clone();
            let until = Instant::now() + pause;
            let until = self.route.deadline.map_or(until, |deadline| until.min(deadline.at));
            tokio::select! {
                biased;
                why = tally.leash.ended() => return Err(ProxyError::Closed(why)),
                () = tokio::time::sleep_until(until) => {}
            }
        }
        Ok(*request)
    }

    /// An answer is passed on: no body is kept any longer.
    pub(super) fn over(&self) {
        if let Some(body) = self.template.as_ref().and_then(|template| template.body.as_ref()) {
            body.let_go();
        }
    }
}

impl Template {
    /// From now on what is sent of the body is kept, up to so many bytes.
    fn of(request: &mut Outgoing, body_bytes_max: usize) -> Self {
        let mut replay = None;
        if !request.body().is_end_stream() {
            let body = std::mem::replace(request.body_mut(), RequestBody::none());
            (*request.body_mut(), replay) = body.kept(body_bytes_max);
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            body: replay,
        }
    }

    /// The request once more; `None` when its body is not there any more.
    fn request(&self) -> Option<Outgoing> {
        let body = match &self.body {
            Some(replay) if replay.is_whole() => RequestBody::again(replay),
            Some(_) => return None,
            None => RequestBody::none(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }
}

/// The pause before a try, the `nth` after the first: an even choice (`share`, 0 to 1) of the times up to one that doubles, so that
/// those who failed together do not come back together.
fn backoff(first: Duration, nth: u32, share: f64) -> Duration {
    let doubled = 2u32.saturating_pow(nth.saturating_sub(1)).min(Retries::BACKOFF_MAX);
    first.saturating_mul(doubled).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_times_the_first_and_are_drawn() {
        let first = Duration::from_millis(25);
        let most: Vec<_> = (1..=7).map(|nth| backoff(first, nth, 1.0).as_millis()).collect();
        assert_eq!(most, [25, 50, 100, 200, 250, 250, 250]);
        assert_eq!(backoff(first, 3, 0.5), first * 2);
        assert_eq!(backoff(first, u32::MAX, 0.0), Duration::ZERO);
    }
}
