use std::sync::Arc;
use std::time::Duration;

use palisade_certs::csr::PendingKey;
use palisade_certs::tls;
use palisade_identity::SpiffeId;
use palisade_proto::v1;
use tonic::Code;

use crate::world::{World, attest_request};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gives_a_certificate_that_renews() {
    let world = World::new().await;
    let member = world.join("ledger").await;
    assert_eq!(member.svid.id.as_str(), "spiffe://corp.example/ns/payments/sa/ledger");
    assert_eq!(member.labels, [("app".to_owned(), "ledger".to_owned())]);
    member.svid.verify(&world.bundle(), std::time::SystemTime::now()).unwrap();

    let renewed = member.renew(&world).await.unwrap();
    assert_eq!((&renewed.instance, &renewed.svid.id), (&member.instance, &member.svid.id));
    assert_ne!(renewed.svid.serial, member.svid.serial);
    renewed.renew(&world).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refused_token_is_answered_alike() {
    let world = World::new().await;
    let spent = world.token("ledger", 1).await;
    world.attest(&spent).await.unwrap();
    let wrong_secret = {
        let other = world.token("ledger", 1).await;
        let parts: Vec<_> = spent.split('.').collect();
        let others: Vec<_> = other.split('.').collect();
        [parts[0], parts[1], parts[2], others[3], parts[4]].join(".")
    };
    let revoked = world.token("ledger", 1).await;
    let id = revoked.split('.').nth(2).unwrap().to_owned();
    world.admin().await.revoke_join_token(v1::RevokeJoinTokenRequest { id }).await.unwrap();
    let expired = world.token("ledger", 1).await;
    let unknown = spent.replace(spent.split('.').nth(2).unwrap(), "0123456789abcdef");
    world.clock.advance(Duration::from_secs(3600));
    for token in [&spent, &wrong_secret, &revoked, &expired, &unknown] {
        let status = world.attest(token).await.err().unwrap();
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "join token refused"));
    }
    let fresh = world.token("ledger", 1).await;
    let csr = PendingKey::generate().unwrap().csr_der().unwrap();
    let nonsense = world.joiner(&fresh).await.attest(attest_request("not a token", csr)).await.unwrap_err();
    assert_eq!(nonsense.message(), "join token refused");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_concurrent_uses_of_a_single_use_token_have_one_winner() {
    let world = Arc::new(World::new().await);
    for _ in 0..5 {
        let token = world.token("ledger", 1).await;
        let (a, b) = tokio::join!(world.attest(&token), world.attest(&token));
        assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|ok| **ok).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signing_request_does_not_use_up_the_token() {
    let world = World::new().await;
    let token = world.token("ledger", 1).await;
    let mut client = world.joiner(&token).await;
    for csr in [vec![], b"garbage".to_vec(), vec![0x30; 20_000]] {
        let status = client.attest(attest_request(&token, csr)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    world.attest(&token).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_another_root_hash_does_not_talk_to_us() {
    let world = World::new().await;
    let config = tls::pinned_client_config([7; 32], SpiffeId::control_plane, &[b"h2"]).unwrap();
    assert!(world.connect(config).await.is_err());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_instance_gets_nothing_more() {
    let world = World::new().await;
    let member = world.join("ledger").await;
    let mut proxy = member.stream(&world, &[]).await;
    proxy.snapshot().await;
    let request =
        v1::EvictProxyRequest { instance_id: member.instance.clone(), reason: "compromised".into() };
    world.admin().await.evict_proxy(request).await.unwrap();
    // All are told of its void certificate first, and it may be among them.
    let evicted = loop {
        match proxy.next().await.unwrap() {
            Some(v1::control_message::Message::Snapshot(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(evicted, Some(v1::control_message::Message::Evicted(e)) if e.reason == "compromised"));
    assert_eq!(proxy.end().await.code(), Code::PermissionDenied);
    assert_eq!(member.renew(&world).await.err().unwrap().code(), Code::PermissionDenied);
    let mut again = member.stream(&world, &[]).await;
    assert!(matches!(again.next().await.unwrap(), Some(v1::control_message::Message::Evicted(_))));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_planes_own_identity_is_not_given_away() {
    let world = World::new().await;
    let request = v1::CreateJoinTokenRequest {
        namespace: "palisade-system".into(),
        service_account: "control-plane".into(),
        ..v1::CreateJoinTokenRequest::default()
    };
    let status = world.admin().await.create_join_token(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    world.stop().await;
}
