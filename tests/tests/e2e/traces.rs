//! Traces: what upstreams are told, and what a collector gets.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use palisade_tests::collector::Span;
use palisade_tests::{Collector, Outside, Sidecar, SidecarBuilder, client, until};
use serde_json::json;
use tokio::net::TcpListener;

use crate::edge::door::{Door, EVERYBODY, GATEWAY, TO_LEDGER, request, with};
use crate::kit::{ALLOW_MESH, Mesh, url};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const STATE: &str = "vendor=t61rcWkgMzE,other=00f067aa0ba902b7";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// The ledger behind its sidecar, and `payments/web` behind another; what `options` adds is for both.
async fn mesh(options: &[(&str, &str)]) -> (Mesh, Sidecar) {
    let add = |builder: SidecarBuilder| options.iter().fold(builder, |b, (name, value)| b.arg(name, value));
    let mesh = Mesh::start_with(ALLOW_MESH, add).await;
    mesh.publish();
    let web = add(mesh.world.file_sidecar("payments/web").outbound()).start().await;
    (mesh, web)
}

/// Asks for the ledger with these headers, and gives the status and what reached the ledger.
async fn ask(mesh: &Mesh, web: &Sidecar, target: &str, headers: &[(&'static str, &str)]) -> HeaderMap {
    let request = with(client::request("GET", &url(target), ""), headers);
    let answer = client::send(web.http_proxy(), request).await;
    assert_ne!(answer.status, StatusCode::FORBIDDEN);
    mesh.app.last().headers
}

fn one<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let mut values = headers.get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name}: {headers:?}")).to_str().unwrap();
    assert_eq!(values.next(), None, "{headers:?}");
    value
}

/// Trace, span and flags of a `traceparent`.
fn split(header: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = header.split('-').collect();
    assert!(parts.len() == 4 && parts[0] == "00", "{header}");
    (parts[1], parts[2], parts[3])
}

