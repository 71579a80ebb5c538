//! Every value that holds for a destination, in words, and where it comes from.

use std::time::Duration;

use serde::Serialize;

use super::effective::{Effective, Part, Place};
use super::outliers::SUCCESS_RATE_ANNOTATION;
use super::{ConnectionPool, TlsMode, TlsSettings};
use crate::compile::{Destination, Transport};
use crate::document::duration::write;
use crate::kind::service_entry::Protocol;
use crate::traffic::{Balance, HashKey, Keepalive, SuccessRate, Traffic};

/// One setting of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Value {
    /// As below `trafficPolicy`: `connectionPool.tcp.maxConnections`.
    pub name: &'static str,
    /// As documents write it; where there is nothing to write, in words.
    pub value: String,
    /// Where in the rule it is written: `spec.trafficPolicy.connectionPool.tcp.maxConnections`. `None`: it is a default.
    pub from: Option<String>,
}

/// What a proxy does where nothing is said. Proxies may be told otherwise on their command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfProxy {
    pub connect_timeout: Duration,
    /// Until an answer's head, where no route says it. Calls of gRPC have none.
    pub response_timeout: Duration,
    pub http_idle_timeout: Duration,
    pub tcp_idle_timeout: Duration,
    pub concurrent_streams: u32,
    /// Of raw TCP; connections of HTTP have none.
    pub tcp_keepalive: Duration,
}

/// All settings of a destination. `effective`: what of the rule it was made from.
pub fn values(destination: &Destination, effective: &Effective<'_>, proxy: OfProxy) -> Vec<Value> {
    let traffic = &*destination.traffic;
    let mut rows = Rows { values: Vec::new(), proxy };
    rows.balancing(traffic, effective);
    rows.tcp(traffic, effective.connection_pool, destination.protocol);
    if destination.protocol != Protocol::Tcp {
        rows.http(traffic, effective.connection_pool);
    }
    rows.outliers(traffic, effective);
    if destination.protocol != Protocol::Tcp {
        rows.budget(traffic, effective);
    }
    // Registered services are reached by mesh TLS, whatever a rule says.
    let mode = mode(&destination.transport);
    let told = effective.tls.filter(|(_, tls)| tls.mode == mode);
    rows.push("tls.mode", mode.name().into(), told.map(|(place, _)| place));
    if let Transport::Tls { settings, server_name } = &destination.transport {
        rows.tls(settings, server_name, told);
    }
    rows.values
}

fn mode(transport: &Transport) -> TlsMode {
    match transport {
        Transport::Mesh { .. } => TlsMode::IstioMutual,
        Transport::Plaintext => TlsMode::Disable,
        Transport::Tls { settings, .. } => settings.mode,
    }
}

struct Rows {
    values: Vec<Value>,
    proxy: OfProxy,
}

/// The place of a part of which `is` says that it has a value.
fn said<T>(part: Part<'_, T>, is: impl Fn(&T) -> bool) -> Option<Place> {
    part.filter(|(_, part)| is(part)).map(|(place, _)| place)
}

impl Rows {
    fn push(&mut self, name: &'static str, value: String, place: Option<Place>) {
        self.values.push(Value { name, value, from: place.map(|place| place.path(name)) });
    }

    fn balancing(&mut self, traffic: &Traffic, effective: &Effective<'_>) {
        let part = effective.load_balancer;
        match &traffic.balance {
            Balance::ConsistentHash(key) => {
                let place = said(part, |balancer| balancer.consistent_hash.is_some());
                self.push("loadBalancer.consistentHash", hash_key(key), place);
            }
            simple => {
                let word = match simple {
                    Balance::RoundRobin => "ROUND_ROBIN",
                    Balance::Random => "RANDOM",
                    Balance::LeastRequest | Balance::ConsistentHash(_) => "LEAST_REQUEST",
                };
                self.push(
                    "loadBalancer.simple",
                    word.into(),
                    said(part, |balancer| balancer.simple.is_some()),
                );
            }
        }
        let warmup = traffic.warmup.map_or_else(
            || "none".into(),
            |warmup| format!("{}, from {} %", write(warmup.duration), warmup.minimum_percent),
        );
        self.push("loadBalancer.warmup", warmup, said(part, |balancer| balancer.warmup.is_some()));
    }

