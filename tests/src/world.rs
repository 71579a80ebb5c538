//! A mesh in a folder: with a control plane, or of files alone.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use palisade_certs::ca::{Authority, RootAuthority};
use palisade_certs::csr::PendingKey;
use palisade_certs::tls::ExpectedPeer;
use palisade_certs::{Svid, TrustBundle};
use palisade_identity::{SpiffeId, TrustDomain};
use serde_json::Value;
use tempfile::TempDir;

use crate::client;
use crate::loopback::own_address;
use crate::process::{Finished, Process, run};
use crate::sidecar::SidecarBuilder;
use crate::wait::until;

/// The trust domain of every test mesh.
pub const TRUST_DOMAIN: &str = "test.mesh";

/// `spiffe://test.mesh/ns/<namespace>/sa/<name>` for `<namespace>/<name>`.
pub fn workload_id(workload: &str) -> SpiffeId {
    let (namespace, name) = workload.split_once('/').unwrap();
    SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{name}")).unwrap()
}

/// Expects exactly this workload at the other end.
pub fn expecting(workload: &str) -> ExpectedPeer {
    ExpectedPeer::OneOf(Arc::new(BTreeSet::from([workload_id(workload)])))
}

/// A CA of the test's own: for file mode, and for strangers.
#[expect(missing_debug_implementations, reason = "it holds keys")]
pub struct Pki {
    pub authority: Authority,
    pub bundle: TrustBundle,
}

impl Pki {
    pub fn new() -> Self {
        let domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
        let now = SystemTime::now();
        let root = RootAuthority::generate(&domain, now).unwrap();
        let bundle = TrustBundle::new(domain, vec![root.certificate().clone()]).unwrap();
        Self { authority: root.intermediate(now).unwrap(), bundle }
    }

    /// A fresh certificate chain and key for a workload, PEM.
    pub fn issue_pem(&self, workload: &str, ttl: Duration) -> (String, String) {
        let key = PendingKey::generate().unwrap();
        let csr = key.csr_der().unwrap();
        let issued = self.authority.issue(&workload_id(workload), &csr, ttl, SystemTime::now()).unwrap();
        let svid = Svid::from_der(issued.chain, key.private_key_der()).unwrap();
        (svid.chain_pem(), key.to_pem().to_string())
    }

