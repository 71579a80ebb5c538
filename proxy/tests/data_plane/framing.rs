//! Smuggling on raw sockets: what is ambiguous gets 400 and a closed connection, and the application sees nothing.

use tokio::net::TcpStream;

use crate::mesh::{Pair, connect, exchange, id};

fn requests() -> Vec<String> {
    let mut rows: Vec<String> = [
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "content-length: 5,5",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding : chunked",
        "x: a\r\n folded",
        "x: a\nb: c",
        "x: a\0b",
        "host: other",
    ]
    .map(|lines| format!("POST /public/a HTTP/1.1\r\nhost: ledger\r\n{lines}\r\n\r\n"))
    .into();
    rows.extend(
        [
            "POST /public/a HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET /public/a HTTP/1.1\r\n\r\n",
            "GET http://other/public/a HTTP/1.1\r\nhost: ledger\r\n\r\n",
            "GET /public/%2fadmin HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /public/%00 HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /public/a HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "\r\nGET /public/a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /public/a HTTP/1.1\nhost: a\n\n",
        ]
        .map(Into::into),
    );
    rows
}

#[tokio::test]
async fn an_ambiguous_request_is_refused_on_the_way_in() {
    let pair = Pair::start().await;
    for request in requests() {
        let mut stream = connect(&pair.ca, &id("payments"), &pair.callee, &[b"http/1.1"]).await;
        let answer = exchange(&mut stream, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        let after = exchange(&mut stream, b"GET /public/after HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(after, "", "{request:?}");
    }
    assert_eq!(pair.app.heads(), Vec::<String>::new());
    for record in pair.callee.records(requests().len()).await {
        assert_eq!(record["decision"], "failed", "{record}");
        assert_eq!(record["response_flags"], "DPE", "{record}");
    }
}

#[tokio::test]
async fn an_ambiguous_request_is_refused_on_the_way_out() {
    let pair = Pair::start().await;
    for request in requests() {
        let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
        let answer = exchange(&mut stream, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
    }
    assert_eq!(pair.app.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn pipelined_requests_are_judged_one_by_one() {
    let pair = Pair::start().await;
    let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
    let two = "POST /public/a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(exchange(&mut stream, two.as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert!(exchange(&mut stream, b"").await.starts_with("HTTP/1.1 403"));
    assert_eq!(pair.app.heads().len(), 1);
}

#[tokio::test]
async fn a_refusal_comes_without_100_continue_and_before_the_body_is_read() {
    let pair = Pair::start().await;
    let mut stream = connect(&pair.ca, &id("payments"), &pair.callee, &[b"http/1.1"]).await;
    let request =
        "POST /admin HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    let answer = exchange(&mut stream, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_header_of_ours_cannot_be_removed_by_naming_it_in_connection() {
    let pair = Pair::start().await;
    let request = "GET /public/a HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-client-cert, keep-alive\r\n\
                   connection: x-secret\r\nx-secret: 1\r\nkeep-alive: 5\r\n\r\n";
    let mut stream = connect(&pair.ca, &id("payments"), &pair.callee, &[b"http/1.1"]).await;
    assert!(exchange(&mut stream, request.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let head = &pair.app.heads()[0];
    assert!(head.contains("x-forwarded-client-cert: by="), "{head}");
    assert!(!head.contains("x-secret") && !head.contains("keep-alive"), "{head}");
}
