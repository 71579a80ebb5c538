//! Traffic policies that leave nobody to call, or that change nothing.

use std::net::IpAddr;

use super::Desk;
use super::world::{Of, World};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::kind::destination_rule::{
    ConnectionPool, LoadBalancer, Outliers, Place, Settings, TlsMode, TrafficPolicy,
};
use crate::kind::service_entry::{EntryPort, Location, Protocol};
use crate::kind::{DestinationRuleSpec, ServiceEntrySpec};
use crate::set::ROOT_NAMESPACE;
use crate::set::names::{canonical, resolve};

type Rule<'o> = Of<'o, DestinationRuleSpec>;
type Entry<'o> = Of<'o, ServiceEntrySpec>;

pub(super) fn check(world: &World<'_>, desk: &mut Desk) {
    for rule in &world.rules {
        let entry = world.entries.iter().find(|entry| is_for(rule, entry));
        let problems = desk.about(rule.index);
        each_policy(rule.spec, |subset, policy| {
            for (place, settings) in parts(subset, policy) {
                if let Some(outliers) = &settings.outliers {
                    ejections(outliers, place, entry, problems);
                }
                if let Some(entry) = entry {
                    without_http(settings, place, entry, problems);
                }
            }
            if let Some(entry) = entry {
                unknown_ports(policy, subset, entry, problems);
            }
        });
        unnamed_subsets(rule, world, problems);
        if let Some(entry) = entry {
            empty_subsets(rule.spec, entry, problems);
            hidden_tls(rule, entry, &world.rules, problems);
        }
    }
}

fn is_for(rule: &Rule<'_>, entry: &Entry<'_>) -> bool {
    resolve(&rule.spec.host, rule.namespace())
        .any(|name| entry.spec.hosts.iter().any(|host| canonical(host) == name))
}

fn each_policy(rule: &DestinationRuleSpec, mut look: impl FnMut(Option<usize>, &TrafficPolicy)) {
    look(None, &rule.policy);
    for (index, subset) in rule.subsets.iter().enumerate() {
        look(Some(index), &subset.policy);
    }
}

/// The settings of all ports and of single ones, with their places.
fn parts(subset: Option<usize>, policy: &TrafficPolicy) -> impl Iterator<Item = (Place, &Settings)> {
    let ports = policy.ports.iter().enumerate();
    let ports = ports.map(move |(index, port)| (Place { subset, port: Some(index) }, &port.settings));
    std::iter::once((Place { subset, port: None }, &*policy.settings)).chain(ports)
}

fn ejections(outliers: &Outliers, place: Place, entry: Option<&Entry<'_>>, problems: &mut Problems) {
    let at = |field: &str| place.path(&format!("outlierDetection.{field}"));
    if outliers.max_ejection_percent == Some(100) && outliers.min_health_percent.unwrap_or(0) == 0 {
        let message = "all endpoints may be left out at once, and then every call gets 503";
        problems.warning(code::EJECTS_ALL, at("maxEjectionPercent"), message);
        problems.help("write minHealthPercent too: with fewer endpoints left, none is left out");
    }
    let only = entry.and_then(|entry| Some((entry, only_endpoint(entry.spec)?)));
    if let Some((entry, address)) = only {
        let message = format!(
            "{} has one endpoint, {address}: while it is left out, every call gets 503",
            entry.named()
        );
        problems.note(code::EJECTS_ONLY, place.path("outlierDetection"), message);
        problems.help("one endpoint may always be left out; give the host a second, if that is not meant");
    }
    let (five_xx, gateway) =
        (outliers.consecutive_5xx.unwrap_or(5), outliers.consecutive_gateway.unwrap_or(0));
    if five_xx > 0 && gateway >= five_xx {
        let message = format!(
            "502, 503 and 504 count among the {five_xx} errors that are enough, so {gateway} of them never come"
        );
        problems.warning(code::INEFFECTIVE_SETTING, at("consecutiveGatewayErrors"), message);
        problems.help("write a smaller number than consecutive5xxErrors (5 where it is not written)");
    }
}

/// The address of the one endpoint that gets anything. A name may stand for many.
fn only_endpoint(entry: &ServiceEntrySpec) -> Option<&str> {
    let mut all = entry.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
    let only = all.next().filter(|_| all.next().is_none())?;
    only.address.parse::<IpAddr>().is_ok().then_some(only.address.as_str())
}

