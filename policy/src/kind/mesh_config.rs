//! MeshConfig, palisade.mesh/v1: what holds for the whole mesh. At most one object, in the root namespace, named
//! `default`.

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
}
