//! Ports and servers of the Gateways that select this workload.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderValue;

use super::routes::{HostTables, RouteTable, Routes};
use crate::finding::{Findings, code};
use crate::kind::gateway::host::plain_host;
use crate::kind::gateway::{
    GatewayHost, GatewayProtocol, GatewayServer, GatewaySpec, GatewayTls, GatewayTlsMode, HostPattern,
    TlsVersion, conflicts, hsts,
};
use crate::kind::{Kind, Meta, Named};

/// All that a workload serves as an edge; empty for those that no Gateway selects.
#[derive(Debug, Default)]
pub struct Edge {
    ports: BTreeMap<u16, Port>,
}

/// One port of an edge.
#[derive(Debug)]
pub struct Port {
    /// Whether TLS ends here; a port is the one or the other.
    pub tls: bool,
    exact: HashMap<Box<str>, Arc<Server>>,
    /// `*.host` by length, the longest first.
    below: Vec<(Box<str>, Arc<Server>)>,
    any: Option<Arc<Server>>,
}

/// One server of a Gateway.
#[derive(Debug)]
pub struct Server {
    /// `namespace/gateway/name`, or the server's index where it has no name. Stable across snapshots.
    pub id: Arc<str>,
    pub gateway_namespace: Arc<str>,
    pub gateway: Arc<str>,
    pub port: u16,
    pub hosts: Vec<GatewayHost>,
    pub tls: Option<ServerTls>,
    /// Answer everything with a redirect to https.
    pub https_redirect: bool,
    /// `Strict-Transport-Security` for all answers in TLS.
    pub hsts: Option<HeaderValue>,
    routes: HostTables,
}

/// How TLS ends at a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    pub mode: GatewayTlsMode,
    pub credential: Credential,
    pub min_version: TlsVersion,
}

/// Where certificate and key are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A folder of the edge's `--credentials`: `tls.crt`, `tls.key`, and `ca.crt` where clients bring certificates.
    Named(Arc<str>),
    Files {
        certificate: Arc<str>,
        key: Arc<str>,
        ca: Option<Arc<str>>,
    },
}

impl Edge {
    pub(crate) fn new(gateways: &[Named<GatewaySpec>], routes: &Routes<'_>, findings: &mut Findings) -> Self {
        for conflict in conflicts(gateways) {
            let Some(Named { meta, .. }) = gateways.get(conflict.gateway) else { continue };
            let object = format!("{} {}/{}", Kind::Gateway.name(), meta.namespace, meta.name);
            let path = format!("spec.servers[{}]", conflict.server);
            super::report(findings, &object, |p| p.error(code::GATEWAY_CONFLICT, path, conflict.message));
        }
        let mut edge = Self::default();
        for Named { meta, spec } in gateways {
            for (index, written) in spec.servers.iter().enumerate() {
                let server = Arc::new(server(meta, index, written, routes));
                let tls = written.port.protocol == GatewayProtocol::Https;
                let port = edge.ports.entry(written.port.number).or_insert_with(|| Port::new(tls));
                port.insert(&server);
            }
        }
        edge
    }

    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.get(&number)
    }

    pub fn ports(&self) -> impl Iterator<Item = (u16, &Port)> {
        self.ports.iter().map(|(number, port)| (*number, port))
    }
}

impl Port {
    fn new(tls: bool) -> Self {
        Self { tls, exact: HashMap::new(), below: Vec::new(), any: None }
    }

    fn insert(&mut self, server: &Arc<Server>) {
        for host in &server.hosts {
            match &host.pattern {
                HostPattern::Exact(name) => {
                    self.exact.entry(name.as_str().into()).or_insert_with(|| server.clone());
                }
                HostPattern::Below(suffix) => self.below.push((suffix.as_str().into(), server.clone())),
                HostPattern::Any => {
                    self.any.get_or_insert_with(|| server.clone());
                }
            }
        }
        self.below.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    /// The server of a TLS handshake. A client that names no host gets the one that is for every host, or none.
    pub fn server_for_sni(&self, sni: Option<&str>) -> Option<&Arc<Server>> {
        match sni {
            Some(name) => self.server_for_host(name),
            None => self.any.as_ref(),
        }
    }

    /// The server of an authority (any case, with or without port and trailing dot): exact, then the longest `*.`,
    /// then `*`.
    pub fn server_for_host(&self, authority: &str) -> Option<&Arc<Server>> {
        let host = plain_host(authority);
        let below = || {
            let found =
                self.below.iter().find(|(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix));
            found.map(|(_, server)| server)
        };
        self.exact.get(&*host).or_else(below).or(self.any.as_ref())
    }

    /// Every server, once for each of its hosts.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.exact.values().chain(self.below.iter().map(|(_, server)| server)).chain(&self.any)
    }
}

impl Server {
    /// The routes of an authority (any case, with or without port and trailing dot): exact, then the longest `*.`, then
    /// `*`.
    pub fn routes_for(&self, authority: &str) -> Option<&Arc<RouteTable>> {
        self.routes.find(authority)
    }

    /// Every table, once for each of its hosts.
    pub fn route_tables(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.routes.iter()
    }
}

fn server(meta: &Meta, index: usize, written: &GatewayServer, routes: &Routes<'_>) -> Server {
    let name = written.name.clone().unwrap_or_else(|| index.to_string());
    let tls = written.tls.clone().unwrap_or_default();
    let hosts: Vec<_> = written.hosts.iter().filter_map(|text| GatewayHost::parse(text)).collect();
    Server {
        id: format!("{}/{}/{name}", meta.namespace, meta.name).into(),
        gateway_namespace: meta.namespace.as_str().into(),
        gateway: meta.name.as_str().into(),
        port: written.port.number,
        routes: routes.of_server(meta, &hosts),
        hosts,
        https_redirect: tls.https_redirect,
        hsts: hsts(meta).ok().flatten(),
        tls: (written.port.protocol == GatewayProtocol::Https).then(|| server_tls(tls)),
    }
}

/// `check` has seen to it that what is read here is there; what is not names no file, and no handshake succeeds.
fn server_tls(tls: GatewayTls) -> ServerTls {
    let credential = match tls.credential_name {
        Some(name) => Credential::Named(name.into()),
        None => Credential::Files {
            certificate: tls.server_certificate.unwrap_or_default().into(),
            key: tls.private_key.unwrap_or_default().into(),
            ca: tls.ca_certificates.map(Into::into),
        },
    };
    ServerTls {
        mode: tls.mode.unwrap_or(GatewayTlsMode::Mutual),
        credential,
        min_version: tls.min_protocol_version,
    }
}
