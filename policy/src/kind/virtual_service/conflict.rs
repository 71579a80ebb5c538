//! Two VirtualServices that want one host of one Gateway, or the calls of one service.

use std::collections::BTreeMap;

use super::{VirtualServiceSpec, gateways, is_for_mesh};
use crate::kind::Named;
use crate::kind::gateway::HostPattern;
use crate::set::names::resolve;

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

/// What only one VirtualService may have.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Claim<'a> {
    /// A host of a Gateway, by the Gateway's namespace and name.
    Served(&'a str, &'a str, HostPattern),
    /// A service that sidecars call, within a namespace: between namespaces there is an order.
    Called(&'a str, String),
}

/// Istio merges the routes of both, oldest first. Documents have no age here, and of two teams the one that came first
/// must not lose requests to the other.
pub(crate) fn conflicts(services: &[Named<VirtualServiceSpec>]) -> Vec<Conflict> {
    let mut taken: BTreeMap<Claim<'_>, usize> = BTreeMap::new();
    let mut out: Vec<Conflict> = Vec::new();
    for (index, Named { meta, spec }) in services.iter().enumerate() {
        for (i, text) in spec.hosts.iter().enumerate() {
            let Some(pattern) = HostPattern::parse(text) else { continue };
            let mut claims: Vec<(Claim<'_>, String)> = gateways(meta, spec)
                .map(|(namespace, name)| {
                    let what = format!("the host {text:?} of the Gateway {namespace}/{name}");
                    (Claim::Served(namespace, name, pattern.clone()), what)
                })
                .collect();
            if is_for_mesh(spec)
                && let Some(host) = resolve(text, &meta.namespace).last()
            {
                let what = format!("what sidecars do with calls of {text:?}");
                claims.push((Claim::Called(&meta.namespace, host), what));
            }
            for (claim, what) in claims {
                let first = *taken.entry(claim).or_insert(index);
                if first == index {
                    continue;
                }
                let Some(Named { meta: owner, .. }) = services.get(first) else { continue };
                let message =
                    format!("{what} is in VirtualService {}/{} already", owner.namespace, owner.name);
                out.push(Conflict { index, first, path: format!("spec.hosts[{i}]"), message });
            }
        }
    }
    out
}
