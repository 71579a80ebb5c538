//! What the operator decides.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use palisade_identity::TrustDomain;

use crate::clock::{Clock, SystemClock};
use crate::limits::Limits;

/// Shortest and longest life of a workload's certificate.
pub const SVID_TTL_MIN: Duration = Duration::from_secs(5 * 60);
pub const SVID_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Called once, when every listener is bound and the state is loaded.
pub type OnReady = Box<dyn FnOnce(&Ready) + Send + Sync>;

/// How a control plane is run.
pub struct Settings {
    /// Keys, certificates and the store. Made on the first start; 0700.
    pub data_dir: PathBuf,
    /// Written into the data directory on the first start; a later start with another one is refused.
    pub trust_domain: TrustDomain,
    /// The gRPC listener. Port 0: any free one, see [`Ready`].
    pub listen: SocketAddr,
    /// `/ready`, `/live` and `/metrics`. Loopback only: another address is refused.
    pub admin: SocketAddr,
    /// Life of workload certificates; [`SVID_TTL_MIN`] to [`SVID_TTL_MAX`].
    pub svid_ttl: Duration,
    /// DNS names or IP addresses under which clients that check names reach the control plane. Palisade's own
    /// check its SPIFFE id instead.
    pub advertise_names: Vec<String>,
    pub clock: Arc<dyn Clock>,
    pub limits: Limits,
    pub on_ready: Option<OnReady>,
}

/// Where a control plane that is ready can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// Holds `operator.crt`, `operator.key` and `roots.pem`.
    pub operator_dir: PathBuf,
}

impl Settings {
    /// The defaults of `palisade control-plane`.
    pub fn new(data_dir: PathBuf, trust_domain: TrustDomain) -> Self {
        Self {
            data_dir,
            trust_domain,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 15012)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 15014)),
            svid_ttl: Duration::from_secs(3600),
            advertise_names: Vec::new(),
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            on_ready: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("data_dir", &self.data_dir)
            .field("trust_domain", &self.trust_domain)
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .field("svid_ttl", &self.svid_ttl)
            .field("advertise_names", &self.advertise_names)
            .finish_non_exhaustive()
    }
}
