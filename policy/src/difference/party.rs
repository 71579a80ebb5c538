//! Whom a comparison asks about: callers and services that either set speaks of, and others for all the rest.

use std::collections::{BTreeMap, BTreeSet};

use palisade_identity::{Namespace, ServiceAccount, SpiffeId};

use super::fill::{self, ELSEWHERE, OTHER};
use crate::explain::Mesh;
use crate::kind::authorization_policy::{AuthorizationPolicySpec, Condition};
use crate::kind::{Object, Selector, Spec};
use crate::projection::Workload;
use crate::set::{PolicySet, ROOT_NAMESPACE};

/// Services of one comparison that come of labels put together; callers that come of names put together.
const COMBINATIONS_MAX: usize = 200;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// As it is shown.
    pub(super) name: String,
    pub(super) id: Option<SpiffeId>,
}

/// Workloads that policies select, and one of each namespace that none selects by a label.
pub(super) fn services(sets: &[&PolicySet; 2], mesh: &Mesh<'_>) -> Vec<(String, Workload)> {
    let objects = || sets.iter().flat_map(|set| set.objects());
    let mut namespaces: BTreeSet<&str> = objects().map(|object| object.meta.namespace.as_str()).collect();
    namespaces.remove(ROOT_NAMESPACE);
    if namespaces.is_empty() {
        namespaces.insert(ELSEWHERE);
    }
    let mut out = BTreeMap::new();
    for namespace in namespaces {
        let here = objects().filter(|o| o.meta.namespace == namespace || o.meta.namespace == ROOT_NAMESPACE);
        let selectors: BTreeSet<&Selector> = here.filter_map(selector).filter(|s| !s.is_empty()).collect();
        let (named, others): (Vec<&Selector>, Vec<&Selector>) =
            selectors.iter().partition(|selector| selector.contains_key("app"));
        let alone = named.iter().chain(&others).map(|selector| (**selector).clone());
        let both = named.iter().flat_map(|a| others.iter().filter_map(|b| joined(a, b)));
        for labels in alone.chain(both.take(COMBINATIONS_MAX)).chain([Selector::new()]) {
            out.extend(service(namespace, labels, mesh));
        }
    }
    out.into_iter().collect()
}

