//! A small mesh for tests: a CA, sidecars, an application that remembers what it received.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use palisade_certs::ca::{Authority, RootAuthority};
use palisade_certs::csr::PendingKey;
use palisade_certs::tls;
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::{SpiffeId, TrustDomain};
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::projection::{Endpoint, MeshService, ServicePort, Workload, project};
use palisade_policy::{PolicySet, Snapshot};
use palisade_proxy::drain::{Drain, Phase};
use palisade_proxy::identity::Identity;
use palisade_proxy::listen::{self, Addresses};
use palisade_proxy::live::Live;
use palisade_proxy::settings::limits::Limits;
use palisade_proxy::settings::{DrainSettings, LocalPort, Serve, Settings, Source};
use palisade_proxy::telemetry::Telemetry;
use palisade_proxy::worker::{self, Shared};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) const PORT: u16 = 8080;
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const ALLOW_PUBLIC: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: public, namespace: payments}
spec:
  rules:
  - from: [{source: {principals: [\"corp.example/ns/payments/sa/payments\"]}}]
    to: [{operation: {methods: [GET, POST], paths: [\"/public/*\"]}}]
";

/// A CA and its trust domain.
pub(crate) struct Ca {
    pub(crate) authority: Authority,
    pub(crate) bundle: TrustBundle,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let domain = TrustDomain::parse("corp.example").unwrap();
        let root = RootAuthority::generate(&domain, SystemTime::now()).unwrap();
        let bundle = TrustBundle { trust_domain: domain, roots: vec![root.certificate().clone()] };
        Self { authority: root.intermediate(SystemTime::now()).unwrap(), bundle }
    }

    pub(crate) fn svid(&self, id: &SpiffeId, ttl: Duration) -> Svid {
        let key = PendingKey::generate().unwrap();
        let issued = self.authority.issue(id, &key.csr_der().unwrap(), ttl, SystemTime::now()).unwrap();
        Svid::from_der(issued.chain, key.private_key_der()).unwrap()
    }

    pub(crate) fn identity(&self, id: &SpiffeId, generation: u64) -> Arc<Identity> {
        let svid = self.svid(id, Duration::from_secs(3600));
        Arc::new(Identity::new(generation, svid, self.bundle.clone()).unwrap())
    }
}

pub(crate) fn id(service_account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://corp.example/ns/payments/sa/{service_account}")).unwrap()
}

/// A running data plane.
pub(crate) struct Sidecar {
    pub(crate) id: SpiffeId,
    pub(crate) live: Arc<Live>,
    pub(crate) addresses: Addresses,
    pub(crate) telemetry: Telemetry,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) activity: worker::Activity,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    /// Starts one on ports of the kernel's choice. `app`: the application it serves.
    pub(crate) fn start(ca: &Ca, name: &str, app: Option<(SocketAddr, Protocol)>, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let serves = app
            .map(|(app, protocol)| Serve { name: "http".into(), port: PORT, protocol, listen: any, app })
            .into_iter()
            .collect();
        let ledger = LocalPort { listen: any, host: "ledger.payments".into(), port: PORT };
        let settings = Settings {
            source: Source::Files {
                policies: PathBuf::new(),
                svid: PathBuf::new(),
                key: PathBuf::new(),
                roots: PathBuf::new(),
                labels: BTreeMap::new(),
                reload_interval: Duration::from_secs(1),
            },
            serves,
            health: None,
            adaptive_concurrency: None,
            outbound_proxy: Some(any),
            outbound_ports: vec![ledger],
            admin: any,
            access_log: Some(log.clone()),
            workers: 1,
            drain: DrainSettings { withdraw_delay: Duration::ZERO, deadline: Duration::from_secs(5) },
            edge: None,
            limits: limits.clone(),
            limit_store: None,
            trace: None,
            ready_file: None,
        };
        let client_requests = listen::ClientRequests::new(limits.requests_per_address);
        let (phase, drain) = Drain::new();
        let live = Arc::new(Live::default());
        let id = id(name);
        live.set_identity(ca.identity(&id, 1));
        let telemetry = Telemetry::start(Some(&log)).unwrap();
        let bound = listen::bind(&settings).unwrap();
        let addresses = bound.addresses().clone();
        let shared = Shared {
            live: live.clone(),
            settings: Arc::new(settings),
            limits: Arc::new(limits),
            drain,
            telemetry: telemetry.clone(),
            health: Arc::default(),
            concurrency: Arc::default(),
            calls: palisade_proxy::calls::Calls::default(),
            keys: Arc::default(),
            certificates: Arc::default(),
            client_requests: Arc::new(client_requests),
            limiter: Arc::new(palisade_proxy::limit::Limiter::new(1000)),
            watch: Arc::default(),
            store_status: Arc::default(),
            upstreams: Arc::default(),
        };
        let workers = worker::start(&shared, 1).unwrap();
        let activity = workers.activity();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(listen::serve(bound, &workers, &shared)).unwrap();
            workers.join();
        });
        Self { id, live, addresses, telemetry, phase, activity, log, _folder: folder }
    }

    pub(crate) fn inbound(&self) -> SocketAddr {
        self.addresses.inbound[&PORT]
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.addresses.outbound_proxy.unwrap()
    }

    pub(crate) fn ledger_port(&self) -> SocketAddr {
        self.addresses.outbound_ports["ledger.payments:8080"]
    }

    /// Puts policies and services in force.
    pub(crate) fn apply(&self, yaml: &str, services: &[MeshService]) {
        let file = SourceFile { name: "test.yaml".into(), text: yaml.into() };
        let (objects, findings) = parse(&[file]);
        assert!(!findings.has_errors(), "{findings:?}");
        let (set, _warnings) = PolicySet::new(objects, &[]).unwrap();
        let workload = Workload { id: self.id.clone(), labels: BTreeMap::new() };
        let projection = project(&set, services, &workload);
        self.live.set_snapshot(Arc::new(Snapshot::compile(1, &projection).unwrap()));
    }

    /// Waits until there are `n` records, and returns them.
    pub(crate) async fn records(&self, n: usize) -> Vec<serde_json::Value> {
        let read = || {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]).to_owned();
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        };
        let enough = async {
            loop {
                let records = read();
                if records.len() >= n {
                    return records;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, enough).await.unwrap_or_else(|_| panic!("want {n}: {:#?}", read()))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Forced);
    }
}

/// `ledger.payments:8080`, behind one endpoint that may prove `identity`.
pub(crate) fn ledger(endpoints: &[SocketAddr], identity: &SpiffeId, protocol: Protocol) -> MeshService {
    MeshService {
        name: "ledger".into(),
        namespace: "payments".into(),
        ports: vec![ServicePort { number: PORT, name: "http".into(), protocol }],
        identities: BTreeSet::from([identity.clone()]),
        endpoints: endpoints
            .iter()
            .enumerate()
            .map(|(n, address)| Endpoint {
                instance: format!("ledger-{n}"),
                labels: BTreeMap::new(),
                addresses: BTreeMap::from([(PORT, *address)]),
            })
            .collect(),
    }
}

/// Two sidecars and an application: `payments` calls `ledger`.
pub(crate) struct Pair {
    pub(crate) ca: Ca,
    pub(crate) caller: Sidecar,
    pub(crate) callee: Sidecar,
    pub(crate) app: App,
    protocol: Protocol,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::with(App::start().await, Limits::default())
    }

    /// With an application of the test's own.
    pub(crate) async fn with_app(address: SocketAddr) -> Self {
        Self::with(App { address, heads: Arc::default() }, Limits::default())
    }

    /// The same, with one that speaks gRPC.
    pub(crate) async fn with_grpc_app(address: SocketAddr) -> Self {
        Self::speaking(Protocol::Grpc, App { address, heads: Arc::default() }, Limits::default())
    }

    pub(crate) fn with(app: App, limits: Limits) -> Self {
        Self::speaking(Protocol::Http, app, limits)
    }

    fn speaking(protocol: Protocol, app: App, limits: Limits) -> Self {
        let ca = Ca::new();
        let callee = Sidecar::start(&ca, "ledger", Some((app.address, protocol)), limits.clone());
        let caller = Sidecar::start(&ca, "payments", None, limits);
        let pair = Self { ca, caller, callee, app, protocol };
        pair.apply(ALLOW_PUBLIC);
        pair
    }

    pub(crate) fn apply(&self, yaml: &str) {
        let services = [ledger(&[self.callee.inbound()], &id("ledger"), self.protocol)];
        self.callee.apply(yaml, &services);
        self.caller.apply(yaml, &services);
    }
}

/// An application: answers 200 with a fixed body and remembers every request head, as received.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-palisade-forged: 1\r\n\r\nhello").await
    }

    /// Answers every request with this text. Bodies are read by content-length or chunks.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone(), answer));
            }
        });
        Self { address, heads }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>, answer: &str) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        bytes.drain(..end);
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let chunked = head.contains("transfer-encoding: chunked");
        heads.lock().unwrap().push(head);
        while bytes.len() < length.unwrap_or(0) || (chunked && find(&bytes, b"0\r\n\r\n").is_none()) {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        match length {
            Some(length) => drop(bytes.drain(..length)),
            None if chunked => bytes.clear(),
            None => {}
        }
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Sends text on a plaintext connection and reads to the end of it, or until `enough` of it has come.
pub(crate) async fn talk(address: SocketAddr, text: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    exchange(&mut stream, text).await
}

/// Sends text, then reads one response with a content-length, or all there is.
pub(crate) async fn exchange<T>(stream: &mut T, text: &[u8]) -> String
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // The other side may have closed before the last byte.
    let _sent = stream.write_all(text).await;
    let _flushed = stream.flush().await;
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            if is_whole(&bytes) || stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("a response in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    if head.starts_with("http/1.1 1") {
        return true;
    }
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()) {
        Some(length) => bytes.len() >= end + 4 + length,
        None => find(bytes, b"0\r\n\r\n").is_some(),
    }
}

/// A mutual TLS connection straight to a sidecar's inbound port, as `who` of `ca`.
pub(crate) async fn connect(
    ca: &Ca,
    who: &SpiffeId,
    to: &Sidecar,
    alpn: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let svid = ca.svid(who, Duration::from_secs(3600));
    connect_with(ca, &svid, to, alpn).await
}

pub(crate) async fn connect_with(
    ca: &Ca,
    svid: &Svid,
    to: &Sidecar,
    alpn: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let expected = tls::ExpectedPeer::only(to.id.clone());
    let config = tls::client_config(Some(svid), &ca.bundle, expected, alpn).unwrap();
    let stream = TcpStream::connect(to.inbound()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("ledger.payments").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}
