//! Two VirtualServices that want one host of one Gateway.

use std::collections::BTreeMap;

use super::{VirtualServiceSpec, gateways};
use crate::kind::Named;
use crate::kind::gateway::HostPattern;

/// The later of two that cannot both be.
#[derive(Debug)]
pub(crate) struct Conflict {
    /// Which of the list.
    pub(crate) index: usize,
    /// Which of the list has the host already.
    pub(crate) first: usize,
    pub(crate) path: String,
    pub(crate) message: String,
}

/// Istio merges the routes of both, oldest first. Documents have no age here, and of two teams the one that came first
/// must not lose requests to the other.
pub(crate) fn conflicts(services: &[Named<VirtualServiceSpec>]) -> Vec<Conflict> {
    let mut taken: BTreeMap<(&str, &str, HostPattern), usize> = BTreeMap::new();
    let mut out: Vec<Conflict> = Vec::new();
    for (index, Named { meta, spec }) in services.iter().enumerate() {
        for (namespace, name) in gateways(meta, spec) {
            for (i, text) in spec.hosts.iter().enumerate() {
                let Some(pattern) = HostPattern::parse(text) else { continue };
                let first = *taken.entry((namespace, name, pattern)).or_insert(index);
                if first == index {
                    continue;
                }
                let Some(Named { meta: owner, .. }) = services.get(first) else { continue };
                let message = format!(
                    "the host {text:?} of the Gateway {namespace}/{name} is in VirtualService {}/{} already",
                    owner.namespace, owner.name
                );
                out.push(Conflict { index, first, path: format!("spec.hosts[{i}]"), message });
            }
        }
    }
    out
}
