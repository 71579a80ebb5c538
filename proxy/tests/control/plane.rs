//! A scripted control plane: real TLS and gRPC on loopback, and every answer chosen by the test.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{ClientAuth, server_config};
use palisade_certs::{Svid, bundle};
use palisade_identity::SpiffeId;
use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::{Projection, Workload};
use palisade_proto::v1::configuration_server::{Configuration, ConfigurationServer};
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::identity_server::{Identity, IdentityServer};
use palisade_proto::v1::proxy_message::Message as Said;
use palisade_proto::{JoinToken, JoinTokenId, v1};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::support::{LEDGER, TestCa, id, until};

type Outgoing = Result<v1::ControlMessage, Status>;

/// What the control plane answers.
pub struct Script {
    /// The identity that certificates are issued for.
    pub subject: SpiffeId,
    pub ttl: Duration,
    pub refuse_attest: Option<Code>,
    pub refuse_renew: Option<Code>,
    pub refuse_stream: Option<Code>,
    /// Sent when a stream opens.
    pub greeting: Vec<Control>,
}

/// What it was told, in order.
#[derive(Default)]
pub struct Heard {
    pub attests: usize,
    pub renews: usize,
    pub hellos: Vec<v1::Hello>,
    pub said: Vec<Said>,
}

pub struct State {
    ca: TestCa,
    script: Mutex<Script>,
    heard: Mutex<Heard>,
    stream: Mutex<Option<mpsc::Sender<Outgoing>>>,
}

pub struct Plane {
    pub address: SocketAddr,
    pub state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plane {
    pub async fn start() -> Self {
        let ca = TestCa::new("corp.example");
        let name = SpiffeId::control_plane(ca.root.trust_domain());
        Self::start_as(ca, &name).await
    }

    /// With a certificate for `name`.
    pub async fn start_as(ca: TestCa, name: &SpiffeId) -> Self {
        let script = Script {
            subject: id(LEDGER),
            ttl: Duration::from_hours(1),
            refuse_attest: None,
            refuse_renew: None,
            refuse_stream: None,
            greeting: vec![snapshot(1, LEDGER)],
        };
        let state = State {
            ca,
            script: Mutex::new(script),
            heard: Mutex::new(Heard::default()),
            stream: Mutex::new(None),
        };
        let state = Arc::new(state);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, state.clone(), name.clone()));
        Self { address, state, task }
    }

    /// Closes its port and all connections; `state` lives on.
    pub async fn stop(self) -> (SocketAddr, Arc<State>) {
        self.task.abort();
        *self.state.stream.lock().unwrap() = None;
        let (address, state) = (self.address, self.state.clone());
        drop(self);
        until("the port to be free", || async { TcpListener::bind(address).await.ok().map(drop) }).await;
        (address, state)
    }

    /// The same control plane again, at the same address.
    pub async fn again(address: SocketAddr, state: Arc<State>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let name = SpiffeId::control_plane(state.ca.root.trust_domain());
        let task = tokio::spawn(serve(listener, state.clone(), name));
        Self { address, state, task }
    }

    pub fn token(&self) -> String {
        self.token_with_root(bundle::sha256(self.state.ca.root.certificate()))
    }

    pub fn token_with_root(&self, root: [u8; 32]) -> String {
        JoinToken::new(JoinTokenId::new([1; 8]), [2; 32], root).to_string()
    }

    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.state.script.lock().unwrap());
    }

    pub fn heard<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.state.heard.lock().unwrap())
    }

    /// Sends on the newest stream.
    pub async fn push(&self, message: Control) {
        let stream = self.state.stream.lock().unwrap().clone().expect("no stream is open");
        stream.send(Ok(v1::ControlMessage { message: Some(message) })).await.unwrap();
    }

    /// Sends if a stream is open.
    pub async fn try_push(&self, message: Control) {
        let stream = self.state.stream.lock().unwrap().clone();
        if let Some(stream) = stream {
            let _closed = stream.send(Ok(v1::ControlMessage { message: Some(message) })).await;
        }
    }

    pub fn ca(&self) -> &TestCa {
        &self.state.ca
    }

    /// Ends the newest stream.
    pub fn hang_up(&self) {
        *self.state.stream.lock().unwrap() = None;
    }

    pub async fn until_heard(&self, what: &str, is: impl Fn(&Said) -> bool) -> Said {
        until(what, || async { self.heard(|heard| heard.said.iter().find(|said| is(said)).cloned()) }).await
    }
}

