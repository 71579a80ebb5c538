//! Every kind, applied to a running mesh, changes what happens to the next request.

use http::StatusCode;
use palisade_tests::client;
use palisade_tests::{Upstream, until};

use crate::fleet::{Fleet, ledger};

#[tokio::test]
async fn a_mesh_config_that_keeps_ambiguous_paths_lets_them_through_as_they_are() {
    let fleet = Fleet::open().await;
    let ambiguous = "/files/a%2Fb";
    assert_eq!(fleet.get(ambiguous).await.status, StatusCode::BAD_REQUEST);
    fleet.app.assert_untouched();
    let mesh = "
apiVersion: palisade.mesh/v1
kind: MeshConfig
metadata: {name: default, namespace: palisade-system}
spec: {pathNormalization: {normalization: NONE}, ambiguousPaths: KEEP}
";
    fleet.world.apply(mesh).await;
    assert_eq!(fleet.get(ambiguous).await.status, StatusCode::OK);
    assert_eq!(fleet.app.last().target, ambiguous);
}

#[tokio::test]
async fn a_peer_authentication_opens_one_port_for_plaintext_and_closes_it_again() {
    let fleet = Fleet::open().await;
    let plain = || async {
        let socket = tokio::net::TcpStream::connect(fleet.ledger.inbound(8080)).await.unwrap();
        let mut request = client::request("GET", "/plain", "");
        request.headers_mut().insert("host", "ledger.payments:8080".parse().unwrap());
        client::send_on(socket, request).await.map(|answer| answer.status)
    };
    assert!(!matches!(plain().await, Ok(StatusCode::OK)), "plaintext passed a STRICT port");
    fleet.app.assert_untouched();
    let documents = |mode: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: ledger, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: ledger}}}}, mtls: {{mode: {mode}}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: anybody, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: ledger}}}}, action: ALLOW, rules: [{{to: [{{operation: {{paths: [/plain]}}}}]}}]}}
"
        )
    };
    fleet.world.apply(&documents("PERMISSIVE")).await;
    assert_eq!(plain().await.ok(), Some(StatusCode::OK));
    assert!(!fleet.app.last().headers.contains_key("x-forwarded-client-cert"));
    fleet.app.clear();
    fleet.world.apply(&documents("STRICT")).await;
    assert!(!matches!(plain().await, Ok(StatusCode::OK)), "plaintext passed a port that is STRICT again");
    fleet.app.assert_untouched();
    assert_eq!(fleet.get("/plain").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_service_entry_opens_a_way_out_of_the_mesh_and_a_destination_rule_asks_for_tls_on_it() {
    let fleet = Fleet::open().await;
    let outside = Upstream::start("bank").await;
    let call = || client::get(fleet.web.http_proxy(), "http://bank.example:80/rates");
    assert!(!call().await.status.is_success(), "an unknown destination was called");
    outside.assert_untouched();
    let entry = format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bank, namespace: payments}}
spec:
  hosts: [bank.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {}, ports: {{http: {}}}}}]
",
        outside.address().ip(),
        outside.address().port()
    );
    fleet.world.apply(&entry).await;
    assert_eq!(call().await.status, StatusCode::OK);
    assert_eq!(outside.last().headers["host"], "bank.example:80");

    // The same host by TLS: a plaintext server cannot answer it any more.
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: payments}
spec: {host: bank.example, trafficPolicy: {tls: {mode: SIMPLE}}}
";
    fleet.world.apply(rule).await;
    outside.clear();
    assert_eq!(call().await.status, StatusCode::SERVICE_UNAVAILABLE);
    let done = fleet.world.operator(&["delete", "DestinationRule", "bank", "-n", "payments"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    until("plaintext again", || async {
        let status = call().await.status;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(outside.received().len(), 1);
    assert_eq!(client::get(fleet.web.http_proxy(), &ledger("/entries")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_gateway_is_taken_by_the_control_plane_and_by_the_proxy_that_it_selects() {
    let fleet = Fleet::open().await;
    let gateway = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: payments}
spec:
  selector: {app: ledger}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}]
";
    // `apply` waits until every proxy that it concerns has acknowledged.
    fleet.world.apply(gateway).await;
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_guard_holds_for_the_next_request_and_no_longer_than_it_is_there() {
    let fleet = Fleet::open().await;
    let post = async || client::post(fleet.web.http_proxy(), &ledger("/entries"), "123456789").await;
    assert_eq!(post().await.status, StatusCode::OK);
    let guard = "
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {name: small, namespace: payments}
spec: {selector: {matchLabels: {app: ledger}}, rules: [{name: all, maxBodyBytes: 8, allowedMethods: [POST]}]}
";
    fleet.world.apply(guard).await;
    fleet.app.clear();
    assert_eq!(post().await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(fleet.get("/entries").await.status, StatusCode::METHOD_NOT_ALLOWED);
    fleet.app.assert_untouched();
    let done = fleet.world.operator(&["delete", "RequestGuard", "payments/small"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    until("no guard", || async {
        let status = post().await.status;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
}
