//! A Rotel that a test starts, kills and starts again. What it has received it hands on to a collector of the test's.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use palisade_tests::{Collector, until};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(crate) struct Rotel {
    folder: tempfile::TempDir,
    http: SocketAddr,
    grpc: SocketAddr,
    onward: String,
    child: Option<Child>,
}

/// Free a moment ago; needed before Rotel runs, and again after it was killed.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Rotel {
    pub(crate) async fn start(collector: &Collector) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rotel = Self { folder, http: free(), grpc: free(), onward: collector.url(), child: None };
        rotel.run().await;
        rotel
    }

    pub(crate) async fn run(&mut self) {
        let (http, grpc) = (self.http.to_string(), self.grpc.to_string());
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = Command::new("rotel-agent");
        command.args(["start", "--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc]);
        command.args(["--exporter", "otlp", "--otlp-exporter-endpoint", &self.onward]);
        command.args(["--otlp-exporter-protocol", "http"]);
        command.args(["--pid-file", &file("pid"), "--log-file", &file("log")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        self.child = Some(child.expect("this suite needs rotel-agent (PyPI: rotel) on the PATH"));
        for address in [self.http, self.grpc] {
            until("rotel-agent", || async move { TcpStream::connect(address).await.map(drop) }).await;
        }
    }

    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    pub(crate) fn url(&self, protocol: &str) -> String {
        format!("http://{}", if protocol == "grpc" { self.grpc } else { self.http })
    }
}
