//! Headers by which a client could pass a policy, or for somebody else.

use http::StatusCode;
use palisade_tests::jwks::Issuer;
use palisade_tests::raw_h2::{Outcome, RawH2, data, headers};
use palisade_tests::until;

use super::door::{Door, HOST, TO_LEDGER, request, with};
use crate::kit::HTTP2;

const BY_ROLE: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admins, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{when: [{key: 'request.headers[x-role]', values: [admin]}]}, {to: [{operation: {hosts: [secret.example, 'secret.example:*']}}]}]}
";

/// CVE-2026-26308, CVE-2020-25017, CVE-2019-18802: a value that hides behind another one, or behind blanks.
#[tokio::test]
async fn repeated_and_padded_headers_do_not_slip_past_a_policy_of_the_edge() {
    let door = Door::open(&format!("{TO_LEDGER}---{BY_ROLE}")).await;
    for line in [
        "x-role: admin",
        "X-Role:admin",
        "x-role:\tadmin \t",
        "x-role: clerk\r\nx-role: admin",
        "x-role: admin\r\nx-role: clerk",
        "x-role: \r\nx-role: admin",
    ] {
        let text = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{line}\r\nconnection: close\r\n\r\n");
        let answer = door.raw(text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{line:?}: {answer}");
    }
    let roles: [&[&[u8]]; 4] = [&[b"admin"], &[b"clerk", b"admin"], &[b"admin", b"clerk"], &[b" admin\t"]];
    for values in roles {
        let mut fields: Vec<(&[u8], &[u8])> = vec![
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":path", b"/"),
            (b":authority", HOST.as_bytes()),
        ];
        fields.extend(values.iter().map(|value| (b"x-role".as_slice(), *value)));
        let mut connection = RawH2::open(door.connect(HTTP2).await).await;
        connection.send(&headers(1, true, &fields)).await;
        let outcome = connection.outcome(1).await;
        assert!(outcome == Outcome::Status(403) || outcome.is_refusal(), "{values:?}: {outcome:?}");
    }
    door.app().assert_untouched();
    assert_eq!(door.send(with(request("GET", "/", ""), &[("x-role", "clerk")])).await.status, StatusCode::OK);
}

/// CVE-2021-39155, and ports and the dot at the end, which name the same host.
#[tokio::test]
async fn no_spelling_of_a_denied_host_passes_the_edge() {
    let door = Door::open(&format!("{TO_LEDGER}---{BY_ROLE}")).await;
    for host in [
        "secret.example",
        "SECRET.Example",
        "secret.example:80",
        "secret.example:443",
        "secret.example.",
        "Secret.Example.:8080",
    ] {
        let text = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let mut socket = tokio::net::TcpStream::connect(door.plain()).await.unwrap();
        let answer = palisade_tests::client::raw(&mut socket, text.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 403"), "{host}: {}", String::from_utf8_lossy(&answer));
    }
    door.app().assert_untouched();
}

/// CVE-2024-45410, envoyproxy/envoy#44525: `Connection` names what the proxy is about to write, on an upgrade too.
#[tokio::test]
async fn connection_names_no_header_away_that_the_edge_writes_on_an_upgrade_either() {
    let door = Door::open(TO_LEDGER).await;
    for (upgrade, path) in
        [("", "/"), ("upgrade: websocket\r\n", "/upgrade"), ("upgrade: websocket\r\n", "/")]
    {
        door.app().clear();
        let text = format!(
            "GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}\
             connection: upgrade, x-forwarded-for, x-forwarded-proto, X-Forwarded-Client-Cert, x-request-id, host, x-mine\r\n\
             x-forwarded-for: 6.6.6.6\r\nx-forwarded-client-cert: URI=admin\r\nx-mine: 1\r\nkeep-alive: 5\r\n\
             te: gzip\r\nproxy-authorization: Basic eA==\r\ntrailer: host\r\n\r\n"
        );
        door.raw(text.as_bytes()).await;
        let headers = door.app().last().headers;
        let one = |name: &str| {
            let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values.len(), 1, "{upgrade}{path} {name}: {values:?}");
            values[0].to_owned()
        };
        assert_eq!(one("host"), HOST);
        assert_eq!(one("x-forwarded-for"), "127.0.0.1");
        assert_eq!(one("x-forwarded-proto"), "https");
        one("x-request-id");
        assert!(one("x-forwarded-client-cert").ends_with("/sa/edge"), "{headers:?}");
        for gone in ["x-mine", "keep-alive", "te", "proxy-authorization"] {
            assert!(!headers.contains_key(gone), "{upgrade}{path} {gone}: {headers:?}");
        }
    }
}