    fn tcp(&mut self, traffic: &Traffic, part: Part<'_, ConnectionPool>, protocol: Protocol) {
        let pool = &traffic.pool;
        let connections = pool.max_connections.to_string();
        self.push(
            "connectionPool.tcp.maxConnections",
            connections,
            said(part, |p| p.tcp.max_connections.is_some()),
        );
        let connect = write(pool.connect_timeout.unwrap_or(self.proxy.connect_timeout));
        self.push(
            "connectionPool.tcp.connectTimeout",
            connect,
            said(part, |p| p.tcp.connect_timeout.is_some()),
        );
        let life = time(pool.max_connection_duration, "as long as its certificates are valid");
        let place = said(part, |p| p.tcp.max_connection_duration.is_some());
        self.push("connectionPool.tcp.maxConnectionDuration", life, place);
        let keepalive = match pool.keepalive {
            Some(told) => keepalive(told),
            None if protocol == Protocol::Tcp => format!("time {}", write(self.proxy.tcp_keepalive)),
            None => "off".into(),
        };
        self.push("connectionPool.tcp.tcpKeepalive", keepalive, said(part, |p| p.tcp.keepalive.is_some()));
        let (http, tcp) = ("connectionPool.http.idleTimeout", "connectionPool.tcp.idleTimeout");
        let of_tcp = said(part, |p| p.tcp.idle_timeout.is_some());
        let of_http = said(part, |p| p.http.idle_timeout.is_some());
        let (name, own, place) = match protocol {
            Protocol::Tcp => (tcp, self.proxy.tcp_idle_timeout, of_tcp),
            _ if of_http.is_none() && of_tcp.is_some() => (tcp, self.proxy.http_idle_timeout, of_tcp),
            _ => (http, self.proxy.http_idle_timeout, of_http),
        };
        self.push(name, write(pool.idle_timeout.unwrap_or(own)), place);
    }

    fn http(&mut self, traffic: &Traffic, part: Part<'_, ConnectionPool>) {
        let pool = &traffic.pool;
        let pending = said(part, |p| p.http.max_pending_requests.is_some());
        self.push("connectionPool.http.http1MaxPendingRequests", pool.max_pending.to_string(), pending);
        let requests = said(part, |p| p.http.max_requests.is_some());
        self.push("connectionPool.http.http2MaxRequests", pool.max_requests.to_string(), requests);
        let each = number(pool.max_requests_per_connection, "no bound");
        let place = said(part, |p| p.http.max_requests_per_connection.is_some());
        self.push("connectionPool.http.maxRequestsPerConnection", each, place);
        let retries = number(pool.max_retries, "what the retry budget leaves");
        self.push("connectionPool.http.maxRetries", retries, said(part, |p| p.http.max_retries.is_some()));
        let streams = pool.max_concurrent_streams.unwrap_or(self.proxy.concurrent_streams).to_string();
        let place = said(part, |p| p.http.max_concurrent_streams.is_some());
        self.push("connectionPool.http.maxConcurrentStreams", streams, place);
    }

