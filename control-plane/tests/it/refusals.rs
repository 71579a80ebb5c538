use std::time::{Duration, SystemTime};

use palisade_certs::Svid;
use palisade_certs::ca::RootAuthority;
use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{self, ExpectedPeer};
use palisade_identity::SpiffeId;
use palisade_proto::v1;
use palisade_proto::v1::admin_client::AdminClient;
use palisade_proto::v1::identity_client::IdentityClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::world::{PATIENCE, Proxy, World, domain, eventually};
use palisade_proto::v1::proxy_message::Message as Said;

#[tokio::test(flavor = "multi_thread")]
async fn admin_is_for_operators_only() {
    let world = World::new().await;
    let member = world.join("ledger").await;
    let mut workload = AdminClient::new(world.channel(Some(&member.svid)).await);
    let status = workload.get(v1::GetRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = workload.apply(v1::ApplyRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut nobody = AdminClient::new(world.channel(None).await);
    let status = nobody.list_proxies(v1::ListProxiesRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renew_and_stream_are_for_workloads_only() {
    let world = World::new().await;
    let operator = world.operator_svid();
    let mut client = IdentityClient::new(world.channel(Some(&operator)).await);
    let csr_der = PendingKey::generate().unwrap().csr_der().unwrap();
    let status = client.renew(v1::RenewRequest { csr_der: csr_der.clone() }).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(Proxy::open(&world, &operator).await.err().unwrap().code(), Code::PermissionDenied);
    let mut nobody = IdentityClient::new(world.channel(None).await);
    let status = nobody.renew(v1::RenewRequest { csr_der }).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_gets_nowhere() {
    let world = World::new().await;
    let now = SystemTime::now();
    let other = RootAuthority::generate(&domain(), now).unwrap().intermediate(now).unwrap();
    let key = PendingKey::generate().unwrap();
    let id = SpiffeId::operator(&domain(), "admin").unwrap();
    let issued = other.issue(&id, &key.csr_der().unwrap(), Duration::from_secs(3600), now).unwrap();
    let svid = Svid::from_der(issued.chain, key.private_key_der()).unwrap();
    let expected = ExpectedPeer::only(SpiffeId::control_plane(&domain()));
    let config = tls::client_config(Some(&svid), &world.bundle(), expected, &[b"h2"]).unwrap();
    // In TLS 1.3 the client hears of it with its first read.
    if let Ok(channel) = world.connect(config).await {
        assert!(AdminClient::new(channel).get(v1::GetRequest::default()).await.is_err());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_beyond_the_limit_are_refused() {
    let world = World::with(|limits| {
        limits.proxy_message_bytes_max = 4096;
        limits.admin_message_bytes_max = 8192;
    })
    .await;
    let token = world.token("ledger", 1).await;
    let mut client = world.joiner(&token).await;
    let status = client.attest(crate::world::attest_request(&token, vec![0; 5000])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let files = vec![v1::SourceFile { name: "x".into(), text: "x".repeat(9000) }];
    let request = v1::ApplyRequest { files, ..v1::ApplyRequest::default() };
    assert_eq!(world.admin().await.apply(request).await.unwrap_err().code(), Code::OutOfRange);
    world.attest(&token).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_open_handshakes_end_and_harm_nobody() {
    let world = World::with(|limits| {
        limits.handshake_timeout = Duration::from_millis(200);
        limits.connections_max = 8;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(world.ready.listen).await.unwrap());
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 600]] {
        let mut tcp = TcpStream::connect(world.ready.listen).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("not closed");
        assert!(!answer.starts_with(b"HTTP"), "no plaintext answer");
    }
    for mut tcp in silent {
        let mut answer = [0; 1];
        let read = tokio::time::timeout(PATIENCE, tcp.read(&mut answer)).await.expect("not closed");
        assert_eq!(read.unwrap_or(0), 0);
    }
    world.join("ledger").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_certificate_does_not_stay() {
    let world = World::with(|limits| limits.anonymous_connection_max = Duration::from_millis(100)).await;
    let expected = ExpectedPeer::only(SpiffeId::control_plane(&domain()));
    let config = tls::client_config(None, &world.bundle(), expected, &[b"h2"]).unwrap();
    let tcp = TcpStream::connect(world.ready.listen).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("x.test").unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut tls = connector.connect(name, tcp).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tls.read_to_end(&mut rest)).await.expect("not closed");
    world.stop().await;
}

/// A proxy is believed about its own ports only, and what is no report costs it its stream, not the control plane.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_report_of_callers_ends_its_stream_and_changes_nothing() {
    let world = World::new().await;
    let reported = async || {
        let answer = world.admin().await.mtls_readiness(v1::MtlsReadinessRequest {}).await;
        answer.unwrap().into_inner().ports
    };
    let source = |address: String| v1::PlaintextSource { address, calls: u64::MAX, ms_ago: u64::MAX };
    let report = |port, sources| {
        let counts =
            v1::PortCalls { port, plaintext: u64::MAX, mutual_tls: u64::MAX, ..v1::PortCalls::default() };
        let ports = vec![v1::PortCalls { sources, ..counts }];
        Said::Calls(v1::Calls { watched_ms: u64::MAX, ports })
    };
    let (first, second) = (world.join("ledger").await, world.join("ledger").await);
    let mut one = first.stream(&world, &[(8080, "127.0.0.1:4001")]).await;
    let mut other = second.stream(&world, &[(8080, "127.0.0.1:4002")]).await;
    let many = || (0..5000).map(|n| source(format!("10.0.{}.{}", n / 250, n % 250))).collect();
    one.say(report(8080, many())).await;
    other.say(report(8080, many())).await;
    eventually("both reports to be there", async || reported().await.iter().any(|p| p.reporting == 2)).await;
    let before = reported().await;
    let [port] = before.as_slice() else { panic!("{before:?}") };
    assert_eq!((port.plaintext, port.mutual_tls), (u64::MAX, u64::MAX), "sums do not wrap round");
    assert!(port.callers.len() <= 100 && port.more_callers, "{}", port.callers.len());

    // Nobody is told of ports that it does not serve, and nobody loses their own by it.
    one.say(report(9090, many())).await;
    eventually("the port to be gone", async || reported().await[0].reporting == 1).await;
    assert_eq!(reported().await.len(), 1);
    for (port, address) in [(0, "10.0.0.1"), (70_000, "10.0.0.1"), (8080, "ledger"), (8080, "\u{1b}[2J")] {
        let mut liar = first.stream(&world, &[(8080, "127.0.0.1:4001")]).await;
        liar.say(report(port, vec![source(address.to_owned())])).await;
        assert_eq!(liar.end().await.code(), Code::InvalidArgument, "{port} {address:?}");
    }
    assert_eq!(reported().await[0].plaintext, u64::MAX, "what the other said stays");
    world.stop().await;
}
