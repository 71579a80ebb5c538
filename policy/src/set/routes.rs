//! What VirtualServices must be to Gateways, to services and to each other.

use std::collections::BTreeSet;

use super::ROOT_NAMESPACE;
use super::check::{Checker, at, title};
use super::names::{canonical, mesh_name, resolve};
use crate::compile::routes::overlap;
use crate::finding::code;
use crate::finding::problem::did_you_mean;
use crate::kind::gateway::{GatewayHost, HostPattern};
use crate::kind::service_entry::Protocol;
use crate::kind::virtual_service::{DestinationRef, conflicts, gateways, is_for_mesh};
use crate::kind::{GatewaySpec, Named, Object, Spec, VirtualServiceSpec, exports};

impl<'o> Checker<'o> {
    pub(super) fn routes(&mut self, object: &Object, spec: &VirtualServiceSpec, objects: &'o [Object]) {
        let mut served = BTreeSet::new();
        for (namespace, name) in gateways(&object.meta, spec) {
            let found = objects.iter().find_map(|other| match &other.spec {
                Spec::Gateway(spec) if other.meta.namespace == namespace && other.meta.name == name => {
                    Some(spec)
                }
                _ => None,
            });
            match found {
                Some(gateway) => {
                    self.kept_from_gateway(object, spec, (namespace, name));
                    served.extend(self.served_hosts(object, spec, (namespace, name), gateway));
                }
                None => self.unknown_gateway(object, spec, (namespace, name), objects),
            }
        }
        if is_for_mesh(spec) {
            self.called_hosts(object, spec, &served);
        }
        for (i, route) in spec.http.iter().enumerate() {
            for (j, target) in route.route.iter().enumerate() {
                let path = format!("spec.http[{i}].route[{j}].destination");
                self.destination(object, &target.destination, &path);
                self.subset(object, &target.destination, &path, objects);
            }
            for (j, mirror) in route.mirrors.iter().enumerate() {
                let path = format!("spec.http[{i}].mirrors[{j}].destination");
                self.destination(object, &mirror.destination, &path);
                self.subset(object, &mirror.destination, &path, objects);
            }
        }
    }

    /// `served`: hosts, by number, that a Gateway of the routes has.
    fn called_hosts(&mut self, object: &Object, spec: &VirtualServiceSpec, served: &BTreeSet<usize>) {
        for (i, host) in spec.hosts.iter().enumerate() {
            let path = format!("spec.hosts[{i}]");
            let names: Vec<String> = resolve(host, &object.meta.namespace).collect();
            let Some(owner) = self.owner_of(&names) else {
                // Nothing is known before the first service registers; warnings would all be noise then.
                if !served.contains(&i) && !self.services.is_empty() {
                    self.unknown_host(
                        object,
                        host,
                        &path,
                        "sidecars take no notice of the routes until one has",
                    );
                }
                continue;
            };
            let own = object.meta.namespace.as_str();
            if owner != own && own != ROOT_NAMESPACE {
                let message = format!(
                    "{host:?} belongs to the namespace {owner:?}: the routes hold for calls from {own:?} alone"
                );
                self.report(object, |p| {
                    p.note(code::ROUTES_OF_ONE_NAMESPACE, path, message);
                    p.help(format!("for all callers, write them in {owner:?} or in {ROOT_NAMESPACE:?}"));
                });
            }
        }
    }

