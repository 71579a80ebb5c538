//! Join tokens and renewal: who gets which certificate, and who gets none.

use std::time::{Duration, SystemTime};

use palisade_certs::csr::PendingKey;
use palisade_proto::v1;
use palisade_tests::World;
use palisade_tests::grpc::{attest_request, svid_of};
use palisade_tests::wait::until;
use palisade_tests::world::Pki;
use tonic::Code;

use crate::PALISADE;

#[tokio::test]
async fn a_token_gives_the_identity_it_was_made_for_whatever_the_request_asks() {
    let world = World::start(PALISADE).await;
    let token = world.token("payments/web", &[]).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::default();
    let name = "spiffe://test.mesh/ns/palisade-system/sa/control-plane";
    wish.subject_alt_names = vec![rcgen::SanType::URI(name.try_into().unwrap())];
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = wish.serialize_request(&key).unwrap();
    let answer = world.identity(None).await.attest(attest_request(&token, csr.der())).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.labels["app"], "web");
    let chain = answer.chain_der.iter().map(|der| der.to_vec().into()).collect();
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let svid = palisade_certs::Svid::from_der(chain, der.into()).unwrap();
    assert_eq!(svid.id.as_str(), "spiffe://test.mesh/ns/payments/sa/web");
    svid.verify(&world.mesh_bundle(), SystemTime::now()).unwrap();
    let life = svid.not_after.duration_since(SystemTime::now()).unwrap();
    assert!((3500..=3600).contains(&life.as_secs()), "{life:?}");
}

#[tokio::test]
async fn refuses_tokens_that_are_wrong_used_up_expired_or_revoked_in_the_same_words() {
    let world = World::start(PALISADE).await;
    let good = world.token("payments/web", &[]).await;
    let other = world.token("payments/web", &[]).await;
    let parts: Vec<&str> = good.split('.').collect();
    let other_parts: Vec<&str> = other.split('.').collect();
    let (id, secret) = (parts[parts.len() - 3], parts[parts.len() - 2]);
    let mut said = std::collections::BTreeSet::new();
    for (what, token) in [
        ("another token's secret", good.replace(secret, other_parts[other_parts.len() - 2])),
        ("unknown id", good.replace(id, "0123456789abcdef")),
        ("no token", String::new()),
        ("cut", good[..good.len() / 2].to_owned()),
        ("id alone", id.to_owned()),
    ] {
        let refused = world.attest(&token).await.expect_err(what);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
        said.insert(refused.message().to_owned());
    }
    world.attest(&good).await.unwrap();
    let used_up = world.attest(&good).await.expect_err("used up");
    said.insert(used_up.message().to_owned());
    let short = world.token("payments/web", &["--ttl", "1s"]).await;
    let expired = until("the token to expire", || async {
        // Only the refusal may end this: a use that succeeds would mean that the token outlived its second by far.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.attest(&short).await.err().ok_or("still good")
    })
    .await;
    said.insert(expired.message().to_owned());
    let revoked = world.token("payments/web", &["--uses", "5"]).await;
    world.attest(&revoked).await.unwrap();
    let revoked_id = revoked.split('.').rev().nth(2).unwrap();
    assert_eq!(world.operator(&["token", "revoke", revoked_id]).await.code, Some(0));
    said.insert(world.attest(&revoked).await.expect_err("revoked").message().to_owned());
    assert_eq!(said.len(), 1, "a guesser can tell the cases apart: {said:?}");
}

