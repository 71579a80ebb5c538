//! Which workloads objects are for, as far as labels in documents tell.

use super::world::{Of, Selecting};
use crate::kind::Selector;
use crate::set::ROOT_NAMESPACE;

/// The workloads with these labels, in this namespace (all of them for the root namespace).
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach<'s> {
    pub(super) namespace: &'s str,
    pub(super) selector: &'s Selector,
}

impl<'s> Reach<'s> {
    pub(super) fn of<T: Selecting>(of: &Of<'s, T>) -> Self {
        Self { namespace: of.namespace(), selector: of.spec.selector() }
    }

    /// Whether every workload of `other` is surely one of ours.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let place = self.namespace == ROOT_NAMESPACE || self.namespace == other.namespace;
        place && self.selector.iter().all(|(key, value)| other.selector.get(key) == Some(value))
    }

    /// Whether some workload may be in both: no label is asked for with two values.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let place =
            [self.namespace, other.namespace].contains(&ROOT_NAMESPACE) || self.namespace == other.namespace;
        place
            && self
                .selector
                .iter()
                .all(|(key, value)| other.selector.get(key).is_none_or(|theirs| theirs == value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &[(&str, &str)]) -> Selector {
        text.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn includes_is_certain_and_meets_is_possible() {
        let (all, edge, blue, ledger) = (
            labels(&[]),
            labels(&[("app", "edge")]),
            labels(&[("colour", "blue")]),
            labels(&[("app", "ledger")]),
        );
        let reach = |namespace, selector| Reach { namespace, selector };
        // a, b, a includes b, a meets b
        let rows = [
            (reach("bank", &all), reach("bank", &edge), true, true),
            (reach("bank", &edge), reach("bank", &all), false, true),
            (reach("bank", &edge), reach("bank", &blue), false, true),
            (reach("bank", &edge), reach("bank", &ledger), false, false),
            (reach("shop", &all), reach("bank", &edge), false, false),
            (reach(ROOT_NAMESPACE, &all), reach("bank", &edge), true, true),
            (reach("bank", &all), reach(ROOT_NAMESPACE, &edge), false, true),
        ];
        for (a, b, includes, meets) in rows {
            assert_eq!((a.includes(&b), a.meets(&b)), (includes, meets), "{a:?} {b:?}");
        }
    }
}
