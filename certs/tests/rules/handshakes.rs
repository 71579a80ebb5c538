//! Handshakes with real rustls on both sides.

use palisade_certs::tls::{
    ClientAuth, ExpectedPeer, client_config, io_reason, pinned_client_config, server_config,
};
use palisade_certs::{TrustBundle, bundle};
use palisade_identity::SpiffeId;

use crate::kit::{DAY, Mesh, handshake, now};

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

struct Pair {
    mesh: Mesh,
    server: SpiffeId,
    client: SpiffeId,
}

fn pair() -> Pair {
    let mesh = Mesh::new("corp.example");
    let (server, client) = (mesh.workload("payments", "ledger"), mesh.workload("payments", "web"));
    Pair { mesh, server, client }
}

impl Pair {
    fn server(&self, client_auth: ClientAuth) -> rustls::ServerConfig {
        server_config(&self.mesh.svid(&self.server), &self.mesh.bundle(), client_auth, ALPN).unwrap()
    }

    fn client(&self) -> rustls::ClientConfig {
        let svid = self.mesh.svid(&self.client);
        client_config(Some(&svid), &self.mesh.bundle(), ExpectedPeer::only(self.server.clone()), ALPN)
            .unwrap()
    }

    /// A client that shows nothing.
    fn anonymous(&self) -> rustls::ClientConfig {
        client_config(None, &self.mesh.bundle(), ExpectedPeer::only(self.server.clone()), ALPN).unwrap()
    }

    /// A client of another CA, that would accept our server.
    fn stranger(&self, other: &Mesh) -> rustls::ClientConfig {
        let svid = other.svid(&other.workload("payments", "web"));
        client_config(Some(&svid), &self.mesh.bundle(), ExpectedPeer::only(self.server.clone()), ALPN)
            .unwrap()
    }
}

async fn server_refuses(server: rustls::ServerConfig, client: rustls::ClientConfig) -> &'static str {
    let (server, client) = handshake(server, client).await;
    assert!(client.is_err(), "the client got through");
    io_reason(&server.expect_err("the server refuses"))
}

async fn client_refuses(server: rustls::ServerConfig, client: rustls::ClientConfig) -> &'static str {
    let (server, client) = handshake(server, client).await;
    assert!(server.is_err(), "the server got through");
    io_reason(&client.expect_err("the client refuses"))
}

#[tokio::test]
async fn two_workloads_of_one_mesh_talk() {
    let pair = pair();
    let (server, client) = handshake(pair.server(ClientAuth::Required), pair.client()).await;
    server.unwrap();
    client.unwrap();
}

#[tokio::test]
async fn optional_client_auth_takes_callers_without_certificate_and_checks_those_with_one() {
    let pair = pair();
    let (server, client) = handshake(pair.server(ClientAuth::Optional), pair.anonymous()).await;
    server.unwrap();
    client.unwrap();
    let (server, client) = handshake(pair.server(ClientAuth::Optional), pair.client()).await;
    server.unwrap();
    client.unwrap();
    let stranger = pair.stranger(&Mesh::new("corp.example"));
    assert_eq!(server_refuses(pair.server(ClientAuth::Optional), stranger).await, "unknownRoot");
}

#[tokio::test]
async fn refuses_a_caller_without_certificate() {
    let pair = pair();
    assert_eq!(server_refuses(pair.server(ClientAuth::Required), pair.anonymous()).await, "noCertificate");
}

#[tokio::test]
async fn refuses_a_caller_of_another_ca_with_the_same_trust_domain() {
    let pair = pair();
    let stranger = pair.stranger(&Mesh::new("corp.example"));
    assert_eq!(server_refuses(pair.server(ClientAuth::Required), stranger).await, "unknownRoot");
}

#[tokio::test]
async fn refuses_a_caller_of_another_trust_domain_even_when_its_root_is_in_the_bundle() {
    let pair = pair();
    for name in ["corp.example.evil", "evil.corp.example", "corp.exampl", "other.example"] {
        let other = Mesh::new(name);
        let mut bundle = pair.mesh.bundle();
        // `TrustBundle::new` refuses this; built by hand to see that the verifier does not rely on it.
        bundle.roots.push(other.root.certificate().clone());
        assert!(TrustBundle::new(bundle.trust_domain.clone(), bundle.roots.clone()).is_err());
        let svid = pair.mesh.svid(&pair.server);
        let server = server_config(&svid, &bundle, ClientAuth::Required, ALPN).unwrap();
        assert_eq!(server_refuses(server, pair.stranger(&other)).await, "wrongTrustDomain", "{name}");
    }
}

#[tokio::test]
async fn refuses_an_expired_and_a_future_certificate_on_both_sides() {
    let pair = pair();
    let mesh = Mesh::made_at("corp.example", now() - 3 * DAY);
    let pair = Pair { mesh, ..pair };
    for (at, name) in [(now() - 2 * DAY, "expired"), (now() + DAY, "notYetValid")] {
        let bundle = pair.mesh.bundle();
        let expected = ExpectedPeer::only(pair.server.clone());
        let svid = pair.mesh.svid_made_at(&pair.client, at);
        let client = client_config(Some(&svid), &bundle, expected, ALPN).unwrap();
        assert_eq!(server_refuses(pair.server(ClientAuth::Required), client).await, name);
        let svid = pair.mesh.svid_made_at(&pair.server, at);
        let server = server_config(&svid, &bundle, ClientAuth::Required, ALPN).unwrap();
        assert_eq!(client_refuses(server, pair.client()).await, name);
    }
}

