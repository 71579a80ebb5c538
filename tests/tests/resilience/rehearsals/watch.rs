//! Duplicate deliveries, as a rehearsal sees them through the watch of a service's sidecar.

use std::path::Path;

use palisade_tests::documents::service_entry;
use palisade_tests::process::{Finished, run};
use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, Wild, World};

use crate::PALISADE;
use crate::sidecars::OPEN;

const WATCHED: &str = "
apiVersion: palisade.mesh/v1
kind: RetryPolicy
metadata: {name: ledger, namespace: payments}
spec:
  host: ledger
  rules: [{match: [{methods: [POST]}], idempotencyKey: Idempotency-Key}]
  duplicates: {}
";

/// A ledger and a caller, with a sidecar each.
struct Mesh {
    world: World,
    _app: Wild,
    ledger: Sidecar,
    web: Sidecar,
}

impl Mesh {
    async fn start(policy: &str) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        if !policy.is_empty() {
            world.policy("retries.yaml", policy);
        }
        let app = Wild::http1(|_| Act::Answer(200)).await;
        let ledger = world.file_sidecar("payments/ledger").serve(8080, app.address()).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", ledger.inbound(8080), "HTTP"));
        let web = world.file_sidecar("payments/web").outbound().start().await;
        Self { world, _app: app, ledger, web }
    }

    /// A rehearsal in which nothing is broken: what it finds is there already. `load`: more of it.
    async fn play(&self, load: &str, steady: &str, abort_when: &str) -> Finished {
        let document = format!(
            "
apiVersion: palisade.mesh/v1
kind: Rehearsal
metadata: {{name: r, namespace: payments}}
spec:
  load:
    requests: [{{url: 'http://ledger.payments:8080/transfers', method: POST, body: pay{load}
    via: {via}
    ratePerSecond: 20
  observe: {{web: '{web}', ledger: '{ledger}'}}
  warmUp: 0s
  steadyState: {{window: 1s, {steady}}}
  steps: [{{name: nothing, for: 2s, command: ['true'], undo: ['true']}}]
  abortWhen: {{{abort_when}}}
",
            via = self.web.http_proxy(),
            web = self.web.admin_address(),
            ledger = self.ledger.admin_address(),
        );
        let file = self.world.folder().join("rehearsal.yaml");
        std::fs::write(&file, document).unwrap();
        run(Path::new(PALISADE), &["rehearse".to_owned(), file.display().to_string()]).await
    }
}

/// Each with a key of its own.
const FRESH: &str = "}]\n    idempotencyKey: Idempotency-Key";
/// All with one.
const SAME: &str = ", headers: {idempotency-key: one}}]";

#[tokio::test]
async fn what_comes_twice_is_seen_by_the_watch_and_breaks_the_guard() {
    let mesh = Mesh::start(WATCHED).await;
    let holds =
        mesh.play(FRESH, "successRate: 99, duplicateDeliveries: 0", "duplicateDeliveriesAbove: 0").await;
    assert_eq!(holds.code, Some(0), "{holds:?}");
    assert!(holds.stdout.contains("nothing: 0 duplicate deliveries, recovered at once"), "{}", holds.stdout);

    let never =
        mesh.play(SAME, "successRate: 99, duplicateDeliveries: 0", "duplicateDeliveriesAbove: 0").await;
    assert_eq!(never.code, Some(3), "{never:?}");
    assert!(never.stdout.contains("duplicate deliveries, at most 0 was to be"), "{}", never.stdout);

    let aborted = mesh.play(SAME, "successRate: 99", "duplicateDeliveriesAbove: 0").await;
    assert_eq!(aborted.code, Some(1), "{aborted:?}");
    assert!(aborted.stdout.contains("ABORTED payments/r: the guard broke: "), "{}", aborted.stdout);
}

#[tokio::test]
async fn without_a_watch_nobody_says_that_nothing_came_twice() {
    let mesh = Mesh::start("").await;
    let done = mesh.play(FRESH, "successRate: 99, duplicateDeliveries: 0", "successRateBelow: 1").await;
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stdout.contains("no observed proxy watches for them"), "{}", done.stdout);
}
