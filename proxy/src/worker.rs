//! Workers: one single-threaded runtime per core, sharing nothing on the request path.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use crate::calls::{Calls, WorkerCalls};
use crate::concurrency::AdaptiveLimits;
use crate::drain::{Drain, Phase};
use crate::edge::certificates::Certificates;
use crate::error::ProxyError;
use crate::health::Health;
use crate::jwt::{KeyRing, TokenCache};
use crate::limit::{Limiter, mesh};
use crate::listen;
use crate::listen::ClientRequests;
use crate::listen::crowd::Place;
use crate::live::Live;
use crate::load::Load;
use crate::settings::Settings;
use crate::settings::limits::Limits;
use crate::stage::open::Open;
use crate::telemetry::{Telemetry, WorkerTelemetry};
use crate::upstream::cluster::Upstreams;
use crate::upstream::members::Known;
use crate::upstream::pool::Pool;
use crate::upstream::resolve::Resolver;
use crate::watch::Watch;

/// How often `Activity::idle` looks.
const IDLE_POLL: Duration = Duration::from_millis(10);
/// Decision records reach the log within this time.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// How often idle connections and old answers are looked at.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);
/// How late a request may end that lasts for too long.
const AGES_INTERVAL: Duration = Duration::from_secs(1);

/// What the control thread and the workers have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    pub live: Arc<Live>,
    pub settings: Arc<Settings>,
    pub limits: Arc<Limits>,
    pub drain: Drain,
    pub telemetry: Telemetry,
    /// Whether the application beside this sidecar is well.
    pub health: Arc<Health>,
    /// How many requests it is given at once.
    pub concurrency: Arc<AdaptiveLimits>,
    /// Who called the ports of this sidecar.
    pub calls: Calls,
    /// Of the issuers of tokens.
    pub keys: Arc<KeyRing>,
    /// What the edge shows its clients; empty at a sidecar.
    pub certificates: Arc<Certificates>,
    /// How often callers came, for RateLimitPolicies.
    pub limiter: Arc<Limiter>,
    /// What applications were given of late, for RetryPolicies.
    pub watch: Arc<Watch>,
    /// Requests under way at the edge, by client.
    pub client_requests: Arc<ClientRequests>,
    /// The endpoints of destinations, as all workers know them together.
    pub upstreams: Arc<Upstreams>,
    /// Of the store that limits of scope `mesh` are counted in.
    pub store_status: Arc<mesh::Status>,
}

/// The listener that a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Index in `Settings::serves`.
    Inbound(usize),
    OutboundProxy,
    /// Index in `Settings::outbound_ports`.
    OutboundPort(usize),
    /// Index in `EdgeSettings::listens`.
    Edge(usize),
}

/// A socket on its way from the accept loop to a worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) via: Via,
    /// Held for the connection's life.
    pub(crate) ticket: Ticket,
}

/// A place under the caps on connections.
#[derive(Debug)]
pub(crate) enum Ticket {
    Outside(Place),
    Application(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit),
}

/// The running worker threads.
#[derive(Debug)]
pub struct Workers {
    hands: Vec<mpsc::Sender<Accepted>>,
    threads: Vec<JoinHandle<()>>,
    activity: Activity,
}

/// Starts `n` worker threads (at least one). They end when the drain phase is `Forced`.
pub fn start(shared: &Shared, n: usize) -> io::Result<Workers> {
    let n = n.max(1);
    let activity = Activity::of_workers(n);
    let mut workers =
        Workers { hands: Vec::with_capacity(n), threads: Vec::with_capacity(n), activity: activity.clone() };
    for index in 0..n {
        let (hand, inbox) = mpsc::channel(shared.limits.handover_queue_max);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, activity) = (shared.clone(), activity.clone());
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, work(shared, index, activity, inbox));
        })?;
        workers.hands.push(hand);
        workers.threads.push(thread);
    }
    Ok(workers)
}

impl Workers {
    /// Requests under way, for drain and admin.
    pub fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// The senders of sockets, one per worker.
    pub(crate) fn hands(&self) -> Vec<mpsc::Sender<Accepted>> {
        self.hands.clone()
    }

    /// Waits for the threads to end. Blocks: call it after `Phase::Forced`.
    pub fn join(self) {
        drop(self.hands);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread ended by a panic");
            }
        }
    }
}

async fn work(shared: Shared, index: usize, activity: Activity, mut inbox: mpsc::Receiver<Accepted>) {
    let mut drain = shared.drain.clone();
    let worker = Rc::new(Worker::new(shared, index, activity));
    tokio::task::spawn_local(mesh::keep(worker.clone()));
    let take = async {
        while let Some(accepted) = inbox.recv().await {
            tokio::task::spawn_local(listen::connection(worker.clone(), accepted));
        }
    };
    tokio::select! {
        () = take => {}
        () = worker.housekeeping() => {}
        () = drain.reached(Phase::Forced) => {}
    }
}