    /// The same, ready for a client.
    pub fn svid(&self, workload: &str) -> Svid {
        let (chain, key) = self.issue_pem(workload, Duration::from_secs(3600));
        Svid::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

/// A folder of its own, processes in it, and the binary they run.
#[expect(missing_debug_implementations, reason = "it holds keys")]
pub struct World {
    exe: PathBuf,
    folder: TempDir,
    /// Signs for sidecars in file mode.
    pub pki: Pki,
    /// In a mesh with a control plane.
    pub control_plane: Option<Process>,
    address: Option<SocketAddr>,
}

impl World {
    /// A mesh of files alone.
    pub fn of_files(exe: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        Self { exe: exe.into(), folder, pki: Pki::new(), control_plane: None, address: None }
    }

    /// A mesh with a control plane, started and ready.
    pub async fn start(exe: &str) -> Self {
        let mut world = Self::of_files(exe);
        world.start_control_plane().await;
        world
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("control-plane")
    }

    /// The control plane's gRPC address.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("a control plane")
    }

    pub fn control_plane_args(&self) -> Vec<String> {
        // It may be started again, at the address it had.
        let listen = self.address.unwrap_or_else(|| SocketAddr::new(own_address(), 0)).to_string();
        let data = self.data_dir().display().to_string();
        let ready = self.folder().join("control-plane.ready.json").display().to_string();
        ["control-plane", "--data-dir", &data, "--trust-domain", TRUST_DOMAIN, "--listen", &listen]
            .into_iter()
            .chain(["--admin", "127.0.0.1:0", "--ready-file", &ready])
            .map(str::to_owned)
            .collect()
    }

    /// Starts it, or starts it again at the address it had.
    pub async fn start_control_plane(&mut self) {
        let ready = self.folder().join("control-plane.ready.json");
        let _absent = fs::remove_file(&ready);
        let mut process =
            Process::start(&self.exe, self.folder(), "control-plane", &self.control_plane_args());
        let value: Value = until("the control plane to be ready", || {
            let ended = process.ended();
            let text = fs::read_to_string(&ready);
            async move {
                assert!(ended.is_none(), "the control plane ended at start: {ended:?}");
                serde_json::from_str(&text.map_err(|error| error.to_string())?)
                    .map_err(|error| error.to_string())
            }
        })
        .await;
        self.address = Some(value["listen"].as_str().unwrap().parse().unwrap());
        self.control_plane = Some(process);
    }

    /// A counter or gauge of the control plane.
    pub async fn metric(&self, name: &str) -> f64 {
        let ready = fs::read_to_string(self.folder().join("control-plane.ready.json")).unwrap();
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let admin = ready["admin"].as_str().unwrap().parse().unwrap();
        let text = client::send(admin, client::request("GET", "/metrics", "")).await.text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// SIGKILL.
    pub async fn kill_control_plane(&mut self) {
        self.control_plane.take().expect("a control plane").kill().await;
    }

    /// Runs any `palisade` command to its end.
    pub async fn palisade(&self, args: &[&str]) -> Finished {
        run(&self.exe, &args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()).await
    }

    /// Runs an operator's command against the control plane.
    pub async fn operator(&self, args: &[&str]) -> Finished {
        let (server, operator) = (self.address().to_string(), self.data_dir().join("operator"));
        let mut all = args.to_vec();
        let operator = operator.display().to_string();
        all.extend(["--server", &server, "--operator-dir", &operator]);
        self.palisade(&all).await
    }

    /// Every proxy, as `palisade proxies -o json` shows it.
    pub async fn proxies(&self) -> Vec<Value> {
        let done = self.operator(&["proxies", "-o", "json"]).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        let value: Value = serde_json::from_str(&done.stdout).unwrap();
        value["proxies"].as_array().unwrap_or_else(|| panic!("no proxies: {value}")).clone()
    }

    /// Writes YAML into a file of the folder and gives its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Applies YAML and waits until every connected proxy has it.
    pub async fn apply(&self, yaml: &str) -> Finished {
        let path = self.write("apply.yaml", yaml);
        let done = self.operator(&["apply", &path, "--wait", "10s"]).await;
        assert_eq!(done.code, Some(0), "apply failed: {done:?}");
        done
    }

    /// A join token for `<namespace>/<service account>`.
    pub async fn token(&self, workload: &str, options: &[&str]) -> String {
        let (namespace, name) = workload.split_once('/').unwrap();
        let mut args = vec!["token", "create", "--namespace", namespace, "--service-account", name];
        args.extend(["--output", "token"]);
        args.extend(options);
        let done = self.operator(&args).await;
        assert_eq!(done.code, Some(0), "token create failed: {done:?}");
        done.stdout.trim().to_owned()
    }

    /// A sidecar of the control plane's mesh, with a fresh token and a state folder of its own.
    pub async fn sidecar(&self, workload: &str) -> SidecarBuilder {
        self.sidecar_named(workload, &workload.replace('/', "-")).await
    }

    /// As `sidecar`, for several instances of one workload.
    pub async fn sidecar_named(&self, workload: &str, name: &str) -> SidecarBuilder {
        let token = self.token(workload, &[]).await;
        self.sidecar_with_token(&token, name)
    }

    /// A start that has only what an earlier one left behind.
    pub fn sidecar_from_state(&self, name: &str) -> SidecarBuilder {
        let state = self.folder().join(format!("{name}.state")).display().to_string();
        SidecarBuilder::new(&self.exe, self.folder(), name)
            .arg("--control-plane", &self.address().to_string())
            .arg("--state-dir", &state)
    }

    /// With a token of the test's choice.
    pub fn sidecar_with_token(&self, token: &str, name: &str) -> SidecarBuilder {
        let state = self.folder().join(format!("{name}.state")).display().to_string();
        SidecarBuilder::new(&self.exe, self.folder(), name)
            .arg("--control-plane", &self.address().to_string())
            .arg("--join-token", token)
            .arg("--state-dir", &state)
    }

    /// Writes a policy file of the file-mode mesh (every sidecar reads the same folder).
    pub fn policy(&self, name: &str, yaml: &str) {
        let path = self.folder().join("policies").join(name);
        let draft = path.with_extension("draft");
        fs::write(&draft, yaml).unwrap();
        fs::rename(draft, path).unwrap();
    }

    /// Writes (or renews) the certificate files of a file-mode sidecar.
    pub fn write_svid(&self, workload: &str, ttl: Duration) {
        let name = workload.replace('/', "-");
        let (chain, key) = self.pki.issue_pem(workload, ttl);
        self.write(&format!("{name}.crt"), &chain);
        self.write(&format!("{name}.key"), &key);
        self.write("roots.pem", &self.pki.bundle.to_pem());
    }

    /// A sidecar that runs from files; its label `app` is the service account.
    pub fn file_sidecar(&self, workload: &str) -> SidecarBuilder {
        let name = workload.replace('/', "-");
        self.write_svid(workload, Duration::from_secs(3600));
        let path = |file: String| self.folder().join(file).display().to_string();
        let app = workload.split_once('/').unwrap().1;
        SidecarBuilder::new(&self.exe, self.folder(), &name)
            .arg("--policies", &path("policies".into()))
            .arg("--svid", &path(format!("{name}.crt")))
            .arg("--svid-key", &path(format!("{name}.key")))
            .arg("--roots", &path("roots.pem".into()))
            .arg("--label", &format!("app={app}"))
            .arg("--reload-interval", "100ms")
    }
}
