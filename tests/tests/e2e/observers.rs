//! Policies that decide nothing: AUDIT and dry-run. Their word is in the record, and only there.

use http::StatusCode;
use palisade_tests::until;
use serde_json::json;

use crate::kit::{ALLOW_MESH, Mesh, request};

const OBSERVERS: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watch-writes, namespace: payments}
spec: {action: AUDIT, rules: [{to: [{operation: {methods: [POST]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-writes, namespace: payments, annotations: {istio.io/dry-run: 'true'}}
spec: {action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}
";

#[tokio::test]
async fn audit_and_dry_run_are_recorded_and_decide_nothing() {
    let mesh = Mesh::start(&format!("{ALLOW_MESH}---{OBSERVERS}")).await;
    let answer = mesh.call("payments/web", request("POST", "/entries", "x")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(mesh.app.last().body, b"x");
    let record = &mesh.sidecar.records_with(1, &[("method", json!("POST"))]).await[0];
    assert_eq!(record["audited_by"], "ns[payments]-policy[watch-writes]-rule[0]");
    assert_eq!(
        record["dry_run"],
        "rbac_access_denied_matched_policy[ns[payments]-policy[no-writes]-rule[0]]"
    );

    assert_eq!(
        (&record["dry_run_effect"], &record["dry_run_policy"]),
        (&json!("denied_if_added"), &json!("payments/no-writes"))
    );

    let answer = mesh.call("payments/web", request("GET", "/entries", "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let record = &mesh.sidecar.records_with(1, &[("method", json!("GET"))]).await[0];
    assert_eq!((&record["audited_by"], &record["decision"]), (&json!(null), &json!("allowed")));
}

/// Nobody but web, if it were not a dry run.
const ONLY_WEB: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-web, namespace: payments, annotations: {istio.io/dry-run: 'true'}}
spec: {rules: [{from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]}]}
";

const SHADOW: &str = "palisade_shadow_decisions_total";

#[tokio::test]
async fn who_would_be_refused_is_counted_by_caller_and_everybody_is_served() {
    // Nothing is enforced that allows: to add the policy would shut out everybody else.
    let mesh = Mesh::start(ONLY_WEB).await;
    for (caller, times) in [("payments/web", 2), ("payments/batch", 3), ("reports/nightly", 1)] {
        for _ in 0..times {
            let answer = mesh.call(caller, request("GET", "/entries", "")).await;
            assert_eq!(answer.status, StatusCode::OK, "{caller}");
        }
    }
    assert_eq!(mesh.app.received().len(), 6);
    let labels =
        ["effect=\"denied_if_added\"", "policy=\"payments/only-web\"", "reason=\"no_allow_matched\""];
    let count = async |caller: &str| {
        let caller = format!("source_principal=\"spiffe://test.mesh/ns/{caller}\"");
        mesh.sidecar.metric(SHADOW, &[&labels[..], &[caller.as_str()]].concat()).await
    };
    until("what the dry run would refuse to be counted", || async {
        match mesh.sidecar.metric(SHADOW, &[]).await {
            4.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(count("payments/sa/batch").await, 3.0);
    assert_eq!(count("reports/sa/nightly").await, 1.0);
    assert_eq!(count("payments/sa/web").await, 0.0);

    // The same callers, once it is enforced.
    mesh.world.policy("policies.yaml", &ONLY_WEB.replace("'true'", "'false'"));
    until("the policy to be enforced", || async {
        match mesh.call("payments/batch", request("GET", "/entries", "")).await.status {
            StatusCode::FORBIDDEN => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(mesh.call("payments/web", request("GET", "/entries", "")).await.status, StatusCode::OK);
}
