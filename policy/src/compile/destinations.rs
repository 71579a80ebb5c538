//! Every destination that a workload may call, by all names under which it may be called.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use palisade_identity::{Namespace, ServiceAccount, SpiffeId};

use super::{Destination, Target, Transport};
use crate::finding::Findings;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::destination_rule::{TlsMode, TlsSettings};
use crate::kind::service_entry::{EntryEndpoint, EntryPort, Location, Resolution};
use crate::kind::{Kind, Named, ServiceEntrySpec};
use crate::projection::{MeshService, Projection};
use crate::set::names::{canonical, mesh_name, resolve};

/// Host, in lower case and without trailing dot, to its ports.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    hosts: HashMap<Box<str>, Vec<Arc<Destination>>>,
    /// Where the destinations of `hosts` lie in memory: to know one again costs no comparison of names.
    places: HashSet<usize>,
}

impl Destinations {
    pub(crate) fn new(projection: &Projection, own_namespace: &str, findings: &mut Findings) -> Self {
        let compiler = Compiler { projection, own_namespace };
        let mut out = Self::default();
        // Registered services come first: no entry can take a host away from one.
        for service in &projection.services {
            let host = format!("{}.{}", service.name, service.namespace);
            match compiler.service(service, &host) {
                Some(ports) => out.insert(&host, own_namespace, ports),
                None => {
                    let message =
                        format!("the service {host} has no identity that its instances could prove");
                    refuse(findings, "service", &host, code::NO_IDENTITY, message);
                }
            }
        }
        let mut entries: Vec<_> = projection.service_entries.iter().collect();
        entries.sort_by_key(|e| {
            let rank = if e.meta.namespace == own_namespace {
                0
            } else {
                u8::from(e.meta.namespace != projection.root_namespace) + 1
            };
            (rank, &e.meta.namespace, &e.meta.name)
        });
        for entry in entries {
            for host in &entry.spec.hosts {
                match compiler.entry(entry, host) {
                    Ok(ports) => out.insert(host, own_namespace, ports),
                    Err(message) => {
                        let object = format!("{}/{}", entry.meta.namespace, entry.meta.name);
                        refuse(findings, Kind::ServiceEntry.name(), &object, code::NO_IDENTITY, message);
                    }
                }
            }
        }
        out
    }

    pub(crate) fn find(&self, authority: &str, default_port: u16) -> Option<&Arc<Destination>> {
        // Byte by byte: names are short, and a searcher has to be set up.
        let colon = authority.bytes().rposition(|b| b == b':');
        let (host, port) = match colon.and_then(|colon| authority.split_at_checked(colon)) {
            Some((host, port)) => (host, crate::document::reader::parse_port(port.get(1..)?)?),
            None => (authority, default_port),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        self.hosts.get(&*host)?.iter().find(|d| d.port == port)
    }

    /// Whether it is one of these, and not one that only looks like it.
    pub(crate) fn has(&self, destination: &Destination) -> bool {
        self.places.contains(&place(destination))
    }

    /// All ports of a host, by the name it has here.
    pub(crate) fn ports_of(&self, host: &str) -> Option<&[Arc<Destination>]> {
        self.hosts.get(host).map(Vec::as_slice)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Destination>)> {
        self.hosts.iter().flat_map(|(host, ports)| ports.iter().map(|d| (&**host, d)))
    }

    fn insert(&mut self, host: &str, own_namespace: &str, ports: Vec<Arc<Destination>>) {
        let mut names = vec![host.to_owned()];
        if let Some((name, namespace)) = mesh_name(host) {
            names.push(format!("{host}.svc"));
            names.push(format!("{host}.svc.cluster.local"));
            if namespace == own_namespace {
                names.push(name.to_owned());
            }
        }
        for name in names {
            if let Entry::Vacant(free) = self.hosts.entry(name.into()) {
                self.places.extend(ports.iter().map(|port| place(port)));
                free.insert(ports.clone());
            }
        }
    }
}

fn place(destination: &Destination) -> usize {
    std::ptr::from_ref(destination).addr()
}

fn cluster(host: &str, port: u16) -> Arc<str> {
    format!("outbound|{port}||{host}").into()
}

struct Compiler<'p> {
    projection: &'p Projection,
    own_namespace: &'p str,
}