#[tokio::test]
async fn refuses_a_chain_without_its_intermediate() {
    let pair = pair();
    let (issued, key) = pair.mesh.issue(&pair.client, DAY, now());
    let alone = palisade_certs::Svid::from_der(vec![issued.chain[0].clone()], key.private_key_der()).unwrap();
    let expected = ExpectedPeer::only(pair.server.clone());
    let client = client_config(Some(&alone), &pair.mesh.bundle(), expected, ALPN).unwrap();
    assert_eq!(server_refuses(pair.server(ClientAuth::Required), client).await, "unknownRoot");
}

#[tokio::test]
async fn a_client_refuses_a_server_with_another_identity_of_the_same_mesh() {
    let pair = pair();
    for impostor in
        ["spiffe://corp.example/ns/payments/sa/ledger2", "spiffe://corp.example/ns/other/sa/ledger"]
    {
        let svid = pair.mesh.svid(&crate::kit::id(impostor));
        let server = server_config(&svid, &pair.mesh.bundle(), ClientAuth::Required, ALPN).unwrap();
        assert_eq!(client_refuses(server, pair.client()).await, "wrongIdentity");
    }
}

#[tokio::test]
async fn a_client_without_any_expected_identity_refuses_every_server() {
    let pair = pair();
    let none = ExpectedPeer::OneOf(std::sync::Arc::default());
    let svid = pair.mesh.svid(&pair.client);
    let client = client_config(Some(&svid), &pair.mesh.bundle(), none, ALPN).unwrap();
    assert_eq!(client_refuses(pair.server(ClientAuth::Required), client).await, "wrongIdentity");
}

#[tokio::test]
async fn plaintext_and_old_tls_have_names_of_their_own() {
    let pair = pair();
    let config = std::sync::Arc::new(pair.server(ClientAuth::Required));
    for bytes in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PROXY TCP4 1.1.1.1"]
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
        let error = acceptor.accept(tokio::io::join(bytes, tokio::io::sink())).await.expect_err("not TLS");
        assert_eq!(io_reason(&error), "notTls", "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_server_gives_no_tickets() {
    let pair = pair();
    let config = pair.server(ClientAuth::Required);
    assert_eq!(config.send_tls13_tickets, 0);
    assert!(!config.session_storage.can_cache());
    assert!(!config.ticketer.enabled());
    assert_eq!(config.max_early_data_size, 0);
}

#[tokio::test]
async fn a_pinned_client_accepts_the_control_plane_behind_the_right_root() {
    let mesh = Mesh::new("corp.example");
    let control_plane = SpiffeId::control_plane(&mesh.domain);
    let pin = bundle::sha256(mesh.root.certificate());
    let client = pinned_client_config(pin, SpiffeId::control_plane, &[b"h2"]).unwrap();
    let svid = mesh.svid_with_root(&control_plane);
    let server = server_config(&svid, &mesh.bundle(), ClientAuth::Optional, &[b"h2"]).unwrap();
    let (server, client) = handshake(server, client).await;
    server.unwrap();
    client.unwrap();
}

#[tokio::test]
async fn a_pinned_client_refuses_everything_else() {
    let mesh = Mesh::new("corp.example");
    let other = Mesh::new("corp.example");
    let control_plane = SpiffeId::control_plane(&mesh.domain);
    let right = bundle::sha256(mesh.root.certificate());
    let mut one_bit_off = right;
    one_bit_off[31] ^= 1;
    let leaf_pin = |svid: &palisade_certs::Svid| svid.leaf_sha256();

    let good = mesh.svid_with_root(&control_plane);
    let workload = mesh.svid_with_root(&mesh.workload("payments", "ledger"));
    let operator = mesh.svid_with_root(&SpiffeId::operator(&mesh.domain, "alice").unwrap());
    let without_root = mesh.svid(&control_plane);
    let foreign = other.svid_with_root(&control_plane);
    // The other CA's chain with our root put beside it.
    let (mut issued, key) = other.issue(&control_plane, DAY, now());
    issued.chain.push(mesh.root.certificate().clone());
    let decorated = palisade_certs::Svid::from_der(issued.chain, key.private_key_der()).unwrap();
    let intermediate_pin = bundle::sha256(mesh.authority.certificate());

    let rows = [
        ("wrong hash", &good, one_bit_off, "notPinned"),
        ("zero hash", &good, [0; 32], "notPinned"),
        ("the leaf's hash", &good, leaf_pin(&good), "notPinned"),
        ("a workload", &workload, right, "wrongIdentity"),
        ("an operator", &operator, right, "wrongIdentity"),
        ("root not sent", &without_root, right, "notPinned"),
        ("another CA", &foreign, right, "notPinned"),
        ("another CA with our root beside", &decorated, right, "unknownRoot"),
    ];
    for (name, svid, pin, reason) in rows {
        let client = pinned_client_config(pin, SpiffeId::control_plane, ALPN).unwrap();
        let server = server_config(svid, &mesh.bundle(), ClientAuth::Optional, ALPN).unwrap();
        assert_eq!(client_refuses(server, client).await, reason, "{name}");
    }
    // Pinning the intermediate is narrower than pinning the root, and works.
    let client = pinned_client_config(intermediate_pin, SpiffeId::control_plane, ALPN).unwrap();
    let server = server_config(&good, &mesh.bundle(), ClientAuth::Optional, ALPN).unwrap();
    handshake(server, client).await.1.unwrap();
}
