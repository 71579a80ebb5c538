use std::net::SocketAddr;
use std::time::Duration;

use palisade_proxy::Settings;
use palisade_proxy::settings::limits::Limits;
use palisade_proxy::settings::{AdaptiveConcurrency, LocalPort, Serve, parse_duration};

use super::caps::Caps;
use super::data_plane::{self, FromControlPlane, FromFiles, Running, source};
use super::health::Health;
use super::traces::{Traces, environment};
use crate::exit::{Failure, Outcome};

/// Run a sidecar: mutual TLS and policy in front of one service.
///
/// Identity and policy come from a control plane, or from files (--policies).
#[derive(Debug, clap::Args)]
pub(crate) struct Proxy {
    #[command(flatten)]
    control_plane: FromControlPlane,
    #[command(flatten)]
    files: FromFiles,
    #[command(flatten)]
    listeners: Listeners,
    #[command(flatten)]
    health: Health,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    caps: Caps,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    traces: Traces,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load of the application")]
struct Load {
    /// Find out how many requests the application keeps up with, and turn away what comes on top, with 503 and before it is
    /// asked: each --serve that is not tcp for itself, never fewer than MIN at once, never more than MAX. Without bounds:
    /// 3-1000 [default: as many as come].
    #[arg(long, env = "PALISADE_ADAPTIVE_CONCURRENCY", value_name = "MIN-MAX", num_args = 0..=1,
          default_missing_value = "3-1000")]
    adaptive_concurrency: Option<AdaptiveConcurrency>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listeners")]
struct Listeners {
    /// A port of the application to take calls for:
    /// PORT[,name=NAME][,protocol=http|http2|grpc|tcp][,listen=IP:PORT][,app=IP:PORT].
    /// May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_SERVE", value_name = "PORT[,...]", value_delimiter = ';')]
    serve: Vec<Serve>,
    /// Where the application finds its HTTP_PROXY; loopback. Without an address: 127.0.0.1:15001
    /// [default: none, because whoever reaches it calls with this workload's identity].
    #[arg(long, env = "PALISADE_OUTBOUND_PROXY", value_name = "IP:PORT", num_args = 0..=1,
          default_missing_value = "127.0.0.1:15001")]
    outbound_proxy: Option<SocketAddr>,
    /// A local port that leads to one service, for example 127.0.0.1:9001=ledger.payments:8080.
    /// May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_OUTBOUND_PORT", value_name = "LISTEN=HOST:PORT", value_delimiter = ';')]
    outbound_port: Vec<LocalPort>,
    /// How long a connection of protocol tcp may carry no byte either way.
    #[arg(long, env = "PALISADE_TCP_IDLE_TIMEOUT", value_name = "TIME", default_value = "1h",
          value_parser = parse_duration)]
    tcp_idle_timeout: Duration,
    /// How long a stream (an answer that has begun, a call of gRPC, a tunnel) may carry no byte either way.
    #[arg(long, env = "PALISADE_STREAM_IDLE_TIMEOUT", value_name = "TIME", default_value = "1h",
          value_parser = parse_duration)]
    stream_idle_timeout: Duration,
}

impl Proxy {
    pub(crate) fn run(self) -> Outcome {
        data_plane::run(self.settings()?)
    }

