//! A DestinationRule with all of its parts, from the operator to the proxies, and what is told of it.

use http::StatusCode;
use palisade_tests::process::Finished;
use serde_json::Value;

use crate::fleet::Fleet;

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: ledger
  namespace: payments
  annotations: {palisade.mesh/success-rate-ejection: 'off'}
spec:
  host: ledger
  trafficPolicy:
    loadBalancer: {consistentHash: {httpCookie: {name: user, path: /, ttl: 1h}}}
    connectionPool:
      tcp: {maxConnections: 200, connectTimeout: 1s, tcpKeepalive: {time: 60s}}
      http: {http2MaxRequests: 500, maxRequestsPerConnection: 0, idleTimeout: 30s}
    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 50}
    retryBudget: {percent: 12.5}
    tls: {mode: ISTIO_MUTUAL}
    portLevelSettings:
    - port: {number: 9090}
      loadBalancer: {simple: RANDOM, warmup: {duration: 60s}}
  subsets:
  - {name: v1, labels: {app: ledger}}
  - {name: v2, labels: {app: other}, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 20}}}}
";

fn json(done: &Finished) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

/// Value and origin of a setting.
fn setting(destination: &Value, name: &str) -> (String, Option<String>) {
    let all = destination["values"].as_array().unwrap();
    let row = all.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {all:?}"));
    (row["value"].as_str().unwrap().to_owned(), row["from"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_rule_with_all_of_its_parts_reaches_the_proxies_and_is_described_value_by_value() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let bare = json(&world.operator(&["describe", "destination", "ledger.payments", "-o", "json"]).await);
    let requests = "connectionPool.http.http2MaxRequests";
    assert_eq!(bare["destinations"][0]["rule"], Value::Null);
    assert_eq!(setting(&bare["destinations"][0], requests), ("1024".into(), None));

    // `apply` waits until every proxy has compiled it and said so.
    world.apply(RULE).await;
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
    let told =
        json(&world.operator(&["describe", "destination", "ledger.payments:8080", "-o", "json"]).await);
    let [port, v1, v2] = told["destinations"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!((&told["callers"], &port["rule"]), (&"payments".into(), &"payments/ledger".into()));
    let from = "spec.trafficPolicy.connectionPool.http.http2MaxRequests";
    assert_eq!(setting(port, requests), ("500".into(), Some(from.into())));
    assert_eq!(setting(port, "connectionPool.tcp.maxConnections").0, "200");
    assert_eq!(setting(port, "connectionPool.http.http1MaxPendingRequests"), ("1024".into(), None));
    assert_eq!(setting(port, "success-rate ejection").0, "off");
    assert_eq!(port["endpoints"].as_array().unwrap().len(), 1);
    assert_eq!((&v1["subset"], v1["endpoints"].as_array().unwrap().len()), (&"v1".into(), 1));
    assert_eq!(
        (&v2["cluster"], v2["endpoints"].as_array().unwrap().len()),
        (&"outbound|8080|v2|ledger.payments".into(), 0)
    );
    let from = "spec.subsets[1].trafficPolicy.connectionPool.http.http2MaxRequests";
    assert_eq!(setting(v2, requests), ("20".into(), Some(from.into())));
    // A part is taken whole.
    assert_eq!(setting(v2, "connectionPool.tcp.maxConnections"), ("1024".into(), None));

    let table = world.operator(&["describe", "destination", "ledger.payments"]).await;
    assert!(table.stdout.contains("rule      DestinationRule payments/ledger\n"), "{table:?}");
    assert!(table.stdout.contains("subset v2 of port 8080"), "{table:?}");
    let unknown = world.operator(&["describe", "destination", "ledgr.payments"]).await;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("known as ledgr.payments"), "{unknown:?}");
}

#[tokio::test]
async fn a_rule_that_means_nothing_is_refused_with_the_line_and_the_proxies_go_on() {
    let fleet = Fleet::open().await;
    let world = &fleet.world;
    let bad = world.write("bad.yaml", &RULE.replace("maxConnections: 200", "maxConnections: 0"));
    let done = world.operator(&["apply", &bad]).await;
    assert!(
        done.code == Some(2) && done.stderr.contains("PAL1303") && done.stderr.contains("bad.yaml:13:"),
        "{done:?}"
    );
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
}
