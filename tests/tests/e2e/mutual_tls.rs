//! Who gets a connection at all: mutual TLS in and out, and everybody else refused.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use palisade_certs::tls::{client_config, io_reason};
use palisade_tests::client::{self, connect_tls};
use palisade_tests::world::{Pki, expecting};
use palisade_tests::{Upstream, World};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::PALISADE;
use crate::kit::{ALLOW_MESH, HTTP1, Mesh, PERMISSIVE, get, service_entry, url};

#[tokio::test]
async fn two_services_talk_through_their_sidecars() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let answer = client::post(caller.http_proxy(), &url("/entries?n=1"), "ten").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "hello from ledger"));
    let received = mesh.app.last();
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/entries?n=1"));
    assert_eq!(received.body, b"ten");
    assert!(received.complete);
    let record = &mesh.sidecar.records_with(1, &[("decision", json!("allowed"))]).await[0];
    assert_eq!(record["source_principal"], "spiffe://test.mesh/ns/payments/sa/web");
    assert_eq!(record["destination_principal"], "spiffe://test.mesh/ns/payments/sa/ledger");
    let sent = &caller.records_with(1, &[("decision", json!("allowed"))]).await[0];
    assert_eq!((&sent["direction"], &sent["response_code"]), (&json!("outbound"), &json!(200)));
}

