//! What is to happen, and to which requests, as it is written on a command line.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use palisade_policy::experiment::DelayLength;
use palisade_policy::kind::fault_experiment::{FaultSpec, ResponseFault, SlowBody};
use palisade_policy::kind::virtual_service::fault::AbortStatus;
use palisade_policy::kind::virtual_service::percent;
use palisade_proxy::settings::parse_duration;

/// Which of the calls.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which requests")]
pub(super) struct Requests {
    /// Ports of the services [default: all]. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_PORT", value_name = "PORT", value_delimiter = ';',
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Vec<u16>,
    /// [default: all]. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_METHOD", value_name = "METHOD", value_delimiter = ';')]
    pub(super) method: Vec<String>,
    /// As rules write them: /transfers, /transfers/*, /accounts/{*}/balance [default: all]. May be repeated; `;` separates
    /// several in the variable.
    #[arg(long, env = "PALISADE_PATH", value_name = "PATH", value_delimiter = ';')]
    pub(super) path: Vec<String>,
    /// Only requests that bring this header with exactly this value: for a single test request. May be repeated; `;` separates
    /// several in the variable.
    #[arg(long, env = "PALISADE_HEADER", value_name = "NAME=VALUE", value_delimiter = ';', value_parser = parse_header)]
    pub(super) header: Vec<(HeaderName, HeaderValue)>,
    /// The share of these requests, 0 to 100 with up to four decimals.
    #[arg(long, env = "PALISADE_PERCENT", value_name = "PERCENT", default_value = "100", value_parser = parse_percent)]
    pub(super) percent: String,
    /// At once in each proxy, 1 to 10000; what is over goes on unharmed [default: 100].
    #[arg(long, env = "PALISADE_MAX_ACTIVE", value_name = "N")]
    pub(super) max_active: Option<u64>,
}

/// What happens to them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What happens")]
#[group(required = true, multiple = true)]
pub(super) struct Faults {
    /// They wait before they are sent: 2s, or 1s..3s for any length between, or exponential:500ms..5s for that mean and that
    /// maximum.
    #[arg(long, env = "PALISADE_DELAY", value_name = "TIME", value_parser = parse_delay)]
    delay: Option<DelayLength>,
    /// They are answered with this status of HTTP, and not sent.
    #[arg(long, env = "PALISADE_ABORT", value_name = "STATUS", conflicts_with = "abort_grpc")]
    abort: Option<u16>,
    /// They are answered with this status of gRPC, for example UNAVAILABLE, and not sent.
    #[arg(long, env = "PALISADE_ABORT_GRPC", value_name = "NAME")]
    abort_grpc: Option<String>,
    /// They fail as if the connection broke, and are not sent.
    #[arg(long, env = "PALISADE_RESET")]
    reset: bool,
    /// The service processes them, and its answer is lost: the case in which a payment comes twice.
    #[arg(long, env = "PALISADE_DROP_RESPONSE")]
    drop_response: bool,
    /// The body of the answer breaks off after so many bytes.
    #[arg(long, env = "PALISADE_TRUNCATE", value_name = "BYTES")]
    truncate: Option<u64>,
    /// The body of the answer pauses after every so many bytes: 1024/200ms.
    #[arg(long, env = "PALISADE_SLOW_BODY", value_name = "BYTES/PAUSE", value_parser = parse_slow)]
    slow_body: Option<SlowBody>,
    /// The body of the answer comes with so many bytes in a second.
    #[arg(long, env = "PALISADE_BANDWIDTH", value_name = "BYTES")]
    bandwidth: Option<u64>,
}

impl Faults {
    pub(super) fn spec(&self) -> FaultSpec {
        let abort = self.abort.map(AbortStatus::Http);
        FaultSpec {
            delay: self.delay,
            abort: abort.or_else(|| self.abort_grpc.clone().map(AbortStatus::Grpc)),
            reset: self.reset,
            response: ResponseFault {
                drop: self.drop_response,
                truncate_after: self.truncate,
                slow: self.slow_body.clone(),
                bandwidth: self.bandwidth,
            },
        }
    }
}

fn parse_delay(text: &str) -> Result<DelayLength, String> {
    let two = |text: &str| -> Result<[Duration; 2], String> {
        let (low, high) = text.split_once("..").ok_or("write the two times as 500ms..5s")?;
        Ok([time(low)?, time(high)?])
    };
    if let Some(rest) = text.strip_prefix("exponential:") {
        return two(rest).map(|[mean, max]| DelayLength::Exponential { mean, max });
    }
    match text.contains("..") {
        true => two(text).map(|[min, max]| DelayLength::Uniform { min, max }),
        false => time(text).map(DelayLength::Fixed),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn parse_slow(text: &str) -> Result<SlowBody, String> {
    let (bytes, pause) = text.split_once('/').ok_or("write bytes and pause as 1024/200ms")?;
    let every_bytes = bytes.parse().map_err(|_no| format!("{bytes:?} is no number of bytes"))?;
    Ok(SlowBody { every_bytes, pause: time(pause)? })
}

fn parse_percent(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('%').unwrap_or(text);
    match percent(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a share is 0 to 100, with up to four decimals".to_owned()),
    }
}

/// `NAME=VALUE`, or `NAME: VALUE` as `palisade explain` takes it.
fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(['=', ':']).ok_or("a header is written NAME=VALUE")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_no| format!("{name:?} is no header name"))?;
    let value = value.trim();
    let parsed = HeaderValue::from_str(value).ok().filter(|value| value.to_str().is_ok());
    parsed.map(|value| (name, value)).ok_or_else(|| format!("{value:?} cannot be a header's value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_fixed_or_drawn() {
        let ms = Duration::from_millis;
        assert_eq!(parse_delay("2s"), Ok(DelayLength::Fixed(ms(2000))));
        assert_eq!(parse_delay("1s..3s"), Ok(DelayLength::Uniform { min: ms(1000), max: ms(3000) }));
        let exponential = DelayLength::Exponential { mean: ms(500), max: ms(5000) };
        assert_eq!(parse_delay("exponential:500ms..5s"), Ok(exponential));
        for wrong in ["", "2", "1s..", "..3s", "1s..2", "exponential:5s", "expo:1s..2s", "1s...3s"] {
            assert!(parse_delay(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bodies_are_slowed_by_bytes_and_pauses() {
        let slow = SlowBody { every_bytes: 1024, pause: Duration::from_millis(200) };
        assert_eq!(parse_slow("1024/200ms"), Ok(slow));
        for wrong in ["", "1024", "1024/", "/200ms", "1k/200ms", "-1/200ms"] {
            assert!(parse_slow(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_and_shares_are_read_before_anybody_is_asked() {
        let header = parse_header("X-Fault-Test=a=b").map(|(name, value)| (name.to_string(), value));
        assert_eq!(header, Ok(("x-fault-test".to_owned(), HeaderValue::from_static("a=b"))));
        assert_eq!(parse_header("x-fault-test: abc").unwrap().1, "abc");
        assert!(parse_header("x-fault-test").is_err() && parse_header("a b=c").is_err());
        assert_eq!(parse_percent("12.5%"), Ok("12.5".to_owned()));
        for wrong in ["", "%", "101", "-1", "50%%", "1e1", "50}, maxActive: {"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
