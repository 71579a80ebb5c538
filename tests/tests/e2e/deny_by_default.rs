//! What `palisade init` writes refuses everybody; a policy lets one in; everybody else stays out.

use http::StatusCode;
use palisade_tests::client;
use palisade_tests::world::workload_id;
use serde_json::{Value, json};

use crate::fleet::{ALLOW_WEB, Fleet, ledger, until_endpoints};

#[tokio::test]
async fn everybody_is_refused_until_a_policy_names_them() {
    let fleet = Fleet::start("").await;
    let refused = fleet.get("/entries").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    fleet.app.assert_untouched();
    let records = fleet.ledger.records_with(1, &[("direction", json!("inbound"))]).await;
    let record = &records[0];
    assert_eq!(record["decision"], "denied");
    assert_eq!(record["source_principal"], workload_id("payments/web").as_str());
    assert_eq!(record["destination_principal"], workload_id("payments/ledger").as_str());
    assert_eq!(record["response_code_details"], "rbac_access_denied_matched_policy[none]");
    assert_eq!(record["decision_id"].as_str(), refused.header("x-palisade-decision-id"));
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(problem["decision_id"], record["decision_id"]);
    assert!(!refused.text().contains("policy"), "an outsider is told of policy: {}", refused.text());

    fleet.world.apply(ALLOW_WEB).await;
    let answer = client::post(fleet.web.http_proxy(), &ledger("/echo"), "a payment").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "a payment"));
    let received = fleet.app.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, b"a payment");
    let identity = received[0].headers["x-forwarded-client-cert"].to_str().unwrap();
    assert!(identity.contains(&format!("URI={}", workload_id("payments/web").as_str())), "{identity}");
    let allowed = fleet.ledger.records_with(1, &[("decision", json!("allowed"))]).await;
    assert_eq!(allowed[0]["policy"], "payments/web-calls-ledger");
}

#[tokio::test]
async fn a_service_that_no_policy_names_learns_of_the_ledger_and_is_refused() {
    let fleet = Fleet::open().await;
    let other = fleet.world.sidecar("payments/notifications").await.outbound().start().await;
    until_endpoints(&other, "ledger.payments", 1).await;
    let refused = client::get(other.http_proxy(), &ledger("/entries")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    fleet.app.assert_untouched();
    let principal = json!(workload_id("payments/notifications").as_str());
    let records = fleet.ledger.records_with(1, &[("source_principal", principal)]).await;
    assert_eq!(records[0]["decision"], "denied");
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
}
