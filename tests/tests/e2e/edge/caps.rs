//! How many connections there may be, of one client and in all.

use std::net::SocketAddr;

use http::StatusCode;
use palisade_tests::client::{self, closed, connect_from};
use palisade_tests::outside::connect_over;
use palisade_tests::{Sidecar, SidecarBuilder, Upstream, World, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request};
use crate::PALISADE;
use crate::kit::{ALLOW_MESH, HTTP1, STRICT};

async fn door(options: impl FnOnce(SidecarBuilder) -> SidecarBuilder) -> Door {
    Door::with(&format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), options).await
}

/// A finished handshake from this address.
async fn enter(door: &Door, source: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = connect_from(source, door.edge.edge(443)).await?;
    connect_over(socket, HOST, door.outside.client(None, HTTP1)).await
}

/// A connection from this address comes to nothing. The reset may overtake the end of `connect`.
async fn assert_closed(source: &str, address: SocketAddr) {
    if let Ok(mut socket) = connect_from(source, address).await {
        closed(&mut socket).await;
    }
}

/// A request from this address, on a connection of its own.
async fn is_served(door: &Door, source: &str) -> bool {
    let Ok(stream) = enter(door, source).await else { return false };
    let answer = client::send_on(stream, request("GET", "/", "")).await;
    answer.is_ok_and(|answer| answer.status == StatusCode::OK)
}

async fn becomes_served(door: &Door, source: &str) {
    until("a client to be served", || async {
        if is_served(door, source).await { Ok(()) } else { Err("refused") }
    })
    .await;
}

async fn refused(edge: &Sidecar, direction: &str, reason: &str) -> u64 {
    let having = [&*format!("direction=\"{direction}\""), &*format!("reason=\"{reason}\"")];
    edge.metric("palisade_connections_refused_total", &having).await as u64
}

#[tokio::test]
async fn one_address_has_no_more_connections_than_its_cap_and_others_get_in() {
    let door = door(|edge| edge.arg("--connections-per-address", "3")).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(enter(&door, "127.0.0.2").await.unwrap());
    }
    assert_closed("127.0.0.2", door.edge.edge(443)).await;
    assert!(enter(&door, "127.0.0.2").await.is_err());
    assert!(is_served(&door, "127.0.0.3").await);
    assert_eq!(refused(&door.edge, "edge", "address_connections").await, 2);
    assert_eq!(door.edge.process.log().matches("too many connections").count(), 1);

    // Both listeners count as one, and what ends makes room.
    assert_closed("127.0.0.2", door.plain()).await;
    held.pop();
    becomes_served(&door, "127.0.0.2").await;
}

#[tokio::test]
async fn a_client_that_finishes_no_handshake_takes_no_more_than_its_cap() {
    let door = door(|edge| edge.arg("--handshakes-per-address", "2")).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(connect_from("127.0.0.2", door.edge.edge(443)).await.unwrap());
    }
    // Half a ClientHello is no handshake either.
    silent[0].write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    assert_closed("127.0.0.2", door.plain()).await;
    assert!(is_served(&door, "127.0.0.3").await);
    assert_eq!(refused(&door.edge, "edge", "address_handshakes").await, 1);
    silent.clear();
    let mut open = Vec::new();
    for _ in 0..4 {
        // Finished ones do not count.
        open.push(until("a handshake", || enter(&door, "127.0.0.2")).await);
    }
}

#[tokio::test]
async fn what_comes_on_top_of_the_caps_in_all_is_closed_at_once_instead_of_waiting() {
    let door = door(|edge| edge.arg("--connections-max", "3").arg("--handshakes-max", "2")).await;
    let silent = [
        connect_from("127.0.0.2", door.edge.edge(443)).await.unwrap(),
        connect_from("127.0.0.3", door.edge.edge(443)).await.unwrap(),
    ];
    assert_closed("127.0.0.4", door.edge.edge(443)).await;
    assert_eq!(refused(&door.edge, "edge", "handshakes").await, 1);
    drop(silent);
    becomes_served(&door, "127.0.0.4").await;
    let mut held = Vec::new();
    for source in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
        held.push(until("a handshake", || enter(&door, source)).await);
    }
    assert_closed("127.0.0.5", door.edge.edge(443)).await;
    assert!(refused(&door.edge, "edge", "connections").await >= 1);
    assert_eq!(door.edge.admin("/ready").await.status, StatusCode::OK);
    held.clear();
    becomes_served(&door, "127.0.0.5").await;
}

#[tokio::test]
async fn behind_a_load_balancer_that_tells_them_each_client_has_a_cap_of_its_own() {
    let options = |edge: SidecarBuilder| {
        edge.arg("--proxy-protocol-from", "127.0.0.0/8").arg("--connections-per-address", "2")
    };
    let door = door(options).await;
    let enter = async |client: &str| {
        let mut socket = TcpStream::connect(door.edge.edge(443)).await.unwrap();
        socket.write_all(format!("PROXY TCP4 {client} 10.0.0.1 80 443\r\n").as_bytes()).await.unwrap();
        connect_over(socket, HOST, door.outside.client(None, HTTP1)).await
    };
    let mut held = vec![enter("9.9.9.9").await.unwrap(), enter("9.9.9.9").await.unwrap()];
    assert!(enter("9.9.9.9").await.is_err());
    for _ in 0..2 {
        held.push(enter("9.9.9.8").await.unwrap());
    }
    assert_eq!(refused(&door.edge, "edge", "address_connections").await, 1);
    let last = held.pop().unwrap();
    assert_eq!(client::send_on(last, request("GET", "/", "")).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_peer_of_the_mesh_that_finishes_no_handshake_is_capped_at_a_sidecar_too() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("ledger").await;
    world.policy("policies.yaml", &format!("{STRICT}---{ALLOW_MESH}"));
    let builder = world.file_sidecar("payments/ledger").arg("--handshakes-per-address", "1");
    let sidecar = builder.serve_as(8080, "http", app.address()).start().await;
    let silent = connect_from("127.0.0.2", sidecar.inbound(8080)).await.unwrap();
    assert_closed("127.0.0.2", sidecar.inbound(8080)).await;
    assert_eq!(refused(&sidecar, "inbound", "address_handshakes").await, 1);
    drop(silent);
}

#[tokio::test]
async fn an_edge_without_file_descriptors_accepts_again_when_it_has_some() {
    let door = door(|edge| edge.open_files(64)).await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(TcpStream::connect(door.edge.edge(443)).await.unwrap());
    }
    until("the edge to run out of descriptors", || async {
        let log = door.edge.process.log();
        if log.contains("cannot accept") { Ok(()) } else { Err(log) }
    })
    .await;
    drop(flood);
    becomes_served(&door, "127.0.0.1").await;
}
