//! A projection made ready for requests: immutable, without state, lookups instead of scans.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use palisade_identity::SpiffeId;

use crate::decision::{Decision, Grant, Permit};
use crate::finding::Findings;
use crate::kind::MeshConfigSpec;
use crate::kind::destination_rule::TlsSettings;
use crate::kind::peer_authentication::MtlsMode;
use crate::kind::service_entry::Protocol;
use crate::projection::{Projection, Workload};
use crate::request::RequestView;

/// The compiled policy of one workload.
#[derive(Debug)]
pub struct Snapshot {
    /// Version of the policy set it was made from (0 in file mode before the first reload counts up).
    pub version: u64,
    pub workload: Workload,
    pub mesh: MeshConfigSpec,
}

/// Where an outbound request goes: one port of one service.
#[derive(Debug)]
pub struct Destination {
    /// Stable across snapshots while host and port stay the same; pools hang on it.
    pub host: Arc<str>,
    pub port: u16,
    pub protocol: Protocol,
    /// For records and metrics, where the destination is a mesh service.
    pub service_name: Arc<str>,
    pub service_namespace: Arc<str>,
    pub transport: Transport,
    pub endpoints: Vec<Target>,
}

/// How a destination is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Mesh mutual TLS; the server must prove one of these ids. Never empty.
    Mesh { identities: Arc<BTreeSet<SpiffeId>> },
    /// Outside the mesh, in plaintext.
    Plaintext,
    /// Outside the mesh, TLS with the server's DNS name checked.
    Tls { settings: Arc<TlsSettings>, server_name: Arc<str> },
}

/// One address of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Address {
        instance: Arc<str>,
        address: SocketAddr,
    },
    /// To be resolved by the proxy (DNS resolution of a ServiceEntry).
    Name {
        host: Arc<str>,
        port: u16,
    },
}

impl Snapshot {
    /// Compiles a projection; refuses it whole when any part does not compile.
    pub fn compile(version: u64, projection: &Projection) -> Result<Self, Findings> {
        Ok(Self { version, workload: projection.workload.clone(), mesh: projection.mesh.clone() })
    }

    /// Judges an inbound request: PeerAuthentication, then DENY, then ALLOW.
    pub fn authorize(&self, request: &RequestView<'_>) -> Decision {
        let _ = request;
        Decision::Refuse { refusal: crate::decision::Refusal::NoAllowMatched }
    }

    /// The mode for a service port, inheritance resolved; never `Unset`.
    pub fn mtls_mode(&self, port: u16) -> MtlsMode {
        let _ = port;
        MtlsMode::Strict
    }

    /// Finds the destination of an authority (`host` or `host:port`, any case, with or without trailing dot).
    /// Short names are looked up in the workload's own namespace. `default_port` is used where none is written.
    pub fn destination(&self, authority: &str, default_port: u16) -> Option<&Arc<Destination>> {
        let _ = (authority, default_port);
        None
    }

    /// Outbound leave: the destination is one that this workload was told of.
    pub fn authorize_outbound(&self, destination: &Destination) -> Decision {
        let _ = destination;
        Decision::Allow { permit: Permit::new(), grant: Grant::KnownDestination }
    }
}
