//! What the double-delivery watch leaves in the record.

use uuid::Uuid;

use super::{Outcome, Record};
use crate::watch::{Delivery, KnownBy};

/// What is known of the deliveries of a request.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// This one, if anybody watches.
    pub(crate) delivery: Option<Delivery>,
    /// The decision of the first, and how that is known.
    pub(super) duplicate_of: Option<(Uuid, KnownBy)>,
}

impl Record {
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// The request came before.
    pub(crate) fn duplicates(&mut self, first: Uuid, known_by: KnownBy, refused: bool) {
        self.watched.duplicate_of = Some((first, known_by));
        if refused {
            self.outcome = Outcome::Denied;
        }
        let (source, destination) = (self.source.as_ref(), self.destination.as_ref());
        self.worker.telemetry.count(|shard| shard.duplicated(known_by, refused, source, destination));
    }

    /// The upstream is being given the request.
    pub(crate) fn delivered(&mut self) {
        if let Some(delivery) = &mut self.watched.delivery {
            delivery.sent();
        }
    }
}
