//! From services, ServiceEntries and DestinationRules to destinations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;
use palisade_identity::{Namespace, ServiceAccount, SpiffeId};

use crate::compile::experiments::Experiments;
use crate::compile::repeats::ByHost;
use crate::compile::{Destination, Target, Transport};
use crate::kind::destination_rule::{Effective, TlsMode, TlsSettings};
use crate::kind::retry_policy::Repeats;
use crate::kind::service_entry::{EntryEndpoint, EntryPort, Location, Protocol, Resolution};
use crate::kind::{DestinationRuleSpec, Named, ServiceEntrySpec};
use crate::projection::{Endpoint, MeshService, Projection, ServicePort};
use crate::set::names::{canonical, mesh_name, resolve};

/// A port of a host: all of its endpoints, and those of each subset.
pub(super) struct Port {
    pub(super) whole: Arc<Destination>,
    pub(super) subsets: Vec<Arc<Destination>>,
}

pub(super) struct Compiler<'p> {
    projection: &'p Projection,
    own_namespace: &'p str,
    /// By namespace and by host as it is known there.
    rules: HashMap<(&'p str, String), &'p Named<DestinationRuleSpec>>,
    repeats: &'p ByHost<'p>,
    experiments: &'p Experiments<'p>,
}

/// What a host's ports have in common.
struct Host<'p> {
    host: Arc<str>,
    service_name: Arc<str>,
    service_namespace: Arc<str>,
    rule: Option<&'p Named<DestinationRuleSpec>>,
    rule_name: Option<Arc<str>>,
    repeats: Option<&'p Arc<Repeats>>,
    experiments: &'p Experiments<'p>,
    /// What its servers may prove.
    identities: Arc<BTreeSet<SpiffeId>>,
}

/// The objects that count for a host.
type Said<'p> = (Option<&'p Named<DestinationRuleSpec>>, Option<&'p Arc<Repeats>>, &'p Experiments<'p>);

/// An endpoint with what subsets go by.
type Labelled<'p> = (&'p BTreeMap<String, String>, Target);

impl<'p> Compiler<'p> {
    pub(super) fn new(
        projection: &'p Projection,
        own_namespace: &'p str,
        repeats: &'p ByHost<'p>,
        experiments: &'p Experiments<'p>,
    ) -> Self {
        let mut rules = HashMap::new();
        for rule in &projection.destination_rules {
            for host in resolve(&rule.spec.host, &rule.meta.namespace) {
                rules.entry((rule.meta.namespace.as_str(), host)).or_insert(rule);
            }
        }
        Self { projection, own_namespace, rules, repeats, experiments }
    }

    /// `None`: the service has no identity.
    pub(super) fn service(&self, service: &'p MeshService, host: &str) -> Option<Vec<Port>> {
        if service.identities.is_empty() {
            return None;
        }
        let identities = Arc::new(service.identities.clone());
        // Its rules say nothing of how it is reached: that is by mesh TLS, always.
        let transport = || Transport::Mesh { identities: Arc::clone(&identities) };
        let said = self.said(host, &service.namespace);
        let common = Host::new(host, &service.name, &service.namespace, said, &identities);
        let port = |port: &ServicePort| {
            let target = |e: &'p Endpoint| {
                let address = *e.addresses.get(&port.number)?;
                let target = Target::Address { instance: e.instance.as_str().into(), address, weight: 1 };
                Some((&e.labels, target))
            };
            let endpoints: Vec<_> = service.endpoints.iter().filter_map(target).collect();
            common.port(port.number, port.protocol, &endpoints, |_| transport())
        };
        Some(service.ports.iter().map(port).collect())
    }

    pub(super) fn entry(&self, entry: &'p Named<ServiceEntrySpec>, host: &str) -> Result<Vec<Port>, String> {
        let internal = entry.spec.location == Location::MeshInternal;
        let canonical_host = canonical(host);
        let name = match mesh_name(canonical_host) {
            Some((name, _)) if internal => name,
            _ => host,
        };
        let namespace = entry.spec.namespace_of(host, &entry.meta.namespace);
        let identities = Arc::new(self.identities(entry));
        let said = self.said(canonical_host, &entry.meta.namespace);
        let common = Host::new(host, name, namespace, said, &identities);
        let mut ports = Vec::with_capacity(entry.spec.ports.len());
        for port in &entry.spec.ports {
            let endpoints = targets(&entry.spec, host, port);
            let mut nobody = false;
            let made = common.port(port.number, port.protocol, &endpoints, |tls| {
                let transport = transport(entry, host, port, tls, &identities);
                nobody |= matches!(&transport, Transport::Mesh { identities } if identities.is_empty());
                transport
            });
            if nobody {
                return Err(format!("the host {host} has no identity that its servers could prove"));
            }
            ports.push(made);
        }
        Ok(ports)
    }

    /// What objects say of a host.
    fn said(&self, host: &str, host_namespace: &str) -> Said<'p> {
        let repeats = self.repeats.find(host, self.own_namespace, host_namespace);
        (self.rule(host, host_namespace), repeats, self.experiments)
    }

    /// The rule for a host: of the caller's namespace, else of the host's, else of the root namespace. It counts as a
    /// whole, as in Istio: what it does not say no other rule says.
    fn rule(&self, host: &str, host_namespace: &str) -> Option<&'p Named<DestinationRuleSpec>> {
        let namespaces = [self.own_namespace, host_namespace, self.projection.root_namespace.as_str()];
        namespaces.into_iter().find_map(|namespace| self.rules.get(&(namespace, host.to_owned())).copied())
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

