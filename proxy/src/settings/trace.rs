//! Where traces go, and how many.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Uri};

/// Where OTLP is sent to over HTTP, below a base URL.
const TRACES_PATH: &str = "/v1/traces";

/// Traces that are exported. Without these settings nothing of a request is looked at for their sake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    pub collector: Collector,
    /// Of the requests that come without a trace.
    pub sample: SampleRatio,
    /// `service.name`. `None`: `SERVICE-ACCOUNT.NAMESPACE`, as Istio has it.
    pub service_name: Option<String>,
    /// Further attributes of the resource.
    pub attributes: Vec<(String, String)>,
}

impl TraceSettings {
    /// To this receiver, by the defaults of all else.
    pub fn to(endpoint: OtlpEndpoint) -> Self {
        Self {
            collector: Collector {
                protocol: OtlpProtocol::default(),
                endpoint,
                headers: Vec::new(),
                ca: None,
            },
            sample: SampleRatio::DEFAULT,
            service_name: None,
            attributes: Vec::new(),
        }
    }
}

/// An OTLP receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct Collector {
    pub protocol: OtlpProtocol,
    pub endpoint: OtlpEndpoint,
    /// Sent with every export; values are secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// PEM roots that the receiver is checked against. `None`: those of the system.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("Collector");
        shown.field("protocol", &self.protocol).field("endpoint", &self.endpoint.to_string());
        shown.field("headers", &names).field("ca", &self.ca).finish()
    }
}

/// As in `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    #[default]
    HttpProtobuf,
    Grpc,
}

/// Why a text is no `--otlp-protocol` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no protocol of OTLP that is spoken here: write http/protobuf or grpc")]
pub struct OtlpProtocolError(String);

impl FromStr for OtlpProtocol {
    type Err = OtlpProtocolError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "http/protobuf" => Ok(Self::HttpProtobuf),
            "grpc" => Ok(Self::Grpc),
            _ => Err(OtlpProtocolError(text.into())),
        }
    }
}

/// `http://HOST[:PORT][/PATH]`, or `https://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// As written, without a slash at its end; empty for none.
    pub path: String,
}

/// Why a text is no `--otlp-endpoint` value. It is not repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtlpEndpointError {
    #[error("it begins with http:// or https://, for example http://127.0.0.1:4318")]
    Scheme,
    #[error("it holds a user or a password; give credentials by OTEL_EXPORTER_OTLP_HEADERS")]
    Credentials,
    #[error("it is no URL with a host, for example http://127.0.0.1:4318")]
    Url,
    #[error("it has a query, which OTLP has no use for")]
    Query,
}

impl OtlpEndpoint {
    /// Where spans are posted to: `/v1/traces` below a base.
    #[must_use]
    pub fn below_base(mut self) -> Self {
        self.path.push_str(TRACES_PATH);
        self
    }

