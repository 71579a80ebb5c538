//! How busy a worker is, and whether new requests are turned away so that those under way stay fast.

use std::cell::Cell;
use std::time::Duration;

use crate::settings::limits::Limits;

/// Looks in a row that must be late before requests are turned away: a single one may be the host that was busy elsewhere.
const LATE_LOOKS: u32 = 3;

/// One worker's load.
#[derive(Debug, Default)]
pub(crate) struct Load {
    late_in_a_row: Cell<u32>,
}

impl Load {
    /// The worker looked `late` after it had meant to: so long waits whatever is ready.
    pub(crate) fn looked(&self, late: Duration, limits: &Limits) {
        let row = if late >= limits.overload_lag { self.late_in_a_row.get().saturating_add(1) } else { 0 };
        self.late_in_a_row.set(row);
    }

    /// Whether one more request is too much. `under_way`: requests of this worker, that one included.
    pub(crate) fn is_too_much(&self, under_way: u64, limits: &Limits, workers: u64) -> bool {
        let share = limits.requests_max.div_ceil(workers.max(1));
        under_way > share || self.late_in_a_row.get() >= LATE_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_requests_or_a_worker_that_is_late_for_a_while_are_too_much() {
        let limits =
            Limits { requests_max: 10, overload_lag: Duration::from_millis(500), ..Limits::default() };
        let load = Load::default();
        assert!(!load.is_too_much(4, &limits, 3));
        assert!(load.is_too_much(5, &limits, 3), "a third of ten, rounded up");
        let (late, soon) = (Duration::from_millis(500), Duration::from_millis(499));
        for look in [late, late, soon, late, late] {
            load.looked(look, &limits);
            assert!(!load.is_too_much(1, &limits, 3));
        }
        load.looked(late, &limits);
        assert!(load.is_too_much(1, &limits, 3));
        load.looked(soon, &limits);
        assert!(!load.is_too_much(1, &limits, 3), "at once when it is over");
    }
}
