//! Who shares a quota at the edge, and what a request takes from it.

use std::net::Ipv6Addr;

use http::StatusCode;
use palisade_tests::client::{self, Answer};
use palisade_tests::jwks::{Issuer, in_seconds};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request, request_h2, with};

/// A policy of the edge with these limits.
fn limits(lines: &str) -> String {
    format!(
        "
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {{name: api, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  limits:
{lines}"
    )
}

async fn open(lines: &str) -> Door {
    Door::open(&format!("{TO_LEDGER}---{}", limits(lines))).await
}

/// The edge refuses with 429 and `Retry-After`, or the service had the request.
fn passed(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::OK => true,
        StatusCode::TOO_MANY_REQUESTS if answer.header("retry-after").is_some() => false,
        status => panic!("{status}: {answer:?}"),
    }
}

#[tokio::test]
async fn each_value_of_a_header_has_a_quota_of_its_own_and_all_without_it_share_one() {
    let door =
        open("  - {name: device, key: [{address: {}}, {header: x-device}], limit: 2, window: 1h}\n").await;
    // Twice each, and no third time.
    let quotas: [&[(&'static str, &str)]; 4] = [
        &[("x-device", "a")],
        &[("x-device", "b")],
        // Two lines are not one with both values.
        &[("x-device", "a"), ("x-device", "b")],
        &[("x-device", "a, b")],
    ];
    for lines in quotas {
        door.app().clear();
        for expected in [true, true, false] {
            let answer = door.send(with(request("GET", "/", ""), lines)).await;
            assert_eq!(passed(&answer), expected, "{lines:?}");
        }
        assert_eq!(door.app().received().len(), 2, "{lines:?}");
        let answer = door.send_h2(with(request_h2("GET", HOST, "/", ""), lines)).await;
        assert!(!passed(&answer), "another protocol is no way around: {lines:?}");
    }
    // Leaving it out, misspelling it, or naming it as hop-by-hop gives nobody a fresh quota.
    door.app().clear();
    let without: [&[(&'static str, &str)]; 4] = [
        &[],
        &[("x_device", "c")],
        &[("x-device", "d"), ("connection", "x-device, close")],
        &[("x-devices", "e")],
    ];
    for (i, lines) in without.into_iter().enumerate() {
        assert_eq!(passed(&door.send(with(request("GET", "/", ""), lines)).await), i < 2, "{lines:?}");
    }
    assert_eq!(door.app().received().len(), 2);
}

#[tokio::test]
async fn a_principal_has_one_quota_whatever_its_token_and_another_issuers_user_of_that_name_another() {
    let (bank, shop, stranger) = (Issuer::new("b"), Issuer::new("s"), Issuer::new("b"));
    let names = ["https://auth.bank.example", "https://auth.shop.example"];
    let documents = format!(
        "{TO_LEDGER}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  jwtRules: [{{issuer: '{}', jwks: '{}'}}, {{issuer: '{}', jwks: '{}'}}]
---{}",
        names[0],
        bank.jwks(),
        names[1],
        shop.jwks(),
        limits("  - {name: user, key: [{principal: {}}], limit: 2, window: 1h}\n")
    );
    let door = Door::open(&documents).await;
    let ask = async |issuer: &Issuer, name: &str, subject: &str, id: usize| {
        let claims = json!({"iss": name, "sub": subject, "exp": in_seconds(600), "jti": id});
        let token = format!("Bearer {}", issuer.token(&claims));
        door.send(with(request("GET", "/", ""), &[("authorization", &token)])).await
    };
    for id in 0..3 {
        assert_eq!(ask(&stranger, names[0], "alice", id).await.status, StatusCode::UNAUTHORIZED);
    }
    door.app().assert_untouched();
    for (issuer, name, subject) in [
        (&bank, names[0], "alice"),
        (&shop, names[1], "alice"),
        (&bank, names[0], "bob"),
        (&bank, names[0], "Alice"),
    ] {
        door.app().clear();
        for (id, expected) in [true, true, false, false].into_iter().enumerate() {
            assert_eq!(passed(&ask(issuer, name, subject, id).await), expected, "{subject} of {name}, {id}");
        }
        assert_eq!(door.app().received().len(), 2, "{subject} of {name}");
    }
    // Nobody in particular is one principal, too.
    door.app().clear();
    for expected in [true, true, false] {
        assert_eq!(passed(&door.get("/").await), expected);
    }
    assert_eq!(door.app().received().len(), 2);
}

#[tokio::test]
async fn a_request_takes_its_cost_and_is_refused_where_less_than_that_is_left() {
    // One would still be left for a request that costs one.
    let door = open(
        "  - {name: exports, match: [{paths: [/exports]}], key: [{address: {}}], limit: 5, window: 1h, cost: 2}
  - {name: reports, match: [{paths: [/reports]}], limit: 100, window: 1h, burst: 7, cost: 3}
",
    )
    .await;
    for (path, told) in [
        ("/exports", ["\"exports\";r=3;", "\"exports\";r=1;"]),
        ("/reports", ["\"reports\";r=4;", "\"reports\";r=1;"]),
    ] {
        door.app().clear();
        for left in told {
            let answer = door.get(path).await;
            assert!(passed(&answer), "{path}");
            assert!(answer.header("ratelimit").unwrap().starts_with(left), "{left}: {:?}", answer.headers);
        }
        for _ in 0..2 {
            assert!(!passed(&door.get(path).await), "{path}");
        }
        let targets: Vec<_> = door.app().received().into_iter().map(|one| one.target).collect();
        assert_eq!(targets, [path, path]);
    }
}

/// The header of version 2 of the PROXY protocol for a client with this address.
fn proxy_v2(client: &str) -> Vec<u8> {
    let client: Ipv6Addr = client.parse().unwrap();
    let ports = [0, 80, 1, 187];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24", &client.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &ports]
        .concat()
}

#[tokio::test]
async fn the_addresses_of_one_ipv6_subnet_share_a_quota_and_the_next_subnet_has_its_own() {
    let policy = limits("  - {name: address, key: [{address: {}}], limit: 2, window: 1h}\n");
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}---{policy}");
    let door = Door::with(&documents, |edge| edge.arg("--proxy-protocol-from", "127.0.0.0/8")).await;
    for (client, expected) in [
        ("2001:db8:0:1::1", true),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", true),
        ("2001:db8:0:1::2", false),
        ("2001:db8:0:1::1", false),
        ("2001:db8:0:2::1", true),
        ("2001:db8:0:0:ffff:ffff:ffff:ffff", true),
        // IPv4 written as IPv6 is IPv4: each address for itself.
        ("::ffff:192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("::ffff:192.0.2.1", false),
        ("::ffff:192.0.2.2", true),
    ] {
        door.app().clear();
        let mut socket = TcpStream::connect(door.plain()).await.unwrap();
        socket.write_all(&proxy_v2(client)).await.unwrap();
        let answer = client::send_on(socket, request("GET", "/", "")).await.unwrap();
        assert_eq!(passed(&answer), expected, "{client}");
        let address: Ipv6Addr = client.parse().unwrap();
        let told: Vec<_> =
            door.app().received().iter().map(|one| one.headers["x-forwarded-for"].clone()).collect();
        let canonical = address.to_canonical().to_string();
        assert_eq!(told, if expected { vec![&*canonical] } else { vec![] }, "{client}");
    }
}
