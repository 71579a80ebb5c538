//! MeshConfig, palisade.mesh/v1: what holds for the whole mesh. At most one object, in the root namespace, named
//! `default`.

use std::ops::RangeInclusive;
use std::time::Duration;

use palisade_identity::TrustDomain;

use super::{Meta, principals};
use crate::document::duration::write;
use crate::document::reader::{At, Reader};
use crate::finding::code;
use crate::finding::problem::Problems;
use crate::set::ROOT_NAMESPACE;

/// How a path is brought into one spelling before it is judged and forwarded (Istio's meaning).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    None,
    #[default]
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

/// What happens to a path that two servers may read differently (`%2f`, `%5c`, `%00`, `;`, ...).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AmbiguousPaths {
    /// 400 before any policy is asked.
    #[default]
    Reject,
    /// Judged and forwarded as the chosen normalization leaves it. NUL is refused all the same.
    Keep,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshConfigSpec {
    pub path_normalization: PathNormalization,
    pub ambiguous_paths: AmbiguousPaths,
    /// Trust domains whose ids count as ours in policies (Istio's trustDomainAliases).
    pub trust_domain_aliases: Vec<String>,
    pub faults: FaultLimits,
}

/// What FaultExperiments may do at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultLimits {
    /// Of an experiment. 1 s to 24 h; default 1 h.
    pub max_duration: Duration,
    /// Whose calls, and calls to whom, are never harmed: patterns, as AuthorizationPolicies write principals.
    pub protected: Vec<String>,
}

impl Default for FaultLimits {
    fn default() -> Self {
        Self { max_duration: Duration::from_secs(3600), protected: Vec::new() }
    }
}

const MAX_DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// The only name a MeshConfig can have.
pub const NAME: &str = "default";

const NORMALIZATIONS: &[(&str, PathNormalization)] = &[
    ("NONE", PathNormalization::None),
    ("BASE", PathNormalization::Base),
    ("MERGE_SLASHES", PathNormalization::MergeSlashes),
    ("DECODE_AND_MERGE_SLASHES", PathNormalization::DecodeAndMergeSlashes),
];

pub(super) const AMBIGUOUS: &[(&str, AmbiguousPaths)] =
    &[("REJECT", AmbiguousPaths::Reject), ("KEEP", AmbiguousPaths::Keep)];

pub(crate) fn read(reader: &mut Reader<'_>, at: &At<'_>) -> Option<MeshConfigSpec> {
    let mut fields = reader.mapping(at)?;
    let path_normalization = match fields.take("pathNormalization") {
        Some(at) => read_normalization(reader, &at),
        None => Some(PathNormalization::default()),
    };
    let ambiguous_paths = match fields.take("ambiguousPaths") {
        Some(at) => reader.choice(&at, AMBIGUOUS),
        None => Some(AmbiguousPaths::default()),
    };
    let trust_domain_aliases = reader.texts(fields.take("trustDomainAliases"));
    let faults = match fields.take("faults") {
        Some(at) => read_faults(reader, &at),
        None => Some(FaultLimits::default()),
    };
    reader.finish(fields, &[]);
    let (path_normalization, ambiguous_paths) = (path_normalization?, ambiguous_paths?);
    Some(MeshConfigSpec { path_normalization, ambiguous_paths, trust_domain_aliases, faults: faults? })
}

fn read_faults(reader: &mut Reader<'_>, at: &At<'_>) -> Option<FaultLimits> {
    let mut fields = reader.mapping(at)?;
    let max_duration = match fields.take("maxDuration") {
        Some(at) => reader.duration(&at),
        None => Some(FaultLimits::default().max_duration),
    };
    let protected = reader.texts(fields.take("protected"));
    reader.finish(fields, &[]);
    Some(FaultLimits { max_duration: max_duration?, protected })
}

/// Istio's form: `pathNormalization: {normalization: BASE}`.
fn read_normalization(reader: &mut Reader<'_>, at: &At<'_>) -> Option<PathNormalization> {
    let mut fields = reader.mapping(at)?;
    let value = fields.take("normalization").map(|at| reader.choice(&at, NORMALIZATIONS));
    reader.finish(fields, &[]);
    value.unwrap_or(Some(PathNormalization::default()))
}

pub(crate) fn check(meta: &Meta, spec: &MeshConfigSpec, problems: &mut Problems) {
    if meta.namespace != ROOT_NAMESPACE || meta.name != NAME {
        let message = format!("the mesh has one MeshConfig: {NAME:?} in the namespace {ROOT_NAMESPACE:?}");
        problems.error(code::MESH_CONFIG_PLACE, "metadata", message);
        problems.help(format!("write metadata: {{name: {NAME}, namespace: {ROOT_NAMESPACE}}}"));
    }
    check_spec(spec, problems);
}

/// Without its place.
pub(crate) fn check_spec(spec: &MeshConfigSpec, problems: &mut Problems) {
    let FaultLimits { max_duration, protected } = &spec.faults;
    if !MAX_DURATION.contains(max_duration) {
        let (least, most) = (write(*MAX_DURATION.start()), write(*MAX_DURATION.end()));
        let message = format!("{} is not within {least} and {most}", write(*max_duration));
        problems.error(code::FAULT_LIMITS, "spec.faults.maxDuration", message);
        problems.help("to allow no faults at all, write protected: [\"*\"]");
    }
    principals::check(protected, "spec.faults.protected", problems);

    for (i, alias) in spec.trust_domain_aliases.iter().enumerate() {
        if let Err(error) = TrustDomain::parse(alias) {
            let path = format!("spec.trustDomainAliases[{i}]");
            problems.error(code::BAD_TRUST_DOMAIN, path, format!("{alias:?} is no trust domain: {error}"));
        }
    }
}
