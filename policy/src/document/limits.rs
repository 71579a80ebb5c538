//! What one call of `parse` takes at most. Policies come from operators, and by the admin API from the network.

/// One file. Istio's largest objects are held to etcd's 1.5 MiB; a file here may hold several.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Nesting of mappings and sequences. The deepest field that any kind has is below 10.
pub const DEPTH_MAX: usize = 32;

/// Nodes of one file. With the limit on bytes, this bounds the memory of the tree.
pub const NODES_MAX: usize = 200_000;

/// Files of one call.
pub const FILES_MAX: usize = 4096;

/// Findings of one call; the rest is counted, not listed.
pub const FINDINGS_MAX: usize = 1000;
