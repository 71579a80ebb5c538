//! What the edge shows its clients: a TLS configuration for each server of its Gateways, made again when files change.
//!
//! Changes are found by content. What cannot be used is logged once and the last good configuration stays; a server
//! that never had one refuses handshakes, and the edge is not ready while a port has nothing to show at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use palisade_certs::tls::public::PublicServer;
use palisade_policy::Snapshot;
use palisade_policy::compile::edge::ServerTls;
use rustls::ServerConfig;
use tokio::task::spawn_blocking;

use super::server_config::{CredentialError, read};
use crate::settings::control::ControlLimits;
use crate::settings::edge::EdgeSettings;
use crate::worker::Shared;

/// Between two looks at the files. A change of policy is looked at at once.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The configurations in force. Workers read; the control thread writes.
#[derive(Debug, Default)]
pub struct Certificates(ArcSwap<Table>);

type Table = HashMap<ServerTls, PublicServer>;

impl Certificates {
    /// For a handshake with a server of these rules.
    pub(crate) fn config(&self, tls: &ServerTls) -> Option<Arc<ServerConfig>> {
        self.0.load().get(tls).map(|server| server.config.clone())
    }

    /// The earliest end of a certificate that is shown, for the metric.
    pub(crate) fn earliest_end(&self) -> Option<SystemTime> {
        self.0.load().values().map(|server| server.not_after).min()
    }
}

/// What is known of one server's files.
#[derive(Default)]
struct Known {
    /// Of the files that were last judged, good or bad.
    digest: Option<[u8; 32]>,
    server: Option<PublicServer>,
    /// So that one fault is told once.
    complaint: Option<String>,
}

/// Keeps the configurations of the snapshot in force; never ends. At a sidecar there are none.
pub(crate) async fn keep(shared: &Shared, limits: &ControlLimits) {
    let Some(settings) = &shared.settings.edge else { return std::future::pending().await };
    let mut known: HashMap<ServerTls, Known> = HashMap::new();
    let mut changes = shared.live.changes();
    loop {
        let snapshot = shared.live.snapshot().clone();
        let ports = snapshot.as_ref().map(|snapshot| served(snapshot, settings)).unwrap_or_default();
        let wanted: HashSet<ServerTls> = ports.values().flatten().cloned().collect();
        known.retain(|tls, _| wanted.contains(tls));
        for tls in wanted {
            let before = known.remove(&tls).unwrap_or_default();
            let (folder, bytes_max, of) = (settings.credentials.clone(), limits.file_bytes_max, tls.clone());
            let look = spawn_blocking(move || before.look(&of, folder.as_deref(), bytes_max)).await;
            known.insert(tls, look.unwrap_or_default());
        }
        let table: Table =
            known.iter().filter_map(|(tls, known)| Some((tls.clone(), known.server.clone()?))).collect();
        // Before there is a snapshot nobody knows what will have to be shown.
        let missing = snapshot.is_none()
            || ports.values().any(|servers| !servers.iter().any(|tls| table.contains_key(tls)));
        shared.certificates.0.store(Arc::new(table));
        shared.live.set_certificates_missing(missing);
        tokio::select! {
            () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// The rules of each listened port that speaks TLS.
fn served(snapshot: &Snapshot, settings: &EdgeSettings) -> BTreeMap<u16, Vec<ServerTls>> {
    let ports = settings.listens.iter().filter_map(|listen| {
        let port = snapshot.edge().port(listen.port)?;
        port.tls.then(|| (listen.port, port.servers().filter_map(|server| server.tls.clone()).collect()))
    });
    ports.collect()
}

impl Known {
    fn look(mut self, tls: &ServerTls, folder: Option<&std::path::Path>, bytes_max: u64) -> Self {
        let material = match read(tls, folder, bytes_max) {
            Ok(material) => material,
            Err(error) => {
                self.complain(&error);
                return self;
            }
        };
        if self.digest == Some(material.digest) {
            return self;
        }
        self.digest = Some(material.digest);
        match material.server(tls) {
            Ok(server) => {
                if server.not_after <= SystemTime::now() {
                    tracing::warn!(?tls.credential, "the certificate that the edge shows has expired");
                }
                tracing::info!(?tls.credential, "a certificate of the edge was loaded");
                self.server = Some(server);
                self.complaint = None;
            }
            Err(error) => self.complain(&error),
        }
        self
    }

    fn complain(&mut self, error: &CredentialError) {
        let text = error.to_string();
        if self.complaint.as_deref() != Some(&*text) {
            let kept =
                if self.server.is_some() { "the last good one stays" } else { "its hosts are refused" };
            tracing::error!("a certificate of the edge cannot be used, {kept}: {text}");
            self.complaint = Some(text);
        }
    }
}
