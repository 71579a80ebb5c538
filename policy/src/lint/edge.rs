//! Routes that the internet can reach: those of VirtualServices bound to a Gateway.

use super::pattern::Pattern;
use super::requests::Requests;
use super::selection::Reach;
use super::world::{Of, World};
use crate::compile::routes::overlap;
use crate::kind::gateway::{GatewayHost, GatewayServer, HostPattern};
use crate::kind::virtual_service::{HttpMatch, HttpRoute, gateways, is_item_for};
use crate::kind::{GatewaySpec, VirtualServiceSpec};

/// A product of lists of hosts, methods and paths that has more parts is looked at as if it were for every host.
const PARTS_MAX: usize = 256;

/// One route at one Gateway.
#[derive(Debug)]
pub(super) struct EdgeRoute<'o> {
    pub(super) service: Of<'o, VirtualServiceSpec>,
    /// Its number in `spec.http`.
    pub(super) number: usize,
    pub(super) route: &'o HttpRoute,
    pub(super) id: String,
    /// The workloads that serve it.
    pub(super) edges: Reach<'o>,
    pub(super) gateway: Of<'o, GatewaySpec>,
    /// What both the Gateway and the VirtualService have.
    pub(super) hosts: Vec<Pattern>,
}

impl<'o> World<'o> {
    /// Every route at every Gateway that serves it. A server that only redirects to https serves none.
    pub(super) fn edge_routes(&self) -> Vec<EdgeRoute<'o>> {
        let mut out = Vec::new();
        for service in &self.services {
            for gateway in &self.gateways {
                let meta = &gateway.object.meta;
                let bound = gateways(&service.object.meta, service.spec)
                    .any(|name| name == (meta.namespace.as_str(), meta.name.as_str()));
                let hosts = if bound { hosts(gateway, service) } else { Vec::new() };
                if hosts.is_empty() {
                    continue;
                }
                let here = Some((meta.namespace.as_str(), meta.name.as_str()));
                let is_here = |item| is_item_for(item, &service.object.meta, here);
                let routes = service.spec.http.iter().enumerate();
                let routes = routes.filter(|(_, r)| r.matches.is_empty() || r.matches.iter().any(is_here));
                for (number, route) in routes {
                    let name = route.name.clone().unwrap_or_else(|| number.to_string());
                    let id = format!("{}/{}/{name}", service.namespace(), service.object.meta.name);
                    let (edges, hosts) = (Reach::of(gateway), hosts.clone());
                    let (service, gateway) = (*service, *gateway);
                    out.push(EdgeRoute { service, number, route, id, edges, gateway, hosts });
                }
            }
        }
        out
    }
}

impl EdgeRoute<'_> {
    /// `spec.http[n]`.
    pub(super) fn path(&self) -> String {
        format!("spec.http[{}]", self.number)
    }

    /// Whether requests go on to a service. A redirect and a direct response open nothing.
    pub(super) fn forwards(&self) -> bool {
        !self.route.route.is_empty()
    }

    /// What the route takes, in parts that are compared one by one. Together they are at least what it takes.
    pub(super) fn requests(&self) -> Vec<Requests<'_>> {
        match self.route.matches.is_empty() {
            true => self.requests_of(&HttpMatch::default()),
            false => self.items().flat_map(|item| self.requests_of(item)).collect(),
        }
    }

    /// The items of its match that are for the Gateway.
    fn items(&self) -> impl Iterator<Item = &'_ HttpMatch> {
        let gateway = &self.gateway.object.meta;
        let here = Some((gateway.namespace.as_str(), gateway.name.as_str()));
        let items = self.route.matches.iter();
        items.filter(move |item| is_item_for(item, &self.service.object.meta, here))
    }

    /// The same of one item of its match.
    pub(super) fn requests_of(&self, item: &HttpMatch) -> Vec<Requests<'_>> {
        let mut out = Vec::new();
        let (paths, methods) = (paths(item), methods(item));
        let many = self.hosts.len().saturating_mul(paths.len()).saturating_mul(methods.len()) > PARTS_MAX;
        let any = [Pattern::any()];
        let hosts = if many { &any[..] } else { &self.hosts };
        for host in hosts {
            for method in &methods {
                for path in &paths {
                    let (host, method, path) = (host.clone(), method.clone(), path.clone());
                    out.push(Requests { host, method, path, route: &self.id });
                }
            }
        }
        out
    }

    /// The servers of the Gateway that serve the route. One that only redirects to https serves none.
    pub(super) fn servers(&self) -> impl Iterator<Item = &'_ GatewayServer> {
        let common = |server: &&GatewayServer| !common_hosts(server, &self.gateway, &self.service).is_empty();
        serving(&self.gateway).filter(common)
    }
}

/// What an item asks of the path.
pub(super) fn paths(item: &HttpMatch) -> Vec<Pattern> {
    match &item.uri {
        Some(uri) => {
            Pattern::of_match(uri, item.ignore_uri_case).into_iter().map(Pattern::of_paths).collect()
        }
        None => vec![Pattern::any()],
    }
}

/// What an item asks of the method.
pub(super) fn methods(item: &HttpMatch) -> Vec<Pattern> {
    item.method.as_ref().map_or_else(|| vec![Pattern::any()], |method| Pattern::of_match(method, false))
}

/// The hosts that a Gateway serves for a VirtualService.
fn hosts(gateway: &Of<'_, GatewaySpec>, service: &Of<'_, VirtualServiceSpec>) -> Vec<Pattern> {
    let mut common: Vec<HostPattern> = Vec::new();
    for server in serving(gateway) {
        for host in common_hosts(server, gateway, service) {
            if !common.contains(&host) {
                common.push(host);
            }
        }
    }
    common.iter().map(Pattern::host).collect()
}

fn serving<'o>(gateway: &Of<'o, GatewaySpec>) -> impl Iterator<Item = &'o GatewayServer> + use<'o> {
    gateway.spec.servers.iter().filter(|s| !s.tls.as_ref().is_some_and(|t| t.https_redirect))
}

fn common_hosts(
    server: &GatewayServer,
    gateway: &Of<'_, GatewaySpec>,
    service: &Of<'_, VirtualServiceSpec>,
) -> Vec<HostPattern> {
    let wanted: Vec<HostPattern> = service.spec.hosts.iter().filter_map(|h| HostPattern::parse(h)).collect();
    let served = server.hosts.iter().filter_map(|h| GatewayHost::parse(h));
    let admitted = served.filter(|h| h.admits(service.namespace(), gateway.namespace()));
    let common = |served: GatewayHost| -> Vec<HostPattern> {
        wanted.iter().filter_map(|wanted| overlap(&served.pattern, wanted)).cloned().collect()
    };
    admitted.flat_map(common).collect()
}
