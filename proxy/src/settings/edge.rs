//! What `palisade edge` is told beside what every data plane is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

/// The door: where it is, whose certificates it shows, and whose word on client addresses it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    pub listens: Vec<EdgeListen>,
    /// A folder per credential name of Gateways: `tls.crt`, `tls.key`, `ca.crt`.
    pub credentials: Option<PathBuf>,
    /// Proxies of our own in front of this one that each add an address to `X-Forwarded-For`. 0 to 16.
    pub trusted_hops: u8,
    /// Clients' traces are followed, sampling included. Otherwise traces begin here, and nobody behind us hears of theirs.
    pub follow_traces: bool,
    /// Peers that begin each connection with a PROXY header; from all others it is not understood.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// A port of Gateways, and where it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeListen {
    /// As in `servers[].port.number`.
    pub port: u16,
    pub bind: SocketAddr,
}

/// Why a text is no `--listen` value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeListenError {
    #[error(
        "{0:?} is no port: write the port of a Gateway, from 1 to 65535, for example \"443,bind=0.0.0.0:8443\""
    )]
    Port(String),
    #[error("{0:?} is no option of --listen: write bind=IP:PORT")]
    Option(String),
    #[error("{0:?} is no value for bind=: write an IP address and a port, for example 0.0.0.0:8443")]
    Bind(String),
}

impl EdgeSettings {
    /// More than any chain of proxies in front of one edge.
    pub const TRUSTED_HOPS_MAX: u8 = 16;

    /// Whether `peer` begins its connections with a PROXY header.
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_protocol_from.iter().any(|net| net.contains(&peer))
    }
}

impl FromStr for EdgeListen {
    type Err = EdgeListenError;

    /// Reads `PORT[,bind=IP:PORT]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, rest) = text.split_once(',').map_or((text, None), |(number, rest)| (number, Some(rest)));
        let port = number.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| EdgeListenError::Port(number.into()))?;
        let Some(option) = rest else {
            return Ok(Self { port, bind: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port) });
        };
        let bind = option.strip_prefix("bind=").ok_or_else(|| EdgeListenError::Option(option.into()))?;
        let bind = bind.parse().map_err(|_no_address| EdgeListenError::Bind(bind.into()))?;
        Ok(Self { port, bind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_to_listen_on_and_refuses_near_misses() {
        let rows = [
            ("443", "0.0.0.0:443"),
            ("443,bind=127.0.0.1:0", "127.0.0.1:0"),
            ("80,bind=[::]:8080", "[::]:8080"),
        ];
        for (text, bind) in rows {
            assert_eq!(text.parse::<EdgeListen>().unwrap().bind, bind.parse().unwrap(), "{text}");
        }
        let port = |text: &str| EdgeListenError::Port(text.into());
        let rows = [
            ("", port("")),
            ("0", port("0")),
            ("https", port("https")),
            ("70000", port("70000")),
            ("443,listen=1.2.3.4:1", EdgeListenError::Option("listen=1.2.3.4:1".into())),
            ("443,bind=localhost:1", EdgeListenError::Bind("localhost:1".into())),
            ("443,bind=1.2.3.4:1,bind=1.2.3.4:2", EdgeListenError::Bind("1.2.3.4:1,bind=1.2.3.4:2".into())),
        ];
        for (text, error) in rows {
            assert_eq!(text.parse::<EdgeListen>().unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn a_listed_peer_is_known_in_its_mapped_form_too() {
        let settings = EdgeSettings {
            listens: Vec::new(),
            credentials: None,
            trusted_hops: 0,
            follow_traces: false,
            proxy_protocol_from: vec!["10.0.0.0/8".parse().unwrap()],
        };
        for (peer, listed) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("11.1.2.3", false), ("::1", false)]
        {
            assert_eq!(settings.expects_proxy_header(peer.parse().unwrap()), listed, "{peer}");
        }
    }
}
