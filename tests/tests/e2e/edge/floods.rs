//! HTTP/2 used against the edge. The connection ends; a good client beside it on the same worker is served all the while.

use palisade_tests::raw_h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, RST_STREAM, RawH2, SETTINGS, block,
    frame, headers,
};
use palisade_tests::{DEADLINE, SidecarBuilder, until};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::deadlines::assert_counted;
use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER};
use crate::kit::HTTP2;

const ENHANCE_YOUR_CALM: u32 = 11;
const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;

pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

pub(super) const GET: &[Field<'static>] =
    &[(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", HOST.as_bytes())];

type Raw = RawH2<TlsStream<TcpStream>>;

/// An edge with one worker, so that all clients share it.
async fn door() -> Door {
    let one = |edge: SidecarBuilder| edge.workers(1);
    Door::with(&format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}"), one).await
}

async fn open(door: &Door) -> Raw {
    RawH2::open(door.connect(HTTP2).await).await
}

/// Sends more and more until the edge ends the connection. A good client is served meanwhile.
async fn ends(door: &Door, what: &str, reason: &str, mut more: impl FnMut(u32) -> Vec<u8>) {
    let mut good = open(door).await;
    let mut bad = open(door).await;
    let flooding = async {
        for round in 0..20_000 {
            if !bad.try_send(&more(round)).await {
                break;
            }
        }
        // Either word, or a reset that overtook it.
        let outcome = bad.outcome(u32::MAX).await;
        assert!(
            matches!(outcome, Outcome::GoAway(ENHANCE_YOUR_CALM) | Outcome::Closed),
            "{what}: {outcome:?}"
        );
    };
    let served = async {
        for request in 0..20 {
            let stream = request * 2 + 1;
            good.send(&headers(stream, true, GET)).await;
            assert!(good.is_answered(stream).await, "{what}");
        }
    };
    let both = async { tokio::join!(flooding, served) };
    timeout(DEADLINE, both).await.unwrap_or_else(|_| panic!("{what}: not ended"));
    let having = [&*format!("reason=\"{reason}")];
    until(what, || async {
        let counted = door.edge.metric("palisade_connections_ended_total", &having).await;
        if counted >= 1.0 { Ok(()) } else { Err(door.edge.admin("/metrics").await.text()) }
    })
    .await;
}

fn stream(round: u32) -> u32 {
    round * 2 + 1
}

/// A request that is taken back at once: CVE-2023-44487.
#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let door = door().await;
    ends(&door, "rapid reset", "http2_", |round| {
        let id = stream(round);
        [headers(id, true, GET), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    })
    .await;
}

/// The same, slow enough for every request to be on its way upstream before it is taken back.
#[tokio::test]
async fn resets_of_requests_that_are_under_way_end_the_connection_too() {
    let door = door().await;
    let mut fields = GET.to_vec();
    fields[2] = (b":path", b"/slow/5000");
    let mut bad = open(&door).await;
    let mut rounds = 0;
    while bad.try_send(&headers(stream(rounds), true, &fields)).await {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        if !bad.try_send(&frame(RST_STREAM, 0, stream(rounds), &[0, 0, 0, 8])).await {
            break;
        }
        rounds += 1;
        assert!(rounds < 2000, "never ended");
    }
    assert!(rounds >= 199, "ended after {rounds}");
    assert_counted(&door, "palisade_connections_ended_total", "http2_resets", 1).await;
}

/// The server is made to reset by errors of the client's, a request each: CVE-2025-8671.
#[tokio::test]
async fn made_you_reset_ends_the_connection() {
    let door = door().await;
    for (what, error) in [
        ("a window update of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window that overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("DATA behind the end", frame(DATA, 0, 0, b"x")),
    ] {
        let mut bad = open(&door).await;
        for round in 0..20_000 {
            let id = stream(round);
            let mut error = error.clone();
            error[5..9].copy_from_slice(&id.to_be_bytes());
            let mut fields = GET.to_vec();
            fields[2] = (b":path", b"/slow/1000");
            if !bad.try_send(&[headers(id, true, &fields), error].concat()).await {
                break;
            }
        }
        let outcome = timeout(DEADLINE, bad.outcome(u32::MAX)).await.expect("ended");
        assert!(matches!(outcome, Outcome::GoAway(1..) | Outcome::Closed), "{what}: {outcome:?}");
    }
    let received = door.app().received().len();
    assert!(received < 3 * 1000, "{received} requests reached the upstream");
    let mut good = open(&door).await;
    good.send(&headers(1, true, GET)).await;
    assert_eq!(good.outcome(1).await, Outcome::Status(200));
}

/// Header blocks that never end: CVE-2024-27316.
#[tokio::test]
async fn a_continuation_flood_ends_the_connection() {
    let door = door().await;
    ends(&door, "CONTINUATION", "http2_abuse", |round| match round {
        0 => frame(HEADERS, END_STREAM, 1, &block(GET)),
        _ => frame(CONTINUATION, 0, 1, &block(&[(b"x-more", &[b'a'; 200])])),
    })
    .await;
    door.app().clear();
    let mut empty = open(&door).await;
    empty.send(&frame(HEADERS, END_STREAM, 1, &block(GET))).await;
    empty.send(&frame(CONTINUATION, 0, 1, &[]).repeat(20_000)).await;
    let outcome = timeout(DEADLINE, empty.outcome(1)).await.expect("ended");
    assert!(matches!(outcome, Outcome::GoAway(ENHANCE_YOUR_CALM) | Outcome::Closed), "{outcome:?}");
    door.app().assert_untouched();
}

#[tokio::test]
async fn a_settings_flood_ends_the_connection() {
    let door = door().await;
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    ends(&door, "SETTINGS", "http2_control_frames", |_| settings.clone()).await;
}

#[tokio::test]
async fn a_ping_flood_ends_the_connection() {
    let door = door().await;
    ends(&door, "PING", "http2_control_frames", |_| frame(PING, 0, 0, &[0; 8])).await;
}

#[tokio::test]
async fn a_priority_flood_ends_the_connection() {
    let door = door().await;
    ends(&door, "PRIORITY", "http2_control_frames", |round| {
        frame(PRIORITY, 0, stream(round), &[0, 0, 0, 0, 16])
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_frames_that_nobody_knows_ends_the_connection() {
    let door = door().await;
    ends(&door, "unknown", "http2_control_frames", |_| frame(0xee, 0, 0, b"what")).await;
}

#[tokio::test]
async fn a_window_update_flood_ends_the_connection() {
    let door = door().await;
    ends(&door, "WINDOW_UPDATE", "http2_window_updates", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
}

#[tokio::test]
async fn a_flood_of_empty_data_ends_the_connection() {
    let door = door().await;
    let mut fields = GET.to_vec();
    fields[0] = (b":method", b"POST");
    fields[2] = (b":path", b"/echo");
    let mut bad = open(&door).await;
    bad.send(&headers(1, false, &fields)).await;
    for _ in 0..20_000 {
        if !bad.try_send(&frame(DATA, 0, 1, b"")).await {
            break;
        }
    }
    while bad.next().await.is_some() {}
    until("the connection to be counted", || async {
        let metric = "palisade_connections_ended_total";
        let counted = door.edge.metric(metric, &["reason=\"http2_"]).await;
        if counted >= 1.0 { Ok(()) } else { Err(counted) }
    })
    .await;
    assert!(door.app().received().iter().all(|request| !request.complete));
}

/// One entry of the table, named a thousand times: 4 KB that would be 4 MB.
#[tokio::test]
async fn an_hpack_bomb_is_not_unpacked() {
    let door = door().await;
    let before = door.edge.process.resident_kib();
    let value = vec![b'a'; 3900];
    // A literal with incremental indexing (RFC 7541 section 6.2.1), then references to it: index 62.
    let mut bomb = block(GET);
    let literal = block(&[(b"x", &value)]);
    bomb.push(0x40);
    bomb.extend_from_slice(&literal[1..]);
    bomb.extend([0xbe].repeat(8000));
    for _ in 0..50 {
        let mut bad = open(&door).await;
        bad.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
        let outcome = bad.outcome(1).await;
        assert!(outcome.is_refusal(), "{outcome:?}");
    }
    door.app().assert_untouched();
    let grown = door.edge.process.resident_kib().saturating_sub(before);
    assert!(grown < 30_000, "{grown} KiB");
}

#[tokio::test]
async fn streams_above_those_that_were_told_are_refused_and_more_of_them_end_the_connection() {
    let door = door().await;
    let mut fields = GET.to_vec();
    fields[2] = (b":path", b"/slow/3000");
    ends(&door, "streams", "http2_resets", |round| headers(stream(round), true, &fields)).await;
    let slow = door.app().received().iter().filter(|request| request.target.starts_with("/slow")).count();
    assert!(slow <= 100, "{slow}");
}
