//! The edge: what of a request from outside reaches a service of the mesh.

mod access;
mod bodies;
mod caps;
mod deadlines;
pub(crate) mod door;
mod flood;
mod floods;
mod framing;
mod guard;
mod headers;
mod hosts;
mod http2;
mod mesh;
mod mirrors;
mod origin;
mod paths;
pub(crate) mod routes;
mod tls;
mod users;
