//! The parts of a traffic policy. What numbers and names mean is checked where documents are: by the kind.

use std::time::Duration;

use palisade_policy::kind::destination_rule::balancing::{ConsistentHash, Cookie, Simple, Warmup};
use palisade_policy::kind::destination_rule::pool::{HttpPool, TcpPool};
use palisade_policy::kind::destination_rule::{ConnectionPool, LoadBalancer, Outliers};
use palisade_policy::traffic::Keepalive;

use super::WireError;
use super::scalar::{enumeration, milliseconds};
use crate::v1::destination_rule as wire;

pub(super) fn balancer_to_wire(balancer: &LoadBalancer) -> wire::LoadBalancer {
    let simple = match balancer.simple {
        None => wire::Simple::Unspecified,
        Some(Simple::LeastRequest) => wire::Simple::LeastRequest,
        Some(Simple::RoundRobin) => wire::Simple::RoundRobin,
        Some(Simple::Random) => wire::Simple::Random,
    };
    let cookie = |cookie: &Cookie| wire::Cookie {
        name: cookie.name.clone(),
        path: cookie.path.clone(),
        ttl_ms: cookie.ttl.map(milliseconds),
    };
    wire::LoadBalancer {
        simple: simple.into(),
        consistent_hash: balancer.consistent_hash.as_ref().map(|hash| wire::ConsistentHash {
            header: hash.header.clone(),
            cookie: hash.cookie.as_ref().map(cookie),
            source_ip: hash.source_ip,
            query_parameter: hash.query_parameter.clone(),
        }),
        warmup: balancer.warmup.map(|warmup| wire::Warmup {
            duration_ms: milliseconds(warmup.duration),
            minimum_percent: warmup.minimum_percent,
        }),
    }
}

pub(super) fn balancer_from_wire(balancer: wire::LoadBalancer) -> Result<LoadBalancer, WireError> {
    let simple = match enumeration("simple", balancer.simple)? {
        wire::Simple::Unspecified => None,
        wire::Simple::LeastRequest => Some(Simple::LeastRequest),
        wire::Simple::RoundRobin => Some(Simple::RoundRobin),
        wire::Simple::Random => Some(Simple::Random),
    };
    let cookie = |cookie: wire::Cookie| Cookie {
        name: cookie.name,
        path: cookie.path,
        ttl: cookie.ttl_ms.map(Duration::from_millis),
    };
    Ok(LoadBalancer {
        simple,
        consistent_hash: balancer.consistent_hash.map(|hash| ConsistentHash {
            header: hash.header,
            cookie: hash.cookie.map(cookie),
            source_ip: hash.source_ip,
            query_parameter: hash.query_parameter,
        }),
        warmup: balancer.warmup.map(|warmup| Warmup {
            duration: Duration::from_millis(warmup.duration_ms),
            minimum_percent: warmup.minimum_percent,
        }),
    })
}

pub(super) fn pool_to_wire(ConnectionPool { tcp, http }: &ConnectionPool) -> wire::ConnectionPool {
    let keepalive = |keepalive: Keepalive| wire::Keepalive {
        probes: keepalive.probes,
        time_ms: keepalive.time.map(milliseconds),
        interval_ms: keepalive.interval.map(milliseconds),
    };
    wire::ConnectionPool {
        tcp: Some(wire::TcpPool {
            max_connections: tcp.max_connections,
            connect_timeout_ms: tcp.connect_timeout.map(milliseconds),
            idle_timeout_ms: tcp.idle_timeout.map(milliseconds),
            max_connection_duration_ms: tcp.max_connection_duration.map(milliseconds),
            keepalive: tcp.keepalive.map(keepalive),
        }),
        http: Some(wire::HttpPool {
            max_pending_requests: http.max_pending_requests,
            max_requests: http.max_requests,
            max_requests_per_connection: http.max_requests_per_connection,
            max_retries: http.max_retries,
            idle_timeout_ms: http.idle_timeout.map(milliseconds),
            max_concurrent_streams: http.max_concurrent_streams,
        }),
    }
}

pub(super) fn pool_from_wire(pool: wire::ConnectionPool) -> ConnectionPool {
    let (tcp, http) = (pool.tcp.unwrap_or_default(), pool.http.unwrap_or_default());
    let keepalive = |keepalive: wire::Keepalive| Keepalive {
        probes: keepalive.probes,
        time: keepalive.time_ms.map(Duration::from_millis),
        interval: keepalive.interval_ms.map(Duration::from_millis),
    };
    ConnectionPool {
        tcp: TcpPool {
            max_connections: tcp.max_connections,
            connect_timeout: tcp.connect_timeout_ms.map(Duration::from_millis),
            idle_timeout: tcp.idle_timeout_ms.map(Duration::from_millis),
            max_connection_duration: tcp.max_connection_duration_ms.map(Duration::from_millis),
            keepalive: tcp.keepalive.map(keepalive),
        },
        http: HttpPool {
            max_pending_requests: http.max_pending_requests,
            max_requests: http.max_requests,
            max_requests_per_connection: http.max_requests_per_connection,
            max_retries: http.max_retries,
            idle_timeout: http.idle_timeout_ms.map(Duration::from_millis),
            max_concurrent_streams: http.max_concurrent_streams,
        },
    }
}

pub(super) fn outliers_to_wire(outliers: &Outliers) -> wire::Outliers {
    wire::Outliers {
        split_local: outliers.split_local,
        consecutive_local: outliers.consecutive_local,
        consecutive_gateway: outliers.consecutive_gateway,
        consecutive_5xx: outliers.consecutive_5xx,
        interval_ms: outliers.interval.map(milliseconds),
        base_ejection_ms: outliers.base_ejection.map(milliseconds),
        max_ejection_percent: outliers.max_ejection_percent,
        min_health_percent: outliers.min_health_percent,
    }
}

pub(super) fn outliers_from_wire(outliers: &wire::Outliers) -> Outliers {
    Outliers {
        split_local: outliers.split_local,
        consecutive_local: outliers.consecutive_local,
        consecutive_gateway: outliers.consecutive_gateway,
        consecutive_5xx: outliers.consecutive_5xx,
        interval: outliers.interval_ms.map(Duration::from_millis),
        base_ejection: outliers.base_ejection_ms.map(Duration::from_millis),
        max_ejection_percent: outliers.max_ejection_percent,
        min_health_percent: outliers.min_health_percent,
    }
}
