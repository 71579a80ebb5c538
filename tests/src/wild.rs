//! Services that misbehave on purpose, in plaintext: each counts what was delivered to it before it does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::DEADLINE;
use crate::raw_h2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, data, frame};

/// What becomes of a request that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Answer(u16),
    /// After so many milliseconds: 200, and `late`.
    Late(u64),
    /// Never.
    Stall,
    /// The connection is reset before an answer.
    Reset,
    /// In the middle of the answer's body, whose length is told over HTTP/1.1.
    ResetInBody,
    /// HTTP/1.1: the connection is closed, not reset, in the middle of a body in chunks.
    CloseInChunks,
    /// HTTP/2: RST_STREAM with this code in the middle of the answer's body.
    ResetStreamInBody(u32),
    /// What is no HTTP.
    Garbage,
    /// The connection is closed before the request is read.
    Slam,
    /// HTTP/2: RST_STREAM with this code.
    ResetStream(u32),
    /// HTTP/2: GOAWAY that names the stream before this one as the last, and the end of the connection.
    GoAwayBefore,
    /// HTTP/2: GOAWAY that names this stream as the last, and the end of the connection.
    GoAwayAfter,
}

/// One request that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `x-id`.
    pub id: String,
    /// `x-envoy-attempt-count`, 1 where there is none.
    pub attempt: u32,
    pub body: Vec<u8>,
}

type Script = dyn Fn(&Delivery) -> Act + Send + Sync;

/// What it speaks.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Http1 {
        /// For how long it waits for a request.
        idle: Duration,
    },
    Http2,
}

#[derive(Debug, Default)]
struct Seen {
    delivered: Mutex<Vec<Delivery>>,
    late: AtomicUsize,
}

/// A service that does what it is told to.
#[derive(Debug)]
pub struct Wild {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Wild {
    /// Speaks HTTP/1.1.
    pub async fn http1(script: impl Fn(&Delivery) -> Act + Send + Sync + 'static) -> Self {
        Self::start(Wire::Http1 { idle: DEADLINE * 10 }, Arc::new(script)).await
    }

    /// The same, and closes connections on which no request comes for so long.
    pub async fn impatient(
        idle: Duration,
        script: impl Fn(&Delivery) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::start(Wire::Http1 { idle }, Arc::new(script)).await
    }

    /// Speaks HTTP/2 with prior knowledge. It reads no headers: ids and attempts are not known.
    pub async fn http2(script: impl Fn(&Delivery) -> Act + Send + Sync + 'static) -> Self {
        Self::start(Wire::Http2, Arc::new(script)).await
    }

    async fn start(wire: Wire, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let all = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (script, seen) = (script.clone(), all.clone());
                match wire {
                    Wire::Http1 { idle } => connections.spawn(serve_http1(socket, idle, script, seen)),
                    Wire::Http2 => connections.spawn(serve_http2(socket, script, seen)),
                };
            }
        });
        Self { address, seen, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn delivered(&self) -> Vec<Delivery> {
        self.seen.delivered.lock().unwrap().clone()
    }

    /// How many late answers were written, whether or not anybody read them.
    pub fn late(&self) -> usize {
        self.seen.late.load(Ordering::SeqCst)
    }

    /// How often each id was delivered.
    pub fn by_id(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for delivery in self.delivered() {
            *out.entry(delivery.id).or_default() += 1;
        }
        out
    }
}

