//! A RetryPolicy made ready for requests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::OnDuplicate;
use crate::kind::request_match::{MatchView, RequestMatch};

/// Bytes of a key: as draft-ietf-httpapi-idempotency-key-header leaves open, and others have it.
const KEY_BYTES_MAX: usize = 255;

/// Which requests to a host may be repeated, and what is watched where they arrive.
#[derive(Clone, Debug)]
pub struct Repeats {
    /// `namespace/name`.
    pub name: Arc<str>,
    pub(super) rules: Box<[Rule]>,
    pub duplicates: Option<Duplicates>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) matches: RequestMatch,
    pub(super) reason: Reason,
}

#[derive(Clone, Debug)]
pub(super) enum Reason {
    Key(HeaderName),
    Idempotent,
}

/// How the receiving side knows a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicates {
    /// From a delivery on. Default 10 min.
    pub window: Duration,
    /// Of one instance. Default 100 000.
    pub max_keys: usize,
    pub on_duplicate: OnDuplicate,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), max_keys: 100_000, on_duplicate: OnDuplicate::Record }
    }
}

impl Repeats {
    /// Whether a request does no harm when it is processed twice, whatever its method is. Of `view` the method and the path
    /// are looked at.
    pub fn allow(&self, view: &MatchView<'_>, headers: &HeaderMap) -> bool {
        self.rules.iter().any(|rule| match &rule.reason {
            Reason::Idempotent => rule.matches.matches(view),
            Reason::Key(name) => key(headers, name).is_some() && rule.matches.matches(view),
        })
    }

    /// The key that a request bears, by the first rule that asks for one and finds it.
    pub fn key<'h>(&self, view: &MatchView<'_>, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        self.rules.iter().find_map(|rule| match &rule.reason {
            Reason::Idempotent => None,
            Reason::Key(name) => key(headers, name).filter(|_| rule.matches.matches(view)),
        })
    }
}

/// Of two lines nobody knows which one the application takes.
fn key<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    (1..=KEY_BYTES_MAX).contains(&line.len()).then_some(line)
}
