//! Destinations outside the mesh: ServiceEntry with static addresses and names, in plaintext and by TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::mesh::{App, Ca, Sidecar, find, talk};

fn entry(host: &str, resolution: &str, endpoint: &str, port: u16) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bank, namespace: payments}}
spec:
  hosts: [{host}]
  location: MESH_EXTERNAL
  resolution: {resolution}
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  endpoints: [{{address: {endpoint}}}]
"
    )
}

fn get(host: &str) -> String {
    format!("GET http://{host}/a?b=c HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

#[tokio::test]
async fn a_service_entry_reaches_a_plaintext_server_by_address_and_by_name() {
    let app = App::start().await;
    let caller = Sidecar::start(&Ca::new(), "payments", None, Default::default());
    for (resolution, endpoint) in [("STATIC", "127.0.0.1"), ("DNS", "localhost")] {
        caller.apply(&entry("bank.example", resolution, endpoint, app.address.port()), &[]);
        let answer = talk(caller.proxy(), get("bank.example").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{resolution}: {answer}");
    }
    let heads = app.heads();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].starts_with("get /a?b=c http/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains("host: bank.example\r\n"), "{heads:?}");
    assert!(!heads[0].contains("x-forwarded-client-cert"), "{heads:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_failure() {
    let caller = Sidecar::start(&Ca::new(), "payments", None, Default::default());
    caller.apply(&entry("bank.example", "DNS", "nowhere.invalid", 80), &[]);
    let answer = talk(caller.proxy(), get("bank.example").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let record = &caller.records(1).await[0];
    assert_eq!((&record["response_flags"], &record["reason"]), (&"DF".into(), &"dns_failure".into()));
}

/// A TLS server for `name`; answers every connection once.
async fn tls_server(name: &str) -> (SocketAddr, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![name.into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(palisade_certs::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while find(&head, b"\r\n\r\n").is_none() && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _closed = stream.shutdown().await;
        }
    });
    (address, cert.pem())
}

#[tokio::test]
async fn tls_to_a_server_outside_checks_its_name() {
    let (server, root) = tls_server("bank.example").await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, root).unwrap();
    let caller = Sidecar::start(&Ca::new(), "payments", None, Default::default());
    let tls = |host: &str| {
        format!(
            "{}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: payments}}
spec:
  host: {host}
  trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {}}}}}
",
            entry(host, "STATIC", "127.0.0.1", server.port()),
            roots.display()
        )
    };
    caller.apply(&tls("bank.example"), &[]);
    let answer = talk(caller.proxy(), get("bank.example").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");

    caller.apply(&tls("other.example"), &[]);
    let answer = talk(caller.proxy(), get("other.example").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(caller.records(2).await[1]["response_flags"], "UF");
}

/// HTTP/2 needs the server's word (ALPN): one that did not give it would read the frames as HTTP/1.1.
#[tokio::test]
async fn a_server_in_tls_that_does_not_say_that_it_reads_http2_gets_none() {
    let (server, root) = tls_server("bank.example").await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, root).unwrap();
    let caller = Sidecar::start(&Ca::new(), "payments", None, Default::default());
    let entry = entry("bank.example", "STATIC", "127.0.0.1", server.port());
    let rule = format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank, namespace: payments}}
spec:
  host: bank.example
  trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {}}}}}
",
        roots.display()
    );
    caller.apply(&format!("{}{rule}", entry.replace("protocol: HTTP,", "protocol: HTTP2,")), &[]);
    let answer = talk(caller.proxy(), get("bank.example").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let record = &caller.records(1).await[0];
    assert_eq!(record["reason"], "noApplicationProtocol");
}
