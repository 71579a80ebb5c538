//! Several attacks at once, a client who means well among them: what it waits, and what memory the edge takes. Prints the
//! numbers: `cargo test -p palisade-tests --test e2e edge::flood -- --nocapture`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use palisade_tests::client::connect_from;
use palisade_tests::outside::connect_over;
use palisade_tests::raw_h2::{CONTINUATION, DATA, HEADERS, PING, RST_STREAM, RawH2, block, frame, headers};
use palisade_tests::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::door::{Door, EVERYBODY, GATEWAY, HOST, TO_LEDGER, request};
use super::floods::GET;
use crate::kit::{HTTP1, HTTP2};

/// How long the attackers are at it, at least.
const FLOOD: Duration = Duration::from_secs(6);
/// A client of the edge on a loaded test machine, in a build without optimization.
const P99_MAX: Duration = Duration::from_secs(2);
/// Requests of the good client, one after the other: the flood goes on until it has had so many answers. A machine that compiles
/// beside it answers 7 to 90 in the time above, one that does not, 150.
const SERVED_MIN: usize = 20;
/// Above what it had before; ten attackers with windows and buffers of some hundred KiB.
const GROWTH_KIB_MAX: u64 = 200 * 1024;
/// When it is over: the allocator keeps some.
const KEPT_KIB_MAX: u64 = 100 * 1024;

type Tls = TlsStream<TcpStream>;
type Attack = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What attackers share.
struct Field {
    door: Door,
    over: AtomicBool,
    attempts: AtomicU64,
}

impl Field {
    async fn tls(&self, source: &str, alpn: &[&[u8]]) -> Option<Tls> {
        let socket = connect_from(source, self.door.edge.edge(443)).await.ok()?;
        connect_over(socket, HOST, self.door.outside.client(None, alpn)).await.ok()
    }

    fn goes_on(&self) -> bool {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }

    /// An HTTP/2 connection after the other, each sent as much of this as it takes.
    async fn frames(&self, source: &str, mut more: impl FnMut(u32) -> Vec<u8>) {
        while self.goes_on() {
            let Some(stream) = self.tls(source, HTTP2).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let mut connection = RawH2::open(stream).await;
            for round in 0..20_000 {
                if !self.goes_on() || !connection.try_send(&more(round)).await {
                    break;
                }
            }
        }
    }

