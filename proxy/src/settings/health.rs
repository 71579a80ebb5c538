//! How the application beside a sidecar is asked whether it is well. As Istio's WorkloadGroup has it, in words and defaults.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue};
use palisade_policy::kind::service_entry::Protocol;

use super::Serve;

/// The check of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Of each request; HTTP only.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// From the sidecar's start to the first check.
    pub initial_delay: Duration,
    /// From the beginning of a check to that of the next. Until the application was well for the first time no longer than
    /// [`Self::START_INTERVAL`].
    pub interval: Duration,
    /// One check, connecting included.
    pub timeout: Duration,
    /// Good checks in a row that make the application healthy.
    pub success_threshold: u32,
    /// Bad ones that make it unhealthy.
    pub failure_threshold: u32,
}

impl HealthCheck {
    /// Istio's.
    pub const INTERVAL: Duration = Duration::from_secs(10);
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    pub const SUCCESSES: u32 = 1;
    pub const FAILURES: u32 = 3;
    /// An application that has just been started is not kept waiting for callers.
    pub const START_INTERVAL: Duration = Duration::from_secs(1);

    /// Above, a dead application is believed for hours.
    pub(super) const INTERVALS: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_hours(1);
    /// Below, a busy host alone fails it.
    pub(super) const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(1);
    pub(super) const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);
    pub(super) const THRESHOLDS: RangeInclusive<u32> = 1..=100;

    /// Where the application is asked; `None`: nothing says at which of its ports.
    pub fn target(&self, serves: &[Serve]) -> Option<Target> {
        let first = match (self.probe.port, serves) {
            (None, [only]) => return Some(Target::of(only)),
            (None, _) => return None,
            (Some(port), serves) => serves.iter().find(|serve| serve.app.port() == port).ok_or(port),
        };
        Some(match first {
            Ok(serve) => Target::of(serve),
            Err(port) => {
                let ip = serves.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |serve| serve.app.ip());
                Target { address: SocketAddr::new(ip, port), http2: false }
            }
        })
    }
}

/// A port of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// The application hears HTTP/2 there, by the protocol of its `--serve`.
    pub http2: bool,
}

impl Target {
    fn of(serve: &Serve) -> Self {
        Self { address: serve.app, http2: matches!(serve.protocol, Protocol::Http2 | Protocol::Grpc) }
    }
}

/// `http:[PORT]/PATH`, `grpc[:[PORT][/SERVICE]]` or `tcp[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub question: Question,
    /// That the application listens on; `None`: that of its only served port.
    pub port: Option<u16>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// GET; 200 to 399 is good.
    Http(PathAndQuery),
    /// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>, of this service or, empty, of the whole server.
    Grpc(String),
    /// Whether a connection is taken.
    Tcp,
}

/// Why a text is no `--health-check` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error(
        "{0:?} is no check: write http:/PATH, grpc or tcp, with a port of the application where there are several, \
         for example http:8080/healthz"
    )]
    Kind(String),
    #[error(
        "the application is asked on loopback alone, so a port and a path are enough: write http:8080/healthz"
    )]
    Url,
    #[error("{0:?} is no path: begin it with '/', without '#', for example http:/healthz")]
    Path(String),
    #[error("{0:?} is no port: write a number from 1 to 65535, for example tcp:8080")]
    Port(String),
    #[error(
        "{0:?} is no service of gRPC: at most 253 visible characters, for example grpc:/ledger.v1.Ledger"
    )]
    Service(String),
}

impl FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let at = rest.find('/').unwrap_or(rest.len());
        let (port, behind) = rest.split_at(at);
        let question = match kind {
            "http" => Question::Http(path(behind)?),
            "grpc" => Question::Grpc(service(behind.strip_prefix('/').unwrap_or_default())?),
            "tcp" if behind.is_empty() => Question::Tcp,
            _ => return Err(ProbeError::Kind(text.into())),
        };
        let port = match port {
            "" => None,
            number => Some(read_port(number)?),
        };
        Ok(Self { question, port })
    }
}

fn read_port(text: &str) -> Result<u16, ProbeError> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| ProbeError::Port(text.into()))
}

fn path(text: &str) -> Result<PathAndQuery, ProbeError> {
    if text.starts_with("//") {
        return Err(ProbeError::Url);
    }
    let wrong = || ProbeError::Path(text.into());
    // What stands behind '#' would be dropped without a word.
    let good = text.starts_with('/') && !text.contains('#');
    let path = text.parse::<PathAndQuery>().ok().filter(|_| good);
    path.ok_or_else(wrong)
}

fn service(text: &str) -> Result<String, ProbeError> {
    let good = text.len() <= 253 && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(text.into()) } else { Err(ProbeError::Service(text.into())) }
}

impl fmt::Display for Probe {
    /// For logs and operators: without a query, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map(|port| port.to_string()).unwrap_or_default();
        match &self.question {
            Question::Http(path) => write!(f, "http:{port}{}", path.path()),
            Question::Grpc(service) if service.is_empty() && port.is_empty() => f.write_str("grpc"),
            Question::Grpc(service) if service.is_empty() => write!(f, "grpc:{port}"),
            Question::Grpc(service) => write!(f, "grpc:{port}/{service}"),
            Question::Tcp if port.is_empty() => f.write_str("tcp"),
            Question::Tcp => write!(f, "tcp:{port}"),
        }
    }
}

