//! Keeps a worker's link to the store: makes it, looks after it, and makes it again.

use std::rc::Rc;

use tokio::time::{Instant, sleep, timeout};

use super::connect::{Driver, Fault, Link, connect};
use super::script::Question;
use super::{Mesh, StoreFailure};
use crate::control::backoff::Patience;
use crate::settings::limit_store::LimitStoreSettings;
use crate::settings::limits::Limits;
use crate::worker::Worker;

/// Runs as long as its worker does.
pub(crate) async fn keep(worker: Rc<Worker>) {
    match &worker.shared.settings.limit_store {
        Some(settings) => keep_link(&worker, settings).await,
        None => warn_without_store(&worker).await,
    }
}

async fn keep_link(worker: &Worker, settings: &LimitStoreSettings) {
    let (limits, status) = (&*worker.shared.limits, &*worker.shared.store_status);
    let mut patience =
        Patience::new(limits.store_backoff_min, limits.store_backoff_max, limits.store_warn_interval);
    loop {
        let why = match establish(worker, settings, limits).await {
            Ok((link, driver)) => {
                let since = Instant::now();
                status.up();
                tracing::info!(store = %settings.address, "the store of rate limits is in use");
                let why = look_after(worker, link, driver, limits).await;
                status.down();
                // A store that fails each time after a moment is not tried without pause.
                if since.elapsed() >= limits.store_probe_interval {
                    patience.reset();
                }
                why
            }
            Err(why) => why,
        };
        worker.mesh.set(Err(why.failure));
        status.failed(&why.to_string());
        patience.say(&why, "the store of rate limits is away: onStoreFailure decides");
        sleep(patience.pause()).await;
    }
}

/// A link on which the script was seen to work within the time that requests have.
async fn establish(
    worker: &Worker,
    settings: &LimitStoreSettings,
    limits: &Limits,
) -> Result<(Rc<Link>, Driver), Fault> {
    let slow = |_elapsed| Fault::new(StoreFailure::Timeout, settings.address.to_string());
    let (link, mut driver) =
        timeout(limits.store_connect_timeout, connect(settings, limits)).await.map_err(slow)??;
    tokio::select! {
        works = probe(worker, &link) => works?,
        () = &mut driver => return Err(Fault::new(StoreFailure::Closed, "at the first question")),
    }
    Ok((Rc::new(link), driver))
}

/// Until the link is of no use. Dropping the driver ends all that is under way on it.
async fn look_after(worker: &Worker, link: Rc<Link>, mut driver: Driver, limits: &Limits) -> Fault {
    worker.mesh.set(Ok(link.clone()));
    let watch = async {
        loop {
            let _now_and_then = timeout(limits.store_probe_interval, worker.mesh.doubt.notified()).await;
            if let Some(failure) = worker.mesh.failure() {
                return Fault::new(failure, "a request met it");
            }
            if let Err(why) = probe(worker, &link).await {
                return why;
            }
        }
    };
    tokio::select! {
        why = watch => why,
        () = &mut driver => Fault::new(StoreFailure::Closed, "by the store"),
    }
}

async fn probe(worker: &Worker, link: &Link) -> Result<(), Fault> {
    let domain =
        worker.shared.live.identity().as_ref().map(|identity| identity.svid.id.trust_domain().to_string());
    let question = Question::probe(&domain.unwrap_or_default());
    let slow = |_elapsed| Fault::new(StoreFailure::Timeout, "a probe");
    let in_flight = worker.mesh.in_flight.get().saturating_add(1);
    timeout(worker.mesh.timeout, link.ask(&question, in_flight)).await.map_err(slow)?.map(drop)
}

/// Says it once each time that policies begin to need a store.
async fn warn_without_store(worker: &Worker) {
    let mut changes = worker.shared.live.changes();
    let mut needed = false;
    loop {
        let needs = worker.shared.live.snapshot().as_ref().is_some_and(|snapshot| snapshot.has_mesh_limits());
        if needs && !needed && worker.is_first() {
            tracing::warn!(
                "rate limits of scope mesh have no store here: onStoreFailure decides; give --limit-store"
            );
        }
        needed = needs;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Mesh {
    fn set(&self, link: Result<Rc<Link>, StoreFailure>) {
        *self.link.borrow_mut() = link;
    }

    fn failure(&self) -> Option<StoreFailure> {
        self.link.borrow().as_ref().err().copied()
    }
}