    fn outliers(&mut self, traffic: &Traffic, effective: &Effective<'_>) {
        let part = effective.outliers;
        let Some(found) = &traffic.outliers else {
            self.push("outlierDetection", "none".into(), None);
            return;
        };
        let count = |count: u32| if count == 0 { "off".to_owned() } else { count.to_string() };
        let place = said(part, |o| o.consecutive_5xx.is_some());
        self.push("outlierDetection.consecutive5xxErrors", count(found.consecutive_5xx), place);
        let place = said(part, |o| o.consecutive_gateway.is_some());
        self.push("outlierDetection.consecutiveGatewayErrors", count(found.consecutive_gateway), place);
        let place = said(part, |o| o.split_local.is_some());
        self.push("outlierDetection.splitExternalLocalOriginErrors", found.split_local.to_string(), place);
        if found.split_local {
            let place = said(part, |o| o.consecutive_local.is_some());
            self.push(
                "outlierDetection.consecutiveLocalOriginFailures",
                count(found.consecutive_local),
                place,
            );
        }
        self.push("outlierDetection.interval", write(found.interval), said(part, |o| o.interval.is_some()));
        let base = said(part, |o| o.base_ejection.is_some());
        let ejection = format!("{}, growing to {}", write(found.base_ejection), write(found.max_ejection));
        self.push("outlierDetection.baseEjectionTime", ejection, base);
        let place = said(part, |o| o.max_ejection_percent.is_some());
        self.push("outlierDetection.maxEjectionPercent", found.max_ejection_percent.to_string(), place);
        let place = said(part, |o| o.min_health_percent.is_some());
        self.push("outlierDetection.minHealthPercent", found.min_health_percent.to_string(), place);
        let value = found.success_rate.map_or_else(|| "off".into(), success_rate);
        let from = effective
            .annotates_success_rate()
            .then(|| format!("metadata.annotations.{SUCCESS_RATE_ANNOTATION}"));
        self.values.push(Value { name: "success-rate ejection", value, from });
    }

    fn tls(&mut self, settings: &TlsSettings, server_name: &str, part: Part<'_, TlsSettings>) {
        self.push("tls.sni", server_name.into(), said(part, |tls| tls.sni.is_some()));
        let names = match &settings.subject_alt_names[..] {
            [] => server_name.to_owned(),
            names => names.join(" "),
        };
        self.push("tls.subjectAltNames", names, said(part, |tls| !tls.subject_alt_names.is_empty()));
        let roots = settings.ca_certificates.clone().unwrap_or_else(|| "the system's".into());
        self.push("tls.caCertificates", roots, said(part, |tls| tls.ca_certificates.is_some()));
        for (name, file) in [
            ("tls.clientCertificate", &settings.client_certificate),
            ("tls.privateKey", &settings.private_key),
        ] {
            if let Some(file) = file {
                self.push(name, file.clone(), part.map(|(place, _)| place));
            }
        }
    }

    fn budget(&mut self, traffic: &Traffic, effective: &Effective<'_>) {
        let (part, budget) = (effective.retry_budget, traffic.retry_budget);
        let (whole, rest) = (budget.millipercent / 1000, budget.millipercent % 1000);
        let decimals = format!("{whole}.{rest:03}");
        let percent = decimals.trim_end_matches('0').trim_end_matches('.').to_owned();
        self.push("retryBudget.percent", percent, said(part, |b| b.percent_ppm.is_some()));
        let least = said(part, |b| b.min_retry_concurrency.is_some());
        self.push("retryBudget.minRetryConcurrency", budget.min_concurrency.to_string(), least);
    }
}

fn number(number: Option<u32>, none: &str) -> String {
    number.map_or_else(|| none.into(), |number| number.to_string())
}

fn time(time: Option<Duration>, none: &str) -> String {
    time.map_or_else(|| none.into(), write)
}

fn keepalive(keepalive: Keepalive) -> String {
    let system = "the system's";
    format!(
        "probes {}, time {}, interval {}",
        number(keepalive.probes, system),
        time(keepalive.time, system),
        time(keepalive.interval, system)
    )
}

fn success_rate(rate: SuccessRate) -> String {
    let SuccessRate { minimum_hosts, request_volume, stdev_factor_thousandths: factor } = rate;
    format!(
        "below the mean minus {}.{} standard deviations, of {minimum_hosts} endpoints with {request_volume} requests each",
        factor / 1000,
        factor % 1000 / 100
    )
}

fn hash_key(key: &HashKey) -> String {
    match key {
        HashKey::Header(name) => format!("httpHeaderName {name}"),
        HashKey::SourceIp => "useSourceIp".into(),
        HashKey::QueryParameter(name) => format!("httpQueryParameterName {name}"),
        HashKey::Cookie { name, ttl: None, .. } => format!("httpCookie {name}"),
        HashKey::Cookie { name, path, ttl: Some(ttl) } => {
            let path = path.as_ref().map(|path| format!(" path {path}")).unwrap_or_default();
            let life = if ttl.is_zero() { "its session".into() } else { write(*ttl) };
            format!("httpCookie {name}{path}, given for {life}")
        }
    }
}
