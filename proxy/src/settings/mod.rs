//! All that a proxy is told at start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use palisade_policy::kind::service_entry::Protocol;

use edge::EdgeSettings;
use health::HealthCheck;
use limit_store::LimitStoreSettings;
use limits::Limits;
use trace::TraceSettings;

pub mod cap;
pub mod concurrency;
pub mod control;
pub mod defaults;
pub mod edge;
pub mod health;
pub mod limit_store;
pub mod limits;
mod parse;
pub mod trace;
mod validate;

pub use concurrency::{AdaptiveConcurrency, AdaptiveConcurrencyError};
pub use health::parse_check_header;
pub use parse::{DurationError, LabelError, LocalPortError, ServeError, parse_duration, parse_label};
pub use validate::{SettingError, SettingsError};

/// The validated form of the command line and environment of `palisade proxy` and `palisade edge`.
#[derive(Clone, Debug)]
pub struct Settings {
    pub source: Source,
    pub serves: Vec<Serve>,
    /// How the application is asked whether it is well; `None`: it is not, and counts as such.
    pub health: Option<HealthCheck>,
    /// Between what bounds the number of requests is found that the application is given at once; `None`: there is none.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// `HTTP_PROXY` listener; loopback.
    pub outbound_proxy: Option<SocketAddr>,
    /// Named local ports: `127.0.0.1:9001=ledger.payments:8080`.
    pub outbound_ports: Vec<LocalPort>,
    /// The door from outside; `None`: this is a sidecar.
    pub edge: Option<EdgeSettings>,
    /// What limits of scope `mesh` are counted in.
    pub limit_store: Option<LimitStoreSettings>,
    /// Where traces go; `None`: nowhere.
    pub trace: Option<TraceSettings>,
    /// Loopback only: `/ready`, `/live`, `/metrics`, `/config`, `/certs`.
    pub admin: SocketAddr,
    /// Decision records; `None`: stdout.
    pub access_log: Option<PathBuf>,
    /// One single-threaded runtime each.
    pub workers: usize,
    pub drain: DrainSettings,
    /// Caps and deadlines, with what the options say about them.
    pub limits: Limits,
    /// Written, whole, once all listeners are bound: their addresses as JSON, so that every port may be 0.
    pub ready_file: Option<PathBuf>,
}

impl Settings {
    /// At an edge: whether clients' traces are followed.
    pub fn follows_clients(&self) -> bool {
        self.edge.as_ref().is_some_and(|edge| edge.follow_traces)
    }
}

/// Where identity and policy come from.
#[derive(Clone, Debug)]
pub enum Source {
    ControlPlane {
        /// `host:port`.
        address: String,
        /// For the first start; later starts may have an SVID in `state_dir`.
        join_token: Option<JoinTokenSource>,
        /// Where key, SVID, bundle and last good snapshot are kept (0700). `None`: memory only.
        state_dir: Option<PathBuf>,
        /// The address other sidecars reach this host by; `None`: the local address of the control-plane connection.
        advertise: Option<std::net::IpAddr>,
    },
    Files {
        policies: PathBuf,
        /// PEM: leaf, then intermediates.
        svid: PathBuf,
        key: PathBuf,
        /// PEM roots of the trust domain.
        roots: PathBuf,
        labels: BTreeMap<String, String>,
        reload_interval: Duration,
    },
}

#[derive(Clone)]
pub enum JoinTokenSource {
    Text(String),
    File(PathBuf),
}

impl std::fmt::Debug for JoinTokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// A port of the application that the sidecar takes calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    pub name: String,
    /// The service port: what callers and policies name.
    pub port: u16,
    pub protocol: Protocol,
    /// Where mutual TLS is taken.
    pub listen: SocketAddr,
    /// Where the application listens; loopback.
    pub app: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPort {
    pub listen: SocketAddr,
    /// Host of the destination, as in an authority without port.
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// From withdrawal to the end of accepting.
    pub withdraw_delay: Duration,
    /// From the end of accepting to force.
    pub deadline: Duration,
}