    /// The same for a URL without a path; one with a path is taken as it is.
    #[must_use]
    pub fn or_below_base(self) -> Self {
        if self.path.is_empty() { self.below_base() } else { self }
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl FromStr for OtlpEndpoint {
    type Err = OtlpEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_invalid| OtlpEndpointError::Url)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(OtlpEndpointError::Scheme),
        };
        let authority = uri.authority().ok_or(OtlpEndpointError::Url)?;
        if authority.as_str().contains('@') {
            return Err(OtlpEndpointError::Credentials);
        }
        if uri.query().is_some() {
            return Err(OtlpEndpointError::Query);
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            // A colon, and no number behind it that is a port.
            None if authority.as_str() != authority.host() => return Err(OtlpEndpointError::Url),
            None if tls => 443,
            None => 80,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() || port == 0 {
            return Err(OtlpEndpointError::Url);
        }
        Ok(Self { tls, host, port, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A part of all requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRatio(u32);

const WHOLE: u32 = 1_000_000;

/// Why a text is no `--trace-sample` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part of all requests: write a number from 0 to 1, or per cent, for example 0.01 or 1%")]
pub struct SampleRatioError(String);

impl SampleRatio {
    /// As in Istio: 1 %.
    pub const DEFAULT: Self = Self(WHOLE / 100);

    /// Whether a new trace of this id is sampled. By the 56 bits that W3C Trace Context level 2 has random, and as
    /// OpenTelemetry's samplers read them: whoever else goes by the same ratio comes to the same answer.
    pub fn takes(self, trace_id: u128) -> bool {
        const BITS: u32 = 56;
        let random = trace_id & ((1 << BITS) - 1);
        let rejected = (u128::from(WHOLE - self.0) << BITS) / u128::from(WHOLE);
        random >= rejected
    }
}

impl FromStr for SampleRatio {
    type Err = SampleRatioError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || SampleRatioError(text.into());
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(refused());
        }
        let ratio: f64 = number.parse().map_err(|_no_number| refused())?;
        if !(0.0..=whole).contains(&ratio) {
            return Err(refused());
        }
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 0 and a million"
        )]
        let millionths = (ratio / whole * f64::from(WHOLE)).round() as u32;
        Ok(Self(millionths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_of_receivers() {
        let rows = [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            (
                "http://Otel.corp.example/",
                "http://otel.corp.example:80",
                "http://otel.corp.example:80/v1/traces",
            ),
            ("https://otel.example", "https://otel.example:443", "https://otel.example:443/v1/traces"),
            ("http://[::1]:4317", "http://[::1]:4317", "http://[::1]:4317/v1/traces"),
            (
                "https://o.example/in/v1/traces",
                "https://o.example:443/in/v1/traces",
                "https://o.example:443/in/v1/traces",
            ),
        ];
        for (text, shown, posted) in rows {
            let endpoint: OtlpEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(endpoint.or_below_base().to_string(), posted);
        }
        let base: OtlpEndpoint = "https://o.example/in/".parse().unwrap();
        assert_eq!(base.below_base().path, "/in/v1/traces");
    }

    #[test]
    fn refuses_what_is_no_address_and_never_repeats_a_password() {
        let rows = [
            ("127.0.0.1:4318", OtlpEndpointError::Scheme),
            ("collector", OtlpEndpointError::Scheme),
            ("grpc://collector:4317", OtlpEndpointError::Scheme),
            ("/v1/traces", OtlpEndpointError::Scheme),
            ("http://", OtlpEndpointError::Url),
            ("", OtlpEndpointError::Url),
            ("http://collector:0", OtlpEndpointError::Url),
            ("http://collector:99999", OtlpEndpointError::Url),
            ("http://me:secret@collector:4318", OtlpEndpointError::Credentials),
            ("http://collector:4318/?key=secret", OtlpEndpointError::Query),
        ];
        for (text, error) in rows {
            let refused = text.parse::<OtlpEndpoint>().unwrap_err();
            assert!(!refused.to_string().contains("secret"));
            assert_eq!(refused, error, "{text:?}");
        }
    }

    #[test]
    fn reads_ratios_and_per_cent_and_nothing_that_could_be_either() {
        let rows =
            [("0", 0), ("1", WHOLE), ("0.01", 10_000), ("1%", 10_000), ("100%", WHOLE), ("0.5%", 5_000)];
        for (text, millionths) in rows {
            assert_eq!(text.parse(), Ok(SampleRatio(millionths)), "{text}");
        }
        for text in ["", "%", "-0.1", "1.01", "101%", "NaN", "inf", "half", "0,5", "+1", ".5"] {
            assert_eq!(text.parse::<SampleRatio>(), Err(SampleRatioError(text.into())));
        }
    }

    #[test]
    fn a_ratio_takes_its_part_of_trace_ids() {
        let all: SampleRatio = "1".parse().unwrap();
        let none: SampleRatio = "0".parse().unwrap();
        let half: SampleRatio = "50%".parse().unwrap();
        let edge = 1_u128 << 55;
        for id in [1, edge - 1, edge, u128::MAX] {
            assert!(all.takes(id) && !none.takes(id), "{id:x}");
        }
        assert!(!half.takes(edge - 1) && half.takes(edge), "the least of the upper half");
        assert!(!half.takes(u128::MAX << 56), "bits above the 56 have no say");
    }

    #[test]
    fn values_of_headers_are_never_shown() {
        let collector = Collector {
            protocol: OtlpProtocol::Grpc,
            endpoint: "http://127.0.0.1:4317".parse().unwrap(),
            headers: vec![("x-key".parse().unwrap(), HeaderValue::from_static("hush"))],
            ca: None,
        };
        let shown = format!("{collector:?}");
        assert!(shown.contains("x-key") && !shown.contains("hush"), "{shown}");
    }
}
