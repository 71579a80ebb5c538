//! Sockets: bound once, accepted on the control thread, served by workers.

mod accept;
mod bind;
mod connection;
mod detect;
mod drive;
pub(crate) mod edge;
pub(crate) mod inbound;
pub(crate) mod outbound;

pub use accept::serve;
pub use bind::{Addresses, Bound, bind};
pub(crate) use connection::connection;
