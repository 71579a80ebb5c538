//! One source of keys: where it is, what it gave last, and what was asked of it in vain.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
pub(crate) use palisade_policy::compile::authentication::{KeyOrigin, KeySource};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::verify::KeySet;

/// Key ids that a source is known not to have. 1 000 of 256 bytes: 256 KiB at most per source; the oldest goes first.
const UNKNOWN_MAX: usize = 1_000;

/// Requests that wait for a look at one source; what comes on top is judged by the keys in force. 1 000: a busy service in
/// the moment of a rotation, and a tenth of the requests that a proxy has under way.
pub(super) const WAITING_MAX: usize = 1_000;

/// Keys in force.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Differs from every other set of keys that this process has had, of any source.
    pub(crate) generation: u64,
    pub(crate) set: KeySet,
}

/// A source and what is known of it. Workers read; the control thread writes.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) spec: Arc<KeySource>,
    loaded: ArcSwapOption<Loaded>,
    /// SHA-256 of what the keys in force were read from: the same answer again changes nothing.
    digest: Mutex<Option<[u8; 32]>>,
    /// Finished looks, good or bad.
    looks: watch::Sender<Looks>,
    pub(super) wanted: Notify,
    waiting: AtomicUsize,
    unknown: Mutex<VecDeque<(Box<str>, Instant)>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    pub(super) finished: u64,
    pub(super) last: Option<Instant>,
}

/// What became of the wish for newer keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refetch {
    /// A look ended, well or badly.
    Looked,
    /// None is due, or too many wait for it already: refused at once.
    NotNow,
    /// None ended in time.
    TooSlow,
}

/// A place among those that wait.
struct Waiting<'s>(&'s AtomicUsize);

impl<'s> Waiting<'s> {
    fn begin(count: &'s AtomicUsize) -> Option<Self> {
        let more = |waiting| (waiting < WAITING_MAX).then_some(waiting + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Source {
    pub(super) fn new(spec: Arc<KeySource>) -> Self {
        Self {
            spec,
            loaded: ArcSwapOption::empty(),
            digest: Mutex::default(),
            looks: watch::Sender::default(),
            wanted: Notify::new(),
            waiting: AtomicUsize::new(0),
            unknown: Mutex::default(),
        }
    }

    pub(super) fn loaded(&self) -> Guard<Option<Arc<Loaded>>> {
        self.loaded.load()
    }

    /// Puts keys in force. The generation changes only with the text they were read from.
    pub(super) fn store(&self, set: KeySet, digest: [u8; 32]) {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let mut known = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(digest) != Some(digest) {
            let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
            self.loaded.store(Some(Arc::new(Loaded { generation, set })));
            self.unknown.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    pub(super) fn finished_look(&self) {
        self.looks.send_modify(|looks| {
            *looks = Looks { finished: looks.finished.wrapping_add(1), last: Some(Instant::now()) };
        });
    }

    /// Asks for a look at the newest keys and waits for it, at most `patience`. However many ask, one look is under way at a
    /// time, and not before `refetch_min` has passed.
    pub(super) async fn refetch(&self, patience: Duration) -> Refetch {
        if matches!(self.spec.origin, KeyOrigin::Inline(_)) {
            // Policy has no other words to say, and nobody would look.
            return Refetch::NotNow;
        }
        let mut looks = self.looks.subscribe();
        let before = *looks.borrow_and_update();
        if before.last.is_some_and(|last| last.elapsed() < self.spec.refetch_min) {
            return Refetch::NotNow;
        }
        let Some(_place) = Waiting::begin(&self.waiting) else { return Refetch::NotNow };
        self.wanted.notify_one();
        let ended = looks.wait_for(|now| now.finished != before.finished);
        match tokio::time::timeout(patience, ended).await {
            Ok(Ok(_)) => Refetch::Looked,
            Ok(Err(_)) | Err(_) => Refetch::TooSlow,
        }
    }

    /// Whether this id was looked for in vain within `refetch_min` times five: no reason to look again.
    pub(super) fn is_known_unknown(&self, id: &str) -> bool {
        let forget = self.spec.refetch_min.saturating_mul(5);
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        while unknown.front().is_some_and(|(_, since)| since.elapsed() >= forget) {
            unknown.pop_front();
        }
        unknown.iter().any(|(known, _)| **known == *id)
    }

    pub(super) fn note_unknown(&self, id: &str) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.iter().any(|(known, _)| **known == *id) {
            return;
        }
        if unknown.len() >= UNKNOWN_MAX {
            unknown.pop_front();
        }
        unknown.push_back((id.into(), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn source(origin: KeyOrigin) -> Source {
        let (refresh, refetch_min) = (Duration::from_mins(5), Duration::from_secs(10));
        Source::new(Arc::new(KeySource { origin, refresh, refetch_min, timeout: Duration::from_secs(5) }))
    }

    fn elsewhere() -> KeyOrigin {
        KeyOrigin::Url { url: "https://auth.example".into(), allow_private: false, ca_certificates: None }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_keys_that_policy_has_written_out() {
        let source = source(KeyOrigin::Inline("{}".into()));
        source.finished_look();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(source.refetch(PATIENCE).now_or_never(), Some(Refetch::NotNow));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_before_a_look_is_due() {
        let source = source(elsewhere());
        source.finished_look();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(source.refetch(PATIENCE).now_or_never(), Some(Refetch::NotNow));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(source.refetch(PATIENCE).now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more_and_none_for_longer_than_its_patience() {
        let source = source(elsewhere());
        let start = Instant::now();
        let all = join_all((0..WAITING_MAX + 5).map(|_| source.refetch(PATIENCE))).await;
        assert_eq!(start.elapsed(), PATIENCE);
        let count = |what| all.iter().filter(|became| **became == what).count();
        assert_eq!((count(Refetch::TooSlow), count(Refetch::NotNow)), (WAITING_MAX, 5));
        let (waited, ()) = tokio::join!(source.refetch(PATIENCE), async { source.finished_look() });
        assert_eq!(waited, Refetch::Looked, "there is room again");
    }
}
