//! The CA: what it signs, and what it refuses to sign.

use std::time::Duration;

use palisade_certs::ca::{Authority, AuthorityError, IssueError, RootAuthority, ServerNames};
use palisade_certs::csr::{CsrError, PendingKey};
use palisade_certs::{Svid, WeakKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use x509_parser::prelude::*;

use crate::kit::{DAY, HOUR, Mesh, id, now};

const WEB: &str = "spiffe://corp.example/ns/payments/sa/web";

fn refusal(csr: &[u8]) -> CsrError {
    match Mesh::new("corp.example").authority.issue(&id(WEB), csr, HOUR, now()) {
        Err(IssueError::Csr(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn issues_what_the_template_says() {
    let mesh = Mesh::new("corp.example");
    let at = now();
    let (issued, key) = mesh.issue(&id(WEB), HOUR, at);
    let svid = Svid::from_der(issued.chain.clone(), key.private_key_der()).unwrap();
    svid.verify(&mesh.bundle(), at).unwrap();
    assert_eq!((svid.id.as_str(), &svid.serial), (WEB, &issued.serial));
    assert_eq!((svid.not_before, svid.not_after), (issued.not_before, issued.not_after));

    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(names.value.general_names, [GeneralName::URI(WEB)]);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature alone");
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let backdated = at.duration_since(issued.not_before).unwrap();
    assert!((300..302).contains(&backdated.as_secs()), "{backdated:?}");
    let life = issued.not_after.duration_since(at).unwrap();
    assert!((3598..=3600).contains(&life.as_secs()), "{life:?}");
}

#[test]
fn the_intermediate_cannot_sign_another_and_ends_before_its_root() {
    let mesh = Mesh::new("corp.example");
    let (_, intermediate) = X509Certificate::from_der(mesh.authority.certificate()).unwrap();
    let constraints = intermediate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let days = |certificate: &X509Certificate<'_>| {
        let validity = certificate.validity();
        (validity.not_after.timestamp() - validity.not_before.timestamp()) / (24 * 3600)
    };
    assert_eq!(days(&intermediate), 365);
    let (_, root) = X509Certificate::from_der(mesh.root.certificate()).unwrap();
    assert_eq!(days(&root), 3650);
    assert_eq!(root.subject(), intermediate.issuer());
    let late = now() + 3600 * DAY;
    assert!(mesh.root.intermediate(late).unwrap().not_after() < late + 100 * DAY);
}

#[test]
fn serials_are_random_positive_and_long() {
    let mesh = Mesh::new("corp.example");
    let serials: std::collections::BTreeSet<_> =
        (0..50).map(|_| mesh.issue(&id(WEB), HOUR, now()).0.serial).collect();
    assert_eq!(serials.len(), 50);
    for serial in &serials {
        // 159 bits; the leading ones may happen to be zero.
        assert!((36..=40).contains(&serial.len()), "{serial}");
        assert!(u8::from_str_radix(&serial[..2], 16).unwrap() < 0x80 || serial.len() < 40, "{serial}");
        assert_eq!(serial, &serial.to_uppercase());
    }
}

#[test]
fn ignores_all_that_a_request_asks_for() {
    let mesh = Mesh::new("corp.example");
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::default();
    wish.distinguished_name.push(DnType::CommonName, "admin");
    wish.subject_alt_names = vec![
        SanType::URI("spiffe://corp.example/ns/palisade-system/sa/control-plane".try_into().unwrap()),
        SanType::DnsName("admin.example".try_into().unwrap()),
    ];
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let csr = wish.serialize_request(&key).unwrap();
    let issued = mesh.authority.issue(&id(WEB), csr.der(), HOUR, now()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.is_ca());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI(WEB)]);
    assert!(!leaf.extended_key_usage().unwrap().unwrap().value.code_signing);
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
}

#[test]
fn accepts_strong_keys_of_other_kinds() {
    let mesh = Mesh::new("corp.example");
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let issued = mesh.authority.issue(&id(WEB), csr.der(), HOUR, now()).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        Svid::from_der(issued.chain, key.into()).unwrap().verify(&mesh.bundle(), now()).unwrap();
    }
}

#[test]
fn refuses_weak_keys() {
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let csr = CertificateParams::default().serialize_request(&p521).unwrap();
    assert_eq!(refusal(csr.der()), CsrError::WeakKey(WeakKey::Kind));
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/weak-csr");
    for (file, expected) in [
        ("rsa-1024.pem", WeakKey::RsaBits(1024)),
        ("rsa-2048-exponent-3.pem", WeakKey::RsaExponent),
        ("p224.pem", WeakKey::Kind),
        ("secp256k1.pem", WeakKey::Kind),
        ("p256-explicit-curve.pem", WeakKey::Kind),
    ] {
        let text = std::fs::read(format!("{files}/{file}")).unwrap();
        let (_, pem) = parse_x509_pem(&text).unwrap();
        assert_eq!(refusal(&pem.contents), CsrError::WeakKey(expected), "{file}");
    }
}

#[test]
fn refuses_a_request_that_its_key_did_not_sign() {
    let key = PendingKey::generate().unwrap();
    let csr = key.csr_der().unwrap();
    // The last byte is of the signature, one in the middle of the public key.
    for position in [csr.len() - 1, csr.len() / 3] {
        let mut bent = csr.clone();
        bent[position] ^= 1;
        let error = refusal(&bent);
        assert!(matches!(error, CsrError::Signature | CsrError::Malformed), "{error}");
    }
    let stolen = {
        // Someone else's public key under our signature.
        let other = PendingKey::generate().unwrap().csr_der().unwrap();
        let point = |csr: &[u8]| csr.windows(2).position(|two| two == [0x00, 0x04]).unwrap() + 2;
        let mut stolen = csr.clone();
        let (to, from) = (point(&csr), point(&other));
        stolen[to..to + 64].copy_from_slice(&other[from..from + 64]);
        stolen
    };
    assert_eq!(refusal(&stolen), CsrError::Signature);
}

#[test]
fn refuses_what_is_no_request() {
    let csr = PendingKey::generate().unwrap().csr_der().unwrap();
    let trailing = [csr.as_slice(), b"\0"].concat();
    let rows: [&[u8]; 5] =
        [b"", b"\0", &csr[..csr.len() - 1], &trailing, b"-----BEGIN CERTIFICATE REQUEST-----"];
    for bytes in rows {
        assert_eq!(refusal(bytes), CsrError::Malformed, "{}", bytes.escape_ascii());
    }
    assert_eq!(refusal(&vec![0; 20_000]), CsrError::TooLong(20_000));
}

#[test]
fn a_certificate_never_outlives_the_intermediate() {
    let mesh = Mesh::new("corp.example");
    let (issued, _) = mesh.issue(&id(WEB), 10_000 * DAY, now());
    assert_eq!(issued.not_after, mesh.authority.not_after());
    let csr = PendingKey::generate().unwrap().csr_der().unwrap();
    let issue = |ttl, at| mesh.authority.issue(&id(WEB), &csr, ttl, at).unwrap_err();
    assert_eq!(issue(HOUR, mesh.authority.not_after()), IssueError::AuthorityNotValid);
    assert_eq!(issue(HOUR, now() - 3 * DAY), IssueError::AuthorityNotValid);
    assert_eq!(issue(Duration::ZERO, now()), IssueError::TtlTooShort);
}

#[test]
fn signs_for_its_own_trust_domain_only() {
    let mesh = Mesh::new("corp.example");
    let csr = PendingKey::generate().unwrap().csr_der().unwrap();
    for other in ["spiffe://corp.example.evil/ns/a/sa/b", "spiffe://other.example/ns/a/sa/b"] {
        let error = mesh.authority.issue(&id(other), &csr, HOUR, now()).unwrap_err();
        assert!(matches!(error, IssueError::OtherTrustDomain { .. }), "{error}");
    }
}

#[test]
fn the_control_planes_own_certificate_may_carry_names() {
    let mesh = Mesh::new("corp.example");
    let csr = PendingKey::generate().unwrap().csr_der().unwrap();
    let names = ServerNames { dns: vec!["mesh.corp.example".into()], ip: vec![[127, 0, 0, 1].into()] };
    let issued = mesh.authority.issue_server(&id(WEB), &names, &csr, HOUR, now()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 3);
    let bad = ServerNames { dns: vec!["mäsh.example".into()], ip: vec![] };
    assert!(matches!(
        mesh.authority.issue_server(&id(WEB), &bad, &csr, HOUR, now()),
        Err(IssueError::Name(_))
    ));
}

#[test]
fn reads_back_what_it_wrote_and_refuses_parts_that_do_not_fit() {
    let (mesh, other) = (Mesh::new("corp.example"), Mesh::new("corp.example"));
    let (root, intermediate) = (mesh.root.to_pem(), mesh.authority.to_pem());
    let again = Authority::from_pem(&intermediate.certificates, &intermediate.key).unwrap();
    let key = PendingKey::generate().unwrap();
    let issued = again.issue(&id(WEB), &key.csr_der().unwrap(), HOUR, now()).unwrap();
    let svid = Svid::from_der(issued.chain, key.private_key_der()).unwrap();
    svid.verify(&mesh.bundle(), now()).unwrap();
    RootAuthority::from_pem(&root.certificates, &root.key).unwrap().intermediate(now()).unwrap();

    let refused = |certificates: &str, key: &str| Authority::from_pem(certificates, key).err().unwrap();
    assert_eq!(
        refused(&intermediate.certificates, &other.authority.to_pem().key),
        AuthorityError::KeyMismatch
    );
    assert!(matches!(refused(&root.certificates, &root.key), AuthorityError::Count { found: 1, .. }));
    assert!(matches!(refused("", &root.key), AuthorityError::Pem(_)));
    assert!(matches!(refused(&intermediate.certificates, "rubbish"), AuthorityError::Key(_)));
    let leaf = svid.chain_pem();
    assert!(matches!(refused(&leaf, &key.to_pem()), AuthorityError::Certificate(_)));
    assert!(matches!(RootAuthority::from_pem(&leaf, &key.to_pem()), Err(AuthorityError::Count { .. })));
}

#[test]
fn a_pending_key_survives_a_restart() {
    let key = PendingKey::generate().unwrap();
    let again = PendingKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.private_key_der().secret_der(), key.private_key_der().secret_der());
    assert!(PendingKey::from_pem("").is_err());
}
