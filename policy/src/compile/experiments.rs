//! Which FaultExperiments are carried out for a destination.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use palisade_identity::SpiffeId;

use super::{Transport, report};
use crate::experiment::Experiment;
use crate::finding::{Findings, code};
use crate::kind::fault_experiment::{self, Leave};
use crate::kind::service_entry::Protocol;
use crate::kind::{Kind, Named};
use crate::projection::Projection;
use crate::set::names::{canonical, resolve};

/// Those of this proxy that the mesh gives leave for.
pub(super) struct Experiments<'p> {
    leave: Leave<'p>,
    /// By host as it is known here, then by id. Each with its ports; none: all of them.
    by_host: HashMap<String, BTreeMap<Arc<str>, Asked<'p>>>,
}

type Asked<'p> = (&'p [u16], Arc<Experiment>);

impl<'p> Experiments<'p> {
    pub(super) fn new(projection: &'p Projection, findings: &mut Findings) -> Self {
        let leave = Leave::new(&projection.workload.id, &projection.root_namespace, &projection.mesh);
        let mut by_host: HashMap<String, BTreeMap<_, _>> = HashMap::new();
        for Named { meta, spec } in &projection.fault_experiments {
            let object = format!("{} {}/{}", Kind::FaultExperiment.name(), meta.namespace, meta.name);
            report(findings, &object, |p| {
                if !leave.is_named(meta, spec) {
                    p.error(code::NOT_FOR_WORKLOAD, "spec.callers", "it is not for calls of this workload");
                }
                let experiment = Arc::new(fault_experiment::build(meta, spec, p));
                let hosts = spec.hosts.iter().filter(|_| leave.is_given(spec));
                for host in hosts.flat_map(|host| resolve(host, &meta.namespace)) {
                    let asked: Asked<'p> = (&spec.ports, Arc::clone(&experiment));
                    by_host.entry(host).or_default().insert(Arc::clone(&experiment.id), asked);
                }
            });
        }
        Self { leave, by_host }
    }

    /// In the order of ids. `identities`: what the servers of the host may prove, whatever the port's transport asks of them.
    pub(super) fn of<'i>(
        &self,
        host: &str,
        port: u16,
        protocol: Protocol,
        transport: &Transport,
        identities: impl IntoIterator<Item = &'i SpiffeId>,
    ) -> Arc<[Arc<Experiment>]> {
        let Some(asked) = self.by_host.get(canonical(host)).filter(|_| protocol != Protocol::Tcp) else {
            return Arc::default();
        };
        let is_protected = identities.into_iter().any(|id| self.leave.protects(id))
            || proved(transport).any(|id| self.leave.protects(&id));
        if is_protected {
            return Arc::default();
        }
        let here = asked.values().filter(|(ports, _)| ports.is_empty() || ports.contains(&port));
        here.map(|(_, experiment)| Arc::clone(experiment)).collect()
    }
}

/// The ids that a transport takes.
fn proved(transport: &Transport) -> impl Iterator<Item = SpiffeId> + '_ {
    let (mesh, listed) = match transport {
        Transport::Mesh { identities } => (Some(identities.iter().cloned()), None),
        Transport::Tls { settings, .. } => (None, Some(settings.subject_alt_names.iter())),
        Transport::Plaintext => (None, None),
    };
    let listed = listed.into_iter().flatten().filter_map(|name| SpiffeId::parse(name).ok());
    mesh.into_iter().flatten().chain(listed)
}
