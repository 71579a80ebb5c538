//! One workload with its policies, ready to be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use palisade_identity::SpiffeId;

use super::question::Question;
use crate::compile::Snapshot;
use crate::kind::Named;
use crate::kind::gateway::HostPattern;
use crate::kind::service_entry::Protocol;
use crate::projection::{Endpoint, MeshService, Projection, ServicePort, Workload};
use crate::set::PolicySet;
use crate::set::names::{canonical, mesh_name, resolve};

/// The port of services whose port nobody says.
const PORT: u16 = 8080;

/// One workload with its policies, ready to be asked.
#[derive(Debug)]
pub struct Target {
    pub snapshot: Snapshot,
    pub(super) projection: Projection,
}

impl Target {
    /// Whether clients from outside come here.
    pub fn is_edge(&self) -> bool {
        !self.projection.gateways.is_empty()
    }

    pub fn id(&self) -> &SpiffeId {
        &self.snapshot.workload.id
    }

    /// The port of questions that name none: 8080; at an edge the lowest that its Gateways serve in TLS, else the lowest.
    pub fn usual_port(&self) -> u16 {
        let ports = self.snapshot.edge().ports().map(|(number, port)| (!port.tls, number));
        ports.min().map_or(PORT, |(_, number)| number)
    }

    /// The host of questions that name none: the service's name and port; at an edge the only one that the port has. `Err`:
    /// the edge has several, which are these.
    pub fn usual_host(&self, port: u16) -> Result<String, Vec<String>> {
        let mut hosts: Vec<String> = self.hosts(port).into_iter().map(str::to_owned).collect();
        match (hosts.pop(), hosts.is_empty()) {
            (None, _) => Ok(self.own_host(port)),
            (Some(host), true) => Ok(host),
            (Some(last), false) => {
                hosts.push(last);
                Err(hosts)
            }
        }
    }

    /// The hosts among which a question from outside has to choose and does not. Empty: it is plain what is asked.
    pub fn unchosen_hosts(&self, question: &Question) -> Vec<String> {
        let says = question.host.is_some() || question.tcp || question.caller.is_some();
        match self.usual_host(question.port) {
            Err(hosts) if !says => hosts,
            _ => Vec::new(),
        }
    }

    /// Names, not patterns, of Gateways and VirtualServices that a port of an edge serves.
    fn hosts(&self, port: u16) -> BTreeSet<&str> {
        let Some(port) = self.snapshot.edge().port(port) else { return BTreeSet::new() };
        let served = port.servers().flat_map(|server| &server.hosts).filter_map(|host| match &host.pattern {
            HostPattern::Exact(name) => Some(name.as_str()),
            HostPattern::Below(_) | HostPattern::Any => None,
        });
        let routed = self.projection.virtual_services.iter().flat_map(|service| &service.spec.hosts);
        let routed = routed.filter(|host| !host.contains('*') && port.server_for_host(host).is_some());
        served.chain(routed.map(String::as_str)).collect()
    }

    /// `name.namespace`, with the port where it is not 80.
    pub(super) fn own_host(&self, port: u16) -> String {
        let own = self.id().workload().map(|name| format!("{}.{}", name.service_account, name.namespace));
        let own = own.unwrap_or_default();
        if port == 80 { own } else { format!("{own}:{port}") }
    }

    /// Whether it is judged by the same documents.
    pub(crate) fn has_policies_of(&self, other: &Self) -> bool {
        self.projection == other.projection
    }
}

/// A service of the mesh as it is when one instance of it has registered these ports.
pub(super) fn registered(service: &Workload, ports: &BTreeSet<u16>) -> Option<MeshService> {
    let name = service.id.workload()?;
    let (account, namespace) = (name.service_account.as_str(), name.namespace.as_str());
    let port = |number: &u16| ServicePort {
        number: *number,
        name: format!("http-{number}"),
        protocol: Protocol::Http,
    };
    Some(MeshService {
        name: account.to_owned(),
        namespace: namespace.to_owned(),
        ports: ports.iter().map(port).collect(),
        identities: BTreeSet::from([service.id.clone()]),
        endpoints: vec![Endpoint {
            instance: account.to_owned(),
            labels: service.labels.clone(),
            // Never connected to.
            addresses: ports.iter().map(|port| (*port, (Ipv4Addr::LOCALHOST, *port).into())).collect(),
        }],
    })
}

/// The services that routes of an edge lead to, by namespace and name, with the ports that routes name. All of them are
/// taken to be there, if some document is of their namespace; one whose port no route names has one port.
pub(super) fn routed(set: &PolicySet, projection: &Projection) -> BTreeMap<(String, String), BTreeSet<u16>> {
    let entries = projection.service_entries.iter().flat_map(|entry| &entry.spec.hosts);
    let entries: BTreeSet<&str> = entries.map(|host| canonical(host)).collect();
    let namespaces: BTreeSet<&str> = set.objects().iter().map(|o| o.meta.namespace.as_str()).collect();
    let mut out: BTreeMap<(String, String), BTreeSet<u16>> = BTreeMap::new();
    for Named { meta, spec } in &projection.virtual_services {
        for to in spec.http.iter().flat_map(|route| &route.route).map(|target| &target.destination) {
            let mut meant = resolve(&to.host, &meta.namespace);
            let is_entry = resolve(&to.host, &meta.namespace).any(|host| entries.contains(host.as_str()));
            let service = meant.find_map(|host| {
                let (name, namespace) = mesh_name(&host)?;
                namespaces.contains(namespace).then(|| (namespace.to_owned(), name.to_owned()))
            });
            if let Some(service) = service.filter(|_| !is_entry) {
                out.entry(service).or_default().extend(to.port);
            }
        }
    }
    out.values_mut().filter(|ports| ports.is_empty()).for_each(|ports| _ = ports.insert(PORT));
    out
}
