//! The double-delivery watch: what a sidecar makes of a request that its application was given already.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_tests::client::{self, Answer};
use palisade_tests::documents::service_entry;
use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, Upstream, Wild, World, until};
use serde_json::{Value, json};

use crate::PALISADE;
use crate::refusals::TWICE;
use crate::sidecars::OPEN;

const KEYED: &str = "rules: [{match: [{methods: [POST]}], idempotencyKey: Idempotency-Key}]";

const AGAIN: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ledger, namespace: payments}
spec:
  hosts: [ledger]
  http: [{route: [{destination: {host: ledger}}], retries: {attempts: 1, retryOn: gateway-error}}]
";

/// A ledger whose sidecar watches, and two callers.
struct Watched<A = Wild> {
    world: World,
    app: A,
    ledger: Sidecar,
    web: Sidecar,
    shop: Sidecar,
}

/// One call of the ledger.
struct Call<'c> {
    method: &'c str,
    path: &'c str,
    headers: &'c [(&'c str, &'c str)],
}

const POST: Call<'_> = Call { method: "POST", path: "/transfers", headers: &[] };

impl Watched {
    async fn start(app: Wild, duplicates: &str) -> Self {
        Self::of("HTTP", app.address(), app, duplicates).await
    }
}

impl<A> Watched<A> {
    async fn of(protocol: &str, address: SocketAddr, app: A, duplicates: &str) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let policy = format!(
            "
apiVersion: palisade.mesh/v1
kind: RetryPolicy
metadata: {{name: ledger, namespace: payments}}
spec: {{host: ledger, {KEYED}, duplicates: {duplicates}}}
"
        );
        world.policy("retries.yaml", &policy);
        let served = protocol.to_lowercase();
        let ledger = world.file_sidecar("payments/ledger").serve_as(8080, &served, address).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", ledger.inbound(8080), protocol));
        let web = world.file_sidecar("payments/web").outbound().start().await;
        let shop = world.file_sidecar("payments/shop").outbound().start().await;
        Self { world, app, ledger, web, shop }
    }

    async fn call(&self, by: &Sidecar, call: &Call<'_>) -> Answer {
        client::send(by.http_proxy(), request(call)).await
    }

    async fn records(&self, count: usize) -> Vec<Value> {
        self.ledger.records_with(count, &[("direction", json!("inbound"))]).await
    }

    async fn counted(&self, having: &[&str]) -> f64 {
        self.ledger.metric("palisade_duplicate_deliveries_total", having).await
    }
}

