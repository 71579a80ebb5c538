//! What experiments do to calls, and to nothing else. What counts is what the upstream received.

mod answers;
mod bounds;
mod restart;
mod stop;
mod tries;
mod who;

use std::time::{Duration, SystemTime};

use palisade_policy::document::time;
use palisade_tests::{Sidecar, until};
use serde_json::{Value, json};

use crate::kit::Caller;

/// The id of `experiment`s in records and metrics.
const ID: &str = "payments/trial";

/// One of calls from web to the bank, on from now on; with this fault and more fields, in flow style.
pub(crate) fn experiment(fault: &str, more: &str) -> String {
    from(SystemTime::now(), "5m", fault, more)
}

fn from(start: SystemTime, duration: &str, fault: &str, more: &str) -> String {
    format!(
        "
apiVersion: palisade.mesh/v1
kind: FaultExperiment
metadata: {{name: trial, namespace: payments}}
spec:
  callers: [test.mesh/ns/payments/sa/web]
  hosts: [bank.example]
  startsAt: {}
  duration: {duration}
  fault: {{{fault}}}
{}",
        time::write(start),
        more.lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

/// The routes of the bank: one, with these retries.
fn retries(flow: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bank, namespace: payments}}
spec:
  hosts: [bank.example]
  http: [{{name: all, retries: {{{flow}}}, route: [{{destination: {{host: bank.example}}}}]}}]
"
    )
}

fn rule(traffic_policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: payments}}
spec: {{host: bank.example, trafficPolicy: {traffic_policy}}}
"
    )
}

fn all<T: AsRef<str>>(documents: &[T]) -> String {
    documents.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("---")
}

/// How often this was done to attempts.
async fn injected(sidecar: &Sidecar, what: &str) -> f64 {
    let having = [format!("fault=\"{ID}\""), format!("type=\"{what}\"")];
    sidecar.metric("palisade_faults_injected_total", &having.each_ref().map(String::as_str)).await
}

async fn until_injected(sidecar: &Sidecar, what: &str, count: f64) {
    until(&format!("{count} times {what}"), || async {
        let now = injected(sidecar, what).await;
        if now >= count { Ok(()) } else { Err(now) }
    })
    .await;
}

/// The records of requests that faults of this type were injected into.
async fn marked(caller: &Caller, count: usize, what: &str) -> Vec<Value> {
    let fields = [("fault", json!(ID)), ("fault_type", json!(what))];
    caller.sidecar.records_with(count, &fields).await
}

const MS: fn(u64) -> Duration = Duration::from_millis;
