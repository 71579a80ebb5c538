//! What objects must be to each other.

use std::collections::{BTreeMap, BTreeSet};

use palisade_identity::SpiffeId;

use super::names::{canonical, mesh_name, resolve};
use super::{ROOT_NAMESPACE, faults, key};
use crate::finding::problem::{Problems, did_you_mean};
use crate::finding::{Findings, Position, code};
use crate::kind::destination_rule::{DestinationRuleSpec, TlsMode};
use crate::kind::gateway::conflicts;
use crate::kind::service_entry::{Location, ServiceEntrySpec};
use crate::kind::{AuthorizationPolicySpec, Kind, Meta, Named, Object, Selector, Spec};

pub(super) fn check(objects: &[Object], known_services: &[String]) -> Findings {
    let mut checker = Checker {
        services: known_services.iter().map(String::as_str).collect(),
        entries: objects.iter().filter_map(|o| Some((o, entry(o)?))).collect(),
        findings: Findings::default(),
    };
    checker.names(objects);
    checker.scopes(objects);
    checker.hosts();
    let mesh = faults::mesh(objects);
    for object in objects {
        checker.matches(object, objects);
        match &object.spec {
            Spec::AuthorizationPolicy(spec) => {
                checker.callers(object, spec);
                checker.tokens(object, spec, objects);
            }
            Spec::DestinationRule(spec) => checker.rule_host(object, spec),
            Spec::RetryPolicy(spec) => checker.known_host(object, &spec.host, "spec.host"),
            Spec::FaultExperiment(spec) => checker.experiment(object, spec, &mesh),
            Spec::VirtualService(spec) => checker.routes(object, spec, objects),
            Spec::RequestAuthentication(spec) => checker.token_rules(object, spec, objects),
            Spec::JwtPolicy(spec) => checker.token_policy(object, spec, objects),
            _ => {}
        }
    }
    checker.rule_owners(objects);
    checker.gateways(objects);
    checker.route_owners(objects);
    checker.findings
}

pub(super) struct Checker<'o> {
    pub(super) services: BTreeSet<&'o str>,
    pub(super) entries: Vec<(&'o Object, &'o ServiceEntrySpec)>,
    findings: Findings,
}

impl<'o> Checker<'o> {
    pub(super) fn report(&mut self, object: &Object, problem: impl FnOnce(&mut Problems)) {
        let mut problems = Problems::default();
        problem(&mut problems);
        problems.place(Some(&title(object)), |_| object.position.clone(), &mut self.findings);
    }

    fn names(&mut self, objects: &'o [Object]) {
        let mut seen = BTreeMap::new();
        for object in objects {
            if let Some(first) = seen.insert(key(object), object) {
                let message = format!("{} is already written{}", title(object), at(first.position.as_ref()));
                self.report(object, |p| {
                    p.error(code::DUPLICATE_OBJECT, "metadata.name", message);
                    p.help("give one of the two another name, or delete it");
                });
            }
        }
    }

    /// Istio lets the oldest of two win; documents have no age here.
    fn scopes(&mut self, objects: &'o [Object]) {
        let mut seen: BTreeMap<&str, &Object> = BTreeMap::new();
        for object in objects {
            let Spec::PeerAuthentication(spec) = &object.spec else { continue };
            if !spec.selector.is_empty() {
                continue;
            }
            if let Some(first) = seen.insert(&object.meta.namespace, object)
                && first.meta.name != object.meta.name
            {
                let message = format!(
                    "{} holds for the whole namespace already{}",
                    title(first),
                    at(first.position.as_ref())
                );
                self.report(object, |p| {
                    p.error(code::SCOPE_TAKEN, "spec", message);
                    p.help("keep one of the two, or add a selector");
                });
            }
        }
    }

    fn hosts(&mut self) {
        let mut seen: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for (object, spec) in self.entries.clone() {
            for (i, written) in spec.hosts.iter().enumerate() {
                let path = format!("spec.hosts[{i}]");
                let host = canonical(written);
                self.host_owner(object, spec, host, &path);
                let others = seen.entry(host).or_default();
                if let Some(first) = others.iter().find(|o| overlap(o, object)) {
                    let message = format!(
                        "the host {host:?} is already in {}{}",
                        title(first),
                        at(first.position.as_ref())
                    );
                    self.report(object, |p| {
                        p.error(code::HOST_TAKEN, path, message);
                        p.help("write one entry with all endpoints, or exportTo: [\".\"] in both");
                    });
                }
                others.push(object);
            }
        }
    }

    /// Whoever could claim another namespace's host would receive its calls.
    fn host_owner(&mut self, object: &Object, spec: &ServiceEntrySpec, host: &str, path: &str) {
        if self.services.contains(host) {
            self.report(object, |p| {
                p.error(code::HOST_TAKEN, path, format!("{host:?} is a registered service"));
                p.help("delete the entry: instances of the service register themselves");
            });
        }
        let own = object.meta.namespace.as_str();
        if let Some((_, namespace)) = mesh_name(host)
            && spec.location == Location::MeshInternal
            && namespace != own
            && own != ROOT_NAMESPACE
        {
            let message = format!("{host:?} belongs to the namespace {namespace:?}, the entry to {own:?}");
            self.report(object, |p| {
                p.error(code::HOST_OF_ANOTHER_NAMESPACE, path, message);
                p.help(format!("move the entry to the namespace {namespace:?} or to {ROOT_NAMESPACE:?}"));
            });
        }
    }

