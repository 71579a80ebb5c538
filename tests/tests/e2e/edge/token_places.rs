//! Tokens in cookies and in the query: they open the door, and go no further than it.

use http::StatusCode;
use palisade_tests::jwks::{Issuer, in_seconds};
use palisade_tests::{Upstream, client, until};
use serde_json::json;

use super::door::{Door, HOST, request, request_h2, with};
use super::routes::{external, routes};
use crate::kit::{HTTP1, HTTP2};

const ISSUER: &str = "https://auth.bank.example";

/// Tokens in either place; who has none does not come in. `more`: fields of the rule.
fn policies(issuer: &Issuer, more: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  jwtRules:
  - {{issuer: '{ISSUER}', jwks: '{}', fromCookies: [session], fromParams: [access_token], outputClaimToHeaders: [{{header: x-user, claim: sub}}]{more}}}
---
apiVersion: palisade.mesh/v1
kind: JwtPolicy
metadata: {{name: users, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: edge}}}}, rules: [{{name: all, access: token}}]}}
",
        issuer.jwks()
    )
}

const REWRITTEN: &str = "  - name: v1
    match: [{uri: {prefix: /v1/}}]
    rewrite: {uri: /}
    route: [{destination: {host: ledger}}]
    mirror: {host: copy.example}
  - {name: old, match: [{uri: {exact: /old}}], redirect: {uri: /new}}
  - {name: all, route: [{destination: {host: ledger}}]}
";

/// The upstream of mirrors, too.
async fn open(issuer: &Issuer, more: &str) -> (Door, Upstream) {
    let copies = Upstream::start("copy").await;
    let documents = [policies(issuer, more), routes(REWRITTEN), external("copy.example", copies.address())];
    (Door::open(&documents.join("---")).await, copies)
}

fn token(issuer: &Issuer, subject: &str) -> String {
    issuer.token(&json!({"iss": ISSUER, "sub": subject, "exp": in_seconds(600)}))
}

#[tokio::test]
async fn a_token_in_the_query_is_taken_out_and_the_rest_of_the_query_arrives_as_it_was() {
    let issuer = Issuer::new("k1");
    let (door, copies) = open(&issuer, "").await;
    let token = token(&issuer, "alice");
    for (target, received) in [
        (format!("/a?access_token={token}"), "/a"),
        (format!("/a?x=%41&access_token={token}&y&=z"), "/a?x=%41&y&=z"),
        // As applications read names.
        (format!("/a?access%5Ftoken={token}&x=1"), "/a?x=1"),
        (format!("/v1/a?x=1&access_token={token}"), "/a?x=1"),
        (format!("/a?Access_Token=other&access_token={token}"), "/a?Access_Token=other"),
    ] {
        let http2 = client::send_h2(door.connect(HTTP2).await, request_h2("GET", HOST, &target, "")).await;
        for answer in [door.get(&target).await, http2.unwrap()] {
            assert_eq!(answer.status, StatusCode::OK, "{target}");
            let last = door.app().last();
            assert_eq!((&*last.target, &last.headers["x-user"]), (received, &"alice".parse().unwrap()));
            assert!(!format!("{:?}", last.headers).contains(&token), "{target}: {:?}", last.headers);
        }
    }
    until("the mirror's copies", async || if copies.received().len() == 2 { Ok(()) } else { Err("more") })
        .await;
    assert!(copies.received().iter().all(|copy| copy.target == "/a?x=1"), "{:?}", copies.received());
    let moved = door.get(&format!("/old?x=1&access_token={token}")).await;
    assert_eq!(moved.header("location"), Some("https://api.bank.example/new?x=1"));
    door.edge.records_with(13, &[("request_principal", json!(format!("{ISSUER}/alice")))]).await;
    assert!(!format!("{:?}{}", door.edge.records(), door.edge.process.log()).contains(&token));
}

