//! The one default of each option. The command line shows these; docs/reference/proxy.md lists them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Istio's agent answers on 15000 too.
pub const ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 15000);

/// Istio's outbound port.
pub const OUTBOUND_PROXY: SocketAddr = SocketAddr::new(LOOPBACK, 15001);

/// Istio's inbound port. A second served port must say where it listens.
pub const INBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15006);

/// Callers hear of a withdrawal within 100 ms of push; the rest is for those that just resolved the endpoint.
pub const DRAIN_DELAY: Duration = Duration::from_secs(1);

/// With the delay below the 30 s that ECS gives a task between SIGTERM and SIGKILL.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// One worker per core that this process may use.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The application's address for a served port.
pub fn app(port: u16) -> SocketAddr {
    SocketAddr::new(LOOPBACK, port)
}
