//! A request as somebody asks about it.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use palisade_identity::SpiffeId;
use serde_json::{Map, Value};

/// Where a caller is taken to be whose address is not said.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One request, or one connection. What is not said is as most requests have it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whether the port is one of protocol tcp: of such a connection nothing is read, so that method, path, host, headers,
    /// token and body say nothing.
    pub tcp: bool,
    /// `None`: without a certificate.
    pub caller: Option<SpiffeId>,
    pub method: String,
    /// Path and perhaps a query, as the caller sends them.
    pub path: String,
    /// As the caller writes it; `None`: the service's name and port.
    pub host: Option<String>,
    /// The service's port.
    pub port: u16,
    pub headers: HeaderMap,
    pub source_ip: IpAddr,
    /// `None`: the same as `source_ip`.
    pub remote_ip: Option<IpAddr>,
    pub destination_ip: IpAddr,
    pub sni: Option<String>,
    pub token: GivenToken,
    /// Of the body; 0: there is none.
    pub body_bytes: u64,
    /// Seconds since 1970.
    pub now: i64,
}

/// The end user's token.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum GivenToken {
    #[default]
    None,
    /// One whose signature is good. `iat` and `exp` are made where they are not given.
    Claims(Map<String, Value>),
    /// One whose signature is not.
    Invalid,
}

impl Question {
    /// `GET /` at 1970.
    pub fn new(caller: Option<SpiffeId>, port: u16) -> Self {
        Self {
            tcp: false,
            caller,
            method: "GET".into(),
            path: "/".into(),
            host: None,
            port,
            headers: HeaderMap::new(),
            source_ip: SOMEWHERE,
            remote_ip: None,
            destination_ip: SOMEWHERE,
            sni: None,
            token: GivenToken::None,
            body_bytes: 0,
            now: 0,
        }
    }
}
