//! Spellings of a path that an edge, a route and an upstream could read differently.

use http::StatusCode;

use super::door::{Door, GATEWAY, HOST, TO_LEDGER};
use super::framing::NO_ADMIN;
use crate::paths::SPELLINGS;

fn mesh_config(normalization: &str, ambiguous: &str) -> String {
    format!(
        "
apiVersion: palisade.mesh/v1
kind: MeshConfig
metadata: {{name: default, namespace: palisade-system}}
spec: {{pathNormalization: {{normalization: {normalization}}}, ambiguousPaths: {ambiguous}}}
"
    )
}

async fn raw_get(door: &Door, target: &str) -> String {
    let text = format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    door.raw(text.as_bytes()).await
}

#[tokio::test]
async fn no_spelling_of_a_denied_path_passes_the_edge() {
    let door =
        Door::open(&format!("{}---{TO_LEDGER}---{NO_ADMIN}", mesh_config("MERGE_SLASHES", "REJECT"))).await;
    for path in SPELLINGS {
        door.app().clear();
        let answer = raw_get(&door, path).await;
        let refused = ["HTTP/1.1 400", "HTTP/1.1 403"].iter().any(|status| answer.starts_with(status));
        // The folder `/admin/` is of the rule's `/admin/*`; nothing else is let through.
        assert!(refused, "{path}: {answer}");
        door.app().assert_untouched();
    }
}

/// Istio's table (tests/integration/security/normalization_test.go) with its escapes kept: what the edge judges and
/// sends on in each mode. `None`: refused in every mode.
const ISTIO: &[(&str, [&str; 4])] = &[
    ("/app/../admin", ["/app/../admin", "/admin", "/admin", "/admin"]),
    ("/app//", ["/app//", "/app//", "/app/", "/app/"]),
    ("/app/%2f", ["/app/%2f", "/app/%2f", "/app/%2f", "/app/"]),
    ("/app%2f/", ["/app%2f/", "/app%2f/", "/app%2f/", "/app/"]),
    ("/xyz%30..//abc", ["/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"]),
    ("/app/%2E./admin", ["/app/%2E./admin", "/admin", "/admin", "/admin"]),
    ("/app\\admin", ["/app\\admin", "/app/admin", "/app/admin", "/app/admin"]),
    ("/app/\\/\\/\\admin", ["/app/\\/\\/\\admin", "/app//////admin", "/app/admin", "/app/admin"]),
    (
        "/%2Fapp%5cadmin%5Cabc",
        ["/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/app/admin/abc"],
    ),
    (
        "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
        [
            "/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc",
            "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
            "/%5Capp%2f%5c%2F..%2fadmin%5c/abc",
            "/app/admin/abc",
        ],
    ),
    ("/app//../admin", ["/app//../admin", "/app/admin", "/app/admin", "/app/admin"]),
    ("/app//../../admin", ["/app//../../admin", "/admin", "/admin", "/admin"]),
    ("/%c0%2e%c0%2e/admin", ["/%c0%2e%c0%2e/admin", "/%c0.%c0./admin", "/%c0.%c0./admin", "/%c0.%c0./admin"]),
    ("/%c0%2fadmin", ["/%c0%2fadmin", "/%c0%2fadmin", "/%c0%2fadmin", "/%c0/admin"]),
    ("/a;b=c?q=%2e%2e/;x", ["/a;b=c?q=%2e%2e/;x"; 4]),
    ("/a%3Bb%3Fc%23d%25e", ["/a%3Bb%3Fc%23d%25e"; 4]),
];

#[tokio::test]
async fn the_four_normalizations_are_istios_at_the_edge_and_what_it_judged_is_sent_on() {
    for (index, mode) in ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"].iter().enumerate() {
        let door = Door::open(&format!("{}---{TO_LEDGER}", mesh_config(mode, "KEEP"))).await;
        // The ledger's sidecar ran before there was a MeshConfig.
        palisade_tests::until("the MeshConfig at both", async || {
            let answer = raw_get(&door, "/a;b").await;
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        })
        .await;
        for (sent, expected) in ISTIO {
            door.app().clear();
            let answer = raw_get(&door, sent).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{mode} {sent}: {answer}");
            // The ledger's own sidecar normalizes by the same MeshConfig.
            assert_eq!(door.app().last().target, expected[index], "{mode} {sent}");
        }
        for refused in ["/a%00", "/a%zz", "/a%", "/a%2", "/\u{e9}", "/a#b"] {
            door.app().clear();
            let answer = raw_get(&door, refused).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{mode} {refused}: {answer}");
            door.app().assert_untouched();
        }
    }
}

#[tokio::test]
async fn what_two_servers_may_read_differently_is_refused_in_each_normalization_unless_it_is_kept() {
    for mode in ["NONE", "DECODE_AND_MERGE_SLASHES"] {
        let door = Door::open(&format!("{}---{TO_LEDGER}", mesh_config(mode, "REJECT"))).await;
        for path in [
            "/a%2fb",
            "/a%5Cb",
            "/a;b",
            "/a%3bb",
            "/a%3fb",
            "/a%23b",
            "/a%25b",
            "/%c0%af",
            "/a%0d%0ab",
            "/..;/a",
        ] {
            let answer = raw_get(&door, path).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{mode} {path}: {answer}");
        }
        door.app().assert_untouched();
    }
}

