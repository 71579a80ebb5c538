//! The edge: what of a request from outside reaches a service of the mesh.

mod access;
mod caps;
mod door;
mod hosts;
mod mesh;
mod mirrors;
mod origin;
mod routes;
mod tls;
mod users;
