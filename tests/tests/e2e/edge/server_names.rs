//! Which certificate a client is shown, by the name that it asks for (SNI).

use http::StatusCode;
use palisade_tests::{client, outside, until};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::door::{Door, EVERYBODY, TO_LEDGER, request_to};
use crate::kit::HTTP1;

/// Exact, wildcards within each other, and anything else.
const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: rest, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: rest}}
  - {port: {number: 443, name: all, protocol: HTTPS}, hosts: ['*.bank.example'], tls: {mode: SIMPLE, credentialName: all}}
  - {port: {number: 443, name: dev, protocol: HTTPS}, hosts: ['*.dev.bank.example'], tls: {mode: SIMPLE, credentialName: dev}}
  - {port: {number: 443, name: api, protocol: HTTPS}, hosts: [api.bank.example], tls: {mode: SIMPLE, credentialName: api}}
  - {port: {number: 443, name: login, protocol: HTTPS}, hosts: [login.dev.bank.example], tls: {mode: SIMPLE, credentialName: login}}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
";

/// Every name that is asked for here. Each certificate is good for all of them, so that a wrong one is not refused by the client:
/// which one is shown is for the test to say. An address is never asked for by SNI (RFC 6066 section 3).
const NAMES: [(&str, &str); 10] = [
    ("api.bank.example", "api"),
    ("API.Bank.Example", "api"),
    ("www.bank.example", "all"),
    ("v2.api.bank.example", "all"),
    ("dev.bank.example", "all"),
    ("a.dev.bank.example", "dev"),
    ("b.a.dev.bank.example", "dev"),
    ("login.dev.bank.example", "login"),
    ("bank.example", "rest"),
    ("192.0.2.1", "rest"),
];

fn of_file(door: &Door, credential: &str) -> CertificateDer<'static> {
    let file = door.mesh.world.folder().join("credentials").join(credential).join("tls.crt");
    CertificateDer::from_pem_file(file).unwrap()
}

async fn open() -> Door {
    let door = Door::with(&format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), |edge| edge).await;
    let names = NAMES.map(|(name, _)| name);
    for credential in ["api", "all", "dev", "login", "rest"] {
        door.credential(credential, &names);
    }
    // The edge looks for files every second.
    for (name, credential) in NAMES {
        let expected = of_file(&door, credential);
        until("the certificate of a name", async || match shown(&door, name).await {
            Some(certificate) if certificate == expected => Ok(()),
            other => Err((name, other.is_some())),
        })
        .await;
    }
    door
}

async fn shown(door: &Door, name: &str) -> Option<CertificateDer<'static>> {
    let stream = outside::connect(door.edge.edge(443), name, door.outside.client(None, HTTP1)).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].clone().into_owned())
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_most_specific_host_and_reaches_the_service_by_it() {
    let door = open().await;
    for (name, credential) in NAMES {
        let config = door.outside.client(None, HTTP1);
        let stream = outside::connect(door.edge.edge(443), name, config).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], of_file(&door, credential), "{name}");
        let answer = client::send_on(stream, request_to(name, "GET", "/", "")).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        assert_eq!(door.app().last().headers["host"], name);
    }
    assert_eq!(door.app().received().len(), NAMES.len());
}

#[tokio::test]
async fn one_certificate_of_several_that_changes_is_the_only_one_that_does() {
    let door = open().await;
    let before = NAMES.map(|(_, credential)| of_file(&door, credential));
    door.credential("dev", &NAMES.map(|(name, _)| name));
    let renewed = of_file(&door, "dev");
    until("the new certificate", async || match shown(&door, "a.dev.bank.example").await {
        Some(now) if now == renewed => Ok(()),
        _ => Err("the old one"),
    })
    .await;
    for ((name, credential), before) in NAMES.into_iter().zip(before) {
        let expected = if credential == "dev" { &renewed } else { &before };
        assert_eq!(shown(&door, name).await.as_ref(), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn a_connection_to_one_certificate_reaches_no_host_of_another_and_every_host_of_its_own() {
    let door = open().await;
    // As a browser reuses connections whose certificate names the other host, too (RFC 9113 section 9.1.1).
    for (name, host, status) in [
        ("api.bank.example", "www.bank.example", StatusCode::MISDIRECTED_REQUEST),
        ("www.bank.example", "api.bank.example", StatusCode::MISDIRECTED_REQUEST),
        ("a.dev.bank.example", "login.dev.bank.example", StatusCode::MISDIRECTED_REQUEST),
        ("192.0.2.1", "api.bank.example", StatusCode::MISDIRECTED_REQUEST),
        ("bank.example", "a.dev.bank.example", StatusCode::MISDIRECTED_REQUEST),
        ("www.bank.example", "dev.bank.example", StatusCode::OK),
        ("192.0.2.1", "bank.example", StatusCode::OK),
    ] {
        door.app().clear();
        let config = door.outside.client(None, HTTP1);
        let stream = outside::connect(door.edge.edge(443), name, config).await.unwrap();
        let answer = client::send_on(stream, request_to(host, "GET", "/", "")).await.unwrap();
        assert_eq!(answer.status, status, "{host} by {name}");
        assert_eq!(door.app().received().len(), usize::from(status == StatusCode::OK), "{host} by {name}");
    }
}
