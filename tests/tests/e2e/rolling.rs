//! Instances that come and go while requests go on.

use http::StatusCode;
use palisade_tests::{Sidecar, Upstream, client};

use crate::fleet::Fleet;
use crate::kit::url;
use crate::reload::Load;

async fn until_answers(web: &Sidecar, expected: &[&str]) {
    let mut seen = std::collections::BTreeSet::new();
    let end = tokio::time::Instant::now() + palisade_tests::DEADLINE;
    while expected.iter().any(|name| !seen.contains(&format!("hello from {name}"))) {
        assert!(tokio::time::Instant::now() < end, "saw {seen:?} only");
        seen.insert(client::get(web.http_proxy(), &url("/")).await.text());
    }
}

#[tokio::test]
async fn a_second_instance_takes_its_share_and_leaves_without_a_failed_request() {
    let fleet = Fleet::open().await;
    let second_app = Upstream::start("second").await;
    let second = fleet.world.sidecar_named("payments/ledger", "second").await;
    let mut second = second.serve(8080, second_app.address()).start().await;
    until_answers(&fleet.web, &["ledger", "second"]).await;
    let load = Load::start(fleet.web.http_proxy(), 4);
    load.more(40).await;
    second.process.terminate().await;
    assert!(second.process.exit().await.success());
    load.more(100).await;
    let (failures, done) = load.stop().await;
    assert!(failures.is_empty(), "{} of {done} failed: {:?}", failures.len(), failures.first());
    second_app.clear();
    for _ in 0..20 {
        assert_eq!(fleet.get("/").await.status, StatusCode::OK);
    }
    second_app.assert_untouched();
}