/// Why a text is no `--health-check-header` value. Its value is not repeated: it may be a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckHeaderError {
    #[error("it has no '=': write NAME=VALUE, for example x-check=1")]
    Form,
    #[error("{0:?} is no name of a header")]
    Name(String),
    #[error("{0} is written by the check itself; leave it out")]
    Own(HeaderName),
    #[error("the value of {0} cannot be one of that header")]
    Value(HeaderName),
}

/// Reads `NAME=VALUE`.
pub fn parse_check_header(text: &str) -> Result<(HeaderName, HeaderValue), CheckHeaderError> {
    let (name, value) = text.split_once('=').ok_or(CheckHeaderError::Form)?;
    let name: HeaderName = name.parse().map_err(|_no_name| CheckHeaderError::Name(name.into()))?;
    if [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE].contains(&name) {
        return Err(CheckHeaderError::Own(name));
    }
    let is_host = name == HOST;
    let good = value.parse::<HeaderValue>().ok().filter(|_| !is_host || value.parse::<Authority>().is_ok());
    let mut good = good.ok_or_else(|| CheckHeaderError::Value(name.clone()))?;
    good.set_sensitive(!is_host);
    Ok((name, good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read_and_shown_as_they_are_written() {
        let http = |path: &str| Question::Http(path.parse().unwrap());
        let grpc = |service: &str| Question::Grpc(service.into());
        let rows = [
            ("http:/healthz", http("/healthz"), None),
            ("http:8081/healthz", http("/healthz"), Some(8081)),
            ("grpc", grpc(""), None),
            ("grpc:9090", grpc(""), Some(9090)),
            ("grpc:/ledger.v1.Ledger", grpc("ledger.v1.Ledger"), None),
            ("grpc:9090/ledger.v1.Ledger", grpc("ledger.v1.Ledger"), Some(9090)),
            ("tcp", Question::Tcp, None),
            ("tcp:5432", Question::Tcp, Some(5432)),
        ];
        for (text, question, port) in rows {
            let probe: Probe = text.parse().unwrap();
            assert_eq!(probe, Probe { question, port }, "{text}");
            assert_eq!(probe.to_string(), text);
        }
        let secret: Probe = "http:/healthz?key=s3cret".parse().unwrap();
        assert_eq!(secret.to_string(), "http:/healthz");
    }

    #[test]
    fn refuses_near_misses_of_checks() {
        let rows = [
            ("", "is no check"),
            ("/healthz", "is no check"),
            ("https:/healthz", "is no check"),
            ("HTTP:/healthz", "is no check"),
            ("http", "is no path"),
            ("http:8080", "is no path"),
            ("http:/a b", "is no path"),
            ("http:/a#b", "is no path"),
            ("http://127.0.0.1:8080/healthz", "http:8080/healthz"),
            ("http:0/healthz", "is no port"),
            ("http:65536/healthz", "is no port"),
            ("grpc:ledger", "is no port"),
            ("grpc:/a b", "is no service"),
            ("tcp:/", "is no check"),
            ("tcp:http", "is no port"),
        ];
        for (text, part) in rows {
            let error = text.parse::<Probe>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn headers_of_checks_are_read_and_their_values_not_repeated() {
        assert_eq!(
            parse_check_header("X-Check=a=b").unwrap(),
            ("x-check".parse().unwrap(), "a=b".parse().unwrap())
        );
        assert_eq!(parse_check_header("host=ledger.local").unwrap().1, "ledger.local");
        assert!(
            format!("{:?}", parse_check_header("authorization=Basic s3cret").unwrap()).contains("Sensitive")
        );
        let rows = [
            ("x-check", "NAME=VALUE"),
            ("x check=s3cret", "is no name"),
            ("=s3cret", "is no name"),
            ("content-length=3", "by the check itself"),
            ("x-check=s3cret\n", "x-check"),
            ("host=s3cret s3cret", "host"),
        ];
        for (text, part) in rows {
            let error = parse_check_header(text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_application_is_asked_at_its_only_port_or_the_one_that_is_named() {
        let serve = |text: &str| Serve::parse(text).unwrap();
        let (http, grpc) = (serve("8080,app=[::1]:9000"), serve("9090,protocol=grpc"));
        let ask = |probe: &str, serves: &[Serve]| {
            let probe = probe.parse().unwrap();
            let check = HealthCheck {
                probe,
                headers: Vec::new(),
                initial_delay: Duration::ZERO,
                interval: HealthCheck::INTERVAL,
                timeout: HealthCheck::TIMEOUT,
                success_threshold: 1,
                failure_threshold: 1,
            };
            check.target(serves).map(|target| (target.address.to_string(), target.http2))
        };
        let at = |address: &str, http2| Some((address.to_owned(), http2));
        let rows: [(&str, Vec<Serve>, _); 7] = [
            ("tcp", vec![http.clone()], at("[::1]:9000", false)),
            ("http:/", vec![grpc.clone()], at("127.0.0.1:9090", true)),
            ("http:/", vec![http.clone(), grpc.clone()], None),
            ("http:9090/", vec![http.clone(), grpc.clone()], at("127.0.0.1:9090", true)),
            ("http:7000/", vec![http, grpc], at("[::1]:7000", false)),
            ("http:7000/", vec![], at("127.0.0.1:7000", false)),
            ("tcp", vec![], None),
        ];
        for (probe, serves, expected) in rows {
            assert_eq!(ask(probe, &serves), expected, "{probe}");
        }
    }
}
