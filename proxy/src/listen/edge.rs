//! A connection from outside: a PROXY header where the peer must send one, TLS by the name that is asked for, then HTTP.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use palisade_certs::tls::public;
use palisade_policy::Snapshot;
use palisade_policy::compile::edge::ServerTls;
use rustls::ProtocolVersion;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::reset;
use super::connection::Slot;
use super::detect;
use super::drive::{Patience, drive};
use super::{ClientRequest, Holder, refused};
use crate::drain::Phase;
use crate::edge::proxy_header;
use crate::error::ProxyError;
use crate::http::patience::Ended;
use crate::http::transport::Transport;
use crate::pipeline::edge::{open_record, serve};
use crate::settings::edge::EdgeListen;
use crate::stage::tunnel::expired;
use crate::telemetry::HandshakeOutcome;
use crate::telemetry::record::{Client, Source};
use crate::upstream::connect::Wire;
use crate::worker::{Direction, Worker};

/// A fatal alert unrecognized_name (RFC 8446 section 6.2, RFC 6066 section 3) in a plaintext record: no key is agreed yet.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// A connection from outside, as its requests see it.
#[derive(Debug)]
pub(crate) struct EdgeConnection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) source: Source,
    /// The port of Gateways that it came to.
    pub(crate) port: u16,
    /// The peer, or whom its PROXY header names.
    pub(crate) client: IpAddr,
    pub(crate) local_ip: IpAddr,
    pub(crate) sni: Option<Arc<str>>,
    /// The rules that the handshake was made by; `None` in plaintext.
    pub(crate) tls: Option<ServerTls>,
    /// The end of the client's certificate.
    pub(crate) expires: Option<SystemTime>,
    pub(crate) certificate: Option<Arc<str>>,
    /// Of `client`; `None` before the handshake, and where no cap is set.
    requests: Option<Rc<Holder>>,
    slot: Slot,
}

type Opened = (EdgeConnection, Wire, detect::Rewound<Transport>);

/// Serves an accepted connection to its end.
pub(super) async fn accept(
    worker: Rc<Worker>,
    listen: EdgeListen,
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
) {
    let connection = EdgeConnection {
        source: Source { address: peer, tls: None },
        port: listen.port,
        client: peer.ip(),
        local_ip: stream.local_addr().map_or(listen.bind.ip(), |local| local.ip()),
        sni: None,
        tls: None,
        expires: None,
        certificate: None,
        requests: None,
        worker: worker.clone(),
        slot,
    };
    let limit = worker.shared.limits.handshake_timeout;
    // One deadline for PROXY header, first byte and handshake: waiting on any of them is the same attack.
    match tokio::time::timeout(limit, connection.open(stream)).await {
        Ok(Some((mut connection, wire, io))) => {
            connection.slot.opened();
            connection.run(wire, io).await;
        }
        Ok(None) => {}
        Err(_elapsed) => handshake_ended(&worker, HandshakeOutcome::Failed("timeout")),
    }
}

