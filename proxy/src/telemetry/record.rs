//! The decision record: one line per request, written when the request's last part is dropped.

mod copy;
mod duplicate;
mod ended;
mod fault;
mod line;
mod span;
mod tcp;
mod upstream;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use palisade_identity::SpiffeId;
use palisade_policy::decision::{Grant, Observations, RuleRef};
use palisade_policy::fault::http_of_grpc;
use palisade_policy::kind::request_guard::rule::GuardRule;
use palisade_policy::{Decision, Permit, Refusal};
use tokio::time::Instant;
use uuid::Uuid;

pub(super) use self::fault::flags;
pub(crate) use self::fault::{FaultType, Injected};
pub(crate) use self::tcp::TcpEnd;
use super::metrics::Series;
use super::trace::Trace;
use crate::error::{COUNTED, Consequence, ProxyError};
use crate::http::body::Tally;
use crate::http::headers::is_grpc;
use crate::http::shape::Shaper;
use crate::listen::ClientRequest;
use crate::pipeline::terms::Terms;
use crate::stage::limit::Verdicts;
use crate::stage::open::Place;
use crate::upstream::cluster::{Held, Visit};
use crate::upstream::endpoint::{Local, Seen};
use crate::worker::{Direction, InFlight, Worker};

pub(crate) const GRPC_STATUS: &str = "grpc-status";

/// What was decided, in the words of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Allowed,
    Denied,
    Unauthenticated,
    Failed,
}

/// What is known of a connection, the same for all of its requests.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) address: SocketAddr,
    /// The version that the peer speaks; `None` in plaintext.
    pub(crate) tls: Option<&'static str>,
}

/// What an edge knows of a client beside its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// By trusted hops or the PROXY header.
    pub(crate) address: Option<IpAddr>,
    pub(crate) server_name: Option<Arc<str>>,
    /// SHA-256 of the certificate that it brought, in hex.
    pub(crate) certificate: Option<Arc<str>>,
}

/// One request's record. Dropping it writes it, whatever happened (invariant 7).
#[derive(Debug)]
pub(crate) struct Record {
    worker: Rc<Worker>,
    _in_flight: InFlight,
    /// At the edge: the request under its client's address.
    pub(crate) client_request: Option<ClientRequest>,
    started: Instant,
    at: SystemTime,
    id: Uuid,
    direction: Direction,
    pub(crate) tally: Rc<Tally>,
    sent: u64,
    outcome: Outcome,
    reason: &'static str,
    details: Cow<'static, str>,
    flag: &'static str,
    rule: Option<RuleRef>,
    /// What AUDIT and dry-run policies said; boxed, since most workloads have none.
    observations: Option<Box<Observations>>,
    pub(crate) policy_version: u64,
    pub(crate) source: Option<SpiffeId>,
    pub(crate) destination: Option<SpiffeId>,
    pub(crate) service: Option<Arc<str>>,
    /// `iss/sub` of the verified token.
    pub(crate) request_principal: Option<String>,
    /// What rate limits said.
    pub(crate) limits: Verdicts,
    /// The rule of a guard that let an ambiguous path pass.
    pub(crate) path_kept_by: Option<RuleRef>,
    source_address: SocketAddr,
    tls: Option<&'static str>,
    /// At the edge.
    pub(crate) client: Option<Client>,
    /// Outbound: the upstream is reached by mesh mutual TLS.
    pub(crate) mesh_upstream: bool,
    request_id: Option<HeaderValue>,
    method: Option<Method>,
    version: Version,
    pub(crate) authority: Option<Authority>,
    pub(crate) path: Option<PathAndQuery>,
    /// The id of the VirtualService's route.
    pub(crate) route: Option<Arc<str>>,
    user_agent: Option<HeaderValue>,
    grpc: bool,
    /// The upstream's answer is one of gRPC, too.
    answers_grpc: bool,
    status: u16,
    grpc_status: Option<u16>,
    ended: bool,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) upstream_cluster: Option<Arc<str>>,
    pub(crate) upstream_sent_at: Option<Instant>,
    upstream_service_time_ms: Option<u64>,
    pub(crate) retries: u64,
    /// A place among the requests to its destination.
    pub(crate) admitted: Option<Held>,
    /// A place among those that are under way for a second or later time.
    pub(crate) retrying: Option<Held>,
    /// The try under way.
    pub(crate) visit: Option<Visit>,
    /// What was done to it on purpose; boxed, since it is rare.
    fault: Option<Box<Injected>>,
    /// What an experiment makes of the answer's body; goes on with that.
    pub(crate) shaper: Option<Box<Shaper>>,
    /// The request that this one is a copy of.
    mirror_of: Option<Uuid>,
    /// Where traces are exported.
    pub(crate) trace: Option<Box<Trace>>,
    /// A connection of which nothing is read, and not a request.
    tcp: Option<Box<tcp::Carried>>,
    /// How often everything under way was judged again before this was judged at all.
    round: u64,
    /// Among what is judged again with every change.
    place: Option<Place>,
    pub(crate) watched: duplicate::Watched,
}

