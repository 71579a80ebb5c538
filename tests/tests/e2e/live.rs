//! What is under way when policy changes: judged again, and ended when it is allowed no longer.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_tests::client::{self, paced};
use palisade_tests::wait::DEADLINE;
use palisade_tests::{Sidecar, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::kit::{ALLOW_MESH, DENY_ALL, LEDGER, Mesh, upgrade, url};

type Frames = mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>;

/// What is allowed to callers that say which team they are of.
const ALLOW_TEAM: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: team, namespace: payments}
spec:
  action: ALLOW
  rules: [{when: [{key: 'request.headers[x-team]', values: [core]}]}]
";

/// A stream both ways from the application through both sidecars: what is sent comes back.
struct Call {
    frames: Frames,
    body: Incoming,
}

impl Call {
    async fn open(caller: &Sidecar, team: &str) -> Self {
        let (frames, body) = mpsc::channel(4);
        let socket = TcpStream::connect(caller.local_port(LEDGER)).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("http://{LEDGER}/echo/ledger.Ledger"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-team", team)
            .body(StreamBody::new(ReceiverStream::new(body)))
            .unwrap();
        frames.send(Ok(Frame::data("open".into()))).await.unwrap();
        let answer = timeout(DEADLINE, sender.send_request(request)).await.expect("a head").unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut call = Self { frames, body: answer.into_body() };
        assert_eq!(call.next().await.into_data().unwrap(), "open");
        call
    }

    async fn next(&mut self) -> Frame<Bytes> {
        timeout(DEADLINE, self.body.frame()).await.expect("a frame in time").unwrap().unwrap()
    }

    async fn ask(&mut self, text: &'static str) {
        self.frames.send(Ok(Frame::data(text.into()))).await.unwrap();
        assert_eq!(self.next().await.into_data().unwrap(), text);
    }

    /// The status that it ends with while both sides would still speak.
    async fn ended(&mut self) -> String {
        let trailers = self.next().await.into_trailers().unwrap();
        trailers["grpc-status"].to_str().unwrap().to_owned()
    }
}

async fn grpc(policies: &str) -> (Mesh, Sidecar) {
    let mesh = Mesh::serving("grpc", policies).await;
    mesh.publish();
    let caller = mesh.world.file_sidecar("payments/web").local_port(LEDGER).start().await;
    (mesh, caller)
}

/// Waits until the sidecar runs with policies of these names.
async fn until_in_force(sidecar: &Sidecar, name: &str) {
    until("a policy to be in force", || async {
        let page = sidecar.admin("/config").await.text();
        if page.contains(name) { Ok(()) } else { Err(page) }
    })
    .await;
}

#[tokio::test]
async fn a_push_ends_a_call_of_grpc_that_it_shuts_out_and_no_other() {
    let (mesh, caller) = grpc(ALLOW_TEAM).await;
    let (mut core, mut also_core) = (Call::open(&caller, "core").await, Call::open(&caller, "core").await);
    // Still allowed, by another rule for the same header: what it said then is known.
    let both = ALLOW_TEAM.replace("name: team", "name: teams").replace("[core]", "[core, other]");
    mesh.world.policy("policies.yaml", &both);
    until_in_force(&mesh.sidecar, "teams").await;
    core.ask("still here").await;
    let mut other = Call::open(&caller, "other").await;

    let only_other = ALLOW_TEAM.replace("name: team", "name: others").replace("[core]", "[other]");
    mesh.world.policy("policies.yaml", &only_other);
    assert_eq!((core.ended().await, also_core.ended().await), ("7".to_owned(), "7".to_owned()));
    other.ask("not meant").await;
    let details = json!("closed_by_policy_change");
    let closed = mesh.sidecar.records_with(2, &[("response_code_details", details)]).await;
    assert_eq!(closed.len(), 2, "{closed:#?}");
    assert!(closed.iter().all(|record| record["grpc_status"] == 7), "{closed:#?}");
    // The service knows too, and took none of it for whole.
    until("the service's side to end", || async {
        let received = mesh.app.received();
        let texts: Vec<_> =
            received.iter().map(|call| String::from_utf8_lossy(&call.body).into_owned()).collect();
        if received.iter().any(|call| call.complete) { Err(texts) } else { Ok(()) }
    })
    .await;
    drop(other);
}

#[tokio::test]
async fn a_push_breaks_a_download_off_so_that_it_does_not_look_whole() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(client::request("GET", &url("/drip/100000"), "")).await.unwrap();
    let mut body = answer.into_body();
    timeout(DEADLINE, body.frame()).await.unwrap().unwrap().unwrap();
    mesh.world.policy("policies.yaml", DENY_ALL);
    while timeout(DEADLINE, body.frame()).await.expect("an end").expect("the download looks whole").is_ok() {}
    let fields =
        [("response_code_details", json!("closed_by_policy_change")), ("path", json!("/drip/100000"))];
    mesh.sidecar.records_with(1, &fields).await;
}

