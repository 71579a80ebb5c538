//! The path cases of C2SP/x509-limbo.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    id: String,
    role: String,
    expected: String,
    time: Option<u64>,
    trusted: String,
    intermediates: String,
    peer: String,
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, SvidError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.map_err(|_| SvidError::Malformed)).collect()
}

/// The path alone, as `verify` walks it: these certificates have no SPIFFE id, so the rest would always refuse.
fn walk(case: &Case) -> Result<(), SvidError> {
    let role = if case.role == "CLIENT" { Role::Client } else { Role::Server };
    let now = match case.time {
        Some(seconds) => UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
        None => UnixTime::now(),
    };
    let roots = certificates(&case.trusted)?;
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).map_err(webpki_error))
        .collect::<Result<_, _>>()?;
    let intermediates = certificates(&case.intermediates)?;
    let peer = certificates(&case.peer)?;
    let leaf = EndEntityCert::try_from(&peer[0]).map_err(webpki_error)?;
    path_to_root(&leaf, &intermediates, &anchors, role, now)
}

#[test]
fn agrees_with_x509_limbo_but_for_the_listed_cases() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../tests/data/x509-limbo/cases.json")).unwrap();
    let differing: BTreeMap<&str, &str> = DIFFERING.iter().copied().collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let outcome = walk(case);
        let agrees = outcome.is_ok() == (case.expected == "SUCCESS");
        if agrees == differing.contains_key(case.id.as_str()) {
            wrong.push(format!("{} expected {}: {outcome:?}", case.id, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let unknown: Vec<_> = differing.keys().filter(|id| !cases.iter().any(|case| case.id == **id)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn refuses_every_leaf_of_x509_limbo_as_none_is_an_svid() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../tests/data/x509-limbo/cases.json")).unwrap();
    for case in &cases {
        for leaf in certificates(&case.peer).unwrap_or_default() {
            assert!(leaf::inspect(&leaf).is_err(), "{}", case.id);
        }
    }
}

const STRICTER: &str = "stricter: we refuse what may be accepted";
const FORM: &str = "a rule for those who issue, not for those who validate (RFC 5280, section 6.1); it grants nobody anything";
const ANCHOR: &str =
    "an anchor is a name and a key (RFC 5280, 6.1.1 d); `TrustBundle` checks what else a root must have";
const LEAF: &str = "`leaf::inspect` refuses it";
const NAMES: &str = "DNS and directory names count for nothing in the mesh";

/// Cases where rustls-webpki decides otherwise, and why that is safe for SVIDs.
const DIFFERING: &[(&str, &str)] = &[
    ("pathlen::self-issued-certs-pathlen", STRICTER),
    ("pathlen::validation-ignores-pathlen-in-leaf", STRICTER),
    ("rfc5280::aki::critical-aki", FORM),
    ("rfc5280::aki::cross-signed-root-missing-aki", FORM),
    ("rfc5280::aki::intermediate-missing-aki", FORM),
    ("rfc5280::aki::leaf-missing-aki", FORM),
    ("rfc5280::ca-as-leaf", STRICTER),
    ("rfc5280::ca-empty-subject", FORM),
    ("rfc5280::leaf-ku-keycertsign", LEAF),
    ("rfc5280::nc::invalid-dnsname-leading-period", NAMES),
    ("rfc5280::nc::not-allowed-in-ee-critical", FORM),
    ("rfc5280::nc::not-allowed-in-ee-noncritical", FORM),
    ("rfc5280::nc::permitted-dn-match", STRICTER),
    ("rfc5280::nc::permitted-dns-match-noncritical", FORM),
    ("rfc5280::nc::permitted-self-issued", STRICTER),
    ("rfc5280::pc::ica-noncritical-pc", FORM),
    ("rfc5280::root-inconsistent-ca-extensions", ANCHOR),
    ("rfc5280::root-missing-basic-constraints", ANCHOR),
    ("rfc5280::root-non-critical-basic-constraints", ANCHOR),
    ("rfc5280::san::ip-in-dns", NAMES),
    ("rfc5280::san::noncritical-with-empty-subject", FORM),
    ("rfc5280::san::underscore-dns", NAMES),
    ("rfc5280::serial::too-long", FORM),
    ("rfc5280::serial::zero", FORM),
    ("rfc5280::ski::critical-ski", FORM),
    ("rfc5280::ski::intermediate-missing-ski", FORM),
    ("rfc5280::ski::root-missing-ski", ANCHOR),
    ("rfc5280::unknown-critical-extension-root", ANCHOR),
    ("rfc5280::validity::expired-root", ANCHOR),
];
