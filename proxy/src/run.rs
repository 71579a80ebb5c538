//! Starts the threads and keeps them: one control thread, one worker per core.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::admin::{self, Admin};
use crate::calls::Calls;
use crate::concurrency::{self, AdaptiveLimits};
use crate::config::Source as ConfigSource;
use crate::config::status::Status;
use crate::drain::{Drain, Phase, wind_down};
use crate::edge::certificates;
use crate::health::{self, Health};
use crate::identity::{Clock, SystemClock};
use crate::limit::Limiter;
use crate::listen::ClientRequests;
use crate::live::Live;
use crate::settings::control::ControlLimits;
use crate::settings::{Settings, SettingsError};
use crate::telemetry::Telemetry;
use crate::worker::{self, Shared};
use crate::{jwt, listen, ready_file};

/// Why the proxy could not start or had to stop. Each says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{what} cannot listen on {address}: {error}; choose another address or stop what uses it")]
    Listen { what: &'static str, address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Settings(SettingsError),
    /// File mode, at start: everything that is wrong, together.
    #[error("{}", faults.join("\n"))]
    Files { faults: Vec<String> },
    #[error("{what} {path}: {error}", path = path.display())]
    Path { what: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    JoinToken(String),
    /// The control plane, or its identity, said no; trying again would not help.
    #[error("{0}")]
    Refused(String),
    #[error("the runtime cannot start: {0}; is the limit of threads or file descriptors reached?")]
    Runtime(std::io::Error),
}

impl RunError {
    /// 2: what the operator gave cannot be used. 1: it failed at run time.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Files { .. } | Self::JoinToken(_) => 2,
            Self::Listen { .. } | Self::Path { .. } | Self::Refused(_) | Self::Runtime(_) => 1,
        }
    }
}

/// What tells a running proxy to do something.
#[derive(Debug)]
pub struct Orders {
    /// The first message drains, the second cuts.
    pub stops: mpsc::Receiver<()>,
    /// Renew the certificate, or look at the files, now.
    pub refresh: Arc<Notify>,
}

/// Runs until SIGTERM or SIGINT and the drain after it. SIGHUP renews the certificate (or reads the files) at once.
pub fn run(settings: Settings) -> Result<(), RunError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    runtime.block_on(async {
        let (stop, stops) = mpsc::channel(2);
        let refresh = Arc::new(Notify::new());
        let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Runtime)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(RunError::Runtime)?;
        let listening = async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => drop(stop.try_send(())),
                    _ = interrupt.recv() => drop(stop.try_send(())),
                    _ = hang_up.recv() => refresh.notify_one(),
                }
            }
        };
        let orders = Orders { stops, refresh: refresh.clone() };
        tokio::select! {
            result = Box::pin(serve(settings, Arc::new(SystemClock), orders)) => result,
            () = listening => Ok(()),
        }
    })
}

/// The proxy within the caller's runtime: the control thread's work, and the worker threads it starts.
pub async fn serve(settings: Settings, clock: Arc<dyn Clock>, mut orders: Orders) -> Result<(), RunError> {
    settings.validate().map_err(RunError::Settings)?;
    if let Some(path) = &settings.ready_file {
        ready_file::remove(path);
    }
    // Sockets first: a port in use must not cost a join token.
    let bound = listen::bind(&settings)?;
    let admin_listener = admin::bind(settings.admin)?;
    let (phase, drain) = Drain::new();
    let limits = ControlLimits::default();
    let live = Arc::new(Live::default());
    let status = Arc::new(Status::default());
    let mut source =
        ConfigSource::open(&settings, bound.addresses(), &limits, &live, &status, &clock, &drain)?;

    let telemetry = Telemetry::start(settings.access_log.as_deref()).map_err(|error| RunError::Path {
        what: "the access log",
        path: settings.access_log.clone().unwrap_or_default(),
        error,
    })?;
    let shared = Shared {
        live: live.clone(),
        limits: Arc::new(settings.limits.clone()),
        client_requests: Arc::new(ClientRequests::new(settings.limits.requests_per_address)),
        limiter: Arc::new(Limiter::new(settings.limits.limiter_keys_max)),
        health: Arc::new(Health::new(settings.health.as_ref())),
        concurrency: Arc::new(AdaptiveLimits::new(&settings)),
        watch: Arc::default(),
        settings: Arc::new(settings),
        drain: drain.clone(),
        telemetry: telemetry.clone(),
        calls: Calls::default(),
        keys: Arc::default(),
        certificates: Arc::default(),
        store_status: Arc::default(),
        upstreams: Arc::default(),
    };
    if let Some(trace) = &shared.settings.trace {
        telemetry.export(trace, &shared.limits, &live).map_err(RunError::Runtime)?;
    }
    live.set_certificates_missing(shared.settings.edge.is_some());
    let workers = worker::start(&shared, shared.settings.workers).map_err(RunError::Runtime)?;
    let activity = workers.activity();
    if let Some(path) = &shared.settings.ready_file {
        ready_file::write(path, admin_listener.address(), bound.addresses())?;
    }
    live.set_listening(true);
    let admin = Admin {
        live,
        status,
        clock,
        drain: drain.clone(),
        telemetry: telemetry.clone(),
        health: shared.health.clone(),
        concurrency: shared.concurrency.clone(),
        certificates: shared.certificates.clone(),
        store: shared.settings.limit_store.is_some(),
        store_status: shared.store_status.clone(),
        upstreams: shared.upstreams.clone(),
    };
    let result = {
        let accepting = async {
            if let Err(error) = listen::serve(bound, &workers, &shared).await {
                tracing::error!(%error, "the listeners ended");
            }
            std::future::pending::<()>().await;
        };
        let background = async {
            tokio::select! {
                () = admin::serve(admin_listener, Arc::new(admin), &limits) => Ok(()),
                () = accepting => Ok(()),
                () = jwt::keep(shared.keys.clone(), shared.live.clone()) => Ok(()),
                () = certificates::keep(&shared, &limits) => Ok(()),
                result = source.run(orders.refresh.clone(), &shared) => result,
                () = health::keep(&shared.health, &shared.settings, limits.warn_interval) => Ok(()),
                () = concurrency::keep(&shared.concurrency) => Ok(()),
                () = shared.upstreams.keep() => Ok(()),
            }
        };
        let ending = async {
            orders.stops.recv().await;
            wind_down(&phase, shared.settings.drain, &activity, &mut orders.stops).await;
        };
        tokio::select! {
            result = Box::pin(background) => result,
            () = ending => Ok(()),
        }
    };
    finish(phase, workers, shared, telemetry).await;
    result
}

async fn finish(phase: watch::Sender<Phase>, workers: worker::Workers, shared: Shared, telemetry: Telemetry) {
    phase.send_replace(Phase::Forced);
    drop(shared);
    let joined = tokio::task::spawn_blocking(move || {
        workers.join();
        telemetry.finish();
    });
    if joined.await.is_err() {
        tracing::error!("the end of the workers could not be awaited");
    }
}
