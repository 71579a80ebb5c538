//! Who is meant: names of workloads that have joined, SPIFFE ids, hosts.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};
use palisade_identity::SpiffeId;
use palisade_policy::explain::Mesh;
use palisade_policy::set::ROOT_NAMESPACE;

use crate::policies;

/// What names mean in a mesh that runs.
pub(super) struct Names<'m> {
    pub(super) mesh: &'m Mesh<'m>,
    /// Those that have joined.
    pub(super) joined: BTreeSet<SpiffeId>,
}

impl Names<'_> {
    /// The caller as documents write it. Ids, and patterns of them, are taken as they are.
    pub(super) fn caller(&self, text: &str) -> Result<String> {
        if text.contains('*') {
            return Ok(text.strip_prefix("spiffe://").unwrap_or(text).to_owned());
        }
        Ok(self.workload(text)?.principal().to_owned())
    }

    /// The host that a workload serves, or that is written.
    pub(super) fn host(&self, text: &str) -> Result<String> {
        let is_host = text.contains('.') && !text.contains('/');
        if is_host || policies::is_entry(self.mesh.set(), text) {
            return Ok(text.to_ascii_lowercase());
        }
        let id = self.workload(text)?;
        let name = id.workload().ok_or_else(|| anyhow!("{id} is no workload's id"))?;
        Ok(format!("{}.{}", name.service_account, name.namespace))
    }

    /// `name`, `namespace/name` or a SPIFFE id. A name is one of a workload that has joined: a misspelled one would harm nobody,
    /// and look as if everybody bore it.
    fn workload(&self, text: &str) -> Result<SpiffeId> {
        if text.contains("/ns/") {
            return Ok(self.mesh.identity(text, None)?);
        }
        let is_meant = |id: &&SpiffeId| {
            let name = id.workload();
            name.is_some_and(|name| match text.split_once('/') {
                Some((namespace, account)) => {
                    (name.namespace.as_str(), name.service_account.as_str()) == (namespace, account)
                }
                None => name.service_account.as_str() == text,
            })
        };
        let found: Vec<&SpiffeId> = self.joined.iter().filter(is_meant).collect();
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => bail!(
                "no workload {text} has joined; those that have: {}. One that is to come is named by its SPIFFE id, a \
                 service outside the mesh by its host",
                self.known()
            ),
            several => {
                let names: Vec<String> = several.iter().map(|id| short(id)).collect();
                bail!("{text} has joined in several namespaces; write {}", names.join(" or "))
            }
        }
    }

    fn known(&self) -> String {
        let names: Vec<String> = self.joined.iter().map(short).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

fn short(id: &SpiffeId) -> String {
    let name = id.workload();
    name.map_or_else(|| id.to_string(), |name| format!("{}/{}", name.namespace, name.service_account))
}

/// The namespace of all of these callers. Whoever means several says where the experiment lives.
pub(super) fn namespace_of(callers: &[String]) -> Result<String> {
    let namespace = |caller: &String| {
        let id = SpiffeId::parse(&format!("spiffe://{caller}")).ok().filter(|_| !caller.contains('*'))?;
        Some(id.workload()?.namespace.as_str().to_owned())
    };
    let all: Option<BTreeSet<String>> = callers.iter().map(namespace).collect();
    let mut all = all.unwrap_or_default().into_iter();
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        _ => bail!(
            "say where the experiment lives: --namespace NAMESPACE for callers of that namespace, --namespace \
             {ROOT_NAMESPACE} for callers of any"
        ),
    }
}

