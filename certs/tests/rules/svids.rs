//! What counts as an SVID: one certificate that does, then near misses, each different in one thing.

use std::sync::Arc;

use palisade_certs::tls::{ClientAuth, ExpectedPeer, client_config, io_reason, server_config};
use palisade_certs::{BundleError, Svid, SvidError, TrustBundle};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::kit::{DAY, HOUR, Mesh, domain, handshake, id, now};

const GOOD: &str = "spiffe://corp.example/ns/payments/sa/web";

/// A CA that signs whatever it is given, under the trust domain corp.example.
struct Careless {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

fn careless() -> Careless {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).unwrap().der().clone();
    Careless { issuer: Issuer::new(params, key), root }
}

/// The certificate that every row starts from.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(GOOD)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

impl Careless {
    fn bundle(&self) -> TrustBundle {
        TrustBundle::new(domain("corp.example"), vec![self.root.clone()]).unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (leaf, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn judge(&self, params: &CertificateParams) -> Result<(), SvidError> {
        let (leaf, key) = self.sign(params);
        Svid::from_der(vec![leaf], key)?.verify(&self.bundle(), now())
    }

    /// The reason a mesh server gives to a caller with this certificate, `None` if it lets it in.
    async fn at_the_door(&self, params: &CertificateParams) -> Option<&'static str> {
        let (leaf, key) = self.sign(&good());
        let server = Svid::from_der(vec![leaf], key).unwrap();
        let server = server_config(&server, &self.bundle(), ClientAuth::Required, &[]).unwrap();
        // A caller that does not check its own certificate, as ours would.
        let mut client = client_config(None, &self.bundle(), ExpectedPeer::only(id(GOOD)), &[]).unwrap();
        let (leaf, key) = self.sign(params);
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![leaf], key);
        client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
        handshake(server, client).await.0.err().map(|error| io_reason(&error))
    }
}

fn with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = good();
    change(&mut params);
    params
}

/// Names of one kind: everything that is not exactly one SPIFFE id of the trust domain.
fn wrong_names() -> Vec<(&'static str, Vec<SanType>, &'static str)> {
    let other = "spiffe://corp.example/ns/payments/sa/admin";
    vec![
        ("no name", vec![], "notAnSvid"),
        ("two SPIFFE ids", vec![uri(GOOD), uri(other)], "notAnSvid"),
        ("the same id twice", vec![uri(GOOD), uri(GOOD)], "notAnSvid"),
        ("an id and another URI", vec![uri(GOOD), uri("https://corp.example/")], "notAnSvid"),
        ("another URI first", vec![uri("https://corp.example/"), uri(GOOD)], "notAnSvid"),
        ("the id as a DNS name", vec![dns(GOOD)], "notAnSvid"),
        ("the id as an e-mail address", vec![SanType::Rfc822Name(GOOD.try_into().unwrap())], "notAnSvid"),
        ("upper-case scheme", vec![uri("SPIFFE://corp.example/ns/payments/sa/web")], "notAnSvid"),
        ("upper-case trust domain", vec![uri("spiffe://Corp.Example/ns/payments/sa/web")], "notAnSvid"),
        ("query", vec![uri("spiffe://corp.example/ns/payments/sa/web?x=1")], "notAnSvid"),
        ("fragment", vec![uri("spiffe://corp.example/ns/payments/sa/web#x")], "notAnSvid"),
        ("port", vec![uri("spiffe://corp.example:443/ns/payments/sa/web")], "notAnSvid"),
        ("user info", vec![uri("spiffe://me@corp.example/ns/payments/sa/web")], "notAnSvid"),
        ("dot segments", vec![uri("spiffe://corp.example/ns/other/../payments/sa/web")], "notAnSvid"),
        ("percent encoding", vec![uri("spiffe://corp.example/ns/payments/sa/w%65b")], "notAnSvid"),
        ("trailing slash", vec![uri("spiffe://corp.example/ns/payments/sa/web/")], "notAnSvid"),
        ("no path", vec![uri("spiffe://corp.example")], "notAnSvid"),
        ("NUL in the path", vec![uri("spiffe://corp.example/ns/payments/sa/web\0.evil")], "notAnSvid"),
        (
            "NUL in the trust domain",
            vec![uri("spiffe://corp.example\0.evil/ns/payments/sa/web")],
            "notAnSvid",
        ),
        ("another trust domain", vec![uri("spiffe://other.example/ns/payments/sa/web")], "wrongTrustDomain"),
        (
            "longer trust domain",
            vec![uri("spiffe://corp.example.evil/ns/payments/sa/web")],
            "wrongTrustDomain",
        ),
        ("shorter trust domain", vec![uri("spiffe://corp.exampl/ns/payments/sa/web")], "wrongTrustDomain"),
        ("sub trust domain", vec![uri("spiffe://a.corp.example/ns/payments/sa/web")], "wrongTrustDomain"),
    ]
}

fn wrong_uses() -> Vec<(&'static str, CertificateParams, &'static str)> {
    use ExtendedKeyUsagePurpose::{Any, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment};
    vec![
        ("CA:TRUE", with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "notALeaf"),
        ("CA:TRUE pathlen 0", with(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), "notALeaf"),
        ("signs certificates", with(|p| p.key_usages = vec![DigitalSignature, KeyCertSign]), "notALeaf"),
        ("signs revocation lists", with(|p| p.key_usages = vec![DigitalSignature, CrlSign]), "notALeaf"),
        ("signs nothing", with(|p| p.key_usages = vec![KeyEncipherment]), "notALeaf"),
        ("no key usage", with(|p| p.key_usages = vec![]), "notALeaf"),
        ("no extended key usage", with(|p| p.extended_key_usages = vec![]), "wrongPurpose"),
        ("server only", with(|p| p.extended_key_usages = vec![ServerAuth]), "wrongPurpose"),
        ("any purpose", with(|p| p.extended_key_usages = vec![Any]), "wrongPurpose"),
        (
            "unknown critical extension",
            with(|p| p.custom_extensions = vec![unknown_critical()]),
            "badCertificate",
        ),
        ("expired", with(|p| p.not_after = (now() - HOUR).into()), "expired"),
        ("not yet valid", with(|p| p.not_before = (now() + HOUR).into()), "notYetValid"),
    ]
}

