//! New certificates, drain, and connections that failed: no request is lost, none is made twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use palisade_policy::kind::service_entry::Protocol;
use palisade_proxy::drain::Phase;
use palisade_proxy::worker::Direction;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::{ALLOW_PUBLIC, DEADLINE, Pair, exchange, id, ledger, talk};

const CALL: &[u8] = b"GET /public/a HTTP/1.1\r\nhost: ledger\r\n\r\n";

#[tokio::test]
async fn identities_change_under_load_without_a_failed_request() {
    let pair = Pair::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let port = pair.caller.ledger_port();
    let calling: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(port).await.unwrap();
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = exchange(&mut stream, CALL).await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let first = async {
        while pair.app.heads().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, first).await.unwrap();
    for generation in 2..8 {
        let before = pair.app.heads().len();
        pair.caller.live.set_identity(pair.ca.identity(&id("payments"), generation));
        pair.callee.live.set_identity(pair.ca.identity(&id("ledger"), generation));
        // Some calls with each generation.
        let more = async {
            while pair.app.heads().len() < before + 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, more).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in calling {
        calls += caller.await.unwrap();
    }
    assert_eq!(pair.app.heads().len(), calls);
    // Generation by generation, and the old connections were let go.
    let metrics = pair.caller.telemetry.render_prometheus();
    let made = metrics.lines().find_map(|line| line.strip_prefix("palisade_upstream_connections_total "));
    assert_eq!(made, Some("7"));
    let closed = async {
        while !pair.caller.telemetry.render_prometheus().contains("palisade_upstream_connections_open 1\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_passed_over() {
    let pair = Pair::start().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoints = [closed, pair.callee.inbound()];
    pair.caller.apply(ALLOW_PUBLIC, &[ledger(&endpoints, &id("ledger"), Protocol::Http)]);
    for _ in 0..4 {
        let answer = talk(pair.caller.ledger_port(), CALL).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(pair.app.heads().len(), 4);
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    // An application that reads a request and closes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while crate::mesh::find(&head, b"\r\n\r\n").is_none() {
                if tokio::io::AsyncReadExt::read_buf(&mut stream, &mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let pair = Pair::with_app(address).await;
    let pay = b"POST /public/pay HTTP/1.1\r\nhost: ledger\r\ncontent-length: 2\r\n\r\nab";
    let answer = talk(pair.caller.ledger_port(), pay).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(taken.load(Ordering::Relaxed), 1);
    assert_eq!(pair.callee.records(1).await[0]["response_flags"], "UC");
}

#[tokio::test]
async fn draining_ends_accepting_and_lets_a_request_in_flight_finish() {
    let pair = Pair::start().await;
    let mut stream = TcpStream::connect(pair.caller.ledger_port()).await.unwrap();
    stream.write_all(b"POST /public/a HTTP/1.1\r\nhost: ledger\r\ncontent-length: 2\r\n\r\na").await.unwrap();
    let under_way = async {
        while pair.callee.activity.requests(Direction::Inbound) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, under_way).await.unwrap();
    pair.callee.phase.send_replace(Phase::Draining);
    let refused = async {
        while TcpStream::connect(pair.callee.inbound()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.unwrap();
    let answer = exchange(&mut stream, b"b").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tokio::time::timeout(DEADLINE, pair.callee.activity.idle()).await.unwrap();
}
