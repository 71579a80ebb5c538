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
pub(crate) struct Hub(watch::Sender<Arc<World>>);

impl Hub {
    pub(crate) fn new(
        version: u64,
        set: PolicySet,
        services: Vec<MeshService>,
        revoked: BTreeSet<String>,
    ) -> Self {
        let world = World::new(version, Arc::new(set), Arc::new(services), Arc::new(revoked));
        Self(watch::Sender::new(Arc::new(world)))
    }

    pub(crate) fn current(&self) -> Arc<World> {
        Arc::clone(&self.0.borrow())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<World>> {
        self.0.subscribe()
    }

    /// Puts a new policy set in force.
    pub(crate) fn set_policy(&self, version: u64, set: PolicySet) {
        let set = Arc::new(set);
        self.0.send_modify(|world| {
            let (services, revoked) = (Arc::clone(&world.services), Arc::clone(&world.revoked));
            *world = Arc::new(World::new(version, set, services, revoked));
        });
    }

    /// Puts new services in force, when they differ.
    pub(crate) fn set_services(&self, services: Vec<MeshService>) {
        self.0.send_if_modified(|world| {
            if *world.services == services {
                return false;
            }
            let (set, revoked) = (Arc::clone(&world.set), Arc::clone(&world.revoked));
            *world = Arc::new(World::new(world.version, set, Arc::new(services), revoked));
            true
        });
    }

    /// Declares certificates void, when they are other ones than before.
    pub(crate) fn set_revoked(&self, revoked: BTreeSet<String>) {
        self.0.send_if_modified(|world| {
            if *world.revoked == revoked {
                return false;
            }
            let (set, services) = (Arc::clone(&world.set), Arc::clone(&world.services));
            *world = Arc::new(World::new(world.version, set, services, Arc::new(revoked)));
            true
        });
    }
}