fn joined(a: &Selector, b: &Selector) -> Option<Selector> {
    let agree = b.iter().all(|(key, value)| a.get(key).is_none_or(|own| own == value));
    agree.then(|| a.iter().chain(b).map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn service(namespace: &str, labels: Selector, mesh: &Mesh<'_>) -> Option<(String, Workload)> {
    let app = labels.get("app").cloned();
    let account = ServiceAccount::parse(app.as_deref().unwrap_or(OTHER)).ok()?;
    let id = SpiffeId::of_workload(mesh.trust_domain(), &Namespace::parse(namespace).ok()?, &account);
    let more: Vec<String> =
        labels.iter().filter(|(key, _)| *key != "app").map(|(key, value)| format!("{key}={value}")).collect();
    let name = match (&app, more.is_empty()) {
        (Some(app), true) => format!("{namespace}/{app}"),
        (Some(app), false) => format!("{namespace}/{app} ({})", more.join(", ")),
        (None, false) => format!("any workload of {namespace} with {}", more.join(", ")),
        (None, true) => format!("any other workload of {namespace}"),
    };
    Some((name, mesh.workload(id, labels)))
}

fn selector(object: &Object) -> Option<&Selector> {
    Some(match &object.spec {
        Spec::AuthorizationPolicy(spec) => &spec.selector,
        Spec::PeerAuthentication(spec) => &spec.selector,
        Spec::RequestAuthentication(spec) => &spec.selector,
        Spec::JwtPolicy(spec) => &spec.selector,
        Spec::RequestGuard(spec) => &spec.selector,
        Spec::Gateway(spec) => &spec.selector,
        _ => return None,
    })
}

/// Callers that policies of either set name, one that fits each pattern, others of the service's namespace and of
/// another one, and one without a certificate. To an edge come clients from outside alone.
pub(super) fn callers(
    sets: &[&PolicySet; 2],
    mesh: &Mesh<'_>,
    service: &Workload,
    edge: bool,
) -> Vec<Caller> {
    if edge {
        return vec![Caller { name: "clients from outside".into(), id: None }];
    }
    let domain = mesh.trust_domain().as_str();
    let mut found: BTreeMap<String, Caller> = BTreeMap::new();
    let mut add = |name: String, id: Option<SpiffeId>| {
        if let Some(id) = id {
            found.entry(id.as_str().to_owned()).or_insert_with(|| Caller { name, id: Some(id) });
        }
    };
    for (namespace, spec) in sets.iter().flat_map(|set| crate::explain::authorization(set)) {
        for pattern in crate::explain::principals(spec) {
            let id = fill::identity(pattern, domain);
            let name = match (&id, pattern.contains('*')) {
                (Some(id), false) => known_as(id, domain),
                _ => format!("callers like {pattern}"),
            };
            if pattern != "*" {
                add(name, id);
            }
        }
        for account in accounts(spec) {
            let whole =
                if account.contains('/') { account.to_owned() } else { format!("{namespace}/{account}") };
            let id = mesh.identity(&whole, None).ok();
            add(whole, id);
        }
        for pattern in namespaces(spec) {
            let other = pattern.replace('*', ELSEWHERE);
            let id = mesh.identity(&format!("{other}/{OTHER}"), None).ok();
            add(format!("anybody else of namespace {pattern}"), id);
        }
        for pattern in trust_domains(spec) {
            let id = format!("spiffe://{}/ns/{ELSEWHERE}/sa/{OTHER}", pattern.replace('*', ELSEWHERE));
            add(format!("anybody of trust domain {pattern}"), SpiffeId::parse(&id).ok());
        }
        if let Some(app) = spec.selector.get("app").filter(|_| namespace != ROOT_NAMESPACE) {
            add(format!("{namespace}/{app}"), mesh.identity(&format!("{namespace}/{app}"), None).ok());
        }
    }
    for (namespace, account) in of_any_namespace(sets, domain) {
        let name = format!("{namespace}/{account}");
        let id = mesh.identity(&name, None).ok();
        add(name, id);
    }
    let own = service.id.workload().map(|w| w.namespace.as_str().to_owned()).unwrap_or_default();
    add(format!("anybody else of namespace {own}"), mesh.identity(&format!("{own}/{OTHER}"), None).ok());
    add("anybody else".into(), mesh.identity(&format!("{ELSEWHERE}/{OTHER}"), None).ok());
    let mut out: Vec<Caller> = found.into_values().collect();
    out.push(Caller { name: "callers without a certificate".into(), id: None });
    out
}

/// Accounts that a pattern such as `*/sa/payments` names without their namespace, in each namespace that some rule asks
/// for: one source may ask for both.
fn of_any_namespace(sets: &[&PolicySet; 2], domain: &str) -> Vec<(String, String)> {
    let specs = || sets.iter().flat_map(|set| crate::explain::authorization(set)).map(|(_, spec)| spec);
    let patterns = specs().flat_map(crate::explain::principals);
    let ids = patterns.filter(|p| p.starts_with('*')).filter_map(|p| fill::identity(p, domain));
    let account = |id: SpiffeId| id.workload().map(|w| w.service_account.as_str().to_owned());
    let accounts: BTreeSet<String> = ids.filter_map(account).collect();
    let asked: BTreeSet<String> = specs().flat_map(namespaces).map(|n| n.replace('*', ELSEWHERE)).collect();
    let both = asked.iter().flat_map(|n| accounts.iter().map(|a| (n.clone(), a.clone())));
    both.take(COMBINATIONS_MAX).collect()
}

fn known_as(id: &SpiffeId, domain: &str) -> String {
    match id.workload() {
        Some(w) if id.trust_domain().as_str() == domain => format!("{}/{}", w.namespace, w.service_account),
        _ => id.principal().to_owned(),
    }
}

fn accounts(spec: &AuthorizationPolicySpec) -> impl Iterator<Item = &str> {
    let sources = spec.rules.iter().flat_map(|rule| &rule.from);
    let of_sources = sources.flat_map(|s| s.service_accounts.iter().chain(&s.not_service_accounts));
    of_sources.map(String::as_str).chain(of_condition(spec, "source.serviceAccount"))
}

fn namespaces(spec: &AuthorizationPolicySpec) -> impl Iterator<Item = &str> {
    let sources = spec.rules.iter().flat_map(|rule| &rule.from);
    let of_sources = sources.flat_map(|s| s.namespaces.iter().chain(&s.not_namespaces));
    of_sources.map(String::as_str).chain(of_condition(spec, "source.namespace"))
}

fn trust_domains(spec: &AuthorizationPolicySpec) -> impl Iterator<Item = &str> {
    let sources = spec.rules.iter().flat_map(|rule| &rule.from);
    let of_sources = sources.flat_map(|s| s.trust_domains.iter().chain(&s.not_trust_domains));
    of_sources.map(String::as_str).chain(of_condition(spec, "source.trustDomain"))
}

fn of_condition<'s>(spec: &'s AuthorizationPolicySpec, key: &'static str) -> impl Iterator<Item = &'s str> {
    let conditions = spec.rules.iter().flat_map(|rule| &rule.when).filter(move |c: &&Condition| c.key == key);
    conditions.flat_map(|c| c.values.iter().chain(&c.not_values)).map(String::as_str)
}
