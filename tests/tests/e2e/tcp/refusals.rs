//! Who does not get through, and that nothing of it reaches the application.

use palisade_tests::client::{self, connect_tls};
use palisade_tests::tcp::GREETING;
use palisade_tests::until;
use palisade_tests::world::expecting;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{ALLOW_WEB, Database, ask, connect, hear, rest};
use crate::kit::{ALLOW_MESH, LEDGER, PERMISSIVE, STRICT};

const TCP: &[&[u8]] = &[b"palisade-tcp"];

async fn assert_refused(database: &Database, reason: &str, fields: &[(&str, serde_json::Value)]) {
    let mut wanted = vec![("reason", json!(reason)), ("protocol", json!("TCP"))];
    wanted.extend_from_slice(fields);
    database.sidecar.records_with(1, &wanted).await;
    assert!(database.sidecar.metric("palisade_tcp_refused_total", &[reason]).await >= 1.0);
    assert_eq!(database.sidecar.metric("istio_tcp_connections_opened_total", &[]).await, 0.0);
    database.app.assert_untouched();
}

#[tokio::test]
async fn a_caller_that_no_rule_names_is_refused_before_a_byte_reaches_the_service() {
    let database = Database::start(ALLOW_WEB).await;
    let svid = database.world.pki.svid("payments/other");
    let expected = expecting("payments/ledger");
    let mut stream = connect_tls(database.inbound(), Some(&svid), &database.world.pki.bundle, expected, TCP)
        .await
        .unwrap();
    let _refused_already = stream.write_all(b"drop table entries;").await;
    assert_eq!(rest(&mut stream).await, (vec![], false));
    let other = [
        ("decision", json!("denied")),
        ("source_principal", json!("spiffe://test.mesh/ns/payments/sa/other")),
        ("response_code_details", json!("rbac_access_denied_matched_policy[none]")),
    ];
    assert_refused(&database, "no_allow_matched", &other).await;

    // Through a sidecar of its own: the connection that its application got is reset.
    let sidecar = database.caller("payments/other").await;
    assert_eq!(rest(&mut connect(&sidecar).await).await, (vec![], false));
    sidecar.records_with(1, &[("response_flags", json!("UC")), ("protocol", json!("TCP"))]).await;
    database.app.assert_untouched();
}

#[tokio::test]
async fn a_rule_that_asks_for_http_lets_nobody_in_and_a_deny_of_it_shuts_the_whole_port() {
    let allow_http = ALLOW_WEB.replace("ports: ['8080']", "ports: ['8080'], methods: [GET]");
    let database = Database::start(&allow_http).await;
    let web = database.caller("payments/web").await;
    assert_eq!(rest(&mut connect(&web).await).await, (vec![], false));
    assert_refused(&database, "no_allow_matched", &[]).await;

    let deny_http = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: payments}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}
";
    let database = Database::start(&format!("{ALLOW_WEB}---{deny_http}")).await;
    let web = database.caller("payments/web").await;
    assert_eq!(rest(&mut connect(&web).await).await, (vec![], false));
    assert_refused(&database, "denied_by_rule", &[("policy", json!("payments/no-admin"))]).await;
}

#[tokio::test]
async fn plaintext_on_a_strict_port_is_refused() {
    let database = Database::start(ALLOW_MESH).await;
    let mut stream = TcpStream::connect(database.inbound()).await.unwrap();
    stream.write_all(b"select 1;").await.unwrap();
    let (heard, _) = rest(&mut stream).await;
    assert_eq!(heard, b"");
    assert_refused(&database, "plaintext_refused", &[("decision", json!("unauthenticated"))]).await;
}

#[tokio::test]
async fn in_permissive_mode_plaintext_is_judged_too_and_a_server_may_speak_first() {
    // Whoever calls from this host, with or without a certificate.
    let local = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: local, namespace: payments}
