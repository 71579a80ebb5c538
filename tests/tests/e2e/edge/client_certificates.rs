//! `OPTIONAL_MUTUAL`: a certificate that is brought must be good, and none need be brought.

use http::StatusCode;
use palisade_tests::outside::Credential;
use palisade_tests::{Outside, client, outside};
use rustls::HandshakeKind;
use serde_json::json;

use super::door::{Door, EVERYBODY, HOST, TO_LEDGER, request_h2, request_to};
use crate::kit::{HTTP1, HTTP2};

const PARTNER: &str = "partner.bank.example";

/// One credential for both hosts, so that nothing but the mode tells them apart.
const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: open, protocol: HTTPS}, hosts: [api.bank.example], tls: {mode: OPTIONAL_MUTUAL, credentialName: api}}
  - {port: {number: 443, name: closed, protocol: HTTPS}, hosts: [partner.bank.example], tls: {mode: MUTUAL, credentialName: api}}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
";

async fn open() -> Door {
    Door::with(&format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), |edge| edge).await
}

#[tokio::test]
async fn where_a_certificate_is_optional_none_gets_in_and_so_does_a_good_one() {
    let door = open().await;
    let good = door.outside.issue(&["partner"]);
    for (certificate, paths, digest) in
        [(None, ["/none/1", "/none/2"], None), (Some(&good), ["/good/1", "/good/2"], Some(64))]
    {
        let config = |alpn| door.outside.client(certificate, alpn);
        let stream = outside::connect(door.edge.edge(443), HOST, config(HTTP1)).await.unwrap();
        let answer = client::send_on(stream, request_to(HOST, "GET", paths[0], "")).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let stream = outside::connect(door.edge.edge(443), HOST, config(HTTP2)).await.unwrap();
        let answer = client::send_h2(stream, request_h2("GET", HOST, paths[1], "")).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);

        let received = door.app().received();
        assert_eq!(received.iter().map(|one| &*one.target).collect::<Vec<_>>(), paths);
        for one in received {
            // A certificate from outside is no identity of the mesh.
            let peers: Vec<_> = one.headers.get_all("x-forwarded-client-cert").iter().collect();
            assert!(peers.len() == 1 && !format!("{peers:?}").contains("partner"), "{peers:?}");
        }
        for path in paths {
            let record = door.edge.records_with(1, &[("path", json!(path))]).await.remove(0);
            let told = record["client_certificate_sha256"].as_str();
            assert_eq!(told.map(str::len), digest, "{record}");
        }
        door.app().clear();
    }
}

/// Whether a request that follows a handshake with this certificate is answered, in TLS 1.2 and 1.3.
async fn answered(door: &Door, certificate: &Credential) -> Vec<bool> {
    let mut all = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = door.outside.client_with(Some(certificate), HTTP1, &[version]);
        // In TLS 1.3 the client learns of the refusal with its first read.
        all.push(match outside::connect(door.edge.edge(443), HOST, config).await {
            Ok(stream) => client::send_on(stream, request_to(HOST, "GET", "/", "")).await.is_ok(),
            Err(_) => false,
        });
    }
    all
}

#[tokio::test]
async fn a_certificate_that_is_brought_and_not_good_is_refused_even_where_none_is_needed() {
    let door = open().await;
    let stranger = Outside::new("others").issue(&["partner"]);
    // By the name of the authority alone nobody gets in.
    let namesake = Outside::new("roots of the outside").issue(&["partner"]);
    let expired = door.outside.issue_expired(&["partner"]);
    for (certificate, reason) in [(stranger, "unknownRoot"), (namesake, "badSignature"), (expired, "expired")]
    {
        assert_eq!(answered(&door, &certificate).await, [false, false], "{reason}");
        door.edge.records_with(2, &[("reason", json!(reason))]).await;
    }
    door.app().assert_untouched();
    let good = door.outside.issue(&["partner"]);
    assert_eq!(answered(&door, &good).await, [true, true]);
}

#[tokio::test]
async fn a_connection_without_a_certificate_is_no_way_to_a_host_that_needs_one() {
    let door = open().await;
    let good = door.outside.issue(&["partner"]);
    // Even a good certificate was brought to another host's rules.
    for certificate in [None, Some(&good)] {
        let config = door.outside.client(certificate, HTTP1);
        let stream = outside::connect(door.edge.edge(443), HOST, config).await.unwrap();
        let answer = client::send_on(stream, request_to(PARTNER, "GET", "/", "")).await.unwrap();
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    }
    door.app().assert_untouched();
    door.edge.records_with(2, &[("reason", json!("misdirected_request"))]).await;
}

#[tokio::test]
async fn a_session_of_a_host_that_may_see_certificates_is_never_resumed() {
    let door = open().await;
    let good = door.outside.issue(&["partner"]);
    for certificate in [None, Some(&good)] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = door.outside.client_with(certificate, HTTP1, &[version]);
            for _ in 0..2 {
                let mut stream = outside::connect(door.edge.edge(443), HOST, config.clone()).await.unwrap();
                let text = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
                // Tickets come with the first bytes of the answer.
                let answer = client::raw(&mut stream, text.as_bytes()).await;
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
            }
        }
    }
}
