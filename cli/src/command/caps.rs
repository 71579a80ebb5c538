//! Caps on connections and requests, of a sidecar and an edge.

use std::time::Duration;

use palisade_proxy::settings::cap::Cap;
use palisade_proxy::settings::limits::Limits;
use palisade_proxy::settings::parse_duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Caps")]
pub(super) struct Caps {
    /// Open connections from others, in all. What comes on top is closed at once.
    #[arg(long, env = "PALISADE_CONNECTIONS_MAX", value_name = "N", default_value_t = Limits::default().connections_max)]
    connections_max: usize,
    /// Of these, connections that have not finished their handshake.
    #[arg(long, env = "PALISADE_HANDSHAKES_MAX", value_name = "N", default_value_t = Limits::default().handshakes_max)]
    handshakes_max: usize,
    /// Open connections of one client address, or of one /64 of IPv6: a number, or unlimited
    /// [default: sidecar 5000; edge 1000, with --trusted-hops unlimited].
    #[arg(long, env = "PALISADE_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    connections_per_address: Option<Cap>,
    /// The same for connections that have not finished their handshake
    /// [default: 100; edge with --trusted-hops unlimited].
    #[arg(long, env = "PALISADE_HANDSHAKES_PER_ADDRESS", value_name = "N")]
    handshakes_per_address: Option<Cap>,
    /// Requests under way, tunnels included. What comes on top is answered with 503 and Retry-After.
    #[arg(long, env = "PALISADE_REQUESTS_MAX", value_name = "N", default_value_t = Limits::default().requests_max)]
    requests_max: u64,
    /// How long a request may last at most, streams and tunnels included, though bytes still go either way (1s to 168h; ended
    /// up to a second later) [default: no limit].
    #[arg(long, env = "PALISADE_REQUEST_DURATION_MAX", value_name = "TIME", value_parser = parse_duration)]
    request_duration_max: Option<Duration>,
}

impl Caps {
    /// The role's limits, with what was said about them.
    pub(super) fn over(self, role: Limits) -> Limits {
        Limits {
            connections_max: self.connections_max,
            handshakes_max: self.handshakes_max,
            connections_per_address: self.connections_per_address.unwrap_or(role.connections_per_address),
            handshakes_per_address: self.handshakes_per_address.unwrap_or(role.handshakes_per_address),
            requests_max: self.requests_max,
            request_duration_max: self.request_duration_max,
            ..role
        }
    }
}

/// Those of an edge alone: within the mesh one peer speaks for many callers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Caps")]
pub(super) struct EdgeCaps {
    /// Requests under way of one client address, or of one /64 of IPv6, as told by --trusted-hops or a PROXY header where
    /// those are set: a number, or unlimited. What comes on top is answered with 503 and Retry-After
    /// [default: a tenth of --requests-max].
    #[arg(long, env = "PALISADE_REQUESTS_PER_ADDRESS", value_name = "N")]
    requests_per_address: Option<Cap>,
}

impl EdgeCaps {
    pub(super) fn over(self, limits: Limits) -> Limits {
        let tenth = Limits::requests_per_address_of(limits.requests_max);
        Limits { requests_per_address: self.requests_per_address.unwrap_or(tenth), ..limits }
    }
}