fn unknown_critical() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    extension.set_criticality(true);
    extension
}

#[tokio::test]
async fn accepts_exactly_one_spiffe_uri_also_beside_dns_names_and_addresses() {
    let ca = careless();
    for (name, params) in [
        ("alone", good()),
        ("with a DNS name", with(|p| p.subject_alt_names.push(dns("web.example")))),
        ("with an address", with(|p| p.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into())))),
        ("with a subject", with(|p| p.distinguished_name.push(rcgen::DnType::CommonName, "admin"))),
    ] {
        assert_eq!(ca.judge(&params), Ok(()), "{name}");
        assert_eq!(ca.at_the_door(&params).await, None, "{name}");
    }
}

#[tokio::test]
async fn refuses_every_other_set_of_names() {
    let ca = careless();
    for (name, names, reason) in wrong_names() {
        let params = with(|params| params.subject_alt_names = names);
        let error = ca.judge(&params).expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
        assert_eq!(ca.at_the_door(&params).await, Some(reason), "{name}");
    }
}

#[tokio::test]
async fn refuses_leaves_that_may_do_more_or_less_than_a_leaf() {
    let ca = careless();
    for (name, params, reason) in wrong_uses() {
        let error = ca.judge(&params).expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
        assert_eq!(ca.at_the_door(&params).await, Some(reason), "{name}");
    }
}

#[test]
fn refuses_a_key_that_is_not_the_certificates() {
    let ca = careless();
    let (leaf, key) = ca.sign(&good());
    let (_, other) = ca.sign(&good());
    assert!(Svid::from_der(vec![leaf.clone()], key).is_ok());
    assert_eq!(Svid::from_der(vec![leaf], other).unwrap_err(), SvidError::KeyMismatch);
}

#[test]
fn refuses_chains_that_are_empty_or_too_long() {
    let ca = careless();
    let (leaf, key) = ca.sign(&good());
    assert_eq!(Svid::from_der(vec![], key.clone_key()).unwrap_err(), SvidError::NoCertificate);
    let long = vec![leaf; 9];
    assert_eq!(Svid::from_der(long, key).unwrap_err(), SvidError::ChainTooLong(9));
}

#[test]
fn reads_back_the_pem_it_writes_and_names_what_is_wrong_with_other_texts() {
    let mesh = Mesh::new("corp.example");
    let (issued, key) = mesh.issue(&id(GOOD), HOUR, now());
    let svid = Svid::from_der(issued.chain, key.private_key_der()).unwrap();
    let (chain, key) = (svid.chain_pem(), key.to_pem());
    let again = Svid::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(
        (again.id, again.serial, again.chain),
        (svid.id.clone(), svid.serial.clone(), svid.chain.clone())
    );
    assert_eq!(svid.chain.len(), 2);
    let cut = &chain.as_bytes()[..chain.len() / 3];
    for (name, chain, key) in [
        ("no chain", b"".as_slice(), key.as_bytes()),
        ("no key", chain.as_bytes(), b"".as_slice()),
        ("swapped", key.as_bytes(), chain.as_bytes()),
        ("cut chain", cut, key.as_bytes()),
        ("key in the chain file", &[chain.as_bytes(), key.as_bytes()].concat(), key.as_bytes()),
        ("rubbish", b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", key.as_bytes()),
        ("not DER", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key.as_bytes()),
    ] {
        let error = Svid::from_pem(chain, key).expect_err(name);
        assert_eq!(error.reason(), "malformed", "{name}: {error}");
    }
}

#[test]
fn a_bundle_holds_authorities_of_its_own_trust_domain_only() {
    let (mesh, other) = (Mesh::new("corp.example"), Mesh::new("other.example"));
    let bundle = mesh.bundle();
    let again = TrustBundle::from_pem(mesh.domain.clone(), bundle.to_pem().as_bytes()).unwrap();
    assert_eq!(again, bundle);
    let leaf = mesh.svid(&id(GOOD)).chain[0].clone();
    let root = mesh.root.certificate().clone();
    let new = |roots: Vec<CertificateDer<'static>>| TrustBundle::new(mesh.domain.clone(), roots).unwrap_err();
    assert_eq!(new(vec![]), BundleError::Empty);
    assert_eq!(new(vec![root.clone(), leaf]), BundleError::NotAnAuthority(2));
    assert_eq!(new(vec![CertificateDer::from(vec![0x30, 0])]), BundleError::Malformed(1));
    assert_eq!(new(vec![root; 65]), BundleError::TooMany(65));
    let foreign = new(vec![other.root.certificate().clone()]);
    assert!(matches!(foreign, BundleError::OtherTrustDomain { position: 1, .. }), "{foreign}");
    let key = mesh.authority.to_pem().key;
    assert!(matches!(TrustBundle::from_pem(mesh.domain.clone(), key.as_bytes()), Err(BundleError::Pem(_))));
}

#[test]
fn a_debug_print_of_an_svid_shows_no_key() {
    let mesh = Mesh::made_at("corp.example", now() - DAY);
    let printed = format!("{:?}", mesh.svid(&id(GOOD)));
    assert!(printed.contains(GOOD) && !printed.to_lowercase().contains("key"), "{printed}");
}
