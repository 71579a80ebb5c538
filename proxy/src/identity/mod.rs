//! The proxy's own identity: attested, renewed, kept.

use std::sync::Arc;
use std::time::SystemTime;

use palisade_certs::tls::{self, ClientAuth, TlsError};
use palisade_certs::{Svid, TrustBundle};

mod clock;
mod schedule;

pub use clock::{Clock, SystemClock};
pub(crate) use clock::{show, unix_seconds};
pub(crate) use schedule::{Backoff, Standing, Validity, chance};

/// What inbound connections of HTTP ports may speak.
const INBOUND_ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// What sidecars call bytes of which nothing is read. A name of its own, so that a caller which takes a port for HTTP and a
/// server which takes it for TCP, or the other way round, part in the handshake.
pub(crate) const TCP_ALPN: &[u8] = b"palisade-tcp";

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
    /// The same for TCP ports; ALPN palisade-tcp.
    pub tcp_server: Arc<rustls::ServerConfig>,
}

impl Identity {
    pub fn new(generation: u64, svid: Svid, bundle: TrustBundle) -> Result<Self, TlsError> {
        let server = tls::server_config(&svid, &bundle, ClientAuth::Required, &INBOUND_ALPN)?;
        let tcp_server = tls::server_config(&svid, &bundle, ClientAuth::Required, &[TCP_ALPN])?;
        Ok(Self { generation, svid, bundle, server: Arc::new(server), tcp_server: Arc::new(tcp_server) })
    }

    pub(crate) fn validity(&self) -> Validity {
        Validity { not_before: self.svid.not_before, not_after: self.svid.not_after }
    }
}

/// Both sides of a quarrel about time: ours, and the issuer's as the certificate tells it.
pub(crate) fn both_clocks(svid: &Svid, now: SystemTime) -> String {
    let (from, to) = (show(svid.not_before), show(svid.not_after));
    format!("this host's clock says {}, the certificate is valid from {from} to {to}", show(now))
}
