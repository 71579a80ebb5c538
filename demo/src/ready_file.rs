//! Ready files: how a process that was given port 0 tells which port it has.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Writes the file whole: who waits for it never sees half of it.
pub(crate) fn write(path: &Path, value: &Value) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, value.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn read(path: &Path) -> Result<Addresses> {
    let context = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(context)?;
    Ok(Addresses(serde_json::from_str(&text).with_context(context)?))
}

/// The addresses that a process has said it listens on.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(Value);

impl Addresses {
    /// Of a process whose addresses were chosen, not given.
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    /// Of a service or the control plane.
    pub(crate) fn listen(&self) -> Result<SocketAddr> {
        self.at("/listen")
    }

    pub(crate) fn admin(&self) -> Result<SocketAddr> {
        self.at("/admin")
    }

    pub(crate) fn outbound_proxy(&self) -> Result<SocketAddr> {
        self.at("/outbound_proxy")
    }

    /// Where mutual TLS is taken for the service's one port.
    pub(crate) fn inbound(&self) -> Result<SocketAddr> {
        self.at("/inbound/8080")
    }

    /// Where an edge takes the Gateway's port 443.
    pub(crate) fn edge(&self) -> Result<SocketAddr> {
        self.at("/edge/443")
    }

    /// Where an edge takes the Gateway's port 80.
    pub(crate) fn edge_plaintext(&self) -> Result<SocketAddr> {
        self.at("/edge/80")
    }

    fn at(&self, pointer: &str) -> Result<SocketAddr> {
        let text = self.0.pointer(pointer).and_then(Value::as_str);
        let text = text.with_context(|| format!("a ready file has no address at {pointer}"))?;
        text.parse().with_context(|| format!("a ready file has no address but {text:?} at {pointer}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_addresses_of_a_sidecar() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let value = json!({ "admin": "127.0.0.1:1", "outbound_proxy": "127.0.0.1:2", "inbound": { "8080": "127.0.0.1:3" } });
        write(&path, &value).unwrap();
        let read = read(&path).unwrap();
        let ports = [read.admin(), read.outbound_proxy(), read.inbound()].map(|a| a.unwrap().port());
        assert_eq!(ports, [1, 2, 3]);
        assert!(read.listen().unwrap_err().to_string().contains("/listen"));
    }
}
