//! The rules of this crate, from the outside: the CA, SVIDs, real handshakes.

mod handshakes;
mod kit;
