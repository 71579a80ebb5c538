//! A connection as policy sees it where nothing is read of what it carries: raw TCP.

use std::net::IpAddr;

use http::HeaderMap;
use palisade_identity::SpiffeId;

use super::RequestView;

/// All that a rule may look at on a TCP port.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView<'a> {
    /// The caller's proven identity; `None` for a caller without a certificate.
    pub peer: Option<&'a SpiffeId>,
    /// The peer of the socket.
    pub source_ip: IpAddr,
    /// The client behind trusted hops (PROXY protocol); the same as `source_ip` where there are none.
    pub remote_ip: IpAddr,
    pub destination_ip: IpAddr,
    /// The service port (the workload's own, not the sidecar's).
    pub destination_port: u16,
    /// The name asked for in the TLS handshake.
    pub sni: Option<&'a str>,
}

impl ConnectionView<'_> {
    /// The same as a request that says nothing. Only for rules that were compiled for TCP: others would take what is
    /// not there for what is empty.
    pub(crate) fn as_request<T>(&self, judge: impl FnOnce(&RequestView<'_>) -> T) -> T {
        let headers = HeaderMap::new();
        judge(&RequestView {
            peer: self.peer,
            source_ip: self.source_ip,
            remote_ip: self.remote_ip,
            destination_ip: self.destination_ip,
            destination_port: self.destination_port,
            method: "",
            path: "",
            host: "",
            headers: &headers,
            sni: self.sni,
            token: None,
        })
    }
}
