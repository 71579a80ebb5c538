use palisade_policy::kind::Kind;
use palisade_proto::v1::DeleteRequest;

use super::change::Terms;
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
    #[command(flatten)]
    terms: Terms,
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
            wait_ms: self.terms.wait_ms(),
            message: self.terms.message.clone(),
        };
        self.admin.with_client(self.terms.wait, async |mut client| {
            let refused = |status| self.refused(&whole, status);
            let response = client.delete(request).await.map_err(refused)?.into_inner();
            let findings: Vec<Shown> = response.findings.iter().map(Shown::from).collect();
            if print_findings(&findings, &[])? {
                return Err(Failure::input_reported());
            }
            print(&format!("deleted {whole}\nversion {}", response.version))?;
            if !self.terms.wait.is_zero() {
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
