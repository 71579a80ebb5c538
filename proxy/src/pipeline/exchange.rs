//! What every way through has in common: taking a request apart, and ending it with an answer or a refusal.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue, SET_COOKIE, STRICT_TRANSPORT_SECURITY,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use uuid::Uuid;

use super::terms::Terms;
use crate::error::ProxyError;
use crate::http::body::{RequestBody, ResponseBody, discard};
use crate::http::copy::CopyWriter;
use crate::http::headers::{self, REFUSED};
use crate::http::pace::Pace;
use crate::http::refusal::{self, Manner};
use crate::stage::cors::Leave;
use crate::stage::deadline::Told;
use crate::stage::fault;
use crate::stage::forward::{Answer, Route, To};
use crate::stage::guard::{BodyGuard, BodyOutline};
use crate::stage::route::{self, Forwarding};
use crate::stage::sticky::Sticky;
use crate::stage::tunnel::{Ends, Wanted};
use crate::telemetry::record::Record;
use crate::worker::{Direction, Worker};

/// What a route makes of every answer.
#[derive(Debug, Default)]
pub(super) struct Dress {
    /// Refusals too: a page that may not read a 401 cannot ask its user to log in.
    pub(super) leave: Option<Leave>,
    pub(super) forwarding: Option<Forwarding>,
    /// What a caller is to keep, so that it comes to the same endpoint again.
    pub(super) cookie: Option<HeaderValue>,
    /// `Strict-Transport-Security`, for every answer.
    pub(super) hsts: Option<HeaderValue>,
}

impl Dress {
    /// What every answer bears, a refusal too.
    fn any(&self, headers: &mut HeaderMap) {
        if let Some(leave) = &self.leave {
            leave.write(headers);
        }
        if let Some(value) = &self.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
        }
    }
}

/// One request under way: what is needed to end it properly.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) direction: Direction,
    pub(super) record: Box<Record>,
    pub(super) grpc: bool,
    pub(super) upgrade: Option<Wanted>,
    pub(super) dress: Dress,
    /// Of the request's body.
    pub(super) outline: BodyOutline,
    pub(super) body_guard: Option<Box<BodyGuard>>,
    is_head: bool,
    version: Version,
    expects_continue: bool,
}