    /// The namespace that a host belongs to, under any of its names.
    fn owner_of(&self, names: &[String]) -> Option<&'o str> {
        let service = self.services.iter().find(|service| names.iter().any(|name| name == *service));
        if let Some((_, namespace)) = service.and_then(|service| mesh_name(service)) {
            return Some(namespace);
        }
        self.entries.iter().find_map(|(object, entry)| {
            let host = entry.hosts.iter().find(|host| names.iter().any(|name| name == canonical(host)))?;
            Some(entry.namespace_of(host, &object.meta.namespace))
        })
    }

    /// `exportTo` may keep routes from the edge of a Gateway of another namespace.
    fn kept_from_gateway(
        &mut self,
        object: &Object,
        spec: &VirtualServiceSpec,
        (namespace, name): (&str, &str),
    ) {
        let own = object.meta.namespace.as_str();
        if namespace != ROOT_NAMESPACE && !exports::reach(&spec.export_to, own, namespace) {
            let message = format!(
                "exportTo keeps the routes in {own:?}, and the Gateway {namespace}/{name} is elsewhere"
            );
            self.report(object, |p| {
                p.error(code::BAD_EXPORT, "spec.exportTo", message);
                p.help("leave exportTo out, or write \"*\"");
            });
        }
    }

    fn unknown_gateway(
        &mut self,
        object: &Object,
        spec: &VirtualServiceSpec,
        (namespace, name): (&str, &str),
        objects: &'o [Object],
    ) {
        let gateway = |o: &&Object| matches!(o.spec, Spec::Gateway(_));
        let known: Vec<String> =
            objects.iter().filter(gateway).map(|o| format!("{}/{}", o.meta.namespace, o.meta.name)).collect();
        let wanted = format!("{namespace}/{name}");
        let index =
            spec.gateways.iter().position(|text| *text == wanted || *text == name).unwrap_or_default();
        let near = did_you_mean(&wanted, known.iter().map(String::as_str));
        let near = near.map(|near| format!("did you mean {near:?}?"));
        self.report(object, |p| {
            let message = format!("no Gateway {wanted} is known, so nothing serves these routes");
            p.warning(code::UNKNOWN_GATEWAY, format!("spec.gateways[{index}]"), message);
            p.help(near.unwrap_or_else(|| "apply the Gateway, or correct the name".into()));
        });
    }

    /// Whose routes may use a host is the Gateway's to say: otherwise any namespace could take another's requests. Gives the
    /// hosts, by number, that the Gateway serves.
    fn served_hosts(
        &mut self,
        object: &Object,
        spec: &VirtualServiceSpec,
        (namespace, name): (&str, &str),
        gateway: &GatewaySpec,
    ) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let served: Vec<GatewayHost> =
            gateway.servers.iter().flat_map(|s| &s.hosts).filter_map(|h| GatewayHost::parse(h)).collect();
        for (i, text) in spec.hosts.iter().enumerate() {
            let Some(pattern) = HostPattern::parse(text) else { continue };
            let path = format!("spec.hosts[{i}]");
            let fitting: Vec<_> = served.iter().filter(|h| overlap(&h.pattern, &pattern).is_some()).collect();
            if !fitting.is_empty() {
                found.insert(i);
            }
            if fitting.is_empty() {
                // A service that sidecars call need not be served to clients.
                let names: Vec<String> = resolve(text, &object.meta.namespace).collect();
                if is_for_mesh(spec) && (self.services.is_empty() || self.owner_of(&names).is_some()) {
                    continue;
                }
                let message = format!("no server of the Gateway {namespace}/{name} serves {text:?}");
                self.report(object, |p| {
                    p.warning(code::HOST_NOT_SERVED, path, message);
                    p.help("add the host to the Gateway, or take one that it serves");
                });
            } else if !fitting.iter().any(|h| h.admits(&object.meta.namespace, namespace)) {
                let own = &object.meta.namespace;
                let message =
                    format!("the Gateway {namespace}/{name} does not give {text:?} to routes of {own:?}");
                self.report(object, |p| {
                    p.error(code::HOST_NOT_ADMITTED, path, message);
                    p.help(format!("the Gateway's owner may write \"{own}/{text}\" into its hosts"));
                });
            }
        }
        found
    }

    fn unknown_host(&mut self, object: &Object, host: &str, path: &str, until: &str) {
        let near = did_you_mean(host, self.hosts_known());
        let near = near.map(|near| format!("did you mean {near:?}?"));
        let message = format!("no service and no ServiceEntry has the host {host:?}");
        self.report(object, |p| {
            p.warning(code::UNKNOWN_SERVICE, path, message);
            p.help(near.unwrap_or_else(|| until.into()));
        });
    }

    /// Nothing is known before the first service registers; warnings would all be noise then.
    fn destination(&mut self, object: &Object, reference: &DestinationRef, path: &str) {
        let names: Vec<String> = resolve(&reference.host, &object.meta.namespace).collect();
        if names.iter().any(|name| self.services.contains(name.as_str())) {
            return;
        }
        let entry =
            self.entries.iter().map(|(_, entry)| *entry).find(|entry| {
                entry.hosts.iter().any(|host| names.iter().any(|name| name == canonical(host)))
            });
        let Some(entry) = entry else {
            if self.services.is_empty() {
                return;
            }
            let path = format!("{path}.host");
            self.unknown_host(object, &reference.host, &path, "requests get 503 until one has");
            return;
        };
        let http: Vec<u16> =
            entry.ports.iter().filter(|p| p.protocol != Protocol::Tcp).map(|p| p.number).collect();
        let message = match reference.port {
            Some(port) if !http.contains(&port) => {
                format!("the ServiceEntry of {:?} has no HTTP port {port}", reference.host)
            }
            None if http.len() != 1 => {
                format!("which port of {:?} is meant? it has {} for HTTP", reference.host, http.len())
            }
            _ => return,
        };
        self.report(object, |p| {
            p.warning(code::UNKNOWN_SERVICE, format!("{path}.port"), message);
            p.help("write port: {number: ...}; requests get 503 until then");
        });
    }

    /// A subset is what some DestinationRule for the host says it is.
    fn subset(&mut self, object: &Object, reference: &DestinationRef, path: &str, objects: &'o [Object]) {
        let Some(wanted) = &reference.subset else { return };
        let names: Vec<String> = resolve(&reference.host, &object.meta.namespace).collect();
        let rules = objects.iter().filter_map(|other| match &other.spec {
            Spec::DestinationRule(spec) => Some((&other.meta.namespace, spec)),
            _ => None,
        });
        let of_host = rules
            .filter(|(namespace, spec)| resolve(&spec.host, namespace).any(|host| names.contains(&host)));
        let known: Vec<&str> =
            of_host.flat_map(|(_, spec)| &spec.subsets).map(|subset| subset.name.as_str()).collect();
        if known.contains(&wanted.as_str()) {
            return;
        }
        let near = did_you_mean(wanted, known).map(|near| format!("did you mean {near:?}?"));
        let message = format!("no DestinationRule for {:?} has the subset {wanted:?}", reference.host);
        self.report(object, |p| {
            p.warning(code::UNKNOWN_SUBSET, format!("{path}.subset"), message);
            p.help(near.unwrap_or_else(|| "requests get 503 until one has".into()));
        });
    }

    pub(super) fn route_owners(&mut self, objects: &'o [Object]) {
        let mut owners = Vec::new();
        let mut services = Vec::new();
        for object in objects {
            if let Spec::VirtualService(spec) = &object.spec {
                owners.push(object);
                services.push(Named { meta: object.meta.clone(), spec: spec.clone() });
            }
        }
        for conflict in conflicts(&services) {
            let (Some(object), Some(first)) = (owners.get(conflict.index), owners.get(conflict.first)) else {
                continue;
            };
            // Two documents with one name are reported as such.
            if title(object) == title(first) {
                continue;
            }
            let message = format!("{}{}", conflict.message, at(first.position.as_ref()));
            self.report(object, |p| {
                p.error(code::HOST_TAKEN, conflict.path, message);
                p.help("write the routes into one VirtualService, in the order they are meant");
            });
        }
    }
}