/// With `NONE` nothing resolves dots: a route must not take a path for what it is not.
#[tokio::test]
async fn a_path_template_never_takes_the_query_for_a_path() {
    let template = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: ALLOW, rules: [{to: [{operation: {paths: ['/allow/admin/{**}', '/exact']}}]}]}
";
    let door = Door::with(&format!("{GATEWAY}---{template}---{TO_LEDGER}"), |edge| edge).await;
    for path in
        ["/allow/admin?x=/allow/admin/y", "/exact/?a", "/x?/exact", "/exact%3Fa", "/allow/admin/../../x"]
    {
        let answer = raw_get(&door, path).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    door.app().assert_untouched();
    for path in ["/exact?", "/exact?a=/..", "/allow/admin/y?z"] {
        assert!(raw_get(&door, path).await.starts_with("HTTP/1.1 200"), "{path}");
        assert_eq!(door.app().last().target, path);
    }
}

/// CVE-2026-26205: a path that starts with two slashes is a path to everybody, never an authority.
#[tokio::test]
async fn two_slashes_at_the_start_are_a_path_and_stay_one() {
    let door = Door::open(&format!("{TO_LEDGER}---{NO_ADMIN}")).await;
    let answer = raw_get(&door, "//evil.example/admin").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = door.app().last();
    assert_eq!(
        (received.target.as_str(), &received.headers["host"]),
        ("//evil.example/admin", &HOST.parse().unwrap())
    );
    let record = door.edge.records_with(1, &[("response_code", serde_json::json!(200))]).await.remove(0);
    assert_eq!(record["path"], "//evil.example/admin");
}

const REWRITES: &str = r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: payments}
spec:
  hosts: ['*']
  gateways: [public]
  http:
  - {name: to-root, match: [{uri: {prefix: /api}}], rewrite: {uri: /}, route: [{destination: {host: ledger}}]}
  - {name: to-folder, match: [{uri: {prefix: /v1/}}], rewrite: {uri: /base}, route: [{destination: {host: ledger}}]}
  - {name: regex, match: [{uri: {prefix: /r/}}], rewrite: {uriRegexRewrite: {match: '^/r/([^/]*)/(.*)$', rewrite: '/\2/\1'}}, route: [{destination: {host: ledger}}]}
  - {name: drop, match: [{uri: {prefix: /d/}}], rewrite: {uriRegexRewrite: {match: 'x', rewrite: ''}}, route: [{destination: {host: ledger}}]}
  - {name: first, match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: '^/f', rewrite: ''}}, route: [{destination: {host: ledger}}]}
";

#[tokio::test]
async fn a_rewrite_makes_no_path_that_normalization_would_have_changed_or_refused() {
    let door = Door::open(REWRITES).await;
    let good = [
        ("/api/x", "/x"),
        ("/api", "/"),
        ("/apix", "/x"),
        ("/api/x?to=//evil", "/x?to=//evil"),
        ("/v1/x", "/basex"),
        ("/r/a/b?q=/r/c/d", "/b/a?q=/r/c/d"),
        ("/d/axb", "/d/ab"),
        ("/f/x?a=#", ""),
    ];
    for (sent, expected) in good {
        door.app().clear();
        let answer = raw_get(&door, sent).await;
        if expected.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 400"), "{sent}: {answer}");
            continue;
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{sent}: {answer}");
        assert_eq!(door.app().last().target, expected, "{sent}");
    }
    door.app().clear();
    for sent in [
        // The rest starts with slashes, dots, or becomes dots.
        "/api//evil.example/x",
        "/api///x",
        "/api..%2fx",
        "/api../x",
        "/api./x",
        "/r/../b/c",
        "/r/..x/",
        "/d/.x./admin",
        "/d/.x",
        "/d/%x2e%2e/admin",
        "/d/%2x5",
        "/f",
        "/fx",
        "/f//evil.example/x",
        "/f?x",
    ] {
        let answer = raw_get(&door, sent).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{sent}: {answer} {:?}", door.app().received());
        let received = door.app().received();
        assert!(received.is_empty(), "{sent}: {received:?}");
    }
}

#[tokio::test]
async fn over_http2_the_edge_reads_paths_alike() {
    let door = Door::open(&format!("{TO_LEDGER}---{NO_ADMIN}")).await;
    for path in [
        "/admin",
        "/admin/",
        "/public/../admin",
        "/%2e%2e/admin",
        "/%61dmin",
        "/a/../%2Fadmin",
        "/admin;x",
        "/admin%00",
    ] {
        let answer = door.send_h2(super::door::request_h2("GET", HOST, path, "")).await;
        let refused = [StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST].contains(&answer.status);
        assert!(refused, "{path}: {}", answer.status);
    }
    door.app().assert_untouched();
}
