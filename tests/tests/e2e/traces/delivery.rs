//! How spans reach a collector that is away, refuses them, or is somebody else.

use std::time::Duration;

use http::StatusCode;
use palisade_tests::{Collector, Outside, until};
use serde_json::json;
use tokio::net::TcpListener;

use super::{SPAN, TRACE, ask, mesh, one, parent};
use crate::kit::Mesh;

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
    // Both ends of the call have sent theirs before the collector changes its mind.
    for proxy in [&web, &mesh.sidecar] {
        until("refused spans", || async {
            let refused = proxy.metric("palisade_spans_dropped_total", &["refused"]).await;
            if refused >= 2.0 { Ok(()) } else { Err(refused) }
        })
        .await;
    }
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
