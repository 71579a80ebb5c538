use anyhow::anyhow;
use palisade_policy::kind::Kind;
use palisade_proto::v1::{ApplyResponse, Change, GetRequest, StopFaultsRequest};
use serde_json::json;

use crate::admin::{self, Client};
use crate::command::change::Terms;
use crate::command::kind;
use crate::exit::{Failure, Outcome};
use crate::output::{Format, Shown, note, print, print_findings, print_json, push};

/// Stop experiments: at every connected proxy at once, and for good.
///
/// Deletes them, all in one change. Exit code 1 when one is not there, or when a connected proxy does not hear of it in time. A
/// proxy that has lost its control plane carries no experiment out.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").args(["names", "all"]).required(true))]
pub(super) struct Stop {
    /// As `palisade fault list` shows them.
    #[arg(value_name = "[NAMESPACE/]NAME")]
    names: Vec<String>,
    /// Every experiment of the mesh.
    #[arg(long, env = "PALISADE_ALL")]
    all: bool,
    /// Of names without one.
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    terms: Terms,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

impl Stop {
    pub(super) fn run(self) -> Outcome {
        self.admin.with_client(self.terms.wait, async |mut client| {
            let names = self.whole_names(&mut client).await?;
            let request = StopFaultsRequest {
                names: names.clone(),
                all: self.all,
                wait_ms: self.terms.wait_ms(),
                message: self.terms.message.clone(),
            };
            let response = client.stop_faults(request).await.map_err(admin::refused)?.into_inner();
            let findings: Vec<Shown> = response.findings.iter().map(Shown::from).collect();
            if findings.iter().any(Shown::is_error) {
                print_findings(&findings, &[])?;
                return Err(Failure::reported());
            }
            let stopped: Vec<String> = response.changes.iter().map(id).collect();
            let missing: Vec<&String> = names.iter().filter(|name| !stopped.contains(name)).collect();
            match self.output {
                Format::Json => print_json(&json!({
                    "stopped": stopped,
                    "missing": missing,
                    "version": response.version,
                    "pushes": response.pushes.iter().map(push::to_json).collect::<Vec<_>>(),
                }))?,
                Format::Text => print(&self.told(&stopped, &response))?,
            }
            for name in &missing {
                note(&format!(
                    "error: there was no FaultExperiment {name}; `palisade fault list` shows those that are"
                ))?;
            }
            match missing.is_empty() && push::all_acked(&response.pushes) {
                true => Ok(()),
                false => Err(Failure::reported()),
            }
        })
    }

    /// A name without a namespace is one of those that are there.
    async fn whole_names(&self, client: &mut Client) -> Result<Vec<String>, Failure> {
        let mut names = Vec::with_capacity(self.names.len());
        let mut known: Option<Vec<String>> = None;
        for written in &self.names {
            let (namespace, name) = kind::object(written, self.namespace.as_deref())?;
            if let Some(namespace) = namespace {
                names.push(format!("{namespace}/{name}"));
                continue;
            }
            if known.is_none() {
                known = Some(all(client).await?);
            }
            let is_meant = |id: &&String| id.split_once('/').is_some_and(|(_, own)| own == name);
            let found: Vec<&String> = known.iter().flatten().filter(is_meant).collect();
            match found.as_slice() {
                [one] => names.push((*one).clone()),
                [] => {
                    return Err(anyhow!(
                        "there is no FaultExperiment {name}; `palisade fault list` shows those that are"
                    )
                    .into());
                }
                several => {
                    let several: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
                    return Err(Failure::input(anyhow!("which one? Write {}", several.join(" or "))));
                }
            }
        }
        Ok(names)
    }

    fn told(&self, stopped: &[String], response: &ApplyResponse) -> String {
        if stopped.is_empty() {
            return "there is no experiment; nothing to stop".to_owned();
        }
        let mut lines: Vec<String> = stopped.iter().map(|id| format!("stopped {id}")).collect();
        lines.push(format!("version {}", response.version));
        if !self.terms.wait.is_zero() {
            lines.push(push::describe(&response.pushes));
        }
        lines.join("\n")
    }
}

async fn all(client: &mut Client) -> Result<Vec<String>, Failure> {
    let request = GetRequest { kind: Kind::FaultExperiment.name().to_owned(), ..GetRequest::default() };
    let stored = client.get(request).await.map_err(admin::refused)?.into_inner();
    Ok(stored.objects.into_iter().map(|object| format!("{}/{}", object.namespace, object.name)).collect())
}

fn id(change: &Change) -> String {
    format!("{}/{}", change.namespace, change.name)
}
