//! A Compose project that a test starts, and takes down whatever becomes of the test.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palisade_tests::until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// A mesh is some twenty containers: one at a time.
static ONE: Mutex<()> = Mutex::const_new(());
/// One call of an application; starting a process in a container included.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Project {
    name: String,
    /// `docker compose`, or `docker-compose` where that is what there is.
    command: &'static [&'static str],
    _one: MutexGuard<'static, ()>,
}

impl Project {
    /// Returns when all is up, in order of health, and the edge says that it is ready.
    pub(crate) async fn up() -> Self {
        let one = ONE.lock().await;
        let plugin = Command::new("docker").args(["compose", "version"]).output().await;
        let plugin = plugin.is_ok_and(|done| done.status.success());
        let command: &[&str] = if plugin { &["docker", "compose"] } else { &["docker-compose"] };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let name = format!("palisade-test-{}-{}", std::process::id(), since.as_millis());
        let project = Self { name, command, _one: one };
        project.compose(&["up", "--detach", "--no-build"]).await;
        project.until_healthy("edge").await;
        project
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn compose(&self, args: &[&str]) -> String {
        let done = Command::from(self.command(args)).output().await.unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{} {args:?}: {said}", self.command.join(" "));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut command = std::process::Command::new(self.command[0]);
        command.args(&self.command[1..]).arg("--file").arg(root.join("compose.yaml"));
        command.args(["--project-name", &self.name]).args(args);
        // Any free ports of loopback.
        command.envs([("PALISADE_HTTPS_PORT", "0"), ("PALISADE_HTTP_PORT", "0")]);
        command.stdin(Stdio::null());
        command
    }

    /// Ids of all containers, also those that have done their work.
    pub(crate) async fn containers(&self) -> Vec<String> {
        self.all("ps", "{{.ID}}", &["--all"]).await
    }

    /// The id of a service's container.
    pub(crate) async fn container(&self, service: &str) -> String {
        let filter = format!("label=com.docker.compose.service={service}");
        let mut found = self.all("ps", "{{.ID}}", &["--all", "--filter", &filter]).await;
        assert_eq!(found.len(), 1, "{service}: {found:?}");
        found.remove(0)
    }

    async fn all(&self, list: &str, format: &str, more: &[&str]) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let words: Vec<&str> = list.split(' ').collect();
        let said = docker(&[&words[..], &["--filter", &filter, "--format", format], more].concat()).await;
        said.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn restart(&self, service: &str) {
        docker(&["restart", &self.container(service).await]).await;
        self.until_healthy(service).await;
    }

    pub(crate) async fn until_healthy(&self, service: &str) {
        let container = self.container(service).await;
        until("a container to be healthy", || async {
            let health = docker(&["inspect", "--format", "{{.State.Health.Status}}", &container]).await;
            if health.trim() == "healthy" { Ok(()) } else { Err(format!("{service} is {}", health.trim())) }
        })
        .await;
    }

    /// The status of a GET, sent as the application beside this sidecar sends it: to its HTTP_PROXY on loopback.
    pub(crate) async fn call(&self, sidecar: &str, url: &str) -> String {
        let container = self.container(sidecar).await;
        let pipe =
            ["exec", "--interactive", &container, "/usr/local/bin/palisade", "demo-pipe", "127.0.0.1:15001"];
        let mut child = Command::new("docker")
            .args(pipe)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let host = url.split('/').nth(2).unwrap();
        let request = format!("GET {url} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stdin.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(CALL_TIMEOUT, stdout.read_to_string(&mut answer)).await.expect("no answer").unwrap();
        // The pipe says first where it connects from.
        answer.lines().nth(1).unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Takes all of it down, and makes sure that nothing is left.
    pub(crate) async fn down(self) {
        self.compose(&["down", "--volumes"]).await;
        for (list, format) in
            [("ps --all", "{{.Names}}"), ("network ls", "{{.Name}}"), ("volume ls", "{{.Name}}")]
        {
            let left = self.all(list, format, &[]).await;
            assert!(left.is_empty(), "{list}: {left:?}");
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.command(&["logs", "--no-color", "--tail", "40"]).output();
            if let Ok(logs) = logs {
                #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
                {
                    eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
                }
            }
        }
        // After `down` there is nothing to do. Output is kept from the test's.
        let _done = self.command(&["down", "--volumes", "--timeout", "2"]).output();
    }
}

/// What a docker command says on stdout; of `logs` on stderr too.
pub(crate) async fn docker(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).stdin(Stdio::null()).output().await.unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "docker {args:?}: {stderr}");
    let stderr = if args[0] == "logs" { stderr } else { "".into() };
    String::from_utf8_lossy(&done.stdout).into_owned() + &stderr
}
