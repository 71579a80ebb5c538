use std::path::PathBuf;

use palisade_policy::document;
use palisade_proto::v1::{self, ApplyRequest};

use super::change::{Change, Shows};
use crate::exit::{Failure, Outcome};
use crate::plan;
use crate::{admin, files};

/// Apply policy documents: all of them, or none when one has an error.
///
/// Shows what changes, field by field, and which workloads get other policy, before anything is done. Exit code 2 when a
/// document is refused, 1 when a connected proxy does not take the change in time, or when somebody else changed the policy
/// in between.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// These documents are the whole policy: delete everything else that is in force.
    #[arg(long, env = "PALISADE_PRUNE")]
    prune: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    admin: admin::Options,
}

impl Apply {
    pub(crate) fn run(self) -> Outcome {
        let sources = files::read(&self.paths).map_err(Failure::input)?;
        let request = self.request(&sources);
        self.admin.with_client(self.change.terms.wait, async |mut client| {
            let in_force = client.get(v1::GetRequest::default()).await.map_err(admin::refused)?.into_inner();
            let proxies = client.list_proxies(v1::ListProxiesRequest {}).await.map_err(admin::refused)?;
            let base_version = Some(in_force.version);
            let request = ApplyRequest { base_version, ..request };
            let dry = ApplyRequest { dry_run: true, ..request.clone() };
            let would = client.apply(dry).await.map_err(admin::refused)?.into_inner();
            let (given, _) = document::parse(&sources);
            let next = plan::with(&in_force, given, self.prune);
            let mut shows =
                Shows::new(&self.change, &sources, &in_force, next, &proxies.into_inner().proxies, would)?;
            if shows.before()? {
                shows.done(client.apply(request).await.map_err(admin::refused)?.into_inner());
            }
            shows.after()
        })
    }

    fn request(&self, sources: &[document::SourceFile]) -> ApplyRequest {
        let wire = |f: &document::SourceFile| v1::SourceFile { name: f.name.clone(), text: f.text.clone() };
        ApplyRequest {
            files: sources.iter().map(wire).collect(),
            wait_ms: self.change.terms.wait_ms(),
            message: self.change.terms.message.clone(),
            prune: self.prune,
            ..ApplyRequest::default()
        }
    }
}
