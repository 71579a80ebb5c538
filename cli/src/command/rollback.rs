use palisade_proto::v1::{self, RollbackRequest};

use super::change::{Change, Shows};
use crate::exit::Outcome;
use crate::{admin, plan};

/// Make the policy set what it was in an earlier version.
///
/// The result is a new version, and is shown before it is made. Exit code 2 when the old set is not valid any more, 1 when
/// the version is not in the history, when a connected proxy does not take the change in time, or when somebody else changed
/// the policy in between.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// A version of `palisade history`.
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    version: u64,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    admin: admin::Options,
}

impl Rollback {
    pub(crate) fn run(self) -> Outcome {
        let at = |version| v1::GetRequest { version, ..v1::GetRequest::default() };
        self.admin.with_client(self.change.terms.wait, async |mut client| {
            let in_force = client.get(at(0)).await.map_err(admin::refused)?.into_inner();
            let wanted = client.get(at(self.version)).await.map_err(admin::refused)?.into_inner();
            let proxies = client.list_proxies(v1::ListProxiesRequest {}).await.map_err(admin::refused)?;
            let request = RollbackRequest {
                version: self.version,
                dry_run: false,
                wait_ms: self.change.terms.wait_ms(),
                message: self.change.terms.message.clone(),
                base_version: Some(in_force.version),
            };
            let dry = RollbackRequest { dry_run: true, ..request.clone() };
            let would = client.rollback(dry).await.map_err(admin::refused)?.into_inner();
            let (next, proxies) = (plan::documents(&wanted), proxies.into_inner().proxies);
            let mut shows = Shows::new(&self.change, &[], &in_force, next, &proxies, would)?;
            if shows.before()? {
                shows.done(client.rollback(request).await.map_err(admin::refused)?.into_inner());
            }
            shows.after()
        })
    }
}
