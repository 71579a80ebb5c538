//! A mesh that runs already: the containers of `compose.yaml`. What is written here has to fit that file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::operator::Host;
use super::{ControlPlane, Edge, Member, Mesh, NAMESPACE, Operator, own};
use crate::docker::{self, Container};
use crate::scene::tokens;
use crate::yaml;

/// Control plane, sidecars and the edge's inner side.
pub(super) const MESH_NETWORK: &str = "mesh";
/// The edge's outer side.
pub(super) const OUTSIDE_NETWORK: &str = "outside";
/// Of the edge.
pub(super) const CREDENTIALS: &str = "/var/lib/palisade/credentials";
const CONTROL_PLANE: &str = "control-plane";
const OPERATOR_DIRECTORY: &str = "/var/lib/palisade/control-plane/operator";
/// The sidecar through which the edge gets the keys of auth. The edge shares its network namespace.
const EDGE_SIDECAR: &str = "edge-sidecar";

impl Mesh {
    /// The mesh of a Compose project that is up. Nothing of it is stopped afterwards.
    pub(crate) async fn attach(project: &str) -> Result<Self> {
        let (exe, folder) = own()?;
        let containers = Containers(docker::project(project).await?);
        let control_plane = containers.get(CONTROL_PLANE)?;
        let operator = Operator {
            on: Host::Inside(control_plane.clone()),
            server: "127.0.0.1:15012".to_owned(),
            directory: PathBuf::from(OPERATOR_DIRECTORY),
        };
        // What an earlier play left, if there was one.
        let args = ["delete", "RequestAuthentication", tokens::APPLIED, "-n", NAMESPACE, "--wait", "5s"];
        let _absent = operator.run(&args).await;
        write_extra(&folder.path().join("extra"))?;
        let path = folder.path();
        let mesh = Self {
            exe,
            control_plane: ControlPlane::Container(control_plane),
            operator,
            proxies: containers.0.keys().filter(|name| name.ends_with("-sidecar") || *name == "edge").count(),
            auth: containers.member("auth", "ledger", path).await?,
            accounts: containers.member("accounts", "ledger", path).await?,
            payments: containers.member("payments", "ledger", path).await?,
            ledger: containers.member("ledger", "notifications", path).await?,
            notifications: containers.member("notifications", "ledger", path).await?,
            second_ledger: None,
            edge: Edge::attach(containers.get("edge")?, &containers.get(EDGE_SIDECAR)?, path).await?,
            folder,
        };
        mesh.connected().await?;
        Ok(mesh)
    }
}

/// Documents that scenes apply later.
fn write_extra(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder)?;
    for (name, text) in yaml::EXTRA {
        std::fs::write(folder.join(name), text)
            .with_context(|| format!("cannot write to {}", folder.display()))?;
    }
    Ok(())
}

struct Containers(BTreeMap<String, Container>);

impl Containers {
    fn get(&self, service: &str) -> Result<Container> {
        let found = self.0.get(service).cloned();
        found.with_context(|| format!("the project has no running container of a service {service:?}"))
    }

    async fn member(&self, service: &str, neighbour: &str, folder: &Path) -> Result<Member> {
        let sidecar = |name: &str| self.get(&format!("{name}-sidecar"));
        Member::attach(sidecar(service)?, sidecar(neighbour)?, folder).await
    }
}
