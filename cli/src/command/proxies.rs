use std::time::Duration;

use palisade_proto::v1::{Application, ListProxiesRequest, ListProxiesResponse, Protocol, Proxy, ServedPort};
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
        state(proxy),
        version,
        or_dash(serves.join(" ")),
        or_dash(proxy.svid_not_after.clone()),
        or_dash(proxy.hostname.clone()),
    ]
}

/// An application that is not well comes first: until it is, nothing else matters to callers.
fn state(proxy: &Proxy) -> String {
    let ill = proxy.application.as_ref().filter(|application| !application.healthy);
    match (proxy.connected, proxy.ready, ill) {
        (false, ..) => "disconnected".into(),
        (true, _, Some(application)) => format!("unhealthy: {}", application.cause),
        (true, true, None) => "ready".into(),
        (true, false, None) => "not ready".into(),
    }
}

fn to_json(proxy: &Proxy) -> serde_json::Value {
    json!({
        "instance_id": proxy.instance_id,
        "spiffe_id": proxy.spiffe_id,
        "labels": proxy.labels,
        "connected": proxy.connected,
        "ready": proxy.ready,
        "application": proxy.application.as_ref().map(application),
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

fn application(application: &Application) -> serde_json::Value {
    let cause = (!application.healthy).then_some(application.cause.as_str());
    json!({ "healthy": application.healthy, "cause": cause })
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
        let ill = Application { healthy: false, cause: "http:/healthz at 127.0.0.1:8080: status 500".into() };
        let ill =
            Proxy { instance_id: "i3".into(), connected: true, application: Some(ill), ..Proxy::default() };
        assert_eq!(to_json(&ready)["application"], serde_json::Value::Null);
        assert_eq!(to_json(&ill)["application"]["healthy"], false);
        let response = ListProxiesResponse { proxies: vec![ready, away, ill], version: 5 };
        let table = rows(&response);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[1].contains("ready")
                && lines[1].contains("4/5")
                && lines[1].contains("8080@10.0.0.1:15006")
        );
        assert!(lines[2].contains("disconnected"), "{table}");
        assert!(lines[3].contains("unhealthy: http:/healthz at 127.0.0.1:8080: status 500"), "{table}");
    }
}
