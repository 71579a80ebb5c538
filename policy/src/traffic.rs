//! How requests to a destination are spread, bounded, tried again and given up. Plain values with everything decided:
//! what a document leaves out has its default here, and every default is finite.

use std::time::Duration;

use http::HeaderName;

/// What a DestinationRule makes of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub balance: Balance,
    /// An endpoint that was not known before gets its share little by little.
    pub warmup: Option<Warmup>,
    pub pool: PoolBounds,
    /// `None`: no endpoint is left out for its answers, only tried last after a connection could not be made.
    pub outliers: Option<OutlierDetection>,
    pub retry_budget: RetryBudget,
}

/// Which endpoint a request goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Of two that are drawn, the one with less under way, weighted by how fast it answers.
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// The same endpoint for the same key, as long as it is there (rendezvous hashing).
    ConsistentHash(HashKey),
}

/// What is hashed. A request without it goes to any endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    Header(HeaderName),
    Cookie {
        name: String,
        path: Option<String>,
        /// `Some`: a caller without the cookie is given one that lasts so long; zero: for its session.
        ttl: Option<Duration>,
    },
    SourceIp,
    QueryParameter(String),
}

/// How a new endpoint comes to its full share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warmup {
    pub duration: Duration,
    /// Of the full share, at the beginning. 1 to 100; Istio's default is 10.
    pub minimum_percent: u8,
}

/// Of one destination and one proxy, all of its threads together. What is over a bound gets 503 at once, with flag `UO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolBounds {
    /// Open connections. Default 1024.
    pub max_connections: u32,
    /// Requests that wait for a connection. Default 1024.
    pub max_pending: u32,
    /// Requests under way. Default 1024.
    pub max_requests: u32,
    /// Requests that are under way for a second or later time. Default: the retry budget alone says.
    pub max_retries: Option<u32>,
    /// After so many requests a connection is closed. `None`: never for that.
    pub max_requests_per_connection: Option<u32>,
    /// HTTP/2: streams of one connection. `None`: the proxy's own bound.
    pub max_concurrent_streams: Option<u32>,
    /// `None`: the proxy's own.
    pub connect_timeout: Option<Duration>,
    /// How long a connection without a request is kept. `None`: the proxy's own.
    pub idle_timeout: Option<Duration>,
    /// How long a connection takes new requests. `None`: as long as its certificates are valid.
    pub max_connection_duration: Option<Duration>,
    pub keepalive: Option<Keepalive>,
}

impl PoolBounds {
    /// What holds where a document says nothing.
    pub const DEFAULT: Self = Self {
        max_connections: 1024,
        max_pending: 1024,
        max_requests: 1024,
        max_retries: None,
        max_requests_per_connection: None,
        max_concurrent_streams: None,
        connect_timeout: None,
        idle_timeout: None,
        max_connection_duration: None,
        keepalive: None,
    };
}

impl Default for PoolBounds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// TCP keep-alive (RFC 9293 section 3.8.4). What is absent is the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// When an endpoint is left out for a while (Istio's OutlierDetection, Envoy's success rate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Answers of 500 and above in a row, failed connections counted as such unless `split_local`. 0: off. Default 5.
    pub consecutive_5xx: u32,
    /// Answers of 502, 503 and 504 in a row. 0: off, the default.
    pub consecutive_gateway: u32,
    /// Connections that failed, resets and timeouts are counted apart.
    pub split_local: bool,
    /// Those in a row. 0: off. Default 5.
    pub consecutive_local: u32,
    /// Between two looks at success rates, and at endpoints that may come back. Default 10 s.
    pub interval: Duration,
    /// The first time that an endpoint is left out; it grows by as much each time. Default 30 s.
    pub base_ejection: Duration,
    /// The longest. Default 300 s, or `base_ejection` if that is longer.
    pub max_ejection: Duration,
    /// Of the endpoints, those that may be left out at once; one may always be. 0 to 100, default 10.
    pub max_ejection_percent: u8,
    /// With fewer endpoints left than that, none is left out: requests go to all of them. 0 to 100, default 0: never.
    pub min_health_percent: u8,
    /// Endpoints that succeed far less often than the others do.
    pub success_rate: Option<SuccessRate>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            split_local: false,
            consecutive_local: 5,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejection_percent: 10,
            min_health_percent: 0,
            success_rate: Some(SuccessRate::default()),
        }
    }
}

/// Envoy's numbers: an endpoint is an outlier below the mean minus `stdev_factor` times the standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// Endpoints with enough requests. Default 5.
    pub minimum_hosts: u32,
    /// Requests within an interval that are enough. Default 100.
    pub request_volume: u32,
    /// In thousandths. Default 1900.
    pub stdev_factor_thousandths: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_hosts: 5, request_volume: 100, stdev_factor_thousandths: 1900 }
    }
}

/// How many requests to a destination may be under way for a second or later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of all that are under way, in thousandths of a percent. Default 20 000 (20 %).
    pub millipercent: u32,
    /// So many in any case. Default 3.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { millipercent: 20_000, min_concurrency: 3 }
    }
}

/// When a request is tried again, beside what was never sent. For methods that are not idempotent nothing here makes
/// up for the doubt: they are tried again only where they cannot have been processed, or where a RetryPolicy says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// After the first. 0: none. Default 2.
    pub attempts: u32,
    /// Until the answer's head. `None`: the whole request's.
    pub per_try_timeout: Option<Duration>,
    pub on: RetryOn,
    /// Before the first retry at most; doubles with each, [`Self::BACKOFF_MAX`] times that at most. Default 25 ms.
    pub backoff: Duration,
    /// Endpoints that were tried come last. Default: yes.
    pub ignore_previous_hosts: bool,
}

impl Retries {
    /// The longest pause before a retry, in first pauses; Envoy's default.
    pub const BACKOFF_MAX: u32 = 10;
    /// What holds where a document says nothing.
    pub const DEFAULT: Self = Self {
        attempts: 2,
        per_try_timeout: None,
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset: false,
            five_xx: false,
            gateway_error: false,
            retriable_4xx: false,
            statuses: Vec::new(),
            grpc: Vec::new(),
        },
        backoff: Duration::from_millis(25),
        ignore_previous_hosts: true,
    };
}

impl Default for Retries {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The server says that it did nothing (REFUSED_STREAM, or a GOAWAY that names an earlier stream).
    pub refused_stream: bool,
    /// No answer: the connection broke, was reset, or the try took too long.
    pub reset: bool,
    /// Any status from 500, and what `reset` is.
    pub five_xx: bool,
    /// 502, 503, 504, and what `reset` is.
    pub gateway_error: bool,
    /// 409.
    pub retriable_4xx: bool,
    /// Statuses by number.
    pub statuses: Vec<u16>,
    /// gRPC statuses by number that are tried again when they come without a message (in the answer's head).
    pub grpc: Vec<u16>,
}
