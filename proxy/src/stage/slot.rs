//! A place among a bounded number of things that a worker does at once.

use std::cell::Cell;
use std::rc::Rc;

use crate::worker::Worker;

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    worker: Rc<Worker>,
    count: Count,
}

/// Where a worker counts them.
type Count = fn(&Worker) -> &Cell<usize>;

impl Slot {
    /// `None` where `max` are taken.
    pub(crate) fn take(worker: &Rc<Worker>, count: Count, max: usize) -> Option<Self> {
        let taken = count(worker).get();
        if taken >= max {
            return None;
        }
        count(worker).set(taken.saturating_add(1));
        Some(Self { worker: worker.clone(), count })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let count = (self.count)(&self.worker);
        count.set(count.get().saturating_sub(1));
    }
}
