//! HTTP/1.1 on a connection, with a codec as long as there are requests, and without one while the connection rests.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::answers::{Answers, Watched};
use super::detect::Rewound;
use super::drive::{LAST_WORDS, Left, Patience, until};
use crate::http::codec;
use crate::http::framing::Guarded;
use crate::http::lent::Lender;
use crate::http::patience::{HeadDeadline, Verdict, WriteDeadline};
use crate::settings::limits::Limits;

/// Without a request for so long, a connection of HTTP/1.1 is served without a codec's buffers: making them anew is
/// little beside what a request costs that comes so late, since nothing is batched with it.
const REST_AFTER: Duration = Duration::from_millis(100);
/// How often a connection with requests is looked at, whether it rests.
const REST_LOOK: Duration = Duration::from_millis(500);

/// Serves a connection to its end. What `stop` ends with is as for [`super::drive::drive`].
pub(super) async fn serve<T, S>(
    limits: &Limits,
    mut io: Rewound<T>,
    patience: Patience,
    service: &S,
    stop: impl Future<Output = Option<Duration>>,
    answers: &Answers,
    verdict: &Arc<Verdict>,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Watched>, Error = Infallible>,
{
    let mut stop = std::pin::pin!(stop);
    let lender = Lender::default();
    loop {
        let lent = WriteDeadline::new(lender.lend(io), patience.stall, verdict.clone());
        let lent = HeadDeadline::new(Guarded::requests(lent), patience.head, verdict.clone());
        let builder = codec::server_http1(limits);
        let connection = Box::pin(builder.serve_connection(TokioIo::new(lent), service).with_upgrades());
        if until(connection, stop.as_mut(), answers.at_rest(REST_AFTER, REST_LOOK), || {}).await?
            == Left::ForGood
        {
            return Ok(());
        }
        let Some(back) = lender.take_back() else { return Ok(()) };
        io = back;
        let spoken_to = tokio::select! {
            spoken_to = io.is_spoken_to() => spoken_to,
            _grace = stop.as_mut() => false,
        };
        if !spoken_to {
            // In TLS there is a last word to say.
            let _said = tokio::time::timeout(LAST_WORDS, io.shutdown()).await;
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::Body;
    use http_body_util::BodyExt;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, DuplexStream, ReadBuf, duplex};
    use tokio::time::{Instant, advance, sleep};

    use super::*;
    use crate::http::body::ResponseBody;
    use crate::http::layer::{pass_flush, pass_writes};
    use crate::listen::drive::FOR_EVER;

    /// Notes how much room each read was given.
    struct Rooms(DuplexStream, Arc<Mutex<Vec<usize>>>);

    impl AsyncRead for Rooms {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1.lock().unwrap().push(buf.remaining());
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Rooms {
        pass_writes!(0);
        pass_flush!(0);
    }

    const PATIENT: Patience = Patience { idle: FOR_EVER, head: FOR_EVER, stall: None, strict: false };

    thread_local! {
        /// What whoever is asked for `/late` read of the request's body.
        static LATE_BODY: Arc<Mutex<Option<Bytes>>> = Arc::default();
    }

    /// What a client did, while a server answered each request with an empty 200 and noted its path.
    async fn served<C: Future>(
        room: usize,
        client: impl FnOnce(DuplexStream, Arc<Mutex<Vec<usize>>>) -> C,
    ) -> (C::Output, Vec<String>) {
        let (out, paths, ended) = served_until(std::future::pending(), PATIENT, room, client).await;
        ended.unwrap();
        (out, paths)
    }

    async fn served_until<C: Future>(
        stop: impl Future<Output = Option<Duration>>,
        patience: Patience,
        room: usize,
        client: impl FnOnce(DuplexStream, Arc<Mutex<Vec<usize>>>) -> C,
    ) -> (C::Output, Vec<String>, hyper::Result<()>) {
        let (near, far) = duplex(room);
        let (rooms, verdict) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::<Verdict>::default());
        let answers = Answers::new(verdict.clone());
        let paths = RefCell::new(Vec::new());
        let late_body = LATE_BODY.with(Arc::clone);
        let service = service_fn(|request: Request<Incoming>| {
            paths.borrow_mut().push(request.uri().path().to_owned());
            let answer = answers.begin();
            let with_body = !request.body().is_end_stream();
            if request.uri().path() == "/late" {
                // Whoever it was sent to answers first, and reads it long after.
                let whole = late_body.clone();
                tokio::spawn(async move {
                    sleep(REST_LOOK * 3).await;
                    let (mut body, mut read) = (request.into_body(), Vec::new());
                    while let Some(frame) = body.frame().await {
                        let Ok(frame) = frame else { return };
                        read.extend_from_slice(frame.data_ref().unwrap());
                    }
                    *whole.lock().unwrap() = Some(read.into());
                });
            }
            async move { Ok(Response::new(Watched::new(ResponseBody::empty(), Some(answer), with_body))) }
        });
        let io = Rewound::new(Rooms(near, rooms.clone()));
        let limits = Limits::default();
        let serving = serve(&limits, io, patience, &service, stop, &answers, &verdict);
        let (out, ended) = tokio::join!(client(far, rooms), serving);
        (out, paths.take(), ended)
    }

    async fn ask(client: &mut DuplexStream, request: &str) {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_has_no_codec_and_serves_the_next_request_all_the_same() {
        let client = async |mut client: DuplexStream, rooms: Arc<Mutex<Vec<usize>>>| {
            for path in ["/a", "/b", "/c"] {
                ask(&mut client, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
                assert!(*rooms.lock().unwrap().last().unwrap() > 1, "a codec reads more than a byte");
                sleep(REST_LOOK * 3).await;
                assert_eq!(rooms.lock().unwrap().last(), Some(&1), "at rest, a byte is waited for");
                rooms.lock().unwrap().clear();
            }
        };
        assert_eq!(served(1024, client).await.1, ["/a", "/b", "/c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_the_midst_of_a_message_does_not_rest() {
        let client = async |mut client: DuplexStream, rooms: Arc<Mutex<Vec<usize>>>| {
            let parts = ["GET /a HT", "TP/1.1\r\nhost: x\r\n", "\r", "\nP"];
            for part in parts {
                client.write_all(part.as_bytes()).await.unwrap();
                sleep(REST_LOOK * 3).await;
            }
            ask(&mut client, "OST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbo").await;
            sleep(REST_LOOK * 3).await;
            assert!(rooms.lock().unwrap().iter().all(|room| *room > 1));
        };
        assert_eq!(served(1024, client).await.1, ["/a", "/b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_were_sent_ahead_are_all_answered_before_a_connection_rests() {
        let client = async |mut client: DuplexStream, rooms: Arc<Mutex<Vec<usize>>>| {
            let ahead: String = (0..60).map(|at| format!("GET /{at} HTTP/1.1\r\nhost: x\r\n\r\n")).collect();
            client.write_all(ahead.as_bytes()).await.unwrap();
            for _ in 0..60 {
                ask(&mut client, "").await;
            }
            sleep(REST_LOOK * 2).await;
            assert_eq!(rooms.lock().unwrap().last(), Some(&1), "it rests then");
        };
        let paths: Vec<String> = (0..60).map(|at| format!("/{at}")).collect();
        assert_eq!(served(1 << 16, client).await.1, paths);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_outlasts_its_answer_reaches_whoever_reads_it_whole() {
        let client = async |mut client: DuplexStream, _| {
            // More chunks than the codec hands on before they are asked for.
            let chunks = "4\r\nbody\r\n".repeat(8);
            let head = "POST /late HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            ask(&mut client, &format!("{head}{chunks}0\r\n\r\n")).await;
            sleep(REST_LOOK * 6).await;
            ask(&mut client, "GET /b HTTP/1.1\r\nhost: x\r\n\r\n").await;
        };
        assert_eq!(served(1024, client).await.1, ["/late", "/b"]);
        assert_eq!(LATE_BODY.with(|body| body.lock().unwrap().clone()), Some("body".repeat(8).into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_its_client_has_not_read_keeps_the_connection_from_rest() {
        let client = async |mut client: DuplexStream, rooms: Arc<Mutex<Vec<usize>>>| {
            client.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            sleep(REST_LOOK * 3).await;
            assert!(rooms.lock().unwrap().iter().all(|room| *room > 1), "{:?}", rooms.lock());
            ask(&mut client, "").await;
            sleep(REST_LOOK * 2).await;
            assert_eq!(rooms.lock().unwrap().last(), Some(&1), "it rests once the answer is read");
        };
        // Room for less than an answer.
        assert_eq!(served(20, client).await.1, ["/a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_rest_a_connection_ends_when_its_client_closes_it() {
        let client = async |mut client: DuplexStream, _| {
            ask(&mut client, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
            sleep(REST_LOOK * 2).await;
            advance(REST_LOOK).await;
            client.shutdown().await.unwrap();
            let start = Instant::now();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
            assert_eq!(start.elapsed(), Duration::ZERO);
        };
        assert_eq!(served(1024, client).await.1, ["/a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_after_a_rest_has_no_more_time_than_any_other() {
        let head = Duration::from_secs(15);
        let client = async |mut client: DuplexStream, rooms: Arc<Mutex<Vec<usize>>>| {
            ask(&mut client, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
            sleep(REST_LOOK * 3).await;
            assert_eq!(rooms.lock().unwrap().last(), Some(&1), "it rests");
            let start = Instant::now();
            client.write_all(b"G").await.unwrap();
            sleep(head / 2).await;
            client.write_all(b"E").await.unwrap();
            let mut told = Vec::new();
            client.read_to_end(&mut told).await.unwrap();
            assert!(told.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&told));
            assert!(start.elapsed() < head + REST_LOOK, "{:?}", start.elapsed());
        };
        let patience = Patience { head, ..PATIENT };
        let (_, paths, _late) = served_until(std::future::pending(), patience, 1024, client).await;
        assert_eq!(paths, ["/a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_ends_at_once_when_it_has_to() {
        let start = Instant::now();
        let client = async |mut client: DuplexStream, _| {
            ask(&mut client, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
            assert_eq!(start.elapsed(), Duration::from_secs(40));
        };
        let stop = async {
            sleep(Duration::from_secs(40)).await;
            None
        };
        assert_eq!(served_until(stop, PATIENT, 1024, client).await.1, ["/a"]);
    }

    /// More than a codec serves in one turn. Between two turns of a worker that is held up, time enough for a rest goes by.
    #[tokio::test]
    async fn requests_sent_ahead_are_all_served_by_a_worker_that_is_late() {
        let all: Vec<String> = (0..200).map(|n| format!("/{n}")).collect();
        let text: String = all.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).collect();
        let client = async |mut client: DuplexStream, _| {
            client.write_all(text.as_bytes()).await.unwrap();
            for _ in 0..16 {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a thread that is held up is what this is about"
                )]
                std::thread::sleep(REST_AFTER + Duration::from_millis(20));
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.unwrap();
            answers.matches("HTTP/1.1 200 ").count()
        };
        let (answered, served) = served(64 * 1024, client).await;
        assert_eq!((answered, served), (all.len(), all));
    }
}
