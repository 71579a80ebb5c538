//! Every destination that a workload may call, by all names under which it may be called.

mod build;

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};

use self::build::{Compiler, Port};
use super::Destination;
use super::experiments::Experiments;
use super::repeats::ByHost;
use crate::finding::Findings;
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::Kind;
use crate::projection::Projection;
use crate::set::names::mesh_name;

/// Host, in lower case and without trailing dot, to its ports.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    hosts: HashMap<Box<str>, Vec<Arc<Destination>>>,
    /// The subsets of the destinations of `hosts`, by the place of these.
    subsets: HashMap<usize, Vec<Arc<Destination>>>,
    /// Where the destinations of `hosts` and `subsets` lie in memory: to know one again costs no comparison of names.
    places: HashSet<usize>,
}

impl Destinations {
    pub(super) fn new(
        projection: &Projection,
        own_namespace: &str,
        (repeats, experiments): (&ByHost<'_>, &Experiments<'_>),
        findings: &mut Findings,
    ) -> Self {
        let compiler = Compiler::new(projection, own_namespace, repeats, experiments);
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

    /// The subsets of one of these, in the order of its rule. Of another destination, and of a subset: none.
    pub(crate) fn subsets(&self, of: &Destination) -> &[Arc<Destination>] {
        self.subsets.get(&place(of)).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn subset(&self, of: &Destination, name: &str) -> Option<&Arc<Destination>> {
        self.subsets(of).iter().find(|subset| subset.subset.as_deref() == Some(name))
    }

    /// Without subsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Destination>)> {
        self.hosts.iter().flat_map(|(host, ports)| ports.iter().map(|d| (&**host, d)))
    }

    /// With subsets; those with several names come more often than once.
    pub(crate) fn every(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.hosts.values().chain(self.subsets.values()).flatten()
    }

    fn insert(&mut self, host: &str, own_namespace: &str, ports: Vec<Port>) {
        let whole: Vec<_> = ports.iter().map(|port| Arc::clone(&port.whole)).collect();
        let mut names = vec![host.to_owned()];
        if let Some((name, namespace)) = mesh_name(host) {
            names.push(format!("{host}.svc"));
            names.push(format!("{host}.svc.cluster.local"));
            if namespace == own_namespace {
                names.push(name.to_owned());
            }
        }
        let mut taken = true;
        for name in names {
            if let Entry::Vacant(free) = self.hosts.entry(name.into()) {
                free.insert(whole.clone());
                taken = false;
            }
        }
        if taken {
            return;
        }
        for Port { whole, subsets } in ports {
            self.places.extend([&whole].into_iter().chain(&subsets).map(|port| place(port)));
            if !subsets.is_empty() {
                self.subsets.insert(place(&whole), subsets);
            }
        }
    }
}

pub(super) fn place(destination: &Destination) -> usize {
    std::ptr::from_ref(destination).addr()
}

fn refuse(findings: &mut Findings, kind: &str, object: &str, code: &'static str, message: String) {
    let mut problems = Problems::default();
    problems.error(code, "", message);
    problems.place(Some(&format!("{kind} {object}")), |_| None, findings);
}
