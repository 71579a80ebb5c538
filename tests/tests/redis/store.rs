//! A redis-server that a test starts, stops, stalls and starts again.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use palisade_tests::outside::Credential;
use palisade_tests::{Outside, until};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(crate) struct Store {
    folder: tempfile::TempDir,
    address: SocketAddr,
    password: Option<String>,
    /// Certificate, key and roots of a server that speaks TLS too, and where.
    tls: Option<(Credential, String, u16)>,
    child: Option<Child>,
}

impl Store {
    pub(crate) async fn start(password: Option<&str>) -> Self {
        // Free a moment ago; the port is needed before the server runs, and again after it was killed.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let password = password.map(Into::into);
        let mut store = Self { folder, address, password, tls: None, child: None };
        store.run().await;
        store
    }

    /// Starts it anew with TLS, as `localhost`.
    pub(crate) async fn with_tls(mut self, ca: &Outside) -> Self {
        self.kill().await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.tls = Some((ca.issue(&["localhost"]), ca.root_pem(), port));
        self.run().await;
        self
    }

    /// A path of a file in the store's folder with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls.as_ref().unwrap().2)
    }

    pub(crate) async fn run(&mut self) {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.folder.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        if let Some((credential, roots, port)) = &self.tls {
            let (cert, key) =
                (self.file("tls.crt", &credential.chain), self.file("tls.key", &credential.key));
            command.args(["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key]);
            command.args(["--tls-ca-cert-file", &self.file("ca.crt", roots), "--tls-auth-clients", "no"]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        self.child = Some(child.expect("this suite needs redis-server on the PATH"));
        let address = self.address;
        until("redis-server", || async move { TcpStream::connect(address).await.map(drop) }).await;
    }

    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// `STOP` or `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// What `redis-cli` answers.
    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port]);
        if let Some(password) = &self.password {
            command.args(["--no-auth-warning", "-a", password]);
        }
        let output = command.args(words).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}