    fn rule_host(&mut self, object: &Object, spec: &DestinationRuleSpec) {
        let names: Vec<String> = resolve(&spec.host, &object.meta.namespace).collect();
        let modes: Vec<TlsMode> = spec.all_tls().map(|tls| tls.mode).collect();
        let service = names.iter().find(|n| self.services.contains(n.as_str()));
        if let Some(host) = service {
            if modes.iter().any(|m| *m != TlsMode::IstioMutual) {
                let message = format!("{host:?} is a registered service; it is reached by mesh TLS only");
                self.report(object, |p| {
                    p.error(code::MESH_TLS, "spec.trafficPolicy", message);
                    p.help("write mode: ISTIO_MUTUAL, or delete the rule");
                });
            }
            return;
        }
        let of_host = |e: &ServiceEntrySpec| e.hosts.iter().any(|h| names.iter().any(|n| n == canonical(h)));
        let found: Vec<_> = self.entries.iter().filter(|(_, e)| of_host(e)).map(|(_, e)| *e).collect();
        if found.is_empty() {
            self.warn_no_host(object, &spec.host, "spec.host");
        }
        let external = |e: &&ServiceEntrySpec| e.location == Location::MeshExternal;
        let nobody = |e: &ServiceEntrySpec| {
            e.subject_alt_names.is_empty() && e.endpoints.iter().all(|p| p.service_account.is_none())
        };
        if modes.contains(&TlsMode::IstioMutual) && found.iter().any(|e| external(e) || nobody(e)) {
            self.report(object, |p| {
                p.error(code::MESH_TLS, "spec.trafficPolicy", "ISTIO_MUTUAL is for services inside the mesh");
                p.help(
                    "write mode: SIMPLE, or location: MESH_INTERNAL with serviceAccounts in the ServiceEntry",
                );
            });
        }
    }

    /// A RetryPolicy or an experiment is also for callers of a service that is outside the mesh.
    pub(super) fn known_host(&mut self, object: &Object, host: &str, path: &str) {
        let names: Vec<String> = resolve(host, &object.meta.namespace).collect();
        let has = |known: &str| names.iter().any(|name| name == canonical(known));
        if !self.hosts_known().any(has) && !names.iter().any(|name| self.knows_account(name)) {
            self.warn_no_host(object, host, path);
        }
    }

    fn warn_no_host(&mut self, object: &Object, host: &str, path: &str) {
        let near = did_you_mean(host, self.hosts_known()).map(|n| format!("did you mean {n:?}?"));
        // Before the first service registers, a name within the mesh may be that of any.
        let of_mesh = resolve(host, &object.meta.namespace).any(|name| mesh_name(&name).is_some());
        if near.is_none() && of_mesh && self.services.is_empty() {
            return;
        }
        let message = format!("no service and no ServiceEntry has the host {host:?}");
        self.report(object, |p| {
            p.warning(code::UNKNOWN_SERVICE, path, message);
            p.help(near.unwrap_or_else(|| "it does nothing until one has".into()));
        });
    }

