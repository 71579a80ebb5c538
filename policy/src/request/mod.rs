//! All that a rule may look at.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use palisade_identity::SpiffeId;
use token::Token;

pub mod connection;
pub mod json;
pub mod origin;
pub mod path;
pub mod readings;
pub mod token;

/// One request as policy sees it. Built after normalization: method, path and host are what will be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The caller's proven identity; `None` for a caller without a certificate.
    pub peer: Option<&'a SpiffeId>,
    /// The peer of the socket.
    pub source_ip: IpAddr,
    /// The client behind trusted hops; the same as `source_ip` where there are none.
    pub remote_ip: IpAddr,
    pub destination_ip: IpAddr,
    /// The service port (the workload's own, not the sidecar's).
    pub destination_port: u16,
    pub method: &'a str,
    /// Normalized, without query.
    pub path: &'a str,
    /// `:authority` or `Host`, as received (matching ignores case).
    pub host: &'a str,
    pub headers: &'a HeaderMap,
    /// The name asked for in the TLS handshake.
    pub sni: Option<&'a str>,
    /// What the caller's token says, after it was verified.
    pub token: Option<&'a Token>,
}

/// Whether a request asks, for a page, whether another one may be made (CORS). It carries no token.
pub fn is_preflight(method: &str, headers: &HeaderMap) -> bool {
    method == "OPTIONS"
        && headers.contains_key(http::header::ORIGIN)
        && headers.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl<'a> RequestView<'a> {
    /// A request of which only the caller is known.
    pub(crate) fn of_caller(peer: &'a SpiffeId, headers: &'a HeaderMap) -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            peer: Some(peer),
            source_ip: nowhere,
            remote_ip: nowhere,
            destination_ip: nowhere,
            destination_port: 0,
            method: "",
            path: "",
            host: "",
            headers,
            sni: None,
            token: None,
        }
    }
}
