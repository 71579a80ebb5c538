//! The edge: what of a request from outside reaches a service of the mesh.

mod access;
mod bodies;
mod caps;
mod client_certificates;
mod cookies;
mod deadlines;
pub(crate) mod door;
mod flood;
mod floods;
mod framing;
mod guard;
mod headers;
mod hosts;
mod http2;
mod matches;
mod mesh;
mod mirrors;
mod origin;
mod paths;
mod preflights;
mod quotas;
pub(crate) mod routes;
mod server_names;
mod tls;
mod token_places;
mod traces;
mod users;
