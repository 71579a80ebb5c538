//! Certificates that are void before their end: those of evicted instances.

use crate::worker::Worker;

/// Returns when the certificate of this serial number is void; never without one. Whoever waits here holds a connection of its
/// holder's open.
pub(crate) async fn revoked(worker: &Worker, serial: Option<&str>) {
    let Some(serial) = serial else { return std::future::pending().await };
    let mut changes = worker.shared.live.changes();
    while !is_revoked(worker, serial) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Whether the certificate of this serial number is void.
pub(crate) fn is_revoked(worker: &Worker, serial: &str) -> bool {
    worker.shared.live.snapshot().as_ref().is_some_and(|snapshot| snapshot.is_revoked(serial))
}
