//! Routes compiled: what becomes of a request. And those of an edge, for each server of a Gateway and each host; of sidecars:
//! [`super::mesh_routes`].

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Destination;
use super::destinations::Destinations;
use crate::fault::Fault;
use crate::kind::gateway::host::plain_host;
use crate::kind::gateway::{GatewayHost, HostPattern};
use crate::kind::service_entry::Protocol;
use crate::kind::virtual_service::cors::Cors;
use crate::kind::virtual_service::header_operations::HeaderOperations;
use crate::kind::virtual_service::matcher::Matcher;
use crate::kind::virtual_service::redirect::{Answer, Location};
use crate::kind::virtual_service::rewrite::{PathRewrite, Unclean};
use crate::kind::virtual_service::{Built, BuiltAction, DestinationRef, gateways};
use crate::kind::{MeshConfigSpec, Meta, Named, VirtualServiceSpec};
use crate::set::names::canonical;
use crate::traffic::Retries;

pub use crate::kind::virtual_service::matcher::RouteView;

/// The routes of one VirtualService, in its order.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Of the VirtualService.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    routes: Box<[Arc<Route>]>,
}

/// What becomes of the requests that a route is for. Without state; the same on every server that it is bound to.
#[derive(Debug)]
pub struct Route {
    /// `namespace/virtualservice/name-or-index`. Stable across snapshots; what policies and records name.
    pub id: Arc<str>,
    /// Its place in the document, from 0.
    position: usize,
    matches: Box<[Matcher]>,
    pub action: Action,
    rewrite: PathRewrite,
    pub request_headers: HeaderOperations,
    pub response_headers: HeaderOperations,
    /// From the request's head to the answer's. Absent: the proxy's own.
    pub timeout: Option<Duration>,
    /// Absent: [`Retries::default`].
    pub retries: Option<Arc<Retries>>,
    pub fault: Option<Arc<Fault>>,
    pub mirrors: Box<[MirrorTarget]>,
    pub cors: Option<Arc<Cors>>,
}

#[derive(Debug)]
pub enum Action {
    Forward(Forward),
    Redirect(Location),
    Direct(Answer),
}

/// Destinations and their shares.
#[derive(Debug)]
pub struct Forward {
    /// At least one.
    targets: Box<[Arc<RouteTarget>]>,
    /// At least 1.
    total_weight: u32,
}

/// One destination of a route.
#[derive(Debug)]
pub struct RouteTarget {
    /// As it is written; for records and refusals.
    pub host: Arc<str>,
    /// `None`: this workload was not told of such a destination. The request gets 503.
    pub destination: Option<Arc<Destination>>,
    pub request_headers: HeaderOperations,
    pub response_headers: HeaderOperations,
    pub(crate) weight: u32,
}

/// Where a copy of some requests goes.
#[derive(Debug)]
pub struct MirrorTarget {
    /// As it is written.
    pub host: Arc<str>,
    pub destination: Option<Arc<Destination>>,
    /// Of a million requests.
    pub share_ppm: u32,
}

impl RouteTable {
    /// `meta`: the VirtualService's. `port`: the one of several that is meant where a destination names none.
    pub(super) fn new(built: &[Built], meta: &Meta, port: Option<u16>, destinations: &Destinations) -> Self {
        let find = |reference: &DestinationRef| resolve(reference, &meta.namespace, port, destinations);
        Self {
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            routes: built.iter().map(|built| Arc::new(route(built.clone(), &find))).collect(),
        }
    }

    /// The first route that the request fits, in the order of the document.
    pub fn find(&self, view: &RouteView<'_>) -> Option<&Arc<Route>> {
        self.position(view).map(|(_, route)| route)
    }

    /// The same, with its place in the document, from 0.
    pub fn position(&self, view: &RouteView<'_>) -> Option<(usize, &Arc<Route>)> {
        self.routes.iter().find(|route| route.matches(view)).map(|route| (route.position, route))
    }

    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

impl Route {
    /// Whether it is for every request that comes to it.
    pub fn takes_all(&self) -> bool {
        self.matches.is_empty()
    }

