//! The keys of all issuers. One task of the control thread looks after each source; workers only read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fault::TokenFault;
use super::fetch;
use super::jwk::parse_set;
use super::jws::Jws;
pub(crate) use super::keys::{KeyOrigin, KeySource, Loaded};
use super::keys::{Refetch, Source};
use super::secret;
use super::verify::KeySet;
use crate::live::Live;

/// How long a request waits for keys that it has reason to hope for. 2 s: a fetch across the world, and bounded.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failed look, the next one: from here, doubling, up to the source's refresh interval or a minute.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Keys by rule. Cheap to read.
#[derive(Debug, Default)]
pub struct KeyRing {
    sources: ArcSwap<HashMap<Arc<str>, Named>>,
    /// Sent after each change of `sources`.
    synced: watch::Sender<()>,
}

/// A rule's source, and what the newest snapshot says of it: whoever comes with the same allocation need not compare
/// key sets.
#[derive(Debug)]
struct Named {
    spec: Arc<KeySource>,
    source: Arc<Source>,
}

impl KeyRing {
    /// The keys for a rule, verified against what the rule says now. Waits, within bounds, for the first look at a
    /// source and for one look at a key id that nobody has heard of; never where policy has written the keys out.
    pub(crate) async fn verify(
        &self,
        rule: &str,
        spec: &Arc<KeySource>,
        jws: &Jws<'_>,
    ) -> Result<Arc<Loaded>, TokenFault> {
        let source = self.source_soon(rule, spec).await.ok_or(TokenFault::NoKeys)?;
        let first = match source.loaded().as_ref() {
            Some(loaded) => loaded.set.verify(jws).map(|()| loaded.clone()),
            None => Err(TokenFault::NoKeys),
        };
        let fault = match first {
            Err(fault @ (TokenFault::NoKeys | TokenFault::UnknownKey)) => fault,
            decided => return decided,
        };
        let id = jws.key_id().unwrap_or_default();
        if fault == TokenFault::UnknownKey && source.is_known_unknown(id) {
            return Err(fault);
        }
        match source.refetch(PATIENCE).await {
            Refetch::Looked => {}
            Refetch::NotNow => return Err(fault),
            Refetch::TooSlow => {
                if fault == TokenFault::UnknownKey {
                    // Should the look end well after all, its keys make this forgotten.
                    source.note_unknown(id);
                }
                return Err(fault);
            }
        }
        let second = match source.loaded().as_ref() {
            Some(loaded) => loaded.set.verify(jws).map(|()| loaded.clone()),
            None => Err(TokenFault::NoKeys),
        };
        if second.as_ref().is_err_and(|fault| *fault == TokenFault::UnknownKey) {
            source.note_unknown(id);
        }
        second
    }

    /// The generation of the keys in force for a rule; `None` where there are none. What was verified under another
    /// generation counts for nothing.
    pub(crate) fn generation(&self, rule: &str, spec: &Arc<KeySource>) -> Option<u64> {
        self.source(rule, spec)?.loaded().as_ref().map(|loaded| loaded.generation)
    }

    /// A rule that came with the newest snapshot may be ahead of its source by a moment.
    async fn source_soon(&self, rule: &str, spec: &Arc<KeySource>) -> Option<Arc<Source>> {
        let mut synced = self.synced.subscribe();
        if let Some(source) = self.source(rule, spec) {
            return Some(source);
        }
        let _late = tokio::time::timeout(PATIENCE, synced.changed()).await;
        self.source(rule, spec)
    }

    fn source(&self, rule: &str, spec: &Arc<KeySource>) -> Option<Arc<Source>> {
        let sources = self.sources.load();
        let named = sources.get(rule)?;
        let same = Arc::ptr_eq(&named.spec, spec) || named.spec == *spec;
        same.then(|| named.source.clone())
    }
}

/// Looks after the sources; dropping it ends their tasks. Needs a runtime that can spawn.
#[derive(Debug)]
pub(super) struct Keeper {
    ring: Arc<KeyRing>,
    tasks: Vec<(Arc<Source>, JoinSet<()>)>,
}

