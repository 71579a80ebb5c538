//! The proxy's own identity: attested, renewed, kept.

use std::sync::Arc;

use palisade_certs::{Svid, TrustBundle};

/// One generation of identity: what a handshake needs. Immutable; a renewal makes the next one.
#[derive(Debug)]
pub struct Identity {
    /// Counts up with each renewal or change of roots. Part of every upstream pool key.
    pub generation: u64,
    pub svid: Svid,
    pub bundle: TrustBundle,
    /// For inbound connections: TLS 1.3, client certificate required (mesh) and verified to a SPIFFE id of the
    /// trust domain; ALPN h2, http/1.1.
    pub server: Arc<rustls::ServerConfig>,
}
