//! Many changes, one after the other, without a trace in memory.

use palisade_proto::v1;
use tokio::time::Instant;

use crate::fleet::Fleet;
use crate::kit::ALLOW_MESH;

fn paths_policy(path: &str) -> String {
    ALLOW_MESH.replace(
        "principals: ['*']}}]",
        &format!("principals: ['*']}}}}], to: [{{operation: {{paths: [{path}]}}}}]"),
    )
}

#[tokio::test]
async fn a_thousand_applies_leave_no_memory_and_no_task_behind() {
    let fleet = Fleet::start(ALLOW_MESH).await;
    let mut admin = fleet.world.admin().await;
    let mut apply = async |round: usize| {
        let text = paths_policy(&format!("/path-{round}"));
        let file = v1::SourceFile { name: "many.yaml".into(), text };
        let request = v1::ApplyRequest { files: vec![file], dry_run: false, wait_ms: 10_000 };
        let done = admin.apply(request).await.unwrap().into_inner();
        assert!(done.pushes.len() == 2, "{done:?}");
        done.version
    };
    // The first rounds fill caches and the allocator's pools.
    for round in 0..100 {
        apply(round).await;
    }
    let resident = || {
        let control_plane = fleet.world.control_plane.as_ref().unwrap().resident_kib();
        [control_plane, fleet.ledger.process.resident_kib(), fleet.web.process.resident_kib()]
    };
    let before = resident();
    let started = Instant::now();
    let mut version = 0;
    for round in 100..1000 {
        version = apply(round).await;
    }
    let after = resident();
    eprintln!("900 applies in {:?}; resident before {before:?}, after {after:?} KiB", started.elapsed());
    for (before, after) in before.iter().zip(after) {
        assert!(after.saturating_sub(*before) < 8 * 1024, "{before} KiB grew to {after} KiB");
    }
    let proxies = admin.list_proxies(v1::ListProxiesRequest {}).await.unwrap().into_inner();
    assert!(proxies.proxies.iter().all(|proxy| proxy.acked_version == version), "{proxies:?}");
    drop(fleet);
}