fn request(call: &Call<'_>) -> Request<Full<Bytes>> {
    let mut request =
        client::request(call.method, &format!("http://ledger.payments:8080{}", call.path), "pay");
    for (name, value) in call.headers {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

fn first_of(record: &Value) -> Option<(&Value, &str)> {
    let known_by = record["duplicate_known_by"].as_str()?;
    assert_eq!(record["duplicate_delivery"], true);
    Some((&record["duplicate_of"], known_by))
}

#[tokio::test]
async fn a_key_that_comes_twice_is_recorded_with_the_decision_that_it_repeats() {
    let mesh = Watched::start(Wild::http1(|_| Act::Answer(200)).await, "{}").await;
    let key = |key| Call { headers: key, ..POST };
    let one: &[_] = &[("idempotency-key", "one")];
    // Who, what, and which of the calls before it each repeats.
    let rows: [(&Sidecar, Call<'_>, Option<usize>); 9] = [
        (&mesh.web, key(one), None),
        (&mesh.web, key(one), Some(0)),
        (&mesh.web, key(&[("idempotency-key", "two")]), None),
        (&mesh.web, Call { path: "/refunds", headers: one, ..POST }, None),
        (&mesh.web, Call { path: "/transfers?again", headers: one, ..POST }, Some(0)),
        (&mesh.web, Call { method: "PATCH", headers: one, ..POST }, None),
        (&mesh.shop, key(one), None),
        (&mesh.shop, key(one), Some(6)),
        (&mesh.web, Call { method: "GET", headers: one, ..POST }, None),
    ];
    for (by, call, _) in &rows {
        assert_eq!(mesh.call(by, call).await.status, 200);
    }
    let mut records = mesh.records(rows.len()).await;
    records.sort_by_key(|record| record["decision_id"].as_str().map(str::to_owned));
    for (n, (_, _, repeats)) in rows.iter().enumerate() {
        let expected = repeats.map(|first| (&records[first]["decision_id"], "key"));
        assert_eq!(first_of(&records[n]), expected, "call {n}: {records:#?}");
        assert_eq!(records[n]["decision"], "allowed");
    }
    assert_eq!(mesh.app.delivered().len(), rows.len(), "nothing is refused");
    let by = |name| ["known_by=\"key\"".to_owned(), format!("source_workload=\"{name}\"")];
    for (name, count) in [("web", 2.0), ("shop", 1.0)] {
        let having = by(name);
        let having: Vec<&str> = having.iter().map(String::as_str).collect();
        assert_eq!(mesh.counted(&having).await, count, "{name}");
    }
    drop(mesh.world);
}

#[tokio::test]
async fn the_second_is_refused_while_the_first_is_under_way_and_only_then() {
    let app = Wild::http1(|delivery| if delivery.id == "slow" { Act::Late(1500) } else { Act::Answer(200) });
    let mesh = Watched::start(app.await, "{onDuplicate: Refuse}").await;
    let slow = Call { headers: &[("idempotency-key", "one"), ("x-id", "slow")], ..POST };
    let quick = Call { headers: &[("idempotency-key", "one"), ("x-id", "quick")], ..POST };
    let (first, second) = tokio::join!(mesh.call(&mesh.web, &slow), async {
        until("the first to be delivered", || async {
            if mesh.app.delivered().is_empty() { Err("not yet") } else { Ok(()) }
        })
        .await;
        mesh.call(&mesh.web, &quick).await
    });
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 409));
    assert!(second.text().contains("Not processed"), "{}", second.text());
    assert_eq!(second.header("x-palisade-refused"), None, "that is between sidecars");
    assert_eq!(mesh.app.delivered().len(), 1);

    assert_eq!(mesh.call(&mesh.web, &quick).await.status, 200, "the first is over");
    assert_eq!(mesh.app.by_id()["quick"], 1);
    let records = mesh.records(3).await;
    let refused = mesh.ledger.records_with(1, &[("reason", json!("duplicate_in_flight"))]).await;
    assert_eq!(
        (&refused[0]["decision"], &refused[0]["duplicate_delivery"]),
        (&json!("denied"), &json!(true))
    );
    let first_id = records.iter().map(|r| r["decision_id"].as_str().unwrap()).min().unwrap();
    let repeats = records.iter().filter(|r| r["duplicate_of"] == first_id).count();
    assert_eq!(repeats, 2, "{records:#?}");
    assert_eq!(mesh.counted(&["refused=\"true\""]).await, 1.0);
    let told = mesh.web.records_with(1, &[("response_code", json!(409))]).await;
    assert_eq!(told[0]["retry_count"], 0, "it was not tried again");
}

#[tokio::test]
async fn a_second_call_of_grpc_is_aborted_while_the_first_is_under_way() {
    let app = Upstream::start("ledger").await;
    let mesh = Watched::of("GRPC", app.address(), app, "{onDuplicate: Refuse}").await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers"), ("idempotency-key", "one")];
    let call = Call { path: "/slow/1500", headers: &headers, ..POST };
    let (_first, second) = tokio::join!(mesh.call(&mesh.web, &call), async {
        until("the first to be delivered", || async {
            if mesh.app.received().is_empty() { Err("not yet") } else { Ok(()) }
        })
        .await;
        mesh.call(&mesh.web, &call).await
    });
    // ABORTED: clients take it for a conflict, and do not try again by themselves.
    assert_eq!((second.status.as_u16(), second.header("grpc-status")), (200, Some("10")));
    assert_eq!(mesh.app.received().len(), 1);
    let refused = mesh.ledger.records_with(1, &[("reason", json!("duplicate_in_flight"))]).await;
    assert_eq!(refused[0]["duplicate_known_by"], "key");
}

#[tokio::test]
async fn many_refusals_leave_nobody_out() {
    let app = Wild::http1(|delivery| if delivery.id == "slow" { Act::Late(3000) } else { Act::Answer(200) });
    let mesh = Watched::start(app.await, "{onDuplicate: Refuse}").await;
    mesh.world.policy("rule.yaml", TWICE);
    let web = mesh.world.file_sidecar("payments/api").outbound().start().await;
    let slow = Call { headers: &[("idempotency-key", "one"), ("x-id", "slow")], ..POST };
    let again = Call { headers: &[("idempotency-key", "one")], ..POST };
    let (first, ()) = tokio::join!(mesh.call(&web, &slow), async {
        until("the first to be delivered", || async {
            if mesh.app.delivered().is_empty() { Err("not yet") } else { Ok(()) }
        })
        .await;
        for _ in 0..10 {
            assert_eq!(mesh.call(&web, &again).await.status, 409);
        }
        assert_eq!(mesh.call(&web, &POST).await.status, 200, "another payment goes through");
    });
    assert_eq!(first.status, 200);
    assert_eq!(web.metric("palisade_upstream_ejections_total", &[]).await, 0.0);
}

#[tokio::test]
async fn an_id_that_comes_twice_with_an_unsafe_method_is_recorded_and_never_refused() {
    let app = Wild::http1(|delivery| if delivery.id == "slow" { Act::Late(1500) } else { Act::Answer(200) });
    let mesh = Watched::start(app.await, "{onDuplicate: Refuse}").await;
    let slow = Call { headers: &[("x-request-id", "same"), ("x-id", "slow")], ..POST };
    // An application cannot say that it is a sidecar that tries again.
    let again = Call { headers: &[("x-request-id", "same"), ("x-envoy-attempt-count", "2")], ..POST };
    let (first, second) = tokio::join!(mesh.call(&mesh.web, &slow), async {
        until("the first to be delivered", || async {
            if mesh.app.delivered().is_empty() { Err("not yet") } else { Ok(()) }
        })
        .await;
        mesh.call(&mesh.web, &again).await
    });
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    let reading = Call { method: "GET", headers: &[("x-request-id", "same")], ..POST };
    for call in [&reading, &reading, &POST, &POST] {
        assert_eq!(mesh.call(&mesh.web, call).await.status, 200);
    }
    let records = mesh.records(6).await;
    let known: Vec<_> = records.iter().filter_map(first_of).collect();
    assert_eq!(known.len(), 1, "{records:#?}");
    assert_eq!(known[0].1, "request_id");
}

#[tokio::test]
async fn what_never_reached_the_application_is_no_delivery_and_a_push_forgets_nothing() {
    let mesh = Watched::start(Wild::http1(|_| Act::Answer(200)).await, "{}").await;
    let refund = Call { path: "/refunds", headers: &[("idempotency-key", "one")], ..POST };
    let transfer = Call { path: "/transfers", ..refund };
    let reading = Call { method: "GET", path: "/refunds", headers: &[] };
    let deny = async |path: &str, expected: u16| {
        let policy = format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no-refunds, namespace: payments}}
spec: {{action: DENY, rules: [{{to: [{{operation: {{paths: [{path}]}}}}]}}]}}
"
        );
        mesh.world.policy("deny.yaml", &policy);
        until("the policy to hold", || async {
            let status = mesh.call(&mesh.web, &reading).await.status;
            if status == expected { Ok(()) } else { Err(status) }
        })
        .await;
    };
    assert_eq!(mesh.call(&mesh.web, &transfer).await.status, 200);
    deny("/refunds", 403).await;
    assert_eq!(mesh.call(&mesh.web, &refund).await.status, 403);
    assert_eq!(mesh.call(&mesh.web, &transfer).await.status, 200);
    deny("/elsewhere", 200).await;
    assert_eq!(mesh.call(&mesh.web, &refund).await.status, 200);
    let of = async |path: &str, code: u16, count| {
        let fields = [("method", json!("POST")), ("path", json!(path)), ("response_code", json!(code))];
        mesh.ledger.records_with(count, &fields).await
    };
    let transfers = of("/transfers", 200, 2).await;
    let known: Vec<_> = transfers.iter().filter_map(first_of).collect();
    let first = transfers.iter().find(|record| first_of(record).is_none()).unwrap();
    assert_eq!(known, [(&first["decision_id"], "key")]);
    for refunds in [of("/refunds", 403, 1).await, of("/refunds", 200, 1).await] {
        assert!(refunds.iter().all(|record| first_of(record).is_none()), "{refunds:#?}");
    }
}

