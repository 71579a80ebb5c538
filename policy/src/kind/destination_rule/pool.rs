//! `connectionPool`: how much a proxy asks of a destination at once, and how long its connections last.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::range::{COUNT, DURATION, Within, read_count, read_duration};
use crate::document::reader::{At, Reader};
use crate::finding::problem::Problems;
use crate::kind::service_entry::Protocol;
use crate::traffic::{Keepalive, PoolBounds};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    pub tcp: TcpPool,
    pub http: HttpPool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpPool {
    pub max_connections: Option<u32>,
    pub connect_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// An empty one turns keep-alive on, with the system's times.
    pub keepalive: Option<Keepalive>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpPool {
    /// Of HTTP/2 too, whatever the field's name says.
    pub max_pending_requests: Option<u32>,
    /// Of HTTP/1.1 too.
    pub max_requests: Option<u32>,
    /// Zero: no bound, as if absent.
    pub max_requests_per_connection: Option<u32>,
    pub max_retries: Option<u32>,
    pub idle_timeout: Option<Duration>,
    pub max_concurrent_streams: Option<u32>,
}

const HTTP_UNSUPPORTED: &[(&str, &str)] = &[
    (
        "h2UpgradePolicy",
        "the port's protocol says what a server is spoken to in: write HTTP2 or GRPC there; between proxies of the \
         mesh it is HTTP/2 by itself",
    ),
    ("useClientProtocol", "the port's protocol says what a server is spoken to in; leave it out"),
];

/// Up to 2^29, as in Istio.
const REQUESTS_PER_CONNECTION: RangeInclusive<u32> = 0..=536_870_912;
/// A connection ends with its certificates anyway.
const CONNECTION_LIFE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 3600);
const CONNECT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// Linux takes no more (`MAX_TCP_KEEPCNT`, `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`), and whole seconds only.
const PROBES: RangeInclusive<u32> = 1..=127;
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);

const BOUNDED: &str = "Istio reads 0 as \"unlimited\", which nothing is here: leave the field out for 1024, or write a \
                       number from 1 on";
const IDLE: &str = "0s would keep idle connections for ever; leave the field out for the proxy's own bound";

pub(super) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ConnectionPool> {
    let mut fields = reader.mapping(at)?;
    let tcp = fields.take("tcp").and_then(|at| read_tcp(reader, &at));
    let http = fields.take("http").and_then(|at| read_http(reader, &at));
    reader.finish(fields, &[]);
    Some(ConnectionPool { tcp: tcp.unwrap_or_default(), http: http.unwrap_or_default() })
}

fn read_tcp(reader: &mut Reader<'_>, at: &At<'_>) -> Option<TcpPool> {
    let mut fields = reader.mapping(at)?;
    let tcp = TcpPool {
        max_connections: read_count(reader, &mut fields, "maxConnections"),
        connect_timeout: read_duration(reader, &mut fields, "connectTimeout"),
        idle_timeout: read_duration(reader, &mut fields, "idleTimeout"),
        max_connection_duration: read_duration(reader, &mut fields, "maxConnectionDuration"),
        keepalive: fields.take("tcpKeepalive").and_then(|at| read_keepalive(reader, &at)),
    };
    reader.finish(fields, &[]);
    Some(tcp)
}