impl Record {
    /// Opens the record of a connection's next request, before anything is known of it.
    pub(crate) fn open(worker: &Rc<Worker>, direction: Direction, source: &Source) -> Box<Self> {
        let (at, millis) = now();
        Box::new(Self {
            worker: worker.clone(),
            _in_flight: worker.enter(direction),
            client_request: None,
            started: Instant::now(),
            at,
            id: uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid(),
            direction,
            tally: Rc::new(Tally::new(Some(worker.shared.limits.stream_idle_timeout))),
            sent: 0,
            outcome: Outcome::Failed,
            reason: "cancelled",
            details: Cow::Borrowed(""),
            flag: "",
            rule: None,
            observations: None,
            policy_version: 0,
            source: None,
            destination: None,
            service: None,
            request_principal: None,
            limits: Verdicts::default(),
            path_kept_by: None,
            source_address: source.address,
            tls: source.tls,
            client: None,
            mesh_upstream: false,
            request_id: None,
            method: None,
            version: Version::HTTP_11,
            authority: None,
            path: None,
            route: None,
            user_agent: None,
            grpc: false,
            answers_grpc: false,
            status: 0,
            grpc_status: None,
            ended: false,
            upstream_host: None,
            upstream_cluster: None,
            upstream_sent_at: None,
            upstream_service_time_ms: None,
            retries: 0,
            admitted: None,
            retrying: None,
            visit: None,
            fault: None,
            shaper: None,
            mirror_of: None,
            trace: None,
            tcp: None,
            round: worker.open.round(),
            place: None,
            watched: duplicate::Watched::default(),
        })
    }

    /// Notes the request head as it came.
    pub(crate) fn received(&mut self, head: &http::request::Parts, grpc: bool) {
        self.trace = Trace::begin(&self.worker, self.direction, &head.headers);
        self.method = Some(head.method.clone());
        self.version = head.version;
        self.authority = head.uri.authority().cloned();
        self.path = head.uri.path_and_query().cloned();
        self.user_agent = head.headers.get(http::header::USER_AGENT).cloned();
        self.grpc = grpc;
    }

    /// From now on the request goes on only as long as `terms` allow it.
    pub(crate) fn tie(&mut self, terms: Terms) -> Result<(), ProxyError> {
        let worker = &self.worker;
        self.place = Some(worker.open.enter(&self.tally, terms, self.round, &worker.shared.live));
        self.tally.leash.over().map_or(Ok(()), |why| Err(ProxyError::Closed(why)))
    }

    pub(crate) fn set_request_id(&mut self, id: HeaderValue) {
        self.request_id = Some(id);
    }

    pub(crate) fn decision_id(&self) -> String {
        self.id.to_string()
    }

    /// When the request came, by both clocks.
    pub(crate) fn began(&self) -> (Instant, SystemTime) {
        (self.started, self.at)
    }

    pub(crate) fn at(&self) -> SystemTime {
        self.at
    }