impl Compiler<'_> {
    fn service(&self, service: &MeshService, host: &str) -> Option<Vec<Arc<Destination>>> {
        if service.identities.is_empty() {
            return None;
        }
        let identities = Arc::new(service.identities.clone());
        let host: Arc<str> = host.into();
        let (service_name, service_namespace): (Arc<str>, Arc<str>) =
            (service.name.as_str().into(), service.namespace.as_str().into());
        let port = |port: &crate::projection::ServicePort| {
            let target = |e: &crate::projection::Endpoint| {
                let address = *e.addresses.get(&port.number)?;
                Some(Target::Address { instance: e.instance.as_str().into(), address })
            };
            Arc::new(Destination {
                host: Arc::clone(&host),
                port: port.number,
                cluster: cluster(&host, port.number),
                protocol: port.protocol,
                service_name: Arc::clone(&service_name),
                service_namespace: Arc::clone(&service_namespace),
                transport: Transport::Mesh { identities: Arc::clone(&identities) },
                endpoints: service.endpoints.iter().filter_map(target).collect(),
                traffic: Arc::default(),
            })
        };
        Some(service.ports.iter().map(port).collect())
    }

    fn entry(&self, entry: &Named<ServiceEntrySpec>, host: &str) -> Result<Vec<Arc<Destination>>, String> {
        let internal = entry.spec.location == Location::MeshInternal;
        let canonical_host = canonical(host);
        let (name, namespace) = match mesh_name(canonical_host) {
            Some((name, namespace)) if internal => (name, namespace),
            _ => (host, entry.meta.namespace.as_str()),
        };
        let (service_name, service_namespace): (Arc<str>, Arc<str>) = (name.into(), namespace.into());
        let mut ports = Vec::with_capacity(entry.spec.ports.len());
        for port in &entry.spec.ports {
            ports.push(Arc::new(Destination {
                host: host.into(),
                port: port.number,
                cluster: cluster(host, port.number),
                protocol: port.protocol,
                service_name: Arc::clone(&service_name),
                service_namespace: Arc::clone(&service_namespace),
                transport: self.transport(entry, host, port)?,
                endpoints: targets(&entry.spec, host, port),
                traffic: Arc::default(),
            }));
        }
        Ok(ports)
    }

    fn transport(
        &self,
        entry: &Named<ServiceEntrySpec>,
        host: &str,
        port: &EntryPort,
    ) -> Result<Transport, String> {
        let internal = entry.spec.location == Location::MeshInternal;
        let settings = self.tls_settings(host, &entry.meta.namespace, port.number);
        let mesh = || {
            let identities = self.identities(entry);
            let none = format!("the host {host} has no identity that its servers could prove");
            if identities.is_empty() {
                Err(none)
            } else {
                Ok(Transport::Mesh { identities: Arc::new(identities) })
            }
        };
        let tls = |settings: TlsSettings| {
            let mut settings = settings;
            if settings.subject_alt_names.is_empty() && !internal {
                settings.subject_alt_names.clone_from(&entry.spec.subject_alt_names);
            }
            let server_name = settings.sni.as_deref().unwrap_or(host).into();
            Ok(Transport::Tls { settings: Arc::new(settings), server_name })
        };
        match settings {
            None if internal => mesh(),
            None if port.tls => tls(TlsSettings { mode: TlsMode::Simple, ..TlsSettings::default() }),
            None => Ok(Transport::Plaintext),
            Some(settings) => match settings.mode {
                TlsMode::Disable => Ok(Transport::Plaintext),
                TlsMode::Simple | TlsMode::Mutual => tls(settings.clone()),
                TlsMode::IstioMutual => mesh(),
            },
        }
    }

    /// The rule for a host: of the caller's namespace, else of the host's, else of the root namespace.
    fn tls_settings(&self, host: &str, host_namespace: &str, port: u16) -> Option<&TlsSettings> {
        [self.own_namespace, host_namespace, &self.projection.root_namespace].into_iter().find_map(
            |namespace| {
                self.projection
                    .destination_rules
                    .iter()
                    .filter(|rule| rule.meta.namespace == namespace)
                    .filter(|rule| resolve(&rule.spec.host, namespace).any(|name| name == canonical(host)))
                    .find_map(|rule| rule.spec.port_level_tls.get(&port).or(rule.spec.tls.as_ref()))
            },
        )
    }

    /// The ids that servers of an entry may prove: those it lists, and the service accounts of its endpoints.
    fn identities(&self, entry: &Named<ServiceEntrySpec>) -> BTreeSet<SpiffeId> {
        let domain = self.projection.workload.id.trust_domain();
        let listed = entry.spec.subject_alt_names.iter().filter_map(|n| SpiffeId::parse(n).ok());
        let accounts = entry.spec.endpoints.iter().filter_map(|endpoint| {
            let account = ServiceAccount::parse(endpoint.service_account.as_deref()?).ok()?;
            let namespace = Namespace::parse(&entry.meta.namespace).ok()?;
            Some(SpiffeId::of_workload(domain, &namespace, &account))
        });
        listed.chain(accounts).collect()
    }
}

fn targets(spec: &ServiceEntrySpec, host: &str, port: &EntryPort) -> Vec<Target> {
    let default_port = port.target_port.unwrap_or(port.number);
    if spec.endpoints.is_empty() && spec.resolution == Resolution::Dns {
        return vec![Target::Name { host: host.into(), port: default_port }];
    }
    let target = |endpoint: &EntryEndpoint| {
        let port = endpoint.ports.get(&port.name).copied().unwrap_or(default_port);
        match endpoint.address.parse::<IpAddr>() {
            Ok(ip) => {
                let address = SocketAddr::new(ip, port);
                Target::Address { instance: address.to_string().into(), address }
            }
            Err(_) => Target::Name { host: endpoint.address.as_str().into(), port },
        }
    };
    spec.endpoints.iter().map(target).collect()
}

fn refuse(findings: &mut Findings, kind: &str, object: &str, code: &'static str, message: String) {
    let mut problems = Problems::default();
    problems.error(code, "", message);
    problems.place(Some(&format!("{kind} {object}")), |_| None, findings);
}