    fn settings(self) -> Result<Settings, Failure> {
        let Listeners { serve, outbound_proxy, outbound_port, tcp_idle_timeout, stream_idle_timeout } =
            self.listeners;
        let limits = Limits { tcp_idle_timeout, stream_idle_timeout, ..self.caps.over(Limits::default()) };
        let settings = self.running.settings(source(self.control_plane, self.files)?, limits);
        let trace = self.traces.settings(&environment)?;
        let health = self.health.settings();
        Ok(Settings {
            serves: serve,
            health,
            adaptive_concurrency: self.load.adaptive_concurrency,
            outbound_proxy,
            outbound_ports: outbound_port,
            trace,
            ..settings
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use palisade_proxy::settings::health::HealthCheck;
    use palisade_proxy::settings::{JoinTokenSource, Source, defaults};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        proxy: Proxy,
    }

    fn read(words: &str) -> Result<Settings, String> {
        let line = Line::try_parse_from(format!("proxy {words}").split(' ').filter(|w| !w.is_empty()));
        line.map_err(|e| e.to_string())?.proxy.settings().map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn reads_a_sidecar_with_a_control_plane() {
        let settings = read(
            "--control-plane mesh:15012 --join-token T --serve 8080,name=http --serve 9090,protocol=grpc \
             --outbound-port 127.0.0.1:9001=ledger.fintech:8080 --drain-deadline 5m --outbound-proxy --advertise 10.0.0.1",
        )
        .unwrap();
        assert_eq!(settings.serves.iter().map(|s| s.port).collect::<Vec<_>>(), [8080, 9090]);
        assert_eq!(settings.outbound_ports[0].host, "ledger.fintech");
        assert_eq!(settings.outbound_proxy, Some(defaults::OUTBOUND_PROXY));
        assert_eq!(settings.drain.deadline, Duration::from_mins(5));
        let Source::ControlPlane { address, join_token, advertise, .. } = settings.source else { panic!() };
        assert_eq!((address.as_str(), advertise), ("mesh:15012", Some("10.0.0.1".parse().unwrap())));
        assert!(matches!(join_token, Some(JoinTokenSource::Text(t)) if t == "T"));
    }

    #[test]
    fn an_adaptive_limit_has_bounds_unless_others_are_given() {
        let bounds = |words: &str| {
            read(&format!("--control-plane a:1 --serve 8080 {words}")).unwrap().adaptive_concurrency
        };
        assert_eq!(bounds(""), None);
        assert_eq!(bounds("--adaptive-concurrency"), Some(AdaptiveConcurrency::DEFAULT));
        assert_eq!(bounds("--adaptive-concurrency 5-50"), Some(AdaptiveConcurrency { min: 5, max: 50 }));
    }

    #[test]
    fn a_health_check_has_istios_defaults_and_takes_every_option() {
        assert_eq!(read("--control-plane a:1 --serve 8080").unwrap().health, None);
        let plain =
            read("--control-plane a:1 --serve 8080 --health-check http:/healthz").unwrap().health.unwrap();
        assert_eq!(plain.probe.to_string(), "http:/healthz");
        assert_eq!((plain.interval, plain.timeout), (HealthCheck::INTERVAL, HealthCheck::TIMEOUT));
        assert_eq!(
            (plain.initial_delay, plain.success_threshold, plain.failure_threshold),
            (Duration::ZERO, 1, 3)
        );
        let full = read(
            "--control-plane a:1 --serve 8080 --health-check http:8081/healthz --health-check-header host=a;x-b=c \
             --health-check-initial-delay 5s --health-check-interval 2s --health-check-timeout 500ms \
             --health-check-success-threshold 2 --health-check-failure-threshold 4",
        )
        .unwrap()
        .health
        .unwrap();
        assert_eq!(
            (full.headers.len(), full.initial_delay, full.interval),
            (2, Duration::from_secs(5), Duration::from_secs(2))
        );
        assert_eq!(
            (full.timeout, full.success_threshold, full.failure_threshold),
            (Duration::from_millis(500), 2, 4)
        );
    }

    #[test]
    fn reads_a_sidecar_from_files() {
        let settings = read(
            "--policies p --svid s.pem --svid-key k.pem --roots r.pem --label app=ledger;tier=1 \
             --serve 8080",
        )
        .unwrap();
        assert_eq!(settings.outbound_proxy, None);
        let Source::Files { labels, .. } = settings.source else { panic!() };
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [("app".to_owned(), "ledger".to_owned()), ("tier".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn refuses_lines_that_do_not_fit_together() {
        let rows = [
            ("", "--control-plane"),
            ("--control-plane a:1 --policies p", "cannot be used with"),
            ("--policies p", "--svid"),
            ("--join-token t", "--control-plane"),
            ("--control-plane a:1 --join-token t --join-token-file f", "cannot be used with"),
            ("--control-plane a:1 --label a=b", "cannot be used with"),
            ("--control-plane a:1 --serve http", "is no port"),
            ("--control-plane a:1 --serve 80,protocol=GRPC", "is no protocol"),
            ("--control-plane a:1 --drain-delay 5", "is no duration"),
            ("--control-plane a:1 --outbound-port 9001", "has no '='"),
            ("--control-plane a:1 --admin localhost", "--admin"),
            ("--control-plane a:1 --health-check /healthz", "is no check"),
            ("--control-plane a:1 --health-check-interval 5s", "--health-check <CHECK>"),
            ("--control-plane a:1 --health-check tcp --health-check-header x", "NAME=VALUE"),
        ];
        for (words, part) in rows {
            let error = read(words).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
