//! Numbers and durations within bounds, for the parts of a traffic policy.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::document::reader::{At, Fields, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;

/// Istio's own, where it counts: an `int32`.
pub(super) const COUNT: RangeInclusive<u32> = 1..=2_147_483_647;
/// One millisecond, as in Istio, to a day: what lasts longer does not happen between two proxies.
pub(super) const DURATION: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 3600);

/// A whole number in a field, if it is there.
pub(super) fn read_count(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<u32> {
    let at = fields.take(name)?;
    let number = reader.number(&at)?;
    let count = u32::try_from(number).ok();
    if count.is_none() {
        let message = format!("{number} is more than {}", u32::MAX);
        reader.error(code::TRAFFIC_RANGE, at.mark(), &at.path, message, None);
    }
    count
}

/// A duration in a field, if it is there.
pub(super) fn read_duration(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<Duration> {
    fields.take(name).and_then(|at: At<'_>| reader.duration(&at))
}

/// Where findings of one part go.
pub(super) struct Within<'p> {
    pub(super) path: String,
    pub(super) problems: &'p mut Problems,
}

impl Within<'_> {
    /// `help`: what to write where it is out of range.
    pub(super) fn count(&mut self, field: &str, value: Option<u32>, range: RangeInclusive<u32>, help: &str) {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let message = format!("{value} is not within {} and {}", range.start(), range.end());
            self.refuse(field, message, help);
        }
    }

    pub(super) fn duration(
        &mut self,
        field: &str,
        value: Option<Duration>,
        range: RangeInclusive<Duration>,
        help: &str,
    ) {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let message = format!("{value:?} is not within {:?} and {:?}", range.start(), range.end());
            self.refuse(field, message, help);
        }
    }

    pub(super) fn refuse(&mut self, field: &str, message: String, help: &str) {
        self.problems.error(code::TRAFFIC_RANGE, format!("{}.{field}", self.path), message);
        if !help.is_empty() {
            self.problems.help(help);
        }
    }
}
