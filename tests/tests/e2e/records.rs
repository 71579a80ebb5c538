//! One decision record for each request, whatever becomes of it.

use http::StatusCode;
use palisade_tests::client;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::kit::{HTTP1, Mesh, get, request, url};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: payments}
spec:
  action: ALLOW
  rules:
    - {from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]}
";

const KEYS: &[&str] = &[
    "time",
    "decision_id",
    "request_id",
    "direction",
    "decision",
    "reason",
    "source_principal",
    "destination_principal",
    "source_address",
    "method",
    "authority",
    "path",
    "protocol",
    "policy",
    "rule",
    "policy_version",
    "response_code",
    "response_flags",
    "bytes_received",
    "bytes_sent",
    "duration_ms",
    "upstream_host",
];

#[tokio::test]
async fn an_allowed_request_leaves_one_record_with_every_fact() {
    let mesh = Mesh::start(POLICIES).await;
    let answer = mesh.call("payments/web", request("POST", "/echo?token=secret", "four")).await;
    assert_eq!(answer.status, StatusCode::OK);
    mesh.sidecar.records_with(1, &[]).await;
    let records = mesh.sidecar.records();
    assert_eq!(records.len(), 1, "{records:#?}");
    let record = &records[0];
    for key in KEYS {
        assert!(record.get(*key).is_some(), "no {key}: {record:#}");
    }
    let expected = json!({
        "direction": "inbound", "decision": "allowed", "method": "POST", "path": "/echo",
        "source_principal": "spiffe://test.mesh/ns/payments/sa/web", "policy": "payments/web", "rule": 0,
        "response_code": 200, "bytes_received": 4, "bytes_sent": 4,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&record[key], value, "{key}: {record:#}");
    }
    assert!(!record.to_string().contains("secret"), "the query must not be logged: {record}");
}

#[tokio::test]
async fn refused_malformed_and_cancelled_requests_leave_one_record_each() {
    let mesh = Mesh::start(POLICIES).await;
    assert_eq!(mesh.call("payments/other", get("/")).await.status, StatusCode::FORBIDDEN);
    let denied = mesh.sidecar.records_with(1, &[("decision", json!("denied"))]).await;
    assert_eq!((denied[0]["response_code"].clone(), denied[0]["policy"].clone()), (json!(403), Value::Null));
    mesh.raw("payments/web", b"GET /%00 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    mesh.sidecar.records_with(1, &[("response_code", json!(400))]).await;
    // Cancelled while the service thinks, and while the answer streams.
    for target in ["/slow/5000", "/drip/1000"] {
        let mut stream = mesh.connect("payments/web", HTTP1).await;
        let text = format!("GET {target} HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        palisade_tests::until("the request at the service", || async {
            if mesh.app.received().iter().any(|one| one.target == target) { Ok(()) } else { Err(()) }
        })
        .await;
        drop(stream);
        let records = mesh.sidecar.records_with(1, &[("path", json!(target))]).await;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["response_flags"], "DC", "{}", records[0]);
    }
    assert_eq!(mesh.sidecar.records().len(), 4, "{:#?}", mesh.sidecar.records());
}

#[tokio::test]
async fn the_record_of_a_refusal_says_who_and_why_under_the_id_the_caller_was_told() {
    let mesh = Mesh::start(POLICIES).await;
    let answer = mesh.call("payments/other", get("/x")).await;
    let id = answer.header("x-palisade-decision-id").unwrap();
    let record = &mesh.sidecar.records_with(1, &[("decision_id", json!(id))]).await[0];
    assert_eq!(record["source_principal"], "spiffe://test.mesh/ns/payments/sa/other");
    assert!(!record["reason"].as_str().unwrap().is_empty());
    assert!(record["response_code_details"].as_str().unwrap().starts_with("rbac_access_denied"), "{record}");
}

#[tokio::test]
async fn control_characters_of_a_caller_cannot_forge_a_line() {
    let mesh = Mesh::start(POLICIES).await;
    let mut request = get("/%0A%7B%22decision%22");
    request.headers_mut().append("user-agent", "a\"}{\"decision\":\"allowed\"".parse().unwrap());
    mesh.call("payments/other", request).await;
    let records = mesh.sidecar.records_with(1, &[]).await;
    assert_eq!(records.len(), 1);
    assert!(records.iter().all(|record| record["decision"] != "allowed"), "{records:#?}");
}

#[tokio::test]
async fn metrics_have_istios_names_and_the_admin_listener_is_loopback_only() {
    let mesh = Mesh::start(POLICIES).await;
    let caller = mesh.caller().await;
    for _ in 0..3 {
        client::get(caller.http_proxy(), &url("/")).await;
    }
    palisade_tests::until("the counter", || async {
        let inbound = mesh.sidecar.metric("istio_requests_total", &["response_code=\"200\""]).await;
        let outbound = caller.metric("istio_requests_total", &["reporter=\"source\""]).await;
        if (inbound, outbound) == (3.0, 3.0) { Ok(()) } else { Err((inbound, outbound)) }
    })
    .await;
    assert!(mesh.sidecar.admin_address().ip().is_loopback());
}
