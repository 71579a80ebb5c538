//! Who is at the other end of a connection, as TLS proved it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use palisade_certs::tls::Peer as PeerCertificate;
use palisade_identity::{SpiffeId, TrustDomain};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::{Extensions, Status};

/// Facts about a connection; every request on it carries them.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Verified at the handshake; none: the caller showed none.
    certificate: Option<Arc<PeerCertificate>>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, certificate: Option<PeerCertificate>) -> Self {
        Self { address, certificate: certificate.map(Arc::new) }
    }

    pub(crate) fn of(extensions: &Extensions) -> Result<&Self, Status> {
        extensions.get().ok_or_else(|| Status::internal("the connection is not known"))
    }

    /// The certificate, valid now: a connection may outlive it.
    fn certificate(&self, now: SystemTime) -> Result<&PeerCertificate, Status> {
        let certificate = self
            .certificate
            .as_deref()
            .ok_or_else(|| Status::unauthenticated("this call needs a client certificate"))?;
        if certificate.not_after <= now {
            return Err(expired());
        }
        Ok(certificate)
    }

    /// A workload of the mesh.
    pub(crate) fn workload(&self, now: SystemTime) -> Result<&PeerCertificate, Status> {
        let certificate = self.certificate(now)?;
        if certificate.id.workload().is_none() {
            return Err(Status::permission_denied("this call is for workloads"));
        }
        Ok(certificate)
    }

    /// An operator of this trust domain.
    pub(crate) fn operator(&self, domain: &TrustDomain, now: SystemTime) -> Result<&SpiffeId, Status> {
        let certificate = self.certificate(now)?;
        let id = &certificate.id;
        if id.trust_domain() != domain || id.operator_name().is_none() {
            return Err(Status::permission_denied("this call is for operators"));
        }
        Ok(id)
    }
}

/// How a stream ends whose client certificate has ended.
pub(crate) fn expired() -> Status {
    Status::unauthenticated("the client certificate has expired; connect with the renewed one")
}

/// A TLS connection that counts against the cap until it is dropped.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Without a certificate there is one call to make; then the place is for others.
    deadline: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        peer: Peer,
        anonymous_max: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let anonymous = peer.certificate.is_none();
        let deadline = anonymous.then(|| Box::pin(tokio::time::sleep(anonymous_max)));
        Self { stream, peer, deadline, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
