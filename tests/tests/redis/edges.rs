//! Two edges that count together.

use futures_util::future::join_all;
use http::{Request, StatusCode};
use palisade_tests::client::{self, Answer};
use palisade_tests::{Sidecar, Upstream, World, until};
use serde_json::{Value, json};

use crate::PALISADE;
use crate::store::Store;

/// Several limits of the mesh on one request: by address (before a token would be looked at), a token bucket, and one
/// that only watches; and a route to an application outside the mesh.
fn documents(app: std::net::SocketAddr) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: public, namespace: payments}}
spec:
  selector: {{app: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: api, namespace: payments}}
spec:
  hosts: ['*']
  gateways: [public]
  http:
  - {{name: login, match: [{{uri: {{exact: /login}}}}], route: [{{destination: {{host: app.example}}}}]}}
  - {{name: rest, route: [{{destination: {{host: app.example}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: payments}}
spec:
  hosts: [app.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {}, ports: {{http: {}}}}}]
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {{name: edge, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: edge}}}}
  limits:
  - name: address
    key: [{{address: {{}}}}]
    match: [{{paths: [/login]}}]
    limit: 12
    window: 1h
    scope: mesh
    onStoreFailure: deny
  - name: smooth
    match: [{{routes: [login]}}]
    limit: 8
    window: 1h
    burst: 8
    scope: mesh
    onStoreFailure: deny
  - name: watched
    match: [{{routes: [login]}}]
    limit: 2
    window: 1h
    mode: shadow
    scope: mesh
    onStoreFailure: allow
",
        app.ip(),
        app.port()
    )
}

async fn post(edge: &Sidecar) -> Answer {
    let request = Request::post("http://api.example/login").body("".into()).unwrap();
    client::send(edge.edge(80), request).await
}

async fn start(world: &World, store: &Store) -> Sidecar {
    let builder = world.file_sidecar("payments/edge").edge().listen(80);
    let edge = builder.arg("--limit-store", &store.url()).arg("--limit-store-timeout", "5s").start().await;
    until("a connection of every worker to the store", || async {
        let config: Value = serde_json::from_slice(&edge.admin("/config").await.body).unwrap();
        if config["limit_store"]["workers_connected"] == 2 {
            Ok(())
        } else {
            Err(config["limit_store"].clone())
        }
    })
    .await;
    edge
}

#[tokio::test]
async fn two_edges_together_keep_every_limit_of_a_route() {
    let store = Store::start(None).await;
    let world = World::of_files(PALISADE);
    let app = Upstream::start("app").await;
    world.policy("edge.yaml", &documents(app.address()));
    let edges = [start(&world, &store).await, start(&world, &store).await];

    let asked = join_all((0..40).map(|i| post(&edges[i % 2]))).await;
    let passed = asked.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!((passed, app.received().len()), (8, 8), "the bucket is the narrowest");
    let of = |field: &'static str, value: &'static str| {
        // Both write to the log of their name.
        edges[0].records().into_iter().filter(|record| record[field] == json!(value)).count()
    };
    until("all records", || async {
        // 12 came past the address limit; of these the bucket let 8 through, 6 of them beyond what is watched.
        let seen = (
            of("limit", "payments/edge/address"),
            of("limit", "payments/edge/smooth"),
            of("shadow_limits", "payments/edge/watched"),
        );
        if seen.0 == 28 && seen.1 == 4 && seen.2 == 6 { Ok(()) } else { Err(seen) }
    })
    .await;
    assert!(store.ask(&["KEYS", "*"]).await.lines().all(|key| !key.contains("127.0.0.1")));
}