/// A snapshot for `workload`, without any policy.
pub fn snapshot(version: u64, workload: &str) -> Control {
    let projection = Projection {
        root_namespace: "palisade-system".into(),
        workload: Workload { id: id(workload), labels: BTreeMap::from([("app".into(), "ledger".into())]) },
        mesh: MeshConfigSpec::default(),
        authorization: Vec::new(),
        peer_authentication: Vec::new(),
        service_entries: Vec::new(),
        destination_rules: Vec::new(),
        services: Vec::new(),
        gateways: Vec::new(),
        request_authentication: Vec::new(),
        jwt_policies: Vec::new(),
        virtual_services: Vec::new(),
        rate_limits: Vec::new(),
        request_guards: Vec::new(),
        retry_policies: Vec::new(),
        fault_experiments: Vec::new(),
        revoked: BTreeSet::new(),
    };
    let body = v1::SnapshotBody::from(&projection).encode_to_vec();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body).as_ref().to_vec();
    Control::Snapshot(v1::Snapshot { version, digest, body: body.into() })
}

async fn serve(listener: TcpListener, state: Arc<State>, name: SpiffeId) {
    let key = PendingKey::generate().unwrap();
    let (csr, ttl) = (key.csr_der().unwrap(), Duration::from_hours(1));
    let mut chain = state.ca.authority.issue(&name, &csr, ttl, SystemTime::now()).unwrap().chain;
    // A proxy that attests knows the root by its hash only.
    chain.push(state.ca.root.certificate().clone());
    let svid = Svid::from_der(chain, key.private_key_der()).unwrap();
    let config = server_config(&svid, &state.ca.bundle(), ClientAuth::Optional, &[b"h2"]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (sender, receiver) = mpsc::channel(16);
    let accepting = async {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            connections.spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                // tonic knows how to serve a pipe; the pipe is bridged to TLS.
                let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
                sender.send(Ok::<_, Infallible>(ours)).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut tls, &mut theirs).await;
            });
        }
    };
    let server = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(Service(state.clone())))
        .add_service(ConfigurationServer::new(Service(state.clone())))
        .serve_with_incoming(ReceiverStream::new(receiver));
    tokio::select! {
        () = accepting => {}
        served = server => served.unwrap(),
    }
}

impl State {
    fn issue(&self, csr: &[u8]) -> v1::IssueResponse {
        let script = self.script.lock().unwrap();
        let issued = self.ca.authority.issue(&script.subject, csr, script.ttl, SystemTime::now()).unwrap();
        v1::IssueResponse {
            chain_der: issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            bundle: Some(v1::TrustBundle {
                trust_domain: self.ca.root.trust_domain().to_string(),
                roots_der: vec![self.ca.root.certificate().to_vec()],
            }),
            instance_id: "instance-1".into(),
            labels: BTreeMap::new(),
        }
    }
}

fn refuse(code: Option<Code>) -> Result<(), Status> {
    code.map_or(Ok(()), |code| Err(Status::new(code, "scripted")))
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl Identity for Service {
    async fn attest(
        &self,
        request: Request<v1::AttestRequest>,
    ) -> Result<Response<v1::IssueResponse>, Status> {
        self.0.heard.lock().unwrap().attests += 1;
        refuse(self.0.script.lock().unwrap().refuse_attest)?;
        Ok(Response::new(self.0.issue(&request.into_inner().csr_der)))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        self.0.heard.lock().unwrap().renews += 1;
        refuse(self.0.script.lock().unwrap().refuse_renew)?;
        Ok(Response::new(self.0.issue(&request.into_inner().csr_der)))
    }
}

#[tonic::async_trait]
impl Configuration for Service {
    type StreamStream = ReceiverStream<Outgoing>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::ProxyMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        refuse(self.0.script.lock().unwrap().refuse_stream)?;
        let mut incoming = request.into_inner();
        let Some(Said::Hello(hello)) = incoming.next().await.unwrap()?.message else {
            return Err(Status::invalid_argument("the first message is Hello"));
        };
        self.0.heard.lock().unwrap().hellos.push(hello);
        let (sender, receiver) = mpsc::channel(16);
        let greeting = self.0.script.lock().unwrap().greeting.clone();
        for message in greeting {
            sender.try_send(Ok(v1::ControlMessage { message: Some(message) })).unwrap();
        }
        let state = self.0.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                state.heard.lock().unwrap().said.extend(message.message);
            }
        });
        *self.0.stream.lock().unwrap() = Some(sender);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
