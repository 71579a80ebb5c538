use std::time::Duration;

use palisade_proto::v1;
use palisade_proto::v1::proxy_message::Message as Said;
use tonic::Code;

use crate::world::{Proxy, World, addresses, allow, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_hears_of_ready_endpoints_and_of_their_end() {
    let world = World::new().await;
    let mut caller = world.join("payments").await.stream(&world, &[]).await;
    let (first, body) = caller.snapshot().await;
    assert_eq!(first.version, 0);
    assert!(addresses(&body, "ledger").is_empty());

    let member = world.join("ledger").await;
    let mut ledger = member.stream(&world, &[(8080, "127.0.0.1:4001")]).await;
    ledger.ready(true).await;
    caller.until(|b| addresses(b, "ledger") == ["127.0.0.1:4001"]).await;
    ledger.say(Said::Draining(v1::Draining {})).await;
    caller.until(|b| addresses(b, "ledger").is_empty()).await;

    let mut again = member.stream(&world, &[(8080, "127.0.0.1:4002")]).await;
    assert_eq!(ledger.end().await.code(), Code::Aborted);
    again.ready(true).await;
    caller.until(|b| addresses(b, "ledger") == ["127.0.0.1:4002"]).await;
    drop(again);
    caller.until(|b| addresses(b, "ledger").is_empty()).await;

    let mut third = member.stream(&world, &[(8080, "127.0.0.1:4003")]).await;
    third.ready(true).await;
    caller.until(|b| addresses(b, "ledger") == ["127.0.0.1:4003"]).await;
    let evict = v1::EvictProxyRequest { instance_id: member.instance.clone(), reason: String::new() };
    world.admin().await.evict_proxy(evict).await.unwrap();
    caller.until(|b| addresses(b, "ledger").is_empty()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_never_learns_the_policies_of_another() {
    let world = World::new().await;
    world
        .apply(
            &[allow("for-ledger", "ledger", "payments"), allow("for-audit", "audit", "ledger")].join("---\n"),
        )
        .await;
    let mut ledger = world.join("ledger").await.stream(&world, &[]).await;
    let (_, body) = ledger.snapshot().await;
    let names: Vec<_> =
        body.authorization_policies.iter().map(|p| p.meta.clone().unwrap_or_default().name).collect();
    assert_eq!(names, ["for-ledger"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_tens_of_proxies_within_100_ms() {
    let world = World::new().await;
    let token = world.token("ledger", 30).await;
    let mut tasks = Vec::new();
    for _ in 0..30 {
        let mut proxy = world.attest(&token).await.unwrap().stream(&world, &[]).await;
        let (first, _) = proxy.snapshot().await;
        proxy.ack(&first).await;
        tasks.push(tokio::spawn(async move {
            proxy.until(|b| b.authorization_policies.len() == 1).await;
            proxy // An ack that is on its way is lost with its stream.
        }));
    }
    let applied = world.apply_with(&allow("one", "ledger", "payments"), false, 5000).await;
    assert_eq!(applied.pushes.len(), 30);
    for push in &applied.pushes {
        assert_eq!(push.outcome(), v1::push_result::Outcome::Acked);
    }
    let mut latencies: Vec<_> = applied.pushes.iter().map(|p| p.latency_us).collect();
    latencies.sort_unstable();
    // The median: the machine of a test run does other things too.
    assert!(latencies[15] < 100_000, "{latencies:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_proxy_holds_up_nobody() {
    let world = World::new().await;
    let token = world.token("ledger", 2).await;
    let _slow = world.attest(&token).await.unwrap().stream(&world, &[]).await;
    let mut quick = world.attest(&token).await.unwrap().stream(&world, &[]).await;
    for n in 0..50 {
        let applied = world.apply(&allow(&format!("p{n}"), "ledger", "payments")).await;
        while quick.snapshot().await.0.version < applied.version {}
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nacks_are_reported_and_bodies_are_sent_again_after_them() {
    let world = World::new().await;
    let member = world.join("ledger").await;
    let mut proxy = member.stream(&world, &[]).await;
    let (first, _) = proxy.snapshot().await;
    proxy.ack(&first).await;
    let nack = async {
        let (snapshot, _) = proxy.snapshot().await;
        let findings = vec![v1::Finding { code: "PAL0001".into(), ..v1::Finding::default() }; 100];
        let (version, digest) = (snapshot.version, snapshot.digest);
        proxy.say(Said::Nack(v1::Nack { version, digest, findings })).await;
    };
    let text = allow("one", "ledger", "payments");
    let (applied, ()) = tokio::join!(world.apply_with(&text, false, 5000), nack);
    assert_eq!(applied.pushes[0].outcome(), v1::push_result::Outcome::Nacked);
    assert_eq!(applied.pushes[0].findings.len(), 32, "bounded");
    let listed = world.proxies().await.remove(0);
    assert_eq!((listed.acked_version, listed.nacked.len(), listed.connected), (0, 32, true));

    world.apply(&allow("other", "audit", "payments")).await;
    let (snapshot, _) = proxy.snapshot().await;
    assert_eq!((snapshot.version, snapshot.body.is_empty()), (2, false));
    proxy.ack(&snapshot).await;
    world.apply(&allow("third", "audit", "payments")).await;
    let (snapshot, _) = proxy.snapshot().await;
    assert_eq!((snapshot.version, snapshot.body.is_empty()), (3, true), "only the version moved");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_certificate() {
    let world = World::new().await;
    let mut proxy = world.join("ledger").await.stream(&world, &[]).await;
    proxy.snapshot().await;
    world.clock.advance(Duration::from_secs(3601));
    assert_eq!(proxy.end().await.code(), Code::Unauthenticated);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hello_ends_the_stream() {
    let world = World::with(|limits| limits.hello_timeout = Duration::from_millis(100)).await;
    let member = world.join("ledger").await;
    let mut silent = Proxy::open(&world, &member.svid).await.unwrap();
    assert_eq!(silent.end().await.code(), Code::DeadlineExceeded);
    let mut rude = Proxy::open(&world, &member.svid).await.unwrap();
    rude.ready(true).await;
    assert_eq!(rude.end().await.code(), Code::InvalidArgument);
    let mut wrong = member.stream(&world, &[(8080, "0.0.0.0:1")]).await;
    assert_eq!(wrong.end().await.code(), Code::InvalidArgument);
    let mut early = member.stream(&world, &[]).await;
    early.say(Said::Ack(v1::Ack { version: 99, digest: vec![] })).await;
    assert_eq!(early.end().await.code(), Code::InvalidArgument);
    eventually("nobody is connected", || async { world.proxies().await.iter().all(|p| !p.connected) }).await;
    world.stop().await;
}
