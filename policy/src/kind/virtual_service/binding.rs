//! Whose requests routes are for: clients of Gateways, and callers in the mesh.

use std::collections::BTreeSet;

use palisade_identity::Namespace;

use super::{HttpMatch, VirtualServiceSpec};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::gateway::HostPattern;
use crate::kind::{Meta, exports};
use crate::set::names::resolve;

/// Istio's word for all sidecars.
const MESH: &str = "mesh";

/// A Gateway by namespace and name; `None`: the sidecars.
pub type Binding<'a> = Option<(&'a str, &'a str)>;
/// The same, kept.
pub(super) type OwnedBinding = Option<(Box<str>, Box<str>)>;

/// The Gateways of a VirtualService, as namespace and name.
pub(crate) fn gateways<'a>(
    meta: &'a Meta,
    spec: &'a VirtualServiceSpec,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    spec.gateways.iter().filter_map(|text| binding(text, meta))
}

/// Whether sidecars take the routes, for the requests of their applications. As in Istio, they do where nothing is said.
pub(crate) fn is_for_mesh(spec: &VirtualServiceSpec) -> bool {
    spec.gateways.is_empty() || spec.gateways.iter().any(|text| text == MESH)
}

fn binding<'a>(text: &'a str, meta: &'a Meta) -> Binding<'a> {
    (text != MESH).then(|| text.split_once('/').unwrap_or((&meta.namespace, text)))
}

/// Whether an item of a match is for requests at this Gateway, or at sidecars.
pub(crate) fn is_item_for(item: &HttpMatch, meta: &Meta, at: Binding<'_>) -> bool {
    item.gateways.is_empty() || item.gateways.iter().any(|text| binding(text, meta) == at)
}

/// Which bindings an item of a match is for; none: all of them.
pub(super) fn bindings_of(item: &HttpMatch, meta: &Meta) -> Box<[OwnedBinding]> {
    let owned = |(namespace, name): (&str, &str)| (namespace.into(), name.into());
    item.gateways.iter().map(|text| binding(text, meta).map(owned)).collect()
}

/// The hosts of services, as their canonical names, whose calls the routes say something about.
pub(crate) fn called_hosts<'a>(
    meta: &'a Meta,
    spec: &'a VirtualServiceSpec,
) -> impl Iterator<Item = String> + 'a {
    let hosts = spec.hosts.iter().filter(|_| is_for_mesh(spec));
    hosts.flat_map(|host| resolve(host, &meta.namespace))
}

/// Whether sidecars of the namespace `caller` take these routes for a host of `host_namespace`: those of their own namespace,
/// of the host's and of the root namespace. A namespace that could route what others send to a third one could take their
/// requests (ISTIO-SECURITY-2026-002).
pub(crate) fn may_route(
    meta: &Meta,
    spec: &VirtualServiceSpec,
    host_namespace: &str,
    caller: &str,
    root: &str,
) -> bool {
    [caller, host_namespace, root].contains(&meta.namespace.as_str())
        && exports::reach(&spec.export_to, &meta.namespace, caller)
}

pub(super) fn check(meta: &Meta, spec: &VirtualServiceSpec, problems: &mut Problems) {
    check_hosts(spec, problems);
    check_gateways(spec, problems);
    exports::check(&spec.export_to, problems);
    for (i, route) in spec.http.iter().enumerate() {
        for (j, item) in route.matches.iter().enumerate() {
            check_item(meta, spec, item, &format!("spec.http[{i}].match[{j}]"), problems);
        }
    }
}

fn check_hosts(spec: &VirtualServiceSpec, problems: &mut Problems) {
    if spec.hosts.is_empty() {
        problems.error(code::MISSING_FIELD, "spec.hosts", "a VirtualService has at least one host");
    }
    let mut seen = BTreeSet::new();
    for (i, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        match HostPattern::parse(host) {
            None => {
                problems.error(code::BAD_HOST, path, format!("{host:?} is no host of a VirtualService"));
                problems.help("write name, *.name or *, in lower case, as clients ask for it");
            }
            Some(pattern) if !seen.insert(pattern.clone()) => {
                problems.error(code::HOST_TAKEN, path, format!("the host {host:?} is written twice"));
            }
            Some(HostPattern::Below(_) | HostPattern::Any) if is_for_mesh(spec) => {
                let message = format!("sidecars take routes for single hosts, and {host:?} is a family");
                problems.error(code::BAD_HOST, path, message);
                problems.help(match spec.gateways.is_empty() {
                    true => "name each service, or the Gateway that serves the hosts: gateways: [public]",
                    false => {
                        "name each service, or write the routes of the Gateway into an object of their own"
                    }
                });
            }
            Some(_) => {}
        }
    }
}

fn check_gateways(spec: &VirtualServiceSpec, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (i, text) in spec.gateways.iter().enumerate() {
        let path = format!("spec.gateways[{i}]");
        if !is_name(text) {
            problems.error(code::ROUTE_GATEWAYS, path, format!("{text:?} names no Gateway"));
            problems.help("write name, namespace/name, or mesh for sidecars");
        } else if !seen.insert(text) {
            problems.error(code::ROUTE_GATEWAYS, path, format!("the Gateway {text:?} is written twice"));
        }
    }
}

fn is_name(text: &str) -> bool {
    text.split('/').count() <= 2 && text.split('/').all(|part| Namespace::parse(part).is_ok())
}

/// What says whose requests an item is for.
fn check_item(meta: &Meta, spec: &VirtualServiceSpec, item: &HttpMatch, path: &str, problems: &mut Problems) {
    for (i, text) in item.gateways.iter().enumerate() {
        let path = format!("{path}.gateways[{i}]");
        let bound = match binding(text, meta) {
            Some(gateway) => gateways(meta, spec).any(|other| other == gateway),
            None => is_for_mesh(spec),
        };
        if !bound {
            let message = format!("the routes are not for {text:?}, so the item never matches there");
            problems.error(code::NEVER_MATCHES, path, message);
            problems.help("name it in spec.gateways too, or take it out here");
        }
    }
    let callers = [
        ("sourceLabels", !item.source_labels.is_empty()),
        ("sourceNamespace", item.source_namespace.is_some()),
    ];
    for (field, _) in callers.iter().filter(|(_, there)| *there) {
        let path = format!("{path}.{field}");
        if !is_for_mesh(spec) {
            let message = format!("{field} is about callers in the mesh, and the routes are for Gateways");
            problems.error(code::ROUTE_GATEWAYS, path, message);
            problems.help("add mesh to spec.gateways, or take the field out");
        } else if !item.gateways.is_empty() {
            problems.error(
                code::ROUTE_GATEWAYS,
                path,
                format!("beside gateways, Istio does not look at {field}"),
            );
            problems.help("keep one of the two");
        }
    }
}
