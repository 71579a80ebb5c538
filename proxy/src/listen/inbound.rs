//! A connection from the mesh: TLS with a deadline, one SPIFFE id, then HTTP.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use palisade_certs::tls::Peer;
use palisade_identity::SpiffeId;
use palisade_policy::Refusal;
use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_policy::kind::service_entry::Protocol;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::Slot;
use super::detect;
use super::drive::{FOR_EVER, Patience, drive};
use super::refused;
use crate::calls::OpenPlaintext;
use crate::concurrency::AdaptiveLimit;
use crate::drain::Phase;
use crate::error::ProxyError;
use crate::http::transport::Transport;
use crate::pipeline::inbound::{open_record, record, serve};
use crate::pipeline::tcp;
use crate::settings::Serve;
use crate::stage::identify::client_cert_header;
use crate::stage::revoked::{is_revoked, revoked};
use crate::stage::tunnel::expired;
use crate::telemetry::HandshakeOutcome;
use crate::telemetry::record::Source;
use crate::upstream::connect::Wire;
use crate::worker::{Direction, Worker};

/// The first byte of a TLS connection: a record of type handshake (RFC 8446 section 5.1). No HTTP request has it.
const TLS_HANDSHAKE: u8 = 0x16;

/// For refusals of what is under way to leave. No request is served meanwhile.
const REVOKED_GRACE: Duration = Duration::from_millis(100);

/// An inbound connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) worker: Rc<Worker>,
    pub(crate) source: Source,
    pub(crate) serve: Serve,
    /// The caller's proven identity; `None` in plaintext.
    pub(crate) peer: Option<Peer>,
    pub(crate) own: Option<SpiffeId>,
    /// Our own service, for records and metrics.
    pub(crate) service: Option<Arc<str>>,
    pub(crate) cluster: Arc<str>,
    pub(crate) local_ip: IpAddr,
    pub(crate) sni: Option<String>,
    /// The earlier end of both certificates.
    pub(crate) expires: Option<SystemTime>,
    /// `x-forwarded-client-cert` for the application.
    pub(crate) client_cert: Option<HeaderValue>,
    /// How many requests the application is given at once.
    pub(crate) concurrency: Option<Arc<AdaptiveLimit>>,
    slot: Slot,
    /// Counts it as open, where it is in plaintext.
    open_plaintext: Option<OpenPlaintext>,
}

/// Serves an accepted connection to its end.
pub(super) async fn accept(
    worker: Rc<Worker>,
    serve: Serve,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
) {
    let connection = Inbound::new(worker.clone(), serve, peer, stream.local_addr().ok(), slot);
    let limit = worker.shared.limits.handshake_timeout;
    // One deadline for the first byte and the handshake, so that waiting on either is the same attack.
    match tokio::time::timeout(limit, connection.open(stream)).await {
        Ok(Some((mut connection, Opened::Http(wire, io)))) => {
            connection.slot.opened();
            connection.run(wire, io).await;
        }
        Ok(Some((mut connection, Opened::Tcp(caller)))) => {
            connection.slot.opened();
            tcp::inbound(&connection, caller).await;
        }
        Ok(None) => {}
        Err(_elapsed) => handshake_ended(&worker, HandshakeOutcome::Failed("timeout")),
    }
}

/// A connection that is let speak.
enum Opened {
    Http(Wire, detect::Rewound<Transport>),
    Tcp(Transport),
}

impl Inbound {
    fn new(
        worker: Rc<Worker>,
        serve: Serve,
        peer: SocketAddr,
        local: Option<SocketAddr>,
        slot: Slot,
    ) -> Self {
        let own = worker.shared.live.identity().as_ref().map(|identity| identity.svid.id.clone());
        let service = own
            .as_ref()
            .and_then(SpiffeId::workload)
            .map(|workload| Arc::from(format!("{}.{}", workload.service_account, workload.namespace)));
        Self {
            concurrency: worker.shared.concurrency.of(serve.port),
            worker,
            source: Source { address: peer, tls: None },
            cluster: format!("inbound|{}||", serve.port).into(),
            local_ip: local.map_or(serve.listen.ip(), |local| local.ip()),
            serve,
            peer: None,
            own,
            service,
            sni: None,
            expires: None,
            client_cert: None,
            slot,
            open_plaintext: None,
        }
    }

