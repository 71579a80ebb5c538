//! The double-delivery watch: which requests an application was given already. Beside the snapshots, so that it survives
//! pushes; shared by all workers, since a caller that comes again comes to any of them.
//!
//! Keys are 128 bits of a keyed hash with secrets of this process: nobody outside can make two requests meet. Memory is
//! bounded by `maxKeys` of the policy, at about 180 bytes each.

mod table;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use palisade_identity::SpiffeId;
use palisade_policy::kind::retry_policy::{Duplicates, OnDuplicate};
use tokio::time::Instant;
use uuid::Uuid;

use table::{Arrival, Bounds, Key, Serial, Table};

/// So that workers seldom wait for one another; each has its share of the keys.
const SHARDS: usize = 16;

/// What was delivered of late.
#[derive(Debug)]
pub struct Watch {
    shards: Box<[Mutex<Table>]>,
    secrets: (RandomState, RandomState),
    start: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            secrets: (RandomState::new(), RandomState::new()),
            start: Instant::now(),
        }
    }
}

/// How a request is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KnownBy {
    /// The idempotency key that its caller gave it.
    Key,
    /// Its id, and the caller's sidecar says that it tries again.
    Attempt,
    /// Its id alone. An application that passes on the id of what it works for gives it to several requests.
    RequestId,
}

impl KnownBy {
    /// In records and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Attempt => "attempt",
            Self::RequestId => "request_id",
        }
    }

    /// Whether it is sure enough to refuse for.
    fn is_sure(self) -> bool {
        matches!(self, Self::Key | Self::Attempt)
    }
}

/// A request that is about to be delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'r> {
    /// `None`: a caller without a certificate.
    pub(crate) caller: Option<&'r SpiffeId>,
    pub(crate) method: &'r Method,
    /// Without query.
    pub(crate) path: &'r str,
    pub(crate) known_by: KnownBy,
    /// The key or the id.
    pub(crate) name: &'r [u8],
    /// The decision's.
    pub(crate) id: Uuid,
}

/// What is known of a request that is about to be delivered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The decision of the first delivery, where it is not this one.
    pub(crate) first: Option<Uuid>,
    /// `None`: it is not to be delivered, since the first is under way.
    pub(crate) delivery: Option<Delivery>,
}

/// A request under way. Dropped, it is over.
#[derive(Debug)]
pub(crate) struct Delivery {
    watch: Arc<Watch>,
    key: Key,
    serial: Serial,
    sent: bool,
}

impl Delivery {
    /// The application is being given it: from now on it counts.
    pub(crate) fn sent(&mut self) {
        if !std::mem::replace(&mut self.sent, true) {
            self.watch.table(self.key, |table| table.sent(self.key, self.serial));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.watch.table(self.key, |table| table.over(self.key, self.serial));
    }
}

impl Watch {
    pub(crate) fn ask(self: &Arc<Self>, request: &Request<'_>, policy: &Duplicates) -> Answer {
        let key = self.key(request);
        let arrival = Arrival {
            key,
            caller: self.secrets.0.hash_one(request.caller.map(SpiffeId::as_str)),
            id: request.id,
            refuse: policy.on_duplicate == OnDuplicate::Refuse && request.known_by.is_sure(),
        };
        let bounds =
            Bounds { window: millis(policy.window), keys: policy.max_keys.div_ceil(self.shards.len()) };
        let now = self.now();
        let told = self.table(key, |table| table.arrive(&arrival, now, &bounds));
        let (first, serial) = told.unwrap_or_default();
        let delivery = serial.map(|serial| Delivery { watch: Arc::clone(self), key, serial, sent: false });
        Answer { first, delivery }
    }

    /// Forgets what is too old. Called now and then.
    pub(crate) fn tidy(&self) {
        let now = self.now();
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).tidy(now);
        }
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    fn key(&self, request: &Request<'_>) -> Key {
        let by_key = request.known_by == KnownBy::Key;
        let caller = request.caller.map(SpiffeId::as_str);
        let all = (by_key, caller, request.method.as_str(), request.path, request.name);
        Key(self.secrets.0.hash_one(all), self.secrets.1.hash_one(all))
    }

    /// With the part of the table that has the key. There always is one.
    fn table<T>(&self, key: Key, with: impl FnOnce(&mut Table) -> T) -> Option<T> {
        let part = usize::try_from(key.0 >> 32).unwrap_or_default().checked_rem(self.shards.len())?;
        let shard = self.shards.get(part)?;
        Some(with(&mut shard.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
