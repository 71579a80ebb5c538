//! Which protocol is spoken on the way to a server: that of its port, whatever a request says or wants.
//!
//! A caller that could choose it would choose what a server of another protocol reads: HTTP/2 frames are bytes of the
//! caller's, and a lenient HTTP/1.1 server looks for a request among them that nobody has judged.

use palisade_policy::kind::service_entry::Protocol;

use crate::error::ProxyError;
use crate::upstream::connect::Wire;

/// What a request needs of the connection that it is sent on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) grpc: bool,
    pub(crate) upgrade: bool,
}

impl Manner {
    /// What a server on a port of `protocol` hears. A request that cannot be carried that way is refused, and never
    /// carried in another.
    pub(crate) fn wire(self, protocol: Protocol) -> Result<Wire, ProxyError> {
        match protocol {
            Protocol::Http if self.grpc => Err(ProxyError::GrpcNeedsHttp2),
            Protocol::Http => Ok(Wire::Http1),
            // Upgrades exist in HTTP/1.1 only, as far as we take them.
            Protocol::Http2 | Protocol::Grpc if self.upgrade => Err(ProxyError::UpgradeNeedsHttp1),
            Protocol::Http2 | Protocol::Grpc => Ok(Wire::Http2),
            Protocol::Tcp => Err(ProxyError::NotHttp),
        }
    }

    /// What two proxies of the mesh say to each other, with the protocol of the service's port known: both are ours, and
    /// agree by ALPN.
    pub(crate) fn wire_in_mesh(self, protocol: Protocol) -> Result<Wire, ProxyError> {
        self.wire(protocol)?;
        Ok(if self.upgrade { Wire::Http1 } else { Wire::Http2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_says_what_is_spoken_and_a_request_that_does_not_fit_is_refused() {
        const PLAIN: Manner = Manner { grpc: false, upgrade: false };
        const GRPC: Manner = Manner { grpc: true, upgrade: false };
        const UPGRADE: Manner = Manner { grpc: false, upgrade: true };
        const BOTH: Manner = Manner { grpc: true, upgrade: true };
        let (h1, h2) = (Ok(Wire::Http1), Ok(Wire::Http2));
        let (grpc, upgrade) = (Err("grpc_needs_http2"), Err("upgrade_needs_http1"));
        let rows = [
            (Protocol::Http, PLAIN, h1, h2),
            (Protocol::Http, UPGRADE, h1, h1),
            (Protocol::Http, GRPC, grpc, grpc),
            (Protocol::Http, BOTH, grpc, grpc),
            (Protocol::Http2, PLAIN, h2, h2),
            (Protocol::Http2, GRPC, h2, h2),
            (Protocol::Http2, UPGRADE, upgrade, upgrade),
            (Protocol::Grpc, PLAIN, h2, h2),
            (Protocol::Grpc, GRPC, h2, h2),
            (Protocol::Grpc, BOTH, upgrade, upgrade),
            (Protocol::Tcp, PLAIN, Err("not_http"), Err("not_http")),
        ];
        let reason = |result: Result<Wire, ProxyError>| result.map_err(|error| error.consequence().reason);
        for (protocol, manner, server, mesh) in rows {
            assert_eq!(reason(manner.wire(protocol)), server, "{protocol:?} {manner:?}");
            assert_eq!(reason(manner.wire_in_mesh(protocol)), mesh, "{protocol:?} {manner:?}");
        }
    }
}
