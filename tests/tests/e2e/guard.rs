//! RequestGuard at a sidecar: the application gets no request that has not the form which is asked for.

use http::{Request, StatusCode};
use palisade_tests::client::{self, Answer};
use palisade_tests::world::expecting;
use palisade_tests::{Scripted, World, until};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::PALISADE;
use crate::kit::{ALLOW_MESH, HTTP1, HTTP2, LEDGER, Mesh, STRICT, get, request, request_h2};

const GUARD: &str = "
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {name: ledger, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - {name: body, match: [{paths: [/entries]}], allowedMethods: [POST], maxBodyBytes: 8}
  - {name: narrow, match: [{hosts: [ledger.payments], paths: ['/entries*']}], maxBodyBytes: 100, forbidHeaders: [x-http-method-override]}
";

async fn guarded() -> Mesh {
    Mesh::start(&format!("{ALLOW_MESH}---{GUARD}")).await
}

const WEB: &str = "payments/web";

fn chunked(chunks: &[&str]) -> String {
    let body: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    format!("POST /entries HTTP/1.1\r\nhost: {LEDGER}\r\ntransfer-encoding: chunked\r\n\r\n{body}0\r\n\r\n")
}

fn streamed(
    pieces: &[&str],
) -> Request<impl http_body::Body<Data = bytes::Bytes, Error = std::convert::Infallible> + use<>> {
    let head = Request::builder().method("POST").uri(format!("http://{LEDGER}/entries"));
    head.body(client::streamed(pieces)).unwrap()
}

#[tokio::test]
async fn a_body_within_the_bound_passes_and_one_above_never_arrives_whole() {
    let mesh = guarded().await;
    for (round, over) in [false, true].into_iter().enumerate() {
        let whole = if over { "123456789" } else { "12345678" };
        let pieces = [&whole[..4], &whole[4..]];
        let statuses = [
            mesh.call(WEB, request("POST", "/entries", whole)).await.status.to_string(),
            mesh.call_h2(WEB, request_h2("POST", "/entries", whole)).await.status.to_string(),
            mesh.raw(WEB, chunked(&pieces).as_bytes()).await.replace("HTTP/1.1 ", ""),
            client::send_h2(mesh.connect(WEB, HTTP2).await, streamed(&pieces))
                .await
                .unwrap()
                .status
                .to_string(),
        ];
        let expected = if over { "413" } else { "200" };
        for (way, status) in
            ["HTTP/1.1", "HTTP/2", "chunks", "HTTP/2 without a length"].into_iter().zip(statuses)
        {
            assert!(status.starts_with(expected), "{way}: {status}");
        }
        let received = mesh.app.received();
        if over {
            assert!(received.iter().all(|one| !one.complete && one.body.len() <= 8), "{received:?}");
            let records = mesh.sidecar.records_with(4, &[("reason", json!("guard_body_bytes"))]).await;
            for record in records {
                assert_eq!(
                    (&record["policy"], &record["rule"]),
                    (&json!("payments/ledger"), &json!(0)),
                    "{record}"
                );
                assert_eq!(record["response_code"], 413, "{record}");
            }
        } else {
            assert_eq!(
                received.iter().filter(|one| one.complete && one.body == whole.as_bytes()).count(),
                4,
                "{round}"
            );
        }
        mesh.app.clear();
    }
}

#[tokio::test]
async fn rules_of_a_guard_apply_together_and_to_their_own_requests_alone() {
    let mesh = guarded().await;
    let answer = mesh.call(WEB, get("/entries")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("POST")));
    let mut overriding = request("POST", "/entries", "x");
    overriding.headers_mut().insert("X-HTTP_Method-Override", "DELETE".parse().unwrap());
    assert_eq!(mesh.call(WEB, overriding).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(mesh.call(WEB, request("POST", "/entries/1", &"x".repeat(101))).await.status, 413);
    mesh.app.assert_untouched();
    assert_eq!(mesh.call(WEB, request("POST", "/entries/1", &"x".repeat(100))).await.status, StatusCode::OK);
    assert_eq!(mesh.call(WEB, request("DELETE", "/other", &"x".repeat(101))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_connection_serves_on_after_a_refusal_that_left_nothing_unread() {
    let mesh = guarded().await;
    let ask = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nhost: {LEDGER}\r\n\r\n");
    let answer = mesh.raw(WEB, format!("{}{}", ask("GET", "/entries"), ask("GET", "/a")).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("HTTP/1.1 200"), "{answer}");
    assert_eq!(mesh.app.received().len(), 1);
}

#[tokio::test]
async fn a_body_after_an_upgrade_is_no_body_to_a_guard() {
    let all = GUARD.replace("match: [{paths: [/entries]}], allowedMethods: [POST], ", "");
    let mesh = Mesh::start(&format!("{ALLOW_MESH}---{all}")).await;
    let mut stream = mesh.connect(WEB, HTTP1).await;
    let head = format!(
        "GET /upgrade HTTP/1.1\r\nhost: {LEDGER}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    let answer = client::raw(&mut stream, head.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", answer.escape_ascii());
    assert_eq!(client::raw(&mut stream, b"more than eight bytes").await, b"more than eight bytes");
}

/// Sends a body in three pieces without a length, each once the application has the one before, to a silent application
/// behind a bound of 8 bytes: over HTTP/1.1 and HTTP/2. What the application got on the wire may be no whole request.
pub(crate) async fn assert_late_overruns_end_the_upstream_connection(
    app: &Scripted,
    host: &str,
    connect: impl AsyncFn(&[&[u8]]) -> TlsStream<TcpStream>,
) {
    let arrived = async |connection: usize, chunks: &'static str| {
        until("the piece before", || async {
            let heard = app.heard();
            if heard.get(connection).is_some_and(|bytes| bytes.ends_with(chunks)) {
                Ok(())
            } else {
                Err(heard)
            }
        })
        .await;
    };
    let mut stream = connect(HTTP1).await;
    let head = format!("POST /entries HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(format!("{head}4\r\n1234\r\n").as_bytes()).await.unwrap();
    arrived(0, "4\r\n1234\r\n").await;
    stream.write_all(b"4\r\n5678\r\n").await.unwrap();
    arrived(0, "4\r\n1234\r\n4\r\n5678\r\n").await;
    let answer = client::raw(&mut stream, b"1\r\n9\r\n0\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", answer.escape_ascii());

    let (body, sending) = client::paced();
    let sent = Request::post(format!("https://{host}/entries")).body(sending).unwrap();
    let answer = tokio::spawn(client::send_h2(connect(HTTP2).await, sent));
    body.send("1234".into()).await.unwrap();
    arrived(1, "4\r\n1234\r\n").await;
    body.send("5678".into()).await.unwrap();
    arrived(1, "4\r\n1234\r\n4\r\n5678\r\n").await;
    body.send("9".into()).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);

    until("both connections to be closed", || async {
        if app.ended() == 2 { Ok(()) } else { Err(app.ended()) }
    })
    .await;
    let heard = app.heard();
    assert_eq!(heard.len(), 2, "sent again: {heard:?}");
    for bytes in heard {
        let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /entries HTTP/1.1\r\n"), "{head}");
        let framing = head.to_ascii_lowercase();
        assert!(framing.contains("\r\ntransfer-encoding: chunked") && !framing.contains("content-length"));
        // No last chunk, and nothing of the piece that was too much.
        assert_eq!(body, "4\r\n1234\r\n4\r\n5678\r\n");
    }
}

#[tokio::test]
async fn a_body_that_grows_over_the_bound_late_is_413_and_the_application_reads_no_last_chunk() {
    let app = Scripted::start().await;
    let world = World::of_files(PALISADE);
    world.policy("strict.yaml", STRICT);
    world.policy("policies.yaml", &format!("{ALLOW_MESH}---{GUARD}"));
    let sidecar = world.file_sidecar("payments/ledger").serve(8080, app.address()).start().await;
    let svid = world.pki.svid(WEB);
    let connect = async |alpn: &[&[u8]]| {
        let expected = expecting("payments/ledger");
        let at = sidecar.inbound(8080);
        client::connect_tls(at, Some(&svid), &world.pki.bundle, expected, alpn).await.unwrap()
    };
    assert_late_overruns_end_the_upstream_connection(&app, LEDGER, connect).await;
    sidecar.records_with(2, &[("reason", json!("guard_body_bytes")), ("response_code", json!(413))]).await;
}

/// A refusal in gRPC's way: status 200, no body, and what it is in `grpc-status`.
fn assert_refused_in_grpc(answer: &Answer, grpc_status: &str) {
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, Some(grpc_status)));
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert!(answer.header("grpc-message").is_some() && answer.body.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_grpc_call_over_the_bound_is_resource_exhausted_and_never_arrives_whole() {
    let mesh = Mesh::serving("grpc", &format!("{ALLOW_MESH}---{GUARD}")).await;
    let grpc = |method: &str, body: &str| {
        let mut call = request_h2(method, "/entries", body);
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        call
    };
    assert_refused_in_grpc(&mesh.call_h2(WEB, grpc("POST", "123456789")).await, "8");
    // UNIMPLEMENTED, for the method.
    let answer = mesh.call_h2(WEB, grpc("PUT", "1")).await;
    assert_refused_in_grpc(&answer, "12");
    assert_eq!(answer.header("allow"), Some("POST"));
    mesh.app.assert_untouched();

    let (body, sending) = client::paced();
    let mut call = Request::post(format!("http://{LEDGER}/entries")).body(sending).unwrap();
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = tokio::spawn(client::send_h2(mesh.connect(WEB, HTTP2).await, call));
    body.send("12345678".into()).await.unwrap();
    until("the first message", || async {
        let received = mesh.app.received();
        if received.iter().any(|one| one.body == b"12345678") { Ok(()) } else { Err(received) }
    })
    .await;
    body.send("9".into()).await.unwrap();
    assert_refused_in_grpc(&answer.await.unwrap().unwrap(), "8");
    let fields = [("reason", json!("guard_body_bytes")), ("grpc_status", json!(8))];
    mesh.sidecar.records_with(2, &fields).await;
    let received = mesh.app.received();
    assert_eq!(received.len(), 1, "sent again: {received:?}");
    assert!(!received[0].complete && received[0].body == b"12345678", "{received:?}");
}

#[tokio::test]
async fn allow_of_a_405_is_what_all_guards_take_together() {
    let guard = |name: &str, methods: &str, narrow: &str| {
        GUARD.split("  rules:").next().unwrap().replace("name: ledger,", &format!("name: {name},"))
            + &format!(
                "  rules:
  - {{name: all, match: [{{paths: ['/entries*']}}], allowedMethods: [{methods}]}}
  - {{name: none, match: [{{paths: [/none]}}], allowedMethods: [{narrow}]}}
"
            )
    };
    let (one, two) = (guard("one", "GET, PUT, POST", "GET"), guard("two", "DELETE, POST, PUT", "POST"));
    let mesh = Mesh::start(&format!("{ALLOW_MESH}---{one}---{two}")).await;
    // Who refuses: the guard that does not take the method; where neither does, the first.
    for (method, path, allow, policy) in [
        ("PATCH", "/entries", "PUT, POST", "payments/one"),
        ("GET", "/entries/1", "PUT, POST", "payments/two"),
        ("DELETE", "/entries/2", "PUT, POST", "payments/one"),
        // They agree on nothing: empty, and not absent (RFC 9110 section 10.2.1).
        ("GET", "/none", "", "payments/two"),
    ] {
        let answer = mesh.call(WEB, request(method, path, "")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        let fields = [("path", json!(path)), ("method", json!(method))];
        let record = mesh.sidecar.records_with(1, &fields).await.remove(0);
        assert_eq!((&record["reason"], &record["policy"]), (&json!("guard_method"), &json!(policy)));
    }
    mesh.app.assert_untouched();
    for method in ["POST", "PUT"] {
        assert_eq!(mesh.call(WEB, request(method, "/entries", "")).await.status, StatusCode::OK);
    }
}
