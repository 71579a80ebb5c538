//! What the service gets to see of headers, and what no caller can make it see.

use http::header::{CONNECTION, HeaderName};
use http::{HeaderValue, StatusCode};
use palisade_certs::Svid;
use palisade_tests::client;

use crate::kit::{ALLOW_MESH, Mesh, get, request, request_h2, url};

/// Envoy's format: `By=<own id>;Hash=<sha256 of the leaf>;Subject="";URI=<caller's id>`.
fn expected_xfcc(svid: &Svid) -> [String; 3] {
    let hash: String = svid.leaf_sha256().iter().map(|byte| format!("{byte:02x}")).collect();
    ["By=spiffe://test.mesh/ns/payments/sa/ledger".into(), format!("Hash={hash}"), format!("URI={}", svid.id)]
}

fn assert_xfcc(mesh: &Mesh, svid: &Svid, what: &str) {
    let received = mesh.app.last();
    let values: Vec<_> = received.headers.get_all("x-forwarded-client-cert").iter().collect();
    assert_eq!(values.len(), 1, "{what}: {values:?}");
    let value = values[0].to_str().unwrap();
    for part in expected_xfcc(svid) {
        assert!(value.split(';').any(|found| found == part), "{what}: {part} not in {value}");
    }
    assert!(!value.contains("admin"), "{what}: {value}");
}

#[tokio::test]
async fn the_service_learns_the_caller_from_its_certificate_alone() {
    let mesh = Mesh::open().await;
    let svid = mesh.world.pki.svid("payments/web");
    let forged = "By=spiffe://test.mesh/ns/payments/sa/ledger;URI=spiffe://test.mesh/ns/a/sa/admin";
    let name = "x-forwarded-client-cert";
    let rows: [(&str, &[(&str, &str)]); 6] = [
        ("none", &[]),
        ("forged", &[(name, forged)]),
        ("forged twice", &[(name, forged), (name, forged)]),
        ("empty", &[(name, "")]),
        ("forged and listed in Connection", &[(name, forged), ("connection", name)]),
        (
            "listed in Connection, mixed case, among others",
            &[("connection", "close, X-Forwarded-Client-Cert")],
        ),
    ];
    for (what, headers) in rows {
        let mut request = get("/");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let stream = mesh.connect_as(&svid, crate::kit::HTTP1).await;
        let answer = client::send_on(stream, request).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{what}");
        assert_xfcc(&mesh, &svid, what);
    }
    let mut request = request_h2("GET", "/", "");
    request.headers_mut().append(name, HeaderValue::from_static(forged));
    let stream = mesh.connect_as(&svid, crate::kit::HTTP2).await;
    assert_eq!(client::send_h2(stream, request).await.unwrap().status, StatusCode::OK);
    assert_xfcc(&mesh, &svid, "HTTP/2");
}

#[tokio::test]
async fn underscore_spellings_of_identity_headers_do_not_arrive() {
    let mesh = Mesh::open().await;
    for name in ["x_forwarded_client_cert", "X-Forwarded_Client-Cert", "x-forwarded-client_cert"] {
        mesh.app.clear();
        let text = format!("GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\n{name}: URI=admin\r\n\r\n");
        mesh.raw("payments/web", text.as_bytes()).await;
        for received in mesh.app.received() {
            let found = received.headers.iter().any(|(_, value)| value.as_bytes().ends_with(b"admin"));
            assert!(!found, "{name} reached the service: {:?}", received.headers);
        }
    }
}

#[tokio::test]
async fn hop_by_hop_headers_end_at_the_sidecar() {
    let mesh = Mesh::open().await;
    let mut request = request("GET", "/", "");
    for (name, value) in [
        ("connection", "keep-alive, x-mine"),
        ("connection", "x-second-line"),
        ("x-mine", "1"),
        ("x-second-line", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("proxy-connection", "keep-alive"),
        ("x-kept", "1"),
        ("authorization", "Bearer of-the-application"),
    ] {
        let name = HeaderName::from_static(name);
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    assert_eq!(mesh.call("payments/web", request).await.status, StatusCode::OK);
    let headers = mesh.app.last().headers;
    for gone in ["x-mine", "x-second-line", "keep-alive", "proxy-authorization", "proxy-connection"] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:?}");
    }
    let connection = headers.get(CONNECTION).map(|value| value.to_str().unwrap().to_lowercase());
    assert!(!connection.unwrap_or_default().contains("x-mine"), "{headers:?}");
    assert_eq!(headers["x-kept"], "1");
    assert_eq!(headers["authorization"], "Bearer of-the-application");
    assert_eq!(headers["host"], "ledger.payments:8080");
}

