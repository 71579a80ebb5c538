//! The rules of this crate, from the outside: the CA, SVIDs, real handshakes.

#[cfg(test)]
mod authority;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod svids;
