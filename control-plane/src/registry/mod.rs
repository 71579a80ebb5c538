//! The registry: instances, what they serve, and how far they are with the configuration.
//!
//! An instance is what one attestation made. It can register only for the identity it proved, and its labels are
//! those of its join token. Its endpoints are published while it is connected and ready; after a disconnect for a
//! grace more, since a reconnect must withdraw nothing.

mod calls;
mod instance;
mod services;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use palisade_policy::{MeshService, Workload};
use palisade_proto::v1;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use calls::{Bounds, Calls, PortCalls, Source};
use instance::Presence;
pub(crate) use instance::{About, Answer, Instance, Served, StopReason};

/// One configuration stream of one instance. A number, so that the end of a replaced stream does not end its
/// successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamId(u64);

/// Instances by how they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) connected: usize,
    pub(crate) ready: usize,
    pub(crate) unhealthy: usize,
}

#[derive(Debug)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// Counts changes of what is published.
    changes: watch::Sender<u64>,
    /// Counts acks and nacks.
    answers: watch::Sender<u64>,
    grace: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    instances: BTreeMap<String, Instance>,
    last_stream: u64,
}

impl Registry {
    /// A registry of instances that were published before a restart; they have `restart_grace` to come back.
    pub(crate) fn new(
        known: impl IntoIterator<Item = (String, Workload, SystemTime, Vec<Served>)>,
        grace: Duration,
        restart_grace: Duration,
    ) -> Self {
        let until = Instant::now() + restart_grace;
        let instances = known
            .into_iter()
            .map(|(id, workload, not_after, serves)| {
                (id, Instance::remembered(workload, not_after, serves, until))
            })
            .collect();
        let inner = Mutex::new(Inner { instances, last_stream: 0 });
        Self { inner, changes: watch::Sender::new(0), answers: watch::Sender::new(0), grace }
    }

    /// Notes a new certificate of an instance.
    pub(crate) fn issued(&self, id: &str, workload: &Workload, not_after: SystemTime) {
        let mut inner = self.lock();
        let instance = inner
            .instances
            .entry(id.to_owned())
            .or_insert_with(|| Instance::new(workload.clone(), not_after));
        instance.not_after = instance.not_after.max(not_after);
    }

    /// Begins a stream of an instance. An earlier one of the same instance is told to end.
    pub(crate) fn connect(
        &self,
        id: &str,
        workload: &Workload,
        not_after: SystemTime,
        about: About,
        now: SystemTime,
    ) -> (StreamId, watch::Receiver<Option<StopReason>>) {
        let mut inner = self.lock();
        inner.last_stream += 1;
        let stream = StreamId(inner.last_stream);
        let instance = inner
            .instances
            .entry(id.to_owned())
            .or_insert_with(|| Instance::new(workload.clone(), not_after));
        let confirm_by = Instant::now() + self.grace;
        let stop = instance.connect(stream, about, now, confirm_by);
        drop(inner);
        self.changed();
        (stream, stop)
    }

    /// The proxy says whether its endpoints may be given to callers, and what its health check says of the application. `true`:
    /// that turned.
    pub(crate) fn set_ready(
        &self,
        id: &str,
        stream: StreamId,
        ready: bool,
        application: Option<v1::Application>,
    ) -> bool {
        let well = application.as_ref().is_none_or(|application| application.healthy);
        let mut turned = false;
        self.update(id, stream, |instance| {
            turned = instance.set_application(application);
            instance.set_ready(ready && well);
        });
        turned
    }

    /// The proxy stops: its endpoints go at once and do not come back on this stream.
    pub(crate) fn drain(&self, id: &str, stream: StreamId) {
        self.update(id, stream, Instance::drain);
    }

    /// The stream ended. Endpoints stay for the grace.
    pub(crate) fn disconnect(&self, id: &str, stream: StreamId) {
        let until = Instant::now() + self.grace;
        self.update(id, stream, |instance| instance.presence = Presence::Away { until: Some(until) });
    }

