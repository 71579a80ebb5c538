//! Who a client is said to be, and who is believed.

use http::{HeaderName, StatusCode};
use palisade_tests::{client, outside, until};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request, with};
use crate::kit::HTTP1;

/// Headers by which a client could pass for somebody else, under several spellings.
const FORGED: &[(&str, &str)] = &[
    ("x-forwarded-for", "6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-host", "evil.example"),
    ("forwarded", "for=6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("x_real_ip", "6.6.6.6"),
    ("true-client-ip", "6.6.6.6"),
    ("x-forwarded-client-cert", "URI=spiffe://test.mesh/ns/payments/sa/admin"),
    ("x-palisade-flagged", "payments/a/b"),
    ("x_palisade_flagged", "payments/a/b"),
    ("x-envoy-original-path", "/admin"),
    ("x-http-method-override", "DELETE"),
    ("x-request-id", "chosen"),
    ("x_request_id", "chosen"),
];

#[tokio::test]
async fn what_a_client_says_about_where_it_comes_from_reaches_nobody() {
    let door = Door::open(TO_LEDGER).await;
    let mut forged = FORGED.to_vec();
    // Naming our own headers as hop-by-hop must not remove what we set.
    forged.push(("connection", "x-forwarded-for, x-forwarded-client-cert, x-request-id, close"));
    assert_eq!(door.send(with(request("GET", "/", ""), &forged)).await.status, StatusCode::OK);
    let headers = door.app().last().headers;
    let all = format!("{headers:?}");
    for trace in ["6.6.6.6", "evil.example", "sa/admin", "payments/a/b", "/admin", "DELETE", "chosen"] {
        assert!(!all.contains(trace), "{trace}: {all}");
    }
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-host"], HOST);
    assert!(!headers.contains_key("x_forwarded_for") && !headers.contains_key("x_request_id"));
    assert_eq!(headers.get_all("x-request-id").iter().count(), 1);
    let record = door.edge.records_with(1, &[("response_code", json!(200))]).await.remove(0);
    assert_eq!(record["client_address"], "127.0.0.1");
}

/// Every name by which somebody could be meant, or a place, or another request than the one that was judged.
const CLAIMS: &[&str] = &[
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-user",
    "x-forwarded-client-cert",
    "forwarded",
    "via",
    "client-ip",
    "fastly-client-ip",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-remote-addr",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-host",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "client-cert",
    "client-cert-chain",
    "ssl-client-cert",
    "ssl-client-verify",
    "x-ssl-client-verify",
    "x-client-cert",
    "x-arr-clientcert",
    "remote-user",
    "x-remote-user",
    "x-webauth-user",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-data",
    "x-amzn-mtls-clientcert",
    "x-goog-authenticated-user-email",
    "x-ms-client-principal-name",
    "proxy",
    "x-envoy-internal",
    "x-envoy-external-address",
    "x-palisade-flagged",
    "x-palisade-decision-id",
    "x-request-id",
];

/// As CGI, WSGI and Rack read them, all spellings are one.
fn spellings(name: &str) -> [String; 5] {
    let first = name.replacen('-', "_", 1);
    let upper = |text: &str| text.to_ascii_uppercase();
    [name.to_owned(), upper(name), name.replace('-', "_"), upper(&name.replace('-', "_")), first]
}

#[tokio::test]
async fn no_spelling_of_a_claim_reaches_a_service_in_headers_or_in_trailers() {
    let door = Door::open(TO_LEDGER).await;
    // As many as a head may have lines.
    for claims in CLAIMS.chunks(16) {
        let spelled: Vec<String> = claims.iter().flat_map(|name| spellings(name)).collect();
        let lines: String = spelled.iter().map(|name| format!("{name}: forged\r\n")).collect();
        let names = spelled.join(", ");
        for connection in ["close".to_owned(), format!("close, {names}")] {
            let head = format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\nconnection: {connection}\r\n{lines}");
            let body = format!(
                "transfer-encoding: chunked\r\ntrailer: {names}, x-plain\r\n\r\n1\r\na\r\n0\r\n{lines}x-plain: 1\r\n\r\n"
            );
            let answer = door.raw(format!("{head}{body}").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{claims:?}: {answer}");
            nothing_forged(&door, claims).await;
        }
        let mut request = super::door::request_h2("POST", HOST, "/echo", "a");
        for name in &spelled {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, "forged".parse().unwrap());
        }
        assert_eq!(door.send_h2(request).await.status, StatusCode::OK, "{claims:?}");
        nothing_forged(&door, claims).await;
    }
}

async fn nothing_forged(door: &Door, claims: &[&str]) {
    until(
        "the body's end",
        async || if door.app().last().complete { Ok(()) } else { Err(door.app().last()) },
    )
    .await;
    let received = door.app().last();
    let all = format!("{:?} {:?}", received.headers, received.trailers);
    assert!(!all.contains("forged"), "{claims:?}: {all}");
}

#[tokio::test]
async fn what_a_load_balancer_says_of_a_user_arrives_only_where_one_is_trusted() {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    for (hops, arrives) in [("0", false), ("1", true)] {
        let door = Door::with(&documents, |edge| edge.arg("--trusted-hops", hops)).await;
        let said =
            [("x-forwarded-for", "1.1.1.1"), ("x-amzn-oidc-identity", "alice"), ("remote-user", "alice")];
        assert_eq!(door.send(with(request("GET", "/", ""), &said)).await.status, StatusCode::OK);
        let headers = door.app().last().headers;
        assert_eq!(headers.contains_key("x-amzn-oidc-identity"), arrives, "{hops}: {headers:?}");
        assert!(!headers.contains_key("remote-user"), "{hops}: {headers:?}");
    }
}

#[tokio::test]
async fn behind_one_trusted_proxy_the_client_is_the_address_that_it_wrote_and_no_other() {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let door = Door::with(&documents, |edge| edge.arg("--trusted-hops", "1")).await;
    let said = [("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-proto", "http,https")];
    let answer = door.send_plain(with(request("GET", "/", ""), &said)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let headers = door.app().last().headers;
    assert_eq!(headers["x-forwarded-for"], "2.2.2.2, 127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "https");
    let record = door.edge.records_with(1, &[("client_address", json!("2.2.2.2"))]).await.remove(0);
    assert!(record["source_address"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn policies_judge_the_client_behind_trusted_proxies_by_remote_ip_blocks() {
    let policy = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: ALLOW, rules: [{from: [{source: {remoteIpBlocks: [2.2.2.0/24]}}]}]}
";
    let documents = format!("{GATEWAY}---{policy}---{TO_LEDGER}");
    let door = Door::with(&documents, |edge| edge.arg("--trusted-hops", "1")).await;
    let ask = async |list: &str| {
        door.send_plain(with(request("GET", "/", ""), &[("x-forwarded-for", list)])).await.status
    };
    assert_eq!(ask("2.2.2.2, 1.1.1.1").await, StatusCode::FORBIDDEN);
    assert_eq!(ask("1.1.1.1, 3.3.3.3").await, StatusCode::FORBIDDEN);
    door.app().assert_untouched();
    assert_eq!(ask("1.1.1.1, 2.2.2.2").await, StatusCode::OK);
}

/// A PROXY header of version 2 for 9.9.9.9, with these TLVs.
fn v2(tlvs: &[u8]) -> Vec<u8> {
    let addresses = [9, 9, 9, 9, 10, 0, 0, 1, 0, 80, 1, 187];
    let length = u8::try_from(addresses.len() + tlvs.len()).unwrap();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".as_slice(), &[length], &addresses, tlvs].concat()
}

#[tokio::test]
async fn a_proxy_header_is_believed_from_listed_peers_and_demanded_of_them() {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let door = Door::with(&documents, |edge| edge.arg("--proxy-protocol-from", "127.0.0.0/8")).await;
    // The second one with a TLV and a checksum.
    let checked = b"\xea\0\x01\x01\x03\0\x04\x98\xf4\xb5\x31";
    for header in [b"PROXY TCP4 9.9.9.9 10.0.0.1 80 443\r\n".to_vec(), v2(b""), v2(checked)] {
        let mut socket = TcpStream::connect(door.edge.edge(443)).await.unwrap();
        socket.write_all(&header).await.unwrap();
        let stream = outside::connect_over(socket, HOST, door.outside.client(None, HTTP1)).await.unwrap();
        assert_eq!(client::send_on(stream, request("GET", "/", "")).await.unwrap().status, StatusCode::OK);
        assert_eq!(door.app().last().headers["x-forwarded-for"], "9.9.9.9");
    }
    door.app().clear();
    assert!(
        outside::connect(door.edge.edge(443), HOST, door.outside.client(None, HTTP1)).await.is_err(),
        "a listed peer without a PROXY header was served"
    );
    door.edge.records_with(1, &[("reason", json!("proxy_header_missing"))]).await;
    let mut socket = TcpStream::connect(door.plain()).await.unwrap();
    let bytes = b"PROXY TCP4 9.9.9.9 1.1.1 1 1\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(client::raw(&mut socket, bytes).await.is_empty());
    // TLVs that reach over the end, end within their own head, or have a checksum of something else.
    for tlvs in [b"\xea\0\xff\x01".as_slice(), b"\xea\0", b"\x03\0\x04\0\0\0\0"] {
        let bytes = [&v2(tlvs)[..], b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        let mut socket = TcpStream::connect(door.plain()).await.unwrap();
        assert!(client::raw(&mut socket, &bytes).await.is_empty(), "{tlvs:?}");
    }
    door.edge.records_with(4, &[("reason", json!("proxy_header_malformed"))]).await;
    door.app().assert_untouched();
}

#[tokio::test]
async fn a_proxy_header_from_anybody_else_ends_the_connection() {
    let door = Door::open(TO_LEDGER).await;
    for header in [b"PROXY TCP4 9.9.9.9 10.0.0.1 80 443\r\n".to_vec(), v2(b"")] {
        let request = b"GET / HTTP/1.1\r\nhost: api.bank.example\r\n\r\n";
        let mut socket = TcpStream::connect(door.plain()).await.unwrap();
        let answer = client::raw(&mut socket, &[&header, request.as_slice()].concat()).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        let mut socket = TcpStream::connect(door.edge.edge(443)).await.unwrap();
        socket.write_all(&header).await.unwrap();
        assert!(outside::connect_over(socket, HOST, door.outside.client(None, HTTP1)).await.is_err());
    }
    door.app().assert_untouched();
}

#[tokio::test]
async fn a_connect_request_opens_nothing() {
    let door = Door::open(TO_LEDGER).await;
    let answer =
        door.raw(b"CONNECT ledger.payments:8080 HTTP/1.1\r\nhost: ledger.payments:8080\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    door.app().assert_untouched();
}
