use anyhow::Result;

use super::Report;
use crate::mesh::{Mesh, palisade};
use crate::service::Service;

/// Mutual TLS is worth little when the application has a second door.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    let listening = Service::ALL.map(|service| (service, mesh.member(service).app_address()));
    let shown: Vec<String> = listening.iter().map(|(s, address)| format!("{} {address}", s.name())).collect();
    report.seen(format!("the applications listen on {}", shown.join(", ")));
    report.expect("all on loopback", true, listening.iter().all(|(_, address)| address.ip().is_loopback()));

    let args = [
        "proxy",
        "--control-plane",
        "127.0.0.1:1",
        "--serve",
        "8080,app=192.0.2.7:8080",
        "--log-level",
        "off",
    ];
    let said = palisade(&mesh.exe, &args).await?;
    let line = said.stderr.lines().next().unwrap_or_default().to_owned();
    report.step(
        format!("palisade {}", args.join(" ")),
        line,
        "the sidecar: it refuses to send plaintext off the host",
    );
    report.expect("exit code", "Some(2)", format!("{:?}", said.code));
    Ok(report)
}
