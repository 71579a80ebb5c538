use std::net::SocketAddr;

use anyhow::Result;

use super::Report;
use crate::door::Door;
use crate::mesh::{Mesh, palisade};
use crate::service::Service;

/// Mutual TLS is worth little when the application has a second door.
pub(super) async fn play(mesh: &mut Mesh) -> Result<Report> {
    let mut report = Report::default();
    no_second_door(mesh, &mut report).await?;
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

/// The application, its sidecar's HTTP_PROXY, its local port of another service, its admin pages.
const PRIVATE_PORTS: [u16; 4] = [8080, 15001, 15000, 15100];

/// Where services have a network namespace each, a neighbour in the same network tries every port that it should not
/// find, and the one that it should.
async fn no_second_door(mesh: &Mesh, report: &mut Report) -> Result<()> {
    for service in Service::ALL {
        let Some((sidecar, neighbour)) = mesh.member(service).containers() else { continue };
        let address = mesh.member(service).addresses.inbound()?;
        let mut ends = Vec::new();
        for port in PRIVATE_PORTS {
            let door = Door::inside(neighbour, SocketAddr::new(address.ip(), port));
            ends.push(match door.connect().await {
                Ok(_) => format!("port {port} is open"),
                Err(error) if format!("{error:#}").contains("refused") => "refused".to_owned(),
                Err(error) => format!("port {port}: {error:#}"),
            });
        }
        let open = Door::inside(neighbour, address).connect().await.is_ok();
        let name = service.name();
        report.step(
            format!("{neighbour} connects to {PRIVATE_PORTS:?} and {} of {sidecar}", address.port()),
            format!("{}; {}: {}", ends.join(", "), address.port(), if open { "open" } else { "closed" }),
            "the network namespace that only the service and its sidecar are in",
        );
        report.expect(
            "ports of another",
            format!("{name}: {:?}", ["refused"; 4]),
            format!("{name}: {ends:?}"),
        );
        report.expect("the sidecar's door for the mesh is open", true, open);
    }
    Ok(())
}
