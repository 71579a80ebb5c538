//! Options that are more than one word: `--serve`, `--outbound-port`, `--label`, durations.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use palisade_policy::kind::service_entry::Protocol;

use super::{LocalPort, Serve, defaults};

/// Why a text is no `--serve` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error(
        "{0:?} is no port: write a number from 1 to 65535, then options, for example \"8080,protocol=grpc\""
    )]
    Port(String),
    #[error("{0:?} is no option of --serve: write name=, protocol=, listen= or app=, separated by commas")]
    Option(String),
    #[error("{0}= is written twice in one --serve")]
    Twice(&'static str),
    #[error("{0:?} is no port name: 1 to 63 lower-case letters, digits and '-'")]
    Name(String),
    #[error("{0:?} is no protocol: write http, http2, grpc or tcp")]
    Protocol(String),
    #[error(
        "{value:?} is no value for {option}=: write an IP address and a port, for example 127.0.0.1:8080"
    )]
    Address { option: &'static str, value: String },
}

/// Why a text is no `--outbound-port` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalPortError {
    #[error("{0:?} has no '=': write LISTEN=HOST:PORT, for example 127.0.0.1:9001=ledger.payments:8080")]
    NoDestination(String),
    #[error("{0:?} is no address to listen on: write an IP address and a port, for example 127.0.0.1:9001")]
    Listen(String),
    #[error("{0:?} is no destination: write HOST:PORT, for example ledger.payments:8080")]
    Destination(String),
}

/// Why a text is no `--label` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no label: write KEY=VALUE of letters, digits, '.', '-', '_' and '/', for example app=ledger"
)]
pub struct LabelError(String);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write a whole number and ms, s, m or h, for example 500ms or 20s")]
pub struct DurationError(String);

impl Serve {
    /// Reads `PORT[,name=NAME][,protocol=http|http2|grpc|tcp][,listen=IP:PORT][,app=IP:PORT]`.
    pub fn parse(text: &str) -> Result<Self, ServeError> {
        let mut parts = text.split(',');
        let number = parts.next().unwrap_or_default();
        let port = number.parse().ok().filter(|port| *port != 0).ok_or(ServeError::Port(number.into()))?;
        let (mut name, mut protocol, mut listen, mut app) = (None, None, None, None);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| ServeError::Option(part.into()))?;
            match key {
                "name" => once("name", &mut name, port_name(value)?)?,
                "protocol" => once("protocol", &mut protocol, read_protocol(value)?)?,
                "listen" => once("listen", &mut listen, address("listen", value)?)?,
                "app" => once("app", &mut app, address("app", value)?)?,
                _ => return Err(ServeError::Option(key.into())),
            }
        }
        let protocol = protocol.unwrap_or_default();
        Ok(Self {
            name: name.unwrap_or_else(|| protocol_name(protocol).into()),
            port,
            protocol,
            listen: listen.unwrap_or(defaults::INBOUND),
            app: app.unwrap_or_else(|| defaults::app(port)),
        })
    }
}

impl FromStr for Serve {
    type Err = ServeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn once<T>(option: &'static str, slot: &mut Option<T>, value: T) -> Result<(), ServeError> {
    match slot.replace(value) {
        Some(_) => Err(ServeError::Twice(option)),
        None => Ok(()),
    }
}

fn port_name(text: &str) -> Result<String, ServeError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.into())
    } else {
        Err(ServeError::Name(text.into()))
    }
}

fn read_protocol(text: &str) -> Result<Protocol, ServeError> {
    [Protocol::Http, Protocol::Http2, Protocol::Grpc, Protocol::Tcp]
        .into_iter()
        .find(|protocol| protocol_name(*protocol) == text)
        .ok_or_else(|| ServeError::Protocol(text.into()))
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    }
}

fn address(option: &'static str, text: &str) -> Result<SocketAddr, ServeError> {
    text.parse().map_err(|_no_address| ServeError::Address { option, value: text.into() })
}

impl LocalPort {
    /// Reads `LISTEN=HOST:PORT`.
    pub fn parse(text: &str) -> Result<Self, LocalPortError> {
        let (listen, destination) =
            text.split_once('=').ok_or_else(|| LocalPortError::NoDestination(text.into()))?;
        let listen = listen.parse().map_err(|_no_address| LocalPortError::Listen(listen.into()))?;
        let (host, port) =
            host_and_port(destination).ok_or_else(|| LocalPortError::Destination(destination.into()))?;
        Ok(Self { listen, host: host.to_ascii_lowercase(), port })
    }
}

