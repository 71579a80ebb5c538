//! Rules of one action. Only those are tried that a request could match.

use std::sync::Arc;

use super::clause::Clause;
use super::index::Index;
use super::needs::needs;
use super::texts::Position;
use crate::decision::RuleRef;
use crate::request::RequestView;

/// A rule ready to be asked. Parts are alternatives; an empty part matches everything.
#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    sources: Box<[Box<[Clause]>]>,
    operations: Box<[Box<[Clause]>]>,
    conditions: Box<[Clause]>,
}

/// The rules of all policies with one action, in their order.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    rules: Box<[(RuleRef, CompiledRule)]>,
    index: Index,
}

impl CompiledRule {
    pub(super) fn new(
        sources: Vec<Box<[Clause]>>,
        operations: Vec<Box<[Clause]>>,
        conditions: Vec<Clause>,
    ) -> Self {
        Self { sources: sources.into(), operations: operations.into(), conditions: conditions.into() }
    }

    /// The same, with one more condition.
    pub(super) fn and(self, condition: Clause) -> Self {
        let conditions = self.conditions.into_iter().chain([condition]).collect();
        Self { conditions, ..self }
    }

    /// The alternatives of `from`, each a list of clauses that all have to match.
    pub(super) fn sources(&self) -> &[Box<[Clause]>] {
        &self.sources
    }

    /// The alternatives of `to`.
    pub(super) fn operations(&self) -> &[Box<[Clause]>] {
        &self.operations
    }

    pub(super) fn conditions(&self) -> &[Clause] {
        &self.conditions
    }

    fn matches(&self, request: &RequestView<'_>) -> bool {
        let all = |clauses: &[Clause]| clauses.iter().all(|c| c.matches(request));
        let any = |parts: &[Box<[Clause]>]| parts.is_empty() || parts.iter().any(|p| all(p));
        any(&self.sources) && any(&self.operations) && all(&self.conditions)
    }

    /// Whether a caller of this identity matches at least one source, whatever else the request is like: addresses
    /// and tokens are taken to fit.
    pub(crate) fn could_match_caller(&self, request: &RequestView<'_>) -> bool {
        let fits = |clause: &Clause| !clause.is_about_identity() || clause.matches(request);
        let source_fits = |source: &[Clause]| source.iter().all(fits);
        (self.sources.is_empty() || self.sources.iter().any(|s| source_fits(s)))
            && self.conditions.iter().all(fits)
    }

    /// Whether a caller of this identity matches with every request.
    pub(crate) fn always_matches_caller(&self, request: &RequestView<'_>) -> bool {
        let fits = |clause: &Clause| clause.is_about_identity() && clause.matches(request);
        let source_fits = |source: &[Clause]| source.iter().all(fits);
        let everything = self.operations.is_empty();
        everything
            && (self.sources.is_empty() || self.sources.iter().any(|s| source_fits(s)))
            && self.conditions.iter().all(fits)
    }
}

impl Clause {
    fn is_about_identity(&self) -> bool {
        matches!(
            self,
            Self::Principal(_) | Self::Namespace(_) | Self::TrustDomain(_) | Self::ServiceAccount(_)
        )
    }
}

impl FromIterator<(RuleRef, CompiledRule)> for RuleSet {
    fn from_iter<I: IntoIterator<Item = (RuleRef, CompiledRule)>>(rules: I) -> Self {
        let rules: Box<[_]> = rules.into_iter().collect();
        let needs = rules.iter().map(|(_, rule)| needs(&rule.sources, &rule.operations, &rule.conditions));
        Self { index: Index::new(needs.collect()), rules }
    }
}

impl RuleSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule that matches, in the order of the policies. Allocates nothing.
    pub(crate) fn first_match(&self, request: &RequestView<'_>) -> Option<&RuleRef> {
        let mut first: Option<(Position, &RuleRef)> = None;
        self.index.each(request, |positions| {
            let earlier = positions.iter().take_while(|at| first.is_none_or(|(found, _)| **at < found));
            let found = earlier.filter_map(|at| Some((*at, self.matching_at(*at, request)?))).next();
            first = found.or(first);
        });
        first.map(|(_, name)| name)
    }

    /// Every rule that matches, in the order of the policies.
    pub(crate) fn matching(&self, request: &RequestView<'_>) -> impl Iterator<Item = &RuleRef> {
        let mut found: Vec<(Position, &RuleRef)> = Vec::new();
        self.index.each(request, |positions| {
            found.extend(positions.iter().filter_map(|at| Some((*at, self.matching_at(*at, request)?))));
        });
        found.sort_unstable_by_key(|(at, _)| *at);
        found.dedup_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, name)| name)
    }

    fn matching_at(&self, at: Position, request: &RequestView<'_>) -> Option<&RuleRef> {
        let (name, rule) = self.rules.get(usize::try_from(at).ok()?)?;
        rule.matches(request).then_some(name)
    }

    /// Every rule with its name, in the order in which the policies were added.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&RuleRef, &CompiledRule)> {
        self.rules.iter().map(|(name, rule)| (name, rule))
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &CompiledRule> {
        self.rules.iter().map(|(_, rule)| rule)
    }
}

/// The rules of a policy, with their names.
pub(crate) fn named(
    namespace: &str,
    policy: &str,
    rules: Vec<CompiledRule>,
) -> impl Iterator<Item = (RuleRef, CompiledRule)> {
    let (namespace, policy): (Arc<str>, Arc<str>) = (namespace.into(), policy.into());
    rules.into_iter().enumerate().map(move |(rule, compiled)| {
        (RuleRef { namespace: namespace.clone(), policy: policy.clone(), rule }, compiled)
    })
}

#[cfg(test)]
#[path = "rule_set_tests.rs"]
mod tests;