#[tokio::test]
async fn a_token_in_a_cookie_is_taken_out_and_other_cookies_arrive_in_one_line() {
    let issuer = Issuer::new("k1");
    let (door, copies) = open(&issuer, "").await;
    let session = format!("session={}", token(&issuer, "alice"));
    let between = format!("a=1; {session}; b=\"2\"");
    for (lines, received) in [
        (vec![&*session], None),
        (vec![&*between], Some("a=1; b=\"2\"")),
        // HTTP/2 may split them (RFC 9113 section 8.2.3).
        (vec!["a=1", &*session, "b=2"], Some("a=1; b=2")),
        (vec!["Session=x", &*session, "session2=y"], Some("Session=x; session2=y")),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        let http1 = door.send(with(request("GET", "/v1/a", ""), &headers)).await;
        let http2 = door.send_h2(with(request_h2("GET", HOST, "/v1/a", ""), &headers)).await;
        for answer in [http1, http2] {
            assert_eq!(answer.status, StatusCode::OK, "{lines:?}");
        }
        until("both copies", async || if copies.received().len() == 2 { Ok(()) } else { Err("more") }).await;
        let all: Vec<_> = door.app().received().into_iter().chain(copies.received()).collect();
        assert_eq!(all.len(), 4);
        for one in all {
            let cookies: Vec<_> = one.headers.get_all("cookie").iter().collect();
            assert_eq!(cookies, received.as_slice(), "{lines:?}");
            assert_eq!(one.headers["x-user"], "alice");
        }
        door.app().clear();
        copies.clear();
    }
}

#[tokio::test]
async fn no_false_token_and_no_second_one_passes_in_a_cookie_or_the_query() {
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k1"));
    let (door, copies) = open(&issuer, "").await;
    let (good, forged) = (token(&issuer, "alice"), token(&stranger, "alice"));
    let (good_cookie, forged_cookie) = (format!("session={good}"), format!("session={forged}"));
    let bearer = format!("Bearer {good}");
    let good_query = format!("/v1/a?access_token={good}");
    for (target, headers) in [
        (format!("/v1/a?access_token={forged}"), vec![]),
        ("/v1/a?access_token=".to_owned(), vec![]),
        (format!("{good_query}&access_token={good}"), vec![]),
        (format!("{good_query}&access%5ftoken={forged}"), vec![]),
        (good_query.clone(), vec![("cookie", &*good_cookie)]),
        ("/v1/a".to_owned(), vec![("cookie", &*forged_cookie)]),
        ("/v1/a".to_owned(), vec![("cookie", "session=")]),
        ("/v1/a".to_owned(), vec![("cookie", &*good_cookie), ("cookie", &*forged_cookie)]),
        // Places that nobody named are none.
        ("/v1/a".to_owned(), vec![("authorization", &*bearer)]),
        (format!("/v1/a?session={good}"), vec![]),
        (format!("/v1/a?Access_Token={good}"), vec![]),
    ] {
        let sent = with(request("GET", &target, ""), &headers);
        let answer = client::send_on(door.connect(HTTP1).await, sent).await.unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{target} {headers:?}");
        assert!(!answer.text().contains(&good) && !answer.text().contains(&forged));
    }
    door.app().assert_untouched();
    copies.assert_untouched();
}

#[tokio::test]
async fn a_token_goes_on_where_the_rule_says_so_alone() {
    let issuer = Issuer::new("k1");
    let (door, _copies) = open(&issuer, ", forwardOriginalToken: true").await;
    let token = token(&issuer, "alice");
    let target = format!("/a?x=1&access_token={token}");
    assert_eq!(door.get(&target).await.status, StatusCode::OK);
    assert_eq!(door.app().last().target, target);
    let cookie = format!("a=1; session={token}");
    let answer = door.send(with(request("GET", "/a", ""), &[("cookie", &cookie)])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(door.app().last().headers["cookie"], cookie);
}