fn read_keepalive(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Keepalive> {
    let mut fields = reader.mapping(at)?;
    let keepalive = Keepalive {
        probes: read_count(reader, &mut fields, "probes"),
        time: read_duration(reader, &mut fields, "time"),
        interval: read_duration(reader, &mut fields, "interval"),
    };
    reader.finish(fields, &[]);
    Some(keepalive)
}

fn read_http(reader: &mut Reader<'_>, at: &At<'_>) -> Option<HttpPool> {
    let mut fields = reader.mapping(at)?;
    let http = HttpPool {
        max_pending_requests: read_count(reader, &mut fields, "http1MaxPendingRequests"),
        max_requests: read_count(reader, &mut fields, "http2MaxRequests"),
        max_requests_per_connection: read_count(reader, &mut fields, "maxRequestsPerConnection"),
        max_retries: read_count(reader, &mut fields, "maxRetries"),
        idle_timeout: read_duration(reader, &mut fields, "idleTimeout"),
        max_concurrent_streams: read_count(reader, &mut fields, "maxConcurrentStreams"),
    };
    reader.finish(fields, HTTP_UNSUPPORTED);
    Some(http)
}

pub(super) fn check(pool: &ConnectionPool, path: &str, problems: &mut Problems) {
    let ConnectionPool { tcp, http } = pool;
    let mut within = Within { path: format!("{path}.tcp"), problems };
    within.count("maxConnections", tcp.max_connections, COUNT, BOUNDED);
    within.duration("connectTimeout", tcp.connect_timeout, CONNECT, "");
    within.duration("idleTimeout", tcp.idle_timeout, DURATION, IDLE);
    within.duration(
        "maxConnectionDuration",
        tcp.max_connection_duration,
        CONNECTION_LIFE,
        "leave it out for none",
    );
    if let Some(Keepalive { probes, time, interval }) = tcp.keepalive {
        within.count("tcpKeepalive.probes", probes, PROBES, "leave it out for the system's");
        for (field, value) in [("tcpKeepalive.time", time), ("tcpKeepalive.interval", interval)] {
            within.duration(field, value, KEEPALIVE, "leave it out for the system's");
            if value.is_some_and(|value| value.subsec_nanos() != 0) {
                within.refuse(field, "systems count whole seconds".into(), "");
            }
        }
    }
    within.path = format!("{path}.http");
    within.count("http1MaxPendingRequests", http.max_pending_requests, COUNT, BOUNDED);
    within.count("http2MaxRequests", http.max_requests, COUNT, BOUNDED);
    let per_connection = http.max_requests_per_connection;
    within.count("maxRequestsPerConnection", per_connection, REQUESTS_PER_CONNECTION, "");
    let none = "Istio reads 0 as \"unlimited\"; for no retries write retries: {attempts: 0} into the VirtualService, \
                else leave the field out: the retry budget bounds them";
    within.count("maxRetries", http.max_retries, COUNT, none);
    within.duration("idleTimeout", http.idle_timeout, DURATION, IDLE);
    let streams = "leave the field out for the proxy's own bound";
    within.count("maxConcurrentStreams", http.max_concurrent_streams, COUNT, streams);
}

impl ConnectionPool {
    /// The bounds of one port. As in Istio, `tcp.idleTimeout` is for HTTP too where `http.idleTimeout` is absent. Of raw TCP
    /// each connection is a request, and what is said of requests is not for it.
    pub(super) fn bounds(&self, protocol: Protocol) -> PoolBounds {
        let Self { tcp, http } = self;
        let defaults = PoolBounds::default();
        if protocol == Protocol::Tcp {
            let max = tcp.max_connections.unwrap_or(defaults.max_connections);
            return PoolBounds {
                max_connections: max,
                max_requests: max,
                connect_timeout: tcp.connect_timeout,
                idle_timeout: tcp.idle_timeout,
                max_connection_duration: tcp.max_connection_duration,
                keepalive: tcp.keepalive,
                ..defaults
            };
        }
        PoolBounds {
            max_connections: tcp.max_connections.unwrap_or(defaults.max_connections),
            max_pending: http.max_pending_requests.unwrap_or(defaults.max_pending),
            max_requests: http.max_requests.unwrap_or(defaults.max_requests),
            max_retries: http.max_retries,
            max_requests_per_connection: http.max_requests_per_connection.filter(|requests| *requests > 0),
            max_concurrent_streams: http.max_concurrent_streams,
            connect_timeout: tcp.connect_timeout,
            idle_timeout: http.idle_timeout.or(tcp.idle_timeout),
            max_connection_duration: tcp.max_connection_duration,
            keepalive: tcp.keepalive,
        }
    }
}