#[tokio::test]
async fn refuses_plaintext_to_a_strict_port() {
    let mesh = Mesh::open().await;
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(mesh.inbound()).await.unwrap();
        let answer = client::raw(&mut socket, bytes).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("200") && !text.contains("hello"), "{}: {text}", bytes.escape_ascii());
    }
    mesh.app.assert_untouched();
    assert_eq!(mesh.call("payments/web", get("/")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn refuses_callers_without_certificate_and_of_another_ca() {
    let mesh = Mesh::open().await;
    let stranger = Pki::new().svid("payments/web");
    for svid in [None, Some(&stranger)] {
        let connected =
            connect_tls(mesh.inbound(), svid, &mesh.world.pki.bundle, expecting("payments/ledger"), HTTP1)
                .await;
        // TLS 1.3: the client may believe in the connection until its first read.
        if let Ok(mut stream) = connected {
            let answer =
                client::raw(&mut stream, b"GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n").await;
            assert!(answer.is_empty(), "{}", answer.escape_ascii());
        }
    }
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn a_caller_recognizes_the_sidecar_by_its_identity() {
    let mesh = Mesh::open().await;
    let svid = mesh.world.pki.svid("payments/web");
    let wrong = expecting("payments/other");
    let error =
        connect_tls(mesh.inbound(), Some(&svid), &mesh.world.pki.bundle, wrong, HTTP1).await.unwrap_err();
    assert_eq!(io_reason(&error), "wrongIdentity");
}

/// The service entry leads to a sidecar that has a good certificate of this mesh, but of another service.
#[tokio::test]
async fn an_outbound_sidecar_sends_nothing_to_an_impostor() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("impostor").await;
    world.policy("allow.yaml", ALLOW_MESH);
    let other = world.file_sidecar("payments/other");
    let other = other.serve(8080, app.address()).start().await;
    world.policy("ledger.yaml", &service_entry("ledger", other.inbound(8080), "HTTP"));
    let caller = world.file_sidecar("payments/web").outbound().start().await;
    let answer = client::post(caller.http_proxy(), &url("/entries"), "secret").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    app.assert_untouched();
    let record = &caller.records_with(1, &[("direction", json!("outbound"))]).await[0];
    assert_eq!(record["decision"], "failed");
    assert!(record["reason"].as_str().unwrap().contains("wrongIdentity"), "{record}");
}

#[tokio::test]
async fn permissive_lets_plaintext_in_but_not_past_a_policy_that_names_principals() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("ledger").await;
    world.policy(
        "policies.yaml",
        &[
            PERMISSIVE,
            "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: open, namespace: payments}
spec: {action: ALLOW, rules: [{to: [{operation: {paths: [/public]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mesh, namespace: payments}
spec: {action: ALLOW, rules: [{from: [{source: {principals: ['*']}}], to: [{operation: {paths: [/mesh]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-strangers, namespace: payments}
spec: {action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}], to: [{operation: {paths: [/public/pay]}}]}]}
",
        ]
        .concat(),
    );
    let sidecar = world.file_sidecar("payments/ledger");
    let sidecar = sidecar.serve(8080, app.address()).start().await;
    let plain = |path: &'static str| {
        let address = sidecar.inbound(8080);
        async move { client::send(address, get(path)).await.status }
    };
    assert_eq!(plain("/public").await, StatusCode::OK);
    assert_eq!(app.received().len(), 1);
    assert!(app.last().headers.get("x-forwarded-client-cert").is_none());
    app.clear();
    assert_eq!(plain("/mesh").await, StatusCode::FORBIDDEN);
    assert_eq!(plain("/public/pay").await, StatusCode::FORBIDDEN);
    app.assert_untouched();
    let record = &sidecar.records_with(1, &[("decision", json!("allowed"))]).await[0];
    assert_eq!(record["source_principal"], json!(null));
    let svid = world.pki.svid("payments/web");
    let stream = connect_tls(
        sidecar.inbound(8080),
        Some(&svid),
        &world.pki.bundle,
        expecting("payments/ledger"),
        HTTP1,
    );
    let answer = client::send_on(stream.await.unwrap(), get("/mesh")).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

/// Writes one byte at a time, each in a segment of its own.
struct Trickle(TcpStream);

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// CVE-2026-32305, RUSTSEC-2024-0399: a hello in pieces must lead to the same decision.
#[tokio::test]
async fn a_client_hello_in_pieces_changes_nothing() {
    let mesh = Mesh::open().await;
    let bundle = &mesh.world.pki.bundle;
    let known = mesh.world.pki.svid("payments/web");
    for (svid, allowed) in [(Some(&known), true), (None, false)] {
        let config = client_config(svid, bundle, expecting("payments/ledger"), HTTP1).unwrap();
        let socket = TcpStream::connect(mesh.inbound()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::IpAddress(mesh.inbound().ip().into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, Trickle(socket)).await;
        let text = b"GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\nconnection: close\r\n\r\n";
        let answer = match stream {
            Ok(mut stream) => client::raw(&mut stream, text).await,
            Err(_) => Vec::new(),
        };
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), allowed, "{}", answer.escape_ascii());
        assert_eq!(mesh.app.received().len(), 1);
    }
}

#[tokio::test]
async fn readiness_for_strict_is_known_from_records_and_never_guessed() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("ledger").await;
    world.policy("policies.yaml", PERMISSIVE);
    let sidecar = world.file_sidecar("payments/ledger");
    let sidecar = sidecar.serve(8080, app.address()).start().await;
    let log = world.folder().join("payments-ledger.records.jsonl").display().to_string();
    let ask = async |observed: &str| {
        world.palisade(&["mtls", "readiness", "--log", &log, "--observed", observed]).await
    };
    let svid = world.pki.svid("payments/web");
    let mutual = async || {
        let (address, expected) = (sidecar.inbound(8080), expecting("payments/ledger"));
        let stream = connect_tls(address, Some(&svid), &world.pki.bundle, expected, HTTP1).await.unwrap();
        client::send_on(stream, get("/entries")).await.unwrap().status
    };
    assert_eq!(mutual().await, StatusCode::OK);
    sidecar.records_with(1, &[("decision", json!("allowed"))]).await;
    let short = ask("24h").await;
    assert!(
        short.code == Some(1) && short.stdout.contains("unknown  spiffe://test.mesh/ns/payments/sa/ledger"),
        "{short:?}"
    );
    let ready = ask("0s").await;
    assert!(ready.code == Some(0) && ready.stdout.contains("\nready "), "{ready:?}");

    assert_eq!(client::send(sidecar.inbound(8080), get("/entries")).await.status, StatusCode::OK);
    assert_eq!(app.received().len(), 2);
    sidecar.records_with(1, &[("source_principal", json!(null))]).await;
    let not_ready = ask("0s").await;
    assert!(not_ready.code == Some(1) && not_ready.stdout.contains("\nNOT READY "), "{not_ready:?}");
    assert!(not_ready.stdout.contains("127.") && not_ready.stdout.contains(" (1)"), "{not_ready:?}");
    let nothing = world.palisade(&["mtls", "readiness", "--log", &world.write("none.jsonl", "")]).await;
    assert!(nothing.code == Some(2) && nothing.stderr.contains("no decision record"), "{nothing:?}");
}
