//! Rehearsals that are judged by traffic which is there anyway.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use palisade_tests::Wild;
use palisade_tests::process::run;
use palisade_tests::wild::Act;
use serde_json::Value;

use crate::PALISADE;
use crate::kit::Caller;

#[tokio::test(flavor = "multi_thread")]
async fn live_traffic_is_judged_by_what_its_proxy_counts() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let file = broken.clone();
    let bank = Wild::http1(move |_| if file.exists() { Act::Answer(503) } else { Act::Answer(200) }).await;
    let caller = Arc::new(Caller::of(&[bank.address()], "HTTP", "").await);
    let document = format!(
        "
apiVersion: palisade.mesh/v1
kind: Rehearsal
metadata: {{name: r, namespace: payments}}
spec:
  live: {{proxies: [web], service: bank.example}}
  observe: {{web: '{admin}'}}
  warmUp: 500ms
  steadyState: {{window: 1s, successRate: 99, p99: 3s}}
  steps:
  - name: dead
    for: 2s
    command: [touch, {broken}]
    undo: [rm, {broken}]
    hold: {{successRate: ${{success}}}}
  abortWhen: {{p99Above: 30s}}
",
        admin = caller.sidecar.admin_address(),
        broken = broken.display(),
    );
    let path = folder.path().join("rehearsal.yaml");
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), caller.clone());
    let stopped = stop.clone();
    let traffic = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            calls.call("POST", "live", "pay").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let args = ["rehearse".to_owned(), path.display().to_string(), "-o".to_owned(), "json".to_owned()];
    for (success, code) in [("0", 0), ("99", 1)] {
        std::fs::write(&path, document.replace("${success}", success)).unwrap();
        let done = run(Path::new(PALISADE), &args).await;
        assert_eq!(done.code, Some(code), "{done:?}");
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        let window = &report["steps"][0]["window"];
        assert!(window["failures"]["503"].as_u64().unwrap() > 10, "{report}");
        assert!(report["steps"][0]["recovered_after_seconds"].as_f64().is_some(), "{report}");
        assert!(report["steady"]["p99_ms"].as_f64().unwrap() > 0.0, "{report}");
    }
    stop.store(true, Ordering::Relaxed);
    traffic.await.unwrap();
    let none = run(Path::new(PALISADE), &args).await;
    assert_eq!(none.code, Some(3), "{none:?}");
    assert!(none.stdout.contains("there were no requests"), "{none:?}");
}
