//! `palisade explain DECISION_ID`: a logged request, by the policies of its time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use palisade_identity::SpiffeId;
use palisade_policy::document::SourceFile;
use palisade_policy::explain::recorded::{Recorded, UNKNOWN, agrees};
use palisade_policy::explain::{Explanation, Mesh, explain_reached};
use palisade_policy::record::{NamedRule, Outcome as Decided, Record};
use palisade_policy::{PolicySet, Workload};
use palisade_proto::v1::{GetRequest, GetResponse, ListProxiesRequest, ListProxiesResponse};
use serde_json::json;

use super::{Explain, Format};
use crate::exit::{Failure, Outcome};
use crate::output::explain::render_recorded;
use crate::output::{note, print, print_findings_of};
use crate::{admin, describe, files, policies, records};

/// The policies to ask, and what is not sure about them.
struct Asks {
    set: PolicySet,
    files: Vec<SourceFile>,
    /// Labels that the service has joined with.
    joined: Option<BTreeMap<String, String>>,
    notes: Vec<String>,
}

impl Explain {
    pub(super) fn run_recorded(&self, id: &str) -> Outcome {
        if self.log.is_empty() {
            return Err(Failure::input(anyhow!(
                "say in which log {id} is: --log FILE, the file of the sidecar's --access-log"
            )));
        }
        let (record, strange) = records::find(&self.log, id).map_err(Failure::input)?;
        if strange.lines > 0 {
            note(&format!("warning: {}; passed over", strange.shown()))?;
        }
        let recorded = Recorded::of(&record);
        let recorded = recorded
            .map_err(|why| Failure::input(anyhow!("the record {id} is not explained by policy: {why}")))?;
        let asks = self.asks(&record, recorded.service)?;
        let told = self.ask(&recorded, &asks)?;
        self.tell(&record, &told, &asks.notes)
    }

    /// The policies of --policies, or those that the record names, from the control plane.
    fn asks(&self, record: &Record, service: &SpiffeId) -> Result<Asks, Failure> {
        let version = record.policy_version;
        if !self.policies.is_empty() {
            let files = files::read(&self.policies).map_err(Failure::input)?;
            let note = format!(
                "the policies are those of --policies; whether they are version {version} is not known"
            );
            return Ok(Asks { set: policies::accepted(&files)?, files, joined: None, notes: vec![note] });
        }
        let Some(admin) = self.admin.given() else {
            return Err(Failure::input(anyhow!(
                "the record was made by policy version {version}: name the control plane that has it with --server and \
                 --operator-dir, or documents with --policies"
            )));
        };
        let (stored, proxies) = history(&admin, version)?;
        let (set, files) = policies::stored(&stored)?;
        let (joined, note) = joined(&proxies, service);
        Ok(Asks { set, files, joined, notes: vec![note.to_owned()] })
    }

    fn ask(&self, recorded: &Recorded<'_>, asks: &Asks) -> Result<Explanation, Failure> {
        let domain = self.trust_domain.clone().unwrap_or_else(|| recorded.service.trust_domain().clone());
        let mesh = Mesh::new(&asks.set, Some(domain)).map_err(Failure::input)?;
        let (id, given) = (recorded.service.clone(), self.label.iter().cloned());
        let workload = match asks.joined.clone() {
            Some(labels) => Workload { id, labels: labels.into_iter().chain(given).collect() },
            None => mesh.workload(id, given.collect()),
        };
        let target = mesh.target(&workload).map_err(|errors| print_findings_of(&errors, &asks.files))?;
        let mut question = self.request.question(recorded.caller.cloned(), self.request.service_port())?;
        recorded.ask(&mut question);
        // The request has reached the service's sidecar, whatever the caller's was told.
        Ok(explain_reached(&mesh, &target, true, &question))
    }

    fn tell(&self, record: &Record, told: &Explanation, notes: &[String]) -> Outcome {
        let same = agrees(record, told);
        match self.output {
            Format::Text => print(&render_recorded(told, record, same, notes))?,
            Format::Json => {
                let told = json!({
                    "agrees": same,
                    "record": {
                        "decision_id": record.decision_id,
                        "allowed": record.outcome == Decided::Allowed,
                        "reason": record.reason,
                        "policy": record.rule.as_ref().map(|rule| &rule.policy),
                        "rule": record.rule.as_ref().and_then(|rule: &NamedRule| rule.rule),
                        "policy_version": record.policy_version,
                    },
                    "explanation": told,
                    "unknown": UNKNOWN,
                    "notes": notes,
                });
                print(&serde_json::to_string_pretty(&told)?)?;
            }
        }
        if same && told.allowed { Ok(()) } else { Err(Failure::reported()) }
    }
}

/// The policy as it was in this version, and who has joined by now.
fn history(admin: &admin::Options, version: u64) -> Result<(GetResponse, ListProxiesResponse), Failure> {
    // 0 would ask for what is in force now.
    if version == 0 {
        return Err(Failure::input(anyhow!(
            "the record names no policy version; give documents with --policies"
        )));
    }
    let mut found = None;
    admin.with_client(Duration::ZERO, async |mut client| {
        let request = GetRequest { version, ..GetRequest::default() };
        let stored = client.get(request).await.map_err(admin::refused)?.into_inner();
        let proxies = client.list_proxies(ListProxiesRequest {}).await.map_err(admin::refused)?.into_inner();
        found = Some((stored, proxies));
        Ok(())
    })?;
    found.ok_or_else(|| anyhow!("the control plane has not answered").into())
}

/// Labels of a service that all of its instances have today. What they were at the time is not recorded.
fn joined(
    proxies: &ListProxiesResponse,
    service: &SpiffeId,
) -> (Option<BTreeMap<String, String>>, &'static str) {
    let all = describe::workloads(&proxies.proxies).into_keys().filter(|(id, _)| id == service);
    let mut all = all.map(|(_, labels)| labels);
    match (all.next(), all.next()) {
        (Some(one), None) => {
            (Some(one), "the service's labels are taken to be those that it has joined with")
        }
        (None, _) => (
            None,
            "the service is not joined any more: its labels are taken to be app alone; say others with --label",
        ),
        (Some(_), Some(_)) => (
            None,
            "instances of the service differ in labels: app alone is looked at; say others with --label",
        ),
    }
}
