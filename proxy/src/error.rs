//! Every way a request can fail in the data plane, with its consequences in one table.

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use palisade_policy::Refusal;
use palisade_policy::fault::AbortAnswer;
use palisade_policy::kind::request_guard::rule::Violation;

use crate::edge::proxy_header::ProxyHeaderError;
use crate::health::Cause;
use crate::http::normalize::Malformed;
use crate::http::patience::Ended;
use crate::stage::authenticate::TokenError;
use crate::stage::guard::Breach;
use crate::stage::limit::Exceeded;
use crate::stage::open::Why;
use crate::upstream::cluster::Overflow;
use crate::upstream::connect::ConnectError;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Caller,
    Upstream,
    Us,
}

/// Why a request was not forwarded, or got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("no valid snapshot yet")]
    NoSnapshot,
    #[error("no valid identity")]
    NoIdentity,
    #[error("the caller's certificate has expired")]
    PeerExpired,
    #[error("the caller's certificate was revoked: its instance is evicted")]
    PeerRevoked,
    #[error("policy changed while the request was under way: {}", .0.details())]
    Closed(Why),
    #[error("the request is malformed: {}", .0.code())]
    Malformed(Malformed),
    #[error("CONNECT is not served")]
    Connect,
    #[error("TRACE is not served")]
    Trace,
    #[error("https:// through the proxy is not served")]
    HttpsThroughProxy,
    #[error("refused by policy: {}", .0.code())]
    Refused(Refusal),
    #[error("refused for the token: {0}")]
    Token(TokenError),
    #[error("too many requests")]
    RateLimited(Exceeded),
    #[error("the store of rate limits cannot be asked")]
    LimitStore,
    #[error("this worker has too much to do")]
    Overload,
    #[error("the application is unhealthy: {}", .0.name())]
    Unhealthy(Cause),
    #[error("the application has as many requests as it keeps up with")]
    ConcurrencyLimit,
    #[error("the client's address has too many requests under way")]
    AddressRequests,
    #[error("no byte either way for too long")]
    StreamIdle,
    #[error("the caller does not get on with its body")]
    BodyTimeout,
    #[error("refused by a guard: {}", .0.violation.code())]
    Guarded(Breach),
    #[error("no PROXY header that can be believed: {0}")]
    ProxyHeader(ProxyHeaderError),
    #[error("the connection was made by other TLS rules than those of the host")]
    Misdirected,
    #[error("no route fits")]
    NoRoute,
    #[error("the destination of the route is not known")]
    UnknownRouteTarget,
    #[error("a fault of the route answers: {0:?}")]
    FaultAbort(AbortAnswer),
    #[error("a fault experiment breaks the connection before an answer")]
    FaultReset,
    #[error("a fault experiment loses the upstream's answer")]
    FaultDrop,
    #[error("a fault experiment breaks off the upstream's answer")]
    FaultTruncate,
    #[error("the rewritten path is not in normal form")]
    UncleanRewrite,
    #[error("no service of that name")]
    UnknownDestination,
    #[error("the destination carries bytes, not HTTP")]
    NotHttp,
    #[error("a gRPC call to a port whose server is spoken to in HTTP/1.1")]
    GrpcNeedsHttp2,
    #[error("an upgrade on a port whose server is spoken to in HTTP/2")]
    UpgradeNeedsHttp1,
    #[error("the service has no endpoint")]
    NoEndpoint,
    #[error("all endpoints of the service are left out")]
    NoHealthyEndpoint,
    #[error("as many {} under way as the destination's connectionPool allows", .0.name())]
    UpstreamOverflow(Overflow),
    #[error("the same request is under way already")]
    DuplicateInFlight,
    #[error("nobody waits for the answer any longer")]
    RequestTimeout,
    #[error("no connection to an endpoint")]
    Connection(#[source] ConnectError),
    #[error("no response in time")]
    ResponseTimeout,
    #[error("the upstream switched protocols unasked")]
    UnexpectedSwitch,
    #[error("we ended the connection: {}", .0.reason())]
    Ended(Ended),
    #[error("the TLS handshake failed: {0}")]
    Handshake(&'static str),
    /// Nobody is told but the record.
    #[error("the copy of the request broke off")]
    CopyBroke,
    #[error("the upstream closed or reset before it answered")]
    UpstreamReset(#[source] hyper::Error),
    #[error("the upstream's response is malformed")]
    UpstreamMalformed(#[source] hyper::Error),
    #[error("the upstream's response has several lengths, or one that is no plain number")]
    UpstreamLengths,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    pub side: Side,
    /// Machine-readable, stable, for records and metrics.
    pub reason: &'static str,
    /// Envoy's response flag; empty where Envoy sets none (RBAC).
    pub flag: &'static str,
    pub status: StatusCode,
    /// <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>
    pub grpc_status: u16,
    /// All that the caller is told in words.
    pub title: &'static str,
    /// Whether a caller's HTTP/1.1 connection may be used again.
    pub keep: bool,
}

/// The reason of `BodyTimeout`.
pub(crate) const BODY_TIMEOUT: &str = "body_timeout";
/// The reason of `StreamIdle`.
pub(crate) const STREAM_IDLE: &str = "stream_idle";
/// Reasons that are counted apart: too much at once, or too little.
pub(crate) const COUNTED: [&str; 4] = ["address_requests", BODY_TIMEOUT, "overload", STREAM_IDLE];

const INVALID_ARGUMENT: u16 = 3;
const DEADLINE_EXCEEDED: u16 = 4;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const ABORTED: u16 = 10;
const UNIMPLEMENTED: u16 = 12;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

impl Consequence {
    /// The caller did not prove who it is.
    pub fn is_unauthenticated(&self) -> bool {
        self.side == Side::Caller && self.grpc_status == UNAUTHENTICATED
    }

    /// The caller is known, and not allowed.
    pub fn is_denied(&self) -> bool {
        self.side == Side::Caller && self.grpc_status == PERMISSION_DENIED
    }
}

impl ProxyError {
    /// What the caller is told in headers besides the status.
    pub fn headers(&self) -> HeaderMap {
        match self {
            Self::RateLimited(exceeded) => exceeded.headers(),
            Self::Guarded(breach) => breach.headers(),
            // The store is looked for at least every two seconds.
            Self::LimitStore => [(RETRY_AFTER, HeaderValue::from_static("2"))].into_iter().collect(),
            Self::Overload | Self::AddressRequests | Self::ConcurrencyLimit => {
                [(RETRY_AFTER, HeaderValue::from_static("1"))].into_iter().collect()
            }
            Self::Token(why) => {
                why.challenge().into_iter().map(|challenge| (WWW_AUTHENTICATE, challenge)).collect()
            }
            _ => HeaderMap::new(),
        }
    }

    /// Whether the answer is a head alone. What is refused for its number must not be under way for as long as its caller
    /// likes: a body could be left unread, by the thousand.
    pub fn is_bare(&self) -> bool {
        match self {
            Self::Overload | Self::AddressRequests => true,
            // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
            Self::FaultAbort(answer) => matches!(answer.statuses().0, 204 | 205 | 304),
            _ => false,
        }
    }

    /// The table.
    pub fn consequence(&self) -> Consequence {
        use Side::{Caller, Upstream, Us};
        use StatusCode as S;
        let row = |side, reason, flag, status, grpc_status, title, keep| Consequence {
            side,
            reason,
            flag,
            status,
            grpc_status,
            title,
            keep,
        };
        let busy = S::SERVICE_UNAVAILABLE;
        let fault = |reason| row(Us, reason, "FI", S::BAD_GATEWAY, UNAVAILABLE, "Upstream reset", true);
        match self {
            Self::NoSnapshot => row(Us, "no_snapshot", "", busy, UNAVAILABLE, "Not ready", true),
            Self::NoIdentity => row(Us, "no_identity", "", busy, UNAVAILABLE, "Not ready", true),
            Self::PeerExpired => {
                row(Caller, "peer_expired", "", S::UNAUTHORIZED, UNAUTHENTICATED, "Unauthenticated", false)
            }
            Self::Closed(Why::Policy) => {
                row(Caller, Why::Policy.details(), "", S::FORBIDDEN, PERMISSION_DENIED, "Forbidden", true)
            }
            Self::Closed(Why::Duration) => row(
                Us,
                Why::Duration.details(),
                "DT",
                S::GATEWAY_TIMEOUT,
                DEADLINE_EXCEEDED,
                "The request takes too long",
                false,
            ),
            Self::Closed(Why::Server) => {
                row(Upstream, "server_revoked", "UC", busy, UNAVAILABLE, "Upstream unreachable", true)
            }
            Self::PeerRevoked | Self::Closed(Why::Peer) => {
                row(Caller, "peer_revoked", "", S::UNAUTHORIZED, UNAUTHENTICATED, "Unauthenticated", false)
            }
            Self::Malformed(why) => {
                row(Caller, why.code(), "DPE", why.status(), INVALID_ARGUMENT, "Bad request", false)
            }
            Self::Trace => row(
                Caller,
                "trace_refused",
                "",
                S::METHOD_NOT_ALLOWED,
                UNIMPLEMENTED,
                "Method not allowed",
                false,
            ),
            Self::Connect => row(
                Caller,
                "connect_refused",
                "",
                S::METHOD_NOT_ALLOWED,
                UNIMPLEMENTED,
                "CONNECT is not served: call services of the mesh by http://, the sidecar encrypts",
                false,
            ),
            Self::HttpsThroughProxy => row(
                Caller,
                "https_through_proxy",
                "",
                S::BAD_REQUEST,
                INVALID_ARGUMENT,
                "https:// is not served: call services by http://, the sidecar encrypts",
                true,
            ),
            Self::Refused(Refusal::PlaintextRefused) => {
                row(Caller, "plaintext_refused", "", S::FORBIDDEN, UNAUTHENTICATED, "Forbidden", false)
            }
            Self::Token(why) if why.is_forbidden() => {
                row(Caller, why.code(), "", S::FORBIDDEN, PERMISSION_DENIED, "Forbidden", true)
            }
            Self::Token(why) => {
                row(Caller, why.code(), "", S::UNAUTHORIZED, UNAUTHENTICATED, "Unauthenticated", true)
            }
            Self::UnknownDestination | Self::Refused(Refusal::UnknownDestination) => row(
                Caller,
                "unknown_destination",
                "NR",
                S::BAD_GATEWAY,
                UNAVAILABLE,
                "Unknown destination",
                true,
            ),
            Self::Refused(refusal) => {
                row(Caller, refusal.code(), "", S::FORBIDDEN, PERMISSION_DENIED, "Forbidden", true)
            }
            Self::RateLimited(_) => row(
                Caller,
                "rate_limited",
                "RL",
                S::TOO_MANY_REQUESTS,
                RESOURCE_EXHAUSTED,
                "Too many requests",
                true,
            ),
            // Envoy: by its overload manager.
            Self::Overload => row(Us, "overload", "OM", busy, UNAVAILABLE, "Overloaded", true),
            // As to callers beside whose sidecar no instance is left.
            Self::Unhealthy(_) => {
                row(Upstream, "application_unhealthy", "UH", busy, UNAVAILABLE, "No healthy upstream", true)
            }
            Self::ConcurrencyLimit => {
                row(Us, "concurrency_limit", "UO", busy, UNAVAILABLE, "Overloaded", true)
            }
            Self::AddressRequests => {
                row(Caller, "address_requests", "OM", busy, UNAVAILABLE, "Too many requests under way", true)
            }
            // As Envoy, whose 504 is UNAVAILABLE to callers of gRPC: watchers know to come back.
            Self::StreamIdle => {
                row(Upstream, STREAM_IDLE, "SI", S::GATEWAY_TIMEOUT, UNAVAILABLE, "Stream idle", false)
            }
            Self::BodyTimeout => row(
                Caller,
                BODY_TIMEOUT,
                "SI",
                S::REQUEST_TIMEOUT,
                DEADLINE_EXCEEDED,
                "Request timeout",
                false,
            ),
            // Envoy: an error in the rate limit service.
            Self::LimitStore => {
                row(Us, "limit_store_unavailable", "RLSE", busy, UNAVAILABLE, "Not ready", true)
            }
            Self::Guarded(breach) => {
                let (reason, grpc_status) = (breach.violation.code(), guard_grpc_status(breach.violation));
                row(Caller, reason, "", breach.status(), grpc_status, breach.title(), true)
            }
            Self::ProxyHeader(why) => {
                row(Caller, why.code(), "DPE", S::BAD_REQUEST, INVALID_ARGUMENT, "Bad request", false)
            }
            Self::Misdirected => row(
                Caller,
                "misdirected_request",
                "",
                S::MISDIRECTED_REQUEST,
                UNAVAILABLE,
                "Misdirected request",
                true,
            ),
            Self::NoRoute => row(Caller, "no_route", "NR", S::NOT_FOUND, UNIMPLEMENTED, "No route", true),
            Self::UnknownRouteTarget => {
                row(Us, "route_target_unknown", "NC", busy, UNAVAILABLE, "No healthy upstream", true)
            }
            Self::FaultAbort(answer) => {
                let (status, grpc_status) = answer.statuses();
                let status = S::from_u16(status).unwrap_or(busy);
                row(Us, "fault_abort", "FI", status, grpc_status, "Fault injected", true)
            }
            // In the caller's eyes, what it stands for; in ours, what it is.
            Self::FaultReset => fault("fault_reset"),
            Self::FaultDrop => fault("fault_drop"),
            Self::FaultTruncate => fault("fault_truncate"),
            Self::UncleanRewrite => {
                row(Caller, "rewrite_unclean", "", S::BAD_REQUEST, INVALID_ARGUMENT, "Bad request", true)
            }
            Self::NotHttp => {
                row(Caller, "not_http", "NR", S::BAD_GATEWAY, UNIMPLEMENTED, "Unknown destination", true)
            }
            // Not UNAVAILABLE: clients try that again.
            Self::GrpcNeedsHttp2 => row(
                Caller,
                "grpc_needs_http2",
                "",
                S::UNSUPPORTED_MEDIA_TYPE,
                UNIMPLEMENTED,
                "gRPC needs a port of protocol grpc or http2",
                true,
            ),
            Self::UpgradeNeedsHttp1 => row(
                Caller,
                "upgrade_needs_http1",
                "",
                S::NOT_IMPLEMENTED,
                UNIMPLEMENTED,
                "WebSocket needs a port of protocol http",
                true,
            ),
            // As draft-ietf-httpapi-idempotency-key-header has it.
            Self::DuplicateInFlight => row(
                Caller,
                "duplicate_in_flight",
                "",
                S::CONFLICT,
                ABORTED,
                "Not processed: the same request is under way already",
                true,
            ),
            Self::NoEndpoint => {
                row(Upstream, "no_endpoint", "UH", busy, UNAVAILABLE, "No healthy upstream", true)
            }
            Self::NoHealthyEndpoint => {
                row(Upstream, "no_healthy_endpoint", "UH", busy, UNAVAILABLE, "No healthy upstream", true)
            }
            Self::UpstreamOverflow(_) | Self::Connection(ConnectError::Overflow(_)) => {
                row(Us, "upstream_overflow", "UO", busy, UNAVAILABLE, "Upstream overloaded", true)
            }
            Self::RequestTimeout => row(
                Upstream,
                "request_timeout",
                "UT",
                S::GATEWAY_TIMEOUT,
                DEADLINE_EXCEEDED,
                "Request timeout",
                true,
            ),
            Self::Connection(why) => {
                row(Upstream, why.code(), why.flag(), busy, UNAVAILABLE, "Upstream unreachable", true)
            }
            Self::ResponseTimeout => row(
                Upstream,
                "response_timeout",
                "UT",
                S::GATEWAY_TIMEOUT,
                DEADLINE_EXCEEDED,
                "Upstream timeout",
                true,
            ),
            Self::UnexpectedSwitch => {
                row(Upstream, "unexpected_switch", "UPE", S::BAD_GATEWAY, UNAVAILABLE, "Upstream error", true)
            }
            Self::Ended(why) => {
                let (status, title) = match why {
                    Ended::HeadTimeout => (S::REQUEST_TIMEOUT, "Request timeout"),
                    _ => (S::TOO_MANY_REQUESTS, "Too many requests"),
                };
                row(Caller, why.reason(), "", status, RESOURCE_EXHAUSTED, title, false)
            }
            Self::Handshake(reason) => {
                row(Caller, reason, "", S::UNAUTHORIZED, UNAUTHENTICATED, "Unauthenticated", false)
            }
            Self::CopyBroke => row(Us, "copy_broke_off", "", S::OK, UNAVAILABLE, "", false),
            Self::UpstreamMalformed(_) | Self::UpstreamLengths => row(
                Upstream,
                "upstream_malformed",
                "UPE",
                S::BAD_GATEWAY,
                UNAVAILABLE,
                "Upstream error",
                true,
            ),
            Self::UpstreamReset(_) => {
                row(Upstream, "upstream_reset", "UC", S::BAD_GATEWAY, UNAVAILABLE, "Upstream reset", true)
            }
        }
    }
}

fn guard_grpc_status(violation: Violation) -> u16 {
    match violation {
        Violation::UriBytes | Violation::Headers | Violation::HeaderBytes | Violation::BodyBytes => {
            RESOURCE_EXHAUSTED
        }
        Violation::Underscore | Violation::Forbidden | Violation::Duplicate | Violation::ContentType => {
            INVALID_ARGUMENT
        }
        Violation::Method => UNIMPLEMENTED,
    }
}
