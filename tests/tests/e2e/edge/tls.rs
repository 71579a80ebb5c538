//! Certificates of the edge, and what is spoken before HTTP.

use http::StatusCode;
use palisade_tests::{client, outside, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request};
use crate::kit::{HTTP1, HTTP2};

#[tokio::test]
async fn a_request_from_outside_reaches_the_service_by_the_edges_own_identity() {
    let door = Door::open(TO_LEDGER).await;
    for (answer, version) in [
        (door.get("/entries?page=2").await, "HTTP/1.1"),
        (door.send_h2(super::door::request_h2("GET", HOST, "/entries?page=2", "")).await, "HTTP/2"),
    ] {
        assert_eq!(answer.status, StatusCode::OK, "{version}");
        let received = door.app().last();
        assert_eq!(received.target, "/entries?page=2");
        assert_eq!(received.headers["host"], HOST);
        let peer = received.headers["x-forwarded-client-cert"].to_str().unwrap();
        assert!(peer.contains("URI=spiffe://test.mesh/ns/payments/sa/edge"), "{peer}");
        let record = door.edge.records_with(1, &[("protocol", json!(version))]).await.remove(0);
        assert_eq!(record["direction"], "edge");
        assert_eq!(record["route_name"], "payments/api/all");
        assert_eq!(record["tls_version"], "TLSv1.3");
        assert_eq!(record["connection_security_policy"], "mutual_tls");
        assert_eq!(record["source_principal"], "spiffe://test.mesh/ns/payments/sa/edge");
        assert_eq!(record["destination_principal"], "spiffe://test.mesh/ns/payments/sa/ledger");
        assert_eq!(record["upstream_cluster"], "outbound|8080||ledger.payments");
    }
}

#[tokio::test]
async fn a_certificate_that_changed_on_disk_is_shown_and_a_broken_one_is_not() {
    let door = Door::open(TO_LEDGER).await;
    let shown = async || {
        let stream = door.connect(HTTP1).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    door.credential("api", &[HOST]);
    let second = until("the new certificate", async || {
        let now = shown().await;
        if now == first { Err("the old one") } else { Ok(now) }
    })
    .await;
    let file = door.mesh.world.folder().join("credentials/api/tls.key");
    std::fs::write(&file, "no key").unwrap();
    until("the complaint", async || {
        let log = door.edge.process.log();
        if log.contains("the last good one stays") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(shown().await, second);
    assert_eq!(door.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_edge_without_its_certificate_is_not_ready_and_refuses() {
    let gateway = GATEWAY.replace("credentialName: api", "credentialName: absent");
    let documents = format!("{gateway}---{EVERYBODY}---{TO_LEDGER}");
    let mesh = crate::kit::Mesh::open().await;
    mesh.publish();
    mesh.world.policy("edge.yaml", &documents);
    let credentials = mesh.world.folder().join("credentials").display().to_string();
    let builder = mesh.world.file_sidecar("payments/edge").edge().listen(443);
    let edge = builder.arg("--credentials", &credentials).spawn().await;
    until("the reason why it is not ready", async || {
        let answer = edge.admin("/ready").await;
        let told = answer.status == 503 && answer.text().contains("a certificate for a port of the edge");
        if told { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let outside = palisade_tests::Outside::new("any");
    assert!(outside::connect(edge.edge(443), HOST, outside.client(None, HTTP1)).await.is_err());
    edge.records_with(1, &[("reason", json!("noCredential"))]).await;
}

#[tokio::test]
async fn the_oldest_version_is_the_gateways_to_say() {
    let gateway = GATEWAY.replace("credentialName: api", "credentialName: api, minProtocolVersion: TLSV1_3");
    let tls12 = [&rustls::version::TLS12];
    let door = Door::open(TO_LEDGER).await;
    let config = door.outside.client_with(None, HTTP2, &tls12);
    let stream = outside::connect(door.edge.edge(443), HOST, config).await.unwrap();
    let request = super::door::request_h2("GET", HOST, "/", "");
    assert_eq!(client::send_h2(stream, request).await.unwrap().status, StatusCode::OK);
    door.edge.records_with(1, &[("tls_version", json!("TLSv1.2"))]).await;

    door.mesh.world.policy("edge.yaml", &format!("{gateway}---{EVERYBODY}---{TO_LEDGER}"));
    until("TLS 1.2 to be refused", async || {
        let config = door.outside.client_with(None, HTTP2, &tls12);
        outside::connect(door.edge.edge(443), HOST, config).await.err().ok_or("taken")
    })
    .await;
}

#[tokio::test]
async fn a_client_hello_in_many_pieces_is_read_like_a_whole_one() {
    let door = Door::open(TO_LEDGER).await;
    // A TLS client whose first flight is cut into single bytes on the way.
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, to) = (relay.local_addr().unwrap(), door.edge.edge(443));
    tokio::spawn(async move {
        let (mut client, _) = relay.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        server.set_nodelay(true).unwrap();
        let mut first = vec![0; 4096];
        let read = client.read(&mut first).await.unwrap();
        for byte in &first[..read] {
            server.write_all(&[*byte]).await.unwrap();
            server.flush().await.unwrap();
        }
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let stream = outside::connect(at, HOST, door.outside.client(None, HTTP1)).await.unwrap();
    assert_eq!(client::send_on(stream, request("GET", "/", "")).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn plaintext_on_a_port_of_tls_is_closed_without_an_answer() {
    let door = Door::open(TO_LEDGER).await;
    for bytes in
        [&b"GET / HTTP/1.1\r\nhost: api.bank.example\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut socket = TcpStream::connect(door.edge.edge(443)).await.unwrap();
        let answer = client::raw(&mut socket, bytes).await;
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    }
    door.app().assert_untouched();
    door.edge.records_with(2, &[("reason", json!("notTls"))]).await;
}

#[tokio::test]
async fn every_answer_in_tls_asks_for_tls_from_then_on_and_none_in_plaintext_does() {
    let annotated = GATEWAY.replace(
        "metadata: {name: public, namespace: payments}",
        "metadata: {name: public, namespace: payments, annotations: {palisade.mesh/strict-transport-security: 'max-age=600; includeSubDomains'}}",
    );
    let http = "  - {match: [{uri: {exact: /old}}], redirect: {uri: /new}}
  - {match: [{uri: {exact: /lies}}], headers: {response: {set: {strict-transport-security: max-age=0}}}, route: [{destination: {host: ledger}}]}
  - {match: [{uri: {exact: /}}], route: [{destination: {host: ledger}}]}
";
    let denied = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
";
    let documents = format!("{annotated}---{}---{denied}---{}", EVERYBODY, super::routes::routes(http));
    let door = Door::with(&documents, |edge| edge).await;
    let asked = "max-age=600; includeSubDomains";
    for (method, target, status) in [
        ("GET", "/", 200),
        ("GET", "/lies", 200),
        ("GET", "/old", 301),
        ("GET", "/nowhere", 404),
        ("DELETE", "/", 403),
    ] {
        let answer = door.send(request(method, target, "")).await;
        assert_eq!(answer.status, status, "{target}");
        let all: Vec<_> = answer.headers.get_all("strict-transport-security").iter().collect();
        assert_eq!(all, [asked], "{method} {target}");
        let plain = door.send_plain(request(method, target, "")).await;
        assert_ne!(plain.header("strict-transport-security"), Some(asked), "{method} {target}");
    }
}
