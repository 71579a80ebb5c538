//! How an application reaches others: `HTTP_PROXY`, local ports, services in and outside the mesh.

use http::StatusCode;
use palisade_tests::{Upstream, World, client};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::PALISADE;
use crate::kit::{LEDGER, Mesh, get, url};

#[tokio::test]
async fn a_local_port_leads_to_one_service() {
    let mesh = Mesh::open().await;
    mesh.publish();
    let caller = mesh.world.file_sidecar("payments/web").local_port(LEDGER);
    let caller = caller.start().await;
    let answer = client::send(caller.local_port(LEDGER), get("/x")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "hello from ledger"));
    let xfcc = mesh.app.last().headers["x-forwarded-client-cert"].to_str().unwrap().to_owned();
    assert!(xfcc.contains("URI=spiffe://test.mesh/ns/payments/sa/web"), "{xfcc}");
}

#[tokio::test]
async fn an_unknown_destination_is_refused_and_not_looked_up() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    // Within one namespace the short name is enough.
    assert_eq!(client::get(caller.http_proxy(), "http://ledger:8080/").await.status, StatusCode::OK);
    mesh.app.clear();
    let secret = Upstream::start("secret").await;
    for target in [
        "http://unknown.payments:8080/".to_owned(),
        "http://ledger.payments:9999/".to_owned(),
        "http://ledger.other:8080/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://{}/", secret.address()),
        format!("http://localhost:{}/", secret.address().port()),
        format!("http://{}/", mesh.app.address()),
    ] {
        let answer = client::get(caller.http_proxy(), &target).await;
        assert!(
            answer.status.is_client_error() || answer.status.is_server_error(),
            "{target}: {}",
            answer.status
        );
        assert!(answer.header("x-palisade-decision-id").is_some(), "{target}");
    }
    secret.assert_untouched();
    mesh.app.assert_untouched();
    caller.records_with(7, &[("direction", json!("outbound")), ("response_flags", json!("NR"))]).await;
}

#[tokio::test]
async fn the_http_proxy_takes_no_connect_and_no_origin_form() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    for text in [
        "CONNECT ledger.payments:8080 HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n",
        "GET https://ledger.payments:8080/ HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n",
        "GET http://ledger.payments:8080/ HTTP/1.1\r\nhost: other.payments\r\n\r\n",
        "GET http://me@ledger.payments:8080/ HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
        let answer = String::from_utf8_lossy(&client::raw(&mut socket, text.as_bytes()).await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 4"), "{text}: {answer}");
    }
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn a_service_outside_the_mesh_is_called_in_plaintext_only_where_a_service_entry_says_so() {
    let world = World::of_files(PALISADE);
    let outside = Upstream::start("outside").await;
    let port = outside.address().port();
    world.policy(
        "outside.yaml",
        &format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside, namespace: payments}}
spec:
  hosts: [api.outside.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: outside, namespace: payments}}
spec: {{host: api.outside.example, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}
"
        ),
    );
    let caller = world.file_sidecar("payments/web").outbound().start().await;
    let mut request = client::request("GET", "http://api.outside.example/x", "");
    request.headers_mut().append("x-forwarded-client-cert", "URI=forged".parse().unwrap());
    let answer = client::send(caller.http_proxy(), request).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "hello from outside"));
    let received = outside.last();
    assert_eq!(received.headers["host"], "api.outside.example");
    assert!(!received.headers.contains_key("x-forwarded-client-cert"));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_gives_503_and_says_why_in_the_record() {
    let mesh = Mesh::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    mesh.world.policy("ledger.yaml", &crate::kit::service_entry("ledger", gone, "HTTP"));
    let caller = mesh.world.file_sidecar("payments/web").outbound().start().await;
    let answer = client::post(caller.http_proxy(), &url("/"), "pay").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = &caller.records_with(1, &[("direction", json!("outbound"))]).await[0];
    assert_eq!(
        (&record["decision"], &record["response_flags"]),
        (&json!("failed"), &json!("UF")),
        "{record}"
    );
}

#[tokio::test]
async fn an_application_that_is_down_gives_503_and_that_of_another_status_passes_through() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    for code in [201, 404, 500, 503] {
        let answer = client::get(caller.http_proxy(), &url(&format!("/status/{code}"))).await;
        assert_eq!(answer.status.as_u16(), code);
        assert!(answer.header("x-palisade-decision-id").is_none());
    }
    drop(mesh.app);
    let answer = client::get(caller.http_proxy(), &url("/")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}
