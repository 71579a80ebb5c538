//! Who learns what: a proxy is told only of what concerns it, and publishes nobody but itself.

use palisade_proto::v1;
use palisade_tests::member::{Member, http_port};
use palisade_tests::{World, until};
use prost::Message as _;
use tonic::Code;

use crate::fleet::{harmless, world};

/// What a workload is told, once it is told of `service`, or of the policies' version alone.
async fn told(world: &World, member: &Member, service: Option<&str>) -> v1::SnapshotBody {
    until("a snapshot", || async {
        let mut stream = world.stream(member, Vec::new()).await.unwrap();
        let body = v1::SnapshotBody::decode(stream.snapshot().await.body).unwrap();
        match service {
            Some(name) if body.services.iter().all(|s| s.name != name) => Err(format!("{body:?}")),
            _ => Ok(body),
        }
    })
    .await
}

fn names(body: &v1::SnapshotBody) -> Vec<String> {
    body.services.iter().map(|s| format!("{}.{}", s.name, s.namespace)).collect()
}

const ALLOW_SHOP: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shop-calls-ledger, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: ALLOW
  rules: [{from: [{source: {principals: [test.mesh/ns/shop/sa/web]}}]}]
";

#[tokio::test]
async fn a_proxy_learns_of_another_namespace_only_what_could_let_it_in() {
    let world = world().await;
    world.apply(&harmless("secret-of-payments")).await;
    let _ledger = world.publish(&world.join("payments/ledger").await, "127.0.0.1:1001").await;
    let _vault = world.publish(&world.join("payments/vault").await, "127.0.0.1:1002").await;
    let neighbour = world.join("payments/web").await;
    let body = told(&world, &neighbour, Some("vault")).await;
    assert_eq!(names(&body), ["ledger.payments", "vault.payments"]);

    let web = world.join("shop/web").await;
    let body = told(&world, &web, None).await;
    assert!(names(&body).is_empty(), "{body:?}");
    let text = format!("{body:?}");
    assert!(!text.contains("secret-of-payments") && !text.contains("127.0.0.1"), "{text}");

    // Without a wait: the two streams above ack nothing any more.
    let done = world.operator(&["apply", &world.write("shop.yaml", ALLOW_SHOP), "--wait", "0s"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let body = told(&world, &web, Some("ledger")).await;
    assert_eq!(names(&body), ["ledger.payments"]);
    let text = format!("{body:?}");
    assert!(!text.contains("secret-of-payments") && !text.contains("shop-calls-ledger"), "{text}");
    let other = told(&world, &world.join("shop/billing").await, None).await;
    assert!(names(&other).is_empty(), "{other:?}");
}

#[tokio::test]
async fn an_instance_registers_for_the_identity_it_proved_and_for_nothing_else() {
    let world = world().await;
    let thief = world.join("payments/web").await;
    for address in ["", "0.0.0.0:1", "127.0.0.1:0", "ledger:8080", "224.0.0.1:8080"] {
        let mut stream = world.stream(&thief, vec![http_port(address)]).await.unwrap();
        assert_eq!(stream.next().await.unwrap_err().code(), Code::InvalidArgument, "{address}");
    }
    let mut twice =
        world.stream(&thief, vec![http_port("127.0.0.1:1"), http_port("127.0.0.1:2")]).await.unwrap();
    assert_eq!(twice.next().await.unwrap_err().code(), Code::InvalidArgument);

    let _published = world.publish(&thief, "127.0.0.1:1001").await;
    let body = told(&world, &world.join("payments/other").await, Some("web")).await;
    assert_eq!(names(&body), ["web.payments"]);
    assert_eq!(body.services[0].identities, ["spiffe://test.mesh/ns/payments/sa/web"]);
    assert_eq!(body.services[0].endpoints.len(), 1);
}
