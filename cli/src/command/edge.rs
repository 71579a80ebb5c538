use std::path::PathBuf;

use ipnet::IpNet;
use palisade_proxy::Settings;
use palisade_proxy::settings::edge::{EdgeListen, EdgeSettings};
use palisade_proxy::settings::limits::Limits;

use super::caps::{Caps, EdgeCaps};
use super::data_plane::{self, FromControlPlane, FromFiles, Running, source};
use super::deadlines::Deadlines;
use super::traces::{Traces, environment};
use crate::exit::{Failure, Outcome};

/// Run an edge: the one door from outside, by the Gateways that select it.
///
/// TLS, routes, tokens of users, limits and guards come from policies; identity and policies from a control plane, or
/// from files (--policies).
#[derive(Debug, clap::Args)]
pub(crate) struct Edge {
    #[command(flatten)]
    control_plane: FromControlPlane,
    #[command(flatten)]
    files: FromFiles,
    #[command(flatten)]
    door: Door,
    #[command(flatten)]
    caps: Caps,
    #[command(flatten)]
    edge_caps: EdgeCaps,
    #[command(flatten)]
    deadlines: Deadlines,
    #[command(flatten)]
    running: Running,
    #[command(flatten)]
    traces: Traces,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listeners")]
struct Door {
    /// A port of Gateways to listen on: PORT[,bind=IP:PORT]; without bind, that port of every address.
    /// May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_LISTEN", value_name = "PORT[,...]", value_delimiter = ';', required = true)]
    listen: Vec<EdgeListen>,
    /// Where the credentials that Gateways name are: a folder for each, with tls.crt, tls.key and, for MUTUAL, ca.crt.
    #[arg(long, env = "PALISADE_CREDENTIALS", value_name = "DIR")]
    credentials: Option<PathBuf>,
    /// Follow the traces of clients (traceparent), sampling included. Without it a trace begins here, whatever a client
    /// says: strangers choose neither ids nor what recording costs.
    #[arg(long, env = "PALISADE_FOLLOW_CLIENT_TRACES")]
    follow_client_traces: bool,
    /// Proxies of yours in front of the edge that each add an address to X-Forwarded-For, such as a load balancer of
    /// layer 7. What stands left of theirs is not believed.
    #[arg(long, env = "PALISADE_TRUSTED_HOPS", value_name = "N", default_value_t = 0)]
    trusted_hops: u8,
    /// Peers that must begin every connection with a PROXY header (version 1 or 2), such as a load balancer of layer 4.
    /// From others it is not understood. May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_PROXY_PROTOCOL_FROM", value_name = "CIDR", value_delimiter = ';',
          value_parser = network)]
    proxy_protocol_from: Vec<IpNet>,
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(address);
    network.ok_or_else(|| {
        format!("{text:?} is no network: write an address or a CIDR block, for example 10.0.0.0/16")
    })
}

impl Edge {
    pub(crate) fn run(self) -> Outcome {
        data_plane::run(self.settings()?)
    }

    fn settings(self) -> Result<Settings, Failure> {
        let Door { listen, credentials, follow_client_traces, trusted_hops, proxy_protocol_from } = self.door;
        let edge = EdgeSettings {
            listens: listen,
            credentials,
            trusted_hops,
            follow_traces: follow_client_traces,
            proxy_protocol_from,
        };
        let limits = self.edge_caps.over(self.caps.over(Limits::edge(trusted_hops)));
        let limits = self.deadlines.over(limits);
        let settings = self.running.settings(source(self.control_plane, self.files)?, limits);
        Ok(Settings { edge: Some(edge), trace: self.traces.settings(&environment)?, ..settings })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use palisade_proxy::settings::cap::Cap;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        edge: Edge,
    }

    fn read(words: &str) -> Result<Settings, String> {
        let line = Line::try_parse_from(format!("edge {words}").split(' ').filter(|w| !w.is_empty()));
        line.map_err(|e| e.to_string())?.edge.settings().map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn reads_an_edge_behind_load_balancers() {
        let settings = read(
            "--control-plane mesh:15012 --listen 443,bind=0.0.0.0:8443 --listen 80 --credentials certs \
             --trusted-hops 1 --proxy-protocol-from 10.0.0.0/16;192.0.2.7",
        )
        .unwrap();
        let edge = settings.edge.unwrap();
        assert_eq!(edge.listens.iter().map(|l| l.port).collect::<Vec<_>>(), [443, 80]);
        assert_eq!((edge.trusted_hops, edge.proxy_protocol_from.len()), (1, 2));
        assert!(edge.expects_proxy_header("192.0.2.7".parse().unwrap()));
        assert!(settings.serves.is_empty() && settings.outbound_proxy.is_none());
    }

    #[test]
    fn addresses_of_load_balancers_have_no_cap_unless_it_is_asked_for() {
        let caps = |words: &str| {
            let limits = read(&format!("--control-plane mesh:15012 --listen 443 {words}")).unwrap().limits;
            (limits.connections_per_address, limits.handshakes_per_address)
        };
        assert_eq!(caps(""), (Cap::AtMost(1000), Cap::AtMost(100)));
        assert_eq!(caps("--trusted-hops 1"), (Cap::Unlimited, Cap::Unlimited));
        let asked = caps("--trusted-hops 1 --connections-per-address 7 --handshakes-per-address 8");
        assert_eq!(asked, (Cap::AtMost(7), Cap::AtMost(8)));
        assert_eq!(caps("--connections-per-address unlimited").0, Cap::Unlimited);
        let error = read("--control-plane mesh:15012 --listen 443 --connections-per-address 0").unwrap_err();
        assert!(error.contains("is no cap"), "{error}");
    }

    #[test]
    fn one_address_has_a_tenth_of_all_requests_unless_told_otherwise_behind_load_balancers_too() {
        let cap = |words: &str| {
            let limits = read(&format!("--control-plane mesh:15012 --listen 443 {words}")).unwrap().limits;
            limits.requests_per_address
        };
        assert_eq!(cap(""), Cap::AtMost(1000));
        assert_eq!(cap("--trusted-hops 1"), Cap::AtMost(1000));
        assert_eq!(cap("--requests-max 205"), Cap::AtMost(21));
        assert_eq!(cap("--requests-max 1"), Cap::AtMost(1));
        assert_eq!(cap("--requests-per-address 7 --requests-max 50"), Cap::AtMost(7));
        assert_eq!(cap("--requests-per-address unlimited"), Cap::Unlimited);
    }

    #[test]
    fn the_defaults_of_options_are_those_of_the_table_of_limits() {
        let limits = read("--control-plane mesh:15012 --listen 443").unwrap().limits;
        assert_eq!(limits, Limits::edge(0));
    }

    #[test]
    fn refuses_lines_that_mean_nothing() {
        let rows = [
            ("--control-plane a:1", "--listen"),
            ("--listen 443", "--control-plane"),
            ("--control-plane a:1 --listen https", "is no port"),
            ("--control-plane a:1 --listen 443,bind=x", "is no value for bind="),
            ("--control-plane a:1 --listen 443 --trusted-hops many", "--trusted-hops"),
            ("--control-plane a:1 --listen 443 --proxy-protocol-from 10.0.0.0/40", "is no network"),
            ("--control-plane a:1 --listen 443 --serve 80", "--serve"),
        ];
        for (words, part) in rows {
            let error = read(words).unwrap_err();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
