//! What the admin listener tells about configuration and control plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use palisade_policy::Projection;
use palisade_policy::kind::Meta;
use serde::Serialize;

/// Written by the tasks of the control thread, read by the admin listener.
#[derive(Debug, Default)]
pub(crate) struct Status {
    applied: ArcSwapOption<Applied>,
    link: AtomicU8,
    pub(crate) rejected: Counter,
    pub(crate) reload_failures: Counter,
    pub(crate) renewal_failures: Counter,
}

/// How things stand with the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// File mode: there is none.
    None,
    Disconnected,
    Connected,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

/// The configuration in force, in short.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    pub(crate) version: u64,
    /// SHA-256, hex.
    pub(crate) digest: String,
    pub(crate) workload: String,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) policies: Vec<String>,
    pub(crate) destinations: Vec<DestinationSummary>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DestinationSummary {
    pub(crate) host: String,
    pub(crate) ports: Vec<u16>,
    pub(crate) endpoints: usize,
}

impl Status {
    pub(crate) fn applied(&self) -> Guard<Option<Arc<Applied>>> {
        self.applied.load()
    }

    pub(crate) fn set_applied(&self, applied: Applied) {
        self.applied.store(Some(Arc::new(applied)));
    }

    pub(crate) fn link(&self) -> Link {
        match self.link.load(Ordering::Acquire) {
            0 => Link::None,
            1 => Link::Disconnected,
            _ => Link::Connected,
        }
    }

    pub(crate) fn set_link(&self, link: Link) {
        let number = match link {
            Link::None => 0,
            Link::Disconnected => 1,
            Link::Connected => 2,
        };
        self.link.store(number, Ordering::Release);
    }
}

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Applied {
    pub(crate) fn new(version: u64, digest: &[u8; 32], projection: &Projection) -> Self {
        let names = |kind: &'static str, metas: Vec<&Meta>| -> Vec<String> {
            metas.into_iter().map(|meta| format!("{kind} {}/{}", meta.namespace, meta.name)).collect()
        };
        let policies = [
            names("AuthorizationPolicy", projection.authorization.iter().map(|p| &p.meta).collect()),
            names("PeerAuthentication", projection.peer_authentication.iter().map(|p| &p.meta).collect()),
            names("ServiceEntry", projection.service_entries.iter().map(|p| &p.meta).collect()),
            names("RetryPolicy", projection.retry_policies.iter().map(|p| &p.meta).collect()),
            names("FaultExperiment", projection.fault_experiments.iter().map(|p| &p.meta).collect()),
            names("DestinationRule", projection.destination_rules.iter().map(|p| &p.meta).collect()),
        ];
        let services = projection.services.iter().map(|service| DestinationSummary {
            host: format!("{}.{}", service.name, service.namespace),
            ports: service.ports.iter().map(|port| port.number).collect(),
            endpoints: service.endpoints.len(),
        });
        let entries = projection.service_entries.iter().flat_map(|entry| {
            entry.spec.hosts.iter().map(|host| DestinationSummary {
                host: host.clone(),
                ports: entry.spec.ports.iter().map(|port| port.number).collect(),
                endpoints: entry.spec.endpoints.len(),
            })
        });
        Self {
            version,
            digest: hex::encode(digest),
            workload: projection.workload.id.to_string(),
            labels: projection.workload.labels.clone(),
            policies: policies.concat(),
            destinations: services.chain(entries).collect(),
        }
    }
}
