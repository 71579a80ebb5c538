//! What ends an open connection: policy, silence, a stop, and the other side.

use palisade_tests::tcp::{Ending, GOODBYE, GREETING};
use palisade_tests::{DEADLINE, until};
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ALLOW_WEB, Database, ask, connect, hear, rest};
use crate::kit::{DENY_ALL, STRICT, service_entry};

#[tokio::test]
async fn a_push_that_shuts_the_caller_out_breaks_its_open_connection_off() {
    let database = Database::start(ALLOW_WEB).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    ask(&mut stream, b"begin;").await;
    // A push that still lets it in ends nothing.
    let closed = ALLOW_WEB.replace("web-only", "renamed");
    database.world.policy("policies.yaml", &closed);
    until("the first push", || async {
        let page = database.sidecar.admin("/config").await.text();
        if page.contains("payments/renamed") { Ok(()) } else { Err(page) }
    })
    .await;
    ask(&mut stream, b"insert;").await;

    database.world.policy("policies.yaml", DENY_ALL);
    assert_eq!(rest(&mut stream).await, (vec![], false));
    let heard = database.app.ended().await;
    assert_eq!((&heard.bytes[..], heard.end), (&b"begin;insert;"[..], Some(Ending::Broken)));
    let fields = [("response_code_details", json!("closed_by_policy_change"))];
    database.sidecar.records_with(1, &fields).await;
    assert_eq!(rest(&mut connect(&web).await).await, (vec![], false));
    assert_eq!(database.app.heard().len(), 1);
}

#[tokio::test]
async fn the_caller_side_lets_go_of_a_service_that_it_may_not_know_any_more() {
    let database = Database::start(ALLOW_WEB).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    database.world.policy("ledger.yaml", &service_entry("other", database.inbound(), "TCP"));
    assert_eq!(rest(&mut stream).await, (vec![], false));
    assert_eq!(database.app.ended().await.end, Some(Ending::Broken));
    web.records_with(1, &[("response_code_details", json!("closed_by_policy_change"))]).await;
}

#[tokio::test]
async fn a_connection_in_which_nobody_speaks_ends_and_one_that_is_used_does_not() {
    let options = |builder: palisade_tests::SidecarBuilder| builder.arg("--tcp-idle-timeout", "1s");
    let database = Database::start_with(STRICT, ALLOW_WEB, options).await;
    let web = database.caller("payments/web").await;
    let (mut silent, mut busy) = (connect(&web).await, connect(&web).await);
    hear(&mut silent, GREETING).await;
    hear(&mut busy, GREETING).await;
    let mut spoken = 0;
    let over = std::cell::Cell::new(false);
    let speaking = async {
        while !over.get() {
            ask(&mut busy, b".").await;
            spoken += 1;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let waiting = async {
        let ended = rest(&mut silent).await;
        over.set(true);
        ended
    };
    let (ended, ()) = tokio::join!(waiting, speaking);
    assert_eq!(ended, (vec![], false));
    assert!(spoken >= 2, "{spoken}");
    ask(&mut busy, b"still here").await;
    let records = database.sidecar.records_with(1, &[("reason", json!("stream_idle"))]).await;
    assert_eq!(records[0]["response_flags"], "SI", "{records:#?}");
}

/// Every buffer on the way fills up, and then nobody can do anything.
#[tokio::test]
async fn a_caller_that_reads_nothing_does_not_hold_the_service_for_ever() {
    let options = |builder: palisade_tests::SidecarBuilder| builder.arg("--tcp-idle-timeout", "1s");
    let database = Database::start_with(STRICT, ALLOW_WEB, options).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    let asking = async { while stream.write_all(&[b'?'; 64 * 1024]).await.is_ok() {} };
    timeout(DEADLINE, asking).await.expect("an end in time");
    assert_eq!(database.app.ended().await.end, Some(Ending::Broken));
    database.sidecar.records_with(1, &[("reason", json!("stream_idle"))]).await;
}

#[tokio::test]
async fn a_caller_that_breaks_off_is_not_taken_for_one_that_ended() {
    let database = Database::start(ALLOW_WEB).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    ask(&mut stream, b"half of").await;
    SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(database.app.ended().await.end, Some(Ending::Broken));
    database.sidecar.records_with(1, &[("response_flags", json!("DC"))]).await;
}

#[tokio::test]
async fn a_sidecar_that_is_told_to_stop_lets_open_connections_end() {
    let mut database = Database::start(ALLOW_WEB).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    let inbound = database.inbound();
    database.sidecar.process.terminate().await;
    until("no new connections to be taken", || async {
        match TcpStream::connect(inbound).await {
            Ok(_) => Err("it took one"),
            Err(_) => Ok(()),
        }
    })
    .await;
    ask(&mut stream, b"commit;").await;
    assert!(database.sidecar.process.ended().is_none(), "it left its connection behind");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, (GOODBYE.to_vec(), true));
    let status = timeout(DEADLINE, database.sidecar.process.exit()).await.expect("an exit in time");
    assert!(status.success(), "{status:?}");
    assert_eq!(database.app.ended().await.end, Some(Ending::Whole));
}

/// Nothing is forgotten at the deadline: what is cut is cut so that both sides know.
#[tokio::test]
async fn a_stop_past_its_deadline_resets_what_is_open() {
    let options = |builder: palisade_tests::SidecarBuilder| builder.arg("--drain-deadline", "200ms");
    let mut database = Database::start_with(STRICT, ALLOW_WEB, options).await;
    let web = database.caller("payments/web").await;
    let mut stream = connect(&web).await;
    hear(&mut stream, GREETING).await;
    ask(&mut stream, b"half of").await;
    database.sidecar.process.terminate().await;
    assert_eq!(rest(&mut stream).await, (vec![], false));
    assert_eq!(database.app.ended().await.end, Some(Ending::Broken));
    timeout(DEADLINE, database.sidecar.process.exit()).await.expect("an exit in time");
    let records = database.sidecar.records_with(1, &[("protocol", json!("TCP"))]).await;
    assert_eq!(records.len(), 1, "{records:#?}");
}
