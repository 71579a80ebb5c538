//! What a FaultExperiment must be to the mesh.

use palisade_identity::SpiffeId;

use super::check::Checker;
use super::names::{canonical, mesh_name, resolve};
use crate::document::duration::write;
use crate::finding::code;
use crate::kind::fault_experiment::{FaultExperimentSpec, protects_account};
use crate::kind::{MeshConfigSpec, Object, Spec, principals};

/// Of the set, or the defaults.
pub(super) fn mesh(objects: &[Object]) -> MeshConfigSpec {
    let mesh = objects.iter().find_map(|object| match &object.spec {
        Spec::MeshConfig(spec) => Some(spec.clone()),
        _ => None,
    });
    mesh.unwrap_or_default()
}

impl Checker<'_> {
    pub(super) fn experiment(&mut self, object: &Object, spec: &FaultExperimentSpec, mesh: &MeshConfigSpec) {
        let most = mesh.faults.max_duration;
        if spec.duration > most {
            let message = format!("{} is longer than the mesh allows: {}", write(spec.duration), write(most));
            self.report(object, |p| {
                p.error(code::EXPERIMENT_TOO_LONG, "spec.duration", message);
                p.help("shorten it, stop the experiment, or raise faults.maxDuration of the MeshConfig");
            });
        }
        self.experiment_callers(object, spec, &mesh.faults.protected);
        for (i, host) in spec.hosts.iter().enumerate() {
            let path = format!("spec.hosts[{i}]");
            self.known_host(object, host, &path);
            let protected = self.protects_host(&mesh.faults.protected, host, &object.meta.namespace);
            if let Some(pattern) = protected {
                self.protected(object, path, &format!("calls to {host:?}"), pattern);
            }
        }
    }

    /// Of those that are named exactly. What a wildcard catches is left out when it is compiled.
    fn experiment_callers(&mut self, object: &Object, spec: &FaultExperimentSpec, protected: &[String]) {
        for (i, caller) in spec.callers.iter().enumerate() {
            let path = format!("spec.callers[{i}]");
            let Some(id) = principals::exact(caller) else { continue };
            let Some(name) = id.workload() else { continue };
            let (namespace, account) = (name.namespace.as_str(), name.service_account.as_str());
            let covers = |pattern: &&String| protects_account(pattern, namespace, account);
            match protected.iter().find(covers) {
                Some(pattern) => self.protected(object, path, &format!("calls of {caller:?}"), pattern),
                None => self.known_caller(object, &format!("{account}.{namespace}"), &path),
            }
        }
    }

    fn protected(&mut self, object: &Object, path: String, calls: &str, pattern: &str) {
        let message = format!("{calls} are protected from faults: MeshConfig has {pattern:?}");
        self.report(object, |p| {
            p.error(code::EXPERIMENT_PROTECTED, path, message);
            p.help("take it out of the experiment; who is protected is said by faults.protected");
        });
    }

    /// The pattern that covers an identity of the host's servers.
    fn protects_host<'p>(&self, protected: &'p [String], host: &str, namespace: &str) -> Option<&'p str> {
        let names: Vec<String> = resolve(host, namespace).collect();
        let of_service = names.iter().filter_map(|name| mesh_name(name));
        let mut accounts: Vec<(&str, &str)> = of_service.collect();
        let mut ids = Vec::new();
        let named = |known: &String| names.iter().any(|name| name == canonical(known));
        for (entry, spec) in self.entries.iter().filter(|(_, spec)| spec.hosts.iter().any(named)) {
            let of_endpoints =
                spec.endpoints.iter().filter_map(|endpoint| endpoint.service_account.as_deref());
            accounts.extend(of_endpoints.map(|account| (account, entry.meta.namespace.as_str())));
            ids.extend(spec.subject_alt_names.iter().filter_map(|name| SpiffeId::parse(name).ok()));
        }
        let of_ids = ids.iter().filter_map(|id| id.workload());
        accounts.extend(of_ids.map(|name| (name.service_account.as_str(), name.namespace.as_str())));
        let covers = |pattern: &&String| {
            accounts.iter().any(|(account, namespace)| protects_account(pattern, namespace, account))
        };
        protected.iter().find(covers).map(String::as_str)
    }
}
