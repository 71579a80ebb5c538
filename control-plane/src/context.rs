//! What the services share.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use palisade_identity::TrustDomain;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::ca::Ca;
use crate::clock::Clock;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::world::Hub;

pub(crate) struct Context {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) svid_ttl: Duration,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ca: Ca,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) hub: Hub,
    pub(crate) policies: Policies,
    pub(crate) metrics: Metrics,
    /// Everything spawned; the end waits for it.
    pub(crate) tasks: TaskTracker,
    /// The control plane stops.
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// Runs what must come to its end even when the caller goes away half-way, for example a write and its push.
    pub(crate) async fn complete<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let work = tokio::time::timeout(self.limits.request_timeout, self.tasks.spawn(work)).await;
        match work {
            Ok(Ok(result)) => result,
            Ok(Err(join)) => {
                tracing::error!(error = %join, "a call failed");
                Err(Status::internal("the call failed"))
            }
            Err(_) => Err(Status::deadline_exceeded("the call took too long; look whether it has been done")),
        }
    }
}

/// The store's errors are ours to read, not the caller's.
pub(crate) fn unavailable(error: &StoreError) -> Status {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(error = %error, source, "the store failed");
    Status::unavailable("the store failed; see the control plane's log")
}
