//! Traces: what upstreams are told, and what a collector gets.

mod delivery;

use std::net::SocketAddr;

use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use palisade_tests::collector::Span;
use palisade_tests::{Collector, Sidecar, SidecarBuilder, client, until};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::edge::door::with;
use crate::kit::{ALLOW_MESH, Mesh, url};

pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub(crate) const SPAN: &str = "00f067aa0ba902b7";
pub(crate) const STATE: &str = "vendor=t61rcWkgMzE,other=00f067aa0ba902b7";

pub(crate) fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// The ledger behind its sidecar, and `payments/web` behind another; what `options` adds is for both.
pub(crate) async fn mesh(options: &[(&str, &str)]) -> (Mesh, Sidecar) {
    let add = |builder: SidecarBuilder| options.iter().fold(builder, |b, (name, value)| b.arg(name, value));
    let mesh = Mesh::start_with(ALLOW_MESH, add).await;
    mesh.publish();
    let web = add(mesh.world.file_sidecar("payments/web").outbound()).start().await;
    (mesh, web)
}

/// Asks for the ledger with these headers, and gives the status and what reached the ledger.
pub(crate) async fn ask(
    mesh: &Mesh,
    web: &Sidecar,
    target: &str,
    headers: &[(&'static str, &str)],
) -> HeaderMap {
    let request = with(client::request("GET", &url(target), ""), headers);
    let answer = client::send(web.http_proxy(), request).await;
    assert_ne!(answer.status, StatusCode::FORBIDDEN);
    mesh.app.last().headers
}

pub(crate) fn one<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let mut values = headers.get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name}: {headers:?}")).to_str().unwrap();
    assert_eq!(values.next(), None, "{headers:?}");
    value
}

/// Trace, span and flags of a `traceparent`.
pub(crate) fn split(header: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = header.split('-').collect();
    assert!(parts.len() == 4 && parts[0] == "00", "{header}");
    (parts[1], parts[2], parts[3])
}

/// Each is the parent of the next one.
pub(crate) fn assert_chain(spans: &[Span], first_parent: &str, expected: &[(&str, SpanKind)]) {
    let shown: Vec<_> = spans.iter().map(|span| (span.service.as_str(), span.kind)).collect();
    assert_eq!(shown, expected);
    let mut parent = first_parent;
    for span in spans {
        assert_eq!(span.parent, parent, "{spans:#?}");
        assert!(span.start <= span.end && spans[0].end >= span.end, "{spans:#?}");
        parent = &span.id;
    }
}

