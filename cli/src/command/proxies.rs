use std::time::Duration;

use palisade_proto::v1::{ListProxiesRequest, ListProxiesResponse, Protocol, Proxy, ServedPort};
use serde_json::json;

use crate::admin;
use crate::exit::Outcome;
use crate::output::data::Format;
use crate::output::{Shown, or_dash, print, table};

/// List the proxies: who they are, what they serve, which policy version they have.
#[derive(Debug, clap::Args)]
pub(crate) struct Proxies {
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

impl Proxies {
    pub(crate) fn run(self) -> Outcome {
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let response = client.list_proxies(ListProxiesRequest {}).await.map_err(admin::refused)?;
            let response = response.into_inner();
            print(&self.output.render(|| rows(&response), || data(&response))?)?;
            Ok(())
        })
    }
}

fn rows(response: &ListProxiesResponse) -> String {
    let head = ["INSTANCE", "IDENTITY", "STATE", "VERSION", "SERVES", "CERTIFICATE UNTIL", "HOST"];
    table(head, response.proxies.iter().map(|p| row(p, response.version)))
}

fn data(response: &ListProxiesResponse) -> serde_json::Value {
    json!({
        "version": response.version,
        "proxies": response.proxies.iter().map(to_json).collect::<Vec<_>>(),
    })
}

fn row(proxy: &Proxy, in_force: u64) -> [String; 7] {
    let version = if proxy.nacked.is_empty() {
        format!("{}/{in_force}", proxy.acked_version)
    } else {
        format!("{}/{in_force} refused the newer", proxy.acked_version)
    };
    let serves: Vec<String> = proxy.serves.iter().map(|s| format!("{}@{}", s.number, s.address)).collect();
    [
        proxy.instance_id.clone(),
        proxy.spiffe_id.clone(),
        state(proxy).to_owned(),
        version,
        or_dash(serves.join(" ")),
        or_dash(proxy.svid_not_after.clone()),
        or_dash(proxy.hostname.clone()),
    ]
}

fn state(proxy: &Proxy) -> &'static str {
    match (proxy.connected, proxy.ready) {
        (true, true) => "ready",
        (true, false) => "not ready",
        (false, _) => "disconnected",
    }
}

fn to_json(proxy: &Proxy) -> serde_json::Value {
    json!({
        "instance_id": proxy.instance_id,
        "spiffe_id": proxy.spiffe_id,
        "labels": proxy.labels,
        "connected": proxy.connected,
        "ready": proxy.ready,
        "acked_version": proxy.acked_version,
        "acked_digest": proxy.acked_digest,
        "nacked": proxy.nacked.iter().map(Shown::from).collect::<Vec<_>>(),
        "serves": proxy.serves.iter().map(served).collect::<Vec<_>>(),
        "binary_version": proxy.binary_version,
        "hostname": proxy.hostname,
        "connected_since": proxy.connected_since,
        "svid_not_after": proxy.svid_not_after,
    })
}

fn served(port: &ServedPort) -> serde_json::Value {
    let protocol = match port.protocol() {
        Protocol::Unspecified => "unknown",
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    };
    json!({ "number": port.number, "name": port.name, "protocol": protocol, "address": port.address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_state_and_version_of_each_proxy() {
        let ready = Proxy {
            instance_id: "i1".into(),
            connected: true,
            ready: true,
            acked_version: 4,
            serves: vec![ServedPort {
                number: 8080,
                address: "10.0.0.1:15006".into(),
                ..ServedPort::default()
            }],
            ..Proxy::default()
        };
        let away = Proxy { instance_id: "i2".into(), ..Proxy::default() };
        let response = ListProxiesResponse { proxies: vec![ready, away], version: 5 };
        let table = rows(&response);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[1].contains("ready")
                && lines[1].contains("4/5")
                && lines[1].contains("8080@10.0.0.1:15006")
        );
        assert!(lines[2].contains("disconnected"), "{table}");
    }
}