    /// Connections that are opened and left at some point, over and over.
    async fn leave(&self, source: &str, bytes: &[u8], most: usize) {
        let mut left = Vec::new();
        while self.goes_on() {
            if let Ok(mut socket) = connect_from(source, self.door.edge.edge(443)).await {
                let _closed = socket.write_all(bytes).await;
                left.push(socket);
            }
            if left.len() >= most {
                left.clear();
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// A head that comes a byte at a time, on many connections.
    async fn drip(&self, source: &str, head: &str) {
        let mut streams = Vec::new();
        for _ in 0..50 {
            if let Some(mut stream) = self.tls(source, HTTP1).await {
                let _closed = stream.write_all(head.as_bytes()).await;
                streams.push(stream);
            }
        }
        while self.goes_on() {
            for stream in &mut streams {
                let _closed = stream.write_all(b"x").await;
                let _closed = stream.flush().await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Hosts and paths that there have never been, as fast as they are answered.
    async fn strangers(&self, source: &str) {
        let mut number = 0;
        while self.goes_on() {
            let Some(stream) = self.tls(source, HTTP1).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let (mut reader, mut writer) = tokio::io::split(stream);
            let reading = async {
                let mut buffer = vec![0; 1 << 16];
                while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            };
            let writing = async {
                while self.goes_on() {
                    number += 1;
                    let host = if number % 2 == 0 { HOST.into() } else { format!("h{number}.bank.example") };
                    let text =
                        format!("GET /p{number} HTTP/1.1\r\nhost: {host}\r\nuser-agent: a{number}\r\n\r\n");
                    if writer.write_all(text.as_bytes()).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! { () = reading => {} () = writing => {} }
        }
    }

    /// Large answers that nobody reads.
    async fn deaf(&self, source: &str) {
        let mut streams = Vec::new();
        for _ in 0..30 {
            if let Some(mut stream) = self.tls(source, HTTP1).await {
                let head = format!("GET /bytes/50000000 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
                let _closed = stream.write_all(head.as_bytes()).await;
                streams.push(stream);
            }
        }
        while self.goes_on() {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn stream(round: u32) -> u32 {
    round * 2 + 1
}

/// All of them, each from an address of its own.
fn attacks(field: &Arc<Field>) -> Vec<Attack> {
    let bomb = {
        let long = vec![b'a'; 4000];
        let mut fields = GET.to_vec();
        fields.extend((0..50).map(|_| (b"x-bomb".as_slice(), long.as_slice())));
        block(&fields)
    };
    let f = || field.clone();
    let (rapid, pings, blocks, empty, bombs) = (f(), f(), f(), f(), f());
    let (half, silent, heads, bodies, strangers, deaf) = (f(), f(), f(), f(), f(), f());
    vec![
        Box::pin(async move {
            let both =
                |n| [headers(stream(n), true, GET), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat();
            rapid.frames("127.0.0.10", both).await;
        }),
        Box::pin(async move { pings.frames("127.0.0.11", |_| frame(PING, 0, 0, &[0; 8]).repeat(50)).await }),
        Box::pin(async move {
            let endless = |n| match n {
                0 => frame(HEADERS, 0, 1, &block(GET)),
                _ => frame(CONTINUATION, 0, 1, &[0; 1024]),
            };
            blocks.frames("127.0.0.12", endless).await;
        }),
        Box::pin(async move {
            let nothing = |n| match n {
                0 => headers(1, false, GET),
                _ => frame(DATA, 0, 1, b"").repeat(50),
            };
            empty.frames("127.0.0.13", nothing).await;
        }),
        Box::pin(async move { bombs.frames("127.0.0.14", |n| frame(HEADERS, 5, stream(n), &bomb)).await }),
        Box::pin(async move { half.leave("127.0.0.15", b"\x16\x03\x01\x02\x00\x01", 300).await }),
        Box::pin(async move { silent.leave("127.0.0.16", b"", 300).await }),
        Box::pin(async move {
            let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-slow: ");
            heads.drip("127.0.0.17", &head).await;
        }),
        Box::pin(async move {
            let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100000\r\n\r\n");
            bodies.drip("127.0.0.18", &head).await;
        }),
        Box::pin(async move { strangers.strangers("127.0.0.19").await }),
        Box::pin(async move { deaf.deaf("127.0.0.20").await }),
    ]
}

/// Times of requests on a connection that is kept, one after the other; each must be answered with 200.
async fn served(field: &Field, time: Duration, least: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut times = Vec::new();
    let io = hyper_util::rt::TokioIo::new(field.door.connect(HTTP1).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    while start.elapsed() < time || times.len() < least {
        let asked = Instant::now();
        let answer = timeout(Duration::from_secs(10), sender.send_request(request("GET", "/", "")));
        let answer = answer.await.expect("an answer in time").expect("no failure");
        assert_eq!(answer.status(), 200);
        palisade_tests::client::read(answer).await.unwrap();
        times.push(asked.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    times.sort();
    times
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_many_attacks_at_once_a_good_client_is_served_and_memory_stays_bounded() {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let door = Door::with(&documents, |edge| {
        edge.arg("--handshake-timeout", "1s").arg("--header-timeout", "1s").arg("--body-timeout", "1s")
    })
    .await;
    let field = Arc::new(Field { door, over: AtomicBool::new(false), attempts: AtomicU64::new(0) });
    let calm = served(&field, Duration::from_secs(1), 1).await;
    let before = field.door.edge.process.resident_kib();

    let (mut most, mut slowest_admin) = (0, Duration::ZERO);
    let watching = async {
        while !field.over.load(Ordering::Relaxed) {
            most = most.max(field.door.edge.process.resident_kib());
            let asked = Instant::now();
            let _text = field.door.edge.admin("/metrics").await;
            slowest_admin = slowest_admin.max(asked.elapsed());
            sleep(Duration::from_millis(200)).await;
        }
    };
    let good = async {
        let times = served(&field, FLOOD, SERVED_MIN).await;
        field.over.store(true, Ordering::Relaxed);
        times
    };
    let mut flooding = JoinSet::new();
    for attack in attacks(&field) {
        flooding.spawn(attack);
    }
    let (times, ()) = tokio::join!(good, watching);
    flooding.shutdown().await;

    let after = until("memory to be given back", || async {
        let now = field.door.edge.process.resident_kib();
        if now <= before + KEPT_KIB_MAX { Ok(now) } else { Err(now) }
    })
    .await;
    println!(
        "flood: {} attempts; memory {} MiB before, {} at most, {} after; good client p99 {:?} before, {:?} during \
         ({} requests); admin at most {:?}",
        field.attempts.load(Ordering::Relaxed),
        before / 1024,
        most / 1024,
        after / 1024,
        p99(&calm),
        p99(&times),
        times.len(),
        slowest_admin,
    );
    assert!(p99(&times) < P99_MAX, "{:?}", p99(&times));
    assert!(most <= before + GROWTH_KIB_MAX, "{before} KiB before, {most} at most");
    assert!(slowest_admin < P99_MAX, "{slowest_admin:?}");
    // Thousands of hosts and paths that nobody has: a series for each would be memory that the attacker chooses.
    let metrics = field.door.edge.admin("/metrics").await.text();
    let series = metrics.lines().filter(|line| line.starts_with("istio_requests_total{")).count();
    assert!(series < 50, "{series}");
    assert!(!metrics.contains("h1.bank.example"), "{metrics}");
}
