//! What a change of the policy set does, computed before it is made: objects, fields, workloads that are concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use palisade_identity::SpiffeId;
use palisade_policy::difference::{Difference, compare_changed};
use palisade_policy::document::changes::{FieldChange, changed_fields};
use palisade_policy::document::{self, SourceFile};
use palisade_policy::finding::Finding;
use palisade_policy::kind::{Kind, Object};
use palisade_policy::projection::project;
use palisade_policy::{PolicySet, Workload, lint};
use palisade_proto::v1::change::Action;
use palisade_proto::v1::{Change, GetResponse, Proxy};

use crate::describe::destination::services;
use crate::describe::workloads;

/// Requests that are judged by both sets while the operator waits. What is over is named and left out.
const COMPARED_MAX: usize = 50_000;

/// A change that could be made.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The version that it was computed on.
    pub(crate) base: u64,
    pub(crate) objects: Vec<ObjectPlan>,
    /// None: one of the sets cannot be read by this version of palisade.
    pub(crate) effect: Option<Effect>,
    /// Who gains and who loses access. None: nothing changes, or the sets cannot be compared.
    pub(crate) access: Option<Difference>,
    /// What lint says of the new set about objects that are changed.
    pub(crate) lint: Vec<Finding>,
}

/// What becomes of one object.
#[derive(Debug)]
pub(crate) struct ObjectPlan {
    pub(crate) action: Action,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Of an updated object. Empty: only its layout or comments differ.
    pub(crate) fields: Vec<FieldChange>,
}

/// Workloads that get other policy than they have.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) concerned: Vec<Concerned>,
    /// All workloads that the control plane knows.
    pub(crate) known: usize,
}

#[derive(Debug)]
pub(crate) struct Concerned {
    pub(crate) id: SpiffeId,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) instances: usize,
}

impl Plan {
    /// `changes` are what the control plane says that it would do; `next` is the set that there would be.
    pub(crate) fn new(
        in_force: &GetResponse,
        changes: &[Change],
        next: Vec<Object>,
        proxies: &[Proxy],
    ) -> Self {
        let old = documents(in_force);
        let objects = changes.iter().map(|change| object(change, in_force, &next)).collect();
        let lint = findings(&old, &next);
        let sets = PolicySet::new(old, &[]).ok().zip(PolicySet::new(next, &[]).ok());
        let effect = sets.as_ref().map(|((old, _), (new, _))| effect(old, new, proxies));
        let plan = Self { base: in_force.version, objects, effect, access: None, lint };
        let sets = sets.filter(|_| plan.changes_anything());
        Self { access: sets.and_then(|((old, _), (new, _))| access(&old, &new, proxies)), ..plan }
    }

    pub(crate) fn changes_anything(&self) -> bool {
        self.objects.iter().any(|object| object.action != Action::Unchanged)
    }
}

/// The objects that a control plane holds.
pub(crate) fn documents(stored: &GetResponse) -> Vec<Object> {
    let file = |text: &String| SourceFile { name: String::new(), text: text.clone() };
    // One by one: what a call may name at once is no limit for what is stored.
    stored.objects.iter().flat_map(|object| document::parse(&[file(&object.text)]).0).collect()
}

/// What is in force with these documents in the place of, or beside, others.
pub(crate) fn with(in_force: &GetResponse, given: Vec<Object>, prune: bool) -> Vec<Object> {
    let named: BTreeSet<_> = given.iter().map(key).collect();
    let stays = documents(in_force).into_iter().filter(|object| !prune && !named.contains(&key(object)));
    let stays: Vec<Object> = stays.collect();
    given.into_iter().chain(stays).collect()
}

fn key(object: &Object) -> (Kind, String, String) {
    (object.spec.kind(), object.meta.namespace.clone(), object.meta.name.clone())
}

fn is(object: &Object, change: &Change) -> bool {
    object.spec.kind().name() == change.kind
        && object.meta.namespace == change.namespace
        && object.meta.name == change.name
}

fn object(change: &Change, in_force: &GetResponse, next: &[Object]) -> ObjectPlan {
    let old = in_force
        .objects
        .iter()
        .find(|o| (&o.kind, &o.namespace, &o.name) == (&change.kind, &change.namespace, &change.name));
    let new = next.iter().find(|object| is(object, change));
    let fields = match (change.action(), old, new) {
        (Action::Updated, Some(old), Some(new)) => changed_fields(&old.text, &new.text),
        _ => Vec::new(),
    };
    let Change { kind, namespace, name, .. } = change.clone();
    ObjectPlan { action: change.action(), kind, namespace, name, fields }
}

/// What lint says of the objects that are applied, and what it did not say of the others before.
fn findings(old: &[Object], next: &[Object]) -> Vec<Finding> {
    let said = |finding: &Finding| (finding.code, finding.object.clone(), finding.message.clone());
    let now = SystemTime::now();
    let before: BTreeSet<_> = lint::lint(old, now).findings.0.iter().map(said).collect();
    let mut found = lint::lint(next, now).findings.0;
    let named = |finding: &Finding| finding.position.as_ref().is_some_and(|place| !place.file.is_empty());
    found.retain(|finding| named(finding) || !before.contains(&said(finding)));
    for finding in found.iter_mut().filter(|finding| !named(finding)) {
        finding.position = None;
    }
    found
}

fn access(old: &PolicySet, new: &PolicySet, proxies: &[Proxy]) -> Option<Difference> {
    let mut ids = proxies.iter().filter_map(|proxy| SpiffeId::parse(&proxy.spiffe_id).ok());
    let domain = ids.next().map(|id| id.trust_domain().clone());
    compare_changed(old, new, domain.as_ref(), COMPARED_MAX).ok()
}

fn effect(old: &PolicySet, new: &PolicySet, proxies: &[Proxy]) -> Effect {
    let workloads = workloads(proxies);
    let known = workloads.len();
    let services = services(proxies);
    let mut concerned = Vec::new();
    for ((id, labels), instances) in workloads {
        let workload = Workload { id, labels };
        // What is said of a service is told to those who know of it.
        if project(old, &services, &workload) != project(new, &services, &workload) {
            concerned.push(Concerned {
                id: workload.id,
                labels: workload.labels,
                instances: instances.len(),
            });
        }
    }
    Effect { concerned, known }
}