impl Drop for Wild {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A close that the other side sees as a reset.
fn reset(socket: &TcpStream) {
    socket.set_zero_linger().unwrap();
}

async fn serve_http1(mut socket: TcpStream, idle: Duration, script: Arc<Script>, seen: Arc<Seen>) {
    let mut waiting = Vec::new();
    loop {
        if (script)(&Delivery { id: String::new(), attempt: 0, body: Vec::new() }) == Act::Slam {
            return reset(&socket);
        }
        let Ok(Some(delivery)) = timeout(idle, read_http1(&mut socket, &mut waiting)).await else { return };
        seen.delivered.lock().unwrap().push(delivery.clone());
        let answer = match (script)(&delivery) {
            Act::Answer(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok"),
            Act::Late(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                let _closed = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await;
                seen.late.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            Act::Stall => std::future::pending().await,
            Act::ResetInBody => {
                let _closed = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                return reset(&socket);
            }
            Act::CloseInChunks => {
                let part = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
                let _closed = socket.write_all(part).await;
                return;
            }
            Act::Garbage => "garbage, and no HTTP at all\r\n\r\n".to_owned(),
            _ => return reset(&socket),
        };
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One request with a length or chunks.
async fn read_http1(socket: &mut TcpStream, waiting: &mut Vec<u8>) -> Option<Delivery> {
    let end = loop {
        if let Some(at) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        fill(socket, waiting).await?;
    };
    let head = String::from_utf8_lossy(&waiting[..end]).to_ascii_lowercase();
    waiting.drain(..end);
    let value = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map(|value| value.trim().to_owned())
    };
    let mut body = Vec::new();
    if value("transfer-encoding").is_some() {
        loop {
            let line = loop {
                if let Some(at) = waiting.windows(2).position(|two| two == b"\r\n") {
                    break String::from_utf8(waiting.drain(..at + 2).collect()).unwrap();
                }
                fill(socket, waiting).await?;
            };
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            while waiting.len() < size + 2 {
                fill(socket, waiting).await?;
            }
            body.extend(waiting.drain(..size));
            waiting.drain(..2);
            if size == 0 {
                break;
            }
        }
    } else {
        let length = value("content-length").map_or(0, |length| length.parse().unwrap());
        while waiting.len() < length {
            fill(socket, waiting).await?;
        }
        body.extend(waiting.drain(..length));
    }
    let attempt = value("x-envoy-attempt-count").map_or(1, |count| count.parse().unwrap());
    Some(Delivery { id: value("x-id").unwrap_or_default(), attempt, body })
}

async fn fill(socket: &mut (impl AsyncRead + Unpin), waiting: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let count = socket.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
    waiting.extend_from_slice(&buffer[..count]);
    Some(())
}

/// As `fill`, while late answers are written when their time comes.
async fn fill_meanwhile(
    socket: &mut TcpStream,
    waiting: &mut Vec<u8>,
    late: &mut JoinSet<Vec<u8>>,
    seen: &Seen,
) -> Option<()> {
    loop {
        tokio::select! {
            filled = fill(socket, waiting) => return filled,
            Some(answer) = late.join_next() => {
                let _closed = socket.write_all(&answer.unwrap()).await;
                seen.late.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

async fn serve_http2(mut socket: TcpStream, script: Arc<Script>, seen: Arc<Seen>) {
    let mut waiting = Vec::new();
    let mut late = JoinSet::new();
    while waiting.len() < 24 {
        if fill(&mut socket, &mut waiting).await.is_none() {
            return;
        }
    }
    waiting.drain(..24);
    // Windows of 1 MiB (SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_UPDATE): whatever comes is taken.
    let window = frame(SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]);
    let hello = [window, frame(8, 0, 0, &[0, 16, 0, 0]), frame(SETTINGS, 1, 0, &[])].concat();
    socket.write_all(&hello).await.unwrap();
    let mut bodies = BTreeMap::<u32, Vec<u8>>::new();
    loop {
        while waiting.len() < 9 {
            if fill_meanwhile(&mut socket, &mut waiting, &mut late, &seen).await.is_none() {
                return;
            }
        }
        let length = usize::from(waiting[0]) << 16 | usize::from(waiting[1]) << 8 | usize::from(waiting[2]);
        while waiting.len() < 9 + length {
            if fill_meanwhile(&mut socket, &mut waiting, &mut late, &seen).await.is_none() {
                return;
            }
        }
        let head: Vec<u8> = waiting.drain(..9).collect();
        let payload: Vec<u8> = waiting.drain(..length).collect();
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            HEADERS => drop(bodies.insert(stream, Vec::new())),
            DATA => bodies.entry(stream).or_default().extend(payload),
            _ => continue,
        }
        if flags & END_STREAM == 0 {
            continue;
        }
        let body = bodies.remove(&stream).unwrap_or_default();
        let delivery = Delivery { id: String::new(), attempt: 1, body };
        seen.delivered.lock().unwrap().push(delivery.clone());
        // `:status: 200` and `:status: 500` of the static table (RFC 7541 appendix A).
        let answer = |index, whole, body: &[u8]| {
            [frame(HEADERS, END_HEADERS, stream, &[index]), data(stream, whole, body)].concat()
        };
        let reset_stream = |code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
        let go_away = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
        let act = (script)(&delivery);
        let bytes = match act {
            Act::Answer(200) => answer(0x88, true, b"ok"),
            Act::Answer(_) => answer(0x8e, true, b"ok"),
            Act::Late(ms) => {
                let answer = answer(0x88, true, b"late");
                late.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    answer
                });
                continue;
            }
            Act::ResetStream(code) => reset_stream(code),
            Act::ResetStreamInBody(code) => {
                // Apart, so that the part is passed on.
                let _closed = socket.write_all(&answer(0x88, false, b"ok")).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                reset_stream(code)
            }
            Act::ResetInBody => {
                let _closed = socket.write_all(&answer(0x88, false, b"ok")).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                return reset(&socket);
            }
            Act::GoAwayBefore => go_away(stream.saturating_sub(2)),
            Act::GoAwayAfter => go_away(stream),
            // No header block (RFC 7541 section 5.1: an integer without end).
            Act::Garbage => frame(HEADERS, END_HEADERS, stream, &[0xff; 40]),
            Act::Stall => continue,
            _ => return reset(&socket),
        };
        let _closed = socket.write_all(&bytes).await;
        if matches!(act, Act::GoAwayBefore | Act::GoAwayAfter) {
            // Behind the frame, so that it is read before the end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return;
        }
    }
}
