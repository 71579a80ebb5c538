use std::time::Duration;

use palisade_proto::v1::EvictProxyRequest;

use crate::admin;
use crate::exit::Outcome;
use crate::output::print;

/// Put one proxy out of the mesh: its endpoints are withdrawn, its renewals refused, it stops serving.
#[derive(Debug, clap::Args)]
pub(crate) struct Evict {
    /// As `palisade proxies` shows it.
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Kept in the audit and told to the proxy.
    #[arg(long, env = "PALISADE_REASON", value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    admin: admin::Options,
}

impl Evict {
    pub(crate) fn run(self) -> Outcome {
        let request = EvictProxyRequest { instance_id: self.instance.clone(), reason: self.reason.clone() };
        self.admin.with_client(Duration::ZERO, async |mut client| {
            client.evict_proxy(request).await.map_err(admin::refused)?;
            print(&format!("evicted {}", self.instance))?;
            Ok(())
        })
    }
}
