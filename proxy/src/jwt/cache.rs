//! Tokens whose signature was verified, so that the next request with the same token need not do it again. Only the
//! signature is remembered: times, audiences and everything else that policy asks is judged for each request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use palisade_policy::request::token::{Times, Token};

use super::algorithm::Algorithm;
use super::keyring::sha256;

/// Bytes of tokens kept per worker, in each of two halves. 1 MiB: some 1 000 tokens, a few times that in memory.
const HALF_BYTES_MAX: usize = 1024 * 1024;

/// A token whose signature was verified, and by what.
#[derive(Debug)]
pub(crate) struct Verified {
    /// The rule that it was verified for.
    pub(crate) rule: Arc<str>,
    /// The keys it was verified with. When a key is gone, the keys without it are another generation.
    pub(crate) generation: u64,
    pub(crate) algorithm: Algorithm,
    pub(crate) token: Arc<Token>,
    pub(crate) times: Times,
}

/// SHA-256 of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(sha256(token))
    }
}

#[derive(Debug)]
struct Entry<T> {
    bytes: usize,
    value: Arc<T>,
}

/// One worker's memory of tokens. When the young half is full it becomes the old one, and what was in the old one
/// and not asked for since is forgotten: bounded, and no list to keep in order.
#[derive(Debug)]
pub(crate) struct TokenCache<T = Verified>(RefCell<Halves<T>>);

#[derive(Debug)]
struct Halves<T> {
    young: HashMap<TokenKey, Entry<T>>,
    young_bytes: usize,
    old: HashMap<TokenKey, Entry<T>>,
}

impl<T> Default for TokenCache<T> {
    fn default() -> Self {
        Self(RefCell::new(Halves { young: HashMap::new(), young_bytes: 0, old: HashMap::new() }))
    }
}

impl<T> TokenCache<T> {
    /// What is known of a token. Whether it still counts is the caller's to ask.
    pub(crate) fn get(&self, key: TokenKey) -> Option<Arc<T>> {
        let mut halves = self.0.borrow_mut();
        if let Some(entry) = halves.young.get(&key) {
            return Some(entry.value.clone());
        }
        let entry = halves.old.remove(&key)?;
        let value = entry.value.clone();
        halves.keep(key, entry);
        Some(value)
    }

    /// Remembers a token of so many bytes.
    pub(crate) fn put(&self, key: TokenKey, value: Arc<T>, bytes: usize) {
        self.0.borrow_mut().keep(key, Entry { bytes, value });
    }
}

impl<T> Halves<T> {
    fn keep(&mut self, key: TokenKey, entry: Entry<T>) {
        if self.young_bytes.saturating_add(entry.bytes) > HALF_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += entry.bytes;
        if let Some(replaced) = self.young.insert(key, entry) {
            self.young_bytes = self.young_bytes.saturating_sub(replaced.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_tokens_stays_within_bounds_and_what_is_in_use_survives_it() {
        let cache = TokenCache::default();
        let used = TokenKey::of(b"in use");
        cache.put(used, Arc::new(0), 1000);
        for n in 0..10_000u32 {
            cache.put(TokenKey::of(&n.to_be_bytes()), Arc::new(n), 1000);
            assert!(cache.get(used).is_some(), "after {n}");
        }
        let halves = cache.0.borrow();
        assert!(halves.young_bytes <= HALF_BYTES_MAX);
        assert!(halves.young.len() + halves.old.len() <= 2 * HALF_BYTES_MAX / 1000);
    }
}
