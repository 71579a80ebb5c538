//! Tokens: taken apart strictly, verified with keys that fit, remembered for a while.

mod address;
mod algorithm;
mod cache;
mod fault;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod jwk;
mod jws;
mod keyring;
mod keys;
mod locate;
mod secret;
mod url;
mod verify;
mod weak;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod fetch_tests;
#[cfg(test)]
mod keyring_tests;
#[cfg(test)]
mod vectors;

pub(crate) use cache::{TokenCache, TokenKey, Verified};
pub use fault::TokenFault;
pub(crate) use jws::Jws;
pub use keyring::KeyRing;
pub(crate) use keyring::keep;
pub(crate) use locate::{Place, find, remove, remove_folded};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn rule_for_tests() -> palisade_policy::compile::authentication::JwtRule {
    use std::time::Duration;

    palisade_policy::compile::authentication::JwtRule {
        id: "ns/rule/0".into(),
        issuer: "https://auth.example".into(),
        audiences: Vec::new(),
        keys: std::sync::Arc::new(keys::KeySource {
            origin: keys::KeyOrigin::Inline(r#"{"keys":[]}"#.into()),
            refresh: Duration::from_secs(300),
            refetch_min: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }),
        locations: palisade_policy::compile::authentication::Locations::default(),
        forward_original_token: false,
        output_payload_to_header: None,
        output_claims: Vec::new(),
        algorithms: vec!["ES256".into()],
        clock_skew: Duration::from_secs(60),
        max_age: None,
        required_claims: Vec::new(),
        max_token_bytes: 8192,
        space_delimited: std::sync::Arc::default(),
    }
}