#[tokio::test]
async fn a_push_ends_an_upload_and_the_service_does_not_take_it_for_whole() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let socket = TcpStream::connect(caller.http_proxy()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let (pieces, body) = paced();
    let request = Request::post(url("/status/200")).header("host", LEDGER).body(body).unwrap();
    let answer = tokio::spawn(async move { sender.send_request(request).await });
    pieces.send("a part".into()).await.unwrap();
    until("the part to arrive", || async {
        let received = mesh.app.received();
        if received.iter().any(|request| request.body == b"a part") { Ok(()) } else { Err(received) }
    })
    .await;
    mesh.world.policy("policies.yaml", DENY_ALL);
    let answer = timeout(DEADLINE, answer).await.expect("an answer").unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let fields = [("reason", json!("closed_by_policy_change")), ("response_code", json!(403))];
    mesh.sidecar.records_with(1, &fields).await;
    assert!(!mesh.app.last().complete);
    drop(pieces);
}

#[tokio::test]
async fn a_call_in_which_nobody_has_answered_yet_is_refused_by_a_push() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let waiting =
        tokio::spawn(client::send(caller.http_proxy(), client::request("GET", &url("/slow/60000"), "")));
    until("the request to arrive", || async { mesh.app.received().pop().ok_or("nothing yet") }).await;
    mesh.world.policy("policies.yaml", DENY_ALL);
    let answer = timeout(DEADLINE, waiting).await.expect("an answer").unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.header("x-palisade-decision-id").is_some());
}

/// What a request said in headers that nobody asked for was not kept.
#[tokio::test]
async fn a_push_that_asks_for_a_header_nobody_asked_for_before_ends_what_is_open() {
    let (mesh, caller) = grpc(ALLOW_MESH).await;
    let mut call = Call::open(&caller, "core").await;
    mesh.world.policy("policies.yaml", ALLOW_TEAM);
    assert_eq!(call.ended().await, "7");
    // A new one is judged by what it says.
    Call::open(&caller, "core").await.ask("again").await;
}

#[tokio::test]
async fn the_caller_side_ends_calls_to_a_service_that_it_may_not_know_any_more() {
    let (mesh, caller) = grpc(ALLOW_MESH).await;
    let mut call = Call::open(&caller, "core").await;
    let elsewhere = crate::kit::service_entry("other", mesh.inbound(), "GRPC");
    mesh.world.policy("ledger.yaml", &elsewhere);
    assert_eq!(call.ended().await, "7");
    caller.records_with(1, &[("response_code_details", json!("closed_by_policy_change"))]).await;
}

#[tokio::test]
async fn a_websocket_is_closed_by_a_push_that_shuts_its_caller_out_and_refused_from_then_on() {
    let mesh = Mesh::open().await;
    let caller = mesh.caller().await;
    let (mut socket, answer) = upgrade(&caller, "").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    socket.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    timeout(DEADLINE, socket.read_exact(&mut echo)).await.unwrap().unwrap();
    mesh.world.policy("policies.yaml", DENY_ALL);
    client::closed(&mut socket).await;
    let fields = [("response_code_details", json!("closed_by_policy_change")), ("response_code", json!(101))];
    mesh.sidecar.records_with(1, &fields).await;
    mesh.app.clear();
    let (_socket, answer) = upgrade(&caller, "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    mesh.app.assert_untouched();
}

/// With its own side still open, as streams have it.
async fn refused(caller: &Sidecar, path: &str) -> String {
    let (frames, body) = mpsc::channel::<Result<Frame<Bytes>, std::convert::Infallible>>(4);
    let socket = TcpStream::connect(caller.local_port(LEDGER)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://{LEDGER}{path}"))
        .header("content-type", "application/grpc")
        .body(StreamBody::new(ReceiverStream::new(body)))
        .unwrap();
    frames.send(Ok(Frame::data("open".into()))).await.unwrap();
    let answer = timeout(DEADLINE, sender.send_request(request)).await.expect("a head").unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["content-type"]),
        (StatusCode::OK, &"application/grpc".parse().unwrap())
    );
    // Trailers-Only: the status is in the head, and nothing comes after it.
    let status = answer.headers()["grpc-status"].to_str().unwrap().to_owned();
    assert_eq!(client::read(answer).await.unwrap().body, "");
    drop(frames);
    status
}

#[tokio::test]
async fn a_caller_of_grpc_is_told_by_the_status_that_fits_while_it_still_sends() {
    let policies = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: payments}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin.Admin/*]}}]}]}
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: few, namespace: payments}
spec:
  limits:
  - {name: one, match: [{paths: [/echo/ledger.Ledger]}], key: [{address: {}}], limit: 1, window: 1h}
";
    let (mesh, caller) = grpc(policies).await;
    assert_eq!(refused(&caller, "/admin.Admin/Drop").await, "7");
    mesh.app.assert_untouched();
    let mut first = Call::open(&caller, "core").await;
    first.ask("allowed").await;
    assert_eq!(refused(&caller, "/echo/ledger.Ledger").await, "8");
    let Mesh { app, sidecar, .. } = mesh;
    drop((first, app));
    assert_eq!(refused(&caller, "/echo/other.Other").await, "14");
    let fields = [("reason", json!("connection_refused")), ("grpc_status", json!(14))];
    sidecar.records_with(1, &fields).await;
}