impl<'p> Host<'p> {
    fn new(
        host: &str,
        service_name: &str,
        service_namespace: &str,
        (rule, repeats, experiments): Said<'p>,
        identities: &Arc<BTreeSet<SpiffeId>>,
    ) -> Self {
        Self {
            host: host.into(),
            identities: Arc::clone(identities),
            experiments,
            service_name: service_name.into(),
            service_namespace: service_namespace.into(),
            rule,
            rule_name: rule.map(|rule| format!("{}/{}", rule.meta.namespace, rule.meta.name).into()),
            repeats,
        }
    }

    fn port(
        &self,
        number: u16,
        protocol: Protocol,
        endpoints: &[Labelled<'_>],
        mut transport: impl FnMut(Option<&TlsSettings>) -> Transport,
    ) -> Port {
        let mut make = |index: Option<usize>, name: Option<&str>, endpoints: Vec<Target>| {
            let effective = self.rule.map(|rule| Effective::new(rule, number, index)).unwrap_or_default();
            let transport = transport(effective.tls.map(|(_, tls)| tls));
            Arc::new(Destination {
                host: Arc::clone(&self.host),
                port: number,
                subset: name.map(Into::into),
                cluster: format!("outbound|{number}|{}|{}", name.unwrap_or_default(), self.host).into(),
                protocol,
                service_name: Arc::clone(&self.service_name),
                service_namespace: Arc::clone(&self.service_namespace),
                experiments: self.experiments.of(&self.host, number, protocol, &transport, &*self.identities),
                transport,
                endpoints,
                traffic: Arc::new(effective.traffic(protocol)),
                rule: self.rule_name.clone(),
                repeats: self.repeats.cloned(),
            })
        };
        let whole = make(None, None, endpoints.iter().map(|(_, target)| target.clone()).collect());
        let subsets = self.rule.map(|rule| rule.spec.subsets.as_slice()).unwrap_or_default();
        let subsets = subsets.iter().enumerate().map(|(index, subset)| {
            let has_all =
                |labels: &BTreeMap<_, _>| subset.labels.iter().all(|(k, v)| labels.get(k) == Some(v));
            let chosen = endpoints.iter().filter(|(labels, _)| has_all(labels));
            make(Some(index), Some(&subset.name), chosen.map(|(_, target)| target.clone()).collect())
        });
        Port { subsets: subsets.collect(), whole }
    }
}

/// `identities` may be empty; a destination in the mesh would then let anybody answer.
fn transport(
    entry: &Named<ServiceEntrySpec>,
    host: &str,
    port: &EntryPort,
    settings: Option<&TlsSettings>,
    identities: &Arc<BTreeSet<SpiffeId>>,
) -> Transport {
    let internal = entry.spec.location == Location::MeshInternal;
    let mesh = || Transport::Mesh { identities: Arc::clone(identities) };
    let tls = |mut settings: TlsSettings| {
        if settings.subject_alt_names.is_empty() && !internal {
            settings.subject_alt_names.clone_from(&entry.spec.subject_alt_names);
        }
        let server_name = settings.sni.as_deref().unwrap_or(host).into();
        Transport::Tls { settings: Arc::new(settings), server_name }
    };
    match settings {
        None if internal => mesh(),
        None if port.tls => tls(TlsSettings { mode: TlsMode::Simple, ..TlsSettings::default() }),
        None => Transport::Plaintext,
        Some(settings) => match settings.mode {
            TlsMode::Disable => Transport::Plaintext,
            TlsMode::Simple | TlsMode::Mutual => tls(settings.clone()),
            TlsMode::IstioMutual => mesh(),
        },
    }
}

/// The endpoints that get anything at all.
fn targets<'p>(spec: &'p ServiceEntrySpec, host: &str, port: &EntryPort) -> Vec<Labelled<'p>> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let default_port = port.target_port.unwrap_or(port.number);
    if spec.endpoints.is_empty() && spec.resolution == Resolution::Dns {
        return vec![(&NONE, Target::Name { host: host.into(), port: default_port, weight: 1 })];
    }
    let target = |endpoint: &'p EntryEndpoint| {
        let EntryEndpoint { address, weight, .. } = endpoint;
        let (port, weight) = (endpoint.ports.get(&port.name).copied().unwrap_or(default_port), *weight);
        let target = match address.parse::<IpAddr>() {
            Ok(ip) => {
                let address = SocketAddr::new(ip, port);
                Target::Address { instance: address.to_string().into(), address, weight }
            }
            Err(_) => Target::Name { host: address.as_str().into(), port, weight },
        };
        (&endpoint.labels, target)
    };
    spec.endpoints.iter().filter(|endpoint| endpoint.weight > 0).map(target).collect()
}