    /// Of the certificate that the peer showed.
    pub(crate) fn serial(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| &*peer.serial)
    }

    /// Whether nothing is read of what comes.
    pub(crate) fn carries_tcp(&self) -> bool {
        self.serve.protocol == Protocol::Tcp
    }

    fn mtls_mode(&self) -> Option<MtlsMode> {
        self.worker.shared.live.snapshot().as_ref().map(|snapshot| snapshot.mtls_mode(self.serve.port))
    }

    /// TLS or plaintext, told by the first byte; on a TCP port that takes plaintext also by none, since there the server may
    /// be the first to speak.
    async fn open(self, stream: TcpStream) -> Option<(Self, Opened)> {
        let mut patience = None;
        if self.carries_tcp() {
            match self.mtls_mode() {
                // TLS there is the application's own.
                Some(MtlsMode::Disable) => return self.open_plaintext(stream).await,
                Some(MtlsMode::Permissive) => {
                    patience = Some(self.worker.shared.limits.tcp_first_byte_timeout);
                }
                Some(MtlsMode::Strict | MtlsMode::Unset) | None => {}
            }
        }
        let mut first = [0];
        let peeked = match patience {
            None => stream.peek(&mut first).await,
            Some(limit) => match tokio::time::timeout(limit, stream.peek(&mut first)).await {
                Ok(peeked) => peeked,
                Err(_silent) => return self.open_plaintext(stream).await,
            },
        };
        match peeked {
            Ok(0) => None,
            Ok(_) if first == [TLS_HANDSHAKE] => self.open_tls(stream).await,
            Ok(_) => self.open_plaintext(stream).await,
            Err(error) => {
                tracing::debug!(%error, "connection lost before its first byte");
                None
            }
        }
    }

    /// Counts a request or a connection by what its caller showed.
    pub(crate) fn called(&self) {
        let (calls, port) = (&self.worker.calls, self.serve.port);
        match self.peer {
            Some(_) => calls.mutual_tls(port),
            None => {
                let let_in = matches!(self.mtls_mode(), Some(MtlsMode::Permissive | MtlsMode::Disable));
                calls.plaintext(port, self.source.address.ip(), !let_in);
            }
        }
    }

    async fn open_plaintext(mut self, stream: TcpStream) -> Option<(Self, Opened)> {
        let refusal = match self.mtls_mode() {
            Some(MtlsMode::Permissive | MtlsMode::Disable) => {
                let open = self.worker.calls.opened(self.serve.port, self.source.address.ip());
                self.open_plaintext = Some(open);
                if self.carries_tcp() {
                    return Some((self, Opened::Tcp(Transport::Plain(stream))));
                }
                let (wire, io) = detect::wire(Transport::Plain(stream)).await.ok()??;
                return Some((self, Opened::Http(wire, io)));
            }
            Some(MtlsMode::Strict | MtlsMode::Unset) => ProxyError::Refused(Refusal::PlaintextRefused),
            None => ProxyError::NoSnapshot,
        };
        tracing::info!(peer.addr = %self.source.address, port = self.serve.port, "plaintext refused");
        self.worker.telemetry.count(|shard| shard.plaintext_refused += 1);
        open_record(&self).connection_refused(&refusal, "plaintext_refused");
        None
    }

    async fn open_tls(mut self, stream: TcpStream) -> Option<(Self, Opened)> {
        let identity = self.worker.shared.live.identity().clone();
        let identity = identity.filter(|identity| identity.svid.not_after > SystemTime::now());
        let Some(identity) = identity else {
            self.refuse_handshake("noIdentity");
            return None;
        };
        let config = if self.carries_tcp() { &identity.tcp_server } else { &identity.server };
        let stream = match TlsAcceptor::from(config.clone()).accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                self.refuse_handshake(palisade_certs::tls::io_reason(&error));
                return None;
            }
        };
        if let Err(reason) = self.identify(&stream, identity.svid.not_after) {
            self.refuse_handshake(reason);
            return None;
        }
        handshake_ended(&self.worker, HandshakeOutcome::Completed);
        let wire = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Wire::Http2 } else { Wire::Http1 };
        let transport = Transport::Tls(Box::new(stream.into()));
        let opened = if self.carries_tcp() {
            Opened::Tcp(transport)
        } else {
            Opened::Http(wire, detect::Rewound::new(transport))
        };
        Some((self, opened))
    }

    /// Takes the peer from a finished handshake. The verifier has checked the chain; here it is read again, once, and
    /// nothing is served to a connection without exactly one id.
    fn identify(
        &mut self,
        stream: &TlsStream<TcpStream>,
        own_not_after: SystemTime,
    ) -> Result<(), &'static str> {
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().ok_or("noCertificate")?;
        let peer = palisade_certs::tls::peer(certificates).map_err(|error| error.reason())?;
        if is_revoked(&self.worker, &peer.serial) {
            return Err("revoked");
        }
        self.source.tls = Some("TLSv1.3");
        self.sni = session.server_name().map(ToOwned::to_owned);
        self.expires = Some(peer.not_after.min(own_not_after));
        if let Some(own) = &self.own {
            self.client_cert = client_cert_header(own, &peer.id, &peer.leaf_sha256);
        }
        self.peer = Some(peer);
        Ok(())
    }

    fn refuse_handshake(&self, reason: &'static str) {
        tracing::info!(peer.addr = %self.source.address, port = self.serve.port, reason, "handshake failed");
        handshake_ended(&self.worker, HandshakeOutcome::Failed(reason));
        // Of whom it was, with a certificate or without, it tells nothing.
        record(self).connection_refused(&ProxyError::Handshake(reason), "handshake_failed");
    }

    async fn run(self, wire: Wire, io: detect::Rewound<Transport>) {
        let connection = Rc::new(self);
        let worker = &connection.worker;
        let limits = &worker.shared.limits;
        let mut drain = worker.shared.drain.clone();
        let stop = async {
            tokio::select! {
                () = drain.reached(Phase::Draining) => None,
                () = expired(connection.expires) => Some(limits.expiry_grace),
                () = revoked(worker, connection.serial()) => Some(REVOKED_GRACE),
            }
        };
        let handler = |request| serve(connection.clone(), request);
        // A connection of HTTP/2 is one between sidecars: the caller's closes it when it has no more use for it.
        let idle = if wire == Wire::Http2 { FOR_EVER } else { limits.client_idle_timeout };
        let patience = Patience { idle, head: limits.header_read_timeout, stall: None, strict: false };
        let refused = refused::recorder(worker, Direction::Inbound, || open_record(&connection));
        if let Some(why) = drive(worker, wire, io, patience, handler, stop, refused).await {
            worker.telemetry.count(|shard| shard.ended(Direction::Inbound, why));
        }
    }
}

fn handshake_ended(worker: &Worker, outcome: HandshakeOutcome) {
    worker.telemetry.count(|shard| shard.handshake(Direction::Inbound, outcome));
}
