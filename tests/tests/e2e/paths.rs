//! Spellings of a path that a policy and a service could read differently.

use http::StatusCode;

use crate::kit::Mesh;

const POLICIES: &str = "
apiVersion: palisade.mesh/v1
kind: MeshConfig
metadata: {name: default, namespace: palisade-system}
spec: {pathNormalization: {normalization: MERGE_SLASHES}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everything, namespace: payments}
spec: {action: ALLOW, rules: [{to: [{operation: {paths: ['/*']}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: payments}
spec: {action: DENY, rules: [{to: [{operation: {paths: ['/admin', '/admin/*']}}]}]}
";

/// Every one of these is, for some server, `/admin`.
pub(crate) const SPELLINGS: &[&str] = &[
    "/admin",
    "/admin?x=1",
    "/admin?",
    "/admin#x",
    "/admin/",
    "/public/../admin",
    "/public/%2e%2e/admin",
    "/public/.%2E/admin",
    "/./admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "//admin",
    "/.//admin",
    "///admin",
    "/%2Fadmin",
    "/%2fadmin",
    "/x%2F..%2Fadmin",
    "/%5Cadmin",
    "/\\admin",
    "/x\\..\\admin",
    "/admin;x",
    "/admin;a=b",
    "/;x/admin",
    "/admin%00",
    "/admin%00.png",
    "/admin%3Fx",
    "/admin%23x",
    "/public%3F/../admin",
    "/%c0%afadmin",
    "/%c0%ae%c0%ae/admin",
    "/%252e%252e/admin",
    "/admin%zz",
    "/admin%",
    "/public/..;/admin",
];

/// Refused by normalization or by the policy: either way the service sees nothing that it could take for `/admin`.
#[tokio::test]
async fn no_spelling_of_a_denied_path_reaches_the_service() {
    let mesh = Mesh::start(POLICIES).await;
    for path in SPELLINGS {
        mesh.app.clear();
        let text = format!("GET {path} HTTP/1.1\r\nhost: ledger.payments:8080\r\nconnection: close\r\n\r\n");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        let refused = answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400");
        assert!(refused, "{path}: {answer}");
        mesh.app.assert_untouched();
    }
}

/// What policy saw is what is forwarded.
#[tokio::test]
async fn ordinary_paths_arrive_as_they_were_judged() {
    let mesh = Mesh::start(POLICIES).await;
    let rows = [
        ("/", "/"),
        ("/a/b?c=/../admin&d=%2e%2e", "/a/b?c=/../admin&d=%2e%2e"),
        ("/a%20b", "/a%20b"),
        ("/administrator", "/administrator"),
        ("/ADMIN", "/ADMIN"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/a.b/..c/d...", "/a.b/..c/d..."),
    ];
    for (sent, expected) in rows {
        mesh.app.clear();
        let text = format!("GET {sent} HTTP/1.1\r\nhost: ledger.payments:8080\r\nconnection: close\r\n\r\n");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{sent}: {answer}");
        assert_eq!(mesh.app.last().target, expected, "{sent}");
    }
}

#[tokio::test]
async fn over_http2_odd_paths_are_refused_too() {
    let mesh = Mesh::start(POLICIES).await;
    for path in
        ["/admin", "/public/../admin", "/%2e%2e/admin", "//admin", "/%2Fadmin", "/admin;x", "/admin%00"]
    {
        let answer = mesh.call_h2("payments/web", crate::kit::request_h2("GET", path, "")).await;
        let refused = [StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST].contains(&answer.status);
        assert!(refused, "{path}: {}", answer.status);
    }
    mesh.app.assert_untouched();
}

const HOSTS: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: everything, namespace: payments}
spec: {action: ALLOW, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secret, namespace: payments}
spec: {action: DENY, rules: [{to: [{operation: {hosts: [secret.example, 'secret.example:*']}}]}]}
";

#[tokio::test]
async fn no_spelling_of_a_denied_host_gets_through() {
    let mesh = Mesh::start(HOSTS).await;
    let answer =
        mesh.raw("payments/web", b"GET / HTTP/1.1\r\nhost: open.example\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    mesh.app.clear();
    for host in
        ["secret.example", "SECRET.Example", "secret.example:80", "secret.example:443", "Secret.Example:8080"]
    {
        let text = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
        let text = format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = mesh.raw("payments/web", text.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "absolute {host}: {answer}");
        mesh.app.assert_untouched();
    }
}
