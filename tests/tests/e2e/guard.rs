//! RequestGuard at a sidecar: the application gets no request that has not the form which is asked for.

use http::{Request, StatusCode};
use palisade_tests::client;
use serde_json::json;

use crate::kit::{ALLOW_MESH, HTTP2, LEDGER, Mesh, get, request, request_h2};

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
    let mut stream = mesh.connect(WEB, crate::kit::HTTP1).await;
    let head = format!(
        "GET /upgrade HTTP/1.1\r\nhost: {LEDGER}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    let answer = client::raw(&mut stream, head.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", answer.escape_ascii());
    assert_eq!(client::raw(&mut stream, b"more than eight bytes").await, b"more than eight bytes");
}