    /// Notes what policy said, and passes the permit on.
    pub(crate) fn decided(&mut self, decision: Decision) -> Result<Permit, ProxyError> {
        match decision {
            Decision::Allow { permit, grant } => {
                self.outcome = Outcome::Allowed;
                self.reason = match grant {
                    Grant::NoPolicy => "no_policy",
                    Grant::KnownDestination => "known_destination",
                    Grant::Rule(rule) => {
                        self.rule = Some(rule);
                        "rule"
                    }
                };
                Ok(permit)
            }
            Decision::Refuse { refusal } => {
                self.details = refusal.response_code_details().into();
                self.outcome = match &refusal {
                    Refusal::PlaintextRefused => Outcome::Unauthenticated,
                    Refusal::Denied(_) | Refusal::NoAllowMatched | Refusal::UnknownDestination => {
                        Outcome::Denied
                    }
                };
                if let Refusal::Denied(rule) = &refusal {
                    self.rule = Some(rule.clone());
                }
                Err(ProxyError::Refused(refusal))
            }
        }
    }

    /// Notes the rule of a JwtPolicy that refuses the request.
    pub(crate) fn refused_by(&mut self, rule: RuleRef) {
        self.rule = Some(rule);
    }

    /// Notes the rule of a RequestGuard that refuses the request, and why.
    pub(crate) fn guarded(&mut self, rule: &GuardRule, reason: &'static str) {
        self.outcome = Outcome::Denied;
        self.reason = reason;
        self.rule = Some(rule.name.clone());
        self.worker.telemetry.count(|shard| shard.guarded(&rule.title, reason));
    }

    /// Notes the limit that refuses the request.
    pub(crate) fn limited(&mut self, limit: Arc<str>) {
        self.outcome = Outcome::Denied;
        self.limits.refused = Some(limit);
    }

    /// Notes what policies that decide nothing would have said.
    pub(crate) fn observed(&mut self, observations: Observations) {
        if let Some(shadow) = &observations.shadow {
            let (direction, source) = (self.direction, self.source.as_ref());
            self.worker.telemetry.count(|shard| shard.shadowed(direction, shadow, source));
        }
        self.observations = Some(Box::new(observations));
    }

    /// Notes what is known of a failure beside its reason.
    pub(crate) fn because(&mut self, details: &'static str) {
        self.details = Cow::Borrowed(details);
    }

    /// Notes a failure and the status that the caller gets.
    pub(crate) fn failed(&mut self, consequence: &Consequence, status: StatusCode, grpc: bool) {
        if !matches!(self.outcome, Outcome::Denied | Outcome::Unauthenticated) {
            self.outcome = if consequence.is_unauthenticated() {
                Outcome::Unauthenticated
            } else if consequence.is_denied() {
                Outcome::Denied
            } else {
                Outcome::Failed
            };
        }
        self.reason = consequence.reason;
        self.flag = consequence.flag;
        if self.details.is_empty() {
            self.details = Cow::Borrowed(consequence.reason);
        }
        self.status = status.as_u16();
        self.grpc_status = grpc.then_some(consequence.grpc_status);
    }