#[tokio::test]
async fn of_concurrent_uses_of_a_single_use_token_exactly_one_wins() {
    let world = World::start(PALISADE).await;
    for _ in 0..3 {
        let token = world.token("payments/web", &[]).await;
        let tries = (0..8).map(|_| world.attest(&token));
        let done = futures_util::future::join_all(tries).await;
        assert_eq!(done.iter().filter(|one| one.is_ok()).count(), 1);
    }
    let token = world.token("payments/web", &["--uses", "3"]).await;
    let done = futures_util::future::join_all((0..8).map(|_| world.attest(&token))).await;
    assert_eq!(done.iter().filter(|one| one.is_ok()).count(), 3);
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_the_token() {
    let world = World::start(PALISADE).await;
    let token = world.token("payments/web", &[]).await;
    let weak = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let weak = rcgen::CertificateParams::default().serialize_request(&weak).unwrap();
    let mut unsigned = PendingKey::generate().unwrap().csr_der().unwrap();
    *unsigned.last_mut().unwrap() ^= 1;
    for csr in [weak.der().to_vec(), unsigned, Vec::new(), vec![0; 100]] {
        let refused = world.identity(None).await.attest(attest_request(&token, &csr)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    world.attest(&token).await.unwrap();
}

#[tokio::test]
async fn renewal_needs_the_current_certificate_and_keeps_identity_and_instance() {
    let world = World::start(PALISADE).await;
    let token = world.token("payments/web", &[]).await;
    let svid = world.attest(&token).await.unwrap();
    let renew = |svid: Option<palisade_certs::Svid>| {
        let world = &world;
        async move {
            let key = PendingKey::generate().unwrap();
            let request = v1::RenewRequest { csr_der: key.csr_der().unwrap() };
            let answer = world.identity(svid.as_ref()).await.renew(request).await?.into_inner();
            Ok::<_, tonic::Status>((svid_of(answer.clone(), &key), answer.instance_id))
        }
    };
    let (next, instance) = renew(Some(svid.clone())).await.unwrap();
    assert_eq!(next.id, svid.id);
    assert_ne!(next.serial, svid.serial);
    let (again, same) = renew(Some(next)).await.unwrap();
    assert_eq!((&again.id, same.as_str()), (&svid.id, instance.as_str()));
    let nobody = renew(None).await.unwrap_err();
    let operator = renew(Some(world.operator_svid())).await.unwrap_err();
    for refused in [&nobody, &operator] {
        assert!([Code::Unauthenticated, Code::PermissionDenied].contains(&refused.code()), "{refused}");
    }
    assert_eq!(world.operator(&["evict", &instance, "--reason", "test"]).await.code, Some(0));
    let evicted = renew(Some(again)).await.unwrap_err();
    assert_eq!(evicted.code(), Code::PermissionDenied, "{evicted}");
}

#[tokio::test]
async fn the_operators_services_are_for_operators_and_the_stream_for_workloads() {
    let world = World::start(PALISADE).await;
    let token = world.token("payments/web", &[]).await;
    let workload = world.attest(&token).await.unwrap();
    let operator = world.operator_svid();
    for svid in [None, Some(&workload)] {
        let mut admin = v1::admin_client::AdminClient::new(world.channel(svid).await);
        let get = admin.get(v1::GetRequest::default()).await.map(drop);
        let token = admin.create_join_token(v1::CreateJoinTokenRequest::default()).await.map(drop);
        let list = admin.list_proxies(v1::ListProxiesRequest {}).await.map(drop);
        let apply = admin.apply(v1::ApplyRequest::default()).await.map(drop);
        for refused in [get, token, list, apply] {
            let refused = refused.unwrap_err();
            assert!([Code::Unauthenticated, Code::PermissionDenied].contains(&refused.code()), "{refused}");
        }
    }
    for svid in [None, Some(&operator)] {
        let hello =
            v1::ProxyMessage { message: Some(v1::proxy_message::Message::Hello(v1::Hello::default())) };
        let stream = world.configuration(svid).await.stream(tokio_stream::once(hello)).await;
        let refused = match stream {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.expect_err("no snapshot for these"),
        };
        assert!([Code::Unauthenticated, Code::PermissionDenied].contains(&refused.code()), "{refused}");
    }
    let mut admin = world.admin().await;
    admin.get(v1::GetRequest::default()).await.unwrap();
}

#[tokio::test]
async fn the_control_plane_speaks_tls_only_and_to_its_own_ca_only() {
    let world = World::start(PALISADE).await;
    let mut socket = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let answer =
        palisade_tests::client::raw(&mut socket, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await;
    assert!(!answer.windows(4).any(|four| four == [0, 0, 0, 4]), "{}", answer.escape_ascii());
    // An operator certificate of another CA with the same trust domain.
    let stranger = Pki::new().svid("payments/web");
    let domain = palisade_identity::TrustDomain::parse("test.mesh").unwrap();
    let id = palisade_identity::SpiffeId::control_plane(&domain);
    let config = palisade_certs::tls::client_config(
        Some(&stranger),
        &world.mesh_bundle(),
        palisade_certs::tls::ExpectedPeer::only(id),
        &[b"h2"],
    );
    let refused = match palisade_tests::grpc::channel(world.address(), config.unwrap()).await {
        Err(_) => true,
        Ok(channel) => {
            let mut admin = v1::admin_client::AdminClient::new(channel);
            admin.get(v1::GetRequest::default()).await.is_err()
        }
    };
    assert!(refused);
}
