use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use palisade_policy::kind::Object;
use palisade_policy::{Severity, document, lint};
use palisade_proto::v1::{
    self, ApplyRequest, ApplyResponse, GetRequest, GetResponse, StoredObject, change::Action,
};
use palisade_proxy::settings::parse_duration;
use serde_json::json;

use crate::exit::{Failure, Outcome};
use crate::output::{Shown, print, print_findings, push};
use crate::{admin, files};

/// Apply policy documents: all of them, or none when one has an error.
///
/// Exit code 2 when a document is refused, 1 when a connected proxy does not take the change in time.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Check everything and change nothing.
    #[arg(long, env = "PALISADE_DRY_RUN")]
    dry_run: bool,
    /// How long to wait until every connected proxy has the change, at most 60s; 0s: do not wait.
    #[arg(long, env = "PALISADE_WAIT", value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    wait: Duration,
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Apply {
    pub(crate) fn run(self) -> Outcome {
        let sources = files::read(&self.paths).map_err(Failure::input)?;
        let wire = |f: &document::SourceFile| v1::SourceFile { name: f.name.clone(), text: f.text.clone() };
        let request = ApplyRequest {
            files: sources.iter().map(wire).collect(),
            dry_run: self.dry_run,
            wait_ms: u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX),
            ..ApplyRequest::default()
        };
        self.admin.with_client(self.wait, async |mut client| {
            let response = client.apply(request).await.map_err(admin::refused)?.into_inner();
            let mut findings: Vec<Shown> = response.findings.iter().map(Shown::from).collect();
            if !findings.iter().any(Shown::is_error) {
                // It is applied already: what cannot be looked at any more is no failure.
                match client.get(GetRequest::default()).await {
                    Ok(everything) => findings.extend(meaning(&sources, &everything.into_inner())),
                    Err(status) => tracing::warn!(error = %status, "applied, but not looked at by lint"),
                }
            }
            self.report(&response, &findings, &sources)
        })
    }

    fn report(
        &self,
        response: &ApplyResponse,
        findings: &[Shown],
        sources: &[document::SourceFile],
    ) -> Outcome {
        let refused = findings.iter().any(Shown::is_error);
        match self.output {
            Format::Json => print(&serde_json::to_string_pretty(&self.to_json(response, findings))?)?,
            Format::Text => {
                print_findings(findings, sources)?;
                if !refused {
                    print(&self.describe(response))?;
                }
            }
        }
        if refused {
            return Err(Failure::input_reported());
        }
        if !push::all_acked(&response.pushes) {
            return Err(Failure::reported());
        }
        Ok(())
    }

    fn describe(&self, response: &ApplyResponse) -> String {
        let line =
            |c: &v1::Change| format!("{} {} {}/{}", action_name(c.action()), c.kind, c.namespace, c.name);
        let mut lines: Vec<String> = response.changes.iter().map(line).collect();
        if self.dry_run {
            lines.push(format!("dry run: nothing changed, version {} stays in force", response.version));
        } else {
            lines.push(format!("version {}", response.version));
            if !self.wait.is_zero() {
                lines.push(push::describe(&response.pushes));
            }
        }
        lines.join("\n")
    }

    fn to_json(&self, response: &ApplyResponse, findings: &[Shown]) -> serde_json::Value {
        let change = |c: &v1::Change| json!({ "action": action_name(c.action()), "kind": c.kind, "namespace": c.namespace, "name": c.name });
        json!({
            "dry_run": self.dry_run,
            "version": response.version,
            "findings": findings,
            "changes": response.changes.iter().map(change).collect::<Vec<_>>(),
            "pushes": response.pushes.iter().map(push::to_json).collect::<Vec<_>>(),
        })
    }
}

/// What lint says about these documents beside all others that are in force. Nothing is refused because of it.
fn meaning(sources: &[document::SourceFile], stored: &GetResponse) -> Vec<Shown> {
    if stored.objects.len() > document::limits::FILES_MAX {
        return Vec::new();
    }
    let (mut objects, _) = document::parse(sources);
    let key = |o: &Object| (o.spec.kind(), o.meta.namespace.clone(), o.meta.name.clone());
    let applied: BTreeSet<_> = objects.iter().map(key).collect();
    let file = |o: &StoredObject| document::SourceFile { name: String::new(), text: o.text.clone() };
    let files: Vec<_> = stored.objects.iter().map(file).collect();
    let (others, _) = document::parse(&files);
    objects.extend(others.into_iter().filter(|o| !applied.contains(&key(o))));
    let found = lint::lint(&objects).findings.0;
    let ours = found.iter().filter(|f| f.position.as_ref().is_some_and(|p| !p.file.is_empty()));
    ours.map(|finding| match finding.severity {
        Severity::Error => Shown { severity: Severity::Warning.name().to_owned(), ..Shown::from(finding) },
        Severity::Warning | Severity::Note => Shown::from(finding),
    })
    .collect()
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Unspecified => "unknown",
        Action::Created => "created",
        Action::Updated => "updated",
        Action::Unchanged => "unchanged",
        Action::Deleted => "deleted",
    }
}