    /// Notes the upstream's response head.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = status.as_u16();
        self.details = Cow::Borrowed("via_upstream");
        self.upstream_service_time_ms = self.upstream_sent_at.map(|sent| millis(sent.elapsed()));
        self.grpc_status = grpc_status(headers);
        self.answers_grpc = self.grpc && is_grpc(headers);
    }

    /// Notes an answer that we gave without asking an upstream.
    pub(crate) fn answered_here(&mut self, status: StatusCode, details: &'static str) {
        if self.outcome == Outcome::Failed {
            // No policy was asked: there was nothing to let in.
            self.outcome = Outcome::Allowed;
            self.reason = details;
        }
        self.status = status.as_u16();
        self.details = Cow::Borrowed(details);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The response came to its end.
    pub(crate) fn response_ended(&mut self, trailers: Option<&HeaderMap>) {
        self.ended = true;
        if let Some(status) = trailers.and_then(grpc_status) {
            self.grpc_status = Some(status);
            if let Some(visit) = self.visit.as_ref().filter(|visit| !visit.is_told() && !self.was_silent()) {
                visit.saw(Seen::Status(http_of_grpc(status)));
            }
        }
    }

    /// The upstream broke off in the middle of its response, or broke the framing of its body.
    pub(crate) fn upstream_failed(&mut self, is_malformed: bool) {
        self.ended = true;
        if !self.was_silent() {
            self.saw(Seen::Local(Local::Reset));
        }
        (self.flag, self.reason) =
            if is_malformed { ("UPE", "upstream_malformed") } else { ("UC", "upstream_reset") };
        self.outcome = Outcome::Failed;
        self.details = Cow::Borrowed("upstream_reset_after_response_started");
    }

    /// Nothing could be read as a request: the connection was closed with this reason.
    pub(crate) fn connection_refused(mut self: Box<Self>, error: &ProxyError, details: &'static str) {
        let consequence = error.consequence();
        self.details = Cow::Borrowed(details);
        self.failed(&consequence, StatusCode::OK, false);
        self.status = 0;
        self.ended = true;
    }

    /// A codec refused what came before it was a request. `status`: what it told the caller, `None` if nothing.
    pub(crate) fn refused_by_codec(
        mut self: Box<Self>,
        error: &ProxyError,
        version: Version,
        status: Option<StatusCode>,
    ) {
        let consequence = error.consequence();
        self.version = version;
        self.details = Cow::Borrowed("codec_error");
        self.failed(&consequence, status.unwrap_or_default(), false);
        self.status = status.map_or(0, |status| status.as_u16());
        self.ended = true;
    }

    /// An upgraded connection ended, for this reason.
    pub(crate) fn tunnel_ended(&mut self, received: u64, sent: u64, reason: Option<&'static str>) {
        self.ended = true;
        self.tally.received.set(received);
        self.sent = sent;
        if let Some(reason) = reason {
            self.details = Cow::Borrowed(reason);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended && self.status != 0 && self.sent_whole() {
            self.ended = true;
        }
        if !self.ended {
            // The caller went away: hyper dropped the handler or the body.
            self.flag = "DC";
            self.details = Cow::Borrowed("downstream_remote_disconnect");
        }
        self.note_late_cut();
        if let Some(place) = self.place.take() {
            self.worker.open.leave(place);
        }
        let duration = self.started.elapsed();
        self.worker.telemetry.count(|shard| {
            if COUNTED.contains(&self.reason) {
                shard.request_ended(self.direction, self.reason);
            }
            match &self.tcp {
                Some(carried) => carried.ended(self, shard),
                None => {
                    shard.request(self.series(), millis_f64(duration), self.tally.received.get(), self.sent);
                }
            }
        });
        self.worker.telemetry.write(|out| self.line(out, millis(duration)));
        if let Some(trace) = self.trace.as_deref().filter(|trace| trace.is_sampled()) {
            self.worker.telemetry.trace(|| self.spans(trace, duration));
        }
    }
}

impl Record {
    /// Our own short responses are given to the codec whole.
    fn sent_whole(&self) -> bool {
        self.upstream_sent_at.is_none()
    }

    /// Whether the connection in the mesh is mutual TLS: the caller's at a sidecar, else the one to the upstream.
    fn is_mutual(&self) -> bool {
        match self.direction {
            Direction::Inbound => self.tls.is_some(),
            Direction::Outbound | Direction::Edge => self.mesh_upstream,
        }
    }

    fn series(&self) -> Series {
        Series {
            direction: self.direction,
            source: self.source.clone(),
            destination: self.destination.clone(),
            service: self.service.clone(),
            grpc: self.grpc,
            status: self.status,
            grpc_status: self.grpc_status,
            flag: self.flag,
            delayed: self.is_delayed(),
            tls: self.is_mutual(),
        }
    }
}

pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

fn now() -> (SystemTime, u64) {
    let at = SystemTime::now();
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (at, millis(since))
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn millis_f64(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
