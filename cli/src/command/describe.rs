use std::time::Duration;

use anyhow::anyhow;
use palisade_identity::Namespace;
use palisade_policy::kind::{Kind, Object};
use palisade_policy::{PolicySet, Workload};
use palisade_proto::v1::{GetRequest, GetResponse, ListProxiesRequest, ListProxiesResponse};
use serde_json::json;

use super::kind;
use crate::describe::{self, Described, destination};
use crate::exit::{Failure, Outcome};
use crate::output::data::Format;
use crate::output::{describe as shown, print, print_findings_of};
use crate::{admin, plan};

/// Show what the policies in force make of a workload: its mode of mutual TLS by port, what is asked in which order, who
/// could call it. Or what holds for calls to a host: every value, and whether a DestinationRule says so or it is a default. Or
/// what an object is for: its document, and the workloads that it concerns.
#[derive(Debug, clap::Args)]
pub(crate) struct Describe {
    /// `workload`, `destination`, or a kind, for example AuthorizationPolicy.
    #[arg(value_name = "KIND", value_parser = parse)]
    what: What,
    /// Of a workload also a SPIFFE id; of a destination its host, with or without port.
    #[arg(value_name = "[NAMESPACE/]NAME")]
    name: String,
    /// Of a destination: the namespace of those who call [default: the host's own; else any, where the name is there once]
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Workload,
    Destination,
    Kind(Kind),
}

fn parse(text: &str) -> Result<What, String> {
    if text.eq_ignore_ascii_case("workload") {
        return Ok(What::Workload);
    }
    if text.eq_ignore_ascii_case("destination") {
        return Ok(What::Destination);
    }
    kind::parse(text)
        .map(What::Kind)
        .map_err(|problem| format!("neither workload nor destination nor a kind: {problem}"))
}

impl Describe {
    pub(crate) fn run(self) -> Outcome {
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let stored = client.get(GetRequest::default()).await.map_err(admin::refused)?.into_inner();
            let proxies =
                client.list_proxies(ListProxiesRequest {}).await.map_err(admin::refused)?.into_inner();
            let set = match PolicySet::new(plan::documents(&stored), &[]) {
                Ok((set, _warnings)) => set,
                Err(findings) => return Err(print_findings_of(&findings, &[])),
            };
            match self.what {
                What::Workload => self.workload(&set, &proxies),
                What::Destination => self.destination(&set, &proxies),
                What::Kind(kind) => self.object(kind, &set, &stored, &proxies),
            }
        })
    }

    fn workload(&self, set: &PolicySet, proxies: &ListProxiesResponse) -> Outcome {
        let mut found: Vec<Described> = Vec::new();
        let mut known = Vec::new();
        for ((id, labels), instances) in describe::workloads(&proxies.proxies) {
            let Some(name) = id.workload() else { continue };
            let (namespace, account) = (name.namespace.as_str(), name.service_account.as_str());
            let whole = format!("{namespace}/{account}");
            let fits = [id.as_str(), whole.as_str(), account].contains(&self.name.as_str())
                && self.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
            known.push(whole);
            if fits {
                let workload = Workload { id, labels };
                let described = describe::workload(set, &workload, &instances, proxies);
                found.push(described.map_err(|findings| print_findings_of(&findings, &[]))?);
            }
        }
        if found.is_empty() {
            known.dedup();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::from(anyhow!(
                "no workload {} has joined; those that have: {known}",
                self.name
            )));
        }
        let table = || found.iter().map(shown::workload).collect::<Vec<_>>().join("\n\n");
        let data = serde_json::to_value(&found)?;
        print(&self.output.render(table, || json!({ "version": proxies.version, "workloads": data }))?)?;
        Ok(())
    }

    fn destination(&self, set: &PolicySet, proxies: &ListProxiesResponse) -> Outcome {
        let host = &self.name;
        let namespace = match &self.namespace {
            Some(text) => Some(
                Namespace::parse(text)
                    .map_err(|problem| Failure::input(anyhow!("--namespace: {problem}")))?,
            ),
            None => destination::owner(set, host, &proxies.proxies),
        };
        let found = match &namespace {
            Some(namespace) => destination::destination(set, host, namespace, &proxies.proxies)
                .map_err(|findings| print_findings_of(&findings, &[]))?,
            None => Vec::new(),
        };
        let Some(namespace) = namespace.filter(|_| !found.is_empty()) else {
            let whom = self.namespace.as_deref().map(|n| format!(" to callers of {n}")).unwrap_or_default();
            return Err(Failure::from(anyhow!(
                "no service that has joined and no ServiceEntry is known{whom} as {host}"
            )));
        };
        let data = serde_json::to_value(&found)?;
        let table = || shown::destination(&found, namespace.as_str());
        let data =
            || json!({ "version": proxies.version, "callers": namespace.as_str(), "destinations": data });
        print(&self.output.render(table, data)?)?;
        Ok(())
    }

    fn object(
        &self,
        kind: Kind,
        set: &PolicySet,
        stored: &GetResponse,
        proxies: &ListProxiesResponse,
    ) -> Outcome {
        let (namespace, name) = kind::object(&self.name, self.namespace.as_deref())?;
        let fits = |object: &&Object| {
            object.spec.kind() == kind
                && object.meta.name == name
                && namespace.as_ref().is_none_or(|wanted| *wanted == object.meta.namespace)
        };
        let found: Vec<&Object> = set.objects().iter().filter(fits).collect();
        let [object] = found.as_slice() else {
            let name = kind.name();
            return Err(Failure::from(match found.len() {
                0 => anyhow!("there is no {name} {}; `palisade get {name}` lists them", self.name),
                _ => {
                    anyhow!("{name} {} is there in several namespaces; say which with --namespace", self.name)
                }
            }));
        };
        let row = stored.objects.iter().find(|row| {
            row.kind == kind.name() && row.namespace == object.meta.namespace && row.name == object.meta.name
        });
        let Some(row) = row else {
            return Err(anyhow!("the control plane's answer does not fit itself").into());
        };
        let concerned: Vec<String> =
            describe::concerned(set, object, &proxies.proxies).iter().map(ToString::to_string).collect();
        let data = || {
            json!({
                "kind": row.kind, "namespace": row.namespace, "name": row.name, "version": row.version,
                "changed_by": row.changed_by, "changed_at": row.changed_at, "document": row.text,
                "workloads": concerned,
            })
        };
        print(&self.output.render(|| shown::object(row, &concerned), data)?)?;
        Ok(())
    }
}