impl FromStr for LocalPort {
    type Err = LocalPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Splits `host:port`; an IPv6 address stands in brackets. The host is a DNS name or an address, the port not 0.
pub(super) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let ipv6 = || {
        let inner = host.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<std::net::Ipv6Addr>().ok()
    };
    let good = (1..=253).contains(&host.len()) && (host.bytes().all(name) || ipv6().is_some());
    good.then_some((host, port))
}

/// Reads `KEY=VALUE`.
pub fn parse_label(text: &str) -> Result<(String, String), LabelError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    let good = |part: &str, min: usize| (min..=253).contains(&part.len()) && part.bytes().all(allowed);
    match text.split_once('=') {
        Some((key, value)) if good(key, 1) && good(value, 0) => Ok((key.into(), value.into())),
        _ => Err(LabelError(text.into())),
    }
}

/// Reads a whole number and a unit: `500ms`, `20s`, `5m`, `1h`. A number alone has no meaning here.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError(text.into());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u32 = number.parse().map_err(|_no_number| refused())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err(refused()),
    };
    unit.checked_mul(number).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_port_has_defaults() {
        let serve = Serve::parse("8080").unwrap();
        let expected = Serve {
            name: "http".into(),
            port: 8080,
            protocol: Protocol::Http,
            listen: "0.0.0.0:15006".parse().unwrap(),
            app: "127.0.0.1:8080".parse().unwrap(),
        };
        assert_eq!(serve, expected);
    }

    #[test]
    fn a_served_port_takes_every_option_in_any_order() {
        let serve = Serve::parse("8080,app=[::1]:9000,listen=10.0.0.1:0,protocol=grpc,name=api-1").unwrap();
        let expected = Serve {
            name: "api-1".into(),
            port: 8080,
            protocol: Protocol::Grpc,
            listen: "10.0.0.1:0".parse().unwrap(),
            app: "[::1]:9000".parse().unwrap(),
        };
        assert_eq!(serve, expected);
        assert_eq!(Serve::parse("1,protocol=tcp").unwrap().name, "tcp");
    }

    #[test]
    fn refuses_wrong_served_ports() {
        let rows = [
            ("", ServeError::Port(String::new())),
            ("0", ServeError::Port("0".into())),
            ("65536", ServeError::Port("65536".into())),
            ("http", ServeError::Port("http".into())),
            (" 80", ServeError::Port(" 80".into())),
            ("80,", ServeError::Option(String::new())),
            ("80,grpc", ServeError::Option("grpc".into())),
            ("80,protokol=grpc", ServeError::Option("protokol".into())),
            ("80,protocol=GRPC", ServeError::Protocol("GRPC".into())),
            ("80,name=a,name=b", ServeError::Twice("name")),
            ("80,name=", ServeError::Name(String::new())),
            ("80,name=A", ServeError::Name("A".into())),
            ("80,app=localhost:1", ServeError::Address { option: "app", value: "localhost:1".into() }),
            ("80,listen=:1", ServeError::Address { option: "listen", value: ":1".into() }),
        ];
        for (text, error) in rows {
            assert_eq!(Serve::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn reads_local_ports_and_refuses_near_misses() {
        let port = LocalPort::parse("127.0.0.1:9001=Ledger.payments:8080").unwrap();
        assert_eq!((port.host.as_str(), port.port), ("ledger.payments", 8080));
        assert_eq!(LocalPort::parse("[::1]:0=[::2]:1").unwrap().host, "[::2]");
        let rows = [
            ("127.0.0.1:9001", "has no '='"),
            ("9001=a:1", "no address"),
            ("127.0.0.1:9001=a", "no destination"),
            ("127.0.0.1:9001=a:0", "no destination"),
            ("127.0.0.1:9001=:1", "no destination"),
            ("127.0.0.1:9001=a b:1", "no destination"),
            ("127.0.0.1:9001=http://a:1", "no destination"),
            ("127.0.0.1:9001=[x]:1", "no destination"),
        ];
        for (text, part) in rows {
            let error = LocalPort::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn reads_labels_and_durations() {
        assert_eq!(parse_label("app=ledger").unwrap(), ("app".into(), "ledger".into()));
        assert_eq!(parse_label("a=").unwrap().1, "");
        for text in ["app", "=x", "a b=c", "a=b=c", ""] {
            assert!(parse_label(text).is_err(), "{text:?}");
        }
        let rows = [("500ms", 500), ("20s", 20_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in rows {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "20", "s", "1.5s", "-1s", "1 s", "1d", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
