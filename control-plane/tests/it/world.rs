//! A control plane with a clock of its own, and clients for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use palisade_certs::csr::PendingKey;
use palisade_certs::tls::{self, ExpectedPeer};
use palisade_certs::{Svid, TrustBundle};
use palisade_control_plane::clock::Clock;
use palisade_control_plane::limits::Limits;
use palisade_control_plane::{Ready, Settings, StartError};
use palisade_identity::{SpiffeId, TrustDomain};
use palisade_proto::join_token::JoinToken;
use palisade_proto::v1;
use palisade_proto::v1::admin_client::AdminClient;
use palisade_proto::v1::attest_request::Evidence;
use palisade_proto::v1::configuration_client::ConfigurationClient;
use palisade_proto::v1::control_message::Message as Control;
use palisade_proto::v1::identity_client::IdentityClient;
use palisade_proto::v1::proxy_message::Message as Said;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Longer than anything takes; only a broken test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn domain() -> TrustDomain {
    TrustDomain::parse("corp.example").unwrap()
}

#[derive(Debug)]
pub struct TestClock(Mutex<SystemTime>);

impl TestClock {
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

pub struct World {
    pub ready: Ready,
    pub clock: Arc<TestClock>,
    pub data_dir: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StartError>>,
    dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        Self::start(tempfile::tempdir().unwrap(), change).await.unwrap()
    }

    async fn start(dir: tempfile::TempDir, change: impl FnOnce(&mut Limits)) -> Result<Self, StartError> {
        let clock = Arc::new(TestClock(Mutex::new(SystemTime::now())));
        let data_dir = dir.path().join("data");
        let mut settings = Settings::new(data_dir.clone(), domain());
        settings.listen = "127.0.0.1:0".parse().unwrap();
        settings.admin = "127.0.0.1:0".parse().unwrap();
        settings.clock = clock.clone();
        settings.limits.certificate_check_interval = Duration::from_millis(20);
        settings.limits.disconnect_grace = Duration::from_millis(300);
        change(&mut settings.limits);
        let (said, ready) = oneshot::channel();
        settings.on_ready = Some(Box::new(move |ready| drop(said.send(ready.clone()))));
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task =
            tokio::spawn(palisade_control_plane::run(settings, async move { drop(stopped.await) }));
        tokio::select! {
            Ok(ready) = ready => Ok(Self { ready, clock, data_dir, stop, task, dir }),
            ended = &mut task => Err(ended.unwrap().unwrap_err()),
        }
    }

    pub async fn stop(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        self.dir
    }

    pub async fn restart(self) -> Self {
        Self::again(self.stop().await).await.unwrap()
    }

    pub async fn again(dir: tempfile::TempDir) -> Result<Self, StartError> {
        Self::start(dir, |_| {}).await
    }

    pub fn bundle(&self) -> TrustBundle {
        let roots = std::fs::read(self.ready.operator_dir.join("roots.pem")).unwrap();
        TrustBundle::from_pem(domain(), &roots).unwrap()
    }

    pub fn operator_svid(&self) -> Svid {
        let read = |name| std::fs::read(self.ready.operator_dir.join(name)).unwrap();
        Svid::from_pem(&read("operator.crt"), &read("operator.key")).unwrap()
    }

    pub async fn channel(&self, svid: Option<&Svid>) -> Channel {
        let expected = ExpectedPeer::only(SpiffeId::control_plane(&domain()));
        let config = tls::client_config(svid, &self.bundle(), expected, &[b"h2"]).unwrap();
        self.connect(config).await.unwrap()
    }