#[tokio::test]
async fn a_retry_by_our_own_sidecar_is_recorded_when_the_application_was_given_both() {
    let app = Wild::http1(|delivery| if delivery.attempt == 1 { Act::Reset } else { Act::Answer(200) });
    let mesh = Watched::start(app.await, "{onDuplicate: Refuse}").await;
    mesh.world.policy("again.yaml", AGAIN);
    let web = mesh.world.file_sidecar("payments/api").outbound().start().await;
    let keyed = Call { headers: &[("idempotency-key", "one")], ..POST };
    assert_eq!(mesh.call(&web, &keyed).await.status, 200, "the first is over when the second comes");
    let attempts: Vec<u32> = mesh.app.delivered().iter().map(|delivery| delivery.attempt).collect();
    assert_eq!(attempts, [1, 2]);
    let records = mesh.records(2).await;
    let failed = records.iter().find(|record| record["reason"] == "upstream_reset").unwrap();
    let known: Vec<_> = records.iter().filter_map(first_of).collect();
    assert_eq!(known, [(&failed["decision_id"], "key")]);
    let told = web.records_with(1, &[("response_code", json!(200))]).await;
    assert_eq!(told[0]["retry_count"], 1);

    assert_eq!(mesh.call(&web, &POST).await.status, 502, "without a key it is delivered once");
    assert_eq!(mesh.app.delivered().len(), 3);
}
