//! A sidecar process and what a test asks of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client;
use crate::loopback::own_address;
use crate::process::Process;
use crate::wait::until;

/// The options of one `palisade proxy` or `palisade edge`. Every port is 0 unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct SidecarBuilder {
    exe: PathBuf,
    folder: PathBuf,
    name: String,
    args: Vec<String>,
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    pub process: Process,
    builder: SidecarBuilder,
    addresses: Value,
}

impl SidecarBuilder {
    pub fn new(exe: &Path, folder: &Path, name: &str) -> Self {
        let records = folder.join(format!("{name}.records.jsonl"));
        let mut builder = Self {
            exe: exe.into(),
            folder: folder.into(),
            name: name.to_owned(),
            args: vec!["proxy".to_owned()],
        };
        builder = builder.arg("--admin", "127.0.0.1:0").arg("--workers", "2").arg("--drain-delay", "100ms");
        builder.arg("--access-log", &records.display().to_string())
    }

    /// Any option.
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// An option without a value.
    pub fn flag(mut self, name: &str) -> Self {
        self.args.push(name.to_owned());
        self
    }

    /// Takes calls for a service port of the application at `app`.
    pub fn serve(self, port: u16, app: SocketAddr) -> Self {
        self.serve_as(port, "http", app)
    }

    /// As `serve`, with a protocol.
    pub fn serve_as(self, port: u16, protocol: &str, app: SocketAddr) -> Self {
        let listen = own_address();
        self.arg("--serve", &format!("{port},protocol={protocol},listen={listen}:0,app={app}"))
    }

    /// The same workload as the edge of its mesh.
    pub fn edge(mut self) -> Self {
        self.args[0] = "edge".to_owned();
        self
    }

    /// Listens for a port of Gateways.
    pub fn listen(self, port: u16) -> Self {
        self.arg("--listen", &format!("{port},bind={}:0", own_address()))
    }

    /// Opens an `HTTP_PROXY` for the application.
    pub fn outbound(self) -> Self {
        self.arg("--outbound-proxy", "127.0.0.1:0")
    }

    /// Opens a local port for one destination, `host:port`.
    pub fn local_port(self, destination: &str) -> Self {
        self.arg("--outbound-port", &format!("127.0.0.1:0={destination}"))
    }

    /// With this many worker threads instead of two.
    pub fn workers(mut self, count: usize) -> Self {
        let at = self.args.iter().position(|arg| arg == "--workers").unwrap();
        self.args[at + 1] = count.to_string();
        self
    }

    /// The process may have this many file descriptors (`ulimit -n`).
    pub fn open_files(mut self, max: u32) -> Self {
        let exe = self.exe.display().to_string();
        self.args.splice(0..0, ["-c".to_owned(), format!("ulimit -n {max}; exec \"$0\" \"$@\""), exe]);
        self.exe = "sh".into();
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let exe = self.exe.display().to_string();
        self.args.splice(0..0, [format!("{name}={value}"), exe]);
        self.exe = "env".into();
        self
    }

    fn ready_file(&self) -> PathBuf {
        self.folder.join(format!("{}.ready.json", self.name))
    }

    /// Starts it and waits for nothing: for a start that is expected to fail.
    pub fn launch(self) -> Process {
        Process::start(&self.exe, &self.folder, &self.name, &self.args)
    }

    /// Starts it and waits until its sockets are bound (not until it is ready).
    pub async fn spawn(self) -> Sidecar {
        let ready_file = self.ready_file();
        let _absent = fs::remove_file(&ready_file);
        let mut args = self.args.clone();
        args.extend(["--ready-file".to_owned(), ready_file.display().to_string()]);
        let mut process = Process::start(&self.exe, &self.folder, &self.name, &args);
        let addresses = until("the ready file of a sidecar", || {
            let ended = process.ended();
            let text = fs::read_to_string(&ready_file);
            async move {
                assert!(ended.is_none(), "a sidecar ended at start: {ended:?}");
                serde_json::from_str(&text.map_err(|error| error.to_string())?)
                    .map_err(|error| error.to_string())
            }
        });
        let addresses = addresses.await;
        Sidecar { process, builder: self, addresses }
    }

    /// Starts it and waits until `/ready` says yes.
    pub async fn start(self) -> Sidecar {
        let sidecar = self.spawn().await;
        sidecar.ready().await;
        sidecar
    }
}

fn address(value: &Value) -> SocketAddr {
    value.as_str().unwrap_or_else(|| panic!("no address: {value}")).parse().unwrap()
}

impl Sidecar {
    pub async fn ready(&self) {
        until("a sidecar to be ready", || async {
            let answer = self.admin("/ready").await;
            if answer.status == 200 {
                Ok(())
            } else {
                Err(format!("{} {}", answer.text(), self.process.log()))
            }
        })
        .await;
    }

    /// Asks the admin listener.
    pub async fn admin(&self, path: &str) -> client::Answer {
        let mut request = client::request("GET", path, "");
        let host = self.admin_address().to_string().parse().unwrap();
        request.headers_mut().insert("host", host);
        client::send(self.admin_address(), request).await
    }

    pub fn admin_address(&self) -> SocketAddr {
        address(&self.addresses["admin"])
    }

    /// Where mutual TLS is taken for a service port.
    pub fn inbound(&self, port: u16) -> SocketAddr {
        address(&self.addresses["inbound"][port.to_string()])
    }

    /// Where the edge takes clients for a port of Gateways.
    pub fn edge(&self, port: u16) -> SocketAddr {
        address(&self.addresses["edge"][port.to_string()])
    }

    pub fn http_proxy(&self) -> SocketAddr {
        address(&self.addresses["outbound_proxy"])
    }

    pub fn local_port(&self, destination: &str) -> SocketAddr {
        address(&self.addresses["outbound_ports"][destination])
    }

    /// Every decision record so far.
    pub fn records(&self) -> Vec<Value> {
        let path = self.builder.folder.join(format!("{}.records.jsonl", self.builder.name));
        let text = fs::read_to_string(path).unwrap_or_default();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"))
            })
            .collect()
    }

    /// Waits for the records that have all of these fields, at least `count` of them.
    pub async fn records_with(&self, count: usize, fields: &[(&str, Value)]) -> Vec<Value> {
        until("decision records", || async {
            let all = self.records();
            let matches = |record: &&Value| fields.iter().all(|(name, value)| &record[*name] == value);
            let found: Vec<Value> = all.iter().filter(matches).cloned().collect();
            if found.len() >= count { Ok(found) } else { Err(format!("wanted {fields:?}, have {all:#?}")) }
        })
        .await
    }

    /// Stops it (SIGKILL) and starts it again with the same options.
    pub async fn restart(mut self) -> Sidecar {
        self.process.kill().await;
        self.builder.clone().spawn().await
    }

    /// A counter or gauge of `/metrics`: the sum over the series whose line contains every text of `having`.
    pub async fn metric(&self, name: &str, having: &[&str]) -> f64 {
        let text = self.admin("/metrics").await.text();
        let mut by_line = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            if series.split('{').next() == Some(name) && having.iter().all(|part| series.contains(part)) {
                by_line.insert(series.to_owned(), value.parse::<f64>().unwrap());
            }
        }
        by_line.values().sum()
    }
}