/// Each is the parent of the next one.
fn assert_chain(spans: &[Span], first_parent: &str, expected: &[(&str, SpanKind)]) {
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
async fn a_collector_that_is_away_harms_no_request_and_gets_the_spans_when_it_is_back() {
    let address = Collector::start().await.address();
    let (mesh, web) = mesh(&[("--otlp-endpoint", &format!("http://{address}"))]).await;
    let header = parent("01");
    for _ in 0..20 {
        ask(&mesh, &web, "/", &[("traceparent", &header)]).await;
    }
    assert_eq!(web.records_with(20, &[("response_code", json!(200))]).await.len(), 20);
    until("a line in the log", || async {
        let log = web.process.log();
        if log.contains("the collector takes no traces") { Ok(()) } else { Err(log) }
    })
    .await;
    let collector = Collector::start_at(address).await;
    assert_eq!(collector.trace(TRACE, 80).await.len(), 80);
    until("another line in the log", || async {
        let log = web.process.log();
        if log.contains("the collector takes traces again") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(web.process.log().matches("the collector takes no traces").count(), 1);
    assert!(web.metric("palisade_spans_dropped_total", &[]).await.abs() < f64::EPSILON);
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted_and_what_it_cannot_take_now_is_sent_again() {
    let collector = Collector::start().await;
    let (mesh, web) = mesh(&[("--otlp-endpoint", &collector.url())]).await;
    let ids = ["1", "2", "3"].map(|digit| digit.repeat(32));
    let header = |i: usize| format!("00-{}-{SPAN}-01", ids[i]);
    collector.answers(StatusCode::UNAUTHORIZED);
    ask(&mesh, &web, "/", &[("traceparent", &header(0))]).await;
    until("refused spans", || async {
        let refused = web.metric("palisade_spans_dropped_total", &["refused"]).await;
        if refused >= 2.0 { Ok(()) } else { Err(refused) }
    })
    .await;
    assert!(web.process.log().contains("OTEL_EXPORTER_OTLP_HEADERS"), "{}", web.process.log());
    collector.answers(StatusCode::SERVICE_UNAVAILABLE);
    let before = collector.heads().len();
    ask(&mesh, &web, "/", &[("traceparent", &header(1))]).await;
    until("tries", || async { if collector.heads().len() > before + 3 { Ok(()) } else { Err(()) } }).await;
    collector.answers(StatusCode::OK);
    ask(&mesh, &web, "/", &[("traceparent", &header(2))]).await;
    collector.trace(&ids[2], 4).await;
    assert_eq!(collector.trace(&ids[1], 4).await.len(), 4);
    assert!(collector.spans().iter().all(|span| span.trace != ids[0]));
}

#[tokio::test]
async fn a_collector_in_tls_is_checked_before_it_gets_credentials_or_spans() {
    let (ours, others) = (Outside::new("roots of the collector"), Outside::new("roots of others"));
    let collector = Collector::start_tls(&ours).await;
    let mesh = Mesh::open().await;
    mesh.publish();
    let header = parent("01");
    for (ca, trusted) in [(&others, false), (&ours, true)] {
        let roots = mesh.world.write("collector.pem", &ca.root_pem());
        let web = mesh.world.file_sidecar("payments/web").outbound().arg("--otlp-ca", &roots);
        let base = format!("https://localhost:{}/otlp", collector.address().port());
        let web = web.env("OTEL_EXPORTER_OTLP_ENDPOINT", &base);
        let web = web.env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b,x-tenant=bank");
        let web = web.env("OTEL_SERVICE_NAME", "front").env("OTEL_RESOURCE_ATTRIBUTES", "service.version=7");
        let web = web.start().await;
        ask(&mesh, &web, "/", &[("traceparent", &header)]).await;
        if trusted {
            let spans = collector.trace(TRACE, 2).await;
            assert_eq!(
                (spans[0].service.as_str(), spans[0].resource["service.version"].as_str()),
                ("front", "7")
            );
            let (path, head) = &collector.heads()[0];
            assert_eq!(
                (path.as_str(), one(head, "api-key"), one(head, "x-tenant")),
                ("/otlp/v1/traces", "a b", "bank")
            );
        } else {
            until("a warning", || async {
                let log = web.process.log();
                if log.contains("UnknownIssuer") { Ok(()) } else { Err(log) }
            })
            .await;
            assert!(collector.heads().is_empty());
        }
        assert!(!web.process.log().contains("a b"), "{}", web.process.log());
    }
}

#[tokio::test]
async fn the_end_of_a_sidecar_sends_what_is_left() {
    let collector = Collector::start().await;
    let (mesh, mut web) = mesh(&[("--otlp-endpoint", &collector.url())]).await;
    ask(&mesh, &web, "/", &[("traceparent", &parent("01"))]).await;
    web.records_with(1, &[]).await;
    web.process.terminate().await;
    assert!(web.process.exit().await.success());
    let sent = collector.spans().iter().filter(|span| span.service == "web.payments").count();
    assert_eq!(sent, 2, "before the process was gone");
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mesh, mut web) =
        mesh(&[("--otlp-endpoint", &format!("http://{}", silent.local_addr().unwrap()))]).await;
    ask(&mesh, &web, "/", &[("traceparent", &parent("01"))]).await;
    web.process.terminate().await;
    let ended = tokio::time::timeout(Duration::from_secs(8), web.process.exit()).await;
    assert!(ended.expect("3 s are for traces").success());
    assert!(web.process.log().contains("did not take all traces"), "{}", web.process.log());
}

#[tokio::test]
async fn an_edge_tells_the_mesh_nothing_of_clients_traces_unless_it_was_told_to() {
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let header = parent("01");
    let headers = [("traceparent", header.as_str()), ("tracestate", STATE)];
    let door = Door::with(&documents, |edge| edge).await;
    door.send(with(request("GET", "/", ""), &headers)).await;
    let received = door.app().last().headers;
    assert!(!received.contains_key("traceparent") && !received.contains_key("tracestate"), "{received:?}");

    let door = Door::with(&documents, |edge| edge.flag("--follow-client-traces")).await;
    door.send(with(request("GET", "/", ""), &headers)).await;
    let received = door.app().last().headers;
    assert_eq!((one(&received, "traceparent"), one(&received, "tracestate")), (header.as_str(), STATE));
}

#[tokio::test]
async fn an_edge_begins_a_trace_of_its_own_and_links_to_the_clients() {
    let collector = Collector::start().await;
    let documents = format!("{GATEWAY}---{EVERYBODY}---{TO_LEDGER}");
    let traced =
        |edge: SidecarBuilder| edge.arg("--otlp-endpoint", &collector.url()).arg("--trace-sample", "1");
    let header = parent("01");
    let headers = [("traceparent", header.as_str()), ("tracestate", STATE)];
    let door = Door::with(&documents, traced).await;
    door.send_h2(with_uri(&headers)).await;
    let received = door.app().last().headers;
    let (trace, span, flags) = split(one(&received, "traceparent"));
    assert!(trace != TRACE && flags == "01" && !received.contains_key("tracestate"), "{received:?}");
    let spans = collector.trace(trace, 2).await;
    let name = "edge.payments";
    assert_chain(&spans, "", &[(name, SpanKind::Server), (name, SpanKind::Client)]);
    assert_eq!(spans[1].id, span);
    assert_eq!(spans[0].links, [(TRACE.to_owned(), SPAN.to_owned())]);
    assert_eq!(spans[0].name, "GET payments/api/all");
    let rows = [("http.route", "payments/api/all"), ("url.scheme", "https"), ("client.address", "127.0.0.1")];
    for (key, value) in rows {
        assert_eq!(spans[0].attribute(key), value, "{:#?}", spans[0]);
    }

    // A client that marks its requests as sampled costs nothing.
    let seldom =
        |edge: SidecarBuilder| edge.arg("--otlp-endpoint", &collector.url()).arg("--trace-sample", "0");
    let door = Door::with(&documents, seldom).await;
    door.send(with(request("GET", "/", ""), &headers)).await;
    let received = door.app().last().headers;
    let (trace, _, flags) = split(one(&received, "traceparent"));
    assert!(trace != TRACE && flags == "00", "{received:?}");

    let follow = |edge: SidecarBuilder| seldom(edge).flag("--follow-client-traces");
    let door = Door::with(&documents, follow).await;
    door.send(with(request("GET", "/", ""), &headers)).await;
    let received = door.app().last().headers;
    assert_eq!((split(one(&received, "traceparent")).0, one(&received, "tracestate")), (TRACE, STATE));
    let spans = collector.trace(TRACE, 2).await;
    assert_chain(&spans, SPAN, &[(name, SpanKind::Server), (name, SpanKind::Client)]);
}

fn with_uri(headers: &[(&'static str, &str)]) -> Request<http_body_util::Full<bytes::Bytes>> {
    with(crate::edge::door::request_h2("GET", crate::edge::door::HOST, "/", ""), headers)
}
