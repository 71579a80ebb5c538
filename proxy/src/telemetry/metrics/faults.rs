//! Faults that were injected, and those that were not because too many were under way.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::{head, line};

/// Series of one worker. Experiments come and go, and each has a name of its own; the rest is counted together.
const SERIES_MAX: usize = 1_000;
/// What the rest is called. No id is: each has a slash.
const OTHER: &str = "other";

#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// By who asked for it, and what it was.
    injected: HashMap<(Arc<str>, &'static str), u64>,
    /// By who asked for those that were not.
    dropped: HashMap<Arc<str>, u64>,
}

impl Faults {
    pub(crate) fn injected(&mut self, id: &Arc<str>, kind: &'static str) {
        *place(&mut self.injected, (id.clone(), kind), || (OTHER.into(), kind)) += 1;
    }

    pub(crate) fn dropped(&mut self, id: &Arc<str>) {
        *place(&mut self.dropped, id.clone(), || OTHER.into()) += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (key, count) in &other.injected {
            *self.injected.entry(key.clone()).or_default() += count;
        }
        for (id, count) in &other.dropped {
            *self.dropped.entry(id.clone()).or_default() += count;
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        let name = "palisade_faults_injected_total";
        head(out, name, "counter", "Faults injected, by the route or experiment that asks for them.");
        let mut rows: Vec<_> = self.injected.iter().collect();
        rows.sort();
        for ((id, kind), count) in rows {
            line(out, name, &format!("fault=\"{id}\",type=\"{kind}\""), *count);
        }
        let name = "palisade_faults_dropped_total";
        head(out, name, "counter", "Faults not injected, because too many were under way.");
        let mut rows: Vec<_> = self.dropped.iter().collect();
        rows.sort();
        for (id, count) in rows {
            line(out, name, &format!("fault=\"{id}\""), *count);
        }
    }
}

fn place<K: Eq + Hash>(all: &mut HashMap<K, u64>, key: K, other: impl FnOnce() -> K) -> &mut u64 {
    let key = if all.len() < SERIES_MAX || all.contains_key(&key) { key } else { other() };
    all.entry(key).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_of_ever_new_names_make_no_more_series_than_there_may_be() {
        let mut faults = Faults::default();
        for n in 0..SERIES_MAX + 5 {
            let id = format!("payments/{n}").into();
            faults.injected(&id, "delay");
            faults.dropped(&id);
        }
        assert_eq!((faults.injected.len(), faults.dropped.len()), (SERIES_MAX + 1, SERIES_MAX + 1));
        let mut out = String::new();
        faults.render(&mut out);
        assert!(out.contains("palisade_faults_injected_total{fault=\"other\",type=\"delay\"} 5"), "{out}");
        assert!(out.contains("palisade_faults_dropped_total{fault=\"other\"} 5"), "{out}");
        assert!(out.contains("{fault=\"payments/0\",type=\"delay\"} 1"));
    }
}
