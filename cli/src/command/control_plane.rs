use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use palisade_control_plane::{Ready, Settings, StartError};
use palisade_identity::TrustDomain;
use palisade_proxy::settings::parse_duration;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Failure, Outcome};
use crate::output::print;

/// Run the control plane: attests workloads, issues certificates, pushes policy.
///
/// The first start makes a certificate authority and an operator's credential in the data directory; operator
/// commands take it with --operator-dir.
#[derive(Debug, clap::Args)]
pub(crate) struct ControlPlane {
    /// Keys, certificates and the store.
    #[arg(long, env = "PALISADE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// The trust domain of all identities, for example corp.example. Cannot be changed later.
    #[arg(long, env = "PALISADE_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// Where proxies and operators connect (gRPC over TLS 1.3).
    #[arg(long, env = "PALISADE_LISTEN", value_name = "IP:PORT", default_value = "0.0.0.0:15012")]
    listen: SocketAddr,
    /// /ready, /live, /metrics; loopback.
    #[arg(long, env = "PALISADE_ADMIN", value_name = "IP:PORT", default_value = "127.0.0.1:15014")]
    admin: SocketAddr,
    /// Life of the certificates it issues, 5m to 24h.
    #[arg(long, env = "PALISADE_SVID_TTL", value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    svid_ttl: Duration,
    /// A DNS name or IP address for the control plane's own certificate. Palisade's own clients do not need it.
    /// May be repeated; `;` separates several in the variable.
    #[arg(long, env = "PALISADE_ADVERTISE_NAME", value_name = "NAME", value_delimiter = ';')]
    advertise_name: Vec<String>,
    /// Written when it is ready: its addresses as JSON, as on stdout.
    #[arg(long, env = "PALISADE_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl ControlPlane {
    pub(crate) fn run(self) -> Outcome {
        let mut settings = Settings::new(self.data_dir, self.trust_domain);
        settings.listen = self.listen;
        settings.admin = self.admin;
        settings.svid_ttl = self.svid_ttl;
        settings.advertise_names = self.advertise_name;
        let ready_file = self.ready_file;
        settings.on_ready = Some(Box::new(move |ready| {
            if let Err(error) = announce(ready, ready_file.as_deref()) {
                tracing::error!(error = format!("{error:#}"), "cannot say that the control plane is ready");
            }
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start threads")?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
            let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
            let shutdown = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("stopping");
            };
            palisade_control_plane::run(settings, shutdown).await.map_err(|error| match error {
                StartError::SvidTtl(_) | StartError::AdminNotLoopback(_) => Failure::input(error),
                error => Failure::from(error),
            })
        })
    }
}

/// One JSON line on stdout and, where asked for, the same in a file.
fn announce(ready: &Ready, file: Option<&Path>) -> anyhow::Result<()> {
    let line = serde_json::json!({
        "ready": true,
        "pid": std::process::id(),
        "listen": ready.listen.to_string(),
        "admin": ready.admin.to_string(),
        "operator_dir": ready.operator_dir,
    })
    .to_string();
    if let Some(path) = file {
        replace(path, &line).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&line)?;
    Ok(())
}

/// Who waits for the file must never see half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&temporary, path)
}
