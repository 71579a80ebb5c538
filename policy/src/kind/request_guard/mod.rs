//! RequestGuard, palisade.mesh/v1: the form that requests must have, whoever sends them.

mod build;
pub mod media;
pub mod names;
mod read;
pub mod rule;

use super::Selector;
use super::mesh_config::AmbiguousPaths;
use super::request_match::MatchItem;
pub(crate) use build::build;
pub(crate) use read::read;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestGuardSpec {
    pub selector: Selector,
    pub rules: Vec<GuardRuleSpec>,
}

/// Every rule that matches applies. What is absent or empty asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardRuleSpec {
    pub name: String,
    /// Empty: every request.
    pub matches: Vec<MatchItem>,
    pub allowed_methods: Vec<String>,
    /// `type/subtype` or `type/*`.
    pub content_types: Vec<String>,
    /// Bytes of the body, without its framing.
    pub max_body_bytes: Option<u64>,
    /// Header lines.
    pub max_headers: Option<u64>,
    /// Bytes of all names and values.
    pub max_header_bytes: Option<u64>,
    /// Bytes of path and query.
    pub max_uri_bytes: Option<u64>,
    /// Names, or what names begin with and a `*`.
    pub forbid_headers: Vec<String>,
    pub strip_headers: Vec<String>,
    /// Names that may come once; `*` for all.
    pub forbid_duplicates: Vec<String>,
    pub underscores: Option<Underscores>,
    /// In place of what MeshConfig says.
    pub ambiguous_paths: Option<AmbiguousPaths>,
}

impl GuardRuleSpec {
    /// In a word each, what it asks for beside methods, content types and the size of bodies.
    pub(crate) fn other_words(&self) -> impl Iterator<Item = &'static str> {
        let lists = [&self.forbid_headers, &self.strip_headers, &self.forbid_duplicates];
        let headers = self.max_headers.is_some()
            || self.max_header_bytes.is_some()
            || self.underscores == Some(Underscores::Reject)
            || lists.iter().any(|names| !names.is_empty());
        let kept = self.ambiguous_paths == Some(AmbiguousPaths::Keep);
        let words =
            [(headers, "headers"), (self.max_uri_bytes.is_some(), "URI"), (kept, "ambiguous paths kept")];
        words.into_iter().filter(|(asked, _)| *asked).map(|(_, word)| word)
    }
}

/// Names of headers with `_`, which CGI-style servers read as `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    Keep,
    Reject,
}