    /// Whatever edge the narrower of two selectors selects, the wider selects too.
    fn gateways(&mut self, objects: &'o [Object]) {
        let gateway = |object: &'o Object| match &object.spec {
            Spec::Gateway(spec) => Some((object, Named { meta: object.meta.clone(), spec: spec.clone() })),
            _ => None,
        };
        let all: Vec<_> = objects.iter().filter_map(gateway).collect();
        for (index, (object, later)) in all.iter().enumerate() {
            for (_, earlier) in all.iter().take(index) {
                let (a, b) = (&earlier.spec.selector, &later.spec.selector);
                let within =
                    |narrow: &Selector, wide: &Selector| wide.iter().all(|(k, v)| narrow.get(k) == Some(v));
                let (earlier_place, later_place) = (&earlier.meta.namespace, &later.meta.namespace);
                let together = earlier_place == later_place
                    || [earlier_place, later_place].iter().any(|place| *place == ROOT_NAMESPACE);
                if !together || !(within(a, b) || within(b, a)) {
                    continue;
                }
                for conflict in conflicts(&[earlier.clone(), later.clone()]) {
                    if conflict.gateway == 1 {
                        let path = format!("spec.servers[{}]", conflict.server);
                        self.report(object, |p| p.error(code::GATEWAY_CONFLICT, path, conflict.message));
                    }
                }
            }
        }
    }

    /// Two objects of one kind and one namespace for one host: which one counts would be a matter of luck.
    fn rule_owners(&mut self, objects: &'o [Object]) {
        let mut seen: BTreeMap<(Kind, String, &str), &Object> = BTreeMap::new();
        for object in objects {
            let host = match &object.spec {
                Spec::DestinationRule(spec) => &spec.host,
                Spec::RetryPolicy(spec) => &spec.host,
                _ => continue,
            };
            let namespace = object.meta.namespace.as_str();
            let Some(host) = resolve(host, namespace).last() else { continue };
            if let Some(first) = seen.insert((object.spec.kind(), host, namespace), object)
                && first.meta.name != object.meta.name
            {
                let message =
                    format!("{} is for this host already{}", title(first), at(first.position.as_ref()));
                self.report(object, |p| {
                    p.error(code::HOST_TAKEN, "spec.host", message);
                    p.help("write one with what both say");
                });
            }
        }
    }

    /// Nothing is known before the first service registers; warnings would all be noise then.
    fn callers(&mut self, object: &Object, spec: &AuthorizationPolicySpec) {
        if self.services.is_empty() {
            return;
        }
        self.selector(object, spec);
        for (i, rule) in spec.rules.iter().enumerate() {
            for (j, source) in rule.from.iter().enumerate() {
                let path = format!("spec.rules[{i}].from[{j}].source");
                let principals = source.principals.iter().filter_map(|p| account_of(p));
                let own = object.meta.namespace.as_str();
                let accounts = source.service_accounts.iter().map(|a| match a.split_once('/') {
                    Some((namespace, name)) => format!("{name}.{namespace}"),
                    None => format!("{a}.{own}"),
                });
                let unknown: Vec<String> =
                    principals.chain(accounts).filter(|host| !self.knows_account(host)).collect();
                for host in unknown {
                    self.warn_unknown(object, code::UNKNOWN_SERVICE_ACCOUNT, &path, &host);
                }
            }
        }
    }

    /// `app` is the service account's name where a join token says nothing else.
    fn selector(&mut self, object: &Object, spec: &AuthorizationPolicySpec) {
        let Meta { namespace, .. } = &object.meta;
        let Some(app) = spec.selector.get("app").filter(|_| namespace != ROOT_NAMESPACE) else { return };
        let host = format!("{app}.{namespace}");
        if spec.selector.len() == 1 && !self.services.contains(host.as_str()) {
            self.warn_unknown(object, code::UNKNOWN_SERVICE, "spec.selector.matchLabels.app", &host);
        }
    }

    /// `host`: `service-account.namespace`. Nothing is known before the first service registers.
    pub(super) fn known_caller(&mut self, object: &Object, host: &str, path: &str) {
        if !self.services.is_empty() && !self.knows_account(host) {
            self.warn_unknown(object, code::UNKNOWN_SERVICE_ACCOUNT, path, host);
        }
    }

    fn warn_unknown(&mut self, object: &Object, code: &'static str, path: &str, host: &str) {
        let near = did_you_mean(host, self.hosts_known()).map(|near| format!("did you mean {near:?}?"));
        self.report(object, |p| {
            p.warning(code, path, format!("no service {host:?} is known"));
            p.help(near.unwrap_or_else(|| "this matches nothing until one joins".into()));
        });
    }

    fn knows_account(&self, host: &str) -> bool {
        let of_entry = |(object, spec): &(&Object, &ServiceEntrySpec)| {
            let accounts = spec.endpoints.iter().filter_map(|e| e.service_account.as_ref());
            let mut hosts = accounts.map(|a| format!("{a}.{}", object.meta.namespace));
            hosts.any(|h| h == host)
        };
        self.services.contains(host) || self.entries.iter().any(of_entry)
    }

    pub(super) fn hosts_known(&self) -> impl Iterator<Item = &'o str> {
        let entries: Vec<&'o str> =
            self.entries.iter().flat_map(|(_, e)| e.hosts.iter().map(String::as_str)).collect();
        self.services.clone().into_iter().chain(entries)
    }
}

fn entry(object: &Object) -> Option<&ServiceEntrySpec> {
    match &object.spec {
        Spec::ServiceEntry(spec) => Some(spec),
        _ => None,
    }
}

/// `name.namespace` of an exact principal.
fn account_of(principal: &str) -> Option<String> {
    let id = SpiffeId::parse(&format!("spiffe://{principal}")).ok()?;
    let workload = id.workload()?;
    Some(format!("{}.{}", workload.service_account, workload.namespace))
}

/// Whether some workload is told of both entries.
fn overlap(a: &Object, b: &Object) -> bool {
    let private = |o: &Object| {
        entry(o).is_some_and(|e| !e.export_to.is_empty() && e.export_to.iter().all(|x| x == "."))
    };
    a.meta.namespace == b.meta.namespace || !(private(a) || private(b))
}

pub(super) fn title(object: &Object) -> String {
    format!("{} {}/{}", object.spec.kind().name(), object.meta.namespace, object.meta.name)
}

pub(super) fn at(position: Option<&Position>) -> String {
    position.map(|p| format!(" at {}:{}", p.file, p.line)).unwrap_or_default()
}
