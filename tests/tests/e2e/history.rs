//! What an operator sees before a change, and the way back from it.

use http::StatusCode;
use palisade_tests::process::Finished;
use serde_json::Value;

use crate::fleet::{ALLOW_WEB, DENY_CLOSED, Fleet};

fn json(done: &Finished) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

#[tokio::test]
async fn a_change_is_shown_before_it_is_made_and_can_be_taken_back() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let before = json(&world.operator(&["history", "-o", "json"]).await)["versions"][0]["version"].clone();
    assert_eq!(fleet.get("/closed").await.status, StatusCode::OK);

    // Shown and not done.
    let closed = world.write("closed.yaml", DENY_CLOSED);
    let dry = world.operator(&["apply", "--dry-run", &closed]).await;
    let said = &dry.stdout;
    assert!(said.contains("created AuthorizationPolicy payments/closed"), "{dry:?}");
    assert!(
        said.contains("effect: other policy for 1 of 2 known workloads\n    payments/ledger (1 instance)"),
        "{dry:?}"
    );
    assert!(
        said.contains("\n    - payments/web may no longer call payments/ledger: any method of /closed\n"),
        "{dry:?}"
    );
    assert_eq!(fleet.get("/closed").await.status, StatusCode::OK);

    let done = world.operator(&["apply", "-m", "close the books", &closed]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(fleet.get("/closed").await.status, StatusCode::FORBIDDEN);
    let narrower = world.write("closed.yaml", &DENY_CLOSED.replace("DENY", "AUDIT"));
    let done = world.operator(&["apply", &narrower]).await;
    assert!(
        done.stdout.contains("updated AuthorizationPolicy payments/closed\n    spec.action: DENY -> AUDIT\n"),
        "{done:?}"
    );
    assert_eq!(fleet.get("/closed").await.status, StatusCode::OK);
    let same = world.operator(&["apply", &narrower]).await;
    assert!(same.code == Some(0) && same.stdout.contains("nothing to change"), "{same:?}");

    // Who, why, what.
    let history = json(&world.operator(&["history", "-o", "json"]).await);
    let entry = &history["versions"][1];
    assert_eq!(
        (&entry["message"], &entry["changes"][0]["action"]),
        (&"close the books".into(), &"created".into())
    );
    assert_eq!(entry["author"], "spiffe://test.mesh/operator/admin");
    let table = world.operator(&["history"]).await;
    assert!(table.stdout.contains("close the books") && table.stdout.contains("CHANGES"), "{table:?}");

    // The way back, shown first, and then the upstream is shut off again.
    let version = entry["version"].to_string();
    let dry = world.operator(&["rollback", "--dry-run", &version]).await;
    assert!(dry.stdout.contains("spec.action: AUDIT -> DENY"), "{dry:?}");
    assert_eq!(fleet.get("/closed").await.status, StatusCode::OK);
    let back = json(&world.operator(&["rollback", &version, "-o", "json"]).await);
    assert!(back["pushes"].as_array().unwrap().iter().all(|push| push["outcome"] == "acked"), "{back}");
    assert_eq!(fleet.get("/closed").await.status, StatusCode::FORBIDDEN);
    let history = json(&world.operator(&["history", "--limit", "1", "-o", "json"]).await);
    assert_eq!(history["versions"][0]["rollback_of"], entry["version"]);

    // The set of before, whole.
    let old = world.operator(&["get", "--version", &before.to_string(), "-o", "yaml"]).await;
    assert!(old.code == Some(0) && !old.stdout.contains("closed"), "{old:?}");
    let unknown = world.operator(&["rollback", "9999"]).await;
    assert!(
        unknown.code == Some(1) && unknown.stderr.contains("version 9999 is not in the history"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn pruning_shows_what_goes_and_a_set_with_an_error_is_refused_whole() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    world.apply(DENY_CLOSED).await;
    let bad = world.write("all.yaml", &format!("{ALLOW_WEB}---\nkind: Nothing\n"));
    let refused = world.operator(&["apply", "--prune", &bad]).await;
    assert!(refused.code == Some(2) && refused.stdout.is_empty(), "{refused:?}");
    assert_eq!(fleet.get("/closed").await.status, StatusCode::FORBIDDEN);

    let all = world.write("all.yaml", ALLOW_WEB);
    let pruned = world.operator(&["apply", "--prune", &all]).await;
    assert!(pruned.stdout.contains("deleted AuthorizationPolicy payments/closed"), "{pruned:?}");
    assert_eq!(fleet.get("/closed").await.status, StatusCode::OK);
    let proxies = world.operator(&["proxies", "-o", "yaml"]).await;
    assert!(
        proxies.code == Some(0)
            && proxies.stdout.contains("spiffe_id: spiffe://test.mesh/ns/payments/sa/ledger"),
        "{proxies:?}"
    );
}

#[tokio::test]
async fn a_workload_is_described_as_its_sidecar_treats_its_callers() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    world.apply(DENY_CLOSED).await;
    let described = json(&world.operator(&["describe", "workload", "payments/ledger", "-o", "json"]).await);
    let ledger = &described["workloads"][0];
    assert_eq!(ledger["ports"], serde_json::json!([{"number": 8080, "mtls": "STRICT"}]));
    let stages: Vec<&str> =
        ledger["policies"].as_array().unwrap().iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["PeerAuthentication", "AuthorizationPolicy DENY", "AuthorizationPolicy ALLOW"]);
    let let_in = |id: &str| {
        let callers = ledger["callers"].as_array().unwrap();
        callers.iter().find(|caller| caller["spiffe_id"] == id).unwrap()["could_be_let_in"].clone()
    };
    assert_eq!(let_in("spiffe://test.mesh/ns/payments/sa/web"), true);
    assert_eq!(let_in("spiffe://test.mesh/ns/payments/sa/ledger"), false);
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);

    let table = world.operator(&["describe", "workload", "ledger"]).await;
    assert!(table.stdout.contains("port      8080, mutual TLS STRICT"), "{table:?}");
    let object = world.operator(&["describe", "AuthorizationPolicy", "payments/closed"]).await;
    assert!(object.stdout.contains("concerns  spiffe://test.mesh/ns/payments/sa/ledger\n"), "{object:?}");
    assert!(object.stdout.contains("paths: [/closed]") && !object.stdout.contains("sa/web"), "{object:?}");
    let nobody = world.operator(&["describe", "workload", "ledgr"]).await;
    assert!(nobody.code == Some(1) && nobody.stderr.contains("payments/ledger"), "{nobody:?}");
}
