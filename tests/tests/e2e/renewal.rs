//! Certificates are renewed by the control plane under load; nothing is lost.

use palisade_tests::Sidecar;
use palisade_tests::until;

use crate::fleet::{Fleet, Traffic, certificate};

async fn serial(sidecar: &Sidecar) -> String {
    certificate(sidecar).await["serial"].as_str().unwrap().to_owned()
}

/// SIGHUP does at once what a proxy does by itself at half of its certificate's life.
async fn renew(sidecar: &Sidecar) {
    let before = serial(sidecar).await;
    sidecar.process.hang_up().await;
    until("another certificate", || async {
        let now = serial(sidecar).await;
        if now == before { Err(sidecar.process.log()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn both_ends_get_new_certificates_under_load_and_no_request_fails() {
    let fleet = Fleet::open().await;
    let traffic = Traffic::start(fleet.web.http_proxy());
    traffic.goes_on(50).await;
    for _ in 0..5 {
        tokio::join!(renew(&fleet.web), renew(&fleet.ledger));
        traffic.goes_on(50).await;
    }
    traffic.assert_no_failure().await;
    let seen = fleet
        .app
        .received()
        .into_iter()
        .filter_map(|one| one.headers.get("x-forwarded-client-cert").cloned());
    let seen: std::collections::HashSet<_> = seen.collect();
    assert!(seen.len() > 1, "the service saw one certificate of its caller: {seen:?}");
    // One instance each, however often it renewed.
    assert_eq!(fleet.world.proxies().await.len(), 2);
}

#[tokio::test]
async fn a_renewal_during_an_outage_changes_nothing_and_works_after_it() {
    let mut fleet = Fleet::open().await;
    let traffic = Traffic::start(fleet.web.http_proxy());
    fleet.world.kill_control_plane().await;
    let before = serial(&fleet.web).await;
    fleet.web.process.hang_up().await;
    until("the proxy to say that it could not", || async {
        let log = fleet.web.process.log();
        if log.contains("no newer certificate yet") { Ok(()) } else { Err(log) }
    })
    .await;
    traffic.goes_on(50).await;
    assert_eq!(serial(&fleet.web).await, before);
    fleet.world.start_control_plane().await;
    renew(&fleet.web).await;
    traffic.goes_on(50).await;
    traffic.assert_no_failure().await;
}
