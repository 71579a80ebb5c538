use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use palisade_proxy::Settings;
use palisade_proxy::settings::{
    DrainSettings, JoinTokenSource, LocalPort, Serve, Source, defaults, parse_duration, parse_label,
};

use crate::exit::{self, Failure, Outcome};

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
    /// Decision records, one JSON line per request [default: stdout].
    #[arg(long, env = "PALISADE_ACCESS_LOG", value_name = "FILE", help_heading = "Running")]
    access_log: Option<PathBuf>,
    /// Threads that carry traffic [default: one per core].
    #[arg(long, env = "PALISADE_WORKERS", value_name = "N", help_heading = "Running")]
    workers: Option<usize>,
    /// At SIGTERM: from withdrawal to the end of accepting.
    #[arg(long, env = "PALISADE_DRAIN_DELAY", value_name = "TIME", default_value = "1s",
          value_parser = parse_duration, help_heading = "Running")]
    drain_delay: Duration,
    /// At SIGTERM: how long requests in flight may take before they are cut.
    #[arg(long, env = "PALISADE_DRAIN_DEADLINE", value_name = "TIME", default_value = "20s",
          value_parser = parse_duration, help_heading = "Running")]
    drain_deadline: Duration,
    /// Written when all listeners are bound: their addresses as JSON, so that every port may be 0.
    #[arg(long, env = "PALISADE_READY_FILE", value_name = "FILE", help_heading = "Running")]
    ready_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With a control plane")]
struct FromControlPlane {
    /// The control plane.
    #[arg(long, env = "PALISADE_CONTROL_PLANE", value_name = "HOST:PORT", required_unless_present = "policies",
          conflicts_with_all = ["policies", "svid", "svid_key", "roots", "label"])]
    control_plane: Option<String>,
    /// Proves the workload at its first start. Other users of this host can read a command line: better the
    /// variable or a file.
    #[arg(
        long,
        env = "PALISADE_JOIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        conflicts_with = "join_token_file",
        requires = "control_plane"
    )]
    join_token: Option<String>,
    /// The same, from a file.
    #[arg(long, env = "PALISADE_JOIN_TOKEN_FILE", value_name = "FILE", requires = "control_plane")]
    join_token_file: Option<PathBuf>,
    /// Keeps key, certificate and the last good snapshot, so that a restart needs no control plane
    /// [default: kept in memory only].
    #[arg(long, env = "PALISADE_STATE_DIR", value_name = "DIR", requires = "control_plane")]
    state_dir: Option<PathBuf>,
    /// The address other sidecars reach this host by [default: the local address of the connection to the
    /// control plane].
    #[arg(long, env = "PALISADE_ADVERTISE", value_name = "IP", requires = "control_plane")]
    advertise: Option<IpAddr>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "From files")]
struct FromFiles {
    /// Directory of policy documents.
    #[arg(long, env = "PALISADE_POLICIES", value_name = "DIR", requires_all = ["svid", "svid_key", "roots"])]
    policies: Option<PathBuf>,
    /// The workload's certificate, then intermediates, PEM.
    #[arg(long, env = "PALISADE_SVID", value_name = "FILE", requires = "policies")]
    svid: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, env = "PALISADE_SVID_KEY", value_name = "FILE", requires = "policies")]
    svid_key: Option<PathBuf>,
    /// Roots of the trust domain, PEM.
    #[arg(long, env = "PALISADE_ROOTS", value_name = "FILE", requires = "policies")]
    roots: Option<PathBuf>,
    /// A label that policies select this workload by. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_LABEL", value_name = "KEY=VALUE", value_parser = parse_label,
          value_delimiter = ';', requires = "policies")]
    label: Vec<(String, String)>,
    /// How often the files are looked at.
    #[arg(long, env = "PALISADE_RELOAD_INTERVAL", value_name = "TIME", default_value = "1s",
          value_parser = parse_duration)]
    reload_interval: Duration,
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
    /// /ready, /live, /metrics; loopback.
    #[arg(long, env = "PALISADE_ADMIN", value_name = "IP:PORT", default_value_t = defaults::ADMIN)]
    admin: SocketAddr,
}

impl Proxy {
    pub(crate) fn run(self) -> Outcome {
        palisade_proxy::run(self.settings()?).map_err(|error| {
            if error.exit_code() == exit::BAD_INPUT { Failure::input(error) } else { error.into() }
        })
    }

    fn settings(self) -> Result<Settings, Failure> {
        Ok(Settings {
            source: source(self.control_plane, self.files)?,
            serves: self.listeners.serve,
            outbound_proxy: self.listeners.outbound_proxy,
            outbound_ports: self.listeners.outbound_port,
            admin: self.listeners.admin,
            access_log: self.access_log,
            workers: self.workers.unwrap_or_else(defaults::workers),
            drain: DrainSettings { withdraw_delay: self.drain_delay, deadline: self.drain_deadline },
            ready_file: self.ready_file,
        })
    }
}

fn source(online: FromControlPlane, files: FromFiles) -> Result<Source, Failure> {
    if let Some(address) = online.control_plane {
        let text = online.join_token.map(JoinTokenSource::Text);
        return Ok(Source::ControlPlane {
            address,
            join_token: text.or(online.join_token_file.map(JoinTokenSource::File)),
            state_dir: online.state_dir,
            advertise: online.advertise,
        });
    }
    match (files.policies, files.svid, files.svid_key, files.roots) {
        (Some(policies), Some(svid), Some(key), Some(roots)) => Ok(Source::Files {
            policies,
            svid,
            key,
            roots,
            labels: files.label.into_iter().collect(),
            reload_interval: files.reload_interval,
        }),
        _ => Err(Failure::input(anyhow::anyhow!(
            "nothing says where identity and policy come from; give --control-plane, or --policies with --svid, \
             --svid-key and --roots"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

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
        ];
        for (words, part) in rows {
            let error = read(words).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