    fn matches(&self, view: &RouteView<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|item| item.matches(view))
    }

    /// The path (without query) that the upstream gets.
    pub fn rewritten_path<'p>(
        &self,
        view: &RouteView<'p>,
        mesh: &MeshConfigSpec,
    ) -> Result<Cow<'p, str>, Unclean> {
        let matched = self.matches.iter().find(|item| item.matches(view));
        self.rewrite.apply(view.path, matched, mesh)
    }

    /// The authority that the upstream gets, where it is not the request's.
    pub fn rewritten_authority(&self) -> Option<&http::uri::Authority> {
        self.rewrite.authority.as_ref()
    }
}

impl Forward {
    /// The number of different values that [`Self::choose`] takes.
    pub fn total_weight(&self) -> u32 {
        self.total_weight
    }

    /// Evenly distributed values below `total_weight` give each destination its share.
    pub fn choose(&self, value: u32) -> Option<&Arc<RouteTarget>> {
        let mut left = value % self.total_weight;
        self.targets.iter().find(|target| match left.checked_sub(target.weight) {
            None => true,
            Some(rest) => {
                left = rest;
                false
            }
        })
    }

    /// Those that [`Self::choose`] gives: of a weight above 0.
    pub fn drawn(&self) -> impl Iterator<Item = &Arc<RouteTarget>> {
        self.targets.iter().filter(|target| target.weight > 0)
    }

    pub fn targets(&self) -> &[Arc<RouteTarget>] {
        &self.targets
    }
}

/// Route tables of one server, by host.
#[derive(Debug, Default)]
pub(super) struct HostTables {
    exact: HashMap<Box<str>, Arc<RouteTable>>,
    /// `*.host`, the longest first.
    below: Vec<(Box<str>, Arc<RouteTable>)>,
    any: Option<Arc<RouteTable>>,
}

impl HostTables {
    pub(super) fn find(&self, authority: &str) -> Option<&Arc<RouteTable>> {
        let host = plain_host(authority);
        let below = || {
            let found =
                self.below.iter().find(|(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix));
            found.map(|(_, table)| table)
        };
        self.exact.get(&*host).or_else(below).or(self.any.as_ref())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.exact.values().chain(self.below.iter().map(|(_, table)| table)).chain(&self.any)
    }
}

/// A VirtualService with its compiled table.
struct Bound<'p> {
    meta: &'p Meta,
    gateways: Vec<(&'p str, &'p str)>,
    hosts: Vec<HostPattern>,
    table: Arc<RouteTable>,
}

/// All route tables that a workload was sent.
pub(crate) struct Routes<'p> {
    bound: Vec<Bound<'p>>,
}

impl<'p> Routes<'p> {
    /// `built`: what [`crate::kind::virtual_service::build`] made of each, in their order.
    pub(crate) fn new(
        services: &'p [Named<VirtualServiceSpec>],
        built: &[Vec<Built>],
        destinations: &Destinations,
    ) -> Self {
        let at_gateways =
            services.iter().zip(built).filter(|(s, _)| gateways(&s.meta, &s.spec).next().is_some());
        let bound = at_gateways.map(|(Named { meta, spec }, routes)| Bound {
            meta,
            gateways: gateways(meta, spec).collect(),
            hosts: spec.hosts.iter().filter_map(|host| HostPattern::parse(host)).collect(),
            table: Arc::new(RouteTable::new(routes, meta, None, destinations)),
        });
        Self { bound: bound.collect() }
    }

