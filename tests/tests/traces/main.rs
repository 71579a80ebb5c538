//! One trace through an edge, two services and their sidecars, by way of a collector that others made: Rotel, from
//! PyPI's package `rotel`, as `rotel-agent` on the PATH.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

mod mesh;
mod rotel;

use http::StatusCode;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Server};
use palisade_tests::collector::Span;
use palisade_tests::{Collector, until};

use mesh::Mesh;
use rotel::Rotel;

/// The binary under test: the same program as `palisade`.
const PALISADE: &str = env!("CARGO_BIN_EXE_palisade-under-test");

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Edge, caller's sidecar on both ways, ledger's sidecar.
const CHAIN: [(&str, opentelemetry_proto::tonic::trace::v1::span::SpanKind); 8] = [
    ("edge.payments", Server),
    ("edge.payments", Client),
    ("web.payments", Server),
    ("web.payments", Client),
    ("web.payments", Server),
    ("web.payments", Client),
    ("ledger.payments", Server),
    ("ledger.payments", Client),
];

/// Asserts that each span is the parent of the next, and lies within it.
fn assert_chain(spans: &[Span], first_parent: &str) {
    assert_eq!(spans.len(), CHAIN.len(), "{spans:#?}");
    let mut parent = first_parent;
    for (index, expected) in CHAIN.iter().enumerate() {
        let span = spans.iter().find(|span| span.parent == parent);
        let span = span.unwrap_or_else(|| panic!("{index}: nothing below {parent:?}: {spans:#?}"));
        assert_eq!((span.service.as_str(), span.kind), *expected, "{index}: {spans:#?}");
        assert!(!span.is_error && span.attribute("http.response.status_code") == "200", "{span:#?}");
        parent = &span.id;
    }
}

async fn one_trace_through_everything(protocol: &str) {
    let collector = Collector::start().await;
    let rotel = Rotel::start(&collector).await;
    let endpoint = rotel.url(protocol);
    let options =
        [("--otlp-endpoint", endpoint.as_str()), ("--otlp-protocol", protocol), ("--trace-sample", "1")];

    // A client that is followed: its trace goes on.
    let mesh = Mesh::start(&options, &["--follow-client-traces"]).await;
    let sampled = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(mesh.ask(&[("traceparent", &sampled)]).await, StatusCode::OK);
    let spans = collector.trace(TRACE, CHAIN.len()).await;
    assert_chain(&spans, SPAN);
    let last = spans.iter().find(|span| spans.iter().all(|other| other.parent != span.id)).unwrap();
    assert_eq!(mesh.told(), format!("00-{TRACE}-{}-01", last.id), "what the ledger was told");

    // One that records nothing: nobody records anything, and the next trace shows that all has arrived.
    let (quiet, loud) = ("1".repeat(32), "2".repeat(32));
    assert_eq!(mesh.ask(&[("traceparent", &format!("00-{quiet}-{SPAN}-00"))]).await, StatusCode::OK);
    assert_eq!(mesh.told(), format!("00-{quiet}-{SPAN}-00"));
    assert_eq!(mesh.ask(&[("traceparent", &format!("00-{loud}-{SPAN}-01"))]).await, StatusCode::OK);
    assert_chain(&collector.trace(&loud, CHAIN.len()).await, SPAN);
    assert!(collector.spans().iter().all(|span| span.trace != quiet));

    // A client that is not: one trace all the same, from the edge on.
    let mesh = Mesh::start(&options, &[]).await;
    assert_eq!(mesh.ask(&[("traceparent", &sampled)]).await, StatusCode::OK);
    let told = mesh.told();
    let own = told.split('-').nth(1).unwrap();
    assert_ne!(own, TRACE);
    let spans = collector.trace(own, CHAIN.len()).await;
    assert_chain(&spans, "");
    let first = spans.iter().find(|span| span.parent.is_empty()).unwrap();
    assert_eq!(first.links, [(TRACE.to_owned(), SPAN.to_owned())]);
    assert_eq!(first.name, "GET payments/public/all");
}

#[tokio::test]
async fn one_trace_with_the_right_parents_over_http() {
    one_trace_through_everything("http/protobuf").await;
}

#[tokio::test]
async fn one_trace_with_the_right_parents_over_grpc() {
    one_trace_through_everything("grpc").await;
}

#[tokio::test]
async fn a_collector_that_is_killed_harms_no_request_and_gets_what_waited() {
    for protocol in ["http/protobuf", "grpc"] {
        let collector = Collector::start().await;
        let mut rotel = Rotel::start(&collector).await;
        let endpoint = rotel.url(protocol);
        let options =
            [("--otlp-endpoint", endpoint.as_str()), ("--otlp-protocol", protocol), ("--trace-sample", "1")];
        let mesh = Mesh::start(&options, &[]).await;
        assert_eq!(mesh.ask(&[]).await, StatusCode::OK);
        let first = mesh.told();
        assert_chain(&collector.trace(first.split('-').nth(1).unwrap(), CHAIN.len()).await, "");
        rotel.kill().await;
        assert_eq!(mesh.ask(&[]).await, StatusCode::OK);
        let second = mesh.told();
        until("a warning", || async {
            let log = mesh.edge.process.log();
            if log.contains("the collector takes no traces") { Ok(()) } else { Err(log) }
        })
        .await;
        rotel.run().await;
        assert_chain(&collector.trace(second.split('-').nth(1).unwrap(), CHAIN.len()).await, "");
    }
}
