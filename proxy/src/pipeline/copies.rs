//! The copies of a request that its route asks for.

use std::rc::Rc;

use palisade_policy::Decision;
use palisade_policy::compile::Destination;

use super::outbound::describe;
use crate::stage::mirror::{self, Mirror};
use crate::stage::route::{self, Forwarding};
use crate::telemetry::record::{Record, Source};
use crate::worker::{Direction, Worker};

/// Those that have leave, each with a record of its own. `source`: of the original's connection.
pub(super) fn copies(
    worker: &Rc<Worker>,
    direction: Direction,
    source: &Source,
    original: &Record,
    forwarding: &Forwarding,
    authorize: impl Fn(&Destination) -> Decision,
) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for destination in forwarding.mirrors(route::random) {
        let Some(slot) = mirror::slot(worker) else { continue };
        let mut record = Record::open(worker, direction, source);
        record.copies(original);
        describe(&mut record, destination);
        match record.decided(authorize(destination)) {
            Ok(permit) => mirrors.push(Mirror::new(destination.clone(), permit, record, slot)),
            Err(error) => record.copy_failed(&error),
        }
    }
    mirrors
}
