//! A mesh as far as documents tell of it: enough to judge requests without a control plane or a proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_identity::{Namespace, ServiceAccount, SpiffeId, TrustDomain};

use super::target::{Target, registered, routed};
use crate::compile::{Destination, Snapshot};
use crate::decision::RuleRef;
use crate::document::Places;
use crate::finding::problem::did_you_mean;
use crate::finding::{Findings, Position};
use crate::kind::authorization_policy::{AuthorizationPolicySpec, Condition};
use crate::kind::{Kind, Spec};
use crate::projection::{MeshService, Workload, project};
use crate::set::{PolicySet, ROOT_NAMESPACE};

/// What stands for the mesh's own trust domain where no document names one.
const LOCAL: &str = "cluster.local";

/// A set of policies and the name of the mesh.
#[derive(Debug)]
pub struct Mesh<'s> {
    set: &'s PolicySet,
    domain: TrustDomain,
    /// Service accounts that policies name, and values of `app` that they select, `namespace/name`.
    accounts: BTreeSet<String>,
}

/// Why a name means no workload of this mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeshError {
    #[error(
        "the policies speak of several trust domains ({}); say which one is the mesh's own with --trust-domain",
        .0.join(", ")
    )]
    TrustDomains(Vec<String>),
    #[error(
        "{0:?} is not the name of a workload: write name, namespace/name or spiffe://domain/ns/namespace/sa/name"
    )]
    Workload(String),
    #[error("{name:?} has no namespace: write namespace/{name}, or say which one with --namespace")]
    Namespace { name: String },
}

impl<'s> Mesh<'s> {
    /// Without `domain` it is the one that principals of the policies name; `cluster.local` where none does.
    pub fn new(set: &'s PolicySet, domain: Option<TrustDomain>) -> Result<Self, MeshError> {
        let domain = match domain {
            Some(domain) => domain,
            None => named_domain(set)?,
        };
        Ok(Self { set, domain, accounts: accounts(set) })
    }

    pub fn set(&self) -> &'s PolicySet {
        self.set
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The namespace of all objects but those of the root namespace, if it is one only.
    pub fn only_namespace(&self) -> Option<&'s str> {
        let all = self.set.objects().iter().map(|object| object.meta.namespace.as_str());
        let names: BTreeSet<&str> = all.filter(|name| *name != ROOT_NAMESPACE).collect();
        if names.len() == 1 { names.into_iter().next() } else { None }
    }

    /// The identity that a person means by `name`, `namespace/name` or a SPIFFE id with or without its scheme.
    pub fn identity(&self, text: &str, namespace: Option<&str>) -> Result<SpiffeId, MeshError> {
        let wrong = || MeshError::Workload(text.to_owned());
        if text.contains("/ns/") {
            let whole = if text.contains("://") { text.to_owned() } else { format!("spiffe://{text}") };
            return SpiffeId::parse(&whole).ok().filter(|id| id.workload().is_some()).ok_or_else(wrong);
        }
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (namespace, name),
            None => (namespace.ok_or_else(|| MeshError::Namespace { name: text.to_owned() })?, text),
        };
        let namespace = Namespace::parse(namespace).map_err(|_no_name| wrong())?;
        let account = ServiceAccount::parse(name).map_err(|_no_name| wrong())?;
        Ok(SpiffeId::of_workload(&self.domain, &namespace, &account))
    }

    /// A workload as it is when its join token says no labels: `app` is the service account. `labels` come on top.
    pub fn workload(&self, id: SpiffeId, labels: BTreeMap<String, String>) -> Workload {
        let app = id.workload().map(|workload| workload.service_account.as_str().to_owned());
        let mut all: BTreeMap<String, String> = app.map(|app| ("app".to_owned(), app)).into_iter().collect();
        all.extend(labels);
        Workload { id, labels: all }
    }

    /// Compiles the policies of a workload.
    pub fn target(&self, workload: &Workload) -> Result<Target, Findings> {
        let mut projection = project(self.set, &[], workload);
        let services: Vec<_> =
            routed(self.set, &projection).iter().filter_map(|(name, p)| self.service(name, p)).collect();
        if !services.is_empty() {
            projection = project(self.set, &services, workload);
        }
        Ok(Target { snapshot: Snapshot::compile(0, &projection)?, projection })
    }

    fn service(&self, (namespace, name): &(String, String), ports: &BTreeSet<u16>) -> Option<MeshService> {
        let (namespace, account) = (Namespace::parse(namespace).ok()?, ServiceAccount::parse(name).ok()?);
        let id = SpiffeId::of_workload(&self.domain, &namespace, &account);
        registered(&self.workload(id, BTreeMap::new()), ports)
    }

    /// Where a caller's sidecar sends what is for a service of the mesh. `None`: the caller is not told of the service,
    /// since its policies would let no request of this caller in.
    pub fn way(
        &self,
        caller: &Workload,
        service: &Workload,
        port: u16,
    ) -> Result<Option<Arc<Destination>>, Findings> {
        let Some(registered) = registered(service, &BTreeSet::from([port])) else { return Ok(None) };
        let host = format!("{}.{}", registered.name, registered.namespace);
        let projection = project(self.set, &[registered], caller);
        let snapshot = Snapshot::compile(0, &projection)?;
        Ok(snapshot.destination(&host, port).cloned())
    }

    /// The VirtualService, `namespace/name`, that says what a caller's sidecar does with calls of a service.
    pub fn routes_of_calls(
        &self,
        caller: &Workload,
        service: &Workload,
        port: u16,
    ) -> Result<Option<String>, Findings> {
        let Some(registered) = registered(service, &BTreeSet::from([port])) else { return Ok(None) };
        let host = format!("{}.{}", registered.name, registered.namespace);
        let snapshot = Snapshot::compile(0, &project(self.set, &[registered], caller))?;
        let table = snapshot.destination(&host, port).and_then(|found| snapshot.mesh_routes(found));
        Ok(table.map(|table| format!("{}/{}", table.namespace, table.name)))
    }

    /// Where a caller's sidecar sends what is for a host of a ServiceEntry.
    pub fn way_to_host(
        &self,
        caller: &Workload,
        authority: &str,
        port: u16,
    ) -> Result<Option<Arc<Destination>>, Findings> {
        let snapshot = Snapshot::compile(0, &project(self.set, &[], caller))?;
        Ok(snapshot.destination(authority, port).cloned())
    }

    /// Where a rule is written, or a route of a VirtualService.
    pub fn place(&self, kind: Kind, rule: &RuleRef) -> Option<Position> {
        let object = self.set.get(kind, &rule.namespace, &rule.policy)?;
        let list = if kind == Kind::VirtualService { "http" } else { "rules" };
        Places::new(object).find(&format!("spec.{list}[{}]", rule.rule))
    }

    /// Where an object is written.
    pub(super) fn object_place(&self, kind: Kind, namespace: &str, name: &str) -> Option<Position> {
        self.set.get(kind, namespace, name)?.position.clone()
    }

    /// A name that documents know and that looks like this one, which they do not know.
    pub fn near_name(&self, id: &SpiffeId) -> Option<&str> {
        let workload = id.workload()?;
        let own = format!("{}/{}", workload.namespace, workload.service_account);
        if self.accounts.is_empty() || self.accounts.contains(&own) {
            return None;
        }
        did_you_mean(&own, self.accounts.iter().map(String::as_str))
    }

    /// Whether some document names this service account, or selects it by `app`.
    pub fn knows(&self, id: &SpiffeId) -> bool {
        let own = id.workload().map(|w| format!("{}/{}", w.namespace, w.service_account));
        own.is_some_and(|own| self.accounts.contains(&own))
    }
}

