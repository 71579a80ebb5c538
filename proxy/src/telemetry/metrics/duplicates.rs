//! Requests that came to the application, or would have come, a second time, by caller.

use palisade_identity::SpiffeId;

use super::labels::party;
use super::shadow::Caller;
use super::{Shard, head, line};
use crate::watch::KnownBy;

/// The labels of one count: from configuration and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Series {
    known_by: KnownBy,
    refused: bool,
    source: Option<Caller>,
    destination: Option<Caller>,
}

impl Shard {
    pub(crate) fn duplicated(
        &mut self,
        known_by: KnownBy,
        refused: bool,
        source: Option<&SpiffeId>,
        destination: Option<&SpiffeId>,
    ) {
        let caller = |id: Option<&SpiffeId>| id.cloned().map(Caller);
        let mut series =
            Series { known_by, refused, source: caller(source), destination: caller(destination) };
        if self.duplicated.len() >= self.series_max && !self.duplicated.contains_key(&series) {
            series.source = None;
        }
        *self.duplicated.entry(series).or_default() += 1;
    }

    pub(super) fn add_duplicated(&mut self, other: &Self) {
        for (series, count) in &other.duplicated {
            *self.duplicated.entry(series.clone()).or_default() += count;
        }
    }
}

pub(super) fn render(out: &mut String, shard: &Shard) {
    let name = "palisade_duplicate_deliveries_total";
    head(out, name, "counter", "Requests that came a second time, within the window of a RetryPolicy.");
    let mut rows: Vec<_> = shard.duplicated.iter().map(|(series, count)| (labels(series), *count)).collect();
    rows.sort();
    for (labels, count) in rows {
        line(out, name, &labels, count);
    }
}

fn labels(series: &Series) -> String {
    let Series { known_by, refused, source, destination } = series;
    let mut out = format!("known_by=\"{}\",refused=\"{refused}\"", known_by.name());
    party(&mut out, "source", source.as_ref().map(|caller| &caller.0));
    party(&mut out, "destination", destination.as_ref().map(|caller| &caller.0));
    out
}
