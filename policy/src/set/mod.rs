//! All objects together: unique names, cross references.

mod check;
mod faults;
mod matches;
pub(crate) mod names;
mod routes;
mod tokens;

use crate::finding::Findings;
use crate::kind::{Kind, MeshConfigSpec, Object};

/// The namespace whose objects hold for every namespace.
pub const ROOT_NAMESPACE: &str = "palisade-system";

/// A set without errors, in the order of kinds, namespaces and names.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    objects: Vec<Object>,
}

impl PolicySet {
    /// Checks objects against each other: two of one kind with one name, references to nothing (warnings).
    /// `known_services` are hosts (`name.namespace`) of registered services, for warnings only.
    /// The findings of an accepted set are its warnings.
    pub fn new(mut objects: Vec<Object>, known_services: &[String]) -> Result<(Self, Findings), Findings> {
        let findings = check::check(&objects, known_services);
        if findings.has_errors() {
            return Err(findings);
        }
        objects.sort_by(|a, b| key(a).cmp(&key(b)));
        Ok((Self { objects }, findings))
    }

    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let position = self.objects.binary_search_by(|o| key(o).cmp(&(kind, namespace, name))).ok()?;
        self.objects.get(position)
    }

    /// The mesh's configuration, or its defaults.
    pub fn mesh(&self) -> MeshConfigSpec {
        faults::mesh(&self.objects)
    }
}

fn key(object: &Object) -> (Kind, &str, &str) {
    (object.spec.kind(), &object.meta.namespace, &object.meta.name)
}
