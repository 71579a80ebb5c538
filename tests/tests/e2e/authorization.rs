//! ALLOW and DENY over real connections: who, what, and what the service saw of it.

use http::StatusCode;
use serde_json::json;

use crate::kit::{Mesh, request, request_h2};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: payments}
spec:
  action: ALLOW
  rules:
    - from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]
      to: [{operation: {methods: [GET, POST], paths: [/entries, '/entries/*'], notPaths: [/entries/secret]}}]
    - from: [{source: {namespaces: [audit]}}]
      to: [{operation: {methods: [GET], ports: ['8080'], hosts: ['ledger.payments*']}}]
      when: [{key: 'request.headers[x-purpose]', values: [audit]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: never, namespace: palisade-system}
spec:
  action: DENY
  rules:
    - to: [{operation: {paths: ['/entries/void*']}}]
    - when: [{key: 'request.headers[x-role]', values: [intruder]}]
    - from: [{source: {notNamespaces: [payments, audit]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: for-others, namespace: payments}
spec:
  selector: {matchLabels: {app: somebody-else}}
  action: ALLOW
  rules: [{}]
";

/// caller, method, target, headers, the policy that decides (none: nothing allowed it)
type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const ALLOWED: &[Row] = &[
    ("payments/web", "GET", "/entries", &[], "payments/readers"),
    ("payments/web", "POST", "/entries", &[], "payments/readers"),
    ("payments/web", "GET", "/entries/7?page=2", &[], "payments/readers"),
    ("payments/web", "GET", "/entries", &[("x-role", "clerk")], "payments/readers"),
    ("audit/anyone", "GET", "/whatever", &[("x-purpose", "audit")], "payments/readers"),
];

const DENIED: &[Row] = &[
    ("payments/web", "DELETE", "/entries", &[], ""),
    ("payments/web", "get", "/entries", &[], ""),
    ("payments/web", "GET", "/entriesx", &[], ""),
    ("payments/web", "GET", "/Entries", &[], ""),
    ("payments/web", "GET", "/", &[], ""),
    ("payments/web", "GET", "/x?/entries", &[], ""),
    ("payments/web", "GET", "/entries/secret", &[], ""),
    ("payments/web", "GET", "/entries/secret?x=1", &[], ""),
    ("payments/web", "GET", "/entries/void", &[], "palisade-system/never"),
    ("payments/web", "GET", "/entries/void/7", &[], "palisade-system/never"),
    ("payments/web", "GET", "/entries", &[("x-role", "intruder")], "palisade-system/never"),
    (
        "payments/web",
        "GET",
        "/entries",
        &[("x-role", "clerk"), ("x-role", "intruder")],
        "palisade-system/never",
    ),
    ("payments/web2", "GET", "/entries", &[], ""),
    ("payments/we", "GET", "/entries", &[], ""),
    ("audit/anyone", "GET", "/whatever", &[], ""),
    ("audit/anyone", "GET", "/whatever", &[("x-purpose", "")], ""),
    ("audit/anyone", "GET", "/whatever", &[("x-purpose", "auditing")], ""),
    ("audit/anyone", "POST", "/whatever", &[("x-purpose", "audit")], ""),
    ("audit2/anyone", "GET", "/whatever", &[("x-purpose", "audit")], "palisade-system/never"),
    ("other/web", "GET", "/entries", &[], "palisade-system/never"),
];

#[tokio::test]
async fn allow_and_deny_decide_the_same_over_both_protocols_and_the_service_sees_only_what_is_allowed() {
    let mesh = Mesh::start(POLICIES).await;
    for (expected, rows) in [(StatusCode::OK, ALLOWED), (StatusCode::FORBIDDEN, DENIED)] {
        for row in rows {
            for version in ["HTTP/1.1", "HTTP/2"] {
                check(&mesh, row, expected, version).await;
            }
        }
    }
}

async fn check(mesh: &Mesh, row: &Row, expected: StatusCode, version: &str) {
    let (caller, method, target, headers, policy) = *row;
    let what = format!("{version} {caller} {method} {target} {headers:?}");
    mesh.app.clear();
    let make = if version == "HTTP/2" { request_h2 } else { request };
    let mut request = make(method, target, "");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let answer = if version == "HTTP/2" {
        mesh.call_h2(caller, request).await
    } else {
        mesh.call(caller, request).await
    };
    assert_eq!(answer.status, expected, "{what}: {}", answer.text());
    let received = mesh.app.received();
    assert_eq!(received.len(), usize::from(expected == StatusCode::OK), "{what}");
    if let Some(received) = received.first() {
        assert_eq!((received.method.as_str(), received.target.as_str()), (method, target), "{what}");
    }
    let id = answer.header("x-palisade-decision-id").map(str::to_owned);
    let path = target.split('?').next().unwrap();
    let fields = match &id {
        Some(id) => vec![("decision_id", json!(id))],
        None => vec![("path", json!(path)), ("decision", json!("allowed"))],
    };
    let records = mesh.sidecar.records_with(1, &fields).await;
    let record = records.last().unwrap();
    let decided_by = record["policy"].as_str().unwrap_or_default();
    assert_eq!(decided_by, policy, "{what}: {record}");
}

#[tokio::test]
async fn a_refusal_tells_the_caller_an_id_and_nothing_about_the_policy() {
    let mesh = Mesh::start(POLICIES).await;
    for target in ["/entries/void", "/nothing"] {
        let answer = mesh.call("payments/web", request("GET", target, "")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let mut keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["decision_id", "status", "title", "type"]);
        assert_eq!(body["decision_id"].as_str(), answer.header("x-palisade-decision-id"));
        let shown = format!("{:?}{}", answer.headers, answer.text()).to_lowercase();
        for secret in ["never", "readers", "rbac", "policy", "spiffe", "payments", "ledger", "127.0.0.1"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}

#[tokio::test]
async fn without_a_policy_that_allows_nothing_is_allowed() {
    let mesh = Mesh::start(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: default-deny, namespace: palisade-system}
spec: {}
",
    )
    .await;
    for caller in ["payments/web", "payments/ledger", "palisade-system/control-plane"] {
        assert_eq!(mesh.call(caller, request("GET", "/", "")).await.status, StatusCode::FORBIDDEN);
    }
    mesh.app.assert_untouched();
}
