//! Bytes over TLS that two readers could cut into requests differently: refused at the edge, and nothing of them goes on.

use palisade_tests::client;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::door::{Door, HOST, TO_LEDGER};
use crate::framing::{AMBIGUOUS, statuses};
use crate::kit::HTTP1;

/// What no client of the edge may have. An attacker who hides a request wants exactly this one.
pub(super) const NO_ADMIN: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: payments}
spec: {selector: {matchLabels: {app: edge}}, action: DENY, rules: [{to: [{operation: {paths: ['/admin', '/admin/*']}}]}]}
";

const HIDDEN: &str = "GET /admin HTTP/1.1\r\nhost: api.bank.example\r\n\r\n";

pub(super) async fn door() -> Door {
    Door::open(&format!("{TO_LEDGER}---{NO_ADMIN}")).await
}

/// A second request, where the first one is not refused, would be answered: one answer means that nobody read it.
#[tokio::test]
async fn ambiguous_framing_is_refused_at_the_edge_and_hides_no_second_request() {
    let door = door().await;
    let two_framings = [
        ("chunks, then a length", "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{}"),
        ("a length, then chunks", "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{}"),
        ("a length of 0, then chunks", "content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{}"),
        ("equal lengths", "content-length: 4\r\ncontent-length: 4\r\n\r\nabcd{}"),
        ("list of equal lengths", "content-length: 4, 4\r\n\r\nabcd{}"),
        ("empty length", "content-length:\r\n\r\n{}"),
        ("gzip before chunked", "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n{}"),
        ("chunked in quotes", "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n{}"),
        ("empty coding", "transfer-encoding:\r\n\r\n0\r\n\r\n{}"),
        ("coding that is folded", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{}"),
        ("bare LF between fields", "x-a: 1\ncontent-length: 0\r\n\r\n{}"),
        ("bare LF ends the head", "x-a: 1\r\n\n{}"),
        ("a line without a colon", "content-length 4\r\n\r\n{}"),
        ("a name with a blank", "content length: 4\r\n\r\n{}"),
        ("chunk size without digits", "transfer-encoding: chunked\r\n\r\n;a\r\n{}"),
        ("a blank before a chunk size", "transfer-encoding: chunked\r\n\r\n 0\r\n\r\n{}"),
        ("an underscore in a chunk size", "transfer-encoding: chunked\r\n\r\n0_1\r\na\r\n0\r\n\r\n{}"),
        ("bare CR after a chunk size", "transfer-encoding: chunked\r\n\r\n0\r\r\n\r\n{}"),
        ("bare LF after the last chunk", "transfer-encoding: chunked\r\n\r\n0\n\r\n{}"),
        ("bare LF after a trailer", "transfer-encoding: chunked\r\n\r\n0\r\nx-a: 1\n\r\n{}"),
        ("a folded trailer", "transfer-encoding: chunked\r\n\r\n0\r\nx-a: 1\r\n b\r\n\r\n{}"),
        ("bare LF ends a chunk", "transfer-encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n{}"),
    ];
    for (what, rest) in AMBIGUOUS.iter().chain(&two_framings) {
        door.app().clear();
        let rest = rest.replace("{}", HIDDEN);
        let answer = door.raw(format!("POST /public HTTP/1.1\r\nhost: {HOST}\r\n{rest}").as_bytes()).await;
        assert_eq!(statuses(&answer), ["400"], "{what}: {answer}");
        for received in door.app().received() {
            assert!(received.target == "/public" && !received.complete, "{what}: {received:?}");
        }
    }
}

/// The verdict must not depend on how the bytes arrive: what was passed on before the bad byte came is no request yet.
#[tokio::test]
async fn ambiguous_bytes_that_come_one_by_one_are_refused_alike() {
    let door = door().await;
    for rest in [
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "x-a: 1\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0;a=\nb\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0\r\nx-a: 1\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0;a\n\r\n\r\n",
    ] {
        door.app().clear();
        let mut stream = door.connect(HTTP1).await;
        let text = format!("POST /public HTTP/1.1\r\nhost: {HOST}\r\n{rest}");
        let (head, tail) = text.split_at(text.len() - rest.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        for byte in tail.bytes() {
            // The edge may have closed by now.
            let _closed = stream.write_all(&[byte]).await;
            let _closed = stream.flush().await;
            tokio::task::yield_now().await;
        }
        let answer = client::raw(&mut stream, HIDDEN.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(statuses(&answer), ["400"], "{rest:?}: {answer}");
        assert!(
            door.app().received().iter().all(|one| !one.complete),
            "{rest:?}: {:?}",
            door.app().received()
        );
    }
}

#[tokio::test]
async fn request_lines_and_hosts_that_are_not_plain_are_refused_at_the_edge() {
    let door = door().await;
    let rows = [
        (
            "HTTP/1.0 with chunks",
            "POST / HTTP/1.0\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("no host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: {}\r\nhost: other.example\r\n\r\n"),
        ("two equal hosts", "GET / HTTP/1.1\r\nhost: {}\r\nhost: {}\r\n\r\n"),
        ("empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n"),
        ("host with a path", "GET / HTTP/1.1\r\nhost: {}/admin\r\n\r\n"),
        ("host with user information", "GET / HTTP/1.1\r\nhost: me@{}\r\n\r\n"),
        ("host with a blank", "GET / HTTP/1.1\r\nhost: {} other.example\r\n\r\n"),
        ("absolute-form of another host", "GET https://other.example/ HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("absolute-form of another port", "GET https://{}:444/ HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("absolute-form with user information", "GET https://me@{}/ HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("authority-form", "GET {} HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("asterisk-form", "OPTIONS * HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("no leading slash", "GET admin HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a fragment", "GET /admin#x HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("two blanks", "GET  / HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a tab", "GET\t/ HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a blank in the path", "GET /a b HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a blank at the end", "GET / HTTP/1.1 \r\nhost: {}\r\n\r\n"),
        ("a method with a blank", "GE T / HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a NUL in the path", "GET /a\0b HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a leading empty line", "\r\nGET / HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("a leading blank", " GET / HTTP/1.1\r\nhost: {}\r\n\r\n"),
        ("HTTP/0.9", "GET /\r\n\r\n"),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nhost: {}\r\n\r\n"),
        ("HTTP/2.0", "GET / HTTP/2.0\r\nhost: {}\r\n\r\n"),
        ("http/1.1", "GET / http/1.1\r\nhost: {}\r\n\r\n"),
        ("a NUL in a header", "GET / HTTP/1.1\r\nhost: {}\r\nx-a: 1\x002\r\n\r\n"),
        ("an escape character in a header", "GET / HTTP/1.1\r\nhost: {}\r\nx-a: 1\x1b2\r\n\r\n"),
        ("a header before its name", "GET / HTTP/1.1\r\n x-a: 1\r\nhost: {}\r\n\r\n"),
        ("CONNECT", "CONNECT {}:443 HTTP/1.1\r\nhost: {}:443\r\n\r\n"),
        ("TRACE", "TRACE / HTTP/1.1\r\nhost: {}\r\n\r\n"),
    ];
    for (what, text) in rows {
        let text = text.replace("{}", HOST);
        let answer = door.raw(format!("{text}{HIDDEN}").as_bytes()).await;
        let refused = [" 400 ", " 405 "].iter().any(|status| answer.get(8..13) == Some(status));
        assert!(refused && answer.matches("HTTP/1.").count() == 1, "{what}: {answer}");
        let received = door.app().received();
        assert!(received.is_empty(), "{what}: {received:?}");
    }
    // Plaintext is read alike.
    let mut socket = TcpStream::connect(door.plain()).await.unwrap();
    let text = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    );
    let answer = client::raw(&mut socket, text.as_bytes()).await;
    assert_eq!(statuses(&String::from_utf8_lossy(&answer)), ["400"]);
    door.app().assert_untouched();
}

#[tokio::test]
async fn absolute_form_of_the_same_host_is_served_and_forwarded_in_origin_form() {
    let door = door().await;
    for (target, expected) in
        [("https://{}/a/../b?c=d", "/b?c=d"), ("https://{}", "/"), ("http://{}?x=1", "/?x=1")]
    {
        let target = target.replace("{}", HOST);
        let text = format!("GET {target} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let answer = door.raw(text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
        assert_eq!(door.app().last().target, expected, "{target}");
        assert_eq!(door.app().last().headers["host"], HOST);
    }
}

#[tokio::test]
async fn pipelined_requests_are_judged_one_by_one_at_the_edge() {
    let door = door().await;
    let text = format!(
        "GET /public HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n{HIDDEN}{HIDDEN}\
         GET /public HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n",
        HIDDEN.len()
    );
    let answer = door.raw(text.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200", "403", "200"], "{answer}");
    let received = door.app().received();
    assert!(received.len() == 2 && received.iter().all(|one| one.target == "/public"), "{received:?}");
    assert_eq!(received[0].body, HIDDEN.as_bytes());
}

/// RUSTSEC-2025-0037, RUSTSEC-2026-0033, CVE-2024-23326: what stands behind a refused body or a refused upgrade.
#[tokio::test]
async fn what_follows_a_refused_body_or_upgrade_is_never_taken_for_a_request() {
    let door = door().await;
    let length = HIDDEN.len();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let rows = [
        (
            "refused body",
            format!("POST /admin HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        ),
        ("refused upgrade", format!("GET /admin HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}\r\n{HIDDEN}")),
        ("upgrade answered 200", format!("GET /public HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}\r\n{HIDDEN}")),
        (
            "upgrade answered 404",
            format!("GET /status/404 HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}\r\n{HIDDEN}"),
        ),
        (
            "upgrade with a body",
            format!(
                "POST /public HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}content-length: {length}\r\n\r\n{HIDDEN}"
            ),
        ),
    ];
    for (what, text) in rows {
        door.app().clear();
        let answer = door.raw(text.as_bytes()).await;
        assert!(!answer.contains("HTTP/1.1 101") && statuses(&answer).len() == 1, "{what}: {answer}");
        assert!(door.app().received().iter().all(|one| one.target != "/admin"), "{what}");
    }
}

/// Only one of two readers would take the connection for a WebSocket, and stop looking.
#[tokio::test]
async fn an_upgrade_in_two_lines_does_not_blind_the_reader_of_frames() {
    let door = door().await;
    for lines in [
        "upgrade: h2c\r\nupgrade: websocket\r\n",
        "upgrade: websocket\r\nupgrade: h2c\r\n",
        "upgrade: h2c, websocket\r\n",
    ] {
        door.app().clear();
        let text = format!(
            "GET /public HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\n{lines}\r\n\
             POST /public HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
        );
        let answer = door.raw(text.as_bytes()).await;
        assert_eq!(statuses(&answer), ["200", "400"], "{lines}: {answer}");
        let received = door.app().received();
        assert_eq!(received.len(), 1, "{lines}: {received:?}");
        assert!(!received[0].headers.contains_key("upgrade"), "{received:?}");
    }
}

#[tokio::test]
async fn a_wish_for_h2c_is_ignored_and_does_not_go_on() {
    let door = door().await;
    let h2c = "upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    for connection in ["connection: Upgrade, HTTP2-Settings\r\n", "connection: Upgrade\r\n", ""] {
        let text = format!(
            "GET /public HTTP/1.1\r\nhost: {HOST}\r\n{connection}{h2c}\r\n{HIDDEN}GET /last HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
        );
        door.app().clear();
        let answer = door.raw(text.as_bytes()).await;
        assert_eq!(statuses(&answer), ["200", "403", "200"], "{connection}: {answer}");
        for received in door.app().received() {
            for gone in ["upgrade", "http2-settings", "connection"] {
                assert!(!received.headers.contains_key(gone), "{connection}: {:?}", received.headers);
            }
        }
    }
}

#[tokio::test]
async fn heads_over_the_limits_leave_a_record_each_and_the_edge_goes_on() {
    let door = door().await;
    let long = "a".repeat(256 * 1024);
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (what, head, status, reason) in [
        (
            "long header",
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {long}\r\n\r\n"),
            431,
            "head_too_large",
        ),
        ("long path", format!("GET /{long} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"), 431, "head_too_large"),
        ("many headers", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{many}\r\n"), 431, "head_too_large"),
        ("bad line", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx\r\n\r\n"), 400, "request_malformed"),
    ] {
        let records = door.edge.records().len();
        let answer = door.raw(head.as_bytes()).await;
        assert!(answer.is_empty() || statuses(&answer) == [status.to_string()], "{what}: {answer}");
        door.app().assert_untouched();
        palisade_tests::until("the record", async || {
            if door.edge.records().len() == records + 1 { Ok(()) } else { Err(()) }
        })
        .await;
        let record = door.edge.records().pop().unwrap();
        assert_eq!((&record["response_code"], &record["reason"]), (&json!(status), &json!(reason)), "{what}");
        assert_eq!(record["requested_server_name"], HOST, "{what}");
        assert_eq!(record["response_flags"], "DPE", "{what}");
    }
    assert!(door.edge.metric("istio_requests_total", &["response_code=\"431\""]).await >= 3.0);
    assert!(door.get("/public").await.status.is_success());
}
