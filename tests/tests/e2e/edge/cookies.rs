//! Cookies that HTTP/2 splits (RFC 9113 section 8.2.3), as every browser does.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use palisade_tests::Upstream;

use super::door::{Door, HOST, TO_LEDGER, request, request_h2, with};
use super::routes::{external, routes};

const SPLIT: [(&str, &str); 3] = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=")];

fn split(path: &str) -> Request<Full<Bytes>> {
    with(request_h2("GET", HOST, path, ""), &SPLIT)
}

/// The cookie lines of the last request.
fn cookies(upstream: &Upstream) -> Vec<String> {
    let headers = upstream.last().headers;
    headers.get_all("cookie").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn split_cookies_reach_a_service_over_http1_in_one_line_and_routes_see_that_line() {
    let other = Upstream::start("other").await;
    let http = "  - {name: whole, match: [{headers: {cookie: {exact: a=1; b=2; c=3; d=}}}, {uri: {prefix: /out}}], route: [{destination: {host: other.example}}]}
  - {name: all, route: [{destination: {host: ledger}}]}
";
    let documents = format!("{}---{}", routes(http), external("other.example", other.address()));
    let door = Door::open(&documents).await;
    assert_eq!(door.send_h2(split("/")).await.text(), "hello from other");
    assert_eq!(cookies(&other), ["a=1; b=2; c=3; d="]);
    // Through the mesh, which speaks HTTP/2 within.
    let longer = with(split("/"), &[("cookie", "e=5")]);
    assert_eq!(door.send_h2(longer).await.text(), "hello from ledger");
    assert_eq!(cookies(door.app()), ["a=1; b=2; c=3; d=; e=5"]);
    assert_eq!(
        door.send_h2(with(request_h2("GET", HOST, "/", ""), &[("cookie", "a=1")])).await.text(),
        "hello from ledger"
    );
    assert_eq!(cookies(door.app()), ["a=1"]);
    assert_eq!(door.send_h2(request_h2("GET", HOST, "/out", "")).await.text(), "hello from other");
    assert!(cookies(&other).is_empty());
}

#[tokio::test]
async fn split_cookies_are_no_duplicates_and_two_lines_of_http1_are() {
    let guard = "
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {name: api, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, rules: [{name: once, forbidDuplicates: [cookie]}]}
";
    let door = Door::open(&format!("{TO_LEDGER}---{guard}")).await;
    let answer = door.send(with(request("GET", "/", ""), &SPLIT)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    door.app().assert_untouched();
    assert_eq!(door.send_h2(split("/")).await.status, StatusCode::OK);
    assert_eq!(cookies(door.app()), ["a=1; b=2; c=3; d="]);
}
