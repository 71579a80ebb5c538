//! What the other sidecar refuses by itself says nothing of its application: neither that it fails nor that it is well.

use palisade_tests::client::{self, Answer};
use palisade_tests::documents::service_entry;
use palisade_tests::patient::Health;
use palisade_tests::{Patient, Sidecar, SidecarBuilder, World, until};
use serde_json::{Value, json};

use crate::PALISADE;
use crate::sidecars::OPEN;

/// Two failures in a row leave the ledger out.
pub(crate) const TWICE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ledger, namespace: payments}
spec:
  host: ledger
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 2, consecutiveGatewayErrors: 2, baseEjectionTime: 60s}
";

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: payments}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/secret]}}]}]}
---
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {name: form, namespace: payments}
spec: {rules: [{name: reading, match: [{paths: [/report]}], allowedMethods: [GET]}]}
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: rare, namespace: payments}
spec: {limits: [{name: rare, match: [{paths: [/rare]}], limit: 1, window: 1h}]}
";

/// One ledger behind its sidecar, and a caller with one of its own.
struct Mesh {
    app: Patient,
    ledger: Sidecar,
    web: Sidecar,
    _world: World,
}

impl Mesh {
    async fn start(options: impl FnOnce(SidecarBuilder) -> SidecarBuilder) -> Self {
        let world = World::of_files(PALISADE);
        let app = Patient::start(Health::Well).await;
        for (name, document) in [("open", OPEN), ("rule", TWICE), ("policies", POLICIES)] {
            world.policy(&format!("{name}.yaml"), document);
        }
        let ledger = world.file_sidecar("payments/ledger").serve(8080, app.address());
        let ledger = options(ledger).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", ledger.inbound(8080), "HTTP"));
        let web = world.file_sidecar("payments/web").outbound().start().await;
        Self { app, ledger, web, _world: world }
    }

    async fn post(&self, path: &str) -> Answer {
        client::post(self.web.http_proxy(), &format!("http://ledger.payments:8080{path}"), "pay").await
    }

    async fn ejections(&self) -> f64 {
        self.web.metric("palisade_upstream_ejections_total", &[]).await
    }

    /// What the caller's sidecar says of the ledger.
    async fn state(&self) -> String {
        let page: Value = serde_json::from_str(&self.web.admin("/upstreams").await.text()).unwrap();
        page[0]["endpoints"][0]["state"].as_str().unwrap().to_owned()
    }

    /// The application itself fails once.
    async fn fails(&self) {
        assert_eq!(self.post("/fail").await.status, 503);
    }

    /// The ledger's sidecar refuses five, and the ledger is asked on.
    async fn refuses(&self, path: &str, status: u16, reason: &str) {
        for _ in 0..5 {
            assert_eq!(self.post(path).await.status, status, "{path}");
        }
        self.ledger.records_with(5, &[("reason", json!(reason))]).await;
        assert_eq!(self.ejections().await, 0.0, "{reason}");
        let state = self.state().await;
        assert!(["healthy", "avoided"].contains(&state.as_str()), "{reason}: {state}");
    }

    async fn is_left_out(&self) {
        assert_eq!((self.ejections().await, self.state().await.as_str()), (1.0, "ejected"));
    }
}

#[tokio::test]
async fn refusals_by_policy_neither_leave_an_endpoint_out_nor_make_up_for_its_failures() {
    let mesh = Mesh::start(|ledger| ledger).await;
    assert_eq!(mesh.post("/rare").await.status, 200);
    mesh.fails().await;
    mesh.refuses("/secret", 403, "denied_by_rule").await;
    mesh.refuses("/report", 405, "guard_method").await;
    mesh.refuses("/rare", 429, "rate_limited").await;
    mesh.fails().await;
    mesh.is_left_out().await;
}

#[tokio::test]
async fn an_application_that_is_not_well_is_asked_last_and_not_left_out() {
    let mesh = Mesh::start(|ledger| {
        let ledger = ledger.arg("--health-check", "http:/healthz");
        ledger.arg("--health-check-interval", "100ms").arg("--health-check-failure-threshold", "2")
    })
    .await;
    let until_asked = async |status| {
        until("its sidecar to know", || async {
            let got = mesh.ledger.admin("/ready/application").await.status;
            if got == status { Ok(()) } else { Err(got) }
        })
        .await;
    };
    until_asked(200).await;
    mesh.fails().await;
    mesh.app.becomes(Health::Ill(500)).await;
    until_asked(503).await;
    mesh.refuses("/transfers", 503, "application_unhealthy").await;
    assert_eq!(mesh.state().await, "avoided");
    mesh.app.becomes(Health::Well).await;
    until_asked(200).await;
    mesh.fails().await;
    mesh.is_left_out().await;
}

#[tokio::test]
async fn what_is_too_much_for_an_application_leaves_it_in() {
    let mesh = Mesh::start(|ledger| ledger.arg("--adaptive-concurrency", "1-1")).await;
    let (held, ()) = tokio::join!(mesh.post("/hold"), async {
        until("the first to be there", || async {
            if mesh.app.done().is_empty() { Err("nothing") } else { Ok(()) }
        })
        .await;
        mesh.refuses("/transfers", 503, "concurrency_limit").await;
        mesh.app.release();
    });
    assert_eq!(held.status, 200);
    mesh.fails().await;
    mesh.fails().await;
    mesh.is_left_out().await;
}
