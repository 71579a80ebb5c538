//! WebSocket through two sidecars: tunnelled after 101 only, and closed when policy says so.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mesh::{ALLOW_PUBLIC, App, DEADLINE, Pair, exchange};

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn upgrade(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: ledger\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
}

async fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut bytes)).await.unwrap().unwrap_or(0);
    bytes.truncate(read);
    bytes
}

/// An application that switches and then echoes.
async fn echo() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while crate::mesh::find(&head, b"\r\n\r\n").is_none() {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _sent = stream.write_all(SWITCHED.as_bytes()).await;
                let (mut read, mut write) = stream.split();
                let _copied = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_websocket_passes_two_sidecars_and_ends_when_policy_no_longer_allows_it() {
    let pair = Pair::with_app(echo().await).await;
    let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
    let answer = exchange(&mut stream, upgrade("/public/chat").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("upgrade: websocket"), "{answer}");
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(read_some(&mut stream).await, b"ping");

    // A push that still allows it changes nothing.
    pair.apply(ALLOW_PUBLIC);
    stream.write_all(b"pong").await.unwrap();
    assert_eq!(read_some(&mut stream).await, b"pong");

    pair.apply(&ALLOW_PUBLIC.replace("/public/*", "/other"));
    assert_eq!(read_some(&mut stream).await, b"");
    let record = &pair.callee.records(1).await[0];
    assert_eq!(record["response_code"], 101);
    assert_eq!(record["bytes_received"], 8);
    assert_eq!(record["response_code_details"], "closed_by_policy_change");
}

#[tokio::test]
async fn an_answer_other_than_101_makes_no_tunnel_and_what_came_behind_is_never_sent() {
    let app = App::start().await;
    let pair = Pair::with_app(app.address).await;
    let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
    let smuggled =
        format!("{}GET /public/smuggled HTTP/1.1\r\nhost: ledger\r\n\r\n", upgrade("/public/chat"));
    let answer = exchange(&mut stream, smuggled.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(read_some(&mut stream).await, b"");
    assert_eq!(app.heads().len(), 1);
}

#[tokio::test]
async fn a_refused_or_foreign_upgrade_is_no_tunnel() {
    let pair = Pair::with_app(echo().await).await;
    let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
    let answer = exchange(&mut stream, upgrade("/admin").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    // The application switches unasked, since another protocol's wish was removed on the way.
    let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
    let other = upgrade("/public/a").replace("websocket", "h2c");
    let answer =
        tokio::time::timeout(Duration::from_secs(5), exchange(&mut stream, other.as_bytes())).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}