impl Exchange {
    /// Takes a request apart and notes it in its record.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        direction: Direction,
        mut record: Box<Record>,
        mut request: Request<Incoming>,
    ) -> (Self, request::Parts, Incoming) {
        let upgrade = Wanted::of(&mut request);
        let (head, body) = request.into_parts();
        let grpc = headers::is_grpc(&head.headers);
        record.received(&head, grpc);
        let exchange = Self {
            worker: worker.clone(),
            direction,
            record,
            grpc,
            upgrade,
            dress: Dress::default(),
            outline: BodyOutline::of(&body),
            body_guard: None,
            is_head: head.method == Method::HEAD,
            version: head.version,
            expects_continue: head.headers.contains_key(EXPECT),
        };
        (exchange, head, body)
    }

    /// Ties the request to what it was judged by, and injects the fault of its route, where it has one.
    pub(super) async fn hold(
        &mut self,
        terms: Terms,
        forwarding: Option<&Forwarding>,
        told: Told,
    ) -> Result<(), ProxyError> {
        self.record.tie(terms)?;
        let Some(fault) = forwarding.and_then(Forwarding::fault) else { return Ok(()) };
        let patience = told.deadline(self.record.began().0, None);
        Box::pin(fault::inject(&self.worker, fault, &mut self.record, patience, route::random)).await
    }

    /// Says until when an answer is waited for. `timeout`: the route's. A fault takes from the caller's time, and not from
    /// the route's, which begins with its end.
    pub(super) fn time(&self, way: &mut Route, told: Told, timeout: Option<Duration>) {
        way.response_timeout = timeout.or(way.response_timeout);
        let held_up = self.record.held_up();
        way.deadline = told.after(held_up).deadline(self.record.began().0 + held_up, timeout);
    }

    /// Chooses the endpoint by what the destination wants it chosen by.
    pub(super) fn stick(
        &mut self,
        route: &mut Route,
        headers: &HeaderMap,
        path: &PathAndQuery,
        source: IpAddr,
    ) {
        let To::Members(members) = &route.to else { return };
        let Some(key) = members.hash_key() else { return };
        let sticky = Sticky::of(key, headers, path, source, Uuid::new_v4);
        route.hash = sticky.hash;
        self.dress.cookie = sticky.set_cookie;
    }

    /// The request to send upstream. `copies`: who gets the body, too.
    pub(super) fn outgoing(
        &mut self,
        mut head: request::Parts,
        body: Incoming,
        copies: Vec<CopyWriter>,
    ) -> Request<RequestBody> {
        if let Some(upgrade) = &self.upgrade {
            upgrade.ask(&mut head.headers);
        }
        // What hyper left there is about the caller's connection.
        head.extensions.clear();
        let (http2, tally) = (self.version == Version::HTTP_2, self.record.tally.clone());
        // Streams of gRPC may be silent for longer, and what follows an upgrade is no body.
        let timed = self.outline.open && !self.grpc && self.upgrade.is_none();
        let limit = self.worker.shared.limits.body_timeout.filter(|_| timed);
        let body = RequestBody::new(body, http2, tally, copies, self.body_guard.take(), limit.map(Pace::new));
        Request::from_parts(head, body)
    }

    /// Ends with the upstream's response: the record and the connection ride in its body to the end.
    pub(super) fn answer(mut self, answer: Answer, ends: impl FnOnce() -> Ends) -> Response<ResponseBody> {
        let (mut response, lease) = answer;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match (self.upgrade.take(), switched, headers::upgrade_of(response.headers())) {
            (Some(wanted), true, Some(_)) => {
                self.record.answered(response.status(), response.headers());
                let upstream = hyper::upgrade::on(&mut response);
                let (mut head, _empty) = response.into_parts();
                self.clean(&mut head.headers);
                self.dress(&mut head.headers);
                wanted.ask(&mut head.headers);
                wanted.open(&self.worker, upstream, self.record, ends());
                Response::from_parts(head, ResponseBody::empty())
            }
            (upgrade, true, _) => {
                // A 101 that nobody asked for would turn what follows into a tunnel.
                drop((upgrade, lease));
                self.refuse(&ProxyError::UnexpectedSwitch, None)
            }
            (upgrade, false, _) => {
                let (mut head, incoming) = response.into_parts();
                self.clean(&mut head.headers);
                self.dress(&mut head.headers);
                head.extensions.clear();
                if upgrade.is_some() {
                    // What the caller sent behind its request was meant for another protocol: it is never parsed.
                    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let http2 = head.version == Version::HTTP_2;
                head.version = Version::HTTP_11;
                self.record.limits.tell(&mut head.headers);
                self.record.answered(head.status, &head.headers);
                Response::from_parts(head, ResponseBody::upstream(incoming, http2, lease, self.record))
            }
        }
    }

    /// Ends with a refusal. An unread body is thrown away within limits, so that the caller can read the answer
    /// before its connection closes; one that waits for "100 Continue" is not asked for.
    pub(super) fn refuse(self, error: &ProxyError, body: Option<Incoming>) -> Response<ResponseBody> {
        let consequence = error.consequence();
        tracing::debug!(reason = consequence.reason, %error, "request not forwarded");
        let close = self.leaves_unread(body) || self.leaves_half_read() || !consequence.keep;
        let bare = error.is_bare() || self.is_head;
        let manner = Manner { grpc: self.grpc, close: close && self.is_http1(), bare };
        let mut told = error.headers();
        if let Some(refused) = self.record.refused(error) {
            told.insert(REFUSED, HeaderValue::from_static(refused.name()));
        }
        let mut response = refusal::respond(&consequence, told, manner, self.record);
        self.dress.any(response.headers_mut());
        if error.is_bare() && !manner.grpc {
            response.headers_mut().remove(CONTENT_TYPE);
        }
        response
    }

    /// Ends with an answer of our own.
    pub(super) fn respond(
        mut self,
        answer: Response<Bytes>,
        details: &'static str,
        body: Incoming,
    ) -> Response<ResponseBody> {
        let close = self.leaves_unread(Some(body)) && self.is_http1();
        let (mut head, text) = answer.into_parts();
        self.dress.any(&mut head.headers);
        self.record.limits.tell(&mut head.headers);
        self.record.answered_here(head.status, details);
        if close {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let text = if self.is_head { Bytes::new() } else { text };
        Response::from_parts(head, ResponseBody::own(text, self.record))
    }

    fn is_http1(&self) -> bool {
        self.version <= Version::HTTP_11
    }

    /// Whether bytes of the caller's are left that nobody will read, so that its connection cannot be used again.
    fn leaves_unread(&self, body: Option<Incoming>) -> bool {
        let unread = body.filter(|body| !body.is_end_stream());
        let left = unread.is_some() || self.upgrade.is_some();
        if let Some(body) = unread
            && !self.expects_continue
        {
            self.discard(body);
        }
        left
    }

    /// The same of a body that a guard cut off: who sends it was told to go on, if it waited for that.
    fn leaves_half_read(&self) -> bool {
        let unread = self.record.tally.unread.take();
        let left = unread.is_some();
        unread.into_iter().for_each(|body| self.discard(body));
        left
    }

    /// Over HTTP/2 too: a stream that is let go of with its body under way is reset (NO_ERROR) behind the answer, and there
    /// are clients that lose the answer then (curl 7.88).
    fn discard(&self, body: Incoming) {
        let worker = self.worker.clone();
        tokio::task::spawn_local(async move { discard(body, &worker.shared.limits).await });
    }

    /// What the route says about answers of upstreams.
    fn dress(&self, headers: &mut HeaderMap) {
        if let Some(forwarding) = &self.dress.forwarding {
            forwarding.change_response(headers);
        }
        if let Some(cookie) = &self.dress.cookie {
            headers.append(SET_COOKIE, cookie.clone());
        }
        self.dress.any(headers);
    }

    fn clean(&self, headers: &mut HeaderMap) {
        headers::strip_hop_by_hop(headers);
        let from_mesh = self.direction != Direction::Inbound && self.record.mesh_upstream;
        if self.direction != Direction::Outbound && !from_mesh {
            // What an application says under our names would pass for a sidecar's word.
            headers::strip_ours(headers);
        }
    }
}
