//! Where services are: published when ready, withdrawn at once on an orderly end, after a grace on any other.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use palisade_tests::{Upstream, until};
use tokio::time::Instant;

use crate::fleet::{Fleet, endpoints, until_endpoints};

/// How long the endpoints of an instance that vanished are kept; `limits.rs` of the control plane.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_instance_is_published_when_it_is_ready_and_withdrawn_when_it_drains() {
    let mut fleet = Fleet::open().await;
    let app = Upstream::start("second").await;
    let second = fleet.world.sidecar_named("payments/ledger", "second").await.serve(8080, app.address());
    let second = second.start().await;
    fleet.until_known(&fleet.web, 2).await;
    until("both instances to be called", || async {
        assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
        let called = (fleet.app.received().len(), app.received().len());
        if called.0 > 0 && called.1 > 0 { Ok(()) } else { Err(called) }
    })
    .await;

    let asked = Instant::now();
    fleet.ledger.process.terminate().await;
    fleet.until_known(&fleet.web, 1).await;
    assert!(asked.elapsed() < GRACE, "an orderly end waits for no grace: {:?}", asked.elapsed());
    assert!(fleet.ledger.process.exit().await.success());
    fleet.app.clear();
    for _ in 0..10 {
        assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
    }
    fleet.app.assert_untouched();
    second.ready().await;
}

#[tokio::test]
async fn an_instance_that_vanishes_is_kept_for_a_grace_and_then_withdrawn() {
    let mut fleet = Fleet::open().await;
    fleet.ledger.process.kill().await;
    let killed = Instant::now();
    until("the endpoint to be withdrawn", || async {
        let known = endpoints(&fleet.web, "ledger.payments").await;
        if known.unwrap_or(0) == 0 { Ok(()) } else { Err(known) }
    })
    .await;
    assert!(killed.elapsed() > GRACE - Duration::from_millis(500), "{:?}", killed.elapsed());
    assert_eq!(fleet.get("/entries").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_instance_that_comes_back_elsewhere_is_found_there() {
    let fleet = Fleet::open().await;
    let Fleet { world, app, ledger, web } = fleet;
    let before = ledger.inbound(8080);
    let ledger = ledger.restart().await;
    ledger.ready().await;
    assert_ne!(ledger.inbound(8080), before);
    until("the call to arrive", || async {
        let status =
            palisade_tests::client::get(web.http_proxy(), &crate::fleet::ledger("/entries")).await.status;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
    assert!(!app.received().is_empty());
    // One instance, before and after: it kept its identity in the state folder.
    let proxies = world.proxies().await;
    let ledgers: BTreeSet<_> = proxies
        .iter()
        .filter(|proxy| proxy["spiffe_id"].as_str().unwrap().ends_with("/ledger"))
        .map(|proxy| proxy["instance_id"].as_str().unwrap())
        .collect();
    assert_eq!(ledgers.len(), 1, "{proxies:#?}");
    until_endpoints(&web, "ledger.payments", 1).await;
}
