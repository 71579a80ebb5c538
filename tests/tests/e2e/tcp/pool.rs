//! What a DestinationRule says of connections holds for raw TCP.

use std::time::Duration;

use palisade_tests::tcp::GREETING;
use palisade_tests::{DEADLINE, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{ALLOW_WEB, Database, ask, connect, hear, rest};
use crate::kit::LEDGER;

fn rule(tcp: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: ledger, namespace: payments}}
spec: {{host: ledger, trafficPolicy: {{connectionPool: {{tcp: {{{tcp}}}}}}}}}
"
    )
}

async fn database(tcp: &str) -> Database {
    let database = Database::start(ALLOW_WEB).await;
    database.world.policy("rule.yaml", &rule(tcp));
    database
}

#[tokio::test]
async fn a_connection_beyond_the_bound_of_its_rule_is_reset_and_reaches_nobody() {
    let database = database("maxConnections: 1").await;
    let web = database.caller("payments/web").await;
    let mut first = connect(&web).await;
    hear(&mut first, GREETING).await;
    // The reset may be quicker than the handshake's end.
    if let Ok(mut second) = TcpStream::connect(web.local_port(LEDGER)).await {
        assert_eq!(rest(&mut second).await, (vec![], false));
    }
    web.records_with(1, &[("reason", json!("upstream_overflow")), ("response_flags", json!("UO"))]).await;
    ask(&mut first, b"still there").await;
    assert_eq!(database.app.heard().len(), 1);
    drop(first);
    until("room again", || async {
        let mut greeting = [0; GREETING.len()];
        let heard = async {
            let mut next = TcpStream::connect(web.local_port(LEDGER)).await?;
            next.read_exact(&mut greeting).await
        };
        heard.await.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_silent_connection_ends_when_its_rule_says_so_and_not_when_the_proxy_would() {
    let database = database("idleTimeout: 1s, tcpKeepalive: {time: 30s, interval: 5s, probes: 3}").await;
    let web = database.caller("payments/web").await;
    let mut silent = connect(&web).await;
    hear(&mut silent, GREETING).await;
    assert_eq!(rest(&mut silent).await, (vec![], false));
    web.records_with(1, &[("response_code_details", json!("tcp_idle"))]).await;
}

#[tokio::test]
async fn a_connection_lives_no_longer_than_its_rule_says_however_busy_it_is() {
    let database = database("maxConnectionDuration: 2s").await;
    let web = database.caller("payments/web").await;
    let mut busy = connect(&web).await;
    hear(&mut busy, GREETING).await;
    let begun = Instant::now();
    let broken = async {
        while busy.write_all(b"tick").await.is_ok() {
            let mut echo = [0; 4];
            if busy.read_exact(&mut echo).await.is_err() {
                break;
            }
        }
    };
    timeout(DEADLINE, broken).await.expect("an end in time");
    assert!(begun.elapsed() > Duration::from_secs(1), "it ended before its time");
    let details = json!("closed_at_max_connection_duration");
    web.records_with(1, &[("response_code_details", details)]).await;
}
