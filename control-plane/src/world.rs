//! What is in force: the policy set and the registered services, and what each workload is told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest;
use bytes::Bytes;
use palisade_identity::SpiffeId;
use palisade_policy::projection::project;
use palisade_policy::{MeshService, PolicySet, Workload};
use palisade_proto::v1;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

/// One state of the mesh. Immutable, apart from a cache of projections that ends with it.
pub(crate) struct World {
    pub(crate) version: u64,
    pub(crate) set: Arc<PolicySet>,
    pub(crate) services: Arc<Vec<MeshService>>,
    /// Serials of certificates that are void before their end.
    revoked: Arc<BTreeSet<String>>,
    /// When it came into force.
    pub(crate) since: Instant,
    projections: Mutex<BTreeMap<Key, Arc<OnceLock<Encoded>>>>,
}

/// Workloads with equal ids and labels are told the same: N instances cost one projection.
type Key = (SpiffeId, BTreeMap<String, String>);

/// A projection as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) body: Bytes,
    /// SHA-256 of `body`.
    pub(crate) digest: Bytes,
}

impl World {
    fn new(
        version: u64,
        set: Arc<PolicySet>,
        services: Arc<Vec<MeshService>>,
        revoked: Arc<BTreeSet<String>>,
    ) -> Self {
        Self { version, set, services, revoked, since: Instant::now(), projections: Mutex::default() }
    }

    /// What `workload` is told. Made once per world and kind of workload.
    pub(crate) fn encoded(&self, workload: &Workload) -> Encoded {
        let key = (workload.id.clone(), workload.labels.clone());
        let cell = {
            let mut projections = self.projections.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(projections.entry(key).or_default())
        };
        cell.get_or_init(|| {
            let mut projection = project(&self.set, &self.services, workload);
            projection.revoked.clone_from(&self.revoked);
            let body = Bytes::from(v1::SnapshotBody::from(&projection).encode_to_vec());
            let digest = Bytes::copy_from_slice(digest::digest(&digest::SHA256, &body).as_ref());
            Encoded { body, digest }
        })
        .clone()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The world in force, and who waits for the next. A watcher sees the newest one, however many there were between:
/// bursts coalesce, and a slow one holds up nobody.
#[derive(Debug)]
pub(crate) struct Hub {
    world: watch::Sender<Arc<World>>,
    /// Held from the reading of revoked certificates until they are in force.
    revoking: tokio::sync::Mutex<()>,
}

impl Hub {
    pub(crate) fn new(
        version: u64,
        set: PolicySet,
        services: Vec<MeshService>,
        revoked: BTreeSet<String>,
    ) -> Self {
        let world = World::new(version, Arc::new(set), Arc::new(services), Arc::new(revoked));
        Self { world: watch::Sender::new(Arc::new(world)), revoking: tokio::sync::Mutex::default() }
    }

    pub(crate) fn current(&self) -> Arc<World> {
        Arc::clone(&self.world.borrow())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<World>> {
        self.world.subscribe()
    }

    /// Puts a new policy set in force.
    pub(crate) fn set_policy(&self, version: u64, set: PolicySet) {
        let set = Arc::new(set);
        self.world.send_modify(|world| {
            let (services, revoked) = (Arc::clone(&world.services), Arc::clone(&world.revoked));
            *world = Arc::new(World::new(version, set, services, revoked));
        });
    }

    /// Puts new services in force, when they differ.
    pub(crate) fn set_services(&self, services: Vec<MeshService>) {
        self.world.send_if_modified(|world| {
            if *world.services == services {
                return false;
            }
            let (set, revoked) = (Arc::clone(&world.set), Arc::clone(&world.revoked));
            *world = Arc::new(World::new(world.version, set, Arc::new(services), revoked));
            true
        });
    }

    /// Declares the certificates void that `stored` reads, when they are other ones than before. One reads at a time: of two at
    /// once, the one that had read before the other's eviction could have the last word, and the evicted would be let in again.
    pub(crate) async fn set_revoked<E>(
        &self,
        stored: impl Future<Output = Result<BTreeSet<String>, E>>,
    ) -> Result<(), E> {
        let _until_in_force = self.revoking.lock().await;
        let revoked = stored.await?;
        self.world.send_if_modified(|world| {
            if *world.revoked == revoked {
                return false;
            }
            let (set, services) = (Arc::clone(&world.set), Arc::clone(&world.services));
            *world = Arc::new(World::new(world.version, set, services, Arc::new(revoked)));
            true
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_eviction_is_not_undone_by_whoever_read_the_store_before_it() {
        let set = PolicySet::new(Vec::new(), &[]).unwrap().0;
        let hub = Hub::new(0, set, Vec::new(), BTreeSet::new());
        let store = RefCell::new(BTreeSet::from(["0A".to_owned()]));
        let read = async |takes| {
            let found = store.borrow().clone();
            tokio::time::sleep(takes).await;
            Ok::<_, Infallible>(found)
        };
        let housekeeping = hub.set_revoked(read(Duration::from_millis(50)));
        let eviction = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            store.borrow_mut().insert("0B".to_owned());
            hub.set_revoked(read(Duration::from_millis(1))).await
        };
        let (Ok(()), Ok(())) = tokio::join!(housekeeping, eviction);
        assert_eq!(*hub.current().revoked, *store.borrow());
    }
}
