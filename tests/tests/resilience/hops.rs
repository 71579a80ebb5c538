//! Until when anybody waits travels from hop to hop.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_tests::client::{self, Answer};
use palisade_tests::documents::service_entry;
use palisade_tests::world::expecting;
use palisade_tests::{Sidecar, Upstream, World};
use serde_json::json;

use crate::PALISADE;
use crate::sidecars::OPEN;

const LEDGER: &str = "http://ledger.payments:8080";

/// A caller's sidecar, the ledger's, and the ledger.
struct Hops {
    world: World,
    app: Upstream,
    ledger: Sidecar,
    web: Sidecar,
}

impl Hops {
    async fn start(protocol: &str) -> Self {
        let world = World::of_files(PALISADE);
        world.policy("open.yaml", OPEN);
        let app = Upstream::start("ledger").await;
        let served = protocol.to_lowercase();
        let ledger =
            world.file_sidecar("payments/ledger").serve_as(8080, &served, app.address()).start().await;
        world.policy("ledger.yaml", &service_entry("ledger", ledger.inbound(8080), protocol));
        let web = world.file_sidecar("payments/web").outbound().start().await;
        Self { world, app, ledger, web }
    }

    async fn call(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = request(&format!("{LEDGER}{path}"), headers);
        client::send(self.web.http_proxy(), request).await
    }

    /// As another sidecar would.
    async fn call_directly(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let (svid, bundle) = (self.world.pki.svid("payments/web"), &self.world.pki.bundle);
        let (address, expected): (SocketAddr, _) = (self.ledger.inbound(8080), expecting("payments/ledger"));
        let stream =
            client::connect_tls(address, Some(&svid), bundle, expected, &[b"http/1.1"]).await.unwrap();
        let mut request = request(path, headers);
        request.headers_mut().insert("host", "ledger.payments:8080".parse().unwrap());
        client::send_on(stream, request).await.unwrap()
    }

    /// A header of the last request that the ledger was given.
    fn given(&self, name: &str) -> Option<String> {
        self.app.last().headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

fn request(url: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = client::request("POST", url, "pay");
    for (name, value) in headers {
        request.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    request
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// As gRPC writes times.
fn grpc_time(text: &str) -> Duration {
    let (digits, unit) = text.split_at(text.len() - 1);
    let n = digits.parse().unwrap();
    match unit {
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => panic!("{text}"),
    }
}

#[tokio::test]
async fn an_application_is_told_until_when_its_caller_waits() {
    let hops = Hops::start("HTTP").await;
    let until = now() + 20_000;
    hops.call("/transfers", &[("x-palisade-deadline", &until.to_string())]).await;
    let told: u64 = hops.given("x-palisade-deadline").unwrap().parse().unwrap();
    // Between the hops it travels as time left, so that their clocks need not agree: the way itself is not counted.
    assert!(told.abs_diff(until) < 5_000, "{told}, {until}");
    assert_eq!(hops.given("x-palisade-timeout-ms"), None, "that is between sidecars");
    hops.call("/transfers", &[]).await;
    assert_eq!(hops.given("x-palisade-deadline"), None, "nobody said anything");
}

#[tokio::test]
async fn a_grpc_timeout_is_what_is_left_of_it_at_every_hop() {
    let hops = Hops::start("GRPC").await;
    let grpc = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "20S")];
    hops.call("/ledger.v1.Ledger/Transfer", &grpc).await;
    let told = grpc_time(&hops.given("grpc-timeout").unwrap());
    assert!(told < Duration::from_secs(20) && told > Duration::from_secs(5), "{told:?}");
}

#[tokio::test]
async fn the_services_own_sidecar_ends_a_request_whose_caller_has_stopped_waiting() {
    let hops = Hops::start("HTTP").await;
    let late = hops.call_directly("/slow/20000", &[("x-palisade-timeout-ms", "300")]).await;
    assert_eq!((late.status.as_u16(), late.header("x-palisade-refused")), (504, Some("failed")));
    assert_eq!(hops.app.received().len(), 1);
    let fields = [("reason", json!("request_timeout")), ("response_flags", json!("UT"))];
    hops.ledger.records_with(1, &fields).await;
    hops.app.clear();
    let over = hops.call_directly("/transfers", &[("x-palisade-timeout-ms", "0")]).await;
    assert_eq!((over.status.as_u16(), over.header("x-palisade-refused")), (504, Some("before")));
    hops.app.assert_untouched();
}
