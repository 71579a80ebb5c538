//! A thousand applies, one after the other: everything arrives, nothing grows.

use http::StatusCode;
use palisade_proto::v1;
use palisade_proto::v1::push_result::Outcome;
use palisade_tests::until;

use crate::fleet::{Fleet, config, harmless};

const APPLIES: usize = 1000;
/// Caches, pools and the allocator have their size by then.
const WARM_UP: usize = 300;
/// What 700 applies may add: one leaked task of each would be more than a KiB times 700 at both ends.
const GROWTH_KIB: u64 = 4 * 1024;

#[tokio::test]
async fn a_thousand_applies_all_arrive_and_neither_end_grows() {
    let fleet = Fleet::open().await;
    let mut admin = fleet.world.admin().await;
    let mut before = None;
    let mut version = 0;
    for round in 0..APPLIES {
        // Four objects that change in turn; the waiting one shows that nothing is queued.
        let text = harmless(&format!("p{}", round % 4)).replace("paths: [/", &format!("paths: [/{round}-"));
        let request = v1::ApplyRequest {
            files: vec![v1::SourceFile { name: "apply.yaml".into(), text }],
            dry_run: false,
            wait_ms: 10_000,
            ..v1::ApplyRequest::default()
        };
        let answer = admin.apply(request).await.unwrap().into_inner();
        assert!(answer.version > version, "{answer:?}");
        version = answer.version;
        assert_eq!(answer.pushes.len(), 2, "round {round}: {answer:?}");
        assert!(
            answer.pushes.iter().all(|push| push.outcome() == Outcome::Acked),
            "round {round}: {answer:?}"
        );
        if round == WARM_UP {
            before = Some(sizes(&fleet).await);
        }
    }
    let (before, after) = (before.unwrap(), sizes(&fleet).await);
    eprintln!("control plane, ledger, web: resident {before:?} KiB, after {APPLIES} applies {after:?} KiB");
    for (before, after) in before.resident.iter().zip(after.resident) {
        assert!(after < before + GROWTH_KIB, "grew from {before} to {after} KiB");
    }
    for (before, after) in before.descriptors.iter().zip(after.descriptors) {
        assert!(after <= before + 2, "descriptors grew from {before} to {after}");
    }
    for (before, after) in before.threads.iter().zip(after.threads) {
        // Threads that write files come and go.
        assert!(after <= before + 8, "threads grew from {before} to {after}");
    }
    for (before, after) in before.tasks.iter().zip(after.tasks) {
        assert!(after <= before + 8.0, "tasks grew from {before} to {after}");
    }

    for sidecar in [&fleet.web, &fleet.ledger] {
        assert_eq!(config(sidecar).await["configuration"]["version"], version);
    }
    until("the registry to know the last version", || async {
        let proxies = fleet.world.proxies().await;
        if proxies.iter().all(|proxy| proxy["acked_version"] == version) { Ok(()) } else { Err(proxies) }
    })
    .await;
    assert_eq!(fleet.get("/entries").await.status, StatusCode::OK);
    assert_eq!(fleet.get("/999-p3").await.status, StatusCode::FORBIDDEN);
}

#[derive(Debug)]
struct Sizes {
    resident: [u64; 3],
    descriptors: [usize; 3],
    threads: [usize; 3],
    /// Of the runtimes that take pushes.
    tasks: [f64; 3],
}

async fn sizes(fleet: &Fleet) -> Sizes {
    let processes = [fleet.world.control_plane.as_ref().unwrap(), &fleet.ledger.process, &fleet.web.process];
    let count = |pid: u32, what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let (ledger, web) = (&fleet.ledger, &fleet.web);
    Sizes {
        tasks: [
            fleet.world.metric("palisade_control_plane_tasks").await,
            ledger.metric("palisade_control_tasks", &[]).await,
            web.metric("palisade_control_tasks", &[]).await,
        ],
        resident: processes.map(palisade_tests::process::Process::resident_kib),
        descriptors: processes.map(|process| count(process.pid(), "fd")),
        threads: processes.map(|process| count(process.pid(), "task")),
    }
}
