//! A CA, a running proxy, and ways to wait for what it says about itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use palisade_certs::ca::{Authority, RootAuthority};
use palisade_certs::csr::PendingKey;
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::{SpiffeId, TrustDomain};
use palisade_proxy::RunError;
use palisade_proxy::identity::SystemClock;
use palisade_proxy::run::{Orders, serve};
use palisade_proxy::settings::{DrainSettings, Serve, Settings, Source};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

const DEADLINE: Duration = Duration::from_secs(20);

pub fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

pub const LEDGER: &str = "spiffe://corp.example/ns/payments/sa/ledger";

/// A trust domain of its own.
pub struct TestCa {
    pub root: RootAuthority,
    pub authority: Authority,
}

impl TestCa {
    pub fn new(domain: &str) -> Self {
        let domain = TrustDomain::parse(domain).unwrap();
        let root = RootAuthority::generate(&domain, SystemTime::now()).unwrap();
        let authority = root.intermediate(SystemTime::now()).unwrap();
        Self { root, authority }
    }

    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::new(self.root.trust_domain().clone(), vec![self.root.certificate().clone()]).unwrap()
    }

    /// A certificate chain and its key, PEM.
    pub fn pem(&self, id: &SpiffeId, ttl: Duration) -> (String, String) {
        let key = PendingKey::generate().unwrap();
        let issued = self.authority.issue(id, &key.csr_der().unwrap(), ttl, SystemTime::now()).unwrap();
        let svid = Svid::from_der(issued.chain, key.private_key_der()).unwrap();
        (svid.chain_pem(), key.to_pem().to_string())
    }
}

/// Settings with every port left to the system.
pub fn settings(source: Source, folder: &Path) -> Settings {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut serve = Serve::parse("8080").unwrap();
    serve.listen = any;
    Settings {
        source,
        serves: vec![serve],
        health: None,
        adaptive_concurrency: None,
        outbound_proxy: Some(any),
        outbound_ports: Vec::new(),
        edge: None,
        limit_store: None,
        trace: None,
        admin: any,
        access_log: Some(folder.join("records.jsonl")),
        workers: 1,
        drain: DrainSettings { withdraw_delay: Duration::ZERO, deadline: Duration::from_secs(1) },
        limits: palisade_proxy::settings::limits::Limits::default(),
        ready_file: Some(folder.join("ready.json")),
    }
}

/// A proxy on a thread of its own.
pub struct Running {
    thread: JoinHandle<Result<(), RunError>>,
    stop: mpsc::Sender<()>,
    pub refresh: Arc<Notify>,
    ready_file: PathBuf,
}

impl Running {
    pub fn start(settings: Settings) -> Self {
        let ready_file = settings.ready_file.clone().unwrap();
        // An earlier run's addresses are not this one's.
        let _absent = std::fs::remove_file(&ready_file);
        let (stop, stops) = mpsc::channel(2);
        let refresh = Arc::new(Notify::new());
        let orders = Orders { stops, refresh: refresh.clone() };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(settings, Arc::new(SystemClock), orders))
        });
        Self { thread, stop, refresh, ready_file }
    }

    /// Waits for its end without asking for it.
    pub async fn end(self) -> Result<(), RunError> {
        until("the proxy to end", || async { self.thread.is_finished().then_some(()) }).await;
        self.thread.join().unwrap()
    }

    pub async fn order_stop(&self) {
        self.stop.send(()).await.unwrap();
    }

    pub async fn stop(self) -> Result<(), RunError> {
        self.order_stop().await;
        self.end().await
    }

    async fn admin_address(&self) -> SocketAddr {
        until("the ready file", || async {
            assert!(!self.thread.is_finished(), "the proxy ended");
            let text = std::fs::read_to_string(&self.ready_file).ok()?;
            let content: Value = serde_json::from_str(&text).unwrap();
            content["admin"].as_str().unwrap().parse().ok()
        })
        .await
    }

    /// Status and body of an admin page.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin_address().await).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.page(path).await.1).unwrap()
    }

    pub async fn until_ready(&self) {
        until("the proxy to be ready", || async { (self.page("/ready").await.0 == 200).then_some(()) }).await;
    }

    pub async fn metric(&self, name: &str) -> Option<u64> {
        let text = self.page("/metrics").await.1;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

/// Asks until there is an answer.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
