//! What VirtualServices must be to Gateways, to services and to each other.

use super::check::{Checker, at, title};
use super::names::{canonical, resolve};
use crate::compile::routes::overlap;
use crate::finding::code;
use crate::finding::problem::did_you_mean;
use crate::kind::gateway::{GatewayHost, HostPattern};
use crate::kind::service_entry::Protocol;
use crate::kind::virtual_service::{DestinationRef, conflicts, gateways};
use crate::kind::{GatewaySpec, Named, Object, Spec, VirtualServiceSpec};

impl<'o> Checker<'o> {
    pub(super) fn routes(&mut self, object: &Object, spec: &VirtualServiceSpec, objects: &'o [Object]) {
        for (i, (namespace, name)) in gateways(&object.meta, spec).enumerate() {
            let found = objects.iter().find_map(|other| match &other.spec {
                Spec::Gateway(spec) if other.meta.namespace == namespace && other.meta.name == name => {
                    Some(spec)
                }
                _ => None,
            });
            match found {
                Some(gateway) => self.served_hosts(object, spec, (namespace, name), gateway),
                // Istio's word for sidecars; refused where the object itself is checked.
                None if name == "mesh" => {}
                None => self.unknown_gateway(object, i, (namespace, name), objects),
            }
        }
        for (i, route) in spec.http.iter().enumerate() {
            for (j, target) in route.route.iter().enumerate() {
                let path = format!("spec.http[{i}].route[{j}].destination");
                self.destination(object, &target.destination, &path);
            }
            for (j, mirror) in route.mirrors.iter().enumerate() {
                let path = format!("spec.http[{i}].mirrors[{j}].destination");
                self.destination(object, &mirror.destination, &path);
            }
        }
    }

    fn unknown_gateway(
        &mut self,
        object: &Object,
        index: usize,
        (namespace, name): (&str, &str),
        objects: &'o [Object],
    ) {
        let gateway = |o: &&Object| matches!(o.spec, Spec::Gateway(_));
        let known: Vec<String> =
            objects.iter().filter(gateway).map(|o| format!("{}/{}", o.meta.namespace, o.meta.name)).collect();
        let wanted = format!("{namespace}/{name}");
        let near = did_you_mean(&wanted, known.iter().map(String::as_str));
        let near = near.map(|near| format!("did you mean {near:?}?"));
        self.report(object, |p| {
            let message = format!("no Gateway {wanted} is known, so nothing serves these routes");
            p.warning(code::UNKNOWN_GATEWAY, format!("spec.gateways[{index}]"), message);
            p.help(near.unwrap_or_else(|| "apply the Gateway, or correct the name".into()));
        });
    }

    /// Whose routes may use a host is the Gateway's to say: otherwise any namespace could take another's requests.
    fn served_hosts(
        &mut self,
        object: &Object,
        spec: &VirtualServiceSpec,
        (namespace, name): (&str, &str),
        gateway: &GatewaySpec,
    ) {
        let served: Vec<GatewayHost> =
            gateway.servers.iter().flat_map(|s| &s.hosts).filter_map(|h| GatewayHost::parse(h)).collect();
        for (i, text) in spec.hosts.iter().enumerate() {
            let Some(pattern) = HostPattern::parse(text) else { continue };
            let path = format!("spec.hosts[{i}]");
            let fitting: Vec<_> = served.iter().filter(|h| overlap(&h.pattern, &pattern).is_some()).collect();
            if fitting.is_empty() {
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
            let near = did_you_mean(&reference.host, self.hosts_known());
            let near = near.map(|near| format!("did you mean {near:?}?"));
            let message = format!("no service and no ServiceEntry has the host {:?}", reference.host);
            self.report(object, |p| {
                p.warning(code::UNKNOWN_SERVICE, format!("{path}.host"), message);
                p.help(near.unwrap_or_else(|| "requests get 503 until one has".into()));
            });
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
