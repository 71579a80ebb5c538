//! Faults that were injected, and those that were not because too many were under way.

use std::collections::HashMap;
use std::sync::Arc;

use super::{head, line};

#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// By who asked for it, and what it was.
    injected: HashMap<(Arc<str>, &'static str), u64>,
    pub(crate) dropped: u64,
}

impl Faults {
    pub(crate) fn injected(&mut self, id: &Arc<str>, kind: &'static str) {
        *self.injected.entry((id.clone(), kind)).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (key, count) in &other.injected {
            *self.injected.entry(key.clone()).or_default() += count;
        }
        self.dropped += other.dropped;
    }

    pub(super) fn render(&self, out: &mut String) {
        let name = "palisade_faults_injected_total";
        head(out, name, "counter", "Faults injected, by the route that asks for them.");
        let mut rows: Vec<_> = self.injected.iter().collect();
        rows.sort();
        for ((id, kind), count) in rows {
            line(out, name, &format!("fault=\"{id}\",type=\"{kind}\""), *count);
        }
        let name = "palisade_faults_dropped_total";
        head(out, name, "counter", "Faults not injected, because too many were under way.");
        line(out, name, "", self.dropped);
    }
}
