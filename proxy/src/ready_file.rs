//! The file that says where the listeners are, so that every port may be 0.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::listen::Addresses;
use crate::run::RunError;

#[derive(Serialize)]
struct Content<'a> {
    pid: u32,
    admin: SocketAddr,
    outbound_proxy: Option<SocketAddr>,
    inbound: &'a BTreeMap<u16, SocketAddr>,
    outbound_ports: &'a BTreeMap<String, SocketAddr>,
    edge: &'a BTreeMap<u16, SocketAddr>,
}

/// Removes what an earlier process left, so that nobody takes its addresses for ours.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "an old ready file cannot be removed");
    }
}

/// Writes a neighbour and renames it: a reader sees all or nothing.
pub(crate) fn write(path: &Path, admin: SocketAddr, addresses: &Addresses) -> Result<(), RunError> {
    let refused =
        |error| RunError::Path { what: "the ready file cannot be written:", path: path.into(), error };
    let content = Content {
        pid: std::process::id(),
        admin,
        outbound_proxy: addresses.outbound_proxy,
        inbound: &addresses.inbound,
        outbound_ports: &addresses.outbound_ports,
        edge: &addresses.edge,
    };
    let mut text = serde_json::to_vec(&content).map_err(|error| refused(error.into()))?;
    text.push(b'\n');
    let mut neighbour = path.as_os_str().to_owned();
    neighbour.push(".new");
    let mut file = std::fs::File::create(&neighbour).map_err(refused)?;
    file.write_all(&text).map_err(refused)?;
    drop(file);
    std::fs::rename(&neighbour, path).map_err(refused)
}
