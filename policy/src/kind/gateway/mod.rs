//! Gateway, networking.istio.io/v1: what the edge listens for, by which hosts, with which certificates.

mod check;
pub mod host;
mod hsts;
mod read;

use super::Selector;
pub(crate) use check::{check, conflicts};
pub use host::{GatewayHost, HostPattern, Namespaces};
pub use hsts::HSTS_ANNOTATION;
pub(crate) use hsts::hsts;
pub(crate) use read::read;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatewayProtocol {
    /// Plaintext, HTTP/1.1 or HTTP/2 with prior knowledge.
    Http,
    /// The same, as Istio has it.
    Http2,
    /// TLS that ends here.
    Https,
}

/// Whether a client brings a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatewayTlsMode {
    Simple,
    /// A certificate of the given authorities is required.
    Mutual,
    /// One that is shown must be good; none is needed.
    OptionalMutual,
}

/// The oldest version of TLS that is spoken. Older ones than 1.2 are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    #[default]
    V1_2,
    V1_3,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewaySpec {
    pub selector: Selector,
    pub servers: Vec<GatewayServer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayServer {
    pub name: Option<String>,
    pub port: GatewayPort,
    /// `host`, `*.host` or `*`, each with an optional `namespace/` before it.
    pub hosts: Vec<String>,
    pub tls: Option<GatewayTls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPort {
    pub number: u16,
    pub name: String,
    pub protocol: GatewayProtocol,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayTls {
    /// Answer everything with a redirect to https. For plaintext servers.
    pub https_redirect: bool,
    pub mode: Option<GatewayTlsMode>,
    /// A folder of the edge's `--credentials`.
    pub credential_name: Option<String>,
    /// Files of the edge's host; instead of `credential_name`.
    pub server_certificate: Option<String>,
    pub private_key: Option<String>,
    pub ca_certificates: Option<String>,
    pub min_protocol_version: TlsVersion,
}
