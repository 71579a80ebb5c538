//! What has to hold before policy is asked: there is something to judge by, and the certificates on both sides are good.

use std::sync::Arc;
use std::time::SystemTime;

use palisade_policy::Snapshot;

use crate::error::ProxyError;
use crate::identity::Identity;
use crate::listen::inbound::Inbound;
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// What a request or a connection from the mesh is judged by. `loaded`: the snapshot in force, taken once.
pub(super) fn inbound<'s>(
    connection: &Inbound,
    loaded: &'s Option<Arc<Snapshot>>,
    record: &mut Record,
) -> Result<&'s Snapshot, ProxyError> {
    let now = record.at();
    if connection.expires.is_some_and(|expires| expires <= now) {
        return Err(ProxyError::PeerExpired);
    }
    // Not kept: its counter is shared by all workers.
    if !connection.worker.shared.live.identity().as_ref().is_some_and(|identity| is_good(identity, now)) {
        return Err(ProxyError::NoIdentity);
    }
    let snapshot = snapshot(loaded, record)?;
    if connection.serial().is_some_and(|serial| snapshot.is_revoked(serial)) {
        return Err(ProxyError::PeerRevoked);
    }
    Ok(snapshot)
}

/// Our identity, which services are called with.
pub(super) fn caller(worker: &Worker, record: &mut Record) -> Result<Arc<Identity>, ProxyError> {
    let identity = worker.shared.live.identity();
    let identity = identity.as_ref().filter(|identity| is_good(identity, record.at()));
    let identity = identity.ok_or(ProxyError::NoIdentity)?;
    record.source = Some(identity.svid.id.clone());
    Ok(identity.clone())
}

/// The snapshot, which from now on is the record's.
pub(super) fn snapshot<'s>(
    loaded: &'s Option<Arc<Snapshot>>,
    record: &mut Record,
) -> Result<&'s Snapshot, ProxyError> {
    let snapshot = loaded.as_ref().ok_or(ProxyError::NoSnapshot)?;
    record.policy_version = snapshot.version;
    Ok(snapshot)
}

fn is_good(identity: &Identity, now: SystemTime) -> bool {
    identity.svid.not_after > now
}
