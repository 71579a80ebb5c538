//! Routes of a sidecar: what becomes of requests of the application, by the destination that they name.

use std::collections::HashMap;
use std::sync::Arc;

use super::Destination;
use super::destinations::{Destinations, place};
use super::routes::RouteTable;
use crate::kind::Named;
use crate::kind::virtual_service::{Built, called_hosts, may_route};
use crate::projection::Projection;
use crate::set::names::canonical;

/// The tables by where their destinations lie in memory: most have none, and to see that is all it costs them.
#[derive(Debug, Default)]
pub(super) struct MeshRoutes(HashMap<usize, Arc<RouteTable>>);

/// Which VirtualService says what becomes of calls of which destination.
struct Owner<'d> {
    rank: usize,
    /// Among the projection's VirtualServices.
    index: usize,
    destination: &'d Destination,
}

impl MeshRoutes {
    /// `built`: what was made of each of the projection's VirtualServices, in their order.
    pub(super) fn new(
        projection: &Projection,
        built: &[Vec<Built>],
        own_namespace: &str,
        destinations: &Destinations,
    ) -> Self {
        // Hosts with one port share a table.
        let mut made: HashMap<(usize, u16), Arc<RouteTable>> = HashMap::new();
        let mut tables = HashMap::new();
        for (place, Owner { index, destination, .. }) in owners(projection, own_namespace, destinations) {
            let service = projection.virtual_services.get(index);
            let Some((service, routes)) = service.zip(built.get(index)) else { continue };
            let table = made.entry((index, destination.port)).or_insert_with(|| {
                let port = Some(destination.port);
                Arc::new(RouteTable::new(routes, &service.meta, port, destinations))
            });
            tables.insert(place, table.clone());
        }
        Self(tables)
    }

    pub(super) fn of(&self, destination: &Destination) -> Option<&Arc<RouteTable>> {
        if self.0.is_empty() { None } else { self.0.get(&place(destination)) }
    }
}

/// As with DestinationRules, routes of the caller's namespace go before those of the host's, and these before those of the
/// root namespace.
fn owners<'d>(
    projection: &Projection,
    own_namespace: &str,
    destinations: &'d Destinations,
) -> HashMap<usize, Owner<'d>> {
    let mut by_host: HashMap<&str, Vec<&Arc<Destination>>> = HashMap::new();
    for (_, destination) in destinations.iter() {
        by_host.entry(canonical(&destination.host)).or_default().push(destination);
    }
    let root = projection.root_namespace.as_str();
    let mut owners: HashMap<usize, Owner<'d>> = HashMap::new();
    for (index, Named { meta, spec }) in projection.virtual_services.iter().enumerate() {
        let hosts = called_hosts(meta, spec);
        for destination in hosts.filter_map(|host| by_host.get(&*host)).flatten() {
            let namespace = &*destination.service_namespace;
            if !may_route(meta, spec, namespace, own_namespace, root) {
                continue;
            }
            let order = [own_namespace, namespace, root];
            let rank = order.iter().position(|known| *known == meta.namespace).unwrap_or(order.len());
            let place = place(destination);
            if owners.get(&place).is_none_or(|best| rank < best.rank) {
                owners.insert(place, Owner { rank, index, destination });
            }
        }
    }
    owners
}
