//! What a request counts under.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

use http::HeaderMap;
use palisade_policy::kind::rate_limit_policy::{KeyPart, Limit};
use palisade_policy::request::token::Token;
use serde_json::Value;

use crate::listen::ClientKey;

/// What a key can be made of.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The client's address.
    pub address: IpAddr,
    pub headers: &'a HeaderMap,
    /// Verified.
    pub token: Option<&'a Token>,
}

/// 128 bits of a keyed hash: nobody outside can make two keys meet, and chance will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

impl Key {
    /// Which of `n` parts of a store the key belongs to.
    pub(super) fn part(self, n: usize) -> usize {
        usize::try_from(self.0 >> 32).unwrap_or_default().checked_rem(n).unwrap_or_default()
    }
}

/// Two secrets of this process.
#[derive(Debug, Default)]
pub(super) struct Keys(RandomState, RandomState);

impl Keys {
    /// A part that the request does not have is a value like any other: all requests without it share a bucket,
    /// so that leaving it out gives nobody a fresh one.
    pub(super) fn key(&self, limit: &Limit, asked: &Asked<'_>) -> Key {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            for part in &limit.key {
                hash_part(part, asked, &mut hasher);
            }
            hasher.finish()
        };
        Key(half(&self.0), half(&self.1))
    }
}

fn hash_part(part: &KeyPart, asked: &Asked<'_>, hasher: &mut impl Hasher) {
    match part {
        KeyPart::Claim(name) => claim(asked.token, name).hash(hasher),
        KeyPart::Principal => asked.token.and_then(|token| token.principal.as_deref()).hash(hasher),
        KeyPart::Address => ClientKey::of(asked.address).hash(hasher),
        KeyPart::Header(name) => {
            for value in asked.headers.get_all(name) {
                value.as_bytes().hash(hasher);
            }
            // Marks the end, so that values do not run into the next part.
            0xff_u8.hash(hasher);
        }
    }
}

/// A claim's text. JSON keeps a string and the number of the same digits apart.
pub(super) fn claim(token: Option<&Token>, name: &str) -> Option<String> {
    let token = token?;
    let whole = token.claim(&[name]);
    let value = whole.or_else(|| token.claim(&name.split('.').collect::<Vec<_>>()))?;
    Some(Value::to_string(value))
}
