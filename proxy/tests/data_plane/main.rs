//! The data plane on real sockets, in one process: sidecars with identities of a CA made here, policies from YAML.

#[cfg(test)]
mod framing;
#[cfg(test)]
mod mesh;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod path;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod upgrade;