#[tokio::test]
async fn an_expected_continue_is_refused_at_the_edge_without_asking_for_the_body() {
    let door = super::framing::door().await;
    let head = format!("host: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let answer = door.raw(format!("POST /admin HTTP/1.1\r\n{head}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    door.app().assert_untouched();
}

/// A rule, a token's place and what its claims are written into, a limit's key, a route's choice and what it changes.
const JUDGED: [&str; 7] =
    ["x-role", "x-token", "x-user-id", "x-tenant", "x-version", "x-service-tier", "x-internal-id"];

fn judging() -> String {
    let routes = TO_LEDGER.replace(
        "{name: all,",
        "{name: v2, match: [{headers: {x-version: {exact: v2}}}], directResponse: {status: 204}},
         {name: all, headers: {request: {set: {x-service-tier: basic}, remove: [x-internal-id]}},",
    );
    format!(
        "{routes}---{BY_ROLE}---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  jwtRules:
  - issuer: https://auth.bank.example
    jwks: '{}'
    fromHeaders: [{{name: X-Token}}]
    outputClaimToHeaders: [{{header: x-user-id, claim: sub}}]
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {{name: tenants, namespace: payments}}
spec: {{selector: {{matchLabels: {{app: edge}}}}, limits: [{{name: tenants, key: [{{header: X-Tenant}}], limit: 100, window: 60s}}]}}
",
        Issuer::new("k1").jwks()
    )
}

#[tokio::test]
async fn what_policy_goes_by_arrives_neither_in_trailers_nor_under_another_spelling() {
    let door = Door::open(&judging()).await;
    let respelled: Vec<String> = JUDGED.iter().map(|name| name.replace('-', "_")).collect();
    let trailers: Vec<&str> = JUDGED.into_iter().chain(respelled.iter().map(String::as_str)).collect();
    // A token in another place than its own is refused.
    let aliases = respelled.iter().filter(|name| *name != "x_token");

    let line = |name: &str| format!("{}: forged\r\n", name.to_ascii_uppercase());
    let head: String = aliases.clone().map(|name| line(name)).collect();
    let text = format!(
        "POST /echo HTTP/1.1\r\nhost: {HOST}\r\n{head}x_plain: 1\r\nx-role: clerk\r\nconnection: close\r\n\
         trailer: {}, x-plain\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{}x-plain: 1\r\n\r\n",
        trailers.join(", "),
        trailers.iter().map(|name| line(name)).collect::<String>(),
    );
    let answer = door.raw(text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    nothing_forged_but_the_plain(&door).await;

    let fields = |names: &[&'static str]| -> Vec<(&'static [u8], &'static [u8])> {
        names.iter().map(|name| (name.as_bytes(), b"forged".as_slice())).collect()
    };
    let mut head: Vec<(&[u8], &[u8])> = vec![
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/echo"),
        (b":authority", HOST.as_bytes()),
        (b"te", b"trailers"),
        (b"trailer", b"x-plain"),
        (b"x_plain", b"1"),
    ];
    head.extend(aliases.map(|name| (name.as_bytes(), b"forged".as_slice())));
    let mut end = fields(&JUDGED);
    end.push((b"x-plain", b"1"));
    let mut connection = RawH2::open(door.connect(HTTP2).await).await;
    connection.send(&[headers(1, false, &head), data(1, false, b"a"), headers(1, true, &end)].concat()).await;
    assert_eq!(connection.outcome(1).await, Outcome::Status(200));
    nothing_forged_but_the_plain(&door).await;
}

async fn nothing_forged_but_the_plain(door: &Door) {
    until("the request's end", async || match door.app().received().last() {
        Some(one) if one.complete => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let received = door.app().last();
    door.app().clear();
    let all = format!("{:?} {:?}", received.headers, received.trailers);
    assert!(!all.contains("forged"), "{all}");
    assert_eq!(
        (&received.headers["x_plain"], &received.headers["x-service-tier"]),
        (&"1".parse().unwrap(), &"basic".parse().unwrap())
    );
    assert!(received.trailers.unwrap().contains_key("x-plain"), "{all}");
}

/// `Content_Length: 99` is `CONTENT_LENGTH` to CGI, as the real one is.
#[tokio::test]
async fn other_spellings_of_framing_and_of_what_ends_at_a_hop_do_not_go_on() {
    let door = Door::open(TO_LEDGER).await;
    let lines: String = [
        "Content_Length: 99",
        "transfer_encoding: chunked",
        "Keep_Alive: 5",
        "CONTENT_TYPE: text/html",
        "Proxy: evil",
    ]
    .map(|line| format!("{line}\r\n"))
    .concat();
    let text = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1\r\ncontent-type: text/plain\r\n{lines}connection: close\r\n\r\na"
    );
    assert!(door.raw(text.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let received = door.app().last();
    assert_eq!(received.body, b"a");
    assert_eq!(received.headers["content-type"], "text/plain");
    let strange = |name: &str| name.contains('_') || name == "proxy";
    assert!(!received.headers.keys().any(|name| strange(name.as_str())), "{:?}", received.headers);
}
