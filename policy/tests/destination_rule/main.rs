//! DestinationRule: what is refused, and what the rest makes of a destination.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

#[path = "../support/mod.rs"]
mod support;

mod describe;
mod effect;
mod refusals;
mod subsets;

use std::sync::Arc;

use palisade_policy::Snapshot;
use palisade_policy::compile::Destination;
use palisade_policy::traffic::Traffic;
use support::{parse_ok, snapshot, workload};

/// A rule named `name` for ledger.bank. `spec`: what follows its host, in flow style.
fn rule(namespace: &str, name: &str, spec: &str) -> String {
    let host = if spec.starts_with("host:") { "" } else { "host: ledger.bank, " };
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{host}{spec}}}\n"
    )
}

fn policy(text: &str) -> String {
    rule("bank", "r", &format!("trafficPolicy: {{{text}}}"))
}

/// The mesh of `text` as payments, a caller of the namespace bank, sees it: two instances of ledger.bank, of version
/// v1 and v2.
fn payments(text: &str) -> Snapshot {
    let (set, _) = parse_ok(text);
    let mut ledger = support::service("bank", "ledger");
    let mut other = ledger.endpoints[0].clone();
    other.instance = "ledger-2".into();
    other.addresses = [(8080, "127.0.0.2:15006".parse().unwrap())].into();
    ledger.endpoints.push(other);
    for (endpoint, version) in ledger.endpoints.iter_mut().zip(["v1", "v2"]) {
        endpoint.labels.insert("version".into(), version.into());
    }
    snapshot(&set, &[ledger], &workload("bank", "payments"))
}

fn find<'s>(snapshot: &'s Snapshot, authority: &str) -> &'s Arc<Destination> {
    snapshot.destination(authority, 8080).unwrap_or_else(|| panic!("{authority} is unknown"))
}

/// What holds for ledger.bank:8080.
fn traffic(text: &str) -> Traffic {
    (*find(&payments(text), "ledger").traffic).clone()
}