    /// The tables of a server. Where a host of the server and one of a VirtualService overlap, the narrower of the two
    /// is served; of two VirtualServices, the one that names the host more closely.
    pub(super) fn of_server(&self, gateway: &Meta, hosts: &[GatewayHost]) -> HostTables {
        let mut chosen: BTreeMap<HostPattern, ((u8, usize), &Arc<RouteTable>)> = BTreeMap::new();
        for Bound { meta, gateways, hosts: own, table } in &self.bound {
            if !gateways.contains(&(gateway.namespace.as_str(), gateway.name.as_str())) {
                continue;
            }
            let admitted = hosts.iter().filter(|h| h.admits(&meta.namespace, &gateway.namespace));
            for (served, wanted) in admitted.flat_map(|h| own.iter().map(move |o| (&h.pattern, o))) {
                let Some(common) = overlap(served, wanted) else { continue };
                let candidate = (wanted.rank(), table);
                let entry = chosen.entry(common.clone()).or_insert(candidate);
                if entry.0 < candidate.0 {
                    *entry = candidate;
                }
            }
        }
        let mut out = HostTables::default();
        for (pattern, (_, table)) in chosen {
            match pattern {
                HostPattern::Exact(name) => {
                    out.exact.insert(name.into(), table.clone());
                }
                HostPattern::Below(suffix) => out.below.push((suffix.into(), table.clone())),
                HostPattern::Any => out.any = Some(table.clone()),
            }
        }
        out.below.sort_by_key(|(suffix, _)| Reverse(suffix.len()));
        out
    }
}

/// The hosts that are in both.
pub(crate) fn overlap<'h>(a: &'h HostPattern, b: &'h HostPattern) -> Option<&'h HostPattern> {
    if a.covers(b) {
        Some(b)
    } else if b.covers(a) {
        Some(a)
    } else {
        None
    }
}

fn route(built: Built, find: &dyn Fn(&DestinationRef) -> Option<Arc<Destination>>) -> Route {
    let action = match built.action {
        BuiltAction::Redirect(location) => Action::Redirect(location),
        BuiltAction::Direct(answer) => Action::Direct(answer),
        BuiltAction::Forward(weighted) => {
            let targets: Box<[Arc<RouteTarget>]> = weighted
                .into_iter()
                .map(|w| {
                    Arc::new(RouteTarget {
                        host: w.destination.host.as_str().into(),
                        destination: find(&w.destination),
                        request_headers: w.request_headers,
                        response_headers: w.response_headers,
                        weight: w.weight,
                    })
                })
                .collect();
            // The constructor has seen to it that the sum is within u32 and not 0.
            let sum = targets.iter().fold(0u32, |sum, target| sum.saturating_add(target.weight));
            Action::Forward(Forward { targets, total_weight: sum.max(1) })
        }
    };
    let mirror = |m: &crate::kind::virtual_service::Mirror| MirrorTarget {
        host: m.destination.host.as_str().into(),
        destination: find(&m.destination),
        share_ppm: m.share_ppm,
    };
    Route {
        id: built.id,
        position: built.position,
        matches: built.matches,
        action,
        rewrite: built.rewrite,
        request_headers: built.request_headers,
        response_headers: built.response_headers,
        timeout: built.timeout,
        retries: built.retries,
        fault: built.fault,
        mirrors: built.mirrors.iter().map(mirror).collect(),
        cors: built.cors,
    }
}

/// A short name is one of the VirtualService's namespace, whatever the edge's own namespace calls so. A destination
/// that nobody was told of is none: other routes go on, and it may come with the next snapshot.
fn resolve(
    reference: &DestinationRef,
    namespace: &str,
    default_port: Option<u16>,
    destinations: &Destinations,
) -> Option<Arc<Destination>> {
    let ports = match reference.host.contains('.') {
        true => destinations.ports_of(canonical(&reference.host)),
        false => {
            let full = destinations.ports_of(&format!("{}.{namespace}", reference.host));
            // A ServiceEntry may have a host without a dot; an alias of another service is not meant.
            full.or_else(|| {
                let literal = destinations.ports_of(&reference.host)?;
                literal.iter().all(|d| *d.host == *reference.host).then_some(literal)
            })
        }
    };
    let speaking_http = || ports.into_iter().flatten().filter(|d| d.protocol != Protocol::Tcp);
    // Which of several ports is meant would be a guess, but for the one that the caller asked for.
    let port = reference.port.or(default_port.filter(|_| speaking_http().count() > 1));
    let whole = match port {
        Some(port) => speaking_http().find(|d| d.port == port),
        None => speaking_http().next().filter(|_| speaking_http().count() == 1),
    };
    match &reference.subset {
        Some(name) => destinations.subset(whole?, name).cloned(),
        None => whole.cloned(),
    }
}
