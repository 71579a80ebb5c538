//! How many requests of one client may be under way.

use http::StatusCode;
use palisade_tests::client::{self, connect_from};
use palisade_tests::outside::connect_over;
use palisade_tests::raw_h2::{END_STREAM, HEADERS, RST_STREAM, RawH2, SETTINGS, frame, headers};
use palisade_tests::{SidecarBuilder, until};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request, with};
use super::floods::{Field, GET};
use crate::kit::{HTTP1, HTTP2};

type Raw = RawH2<TlsStream<TcpStream>>;

async fn door(options: impl FnOnce(SidecarBuilder) -> SidecarBuilder) -> Door {
    Door::with(&format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), options).await
}

/// A GET that is answered in a minute.
fn slow(more: &[Field<'static>]) -> Vec<Field<'static>> {
    let mut fields = GET.to_vec();
    fields[2] = (b":path", b"/slow/60000");
    fields.extend_from_slice(more);
    fields
}

async fn enter(door: &Door, source: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let socket = connect_from(source, door.edge.edge(443)).await.unwrap();
    connect_over(socket, HOST, door.outside.client(None, alpn)).await.unwrap()
}

/// One request from this address, on a connection of its own.
async fn ask(door: &Door, source: &str) -> client::Answer {
    client::send_on(enter(door, source, HTTP1).await, request("GET", "/", "")).await.unwrap()
}

async fn until_under_way(door: &Door, wanted: usize) {
    until("requests at the service", || async {
        let count = door.app().received().len();
        if count == wanted { Ok(()) } else { Err(count) }
    })
    .await;
}

fn assert_too_many(answer: &client::Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("content-type"), None);
    assert!(answer.body.is_empty() && answer.header("x-palisade-decision-id").is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_client_over_its_cap_of_requests_gets_503_while_another_address_is_served() {
    let door = door(|edge| edge.arg("--requests-per-address", "3")).await;
    let mut waiting: Raw = RawH2::open(enter(&door, "127.0.0.2", HTTP2).await).await;
    for stream in [1, 3, 5] {
        waiting.send(&headers(stream, true, &slow(&[]))).await;
    }
    until_under_way(&door, 3).await;
    door.app().clear();

    // On another connection, and through another listener.
    assert_too_many(&ask(&door, "127.0.0.2").await);
    let plain = connect_from("127.0.0.2", door.plain()).await.unwrap();
    assert_too_many(&client::send_on(plain, request("POST", "/", "a body")).await.unwrap());
    door.app().assert_untouched();
    assert_eq!(ask(&door, "127.0.0.3").await.status, StatusCode::OK);

    let fields = [("reason", json!("address_requests")), ("client_address", json!("127.0.0.2"))];
    let records = door.edge.records_with(2, &fields).await;
    assert!(records.iter().all(|record| record["response_flags"] == "OM" && record["decision"] == "failed"));
    let counted = door.edge.metric("palisade_requests_ended_total", &["reason=\"address_requests\""]).await;
    assert_eq!(counted, 2.0);

    // With one less there is room for one more.
    waiting.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    until("room", || async {
        let answer = ask(&door, "127.0.0.2").await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.status) }
    })
    .await;
}

#[tokio::test]
async fn refusals_that_their_client_does_not_read_keep_nobody_out() {
    let options =
        |edge: SidecarBuilder| edge.workers(1).arg("--requests-max", "20").arg("--requests-per-address", "2");
    let door = door(options).await;
    let mut flood: Raw = RawH2::open(enter(&door, "127.0.0.2", HTTP2).await).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: no byte of any body can be sent.
    flood.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    for stream in [1, 3] {
        flood.send(&headers(stream, true, &slow(&[]))).await;
    }
    until_under_way(&door, 2).await;
    // Refused for the number, and refused for the path: neither takes more than the client's share.
    let mut ambiguous = GET.to_vec();
    ambiguous[2] = (b":path", b"/a%00b");
    for stream in (5..=83).step_by(2) {
        let fields = if stream % 4 == 1 { slow(&[]) } else { ambiguous.clone() };
        flood.send(&headers(stream, true, &fields)).await;
    }
    let mut refused = 0;
    while refused < 40 {
        let (kind, flags, ..) = flood.next().await.expect("the connection stays");
        refused += u32::from(kind == HEADERS && flags & END_STREAM != 0);
    }
    assert_eq!(ask(&door, "127.0.0.3").await.status, StatusCode::OK);
    door.edge.records_with(40, &[("reason", json!("address_requests"))]).await;
}

#[tokio::test]
async fn behind_a_load_balancer_of_layer_7_each_client_that_it_names_has_a_cap_of_its_own() {
    let options = |edge: SidecarBuilder| edge.arg("--trusted-hops", "1").arg("--requests-per-address", "2");
    let door = door(options).await;
    let mut balancer: Raw = RawH2::open(door.connect(HTTP2).await).await;
    let of = |client: &'static [u8]| slow(&[(b"x-forwarded-for", client)]);
    balancer.send(&headers(1, true, &of(b"9.9.9.9, 2001:db8::1"))).await;
    balancer.send(&headers(3, true, &of(b"2001:db8::2"))).await;
    until_under_way(&door, 2).await;
    let ask =
        async |client: &str| door.send(with(request("GET", "/", ""), &[("x-forwarded-for", client)])).await;
    assert_too_many(&ask("2001:db8::3").await);
    // Neither the next subnet, nor whom the client has named itself.
    for other in ["2001:db8:0:1::1", "9.9.9.9", "127.0.0.1"] {
        assert_eq!(ask(other).await.status, StatusCode::OK, "{other}");
    }
    door.edge.records_with(1, &[("client_address", json!("2001:db8::3"))]).await;
}

#[tokio::test]
async fn a_client_that_a_proxy_header_names_is_counted_by_that_name() {
    let options = |edge: SidecarBuilder| {
        edge.arg("--proxy-protocol-from", "127.0.0.0/8").arg("--requests-per-address", "1")
    };
    let door = door(options).await;
    let enter = async |client: &str, alpn: &[&[u8]]| {
        let mut socket = TcpStream::connect(door.edge.edge(443)).await.unwrap();
        socket.write_all(format!("PROXY TCP4 {client} 10.0.0.1 80 443\r\n").as_bytes()).await.unwrap();
        connect_over(socket, HOST, door.outside.client(None, alpn)).await.unwrap()
    };
    let mut waiting: Raw = RawH2::open(enter("9.9.9.9", HTTP2).await).await;
    waiting.send(&headers(1, true, &slow(&[]))).await;
    until_under_way(&door, 1).await;
    let get = || request("GET", "/", "");
    assert_too_many(&client::send_on(enter("9.9.9.9", HTTP1).await, get()).await.unwrap());
    let answer = client::send_on(enter("9.9.9.8", HTTP1).await, get()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}
