//! The gRPC listener: TLS first, then tonic. There is no plaintext one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use palisade_certs::tls::{self, io_reason};
use palisade_proto::v1::admin_server::AdminServer;
use palisade_proto::v1::configuration_server::ConfigurationServer;
use palisade_proto::v1::identity_server::IdentityServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};

use crate::context::Context;
use crate::peer::{Connection, Peer};
use crate::{admin, configuration, identity};

/// Handshakes done that tonic has not taken yet. It takes them at once; a few hide a busy moment.
const READY_CONNECTIONS: usize = 16;

type TlsConfig = watch::Receiver<Arc<rustls::ServerConfig>>;

/// Serves until the context stops, then lets calls end.
pub(crate) async fn serve(
    context: Arc<Context>,
    listener: TcpListener,
    tls: TlsConfig,
) -> Result<(), tonic::transport::Error> {
    let (sender, receiver) = mpsc::channel(READY_CONNECTIONS);
    context.tasks.spawn(accept(Arc::clone(&context), listener, tls, sender));
    let incoming = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    let stop = context.stop.clone();
    router(&context).serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
}

fn router(context: &Arc<Context>) -> tonic::transport::server::Router {
    let limits = &context.limits;
    let identity = IdentityServer::new(identity::Service(Arc::clone(context)))
        .max_decoding_message_size(limits.proxy_message_bytes_max)
        .max_encoding_message_size(limits.sent_message_bytes_max);
    let configuration = ConfigurationServer::new(configuration::Service(Arc::clone(context)))
        .max_decoding_message_size(limits.proxy_message_bytes_max)
        .max_encoding_message_size(limits.sent_message_bytes_max);
    let admin = AdminServer::new(admin::Service(Arc::clone(context)))
        .max_decoding_message_size(limits.admin_message_bytes_max)
        .max_encoding_message_size(limits.sent_message_bytes_max);
    // Before a byte of the message is read: nobody else makes us take messages of that size.
    let operators = Arc::clone(context);
    let admin =
        InterceptedService::new(admin, move |request: Request<()>| operators_only(&operators, request));
    Server::builder()
        .timeout(limits.wait_max + limits.request_timeout)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_max_header_list_size(limits.header_list_bytes_max)
        .add_service(identity)
        .add_service(configuration)
        .add_service(admin)
}

fn operators_only(context: &Context, request: Request<()>) -> Result<Request<()>, Status> {
    Peer::of(request.extensions())?.operator(&context.trust_domain, context.clock.now())?;
    Ok(request)
}

async fn accept(
    context: Arc<Context>,
    listener: TcpListener,
    tls: TlsConfig,
    ready: mpsc::Sender<Connection>,
) {
    let places = Arc::new(Semaphore::new(context.limits.connections_max));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let accepted = tokio::select! {
            () = context.stop.cancelled() => return,
            accepted = next => accepted,
        };
        match accepted {
            None => return,
            Some((Ok((tcp, address)), place)) => {
                let config = Arc::clone(&tls.borrow());
                let handshake = handshake(Arc::clone(&context), tcp, address, config, place, ready.clone());
                context.tasks.spawn(handshake);
            }
            Some((Err(error), _)) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(context.limits.accept_error_pause).await;
            }
        }
    }
}

async fn handshake(
    context: Arc<Context>,
    tcp: TcpStream,
    address: SocketAddr,
    config: Arc<rustls::ServerConfig>,
    place: OwnedSemaphorePermit,
    ready: mpsc::Sender<Connection>,
) {
    // Pushes are small and must not wait for a delayed ack.
    let _ = tcp.set_nodelay(true);
    let done = tokio::select! {
        () = context.stop.cancelled() => return,
        done = negotiate(tcp, config, context.limits.handshake_timeout) => done,
    };
    let (stream, peer) = match done {
        Ok((stream, certificate)) => (stream, Peer::new(address, certificate)),
        Err(reason) => {
            context.metrics.handshakes_failed.increment();
            tracing::info!(peer.addr = %address, reason, "TLS handshake failed");
            return;
        }
    };
    let connection = Connection::new(stream, peer, context.limits.anonymous_connection_max, place);
    // Fails only when tonic has stopped taking connections.
    let _ = ready.send(connection).await;
}

type Negotiated = (tokio_rustls::server::TlsStream<TcpStream>, Option<tls::Peer>);

async fn negotiate(
    tcp: TcpStream,
    config: Arc<rustls::ServerConfig>,
    deadline: Duration,
) -> Result<Negotiated, &'static str> {
    let handshake = TlsAcceptor::from(config).accept(tcp);
    let stream = tokio::time::timeout(deadline, handshake)
        .await
        .map_err(|_| "timeout")?
        .map_err(|error| io_reason(&error))?;
    let session = stream.get_ref().1;
    // Without ALPN it is no gRPC client.
    if session.alpn_protocol() != Some(b"h2") {
        return Err("noApplicationProtocol");
    }
    let certificate = match session.peer_certificates() {
        Some(chain) => Some(tls::peer(chain).map_err(|error| error.reason())?),
        None => None,
    };
    Ok((stream, certificate))
}
