//! New certificates from the control plane while requests go on.

use crate::fleet::Fleet;
use crate::reload::Load;

#[tokio::test]
async fn certificates_are_renewed_under_load_without_a_failed_request() {
    let fleet = Fleet::open().await;
    let load = Load::start(fleet.web.http_proxy(), 4);
    for _ in 0..3 {
        load.more(30).await;
        for sidecar in [&fleet.ledger, &fleet.web] {
            hang_up(sidecar.process.pid()).await;
        }
        load.more(30).await;
    }
    let (failures, done) = load.stop().await;
    assert!(failures.is_empty(), "{} of {done} failed: {:?}", failures.len(), failures.first());
    let hashes: std::collections::BTreeSet<_> = fleet
        .app
        .received()
        .iter()
        .filter_map(|one| one.headers.get("x-forwarded-client-cert").map(|value| value.as_bytes().to_vec()))
        .collect();
    assert!(hashes.len() > 1, "the caller's certificate never changed");
}

/// SIGHUP: renew now.
async fn hang_up(pid: u32) {
    let kill = tokio::process::Command::new("kill").args(["-HUP", &pid.to_string()]).status().await;
    assert!(kill.unwrap().success());
}
