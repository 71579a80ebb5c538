//! Decisions that dry-run policies would turn round, by caller.

use std::sync::Arc;

use palisade_identity::SpiffeId;
use palisade_policy::decision::{Shadow, ShadowPolicy};

use super::labels::party;
use super::{Shard, head, line};
use crate::worker::Direction;

/// What policies of earlier pushes and callers beyond the bound are counted under.
const OTHER: &str = "other";

/// The labels of one count: from configuration and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Series {
    direction: Direction,
    shadow: Shadow,
    /// SPIFFE ids hash by their text.
    source: Option<Caller>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller(pub(super) SpiffeId);

impl std::hash::Hash for Caller {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl Shard {
    pub(crate) fn shadowed(&mut self, direction: Direction, shadow: &Shadow, source: Option<&SpiffeId>) {
        let mut series = Series { direction, shadow: shadow.clone(), source: source.cloned().map(Caller) };
        if self.shadowed.len() >= self.series_max && !self.shadowed.contains_key(&series) {
            series.source = None;
            series.shadow.by = ShadowPolicy::NoneOf(Arc::from(OTHER));
        }
        *self.shadowed.entry(series).or_default() += 1;
    }

    pub(super) fn add_shadowed(&mut self, other: &Self) {
        for (series, count) in &other.shadowed {
            *self.shadowed.entry(series.clone()).or_default() += count;
        }
    }
}

pub(super) fn render(out: &mut String, shard: &Shard) {
    let name = "palisade_shadow_decisions_total";
    head(out, name, "counter", "Requests and TCP connections that dry-run policies would decide otherwise.");
    let mut rows: Vec<_> = shard.shadowed.iter().map(|(series, count)| (labels(series), *count)).collect();
    rows.sort();
    for (labels, count) in rows {
        line(out, name, &labels, count);
    }
}

fn labels(series: &Series) -> String {
    let Series { direction, shadow, source } = series;
    let (effect, by) = (shadow.effect, &shadow.by);
    let reason = by.reason(effect);
    let mut out = format!(
        "direction=\"{}\",effect=\"{}\",policy=\"{by}\",reason=\"{reason}\"",
        direction.name(),
        effect.code()
    );
    party(&mut out, "source", source.as_ref().map(|caller| &caller.0));
    out
}

#[cfg(test)]
mod tests {
    use palisade_policy::decision::ShadowEffect;

    use super::*;

    #[test]
    fn however_many_callers_there_are_the_counts_stay_few_and_whole() {
        let mut shard = Shard::new(10);
        let by = ShadowPolicy::NoneOf("payments/a".into());
        let shadow = Shadow { effect: ShadowEffect::DeniedIfAdded, by };
        for n in 0..1000 {
            let id = SpiffeId::parse(&format!("spiffe://test.mesh/ns/a/sa/w{n}")).unwrap();
            shard.shadowed(Direction::Inbound, &shadow, Some(&id));
        }
        let mut sum = Shard::default();
        sum.add_shadowed(&shard);
        let mut text = String::new();
        render(&mut text, &sum);
        let counts: Vec<u64> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (11, 1000));
        assert!(
            text.contains("policy=\"other\",reason=\"no_allow_matched\",source_workload=\"unknown\""),
            "{text}"
        );
    }
}
