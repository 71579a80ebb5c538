//! FaultExperiments against a running control plane: what is refused, and who is told of what.

mod command;

use palisade_tests::Sidecar;

use crate::fleet::{Fleet, assert_refused, config};

pub(crate) const VAULT: &str = "
apiVersion: palisade.mesh/v1
kind: MeshConfig
metadata: {name: default, namespace: palisade-system}
spec: {faults: {maxDuration: 10m, protected: [test.mesh/ns/payments/sa/ledger]}}
";

/// Of web's calls to the ledger, or of whatever stands in their place.
pub(crate) fn experiment(name: &str, callers: &str, rest: &str) -> String {
    format!(
        "
apiVersion: palisade.mesh/v1
kind: FaultExperiment
metadata: {{name: {name}, namespace: payments}}
spec: {{callers: [{callers}], hosts: [ledger], startsAt: 2026-11-30T12:00:00Z, fault: {{delay: {{fixed: 2s}}}}, {rest}}}
"
    )
}

pub(crate) const WEB: &str = "test.mesh/ns/payments/sa/web";

/// The experiments that a proxy says it was told of.
pub(crate) async fn told(sidecar: &Sidecar) -> Vec<String> {
    let config = config(sidecar).await;
    let policies = config["configuration"]["policies"].as_array().cloned().unwrap_or_default();
    let names = policies.iter().filter_map(|policy| policy.as_str()?.strip_prefix("FaultExperiment "));
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_experiment_reaches_the_callers_that_it_names_and_nobody_else() {
    let fleet = Fleet::open().await;
    let applied = fleet.world.apply(&experiment("slow", WEB, "duration: 5m")).await;
    assert!(
        applied.stdout.contains("other policy for 1 of 2 known workloads\n    payments/web"),
        "{applied:?}"
    );
    assert_eq!(told(&fleet.web).await, ["payments/slow"]);
    let workload = fleet.world.operator(&["describe", "workload", "web"]).await;
    assert!(workload.stdout.contains("FaultExperiment            payments/slow\n"), "{workload:?}");
    let object = fleet.world.operator(&["describe", "FaultExperiment", "payments/slow"]).await;
    assert!(object.stdout.contains("concerns  spiffe://test.mesh/ns/payments/sa/web\n"), "{object:?}");
    assert_eq!(told(&fleet.ledger).await, [""; 0]);
    let described = fleet.world.operator(&["describe", "destination", "ledger.payments"]).await;
    let until = "faults    FaultExperiment payments/slow, 2026-11-30T12:00:00Z to 2026-11-30T12:05:00Z, for some callers";
    let lines: Vec<&str> = described.stdout.lines().collect();
    let at = lines.iter().position(|line| *line == until).unwrap_or_else(|| panic!("{described:?}"));
    assert_eq!(lines[at + 1].trim(), "delay 2s; 100% of all, at most 100 at once in each proxy");
    let unrouted = "  no routes: timeout 60s to the answer's head, gRPC none; retries 2 on connect-failure,";
    assert!(described.stdout.contains(unrouted), "{described:?}");
    fleet.world.apply(&experiment("slow", "test.mesh/ns/payments/sa/other", "duration: 5m")).await;
    assert_eq!(told(&fleet.web).await, [""; 0]);
}

#[tokio::test]
async fn what_lasts_too_long_or_hits_whom_the_mesh_protects_is_not_applied() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let apply = async |text: &str| world.operator(&["apply", &world.write("experiment.yaml", text)]).await;
    let long = apply(&experiment("long", WEB, "duration: 61m")).await;
    assert_refused(&long, 2, &["PAL2406", "61m is longer than the mesh allows: 1h", "faults.maxDuration"]);
    assert_refused(&apply(&experiment("long", WEB, "duration: 25h")).await, 2, &["PAL2402", "1s and 24h"]);

    // Whoever is protected later is in the way of what is in force.
    world.apply(&experiment("slow", WEB, "duration: 5m")).await;
    let late = apply(VAULT).await;
    assert_refused(&late, 2, &["PAL2407", "payments/slow", "calls to \"ledger\" are protected from faults"]);
    assert_eq!(world.operator(&["delete", "FaultExperiment", "payments/slow"]).await.code, Some(0));
    world.apply(VAULT).await;
    let vault = apply(&experiment("slow", WEB, "duration: 5m")).await;
    assert_refused(&vault, 2, &["PAL2407", "test.mesh/ns/payments/sa/ledger", "faults.protected"]);
    let longer = apply(&experiment("slow", WEB, "duration: 11m").replace("[ledger]", "[elsewhere]")).await;
    assert_refused(&longer, 2, &["PAL2406", "11m is longer than the mesh allows: 10m"]);

    // A wildcard is no name: whom it catches is left out at the proxy.
    let outside = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: payments}
spec: {hosts: [bank.example], resolution: DNS, location: MESH_EXTERNAL, ports: [{number: 80, name: http, protocol: HTTP}]}
";
    let any = experiment("any", "'*'", "duration: 5m").replace("[ledger]", "[bank.example]");
    world.apply(&(any + outside)).await;
    assert_eq!(told(&fleet.ledger).await, [""; 0]);
    assert_eq!(told(&fleet.web).await, ["payments/any"]);
}