/// Principals that a policy names, negations too.
pub(crate) fn principals(spec: &AuthorizationPolicySpec) -> impl Iterator<Item = &str> {
    let sources = spec.rules.iter().flat_map(|rule| &rule.from);
    let sources = sources.flat_map(|s| s.principals.iter().chain(&s.not_principals));
    let conditions = spec.rules.iter().flat_map(|rule| &rule.when);
    let conditions = conditions.filter(|c: &&Condition| c.key == "source.principal");
    sources.chain(conditions.flat_map(|c| c.values.iter().chain(&c.not_values))).map(String::as_str)
}

pub(crate) fn authorization(set: &PolicySet) -> impl Iterator<Item = (&str, &AuthorizationPolicySpec)> {
    set.objects().iter().filter_map(|object| match &object.spec {
        Spec::AuthorizationPolicy(spec) => Some((object.meta.namespace.as_str(), spec)),
        _ => None,
    })
}

fn named_domain(set: &PolicySet) -> Result<TrustDomain, MeshError> {
    let aliases = set.mesh().trust_domain_aliases;
    let named = authorization(set).flat_map(|(_, spec)| principals(spec));
    let domains = named.filter_map(|principal| principal.split_once("/ns/")).map(|(domain, _)| domain);
    let ours = |domain: &&str| {
        *domain != LOCAL && !domain.contains('*') && aliases.iter().all(|alias| alias != domain)
    };
    let domains: BTreeSet<&str> = domains.filter(ours).collect();
    let mut parsed: Vec<TrustDomain> = domains.iter().filter_map(|d| TrustDomain::parse(d).ok()).collect();
    match (parsed.pop(), parsed.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => TrustDomain::parse(LOCAL).map_err(|_never| MeshError::TrustDomains(Vec::new())),
        (Some(_), false) => Err(MeshError::TrustDomains(domains.into_iter().map(str::to_owned).collect())),
    }
}

fn accounts(set: &PolicySet) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (namespace, spec) in authorization(set) {
        for principal in principals(spec) {
            let Ok(id) = SpiffeId::parse(&format!("spiffe://{principal}")) else { continue };
            out.extend(id.workload().map(|w| format!("{}/{}", w.namespace, w.service_account)));
        }
        let sources = spec.rules.iter().flat_map(|rule| &rule.from);
        for account in sources.flat_map(|s| s.service_accounts.iter().chain(&s.not_service_accounts)) {
            let whole = account.contains('/');
            out.insert(if whole { account.clone() } else { format!("{namespace}/{account}") });
        }
        out.extend(spec.selector.get("app").map(|app| format!("{namespace}/{app}")));
    }
    out
}
