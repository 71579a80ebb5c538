//! What runs beside the services: the registry's deadlines and pushes, own certificates, housekeeping.

use std::collections::BTreeMap;
use std::sync::Arc;

use palisade_identity::SpiffeId;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::ca::CaError;
use crate::clock::to_seconds;
use crate::context::Context;
use crate::data_dir::DataDir;
use crate::identity::audit;
use crate::registry::Served;
use crate::store::{How, Kept, StoreError};

/// Follows the registry: withdraws what is overdue, pushes services, notes endpoints in the store.
pub(crate) async fn follow_registry(context: Arc<Context>) {
    let mut changes = context.registry.changes();
    let mut stored = context.registry.published();
    loop {
        context.registry.sweep(context.clock.now());
        context.hub.set_services(context.registry.services());
        note(&context, &mut stored).await;
        // Also without a deadline: instances are forgotten when their certificates end.
        let idle = Instant::now() + context.limits.housekeeping_interval;
        let deadline = context.registry.next_deadline().unwrap_or(idle).min(idle);
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = sleep_until(deadline) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(context.limits.registry_coalesce).await;
                changes.mark_unchanged();
            }
        }
    }
}

/// Brings the store's endpoints to what is published. One that fails is tried again with the next change.
async fn note(context: &Context, stored: &mut BTreeMap<String, Vec<Served>>) {
    let published = context.registry.published();
    let gone: Vec<_> = stored.keys().filter(|id| !published.contains_key(*id)).cloned().collect();
    for id in gone {
        match context.store.set_serves(&id, None).await {
            Ok(()) => drop(stored.remove(&id)),
            Err(error) => tracing::error!(error = %error, instance = id, "endpoints not noted"),
        }
    }
    for (id, serves) in published {
        if stored.get(&id) == Some(&serves) {
            continue;
        }
        let Ok(json) = serde_json::to_string(&serves) else { continue };
        match context.store.set_serves(&id, Some(&json)).await {
            Ok(()) => drop(stored.insert(id, serves)),
            Err(error) => tracing::error!(error = %error, instance = id, "endpoints not noted"),
        }
    }
}

/// Why own certificates were not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Renews the server's certificate at half of its life, the operator's and the intermediate likewise.
pub(crate) async fn renew_own(
    context: Arc<Context>,
    dir: Arc<DataDir>,
    names: Vec<String>,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    mut due: std::time::SystemTime,
) {
    let mut tick = tokio::time::interval(context.limits.own_certificate_check_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match renew(&context, &dir, &names, due).await {
            Ok(None) => {}
            Ok(Some((config, next))) => {
                tls.send_replace(Arc::new(config));
                due = next;
            }
            // The old one serves until its end; the next tick tries again.
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(error = %error, source, "own certificates not renewed");
            }
        }
    }
}

async fn renew(
    context: &Context,
    dir: &DataDir,
    names: &[String],
    due: std::time::SystemTime,
) -> Result<Option<(rustls::ServerConfig, std::time::SystemTime)>, RenewError> {
    let now = context.clock.now();
    let new_intermediate = context.ca.renew_intermediate(dir, now)?;
    if let Some((id, issued)) = context.ca.operator(dir, context.limits.operator_ttl, now)? {
        context.store.record(&audit(&issued, &id, None, How::Operator, "local", now)).await?;
        tracing::info!(operator.id = %id, "operator credential renewed");
    }
    if now < due && !new_intermediate {
        return Ok(None);
    }
    let ttl = context.limits.server_ttl;
    let (config, issued) = context.ca.server(names, ttl, now)?;
    let id = SpiffeId::control_plane(&context.trust_domain);
    context.store.record(&audit(&issued, &id, None, How::Server, "local", now)).await?;
    tracing::info!(
        serial = issued.serial,
        not_after = to_seconds(issued.not_after),
        "own certificate renewed"
    );
    Ok(Some((config, now + ttl / 2)))
}

/// Removes what nobody can use or asks for any more.
pub(crate) async fn keep_house(context: Arc<Context>) {
    let mut tick = tokio::time::interval(context.limits.housekeeping_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = context.clock.now();
        // Those that have ended need not be told any more.
        if let Err(error) = context.hub.set_revoked(context.store.revoked_serials(now)).await {
            tracing::error!(error = %error, "certificates of evicted instances not read");
        }
        let limits = &context.limits;
        let tokens = match now.checked_sub(limits.spent_token_retention) {
            Some(before) => context.store.remove_spent_tokens(before).await,
            None => Ok(0),
        };
        let issuances = match now.checked_sub(limits.audit_retention) {
            Some(before) => context.store.remove_old_issuances(before).await,
            None => Ok(0),
        };
        let kept = Kept { versions: limits.history_versions_max, bytes: limits.history_bytes_max };
        let versions = context.store.shorten_history(kept).await;
        match (tokens, issuances, versions) {
            (Ok(0), Ok(0), Ok(0)) => {}
            (Ok(tokens), Ok(issuances), Ok(versions)) => {
                tracing::info!(tokens, issuances, versions, "old rows removed");
            }
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
                tracing::error!(error = %error, "housekeeping failed");
            }
        }
    }
}