#[tokio::test]
async fn our_own_headers_of_a_caller_have_no_effect() {
    let mesh = Mesh::open().await;
    for name in ["x-palisade-decision-id", "x-palisade-anything", "X_Palisade-Anything"] {
        let mut request = get("/");
        request
            .headers_mut()
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("forged"));
        assert_eq!(mesh.call("payments/web", request).await.status, StatusCode::OK);
        let headers = mesh.app.last().headers;
        assert_ne!(headers.get(name).map(HeaderValue::as_bytes), Some(b"forged".as_slice()), "{name}");
    }
}

#[tokio::test]
async fn an_application_cannot_forge_identity_through_its_own_sidecar() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let mut request = client::request("GET", &url("/"), "");
    let forged = HeaderValue::from_static("URI=spiffe://test.mesh/ns/a/sa/admin");
    request.headers_mut().append("x-forwarded-client-cert", forged);
    assert_eq!(client::send(caller.http_proxy(), request).await.status, StatusCode::OK);
    let value = mesh.app.last().headers["x-forwarded-client-cert"].to_str().unwrap().to_owned();
    assert!(
        value.contains("URI=spiffe://test.mesh/ns/payments/sa/web") && !value.contains("admin"),
        "{value}"
    );
}

const BY_ROLE: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clerks, namespace: payments}
spec: {action: ALLOW, rules: [{when: [{key: 'request.headers[x-role]', values: [clerk]}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admins, namespace: payments}
spec: {action: DENY, rules: [{when: [{key: 'request.headers[x-role]', values: [admin]}]}]}
";

#[tokio::test]
async fn repeated_and_padded_headers_do_not_slip_past_a_policy() {
    let mesh = Mesh::start(BY_ROLE).await;
    let rows: [(&str, &str, bool); 9] = [
        ("allowed", "x-role: clerk", true),
        ("padded", "x-role: \t clerk \t", true),
        ("absent", "x-other: clerk", false),
        ("empty", "x-role:", false),
        ("denied", "x-role: admin", false),
        ("denied, padded", "x-role:\tadmin ", false),
        ("denied, name in upper case", "X-ROLE: admin", false),
        ("denied second", "x-role: clerk\r\nx-role: admin", false),
        ("denied first", "x-role: admin\r\nx-role: clerk", false),
    ];
    for (what, line, allowed) in rows {
        mesh.app.clear();
        let text =
            format!("GET / HTTP/1.1\r\nhost: ledger.payments:8080\r\n{line}\r\nconnection: close\r\n\r\n");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), allowed, "{what}: {answer}");
        assert_eq!(mesh.app.received().len(), usize::from(allowed), "{what}");
    }
}

#[tokio::test]
async fn trailers_do_not_become_headers_and_carry_no_identity() {
    let mesh = Mesh::start(ALLOW_MESH).await;
    let text = "POST /echo HTTP/1.1\r\nhost: ledger.payments:8080\r\ntransfer-encoding: chunked\r\n\
                trailer: x-forwarded-client-cert, authorization, x-fine\r\nconnection: close\r\n\r\n\
                3\r\nabc\r\n0\r\nx-forwarded-client-cert: URI=admin\r\nauthorization: forged\r\nx-fine: 1\r\n\r\n";
    let answer = mesh.raw("payments/web", text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = mesh.app.last();
    assert!(!received.headers.contains_key("authorization"), "{:?}", received.headers);
    let trailers = received.trailers.unwrap_or_default();
    for forbidden in ["x-forwarded-client-cert", "authorization"] {
        assert!(!trailers.contains_key(forbidden), "{trailers:?}");
    }
}

/// At a sidecar as at the edge.
#[tokio::test]
async fn a_header_that_policy_judges_arrives_neither_in_trailers_nor_under_another_spelling() {
    let mesh = Mesh::start(BY_ROLE).await;
    let text = "POST /echo HTTP/1.1\r\nhost: ledger.payments:8080\r\nx-role: clerk\r\nX_Role: admin\r\nx_other: 1\r\n\
                transfer-encoding: chunked\r\ntrailer: x-role, x_role, x-fine\r\nconnection: close\r\n\r\n\
                3\r\nabc\r\n0\r\nx-role: admin\r\nx_role: admin\r\nx-fine: 1\r\n\r\n";
    let answer = mesh.raw("payments/web", text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = mesh.app.last();
    let all = format!("{:?} {:?}", received.headers, received.trailers);
    assert!(!all.contains("admin"), "{all}");
    assert!(received.trailers.unwrap().contains_key("x-fine"), "{all}");
    assert_eq!(
        (&received.headers["x-role"], &received.headers["x_other"]),
        (&HeaderValue::from_static("clerk"), &HeaderValue::from_static("1"))
    );
}
