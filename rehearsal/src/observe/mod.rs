//! The proxies that are observed, and what they say of themselves while requests pass.

mod counts;
mod exposition;
mod history;
mod look;
mod page;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use palisade_policy::rehearsal::{Live, Observed, Rehearsal, Traffic as Source};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub(crate) use counts::Counts;
pub(crate) use history::Opening;

use crate::sample::Window;
use history::History;
use page::{Page, Traffic};

/// Between two looks at one proxy.
const INTERVAL: Duration = Duration::from_millis(250);
/// A look that took so long is followed by a pause ten times as long: a page of thousands of series costs its proxy something.
const SHARE: u32 = 10;

/// Looks at every proxy again and again, until it is dropped.
#[derive(Debug)]
pub(crate) struct Observer {
    proxies: Vec<Arc<Proxy>>,
    _looks: JoinSet<()>,
}

#[derive(Debug)]
struct Proxy {
    name: String,
    admin: SocketAddr,
    /// Where its traffic is what is judged.
    live: Option<Live>,
    history: Mutex<History>,
}

impl Proxy {
    fn of(observed: &Observed, live: Option<&Live>) -> Self {
        let live = live.filter(|live| live.proxies.contains(&observed.name));
        let (name, admin) = (observed.name.clone(), observed.admin);
        Self { name, admin, live: live.cloned(), history: Mutex::default() }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, start: Instant) -> Result<()> {
        let began = start.elapsed();
        let text = look::metrics(self.admin).await?;
        let page = Page::read(&text, self.live.as_ref());
        self.history().add(&self.name, began, start.elapsed(), page);
        Ok(())
    }
}

impl Observer {
    /// Fails where one of them cannot be read.
    pub(crate) async fn start(rehearsal: &Rehearsal, start: Instant) -> Result<Self> {
        let live = match &rehearsal.traffic {
            Source::Live(live) => Some(live),
            Source::Load(_) => None,
        };
        let proxies: Vec<_> =
            rehearsal.observed.iter().map(|observed| Arc::new(Proxy::of(observed, live))).collect();
        let mut looks = JoinSet::new();
        for proxy in &proxies {
            proxy.look(start).await.with_context(|| {
                format!(
                    "cannot read the metrics of {} at {}; is its admin listener there?",
                    proxy.name, proxy.admin
                )
            })?;
            looks.spawn(look_on(proxy.clone(), start));
        }
        Ok(Self { proxies, _looks: looks })
    }

    /// Whether any of them watches for deliveries that come twice.
    pub(crate) fn watches(&self) -> bool {
        self.proxies.iter().any(|proxy| proxy.history().watches())
    }

    /// By all of them together. `Err`: the first of those of which it is not known yet.
    pub(crate) fn counts(&self, from: Duration, to: Duration) -> Result<Counts, &str> {
        let of = |proxy: &'_ Arc<Proxy>| proxy.history().counts(from, to);
        self.proxies.iter().map(|proxy| of(proxy).ok_or(proxy.name.as_str())).sum()
    }

    /// So far.
    pub(crate) fn counts_since(&self, from: Duration) -> Counts {
        self.proxies.iter().map(|proxy| proxy.history().counts_since(from)).sum()
    }

    /// From the first look until then.
    pub(crate) fn counts_until(&self, to: Duration) -> Counts {
        self.proxies.iter().map(|proxy| proxy.history().counts_until(to)).sum()
    }

    /// The first breaker that opened from then on.
    pub(crate) fn opening(&self, from: Duration) -> Option<Opening> {
        let all = self.proxies.iter().filter_map(|proxy| proxy.history().opening(from).cloned());
        all.min_by_key(|opening| opening.at)
    }

    /// How often a fault was injected from then on, so far.
    pub(crate) fn injected_since(&self, from: Duration, fault: &str) -> u64 {
        self.proxies.iter().map(|proxy| proxy.history().injected(from, fault)).sum()
    }

    /// Requests that proxies counted. `None`: not known yet.
    pub(crate) fn live(&self, from: Duration, to: Duration) -> Option<Window> {
        let mut sum = Traffic::default();
        for proxy in self.proxies.iter().filter(|proxy| proxy.live.is_some()) {
            sum.add(&proxy.history().traffic(from, to)?);
        }
        Some(sum.window())
    }

    /// Until when the traffic of all is known that are judged by it.
    pub(crate) fn live_until(&self) -> Duration {
        let judged = self.proxies.iter().filter(|proxy| proxy.live.is_some());
        judged.map(|proxy| proxy.history().known_until().unwrap_or_default()).min().unwrap_or_default()
    }
}

async fn look_on(proxy: Arc<Proxy>, start: Instant) {
    loop {
        let began = start.elapsed();
        // One that is away is asked again; what it would have said is not known meanwhile.
        let _away = proxy.look(start).await;
        let took = start.elapsed().saturating_sub(began);
        sleep(INTERVAL.max(took.saturating_mul(SHARE))).await;
    }
}
