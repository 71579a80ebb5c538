use std::time::Duration;

use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::mesh_config::{AmbiguousPaths, FaultLimits, PathNormalization};

use super::WireError;
use super::scalar::{enumeration, milliseconds, unspecified};
use crate::v1;
use crate::v1::mesh_config as wire;

impl From<&MeshConfigSpec> for v1::MeshConfig {
    fn from(mesh: &MeshConfigSpec) -> Self {
        let normalization = match mesh.path_normalization {
            PathNormalization::None => wire::PathNormalization::None,
            PathNormalization::Base => wire::PathNormalization::Base,
            PathNormalization::MergeSlashes => wire::PathNormalization::MergeSlashes,
            PathNormalization::DecodeAndMergeSlashes => wire::PathNormalization::DecodeAndMergeSlashes,
        };
        let ambiguous = wire::AmbiguousPaths::from(mesh.ambiguous_paths);
        Self {
            path_normalization: normalization.into(),
            ambiguous_paths: ambiguous.into(),
            trust_domain_aliases: mesh.trust_domain_aliases.clone(),
            faults: Some(wire::Faults {
                max_duration_ms: milliseconds(mesh.faults.max_duration),
                protected: mesh.faults.protected.clone(),
            }),
        }
    }
}

impl TryFrom<v1::MeshConfig> for MeshConfigSpec {
    type Error = WireError;

    fn try_from(mesh: v1::MeshConfig) -> Result<Self, WireError> {
        use wire::PathNormalization as Wire;
        let path_normalization = match enumeration("path_normalization", mesh.path_normalization)? {
            Wire::Unspecified => return Err(unspecified("path_normalization")),
            Wire::None => PathNormalization::None,
            Wire::Base => PathNormalization::Base,
            Wire::MergeSlashes => PathNormalization::MergeSlashes,
            Wire::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        };
        let ambiguous_paths =
            enumeration::<wire::AmbiguousPaths>("ambiguous_paths", mesh.ambiguous_paths)?.try_into()?;
        let faults = mesh.faults.map(|wire::Faults { max_duration_ms, protected }| FaultLimits {
            max_duration: Duration::from_millis(max_duration_ms),
            protected,
        });
        let (trust_domain_aliases, faults) = (mesh.trust_domain_aliases, faults.unwrap_or_default());
        Ok(Self { path_normalization, ambiguous_paths, trust_domain_aliases, faults })
    }
}

impl From<AmbiguousPaths> for wire::AmbiguousPaths {
    fn from(paths: AmbiguousPaths) -> Self {
        match paths {
            AmbiguousPaths::Reject => Self::Reject,
            AmbiguousPaths::Keep => Self::Keep,
        }
    }
}

impl TryFrom<wire::AmbiguousPaths> for AmbiguousPaths {
    type Error = WireError;

    fn try_from(paths: wire::AmbiguousPaths) -> Result<Self, WireError> {
        match paths {
            wire::AmbiguousPaths::Unspecified => Err(unspecified("ambiguous_paths")),
            wire::AmbiguousPaths::Reject => Ok(Self::Reject),
            wire::AmbiguousPaths::Keep => Ok(Self::Keep),
        }
    }
}
