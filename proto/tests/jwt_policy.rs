//! A JwtPolicy on the wire.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_policy::kind::jwt_policy::{Access, AccessRuleSpec, IssuerSpec, JwtPolicySpec, KeysSpec};
use palisade_policy::kind::request_match::MatchItem;
use palisade_policy::kind::{Meta, Named};
use palisade_proto::v1;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn object() -> Named<JwtPolicySpec> {
    let full = IssuerSpec {
        issuer: "https://auth.example".into(),
        algorithms: texts(&["ES256", "PS256"]),
        secret_file: Some("/run/secret".into()),
        clock_skew: Some(Duration::from_secs(30)),
        max_token_age: Some(Duration::from_secs(3600)),
        required_claims: texts(&["sub", "jti"]),
        max_token_bytes: Some(4096),
        keys: KeysSpec {
            refresh_interval: Some(Duration::from_secs(60)),
            refetch_interval_min: Some(Duration::from_secs(5)),
            allow_private_addresses: true,
            ca_certificates: Some("/etc/ca.pem".into()),
        },
    };
    let zero = IssuerSpec { issuer: "b".into(), clock_skew: Some(Duration::ZERO), ..IssuerSpec::default() };
    let matches = vec![MatchItem { paths: texts(&["/a"]), ..MatchItem::default() }];
    let rules = vec![
        AccessRuleSpec {
            name: "login".into(),
            matches,
            access: Access::Public,
            scopes: Vec::new(),
            audiences: Vec::new(),
        },
        AccessRuleSpec {
            name: "rest".into(),
            matches: Vec::new(),
            access: Access::Token,
            scopes: texts(&["read", "write"]),
            audiences: texts(&["api"]),
        },
    ];
    let selector = BTreeMap::from([("app".into(), "edge".into())]);
    let meta = Meta { namespace: "bank".into(), name: "api".into(), ..Meta::default() };
    Named { meta, spec: JwtPolicySpec { selector, issuers: vec![full, zero], rules } }
}

#[test]
fn every_field_survives_the_wire() {
    let object = object();
    assert_eq!(Named::try_from(v1::JwtPolicy::from(&object)).unwrap(), object);
}

#[test]
fn access_that_nobody_knows_is_refused_and_not_taken_for_public() {
    for (number, problem) in [(0, "is not set"), (7, "7 is a value this version does not know")] {
        let mut wire = v1::JwtPolicy::from(&object());
        wire.rules[1].access = number;
        let error = Named::<JwtPolicySpec>::try_from(wire).unwrap_err();
        assert_eq!((error.field.as_str(), error.problem.as_str()), ("rules[1].access", problem));
    }
}
