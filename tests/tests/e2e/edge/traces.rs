//! Where traces begin: what clients say of theirs, and what copies are told.

use http::Request;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use palisade_tests::{Collector, SidecarBuilder, Upstream};

use super::door::{Door, EVERYBODY, GATEWAY, TO_LEDGER, request, with};
use super::routes::{external, routes};
use crate::traces::{SPAN, STATE, TRACE, assert_chain, one, parent, split};

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
    with(super::door::request_h2("GET", super::door::HOST, "/", ""), headers)
}

#[tokio::test]
async fn a_copy_for_a_mirror_is_a_span_beside_that_of_the_upstream() {
    let (collector, copies) = (Collector::start().await, Upstream::start("copy").await);
    let route =
        "  - name: all\n    route: [{destination: {host: ledger}}]\n    mirror: {host: copy.example}\n";
    let mirrored = format!("{}---{}", routes(route), external("copy.example", copies.address()));
    let traced =
        |edge: SidecarBuilder| edge.arg("--otlp-endpoint", &collector.url()).arg("--trace-sample", "1");
    let door = Door::with(&format!("{GATEWAY}---{EVERYBODY}---{mirrored}"), traced).await;
    door.send(request("GET", "/", "")).await;
    let sent = door.app().last().headers;
    let (trace, span, _) = split(one(&sent, "traceparent"));
    let spans = collector.trace(trace, 3).await;
    let (original, copy) = (
        spans.iter().find(|s| s.id == span).unwrap(),
        spans.iter().find(|s| s.attributes.contains_key("palisade.mirror_of")),
    );
    let (copy, server) = (copy.unwrap(), spans.iter().find(|span| span.kind == SpanKind::Server).unwrap());
    assert_eq!((&original.parent, &copy.parent), (&server.id, &server.id));
    assert_eq!((copy.kind, copy.attribute("server.address")), (SpanKind::Client, "api.bank.example-shadow"));
    assert_eq!(split(one(&copies.last().headers, "traceparent")), (trace, copy.id.as_str(), "01"));
}
