//! The mesh as a stage for rehearsals: it stays up, and another program says what is to be away.
//!
//! A process is killed as long as a file of its name lies in the folder `down`, and started again, at the same address, when
//! that is gone. A rehearsal needs no more than `touch` and `rm`, and does not have to know how to start anything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::lines::quoted;
use crate::mesh::Mesh;
use crate::{ready_file, show};

/// Between two looks into the folder.
const INTERVAL: Duration = Duration::from_millis(20);
/// The control plane's name there.
const CONTROL_PLANE: &str = "control-plane";

/// Never returns but with an error.
pub(crate) async fn serve(mesh: &mut Mesh, ready_file: &Path) -> Result<()> {
    let down = mesh.path("down");
    std::fs::create_dir(&down).with_context(|| format!("cannot make {}", down.display()))?;
    let _removed = Told::tell(mesh, &down, ready_file)?;
    print(mesh, ready_file);
    loop {
        if look(mesh, &down).await? {
            // Processes that were started again have other ids.
            ready_file::write(ready_file, &places(mesh, &down)?)?;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A ready file, gone with the mesh that it tells of.
struct Told(PathBuf);

impl Told {
    fn tell(mesh: &Mesh, down: &Path, ready_file: &Path) -> Result<Self> {
        ready_file::write(ready_file, &places(mesh, down)?)?;
        Ok(Self(ready_file.to_owned()))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _absent = std::fs::remove_file(&self.0);
    }
}

/// Kills what is to be away, and starts again what is not. True: there was something to do.
async fn look(mesh: &mut Mesh, down: &Path) -> Result<bool> {
    let is_up = |name: &str| !down.join(name).exists();
    let mut changed = false;
    for (name, member) in mesh.instances_mut() {
        let done = member.set_running(is_up(name)).await;
        changed |= done.with_context(|| format!("cannot kill {name}, or start it again"))?;
    }
    match (mesh.control_plane.runs(), is_up(CONTROL_PLANE)) {
        (true, false) => drop(mesh.control_plane.kill().await?),
        (false, true) => mesh.control_plane.restart().await?,
        _ => return Ok(changed),
    }
    Ok(true)
}

/// Where everything is.
fn places(mesh: &Mesh, down: &Path) -> Result<Value> {
    let operator = mesh.operator();
    let mut places = Map::new();
    places.insert("down".to_owned(), json!(down));
    places.insert("server".to_owned(), json!(operator.server));
    places.insert("operatorDir".to_owned(), json!(operator.directory));
    places.insert(CONTROL_PLANE.to_owned(), json!({ "pid": mesh.control_plane.pid() }));
    let edge = &mesh.edge.addresses;
    let edge = json!({ "admin": edge.admin()?, "https": edge.edge()?, "pid": mesh.edge.pid() });
    places.insert("edge".to_owned(), edge);
    for (name, member) in mesh.instances() {
        let (app, sidecar) = member.pids();
        let place = json!({
            "app": member.app_address(),
            "admin": member.addresses.admin()?,
            "outbound": member.addresses.outbound_proxy()?,
            "pid": app,
            "sidecarPid": sidecar,
        });
        places.insert(name.to_owned(), place);
    }
    Ok(Value::Object(places))
}

fn print(mesh: &Mesh, ready_file: &Path) {
    let palisade = quoted(&mesh.exe.display().to_string());
    let file = quoted(&ready_file.display().to_string());
    show::heading("The mesh is up. Ctrl-C stops it.");
    show::note("# break it on purpose, and see what holds (in another terminal)");
    show::line(&format!("{palisade} rehearse examples/fintech/rehearsals/dead-ledger.yaml --values {file}"));
}
