//! Sockets: bound once, accepted on the control thread, served by workers.

mod accept;
mod answers;
mod bind;
mod client_key;
mod client_requests;
mod connection;
pub(crate) mod crowd;
mod detect;
mod drive;
pub(crate) mod edge;
pub(crate) mod inbound;
pub(crate) mod outbound;
mod refused;
mod rest;

pub use accept::serve;
pub use bind::{Addresses, Bound, bind};
pub(crate) use client_key::ClientKey;
pub use client_requests::ClientRequests;
pub(crate) use client_requests::{ClientRequest, Holder};
pub(crate) use connection::connection;