#[tokio::test]
async fn without_a_collector_sidecars_pass_on_whatever_callers_say() {
    let (mesh, web) = mesh(&[]).await;
    let rows: [&[(&'static str, &str)]; 4] = [
        &[("traceparent", &parent("01")), ("tracestate", STATE)],
        &[("traceparent", &parent("00")), ("tracestate", "a=1"), ("tracestate", "b=2")],
        &[("traceparent", "no trace"), ("tracestate", "==")],
        &[],
    ];
    for headers in rows {
        let received = ask(&mesh, &web, "/", headers).await;
        for name in ["traceparent", "tracestate"] {
            let sent: Vec<_> = headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect();
            let got: Vec<_> = received.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(got, sent);
        }
    }
    let records = web.records_with(4, &[]).await;
    assert!(records.iter().all(|record| record.get("trace_id").is_none()), "{records:?}");
}

#[tokio::test]
async fn a_callers_trace_goes_on_through_both_sidecars() {
    let collector = Collector::start().await;
    let (mesh, web) = mesh(&[("--otlp-endpoint", &collector.url())]).await;
    let headers =
        [("traceparent", parent("01")), ("tracestate", STATE.to_owned()), ("user-agent", "app/1".into())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let received = ask(&mesh, &web, "/entries?token=hush", &headers).await;

    let spans = collector.trace(TRACE, 4).await;
    let (web_name, ledger) = ("web.payments", "ledger.payments");
    let expected = [
        (web_name, SpanKind::Server),
        (web_name, SpanKind::Client),
        (ledger, SpanKind::Server),
        (ledger, SpanKind::Client),
    ];
    assert_chain(&spans, SPAN, &expected);
    assert_eq!(split(one(&received, "traceparent")), (TRACE, spans[3].id.as_str(), "01"));
    assert_eq!(one(&received, "tracestate"), STATE);
    assert!(!format!("{spans:?}").contains("hush"), "{spans:#?}");

    let all = |span: &Span, rows: &[(&str, &str)]| {
        for (key, value) in rows {
            assert_eq!(span.attribute(key), *value, "{key} in {span:#?}");
        }
    };
    for span in &spans {
        all(
            span,
            &[("http.request.method", "GET"), ("http.response.status_code", "200"), ("error.type", "")],
        );
        assert_eq!((span.name.as_str(), span.is_error, span.state.as_str()), ("GET", false, STATE));
        assert_eq!(
            (span.scope.as_str(), span.resource["service.namespace"].as_str()),
            ("palisade", "payments")
        );
    }
    let host = ("server.address", "ledger.payments");
    all(
        &spans[0],
        &[host, ("url.path", "/entries"), ("url.scheme", "http"), ("palisade.direction", "outbound")],
    );
    all(&spans[1], &[host, ("server.port", "8080"), ("network.protocol.version", "2")]);
    all(
        &spans[1],
        &[("url.full", "https://ledger.payments:8080/entries"), ("http.request.resend_count", "")],
    );
    all(&spans[1], &[("network.peer.port", &mesh.inbound().port().to_string())]);
    all(&spans[2], &[host, ("url.scheme", "https"), ("user_agent.original", "app/1")]);
    all(&spans[2], &[("palisade.source.principal", "spiffe://test.mesh/ns/payments/sa/web")]);
    all(&spans[2], &[("palisade.decision", "allowed"), ("palisade.policy", "palisade-system/allow-mesh")]);
    all(
        &spans[3],
        &[("network.peer.port", &mesh.app.address().port().to_string()), ("network.protocol.version", "1.1")],
    );

    // Logs and traces meet.
    for (sidecar, span) in [(&web, &spans[0]), (&mesh.sidecar, &spans[2])] {
        let record = &sidecar.records_with(1, &[("trace_id", json!(TRACE))]).await[0];
        assert_eq!(record["span_id"], json!(span.id));
        assert_eq!(record["decision_id"], json!(span.attribute("palisade.decision_id")));
    }
    let (path, head) = &collector.heads()[0];
    assert_eq!(
        (path.as_str(), &head["content-type"]),
        ("/v1/traces", &"application/x-protobuf".parse().unwrap())
    );
    until("the count of exported spans", || async {
        let count = web.metric("palisade_spans_exported_total", &[]).await;
        if count >= 2.0 { Ok(()) } else { Err(count) }
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_does_not_record_nobody_records() {
    let collector = Collector::start().await;
    let (mesh, web) = mesh(&[("--otlp-endpoint", &collector.url()), ("--trace-sample", "100%")]).await;
    let (unsampled, marked) = (parent("00"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let received = ask(&mesh, &web, "/", &[("traceparent", &unsampled), ("tracestate", STATE)]).await;
    assert_eq!((one(&received, "traceparent"), one(&received, "tracestate")), (unsampled.as_str(), STATE));
    // Spans go in order: when these are there, those of before would be.
    ask(&mesh, &web, "/", &[("traceparent", marked)]).await;
    collector.trace("0af7651916cd43dd8448eb211c80319c", 4).await;
    assert_eq!(collector.spans().iter().filter(|span| span.trace == TRACE).count(), 0);
    let record = &web.records_with(1, &[("trace_id", json!(TRACE))]).await[0];
    assert!(record["span_id"].is_null(), "{record}");
}

#[tokio::test]
async fn a_trace_that_begins_here_is_sampled_once_for_all_hops() {
    let collector = Collector::start().await;
    let header = parent("01");
    for (sample, flags) in [("0", "00"), ("1", "01")] {
        let (mesh, web) = mesh(&[("--otlp-endpoint", &collector.url()), ("--trace-sample", sample)]).await;
        for headers in [
            vec![],
            // Not valid, so that the state means nothing either.
            vec![
                ("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
                ("tracestate", STATE),
            ],
            vec![("traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")],
            vec![("traceparent", header.as_str()); 2],
        ] {
            let received = ask(&mesh, &web, "/", &headers).await;
            let (trace, span, seen) = split(one(&received, "traceparent"));
            assert!(
                seen == flags && !trace.eq_ignore_ascii_case(TRACE) && trace != "0".repeat(32),
                "{received:?}"
            );
            assert!(!received.contains_key("tracestate"));
            web.records_with(1, &[("trace_id", json!(trace))]).await;
            mesh.sidecar.records_with(1, &[("trace_id", json!(trace))]).await;
            if flags == "01" {
                let spans = collector.trace(trace, 4).await;
                assert_eq!((spans[0].parent.as_str(), spans[3].id.as_str()), ("", span));
            }
        }
    }
    assert_eq!(collector.spans().len(), 16, "those of the second mesh alone");
}

#[tokio::test]
async fn refusals_and_failures_say_why() {
    let collector = Collector::start().await;
    let (mesh, web) = mesh(&[("--otlp-endpoint", &collector.url())]).await;
    let ids = ["1", "2", "3"].map(|digit| digit.repeat(32));
    let headers = ids.each_ref().map(|id| format!("00-{id}-{SPAN}-01"));
    // The application fails; it is asked for what it has not; nobody knows the destination.
    ask(&mesh, &web, "/status/503", &[("traceparent", &headers[0])]).await;
    let spans = collector.trace(&ids[0], 4).await;
    for span in &spans {
        assert!(span.is_error && span.attribute("error.type") == "503", "{span:#?}");
    }
    ask(&mesh, &web, "/status/404", &[("traceparent", &headers[1])]).await;
    let spans = collector.trace(&ids[1], 4).await;
    let errors: Vec<_> = spans.iter().map(|span| (span.is_error, span.attribute("error.type"))).collect();
    assert_eq!(errors, [(false, ""), (true, "404"), (false, ""), (true, "404")], "no fault of a server");
    let request = client::request("GET", "http://unknown.payments:8080/", "");
    let answer = client::send(web.http_proxy(), with(request, &[("traceparent", &headers[2])])).await;
    let spans = collector.trace(&ids[2], 1).await;
    assert_eq!((spans.len(), spans[0].attribute("error.type")), (1, "unknown_destination"));
    let decision = spans[0].attribute("palisade.decision_id");
    assert_eq!(answer.header("x-palisade-decision-id"), Some(decision));
}

#[tokio::test]
async fn every_attempt_is_a_span_of_its_own() {
    let collector = Collector::start().await;
    let (mesh, _) = mesh(&[("--otlp-endpoint", &collector.url())]).await;
    // Two addresses, of which one takes no connection; tried in any order, until both have been seen.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    mesh.world.policy("ledger.yaml", &two_endpoints(closed, mesh.inbound()));
    let web = mesh.world.file_sidecar("payments/web").outbound();
    let web = web.arg("--otlp-endpoint", &collector.url()).start().await;
    let header = parent("01");
    until("a request that is tried twice", || async {
        ask(&mesh, &web, "/", &[("traceparent", &header)]).await;
        let retried = web.records().into_iter().any(|record| record["retry_count"] == json!(1));
        if retried { Ok(()) } else { Err(()) }
    })
    .await;
    let again = until("a span of the second attempt", || async {
        let spans = collector.spans();
        let again = spans.iter().find(|span| span.attribute("http.request.resend_count") == "1").cloned();
        again.ok_or(spans)
    })
    .await;
    let spans = collector.spans();
    let siblings: Vec<&Span> =
        spans.iter().filter(|span| span.parent == again.parent && span.kind == SpanKind::Client).collect();
    assert_eq!(siblings.len(), 2, "{siblings:#?}");
    let first = siblings.iter().find(|span| span.id != again.id).unwrap();
    assert!(first.is_error && !again.is_error && first.end <= again.start, "{siblings:#?}");
    assert_eq!(first.attribute("error.type"), "connection_refused");
    assert_eq!(first.attribute("http.response.status_code"), "");
    assert_eq!(first.attribute("network.peer.port"), closed.port().to_string());
    // The ledger's side goes on from the attempt that reached it.
    until("the ledger's span", || async {
        let spans = collector.spans();
        if spans.iter().any(|span| span.parent == again.id) { Ok(()) } else { Err(spans) }
    })
    .await;
}

fn two_endpoints(a: SocketAddr, b: SocketAddr) -> String {
    let entry = crate::kit::service_entry("ledger", b, "HTTP");
    let first = format!("{{address: {}, ports: {{main: {}}}, serviceAccount: ledger}}, ", a.ip(), a.port());
    entry.replace("endpoints: [", &format!("endpoints: [{first}"))
}

#[tokio::test]
async fn a_request_whose_caller_goes_away_says_so() {
    let collector = Collector::start().await;
    let (mesh, web) = mesh(&[("--otlp-endpoint", &collector.url())]).await;
    let header = parent("01");
    // The caller goes away before there is an answer.
    let mut socket = TcpStream::connect(web.http_proxy()).await.unwrap();
    let text = format!(
        "GET {} HTTP/1.1\r\nhost: ledger.payments:8080\r\ntraceparent: {header}\r\n\r\n",
        url("/slow/60000")
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    until("the request at the application", || async {
        if mesh.app.received().is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    drop(socket);
    for span in collector.trace(TRACE, 4).await {
        assert!(span.is_error && span.attribute("error.type") == "cancelled", "{span:#?}");
        assert_eq!(span.attribute("http.response.status_code"), "");
    }
}
