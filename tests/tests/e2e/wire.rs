//! What an upstream hears, byte by byte: the protocol of its port, and one frame around each body, whatever callers send.
//! At the edge, at a sidecar for its application, and at a caller's sidecar for a server outside, over HTTP/1.1 and HTTP/2.

use palisade_tests::raw_h2::{Outcome, RawH2, data, headers};
use palisade_tests::{Scripted, Sidecar, client, until};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::edge::door::{Door, EVERYBODY, GATEWAY, HOST};
use crate::edge::routes::{external_as, routes};
use crate::kit::{HTTP1, HTTP2};

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
/// What a lenient HTTP/1.1 server could find in the frames of HTTP/2.
const HIDDEN: &str = "\r\n\r\nGET /admin/secret HTTP/1.1\r\nhost: api.bank.example\r\n\r\n";
const PREFACE: &str = "PRI * HTTP/2.0";

/// Whose upstream it is.
#[derive(Clone, Copy, Debug)]
enum Way {
    Edge,
    /// A sidecar's own application.
    Inbound,
    /// A server outside, by a sidecar's `HTTP_PROXY`.
    Outbound,
}

const WAYS: [Way; 3] = [Way::Edge, Way::Inbound, Way::Outbound];

impl Way {
    fn authority(self) -> &'static str {
        match self {
            Self::Edge => HOST,
            Self::Inbound => "card.payments:8080",
            Self::Outbound => "other.example",
        }
    }

    /// Of a request over HTTP/1.1.
    fn target(self, path: &str) -> String {
        match self {
            Self::Outbound => format!("http://{}{path}", self.authority()),
            Self::Edge | Self::Inbound => path.to_owned(),
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One upstream with three ways to it.
struct Wires {
    app: Scripted,
    door: Door,
    card: Sidecar,
    caller: Sidecar,
}

impl Wires {
    /// `protocol`: of the upstream's port, wherever it is named. It says nothing until it is told to.
    async fn start(protocol: &str) -> Self {
        let app = Scripted::start().await;
        let everything = routes("  - {route: [{destination: {host: other.example, port: {number: 80}}}]}\n");
        let entry = external_as("other.example", app.address(), protocol);
        let documents = format!("{GATEWAY}---{EVERYBODY}---{everything}---{entry}");
        let door = Door::with(&documents, |edge| edge).await;
        let sidecar = |name: &str| door.mesh.world.file_sidecar(name);
        let card = sidecar("payments/card").serve_as(8080, &protocol.to_lowercase(), app.address());
        let card = card.start().await;
        let caller = sidecar("payments/web").outbound().start().await;
        Self { app, door, card, caller }
    }

    /// The proxy that calls the upstream.
    fn proxy(&self, way: Way) -> &Sidecar {
        match way {
            Way::Edge => &self.door.edge,
            Way::Inbound => &self.card,
            Way::Outbound => &self.caller,
        }
    }

    async fn connect(&self, way: Way, alpn: &[&[u8]]) -> Box<dyn Io> {
        match way {
            Way::Edge => Box::new(self.door.connect(alpn).await),
            Way::Inbound => {
                let pki = &self.door.mesh.world.pki;
                let (svid, expected) =
                    (pki.svid("payments/web"), palisade_tests::world::expecting("payments/card"));
                let inbound = self.card.inbound(8080);
                let connecting = client::connect_tls(inbound, Some(&svid), &pki.bundle, expected, alpn);
                Box::new(connecting.await.unwrap())
            }
            Way::Outbound => Box::new(TcpStream::connect(self.caller.http_proxy()).await.unwrap()),
        }
    }

    /// One request over HTTP/1.1: what follows its host line is `rest`.
    async fn ask(&self, way: Way, method: &str, path: &str, rest: &str) -> String {
        self.ask_for(way, &format!("{method} {}", way.target(path)), rest).await
    }

    async fn ask_for(&self, way: Way, method_and_target: &str, rest: &str) -> String {
        let host = way.authority();
        let text = format!("{method_and_target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{rest}");
        let mut stream = self.connect(way, HTTP1).await;
        String::from_utf8_lossy(&client::raw(&mut stream, text.as_bytes()).await).into_owned()
    }

    /// Sends one request over HTTP/2, and leaves its stream open for an answer.
    async fn send_h2(
        &self,
        way: Way,
        [method, scheme, path]: [&str; 3],
        more: &[(&str, &str)],
        body: Option<&str>,
    ) -> RawH2<Box<dyn Io>> {
        let mut connection = RawH2::open(self.connect(way, HTTP2).await).await;
        let pseudo =
            [(":method", method), (":scheme", scheme), (":path", path), (":authority", way.authority())];
        let fields: Vec<(&[u8], &[u8])> =
            pseudo.iter().chain(more).map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let mut bytes = headers(1, body.is_none(), &fields);
        bytes.extend(body.map(|body| data(1, true, body.as_bytes())).unwrap_or_default());
        connection.send(&bytes).await;
        connection
    }

    /// What becomes of one.
    async fn ask_h2(&self, way: Way, head: [&str; 3], more: &[(&str, &str)], body: Option<&str>) -> Outcome {
        self.send_h2(way, head, more, body).await.outcome(1).await
    }

    /// What the upstream heard on the connection where it heard this.
    async fn heard(&self, what: &str) -> String {
        until(&format!("{what:?} at the upstream"), async || {
            let heard = self.app.heard();
            heard.iter().find(|one| one.contains(what)).cloned().ok_or(heard)
        })
        .await
    }

    fn assert_silence(&self, what: &str) {
        let heard: Vec<_> = self.app.heard().into_iter().filter(|one| !one.is_empty()).collect();
        assert!(heard.is_empty(), "{what}: {heard:?}");
    }
}

/// Whoever chooses HTTP/2 for an HTTP/1.1 server chooses bytes that it reads without a judge between.
#[tokio::test]
async fn a_call_that_says_it_is_grpc_is_refused_for_a_port_of_http_and_its_server_hears_nothing() {
    let wires = Wires::start("HTTP").await;
    let rows =
        [("POST", "application/grpc"), ("GET", "application/grpc+proto"), ("POST", "application/grpc;a")];
    let length = HIDDEN.len();
    for way in WAYS {
        for (method, kind) in rows {
            let rest = format!("content-type: {kind}\r\ncontent-length: {length}\r\n\r\n{HIDDEN}");
            let answer = wires.ask(way, method, "/a", &rest).await;
            assert!(answer.contains("grpc-status: 12\r\n"), "{way:?} {method} {kind}: {answer}");
            let fields = [("content-type", kind), ("te", "trailers")];
            let outcome = wires.ask_h2(way, [method, "http", "/a"], &fields, Some(HIDDEN)).await;
            assert_eq!(outcome, Outcome::Status(200), "{way:?} {method} {kind}");
        }
        let fields = [("reason", json!("grpc_needs_http2")), ("grpc_status", json!(12))];
        wires.proxy(way).records_with(2 * rows.len(), &fields).await;
        wires.assert_silence(&format!("{way:?}"));
    }
    // Only the second of two types is gRPC's: a request like any other, with its body in its own frame.
    for way in WAYS {
        let path = format!("/{way:?}");
        let rest = format!(
            "content-type: text/plain\r\ncontent-type: application/grpc\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"
        );
        wires.ask(way, "POST", &path, &rest).await;
        let heard = wires.heard(&path).await;
        assert!(heard.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{way:?}: {heard}");
        assert!(heard.contains(&format!("content-length: {length}\r\n")), "{way:?}: {heard}");
    }
    let heard = wires.app.heard();
    assert!(heard.iter().all(|heard| !heard.contains(PREFACE)), "{heard:?}");
}

#[tokio::test]
async fn an_upgrade_is_refused_for_a_port_of_http2_and_its_server_hears_http2_alone() {
    let wires = Wires::start("HTTP2").await;
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\r\n";
    for way in WAYS {
        let text =
            format!("GET {} HTTP/1.1\r\nhost: {}\r\n{upgrade}{HIDDEN}", way.target("/a"), way.authority());
        let mut stream = wires.connect(way, HTTP1).await;
        let answer = client::raw(&mut stream, text.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let once = answer.matches("HTTP/1.1 ").count() == 1;
        assert!(answer.starts_with("HTTP/1.1 501") && once, "{way:?}: {answer}");
        wires.proxy(way).records_with(1, &[("reason", json!("upgrade_needs_http1"))]).await;
        wires.assert_silence(&format!("{way:?}"));
    }
    // The same without the wish, and a call of gRPC, both go in the protocol of the port.
    let mut open = Vec::new();
    for way in WAYS {
        let fields = [("content-type", "application/grpc")];
        open.push(wires.send_h2(way, ["POST", "http", "/a"], &fields, Some("x")).await);
        wires.ask(way, "GET", "/a", "\r\n").await;
    }
    until("all three to have been heard", async || {
        let heard = wires.app.heard();
        if heard.iter().filter(|one| one.starts_with(PREFACE)).count() >= WAYS.len() {
            Ok(())
        } else {
            Err(heard)
        }
    })
    .await;
    let heard = wires.app.heard();
    assert!(heard.iter().all(|one| one.is_empty() || one.starts_with(PREFACE)), "{heard:?}");
}

/// `010` is 8 to whoever reads it as C does, and the second of two lines counts for some.
#[tokio::test]
async fn a_content_length_goes_upstream_as_one_plain_number_or_not_at_all() {
    let wires = Wires::start("HTTP").await;
    let eight = "12345678";
    for way in WAYS {
        for (length, body) in [("08", eight), ("0000008", eight), ("010", "1234567890"), ("00", "")] {
            let rest = format!("content-length: {length}\r\n\r\n{body}");
            let answer = wires.ask(way, "POST", "/a", &rest).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{way:?} {length}: {answer}");
            let fields = [("content-length", length)];
            let body = Some(body).filter(|body| !body.is_empty());
            let outcome = wires.ask_h2(way, ["POST", "http", "/a"], &fields, body).await;
            assert!(outcome.is_refusal(), "{way:?} {length}: {outcome:?}");
        }
        let rest = format!("content-length: 8\r\ncontent-length: 8\r\n\r\n{eight}");
        let answer = wires.ask(way, "POST", "/a", &rest).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{way:?} twice: {answer}");
        let fields = [("content-length", "8"), ("content-length", "8")];
        let outcome = wires.ask_h2(way, ["POST", "http", "/a"], &fields, Some(eight)).await;
        assert!(outcome.is_refusal(), "{way:?} twice: {outcome:?}");
        wires.assert_silence(&format!("{way:?}"));
    }
    let mut open = Vec::new();
    for way in WAYS {
        let (one, two) = (format!("/1/{way:?}"), format!("/2/{way:?}"));
        wires.ask(way, "POST", &one, &format!("content-length: 8\r\n\r\n{eight}")).await;
        let fields = [("content-length", "8")];
        open.push(wires.send_h2(way, ["POST", "http", &two], &fields, Some(eight)).await);
        for path in [one, two] {
            let heard = wires.heard(&path).await;
            let lengths = heard.matches("content-length: 8\r\n").count();
            assert!(lengths == 1 && !heard.contains("transfer-encoding"), "{path}: {heard}");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_goes_upstream_in_chunks_whatever_the_method() {
    let wires = Wires::start("HTTP").await;
    let mut open: Vec<Box<dyn std::any::Any>> = Vec::new();
    for way in WAYS {
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
            let path = format!("/1/{way:?}/{method}");
            let mut stream = wires.connect(way, HTTP1).await;
            let text = format!(
                "{method} {} HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
                way.target(&path),
                way.authority()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            open.push(Box::new(stream));
            chunked_upstream(&wires, method, &path).await;
            let path = format!("/2/{way:?}/{method}");
            open.push(Box::new(wires.send_h2(way, [method, "http", &path], &[], Some("body")).await));
            chunked_upstream(&wires, method, &path).await;
        }
        // Without a body there is nothing to say of one.
        let path = format!("/3/{way:?}");
        open.push(Box::new(wires.send_h2(way, ["GET", "http", &path], &[], None).await));
        let heard = wires.heard(&path).await;
        assert!(!heard.contains("transfer-encoding") && !heard.contains("content-length"), "{heard}");
    }
}

async fn chunked_upstream(wires: &Wires, method: &str, path: &str) {
    until(&format!("the body of {path}"), async || {
        let heard = wires.app.heard();
        let one = heard.iter().find(|one| one.starts_with(&format!("{method} {path} HTTP/1.1\r\n")));
        let whole = one.is_some_and(|one| {
            let codings = one.matches("transfer-encoding: chunked\r\n").count();
            codings == 1 && !one.contains("content-length") && one.ends_with("\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        });
        if whole { Ok(()) } else { Err(heard) }
    })
    .await;
}

#[tokio::test]
async fn a_target_of_a_foreign_scheme_is_refused_and_its_server_hears_nothing() {
    let wires = Wires::start("HTTP").await;
    wires.app.answers(GOOD);
    let foreign = ["ftp", "wss", "ws", "file", "httpx"];
    for way in WAYS {
        for scheme in foreign {
            let target = format!("GET {scheme}://{}/a", way.authority());
            let answer = wires.ask_for(way, &target, "\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{way:?} {scheme}: {answer}");
            let outcome = wires.ask_h2(way, ["GET", scheme, "/a"], &[], None).await;
            assert_eq!(outcome, Outcome::Status(400), "{way:?} {scheme}");
        }
        wires.assert_silence(&format!("{way:?}"));
        wires.proxy(way).records_with(2 * foreign.len(), &[("reason", json!("scheme_unknown"))]).await;
    }
    for way in WAYS {
        for scheme in ["http", "HTTP"] {
            let answer = wires.ask_for(way, &format!("GET {scheme}://{}/b", way.authority()), "\r\n").await;
            assert!(answer.ends_with("good"), "{way:?} {scheme}: {answer}");
        }
    }
    let heard = wires.heard("GET /b HTTP/1.1\r\n").await;
    assert!(!heard.contains("://"), "{heard}");
}