/// Keeps the ring fit for the snapshot in force. Never returns while there is a `live`.
pub(crate) async fn keep(ring: Arc<KeyRing>, live: Arc<Live>) {
    let mut keeper = Keeper::new(ring);
    let mut changes = live.changes();
    loop {
        // Without a snapshot nothing passes anyway, and what comes next may name the same sources.
        let snapshot = live.snapshot().clone();
        if let Some(snapshot) = snapshot {
            let rules = &snapshot.authentication().rules;
            keeper.sync(rules.iter().map(|rule| (rule.id.clone(), rule.keys.clone())).collect());
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Keeper {
    pub(super) fn new(ring: Arc<KeyRing>) -> Self {
        Self { ring, tasks: Vec::new() }
    }

    /// Makes the ring fit these rules. A source that is still named keeps its keys.
    pub(super) fn sync(&mut self, rules: Vec<(Arc<str>, Arc<KeySource>)>) {
        self.tasks.retain(|(source, _)| rules.iter().any(|(_, spec)| *spec == source.spec));
        let mut sources = HashMap::with_capacity(rules.len());
        for (rule, spec) in rules {
            let known = self.tasks.iter().find(|(source, _)| source.spec == spec);
            let source = match known {
                Some((source, _)) => source.clone(),
                None => self.start(spec.clone()),
            };
            sources.insert(rule, Named { spec, source });
        }
        self.ring.sources.store(Arc::new(sources));
        self.ring.synced.send_replace(());
    }

    fn start(&mut self, spec: Arc<KeySource>) -> Arc<Source> {
        let source = Arc::new(Source::new(spec));
        let mut task = JoinSet::new();
        if let KeyOrigin::Inline(text) = &source.spec.origin {
            // Policy has no other words to say: read once, at once.
            let _noted = take(&source, text.as_bytes());
            source.finished_look();
        } else {
            task.spawn(look_after(source.clone()));
        }
        self.tasks.push((source.clone(), task));
        source
    }
}

/// Looks now, on schedule, and when asked; never twice within `refetch_min` unless the schedule says so.
async fn look_after(source: Arc<Source>) {
    let mut retry = RETRY_FIRST;
    loop {
        let good = look(&source).await;
        source.finished_look();
        let pause = if good {
            retry = RETRY_FIRST;
            source.spec.refresh
        } else {
            let pause = retry.min(source.spec.refresh);
            retry = (retry * 2).min(RETRY_MAX);
            pause
        };
        let ended = Instant::now();
        // Who asked while this look was under way has its answer.
        let _answered = source.wanted.notified().now_or_never();
        tokio::select! {
            () = tokio::time::sleep_until(ended + pause) => {}
            () = source.wanted.notified() => {
                let due = (ended + source.spec.refetch_min).min(ended + pause);
                tokio::time::sleep_until(due).await;
            }
        }
    }
}

/// One look. `false`: it failed, and the keys of before stay.
async fn look(source: &Source) -> bool {
    match &source.spec.origin {
        KeyOrigin::Inline(text) => take(source, text.as_bytes()),
        KeyOrigin::Url { url, .. } => match fetch::fetch(&source.spec).await {
            Ok(body) => take(source, &body),
            Err(error) => {
                tracing::warn!(%url, reason = error.code(), %error, kept = source.loaded().is_some(), "key set not fetched");
                false
            }
        },
        KeyOrigin::Secret(path) => match secret::read(path) {
            Ok((secret, digest)) => {
                source.store(KeySet::Secret(secret), digest);
                true
            }
            Err(error) => {
                tracing::error!(path = %path.display(), reason = error.code(), %error, kept = source.loaded().is_some(), "the secret is not used");
                false
            }
        },
    }
}

fn take(source: &Source, text: &[u8]) -> bool {
    match parse_set(text) {
        Ok(keys) => {
            for (index, refusal) in &keys.refused {
                tracing::warn!(key = index, reason = refusal.code(), "a key of the set is not used");
            }
            if keys.len() == 0 {
                tracing::warn!("the key set has no key that can be used: every token is refused");
            }
            source.store(KeySet::Public(keys), sha256(text));
            true
        }
        Err(error) => {
            tracing::warn!(reason = "jwks_malformed", %error, kept = source.loaded().is_some(), "key set not used");
            false
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}
