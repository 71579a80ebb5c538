//! ServiceEntry, networking.istio.io/v1: a service that does not register itself.

mod check;
mod read;

use std::collections::BTreeMap;

pub(crate) use check::{check, valid_host};
pub(crate) use read::read;

use crate::set::names::{canonical, mesh_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    MeshExternal,
    MeshInternal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    Static,
    Dns,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1, whatever a request says of itself: gRPC is refused.
    #[default]
    Http,
    /// HTTP/2: in plaintext with prior knowledge, in TLS by ALPN.
    Http2,
    /// As `Http2`.
    Grpc,
    /// Bytes (TLS included); no HTTP attributes.
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPort {
    pub number: u16,
    pub name: String,
    pub protocol: Protocol,
    /// The protocol is written `HTTPS`: the server takes HTTP in TLS.
    pub tls: bool,
    pub target_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryEndpoint {
    /// An IP address, or with DNS resolution a host name.
    pub address: String,
    /// Port name to number, where they differ from the entry's.
    pub ports: BTreeMap<String, u16>,
    pub labels: BTreeMap<String, String>,
    /// MESH_INTERNAL: the service account the endpoint must prove, in the entry's namespace.
    pub service_account: Option<String>,
    /// Its share beside the others; 0: it gets nothing. 1 where nothing is written.
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntrySpec {
    pub hosts: Vec<String>,
    pub ports: Vec<EntryPort>,
    pub location: Location,
    pub resolution: Resolution,
    pub endpoints: Vec<EntryEndpoint>,
    /// SPIFFE ids (MESH_INTERNAL) or DNS names that the server's certificate may have.
    pub subject_alt_names: Vec<String>,
    /// `.`: this namespace only; `*` or absent: everywhere.
    pub export_to: Vec<String>,
}

impl ServiceEntrySpec {
    /// The namespace that one of its hosts belongs to: for a service of the mesh that of its name, else the entry's, `own`.
    pub(crate) fn namespace_of<'h>(&self, host: &'h str, own: &'h str) -> &'h str {
        match mesh_name(canonical(host)) {
            Some((_, namespace)) if self.location == Location::MeshInternal => namespace,
            _ => own,
        }
    }
}
