use std::time::Duration;

use palisade_policy::kind::Kind;
use palisade_proto::v1::DeleteRequest;
use palisade_proxy::settings::parse_duration;

use super::kind;
use crate::admin;
use crate::exit::{Failure, Outcome};
use crate::output::{Shown, print, print_findings, push};

/// Delete one document.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Kind, for example AuthorizationPolicy.
    #[arg(value_name = "KIND", value_parser = kind::parse)]
    kind: Kind,
    #[arg(value_name = "[NAMESPACE/]NAME")]
    name: String,
    /// Of a name without one.
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Why, for the history; at most 1024 bytes.
    #[arg(short, long, env = "PALISADE_MESSAGE", value_name = "TEXT", default_value = "")]
    message: String,
    /// How long to wait until every connected proxy has the change, at most 60s; 0s: do not wait.
    #[arg(long, env = "PALISADE_WAIT", value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    wait: Duration,
    #[command(flatten)]
    admin: admin::Options,
}

impl Delete {
    pub(crate) fn run(self) -> Outcome {
        let kind = self.kind.name();
        let (Some(namespace), name) = kind::object(&self.name, self.namespace.as_deref())? else {
            let problem = anyhow::anyhow!("in which namespace? Write NAMESPACE/{} or --namespace", self.name);
            return Err(Failure::input(problem));
        };
        let whole = format!("{kind} {namespace}/{name}");
        let request = DeleteRequest {
            kind: kind.to_owned(),
            namespace,
            name,
            wait_ms: u32::try_from(self.wait.as_millis()).unwrap_or(u32::MAX),
            message: self.message.clone(),
        };
        self.admin.with_client(self.wait, async |mut client| {
            let refused = |status| self.refused(&whole, status);
            let response = client.delete(request).await.map_err(refused)?.into_inner();
            let findings: Vec<Shown> = response.findings.iter().map(Shown::from).collect();
            if print_findings(&findings, &[])? {
                return Err(Failure::input_reported());
            }
            print(&format!("deleted {whole}\nversion {}", response.version))?;
            if !self.wait.is_zero() {
                print(&push::describe(&response.pushes))?;
            }
            if push::all_acked(&response.pushes) { Ok(()) } else { Err(Failure::reported()) }
        })
    }

    fn refused(&self, whole: &str, status: tonic::Status) -> Failure {
        if status.code() != tonic::Code::NotFound {
            return admin::refused(status);
        }
        anyhow::anyhow!("there is no {whole}; `palisade get {}` lists them", self.kind.name()).into()
    }
}
