//! PeerAuthentication, security.istio.io/v1: whether a caller must bring a certificate.

use std::collections::BTreeMap;

use super::{Meta, Named, Selector, read_selector};
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::set::ROOT_NAMESPACE;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Inherit from the next wider object; the widest default is PERMISSIVE, as in Istio.
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthenticationSpec {
    pub selector: Selector,
    pub mode: MtlsMode,
    /// By port of the workload. Needs a selector.
    pub port_level: BTreeMap<u16, MtlsMode>,
}

const MODES: &[(&str, MtlsMode)] = &[
    (MtlsMode::Unset.name(), MtlsMode::Unset),
    (MtlsMode::Disable.name(), MtlsMode::Disable),
    (MtlsMode::Permissive.name(), MtlsMode::Permissive),
    (MtlsMode::Strict.name(), MtlsMode::Strict),
];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<PeerAuthenticationSpec> {
    let mut fields = reader.mapping(at)?;
    let selector = read_selector(reader, &mut fields);
    let mode = fields.take("mtls").and_then(|at| read_mode(reader, &at)).unwrap_or_default();
    let mut port_level = BTreeMap::new();
    if let Some(at) = fields.take("portLevelMtls") {
        if at.is_empty_mapping() {
            let help = "name a port, or leave portLevelMtls out".to_owned();
            reader.error(code::EMPTY_VALUE, at.mark(), &at.path, "no port is named", Some(help));
        }
        for (port, at) in reader.entries_by_port(&at) {
            port_level.extend(read_mode(reader, &at).map(|mode| (port, mode)));
        }
    }
    reader.finish(fields, &[]);
    Some(PeerAuthenticationSpec { selector, mode, port_level })
}

fn read_mode(reader: &mut Reader<'_>, at: &At<'_>) -> Option<MtlsMode> {
    let mut fields = reader.mapping(at)?;
    let mode = fields.take("mode").map(|at| reader.choice(&at, MODES));
    reader.finish(fields, &[]);
    mode.unwrap_or(Some(MtlsMode::Unset))
}

pub(crate) fn check(meta: &Meta, spec: &PeerAuthenticationSpec, problems: &mut Problems) {
    if meta.namespace == ROOT_NAMESPACE && !spec.selector.is_empty() {
        let message =
            "Istio leaves a PeerAuthentication of the root namespace out of account where it has a selector";
        problems.error(code::ROOT_SELECTOR, "spec.selector", message);
        problems.help("move it to the namespace of the workloads that it is for, or leave the selector out");
    }
    if !spec.port_level.is_empty() && spec.selector.is_empty() {
        let message = "portLevelMtls without a selector has no workload whose ports it could mean";
        problems.error(code::PORT_LEVEL_WITHOUT_SELECTOR, "spec.portLevelMtls", message);
        problems.help("add spec.selector.matchLabels");
    }
    if spec.port_level.contains_key(&0) {
        problems.error(code::BAD_PORT, "spec.portLevelMtls", "0 is no port; ports are 1 to 65535");
    }
}

/// The modes of one workload, inheritance resolved: port, then workload, then namespace, then root namespace, then
/// PERMISSIVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    default: MtlsMode,
    ports: BTreeMap<u16, MtlsMode>,
}

impl Modes {
    /// `objects` are those that select the workload. Istio breaks ties by age; documents have none here, so the
    /// stricter mode wins.
    pub(crate) fn new(objects: &[Named<PeerAuthenticationSpec>], root_namespace: &str) -> Self {
        let strictest = |wanted: fn(&Named<PeerAuthenticationSpec>, &str) -> bool| {
            let modes = objects.iter().filter(|o| wanted(o, root_namespace)).map(|o| o.spec.mode);
            modes.fold(MtlsMode::Unset, MtlsMode::stricter)
        };
        let workload = strictest(|o, _| !o.spec.selector.is_empty());
        let namespace = strictest(|o, root| o.spec.selector.is_empty() && o.meta.namespace != root);
        let root = strictest(|o, root| o.spec.selector.is_empty() && o.meta.namespace == root);
        let default = workload.or(namespace).or(root).or(MtlsMode::Permissive);
        let mut ports = BTreeMap::new();
        for (port, mode) in objects.iter().flat_map(|o| &o.spec.port_level) {
            let entry = ports.entry(*port).or_insert(MtlsMode::Unset);
            *entry = entry.stricter(*mode);
        }
        ports.retain(|_, mode| *mode != MtlsMode::Unset);
        Self { default, ports }
    }

    pub(crate) fn get(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.default)
    }
}

impl MtlsMode {
    /// As documents write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }

    fn or(self, wider: Self) -> Self {
        if self == Self::Unset { wider } else { self }
    }

    fn stricter(self, other: Self) -> Self {
        let rank = |mode| match mode {
            Self::Unset => 0,
            Self::Disable => 1,
            Self::Permissive => 2,
            Self::Strict => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}
