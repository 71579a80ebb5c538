//! The data plane on real sockets, in one process: sidecars with identities of a CA made here, policies from YAML.

mod mesh;
mod path;