/// Settings about requests where only bytes are carried.
fn without_http(settings: &Settings, place: Place, entry: &Entry<'_>, problems: &mut Problems) {
    if entry.spec.ports.iter().any(|port| port.protocol != Protocol::Tcp) {
        return;
    }
    let pool = settings
        .connection_pool
        .as_ref()
        .is_some_and(|ConnectionPool { http, .. }| *http != Default::default());
    let of_request = |LoadBalancer { consistent_hash, .. }: &LoadBalancer| {
        consistent_hash.as_ref().is_some_and(|hash| hash.source_ip.is_none())
    };
    let hash = settings.load_balancer.as_ref().is_some_and(of_request);
    for (found, field) in [(pool, "connectionPool.http"), (hash, "loadBalancer.consistentHash")] {
        if found {
            let message = format!("all ports of {} are TCP and have no requests", entry.named());
            problems.warning(code::INEFFECTIVE_SETTING, place.path(field), message);
            problems.help("leave it out, or give a port its protocol (HTTP, HTTP2, GRPC)");
        }
    }
}

fn unknown_ports(policy: &TrafficPolicy, subset: Option<usize>, entry: &Entry<'_>, problems: &mut Problems) {
    for (index, of) in policy.ports.iter().enumerate() {
        if entry.spec.ports.iter().all(|port| port.number != of.port) {
            let message = format!("{} has no port {}", entry.named(), of.port);
            let path = Place { subset, port: Some(index) }.path("port");
            problems.warning(code::INEFFECTIVE_SETTING, path, message);
            let numbers: Vec<String> = entry.spec.ports.iter().map(|port| port.number.to_string()).collect();
            problems.help(format!("its ports: {}", numbers.join(", ")));
        }
    }
}

/// Istio surprises here: nothing but a route that names a subset leads to it.
fn unnamed_subsets(rule: &Rule<'_>, world: &World<'_>, problems: &mut Problems) {
    let hosts: Vec<String> = resolve(&rule.spec.host, rule.namespace()).collect();
    let destinations = world.services.iter().flat_map(|service| {
        let routes = service.spec.http.iter();
        let all = routes.flat_map(|route| {
            let mirrors = route.mirrors.iter().map(|mirror| &mirror.destination);
            route.route.iter().map(|target| &target.destination).chain(mirrors)
        });
        all.map(|to| (service.namespace(), to))
    });
    let of_host =
        destinations.filter(|(namespace, to)| resolve(&to.host, namespace).any(|host| hosts.contains(&host)));
    let named: Vec<&str> = of_host.filter_map(|(_, to)| to.subset.as_deref()).collect();
    for (index, subset) in rule.spec.subsets.iter().enumerate() {
        if named.contains(&subset.name.as_str()) {
            continue;
        }
        let path = format!("spec.subsets[{index}]");
        if subset.policy == TrafficPolicy::default() {
            let message = format!("no route names the subset {:?}", subset.name);
            problems.note(code::UNUSED_SUBSET, path, message);
        } else {
            let message =
                format!("the trafficPolicy counts nowhere: no route names the subset {:?}", subset.name);
            problems.warning(code::UNUSED_SUBSET, format!("{path}.trafficPolicy"), message);
        }
        problems.help("write subset beside host in a destination of a VirtualService, or delete it");
    }
}

fn empty_subsets(rule: &DestinationRuleSpec, entry: &Entry<'_>, problems: &mut Problems) {
    for (index, subset) in rule.subsets.iter().enumerate() {
        let mut endpoints = entry.spec.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
        if !subset.labels.is_empty()
            && !endpoints.any(|e| subset.labels.iter().all(|(k, v)| e.labels.get(k) == Some(v)))
        {
            let message =
                format!("no endpoint of {} has these labels: calls to the subset get 503", entry.named());
            problems.warning(code::EMPTY_SUBSET, format!("spec.subsets[{index}].labels"), message);
            problems.help("write the labels of an endpoint, or give an endpoint these");
        }
    }
}

/// A rule that says nothing of TLS before one that does: it counts alone, and calls go out in plaintext.
fn hidden_tls(rule: &Rule<'_>, entry: &Entry<'_>, rules: &[Rule<'_>], problems: &mut Problems) {
    let in_plaintext = |port: &EntryPort| !port.tls;
    if rule.spec.policy.settings.tls.is_some()
        || rule.namespace() == ROOT_NAMESPACE
        || entry.spec.location != Location::MeshExternal
        || !entry.spec.ports.iter().any(in_plaintext)
    {
        return;
    }
    let rank = |of: &Rule<'_>| {
        let namespaces = [rule.namespace(), entry.namespace(), ROOT_NAMESPACE];
        namespaces.iter().position(|namespace| *namespace == of.namespace())
    };
    let asks = |other: &&Rule<'_>| {
        let tls = other.spec.policy.settings.tls.as_ref();
        tls.is_some_and(|tls| matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual))
            && is_for(other, entry)
            && rank(other).is_some_and(|rank| rank > 0)
    };
    if let Some(other) = rules.iter().find(asks) {
        let message = format!(
            "calls to {} go out in plaintext: the tls of {} does not count beside this rule",
            rule.spec.host,
            other.named()
        );
        problems.warning(code::HIDDEN_TLS, "spec.trafficPolicy", message);
        problems.help("as in Istio one rule counts, the nearest one: repeat its tls here");
    }
}
