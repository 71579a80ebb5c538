//! A control plane that does what a test tells it: presents any identity, sends any snapshot, and remembers what it
//! was told.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt, stream};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use palisade_certs::ca::ServerNames;
use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{ClientAuth, server_config};
use palisade_certs::{Svid, bundle};
use palisade_identity::SpiffeId;
use palisade_proto::join_token::{JoinToken, JoinTokenId};
use palisade_proto::v1;
use palisade_proto::v1::attest_request::Evidence;
use palisade_proto::v1::configuration_server::ConfigurationServer;
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::identity_server::IdentityServer;
use palisade_proto::v1::proxy_message::Message as Said;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt;

use crate::wait::until;
use crate::world::{Pki, workload_id};

/// Certificates of a control plane and of what it issues.
const TTL: Duration = Duration::from_secs(3600);

struct State {
    pki: Pki,
    workload: String,
    /// Sent on every stream, from the first.
    script: watch::Sender<Vec<v1::ControlMessage>>,
    tokens: Mutex<Vec<String>>,
    said: Mutex<Vec<Said>>,
    handshakes_failed: Mutex<usize>,
}

/// On a loopback port of its own, until dropped.
#[expect(missing_debug_implementations, reason = "it holds keys")]
pub struct FakeControlPlane {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl FakeControlPlane {
    /// Takes every join token, and issues for `workload`.
    pub async fn start(workload: &str) -> Self {
        let pki = Pki::new();
        let id = SpiffeId::control_plane(&pki.bundle.trust_domain);
        Self::start_as(&id, workload, pki).await
    }

    /// With another identity than a control plane has.
    pub async fn start_as(id: &SpiffeId, workload: &str, pki: Pki) -> Self {
        let config = server_config(&server_svid(id, &pki), &pki.bundle, ClientAuth::Optional, &[b"h2"]);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            pki,
            workload: workload.to_owned(),
            script: watch::Sender::default(),
            tokens: Mutex::default(),
            said: Mutex::default(),
            handshakes_failed: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { address, state, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A token that makes a proxy trust this control plane.
    pub fn join_token(&self) -> String {
        self.token_with_root(bundle::sha256(&self.state.pki.bundle.roots[0]))
    }

    /// A token of another mesh.
    pub fn token_with_root(&self, root_sha256: [u8; 32]) -> String {
        JoinToken::new(JoinTokenId::new([7; 8]), [9; 32], root_sha256).to_string()
    }

    /// Every join token that was shown to it.
    pub fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().unwrap().clone()
    }

    pub fn handshakes_failed(&self) -> usize {
        *self.state.handshakes_failed.lock().unwrap()
    }

    /// All that proxies said on their streams.
    pub fn said(&self) -> Vec<Said> {
        self.state.said.lock().unwrap().clone()
    }

    pub fn send(&self, message: Control) {
        let message = v1::ControlMessage { message: Some(message) };
        self.state.script.send_modify(|script| script.push(message));
    }

    /// Waits for what `pick` finds in something that was said.
    pub async fn heard<T>(&self, what: &str, pick: impl Fn(&Said) -> Option<T>) -> T {
        until(what, || async { self.said().iter().find_map(&pick).ok_or_else(|| self.said()) }).await
    }
}

impl Drop for FakeControlPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The chain ends with the root: a joining proxy knows nothing but its hash.
fn server_svid(id: &SpiffeId, pki: &Pki) -> Svid {
    let key = PendingKey::generate().unwrap();
    let names = ServerNames::default();
    let csr = key.csr_der().unwrap();
    let issued = pki.authority.issue_server(id, &names, &csr, TTL, SystemTime::now()).unwrap();
    let mut chain = issued.chain;
    chain.push(pki.bundle.roots[0].clone());
    Svid::from_der(chain, key.private_key_der()).unwrap()
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    let identity = IdentityServer::new(Service(Arc::clone(&state)));
    let configuration = ConfigurationServer::new(Service(Arc::clone(&state)));
    let routes = Routes::new(identity).add_service(configuration);
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(socket, acceptor.clone(), routes.clone(), Arc::clone(&state)));
    }
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, routes: Routes, state: Arc<State>) {
    let Ok(stream) = acceptor.accept(socket).await else {
        *state.handshakes_failed.lock().unwrap() += 1;
        return;
    };
    let service = service_fn(move |request: http::Request<Incoming>| routes.clone().oneshot(request));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ended = server.serve_connection(TokioIo::new(stream), service).await;
}

struct Service(Arc<State>);

impl Service {
    fn issue(&self, csr_der: &[u8]) -> v1::IssueResponse {
        let pki = &self.0.pki;
        let id = workload_id(&self.0.workload);
        let issued = pki.authority.issue(&id, csr_der, TTL, SystemTime::now()).unwrap();
        let app = self.0.workload.split_once('/').unwrap().1;
        v1::IssueResponse {
            chain_der: issued.chain.iter().map(|der| der.to_vec()).collect(),
            bundle: Some(v1::TrustBundle {
                trust_domain: pki.bundle.trust_domain.to_string(),
                roots_der: pki.bundle.roots.iter().map(|der| der.to_vec()).collect(),
            }),
            instance_id: format!("{app}-1"),
            labels: [("app".to_owned(), app.to_owned())].into(),
        }
    }
}

#[tonic::async_trait]
impl v1::identity_server::Identity for Service {
    async fn attest(
        &self,
        request: Request<v1::AttestRequest>,
    ) -> Result<Response<v1::IssueResponse>, Status> {
        let request = request.into_inner();
        let Some(Evidence::JoinToken(token)) = request.evidence else {
            return Err(Status::invalid_argument("no evidence"));
        };
        self.0.tokens.lock().unwrap().push(token);
        Ok(Response::new(self.issue(&request.csr_der)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        Ok(Response::new(self.issue(&request.into_inner().csr_der)))
    }
}

#[tonic::async_trait]
impl v1::configuration_server::Configuration for Service {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<v1::ControlMessage, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::ProxyMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let mut incoming = request.into_inner();
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                state.said.lock().unwrap().extend(message.message);
            }
        });
        Ok(Response::new(messages(self.0.script.subscribe()).boxed()))
    }
}

/// The script from its beginning, as it grows.
fn messages(
    script: watch::Receiver<Vec<v1::ControlMessage>>,
) -> impl Stream<Item = Result<v1::ControlMessage, Status>> {
    stream::unfold((script, 0), |(mut script, next)| async move {
        let message = script.wait_for(|all| all.len() > next).await.ok()?[next].clone();
        Some((Ok(message), (script, next + 1)))
    })
}