spec: {action: ALLOW, rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]}
";
    let database = Database::start_with(PERMISSIVE, local, |builder| builder).await;
    let mut silent = TcpStream::connect(database.inbound()).await.unwrap();
    hear(&mut silent, GREETING).await;
    ask(&mut silent, b"hello").await;
    // Mutual TLS goes on beside it.
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    drop((silent, stream));
    database.sidecar.records_with(1, &[("connection_security_policy", json!("none"))]).await;
    database.sidecar.records_with(1, &[("connection_security_policy", json!("mutual_tls"))]).await;

    let database = Database::start_with(PERMISSIVE, ALLOW_MESH, |builder| builder).await;
    for said in [&b"hello"[..], b""] {
        let mut stream = TcpStream::connect(database.inbound()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let (heard, _) = rest(&mut stream).await;
        assert_eq!(heard, b"");
    }
    assert_refused(&database, "no_allow_matched", &[("source_principal", json!(null))]).await;
}

#[tokio::test]
async fn a_caller_that_takes_the_port_for_http_ends_in_the_handshake() {
    let database = Database::start(ALLOW_MESH).await;
    let svid = database.world.pki.svid("payments/web");
    for alpn in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let expected = expecting("payments/ledger");
        let bundle = &database.world.pki.bundle;
        let connected = connect_tls(database.inbound(), Some(&svid), bundle, expected, alpn).await;
        assert!(connected.is_err(), "{alpn:?}");
    }
    // The other way round: a caller of bytes at a port of HTTP.
    let app = palisade_tests::Upstream::start("ledger").await;
    let http = database.world.file_sidecar("payments/ledger").serve(8080, app.address()).start().await;
    let expected = expecting("payments/ledger");
    let bundle = &database.world.pki.bundle;
    let connected = connect_tls(http.inbound(8080), Some(&svid), bundle, expected, TCP).await;
    assert!(connected.is_err());
    app.assert_untouched();
    database.app.assert_untouched();
}

#[tokio::test]
async fn a_server_with_another_identity_hears_nothing() {
    let database = Database::start(ALLOW_MESH).await;
    let entry = crate::kit::service_entry("ledger", database.inbound(), "TCP");
    database.world.policy("ledger.yaml", &entry.replace("serviceAccount: ledger", "serviceAccount: vault"));
    let web = database.world.file_sidecar("payments/web").local_port(LEDGER).start().await;
    let mut stream = connect(&web).await;
    let _refused_already = stream.write_all(b"secret").await;
    assert_eq!(rest(&mut stream).await, (vec![], false));
    web.records_with(1, &[("response_flags", json!("UF")), ("decision", json!("failed"))]).await;
    database.app.assert_untouched();
}

#[tokio::test]
async fn connections_beyond_the_cap_are_reset_and_those_within_it_go_on() {
    let options = |builder: palisade_tests::SidecarBuilder| builder.arg("--requests-max", "2").workers(1);
    let database = Database::start_with(STRICT, ALLOW_MESH, options).await;
    let web = database.caller("payments/web").await;
    let (mut first, mut second) = (connect(&web).await, connect(&web).await);
    hear(&mut first, GREETING).await;
    hear(&mut second, GREETING).await;
    assert_eq!(rest(&mut connect(&web).await).await, (vec![], false));
    ask(&mut first, b"still there").await;
    assert_eq!(database.app.heard().len(), 2);
    database.sidecar.records_with(1, &[("reason", json!("overload")), ("protocol", json!("TCP"))]).await;
    drop(second);
    until("room again", || async {
        let mut third = connect(&web).await;
        let mut greeting = [0; GREETING.len()];
        let read = tokio::io::AsyncReadExt::read_exact(&mut third, &mut greeting).await;
        read.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_service_that_is_not_there_or_not_known_is_told_by_a_reset() {
    let database = Database::start(ALLOW_MESH).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = database.world.file_sidecar("payments/ledger").serve_as(8080, "tcp", gone).start().await;
    database.world.policy("ledger.yaml", &crate::kit::service_entry("ledger", sidecar.inbound(8080), "TCP"));
    let web = database.world.file_sidecar("payments/web").local_port(LEDGER).start().await;
    assert_eq!(rest(&mut connect(&web).await).await, (vec![], false));
    let fields = [("reason", json!("connection_refused")), ("protocol", json!("TCP"))];
    let records = sidecar.records_with(1, &fields).await;
    assert_eq!(records[0]["response_flags"], "UF", "{records:#?}");

    // HTTP is not understood there, and told so without reaching anybody.
    let web = database.world.file_sidecar("payments/web").outbound().start().await;
    let answer = client::get(web.http_proxy(), "http://ledger.payments:8080/").await;
    assert_eq!(answer.status.as_u16(), 502);
    database.app.assert_untouched();
}
