//! The generator against servers that do not behave.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use http::{HeaderMap, HeaderName, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::sample::Sample;

const OK: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok";

const PART: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok";

/// What a server has read.
type Heads = Arc<std::sync::Mutex<Vec<String>>>;

/// Answers each request as `answer` says; an empty answer is none. The connection stays, unless the answer breaks off.
async fn server(answer: &'static [u8]) -> (SocketAddr, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Heads::default());
    let seen = heads.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, answer, seen.clone()));
        }
    });
    (address, heads)
}

async fn serve(mut stream: TcpStream, answer: &'static [u8], heads: Heads) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if text.ends_with("pay") {
            heads.lock().unwrap().push(text);
            read.clear();
            stream.write_all(answer).await.unwrap();
            if answer == PART {
                return;
            }
        }
    }
}

fn load(url: &str, via: Option<SocketAddr>) -> Load {
    let request = LoadRequest {
        method: Method::POST,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: "pay".to_owned(),
    };
    Load {
        requests: vec![request],
        via,
        idempotency_key: Some(HeaderName::from_static("idempotency-key")),
        per_second: 1000,
        max_in_flight: 4,
        timeout: Duration::from_millis(200),
    }
}

/// Sends so many requests and waits until all are over.
async fn play(load: &Load, count: u64) -> Vec<Sample> {
    let (samples, start) = (Shared::default(), Instant::now());
    let generator = Generator::start(load, &samples, start, count).unwrap();
    let all = usize::try_from(count).unwrap();
    timeout(Duration::from_secs(20), async {
        while samples.lock().all().len() < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    drop(generator);
    samples.lock().all().to_vec()
}

#[test]
fn requests_are_due_at_the_rate_without_drifting() {
    let rows = [
        (0, 3, 0),
        (1, 3, 333_333_333),
        (2, 3, 666_666_666),
        (3, 3, 1_000_000_000),
        (3_000_001, 3, 1_000_000_333_333_333),
    ];
    for (number, rate, nanos) in rows {
        assert_eq!(offset(number, rate), Duration::from_nanos(nanos), "{number} at {rate}");
    }
}

#[tokio::test]
async fn every_request_has_a_key_of_its_own_and_connections_are_kept() {
    let (address, heads) = server(OK).await;
    let mut load = load(&format!("http://{address}/entries?x=1"), None);
    load.per_second = 200;
    let samples = play(&load, 20).await;
    assert!(samples.iter().all(|sample| sample.outcome == Outcome::Answered(201)), "{samples:?}");
    let heads = heads.lock().unwrap();
    assert!(heads.iter().all(|head| head.starts_with("POST /entries?x=1 HTTP/1.1\r\n")), "{heads:?}");
    let mut keys: Vec<_> = heads
        .iter()
        .map(|head| head.lines().find(|line| line.starts_with("idempotency-key")).unwrap())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 20);
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_url() {
    let (proxy, heads) = server(OK).await;
    play(&load("http://ledger.fintech:8080/entries", Some(proxy)), 1).await;
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST http://ledger.fintech:8080/entries HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: ledger.fintech:8080\r\n"), "{head}");
}

#[tokio::test]
async fn a_server_that_hangs_times_out_and_what_is_on_top_is_not_sent() {
    let (address, heads) = server(b"").await;
    let mut load = load(&format!("http://{address}/"), None);
    // Far longer than ten requests take to be due, on a busy machine too.
    load.timeout = Duration::from_secs(2);
    let samples = play(&load, 10).await;
    let of = |outcome| samples.iter().filter(|sample| sample.outcome == outcome).count();
    assert_eq!((of(Outcome::TimedOut), of(Outcome::NotSent)), (4, 6), "{samples:?}");
    assert_eq!(heads.lock().unwrap().len(), 4);
    let hung = samples.iter().filter(|sample| sample.outcome == Outcome::TimedOut);
    assert!(hung.into_iter().all(|sample| sample.latency >= load.timeout), "{samples:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_and_nothing_is_sent_twice() {
    let (address, heads) = server(PART).await;
    let mut load = load(&format!("http://{address}/"), None);
    load.per_second = 50;
    load.timeout = Duration::from_secs(10);
    let samples = play(&load, 3).await;
    assert!(samples.iter().all(|sample| sample.outcome == Outcome::BrokenOff), "{samples:?}");
    assert_eq!(heads.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let samples = play(&load(&format!("http://{address}/"), None), 2).await;
    assert!(samples.iter().all(|sample| sample.outcome == Outcome::NotConnected), "{samples:?}");
}