    /// Deletes an instance; its stream, if it has one, is told why.
    pub(crate) fn evict(&self, id: &str, reason: &str) {
        let removed = self.lock().instances.remove(id);
        if let Some(Instance { presence: Presence::Connected { stop, .. }, .. }) = removed {
            stop.send_replace(Some(StopReason::Evicted(reason.to_owned())));
        }
        self.changed();
        self.answered();
    }

    /// Notes an ack or nack of a stream that is still the instance's current one.
    pub(crate) fn answer(&self, id: &str, stream: StreamId, answer: Answer) {
        if let Some(instance) = self.lock().current(id, stream) {
            instance.take_answer(answer);
        }
        self.answered();
    }

    /// Notes who called an instance.
    pub(crate) fn called(&self, id: &str, stream: StreamId, calls: Calls) {
        if let Some(instance) = self.lock().current(id, stream) {
            instance.calls = Some(calls);
        }
    }

    /// Who called the ports of every service.
    pub(crate) fn calls(&self, now: SystemTime, bounds: Bounds) -> Vec<v1::ServiceCalls> {
        calls::services(&self.lock().instances, now, bounds)
    }

    /// Withdraws what has been away too long, and forgets instances whose certificates have ended.
    pub(crate) fn sweep(&self, now: SystemTime) {
        let mono = Instant::now();
        let mut inner = self.lock();
        for instance in inner.instances.values_mut() {
            instance.expire(mono);
        }
        inner.instances.retain(|_, i| i.is_connected() || i.is_published() || i.not_after > now);
    }

    /// When the next sweep has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lock().instances.values().filter_map(Instance::deadline).min()
    }

    pub(crate) fn services(&self) -> Vec<MeshService> {
        services::services(&self.lock().instances)
    }

    /// `<service account>.<namespace>` of every instance, also of those that only call: a policy may name them.
    pub(crate) fn known_workloads(&self) -> Vec<String> {
        let inner = self.lock();
        let names = inner.instances.values().filter_map(|i| i.workload.id.workload());
        names.map(|name| format!("{}.{}", name.service_account, name.namespace)).collect()
    }

    /// What each instance publishes, for the store.
    pub(crate) fn published(&self) -> BTreeMap<String, Vec<Served>> {
        let inner = self.lock();
        let published = inner.instances.iter().filter(|(_, i)| i.is_published());
        published.map(|(id, i)| (id.clone(), i.serves.clone())).collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn answers(&self) -> watch::Receiver<u64> {
        self.answers.subscribe()
    }

    pub(crate) fn connected(&self) -> Vec<String> {
        let inner = self.lock();
        inner.instances.iter().filter(|(_, i)| i.is_connected()).map(|(id, _)| id.clone()).collect()
    }

    /// The answer of an instance, when it is for `version` or a later one.
    pub(crate) fn answer_for(&self, id: &str, version: u64) -> Option<(Workload, Option<Answer>)> {
        let inner = self.lock();
        let instance = inner.instances.get(id)?;
        let answer = instance.answer.clone().filter(|a| a.version >= version);
        Some((instance.workload.clone(), answer))
    }

    pub(crate) fn proxies(&self) -> Vec<v1::Proxy> {
        self.lock().instances.iter().map(|(id, i)| i.describe(id)).collect()
    }

    /// How many instances are connected, published, and connected with an application that is not well.
    pub(crate) fn count(&self) -> Counts {
        let inner = self.lock();
        let count = |f: fn(&Instance) -> bool| inner.instances.values().filter(|i| f(i)).count();
        Counts {
            connected: count(Instance::is_connected),
            ready: count(Instance::is_published),
            unhealthy: count(Instance::is_unhealthy),
        }
    }

    fn update(&self, id: &str, stream: StreamId, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.lock().current(id, stream) {
            change(instance);
        }
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn answered(&self) {
        self.answers.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The instance, if `stream` is still its stream.
    fn current(&mut self, id: &str, stream: StreamId) -> Option<&mut Instance> {
        self.instances.get_mut(id).filter(|i| i.stream() == Some(stream))
    }
}

#[cfg(test)]
mod tests;
