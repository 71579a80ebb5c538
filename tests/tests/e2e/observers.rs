//! Policies that decide nothing: AUDIT and dry-run. Their word is in the record, and only there.

use http::StatusCode;
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

    let answer = mesh.call("payments/web", request("GET", "/entries", "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let record = &mesh.sidecar.records_with(1, &[("method", json!("GET"))]).await[0];
    assert_eq!((&record["audited_by"], &record["decision"]), (&json!(null), &json!("allowed")));
}
