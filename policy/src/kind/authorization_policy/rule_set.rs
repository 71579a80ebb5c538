//! Rules of one action, found by the caller: a rule that names its callers one by one is only tried for them.

use std::sync::Arc;

use hashbrown::HashMap;

use super::clause::Clause;
use super::text::TextMatch;
use crate::decision::RuleRef;
use crate::request::RequestView;

/// A rule ready to be asked. Parts are alternatives; an empty part matches everything.
#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    sources: Box<[Box<[Clause]>]>,
    operations: Box<[Box<[Clause]>]>,
    conditions: Box<[Clause]>,
}

/// The rules of all policies with one action.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    rules: Vec<(RuleRef, CompiledRule)>,
    /// Positions in `rules`, ascending, of rules that only these principals can match.
    by_principal: HashMap<Box<[u8]>, Vec<usize>>,
    /// Positions of all other rules.
    general: Vec<usize>,
}

impl CompiledRule {
    pub(super) fn new(
        sources: Vec<Box<[Clause]>>,
        operations: Vec<Box<[Clause]>>,
        conditions: Vec<Clause>,
    ) -> Self {
        Self { sources: sources.into(), operations: operations.into(), conditions: conditions.into() }
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

    /// The only principals that can match, where every source lists them without patterns.
    fn principals(&self) -> Option<Vec<&[u8]>> {
        if self.sources.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        for source in &self.sources {
            let listed = source.iter().find_map(|clause| match clause {
                Clause::Principal(values) if !values.any.is_empty() => Some(&values.any),
                _ => None,
            })?;
            for pattern in listed {
                let TextMatch::Exact(exact) = pattern else { return None };
                out.push(&**exact);
            }
        }
        out.sort_unstable();
        out.dedup();
        Some(out)
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

impl RuleSet {
    pub(crate) fn add(&mut self, namespace: &str, policy: &str, rules: Vec<CompiledRule>) {
        let (namespace, policy): (Arc<str>, Arc<str>) = (namespace.into(), policy.into());
        for (rule, compiled) in rules.into_iter().enumerate() {
            let position = self.rules.len();
            match compiled.principals() {
                Some(principals) => {
                    for principal in principals {
                        self.by_principal.entry(principal.into()).or_default().push(position);
                    }
                }
                None => self.general.push(position),
            }
            let name = RuleRef { namespace: Arc::clone(&namespace), policy: Arc::clone(&policy), rule };
            self.rules.push((name, compiled));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first rule that matches, in the order in which the policies were added.
    pub(crate) fn first_match(&self, request: &RequestView<'_>) -> Option<&RuleRef> {
        self.matching(request).next()
    }

    /// Every rule that matches.
    pub(crate) fn matching<'s, 'r>(
        &'s self,
        request: &'r RequestView<'r>,
    ) -> impl Iterator<Item = &'s RuleRef> + use<'s, 'r> {
        let listed = request.peer.and_then(|p| self.by_principal.get(p.principal().as_bytes()));
        let listed = listed.map(Vec::as_slice).unwrap_or_default();
        merge(listed, &self.general)
            .filter_map(|position| self.rules.get(position))
            .filter(|(_, rule)| rule.matches(request))
            .map(|(name, _)| name)
    }

    /// Every rule with its name, in the order in which the policies were added.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&RuleRef, &CompiledRule)> {
        self.rules.iter().map(|(name, rule)| (name, rule))
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &CompiledRule> {
        self.rules.iter().map(|(_, rule)| rule)
    }
}

/// Two ascending lists as one.
fn merge<'l>(a: &'l [usize], b: &'l [usize]) -> impl Iterator<Item = usize> + 'l {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if x <= y => a.next(),
        (Some(_), None) => a.next(),
        _ => b.next(),
    })
}
