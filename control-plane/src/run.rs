//! From settings to a running control plane, and its end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use palisade_identity::SpiffeId;
use palisade_policy::Workload;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ca::{Ca, OPERATOR_DIR};
use crate::clock::from_seconds;
use crate::context::Context;
use crate::data_dir::{DataDir, DataDirError, STORE};
use crate::error::StartError;
use crate::identity::audit;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::registry::{Registry, Served};
use crate::settings::{Ready, SVID_TTL_MAX, SVID_TTL_MIN, Settings};
use crate::store::{How, InstanceRow, Store, StoreError};
use crate::world::Hub;
use crate::{background, http_admin, server};

/// Runs a control plane until `shutdown` is ready. An error comes before [`Settings::on_ready`] is called, or when
/// the gRPC server fails for good.
pub async fn run(
    mut settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), StartError> {
    check(&settings)?;
    let on_ready = settings.on_ready.take();
    let dir = Arc::new(DataDir::open(&settings.data_dir)?);
    // The ports before the certificates: a port in use is the commonest failure.
    let listener = bind(settings.listen, "--listen").await?;
    let admin = bind(settings.admin, "--admin").await?;
    let ready = Ready {
        listen: address(&listener, settings.listen, "--listen")?,
        admin: address(&admin, settings.admin, "--admin")?,
        operator_dir: dir.join(OPERATOR_DIR),
    };
    let (context, own) = open(&settings, &dir).await?;
    let (tls, tls_watch) = watch::channel(Arc::new(own.config));

    let tasks = &context.tasks;
    let names = settings.advertise_names.clone();
    tasks.spawn(background::follow_registry(Arc::clone(&context)));
    tasks.spawn(background::renew_own(Arc::clone(&context), Arc::clone(&dir), names, tls, own.renew_at));
    tasks.spawn(background::keep_house(Arc::clone(&context)));
    tasks.spawn(http_admin::serve(Arc::clone(&context), admin));
    let mut serving = tasks.spawn(server::serve(Arc::clone(&context), listener, tls_watch));
    tracing::info!(listen = %ready.listen, admin = %ready.admin, "control plane ready");
    if let Some(on_ready) = on_ready {
        on_ready(&ready);
    }

    let failed = tokio::select! {
        () = shutdown => None,
        ended = &mut serving => Some(ended),
    };
    stop(&context).await;
    match failed {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(StartError::Serve(error.to_string())),
        Some(Err(join)) => Err(StartError::Serve(join.to_string())),
    }
}

struct Own {
    config: rustls::ServerConfig,
    renew_at: SystemTime,
}

/// Opens the directory's content; makes it on the first start.
async fn open(settings: &Settings, dir: &DataDir) -> Result<(Arc<Context>, Own), StartError> {
    let now = settings.clock.now();
    let domain = &settings.trust_domain;
    let limits = settings.limits.clone();
    let manifest = dir.manifest(domain)?;
    let (store, new_id) = open_store(dir, manifest.as_ref().map(|m| m.store_id.as_str())).await?;
    let ca = Ca::open(dir, domain, new_id.is_some(), now)?;
    ca.renew_intermediate(dir, now)?;
    if let Some((id, issued)) = ca.operator(dir, limits.operator_ttl, now)? {
        store.record(&audit(&issued, &id, None, How::Operator, "local", now)).await?;
    }
    let (config, issued) = ca.server(&settings.advertise_names, limits.server_ttl, now)?;
    let id = SpiffeId::control_plane(domain);
    store.record(&audit(&issued, &id, None, How::Server, "local", now)).await?;
    if let Some(store_id) = new_id {
        dir.write_manifest(domain, &store_id)?;
    }

    let (policies, version, set) = Policies::load(&store).await?;
    let rows = store.live_instances(now).await?;
    let known = rows.into_iter().map(remembered).collect::<Result<Vec<_>, _>>()?;
    let registry = Registry::new(known, limits.disconnect_grace, limits.restart_grace);
    let hub = Hub::new(version, set, registry.services(), store.revoked_serials(now).await?);
    let renew_at = now + limits.server_ttl / 2;
    let context = Context {
        trust_domain: domain.clone(),
        svid_ttl: settings.svid_ttl,
        limits,
        clock: Arc::clone(&settings.clock),
        ca,
        store,
        registry,
        hub,
        policies,
        metrics: Metrics::default(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    Ok((Arc::new(context), Own { config, renew_at }))
}

/// The store, and its id when this is a first start (or the second try of one).
async fn open_store(dir: &DataDir, known_id: Option<&str>) -> Result<(Store, Option<String>), StartError> {
    let path = dir.join(STORE);
    let exists = dir.has_file(STORE)?;
    if let Some(id) = known_id {
        if !exists {
            return Err(DataDirError::Missing { path }.into());
        }
        return Ok((Store::open(&path, id).await?, None));
    }
    if !exists {
        // The store is made before the authority: an authority without store has lost it.
        if dir.has_file("ca/root.crt")? {
            return Err(DataDirError::Missing { path }.into());
        }
        dir.create_file(STORE)?;
    }
    let id = hex::encode(rand::random::<[u8; 16]>());
    Ok((Store::create(&path, &id).await?, Some(id)))
}

fn remembered(row: InstanceRow) -> Result<(String, Workload, SystemTime, Vec<Served>), StoreError> {
    let unreadable = || StoreError::Content { what: format!("the instance {}", row.id) };
    let id = SpiffeId::parse(&row.spiffe_id).map_err(|_| unreadable())?;
    let labels = serde_json::from_str(&row.labels).map_err(|_| unreadable())?;
    let serves = match &row.serves {
        Some(json) => serde_json::from_str(json).map_err(|_| unreadable())?,
        None => Vec::new(),
    };
    Ok((row.id, Workload { id, labels }, from_seconds(row.not_after), serves))
}

/// Ends streams and listeners, waits for calls, closes the store.
async fn stop(context: &Context) {
    context.stop.cancel();
    context.tasks.close();
    if tokio::time::timeout(context.limits.drain_timeout, context.tasks.wait()).await.is_err() {
        tracing::warn!("connections were still open at the end of the drain; closing them");
    }
    context.store.close().await;
}

async fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, option, source })
}

fn address(
    listener: &TcpListener,
    address: SocketAddr,
    option: &'static str,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address, option, source })
}

fn check(settings: &Settings) -> Result<(), StartError> {
    if !(SVID_TTL_MIN..=SVID_TTL_MAX).contains(&settings.svid_ttl) {
        return Err(StartError::SvidTtl(settings.svid_ttl));
    }
    if !settings.admin.ip().is_loopback() {
        return Err(StartError::AdminNotLoopback(settings.admin));
    }
    Ok(())
}
