//! What strangers write into requests makes no series.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use palisade_tests::{Sidecar, client, until};
use tokio::net::TcpStream;

use crate::edge::door::{Door, TO_LEDGER};
use crate::kit::{HTTP1, Mesh};

const REQUESTS: usize = 300;

/// As many requests, each with a host, a path, a query and a user agent that no other has.
fn strangers(absolute: bool) -> String {
    let mut out = String::new();
    for n in 0..REQUESTS {
        let origin = if absolute { format!("http://h{n}.stranger.example") } else { String::new() };
        let _infallible = write!(
            out,
            "GET {origin}/p{n}?q={n} HTTP/1.1\r\nhost: h{n}.stranger.example\r\nuser-agent: u{n}\r\n\r\n"
        );
    }
    out
}

fn statuses(answers: &[u8], status: &str) -> usize {
    String::from_utf8_lossy(answers).matches(&format!("HTTP/1.1 {status} ")).count()
}

/// The names and labels of all that `/metrics` says, once that many requests are counted.
async fn series(sidecar: &Sidecar, requests: usize) -> BTreeSet<String> {
    until("all requests to be counted", || async {
        let counted = sidecar.metric("istio_requests_total", &[]).await;
        if counted == requests as f64 { Ok(()) } else { Err(counted) }
    })
    .await;
    let text = sidecar.admin("/metrics").await.text();
    text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// Sends one stranger's request, then those of hundreds, and asks for the same series after both.
async fn assert_same_series(
    sidecar: &Sidecar,
    status: &str,
    all: &str,
    send: impl AsyncFn(&[u8]) -> Vec<u8>,
) {
    let one = &all[..all.find("\r\n\r\n").unwrap() + 4];
    assert_eq!(statuses(&send(one.as_bytes()).await, status), 1);
    let before = series(sidecar, 1).await;
    assert!(before.iter().any(|series| series.contains(&format!("response_code=\"{status}\""))));
    let answers = send(all.as_bytes()).await;
    assert_eq!(statuses(&answers, status), REQUESTS, "{}", answers.escape_ascii());
    let after = series(sidecar, 1 + REQUESTS).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(after.iter().all(|series| !series.contains("stranger")), "{after:#?}");
}

#[tokio::test]
async fn hundreds_of_hosts_and_paths_make_no_series_at_a_sidecar() {
    let mesh = Mesh::open().await;
    let send = async |bytes: &[u8]| {
        let mut stream = mesh.connect("payments/web", HTTP1).await;
        client::raw(&mut stream, bytes).await
    };
    assert_same_series(&mesh.sidecar, "200", &strangers(false), send).await;
}

#[tokio::test]
async fn hundreds_of_unknown_destinations_make_no_series_at_a_caller() {
    let mesh = Mesh::open().await;
    let web = mesh.caller().await;
    let send = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(web.http_proxy()).await.unwrap();
        client::raw(&mut stream, bytes).await
    };
    assert_same_series(&web, "502", &strangers(true), send).await;
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn hundreds_of_hosts_and_paths_make_no_series_at_an_edge() {
    let door = Door::open(TO_LEDGER).await;
    let send = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(door.plain()).await.unwrap();
        client::raw(&mut stream, bytes).await
    };
    assert_same_series(&door.edge, "200", &strangers(false), send).await;
}
