//! The ways through: who reaches the application, what it receives, what is recorded.

use crate::mesh::{ALLOW_PUBLIC, Ca, Pair, connect, exchange, id, talk};

#[tokio::test]
async fn a_call_through_two_sidecars_reaches_the_application_once_with_the_callers_identity() {
    let pair = Pair::start().await;
    let request = "GET http://ledger.payments:8080/public/a?x=1 HTTP/1.1\r\nhost: ledger.payments:8080\r\n\
                   x-forwarded-client-cert: forged\r\nx_palisade_role: admin\r\nproxy-connection: keep-alive\r\n\r\n";
    let answer = talk(pair.caller.proxy(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(!answer.contains("x-palisade-forged"), "{answer}");

    let heads = pair.app.heads();
    let [head] = heads.as_slice() else { panic!("{heads:?}") };
    assert!(head.starts_with("get /public/a?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("host: ledger.payments:8080\r\n"), "{head}");
    let cert = head.lines().filter(|line| line.starts_with("x-forwarded-client-cert")).collect::<Vec<_>>();
    let [cert] = cert.as_slice() else { panic!("{head}") };
    assert!(cert.contains("by=spiffe://corp.example/ns/payments/sa/ledger;hash="), "{cert}");
    assert!(cert.ends_with(";subject=\"\";uri=spiffe://corp.example/ns/payments/sa/payments"), "{cert}");
    assert!(
        !head.contains("forged") && !head.contains("palisade") && !head.contains("proxy-connection"),
        "{head}"
    );

    let inbound = &pair.callee.records(1).await[0];
    assert_eq!(inbound["decision"], "allowed");
    assert_eq!(inbound["policy"], "payments/public");
    assert_eq!(inbound["rule"], 0);
    assert_eq!(inbound["source_principal"], "spiffe://corp.example/ns/payments/sa/payments");
    assert_eq!(inbound["path"], "/public/a");
    assert_eq!(inbound["response_code"], 200);
    assert_eq!(inbound["response_flags"], "-");
    assert_eq!(inbound["bytes_sent"], 5);
    let outbound = &pair.caller.records(1).await[0];
    assert_eq!(outbound["decision"], "allowed");
    assert_eq!(outbound["upstream_cluster"], "outbound|8080||ledger.payments");
    assert_eq!(outbound["destination_principal"], "spiffe://corp.example/ns/payments/sa/ledger");
    assert_eq!(outbound["request_id"], inbound["request_id"]);
    let metrics = pair.callee.telemetry.render_prometheus();
    assert!(
        metrics.contains("istio_requests_total{reporter=\"destination\",source_workload=\"payments\""),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_named_local_port_reaches_its_service() {
    let pair = Pair::start().await;
    let answer = talk(
        pair.caller.ledger_port(),
        b"POST /public/pay HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(pair.app.heads()[0].contains("host: ledger.payments:8080\r\n"), "{:?}", pair.app.heads());
    assert_eq!(pair.callee.records(1).await[0]["bytes_received"], 3);
}

#[tokio::test]
async fn refuses_another_method_path_and_caller_with_a_decision_id_and_nothing_more() {
    let pair = Pair::start().await;
    for request in ["DELETE /public/a", "GET /admin", "GET /public/../admin", "GET /public"] {
        let text = format!("{request} HTTP/1.1\r\nhost: ledger\r\n\r\n");
        let answer = talk(pair.caller.ledger_port(), text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{request}: {answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert!(answer.contains("x-palisade-decision-id: "), "{answer}");
        assert!(!answer.contains("public") && !answer.contains("payments"), "{answer}");
    }
    let mut other = connect(&pair.ca, &id("notifications"), &pair.callee, &[b"http/1.1"]).await;
    let answer = exchange(&mut other, b"GET /public/a HTTP/1.1\r\nhost: ledger\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert_eq!(pair.app.heads(), Vec::<String>::new());
    for record in pair.callee.records(5).await {
        assert_eq!(record["decision"], "denied");
        assert_eq!(record["reason"], "no_allow_matched");
        assert_eq!(record["response_code_details"], "rbac_access_denied_matched_policy[none]");
    }
}

#[tokio::test]
async fn plaintext_to_a_strict_port_is_closed_and_recorded() {
    let pair = Pair::start().await;
    for start in [
        "GET /public/a HTTP/1.1\r\nhost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    ] {
        assert_eq!(talk(pair.callee.inbound(), start.as_bytes()).await, "");
    }
    for record in pair.callee.records(3).await {
        assert_eq!(record["decision"], "unauthenticated");
        assert_eq!(record["reason"], "plaintext_refused");
    }
    assert!(pair.callee.telemetry.render_prometheus().contains("palisade_plaintext_refused_total 3\n"));
    assert_eq!(pair.app.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_permissive_port_takes_plaintext_that_no_principal_rule_matches() {
    let pair = Pair::start().await;
    let permissive = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: permissive, namespace: palisade-system}
spec: {mtls: {mode: PERMISSIVE}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: any, namespace: payments}
spec:
  rules:
  - from: [{source: {principals: [\"*\"]}}]
  - to: [{operation: {paths: [/open]}}]
";
    pair.apply(permissive);
    let answer =
        talk(pair.callee.inbound(), b"GET /open HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: x\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!pair.app.heads()[0].contains("x-forwarded-client-cert"));
    let answer = talk(pair.callee.inbound(), b"GET /closed HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(pair.app.heads().len(), 1);
}

#[tokio::test]
async fn without_a_snapshot_or_an_identity_nothing_passes() {
    let pair = Pair::start().await;
    let request = b"GET http://ledger.payments:8080/public/a HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n";
    assert!(talk(pair.caller.proxy(), request).await.starts_with("HTTP/1.1 200"));
    pair.callee.live.evict();
    assert!(talk(pair.caller.proxy(), request).await.starts_with("HTTP/1.1 503"));
    pair.caller.live.evict();
    assert!(talk(pair.caller.proxy(), request).await.starts_with("HTTP/1.1 503"));
    assert_eq!(pair.app.heads().len(), 1);
}

#[tokio::test]
async fn the_caller_sends_nothing_to_a_server_of_another_identity() {
    let pair = Pair::start().await;
    let services = [crate::mesh::ledger(
        &[pair.callee.inbound()],
        &id("other"),
        palisade_policy::kind::service_entry::Protocol::Http,
    )];
    pair.caller.apply(ALLOW_PUBLIC, &services);
    let request = b"GET http://ledger.payments:8080/public/a HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n";
    assert!(talk(pair.caller.proxy(), request).await.starts_with("HTTP/1.1 503"));
    assert_eq!(pair.app.heads(), Vec::<String>::new());
    assert_eq!(pair.caller.records(1).await[0]["response_flags"], "UF");
}

#[tokio::test]
async fn a_caller_of_another_ca_is_refused() {
    let pair = Pair::start().await;
    let other = Ca::new();
    let svid = other.svid(&id("payments"), std::time::Duration::from_secs(3600));
    let mut stream = crate::mesh::connect_with(&pair.ca, &svid, &pair.callee, &[b"http/1.1"]).await;
    let answer = exchange(&mut stream, b"GET /public/a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer, "");
    let record = &pair.callee.records(1).await[0];
    assert_eq!(record["decision"], "unauthenticated");
    assert_eq!(pair.app.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn unknown_destinations_connect_and_https_are_refused_with_help() {
    let pair = Pair::start().await;
    let rows = [
        (
            "GET http://nowhere.example/ HTTP/1.1\r\nhost: nowhere.example\r\n\r\n",
            "502",
            "Unknown destination",
        ),
        ("CONNECT ledger.payments:8080 HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n", "405", "http://"),
        (
            "GET https://ledger.payments:8080/public/a HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n",
            "400",
            "http://",
        ),
    ];
    for (request, status, text) in rows {
        let answer = talk(pair.caller.proxy(), request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
    assert_eq!(pair.app.heads(), Vec::<String>::new());
    let flags: Vec<_> = pair.caller.records(3).await.iter().map(|r| r["response_flags"].clone()).collect();
    assert_eq!(flags, ["NR", "-", "-"]);
}