impl EdgeConnection {
    async fn open(mut self, mut stream: TcpStream) -> Option<Opened> {
        let settings = self.worker.shared.settings.clone();
        if settings.edge.as_ref().is_some_and(|edge| edge.expects_proxy_header(self.source.address.ip())) {
            match proxy_header::read(&mut stream).await {
                Ok(Some(client)) => {
                    self.client = client.ip().to_canonical();
                    if !self.slot.told(self.client) {
                        reset(&stream);
                        return None;
                    }
                }
                // The load balancer speaks for itself.
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(peer.addr = %self.source.address, %error, "connection closed");
                    self.refuse(&ProxyError::ProxyHeader(error), "proxy_header");
                    return None;
                }
            }
        }
        let snapshot = self.worker.shared.live.snapshot().clone();
        let Some(snapshot) = snapshot else {
            self.refuse(&ProxyError::NoSnapshot, "no_snapshot");
            return None;
        };
        match snapshot.edge().port(self.port).map(|port| port.tls) {
            Some(true) => self.open_tls(&snapshot, stream).await,
            Some(false) => {
                let (wire, io) = detect::wire(Transport::Plain(stream)).await.ok()??;
                Some((self, wire, io))
            }
            None => {
                tracing::info!(port = self.port, "no Gateway serves this port: connection closed");
                self.refuse(&ProxyError::NoRoute, "no_gateway");
                None
            }
        }
    }

    /// The name that the client asks for says which server it is, and that one's rules are the handshake's.
    async fn open_tls(mut self, snapshot: &Snapshot, stream: TcpStream) -> Option<Opened> {
        let mut start = match LazyConfigAcceptor::new(Acceptor::default(), stream).await {
            Ok(start) => start,
            Err(error) => return self.refuse_handshake(palisade_certs::tls::io_reason(&error)),
        };
        self.sni = start.client_hello().server_name().map(Arc::from);
        let server = snapshot.edge().port(self.port)?.server_for_sni(self.sni.as_deref());
        let Some(tls) = server.and_then(|server| server.tls.as_ref()) else {
            let _gone = start.io.write_all(&UNRECOGNIZED_NAME).await;
            return self.refuse_handshake("unknownName");
        };
        let Some(config) = self.worker.shared.certificates.config(tls) else {
            let _gone = start.io.write_all(&UNRECOGNIZED_NAME).await;
            return self.refuse_handshake("noCredential");
        };
        let stream = match start.into_stream(config).await {
            Ok(stream) => stream,
            Err(error) => return self.refuse_handshake(palisade_certs::tls::io_reason(&error)),
        };
        self.tls = Some(tls.clone());
        if let Err(reason) = self.identify(&stream) {
            return self.refuse_handshake(reason);
        }
        handshake_ended(&self.worker, HandshakeOutcome::Completed);
        let wire = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Wire::Http2 } else { Wire::Http1 };
        Some((self, wire, detect::Rewound::new(Transport::Tls(Box::new(stream.into())))))
    }

    /// What a finished handshake says. The verifier has judged the client's certificate already.
    fn identify(&mut self, stream: &TlsStream<TcpStream>) -> Result<(), &'static str> {
        let (_, session) = stream.get_ref();
        self.source.tls = Some(match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        });
        let certificate = public::client(session.peer_certificates()).map_err(|_unreadable| "malformed")?;
        if let Some(certificate) = certificate {
            self.expires = Some(certificate.not_after);
            self.certificate = Some(hex::encode(certificate.sha256).into());
        }
        Ok(())
    }

    fn refuse_handshake(&self, reason: &'static str) -> Option<Opened> {
        tracing::info!(peer.addr = %self.source.address, port = self.port, reason, "handshake failed");
        handshake_ended(&self.worker, HandshakeOutcome::Failed(reason));
        self.refuse(&ProxyError::Handshake(reason), "handshake_failed");
        None
    }

    fn refuse(&self, error: &ProxyError, details: &'static str) {
        open_record(self).connection_refused(error, details);
    }

    /// For records.
    pub(crate) fn described(&self) -> Client {
        Client {
            address: Some(self.client),
            server_name: self.sni.clone(),
            certificate: self.certificate.clone(),
        }
    }

    /// Counts a request under the address that it comes from, or refuses what is too much for one.
    pub(crate) fn count(&self, client: IpAddr) -> Result<Option<ClientRequest>, ProxyError> {
        let own = self.requests.as_ref().filter(|own| own.is_of(client)).cloned();
        let Some(holder) = own.or_else(|| Holder::of(&self.worker, client)) else { return Ok(None) };
        holder.enter().map(Some).ok_or(ProxyError::AddressRequests)
    }

    async fn run(mut self, wire: Wire, io: detect::Rewound<Transport>) {
        self.requests = Holder::of(&self.worker, self.client);
        let connection = Rc::new(self);
        let worker = &connection.worker;
        let limits = &worker.shared.limits;
        let mut drain = worker.shared.drain.clone();
        let stop = async {
            tokio::select! {
                () = drain.reached(Phase::Draining) => None,
                () = expired(connection.expires) => Some(limits.expiry_grace),
            }
        };
        let handler = |request| serve(connection.clone(), request);
        let patience = Patience {
            idle: limits.client_idle_timeout,
            head: limits.header_read_timeout,
            stall: limits.response_stall_timeout,
            strict: true,
        };
        let refused = refused::recorder(worker, Direction::Edge, || open_record(&connection));
        if let Some(why) = drive(worker, wire, io, patience, handler, stop, refused).await {
            worker.telemetry.count(|shard| shard.ended(Direction::Edge, why));
            if why != Ended::Idle {
                connection.refuse(&ProxyError::Ended(why), why.reason());
            }
        }
    }
}

fn handshake_ended(worker: &Worker, outcome: HandshakeOutcome) {
    worker.telemetry.count(|shard| shard.handshake(Direction::Edge, outcome));
}
