//! Which host a request is for, and whether the connection it came on may ask for it.

use http::StatusCode;
use palisade_tests::client;
use palisade_tests::outside;
use serde_json::json;

use super::door::{Door, EVERYBODY, HOST, TO_LEDGER, request_h2, request_to};
use crate::kit::{HTTP1, HTTP2};

/// A public host, one that asks for certificates, and one in plaintext that leads to TLS.
const TWO_HOSTS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: open, protocol: HTTPS}, hosts: [api.bank.example], tls: {mode: SIMPLE, credentialName: api}}
  - {port: {number: 443, name: closed, protocol: HTTPS}, hosts: [partner.bank.example], tls: {mode: MUTUAL, credentialName: partner}}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}
";
const PARTNER: &str = "partner.bank.example";

async fn two_hosts() -> Door {
    let documents = format!("{TWO_HOSTS}---{EVERYBODY}---{TO_LEDGER}");
    let door = Door::with(&documents, |edge| edge).await;
    door.credential("partner", &[PARTNER]);
    // The edge looks for files every second.
    palisade_tests::until("the credential of the partner host", || async {
        let client = door.outside.issue(&["partner"]);
        let config = door.outside.client(Some(&client), HTTP1);
        let stream = outside::connect(door.edge.edge(443), PARTNER, config).await;
        stream.map(drop).map_err(|error| error.to_string())
    })
    .await;
    door
}

#[tokio::test]
async fn a_host_that_asks_for_certificates_is_not_to_be_had_through_one_that_does_not() {
    let door = two_hosts().await;
    let connection = door.connect(HTTP1).await;
    let answer = client::send_on(connection, request_to(PARTNER, "GET", "/secret", "")).await.unwrap();
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    let connection = door.connect(HTTP2).await;
    let answer = client::send_h2(connection, request_h2("GET", PARTNER, "/secret", "")).await.unwrap();
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    door.app().assert_untouched();
    door.edge.records_with(2, &[("reason", json!("misdirected_request"))]).await;
}

#[tokio::test]
async fn a_client_with_a_certificate_of_the_authority_gets_in_and_others_do_not() {
    let door = two_hosts().await;
    let good = door.outside.issue(&["partner"]);
    let config = door.outside.client(Some(&good), HTTP1);
    let stream = outside::connect(door.edge.edge(443), PARTNER, config).await.unwrap();
    let answer = client::send_on(stream, request_to(PARTNER, "GET", "/entries", "")).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    let record = door.edge.records_with(1, &[("response_code", json!(200))]).await.remove(0);
    assert_eq!(record["client_certificate_sha256"].as_str().unwrap().len(), 64);
    door.app().clear();

    let stranger = palisade_tests::Outside::new("others").issue(&["partner"]);
    for client in [None, Some(&stranger)] {
        let config = door.outside.client(client, HTTP1);
        // In TLS 1.3 the client learns of the refusal with its first read.
        if let Ok(stream) = outside::connect(door.edge.edge(443), PARTNER, config).await {
            assert!(client::send_on(stream, request_to(PARTNER, "GET", "/entries", "")).await.is_err());
        }
    }
    door.app().assert_untouched();
    door.edge.records_with(1, &[("reason", json!("noCertificate"))]).await;
    door.edge.records_with(1, &[("reason", json!("unknownRoot"))]).await;
}

#[tokio::test]
async fn a_name_that_no_gateway_serves_gets_no_handshake_and_an_unknown_host_no_route() {
    let door = Door::open(TO_LEDGER).await;
    for name in ["other.example", "127.0.0.1", "apixbank.example", "sub.api.bank.example"] {
        let config = door.outside.client(None, HTTP1);
        assert!(outside::connect(door.edge.edge(443), name, config).await.is_err(), "{name}");
    }
    door.edge.records_with(4, &[("reason", json!("unknownName"))]).await;
    let answer = door.send(request_to("other.example", "GET", "/", "")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    door.app().assert_untouched();
    for host in ["API.bank.example", "api.bank.example.", "api.bank.example:443"] {
        assert_eq!(door.send(request_to(host, "GET", "/", "")).await.status, StatusCode::OK, "{host}");
    }
    // SNI in any case.
    let config = door.outside.client(None, HTTP1);
    let stream = outside::connect(door.edge.edge(443), "API.Bank.Example", config).await.unwrap();
    assert_eq!(
        client::send_on(stream, request_to(HOST, "GET", "/", "")).await.unwrap().status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn sessions_are_resumed_at_a_public_host_and_never_where_certificates_are_asked_for() {
    use rustls::HandshakeKind;
    let door = two_hosts().await;
    let client = door.outside.issue(&["partner"]);
    for (host, credential, second) in
        [(HOST, None, HandshakeKind::Resumed), (PARTNER, Some(&client), HandshakeKind::Full)]
    {
        let config = door.outside.client(credential, HTTP1);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = outside::connect(door.edge.edge(443), host, config.clone()).await.unwrap();
            // Tickets come with the first bytes of the answer.
            let answer = client::raw(
                &mut stream,
                format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes(),
            )
            .await;
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, second], "{host}");
    }
}

#[tokio::test]
async fn a_host_that_two_readers_would_take_for_two_hosts_is_refused() {
    let door = Door::open(TO_LEDGER).await;
    for host in [
        "api.bank.example:abc",
        "api.bank.example:",
        "api.bank.example:0",
        "api.bank.example,evil.example",
        "api..example",
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = door.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{host}: {answer}");
    }
    let twice = b"GET / HTTP/1.1\r\nhost: api.bank.example\r\nhost: evil.example\r\n\r\n";
    assert!(door.raw(twice).await.starts_with("HTTP/1.1 400"));
    let absolute = b"GET http://evil.example/ HTTP/1.1\r\nhost: api.bank.example\r\n\r\n";
    assert!(door.raw(absolute).await.starts_with("HTTP/1.1 400"));
    let mut differs = request_h2("GET", HOST, "/", "");
    differs.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(door.send_h2(differs).await.status, StatusCode::BAD_REQUEST);
    door.app().assert_untouched();
}

#[tokio::test]
async fn plaintext_leads_to_https_and_nothing_of_the_request_goes_on() {
    let door = two_hosts().await;
    let answer = door.send_plain(request_to("api.bank.example:80", "GET", "/a%20b?x=1", "")).await;
    assert_eq!(answer.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(answer.header("location"), Some("https://api.bank.example/a%20b?x=1"));
    door.app().assert_untouched();
    // Saying that it was https does not make it so.
    let request = request_to(HOST, "GET", "/", "");
    let answer = door.send_plain(super::door::with(request, &[("x-forwarded-proto", "https")])).await;
    assert_eq!(answer.status, StatusCode::MOVED_PERMANENTLY);
    door.app().assert_untouched();
}