    pub async fn connect(&self, config: rustls::ClientConfig) -> Result<Channel, tonic::transport::Error> {
        let (config, address) = (Arc::new(config), self.ready.listen);
        let connector = tower::service_fn(move |_| {
            let connector = TlsConnector::from(config.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from("control-plane.test").unwrap();
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://control-plane.test").connect_with_connector(connector).await
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel(Some(&self.operator_svid())).await)
    }

    pub async fn token(&self, account: &str, uses: u32) -> String {
        let request = v1::CreateJoinTokenRequest {
            namespace: "payments".into(),
            service_account: account.into(),
            uses,
            ..v1::CreateJoinTokenRequest::default()
        };
        self.admin().await.create_join_token(request).await.unwrap().into_inner().token
    }

    /// As a proxy that has nothing but its token.
    pub async fn joiner(&self, token: &str) -> IdentityClient<Channel> {
        let pin = JoinToken::parse(token).unwrap().root_sha256;
        let config = tls::pinned_client_config(pin, SpiffeId::control_plane, &[b"h2"]).unwrap();
        IdentityClient::new(self.connect(config).await.unwrap())
    }

    pub async fn attest(&self, token: &str) -> Result<Member, Status> {
        let key = PendingKey::generate().unwrap();
        let mut client = self.joiner(token).await;
        let answer = client.attest(attest_request(token, key.csr_der().unwrap())).await?.into_inner();
        Ok(member(answer, &key))
    }

    /// A proxy of `payments/<account>` with its first certificate.
    pub async fn join(&self, account: &str) -> Member {
        let token = self.token(account, 1).await;
        self.attest(&token).await.unwrap()
    }

    pub async fn apply(&self, text: &str) -> v1::ApplyResponse {
        self.apply_with(text, false, 0).await
    }

    pub async fn apply_with(&self, text: &str, dry_run: bool, wait_ms: u32) -> v1::ApplyResponse {
        let files = vec![v1::SourceFile { name: "test.yaml".into(), text: text.into() }];
        self.admin()
            .await
            .apply(v1::ApplyRequest { files, dry_run, wait_ms, ..v1::ApplyRequest::default() })
            .await
            .unwrap()
            .into_inner()
    }

    pub async fn proxies(&self) -> Vec<v1::Proxy> {
        self.admin().await.list_proxies(v1::ListProxiesRequest {}).await.unwrap().into_inner().proxies
    }
}

pub fn attest_request(token: &str, csr_der: Vec<u8>) -> v1::AttestRequest {
    v1::AttestRequest { evidence: Some(Evidence::JoinToken(token.into())), csr_der }
}

fn member(answer: v1::IssueResponse, key: &PendingKey) -> Member {
    let chain = answer.chain_der.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let svid = Svid::from_der(chain, key.private_key_der()).unwrap();
    Member { svid, instance: answer.instance_id, labels: answer.labels.into_iter().collect() }
}

/// A workload with a certificate.
pub struct Member {
    pub svid: Svid,
    pub instance: String,
    pub labels: Vec<(String, String)>,
}

impl Member {
    pub async fn renew(&self, world: &World) -> Result<Member, Status> {
        let key = PendingKey::generate().unwrap();
        let mut client = IdentityClient::new(world.channel(Some(&self.svid)).await);
        let answer = client.renew(v1::RenewRequest { csr_der: key.csr_der().unwrap() }).await?.into_inner();
        Ok(member(answer, &key))
    }

    pub async fn stream(&self, world: &World, serves: &[(u32, &str)]) -> Proxy {
        let mut proxy = Proxy::open(world, &self.svid).await.unwrap();
        let serves = serves
            .iter()
            .map(|(number, address)| v1::ServedPort {
                number: *number,
                name: "http".into(),
                protocol: v1::Protocol::Http.into(),
                address: (*address).into(),
            })
            .collect();
        proxy.say(Said::Hello(v1::Hello { serves, ..v1::Hello::default() })).await;
        proxy
    }
}

/// The proxy's end of a configuration stream.
pub struct Proxy {
    say: mpsc::Sender<v1::ProxyMessage>,
    hear: Streaming<v1::ControlMessage>,
    body: Vec<u8>,
}

impl Proxy {
    pub async fn open(world: &World, svid: &Svid) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        let mut client = ConfigurationClient::new(world.channel(Some(svid)).await);
        let hear = client.stream(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, hear, body: Vec::new() })
    }

    pub async fn say(&mut self, message: Said) {
        // Fails when the stream has ended already; what it ended with is heard.
        let _ = self.say.send(v1::ProxyMessage { message: Some(message) }).await;
    }

    pub async fn ready(&mut self, ready: bool) {
        self.say(Said::Readiness(v1::Readiness { ready, application: None })).await;
    }

    pub async fn next(&mut self) -> Result<Option<Control>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.hear.message()).await.expect("no message came")?;
        Ok(next.map(|m| m.message.unwrap()))
    }

    /// The next snapshot, its body filled in from the last one where it is the same.
    pub async fn snapshot(&mut self) -> (v1::Snapshot, v1::SnapshotBody) {
        let Some(Control::Snapshot(snapshot)) = self.next().await.unwrap() else { panic!("no snapshot") };
        if !snapshot.body.is_empty() {
            self.body = snapshot.body.to_vec();
        }
        let body = prost::Message::decode(self.body.as_slice()).unwrap();
        (snapshot, body)
    }

    pub async fn ack(&mut self, snapshot: &v1::Snapshot) {
        let (version, digest) = (snapshot.version, snapshot.digest.clone());
        self.say(Said::Ack(v1::Ack { version, digest })).await;
    }

    /// Reads snapshots, acking each, until one is as wanted.
    pub async fn until(&mut self, wanted: impl Fn(&v1::SnapshotBody) -> bool) -> v1::Snapshot {
        loop {
            let (snapshot, body) = self.snapshot().await;
            self.ack(&snapshot).await;
            if wanted(&body) {
                return snapshot;
            }
        }
    }

    /// The status the stream ends with.
    pub async fn end(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return status,
            }
        }
    }
}

/// Addresses of every endpoint of a service in a snapshot.
pub fn addresses(body: &v1::SnapshotBody, service: &str) -> Vec<String> {
    let services = body.services.iter().filter(|s| s.name == service);
    services.flat_map(|s| &s.endpoints).flat_map(|e| e.addresses.values().cloned()).collect()
}

/// Waits for a condition; fails after the deadline.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// A policy that lets one account of the namespace call another.
pub fn allow(name: &str, to: &str, from: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\n  namespace: payments\n\
         spec:\n  selector:\n    matchLabels:\n      app: {to}\n  action: ALLOW\n  rules:\n  - from:\n    - source:\n        \
         principals: [\"corp.example/ns/payments/sa/{from}\"]\n"
    )
}