/// What one worker owns. Never leaves its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Shared,
    pub(crate) telemetry: WorkerTelemetry,
    pub(crate) calls: WorkerCalls,
    index: usize,
    activity: Activity,
    pub(crate) pool: Pool,
    pub(crate) resolver: Resolver,
    /// Endpoints of the destinations that were asked of late.
    pub(crate) known: Known,
    pub(crate) tokens: TokenCache,
    /// Copies of requests under way.
    pub(crate) mirrors: Cell<usize>,
    /// Requests that are delayed on purpose.
    pub(crate) delays: Cell<usize>,
    load: Load,
    /// Requests under way.
    pub(crate) open: Open,
    /// Limits that all proxies count together.
    pub(crate) mesh: mesh::Mesh,
}

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Inbound,
    Outbound,
    /// From outside into the mesh.
    Edge,
}

impl Direction {
    pub(crate) const ALL: [Self; 3] = [Self::Inbound, Self::Outbound, Self::Edge];

    /// In records and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Edge => "edge",
        }
    }
}

impl Worker {
    pub(crate) fn new(shared: Shared, index: usize, activity: Activity) -> Self {
        let telemetry = shared.telemetry.worker(&shared.limits);
        let calls = shared.calls.worker(shared.limits.plaintext_sources_max);
        let timeout = shared.settings.limit_store.as_ref().map(|store| store.timeout);
        Self {
            mesh: mesh::Mesh::new(timeout, shared.limits.store_in_flight_max),
            shared,
            telemetry,
            calls,
            index,
            activity,
            pool: Pool::default(),
            resolver: Resolver::default(),
            known: Known::default(),
            tokens: TokenCache::default(),
            mirrors: Cell::default(),
            delays: Cell::default(),
            load: Load::default(),
            open: Open::default(),
        }
    }

    /// Counts a request as under way until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>, direction: Direction) -> InFlight {
        self.add(direction, 1);
        InFlight { worker: self.clone(), direction }
    }

    /// Turns a request from others away that is more than this worker can do. It is counted as under way already.
    pub(crate) fn admit(&self) -> Result<(), ProxyError> {
        let counts = &self.activity.0;
        let own = counts.get(self.index).map_or(0, |own| {
            own.inbound.load(Ordering::Relaxed).saturating_add(own.edge.load(Ordering::Relaxed))
        });
        let workers = u64::try_from(counts.len()).unwrap_or(u64::MAX);
        let too_much = self.load.is_too_much(own, &self.shared.limits, workers);
        if too_much { Err(ProxyError::Overload) } else { Ok(()) }
    }

    /// Hands records to the writer, and lets go of what is no longer needed: at once after a change of identity,
    /// otherwise now and then.
    async fn housekeeping(&self) {
        let mut changes = self.shared.live.changes();
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        let mut tidy = tokio::time::interval(TIDY_INTERVAL);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ages = tokio::time::interval(AGES_INTERVAL);
        ages.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let longest = self.shared.limits.request_duration_max;
        loop {
            tokio::select! {
                meant = flush.tick() => {
                    self.load.looked(meant.elapsed(), &self.shared.limits);
                    self.telemetry.flush();
                    continue;
                }
                _at = ages.tick(), if longest.is_some() => {
                    longest.into_iter().for_each(|longest| self.open.end_older(longest));
                    continue;
                }
                _at = tidy.tick() => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.open.judge_all(&self.shared.live);
                }
            }
            let limits = &self.shared.limits;
            let generation = self.shared.live.identity().as_ref().map(|identity| identity.generation);
            self.pool.tidy(generation);
            self.resolver.tidy(limits);
            self.known.tidy();
            self.shared.limiter.tidy();
            if self.is_first() {
                self.shared.watch.tidy();
            }
        }
    }

    /// One of the workers, for what is to be said once.
    pub(crate) fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Only this worker's thread writes its counter, so load and store need no lock prefix.
    fn add(&self, direction: Direction, by: i64) {
        let Some(counts) = self.activity.0.get(self.index) else { return };
        let counter = counts.of(direction);
        let now = counter.load(Ordering::Relaxed).saturating_add_signed(by);
        counter.store(now, Ordering::Release);
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    worker: Rc<Worker>,
    direction: Direction,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.worker.add(self.direction, -1);
    }
}

/// One worker's counters, apart from the others' so that cores do not fight for a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    inbound: AtomicU64,
    outbound: AtomicU64,
    edge: AtomicU64,
}

impl Counts {
    fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
            Direction::Edge => &self.edge,
        }
    }
}

/// Requests under way in all workers, upgraded connections included.
#[derive(Clone, Debug)]
pub struct Activity(Arc<[Counts]>);

impl Activity {
    pub(crate) fn of_workers(n: usize) -> Self {
        Self((0..n).map(|_| Counts::default()).collect())
    }

    pub fn requests(&self, direction: Direction) -> u64 {
        self.0.iter().map(|counts| counts.of(direction).load(Ordering::Acquire)).sum()
    }

    /// Returns when nothing is under way in any direction (looks every 10 ms).
    pub async fn idle(&self) {
        while Direction::ALL.into_iter().any(|direction| self.requests(direction) > 0) {
            tokio::time::sleep(IDLE_POLL).await;
        }
    }
}
