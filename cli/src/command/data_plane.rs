//! Options that a sidecar and an edge have in common.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use palisade_proxy::Settings;
use palisade_proxy::settings::limit_store::{LimitStoreSettings, StoreAddress};
use palisade_proxy::settings::limits::Limits;
use palisade_proxy::settings::{
    DrainSettings, JoinTokenSource, Source, defaults, parse_duration, parse_label,
};

use crate::exit::{self, Failure, Outcome};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With a control plane")]
pub(super) struct FromControlPlane {
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
pub(super) struct FromFiles {
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
#[command(next_help_heading = "Running")]
pub(super) struct Running {
    /// /ready, /live, /metrics; loopback.
    #[arg(long, env = "PALISADE_ADMIN", value_name = "IP:PORT", default_value_t = defaults::ADMIN)]
    admin: SocketAddr,
    /// Decision records, one JSON line per request [default: stdout].
    #[arg(long, env = "PALISADE_ACCESS_LOG", value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Threads that carry traffic [default: one per core].
    #[arg(long, env = "PALISADE_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// At SIGTERM: from withdrawal to the end of accepting.
    #[arg(long, env = "PALISADE_DRAIN_DELAY", value_name = "TIME", default_value = "1s",
          value_parser = parse_duration)]
    drain_delay: Duration,
    /// At SIGTERM: how long requests in flight may take before they are cut.
    #[arg(long, env = "PALISADE_DRAIN_DEADLINE", value_name = "TIME", default_value = "20s",
          value_parser = parse_duration)]
    drain_deadline: Duration,
    /// Redis or Valkey that limits of scope mesh are counted in: redis://HOST[:PORT][/DB], or rediss:// for TLS
    /// [default: none; onStoreFailure of each limit decides].
    #[arg(long, env = "PALISADE_LIMIT_STORE", value_name = "URL")]
    limit_store: Option<StoreAddress>,
    /// The user to log in to the store as [default: the store's default user].
    #[arg(long, env = "PALISADE_LIMIT_STORE_USER", value_name = "NAME",
          requires_all = ["limit_store", "limit_store_password_file"])]
    limit_store_user: Option<String>,
    /// The password of the store; read at every new connection.
    #[arg(long, env = "PALISADE_LIMIT_STORE_PASSWORD_FILE", value_name = "FILE", requires = "limit_store")]
    limit_store_password_file: Option<PathBuf>,
    /// Roots that a rediss:// store is checked against, PEM [default: the system's].
    #[arg(long, env = "PALISADE_LIMIT_STORE_CA", value_name = "FILE", requires = "limit_store")]
    limit_store_ca: Option<PathBuf>,
    /// How long a request waits for the store; after it the store counts as away.
    #[arg(long, env = "PALISADE_LIMIT_STORE_TIMEOUT", value_name = "TIME", default_value = "50ms",
          value_parser = parse_duration)]
    limit_store_timeout: Duration,
    /// Written when all listeners are bound: their addresses as JSON, so that every port may be 0.
    #[arg(long, env = "PALISADE_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Runs a data plane to its end.
pub(super) fn run(settings: Settings) -> Outcome {
    palisade_proxy::run(settings).map_err(|error| {
        if error.exit_code() == exit::BAD_INPUT { Failure::input(error) } else { error.into() }
    })
}

impl Running {
    /// Settings without a listener for traffic.
    pub(super) fn settings(self, source: Source, limits: Limits) -> Settings {
        let limit_store = self.limit_store.map(|address| LimitStoreSettings {
            address,
            user: self.limit_store_user,
            password_file: self.limit_store_password_file,
            ca: self.limit_store_ca,
            timeout: self.limit_store_timeout,
        });
        Settings {
            source,
            serves: Vec::new(),
            health: None,
            adaptive_concurrency: None,
            outbound_proxy: None,
            outbound_ports: Vec::new(),
            edge: None,
            limit_store,
            trace: None,
            admin: self.admin,
            access_log: self.access_log,
            workers: self.workers.unwrap_or_else(defaults::workers),
            drain: DrainSettings { withdraw_delay: self.drain_delay, deadline: self.drain_deadline },
            limits,
            ready_file: self.ready_file,
        }
    }
}

pub(super) fn source(online: FromControlPlane, files: FromFiles) -> Result<Source, Failure> {
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
