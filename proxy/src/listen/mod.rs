//! Sockets: bound once, accepted on the control thread, served by workers.

mod accept;
mod bind;
mod connection;

pub use accept::serve;
pub use bind::{Addresses, Bound, bind};
pub(crate) use connection::connection;
