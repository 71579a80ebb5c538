//! Proxies: who is there and how far, who called them, and the eviction of one.

use palisade_proto::v1;
use tonic::Status;

use super::Call;
use crate::context::unavailable;
use crate::registry::Bounds;

const REASON_BYTES_MAX: usize = 1024;

pub(super) fn list(call: &Call) -> v1::ListProxiesResponse {
    let version = call.context.hub.current().version;
    v1::ListProxiesResponse { proxies: call.context.registry.proxies(), version }
}

pub(super) fn readiness(call: &Call) -> v1::MtlsReadinessResponse {
    let context = &call.context;
    let bounds = Bounds { age_max: context.limits.calls_age_max, callers_max: context.limits.callers_max };
    v1::MtlsReadinessResponse { ports: context.registry.calls(context.clock.now(), bounds) }
}

pub(super) async fn evict(
    call: Call,
    request: v1::EvictProxyRequest,
) -> Result<v1::EvictProxyResponse, Status> {
    let v1::EvictProxyRequest { instance_id, reason } = request;
    if reason.len() > REASON_BYTES_MAX {
        return Err(Status::invalid_argument(format!("the reason has at most {REASON_BYTES_MAX} bytes")));
    }
    let context = call.context.clone();
    let work = async move {
        let Call { context, operator } = call;
        // The store first: a proxy that comes back in between is refused.
        let found = context
            .store
            .evict(&instance_id, operator.as_str(), &reason, context.clock.now())
            .await
            .map_err(|e| unavailable(&e))?;
        if !found {
            return Err(Status::not_found("there is no such instance; `palisade proxies` lists them"));
        }
        // Before the endpoint goes: what is open with it ends for its certificate, and the records say so.
        let revoked = context.store.revoked_serials(context.clock.now());
        let told = context.hub.set_revoked(revoked).await;
        context.registry.evict(&instance_id, &reason);
        told.map_err(|e| unavailable(&e))?;
        tracing::info!(operator.id = %operator, instance = instance_id, reason, "instance evicted");
        Ok(v1::EvictProxyResponse {})
    };
    context.complete(work).await
}