/// A name that is not taken: of the first caller and the first host.
pub(super) fn name_for(callers: &[String], hosts: &[String], taken: impl Fn(&str) -> bool) -> String {
    let caller = callers.first().and_then(|caller| caller.rsplit('/').next()).unwrap_or_default();
    let host = hosts.first().and_then(|host| host.split('.').next()).unwrap_or_default();
    let caller = if caller.contains('*') { "any" } else { caller };
    let base: String = format!("{caller}-{host}").chars().take(200).collect();
    let numbered = (2_u32..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use palisade_identity::TrustDomain;
    use palisade_policy::PolicySet;
    use palisade_policy::document::{SourceFile, parse};

    use super::*;

    fn check(ask: impl Fn(&Names<'_>) -> Result<String>) -> Result<String, String> {
        let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: payments}\n\
                    spec: {hosts: [bank], resolution: DNS, location: MESH_EXTERNAL, ports: [{number: 80, name: web, protocol: \
                    HTTP}]}\n";
        let (objects, _) = parse(&[SourceFile { name: "t".into(), text: text.into() }]);
        let (set, _) = PolicySet::new(objects, &[]).unwrap();
        let mesh = Mesh::new(&set, TrustDomain::parse("corp.example").ok()).unwrap();
        let ids = ["payments/sa/payments", "payments/sa/ledger", "audit/sa/ledger"];
        let joined = ids
            .iter()
            .map(|id| SpiffeId::parse(&format!("spiffe://corp.example/ns/{id}")).unwrap())
            .collect();
        ask(&Names { mesh: &mesh, joined }).map_err(|error| error.to_string())
    }

    #[test]
    fn callers_are_workloads_that_have_joined_or_ids() {
        let caller = |text: &str| check(|names| names.caller(text));
        assert_eq!(caller("payments").unwrap(), "corp.example/ns/payments/sa/payments");
        assert_eq!(caller("audit/ledger").unwrap(), "corp.example/ns/audit/sa/ledger");
        assert_eq!(caller("spiffe://corp.example/ns/new/sa/one").unwrap(), "corp.example/ns/new/sa/one");
        assert_eq!(caller("corp.example/ns/payments/sa/*").unwrap(), "corp.example/ns/payments/sa/*");
        assert!(caller("ledger").unwrap_err().contains("write audit/ledger or payments/ledger"));
        assert!(caller("paymnts").unwrap_err().contains("those that have: audit/ledger, payments/ledger"));
        assert!(caller("payments/web").unwrap_err().contains("no workload payments/web has joined"));
    }

    #[test]
    fn hosts_are_workloads_too_or_are_written() {
        let host = |text: &str| check(|names| names.host(text));
        assert_eq!(host("payments").unwrap(), "payments.payments");
        assert_eq!(host("audit/ledger").unwrap(), "ledger.audit");
        assert_eq!(host("Ledger.payments").unwrap(), "ledger.payments");
        assert_eq!(host("api.cards.example").unwrap(), "api.cards.example");
        assert_eq!(host("bank").unwrap(), "bank");
        assert!(host("ledger").is_err() && host("ledgr").is_err());
    }

    #[test]
    fn an_experiment_lives_with_its_callers() {
        let of = |callers: &[&str]| {
            let callers: Vec<String> = callers.iter().map(|caller| (*caller).to_owned()).collect();
            namespace_of(&callers).ok()
        };
        assert_eq!(of(&["corp.example/ns/a/sa/b", "corp.example/ns/a/sa/c"]).as_deref(), Some("a"));
        assert_eq!(of(&["corp.example/ns/a/sa/b", "corp.example/ns/b/sa/c"]), None);
        assert_eq!(of(&["corp.example/ns/a/sa/b", "*"]), None);
        assert_eq!(of(&["corp.example/ns/a/sa/*"]), None);
    }

    #[test]
    fn a_name_is_made_that_is_not_taken() {
        let (callers, hosts) = (["c.example/ns/a/sa/web".to_owned()], ["ledger.payments".to_owned()]);
        assert_eq!(name_for(&callers, &hosts, |_| false), "web-ledger");
        let taken = |name: &str| ["web-ledger", "web-ledger-2"].contains(&name);
        assert_eq!(name_for(&callers, &hosts, taken), "web-ledger-3");
        assert_eq!(name_for(&["*".to_owned()], &hosts, |_| false), "any-ledger");
    }
}
