//! A refusal is explained by the id that its caller was told, also after the policy has changed.

use http::StatusCode;
use palisade_tests::process::Finished;
use serde_json::{Value, json};

use crate::fleet::{ALLOW_WEB, DENY_CLOSED, Fleet, assert_refused};

/// The log that the sidecar of this workload writes.
fn log(fleet: &Fleet, name: &str) -> String {
    let folder = std::fs::read_dir(fleet.world.folder()).unwrap();
    let mut logs = folder.map(|entry| entry.unwrap().path()).filter(|path| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.contains(name) && file.ends_with(".records.jsonl")
    });
    logs.next().unwrap().display().to_string()
}

async fn explain(fleet: &Fleet, words: &[&str]) -> Finished {
    fleet.world.operator(&[&["explain"], words].concat()).await
}

/// The record of a GET that the ledger's sidecar answered with this status.
async fn record(fleet: &Fleet, target: &str, status: StatusCode) -> Value {
    let answer = fleet.get(target).await;
    assert_eq!(answer.status, status);
    let fields = [("path", json!(target)), ("response_code", json!(status.as_u16()))];
    fleet.ledger.records_with(1, &fields).await.pop().unwrap()
}

#[tokio::test]
async fn a_refusal_is_explained_by_the_rule_of_its_time_after_another_version_has_taken_its_place() {
    let fleet = Fleet::start(&format!("{ALLOW_WEB}---{DENY_CLOSED}")).await;
    let log = log(&fleet, "ledger");
    let refused = record(&fleet, "/closed", StatusCode::FORBIDDEN).await;
    let id = refused["decision_id"].as_str().unwrap();
    let version = refused["policy_version"].as_u64().unwrap();
    assert_eq!(fleet.app.received().len(), 0);

    // The rule goes, and the same request is let in.
    let gone = fleet.world.operator(&["delete", "AuthorizationPolicy", "closed", "-n", "payments"]).await;
    assert_eq!(gone.code, Some(0), "{gone:?}");
    let allowed = record(&fleet, "/closed", StatusCode::OK).await;
    assert_eq!(fleet.app.received().len(), 1);

    let told = explain(&fleet, &[id, "--log", &log]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for part in [
        "REFUSED: a DENY rule matches (denied_by_rule)",
        "caller    test.mesh/ns/payments/sa/web",
        "rule      AuthorizationPolicy payments/closed, rule 0, at <version",
        "path /closed is /closed",
        &format!("record    REFUSED by payments/closed, rule 0 (denied_by_rule), policy version {version}"),
        "unknown   headers, query",
    ] {
        assert!(told.stdout.contains(part), "{part:?} is not said: {told:?}");
    }
    assert!(!told.stdout.contains("DIFFERS"), "{told:?}");

    // The one after it, by the version of that time: as data.
    let id = allowed["decision_id"].as_str().unwrap();
    let told = explain(&fleet, &[id, "--log", &log, "-o", "json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&told["agrees"], &told["record"]["policy_version"]), (&json!(true), &json!(version + 1)));
    assert_eq!(told["explanation"]["rule"]["policy"], "web-calls-ledger");
    assert_eq!(told["explanation"]["rule"]["position"]["line"], 7);

    // Other policies than those of that time do not say what the record says, and that is told.
    let now = fleet.world.write("now.yaml", ALLOW_WEB);
    let id = refused["decision_id"].as_str().unwrap();
    let told = explain(&fleet, &[id, "--log", &log, "--policies", &now]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(
        told.stdout.starts_with("DIFFERS: the record says REFUSED by payments/closed, rule 0"),
        "{told:?}"
    );
    assert!(told.stdout.contains("whether they are version"), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_explained_is_refused_with_the_way_on() {
    let fleet = Fleet::open().await;
    record(&fleet, "/entries", StatusCode::OK).await;
    let (ledger, web) = (log(&fleet, "ledger"), log(&fleet, "web"));
    let outbound = fleet.web.records_with(1, &[("direction", json!("outbound"))]).await.pop().unwrap();
    let id = outbound["decision_id"].as_str().unwrap();
    assert_refused(&explain(&fleet, &[id, "--log", &web]).await, 2, &["log of the service's sidecar"]);
    assert_refused(&explain(&fleet, &[id, "--log", &ledger]).await, 2, &["no record with the id", &ledger]);

    // A log of another mesh: its versions are not in this history.
    let text = std::fs::read_to_string(&ledger).unwrap();
    let mut foreign: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    foreign["policy_version"] = json!(9999);
    let foreign = fleet.world.write("foreign.jsonl", &foreign.to_string());
    let id = text.split_once("\"decision_id\":\"").unwrap().1.split('"').next().unwrap();
    let done = explain(&fleet, &[id, "--log", &foreign]).await;
    assert_refused(&done, 1, &["version 9999 is not in the history"]);
}
