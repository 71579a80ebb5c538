//! Whom an experiment hits: the callers that it names, the requests that it matches, and nobody else.

use palisade_tests::wild::Act;
use palisade_tests::{Sidecar, Upstream, Wild, World, client};
use serde_json::json;

use super::{all, experiment, injected};
use crate::PALISADE;
use crate::kit::{Caller, bank, request};

#[tokio::test]
async fn only_callers_that_are_named_are_hit() {
    let world = World::of_files(PALISADE);
    let app = Upstream::start("bank").await;
    world.policy("bank.yaml", &bank(&[app.address()], "HTTP"));
    world.policy("trial.yaml", &experiment("abort: {httpStatus: 503}", ""));
    // Another workload of the namespace, and one of the same name in another namespace.
    for (workload, expected) in [("payments/web", 503), ("payments/batch", 200), ("shop/web", 200)] {
        let caller: Sidecar = world.file_sidecar(workload).outbound().start().await;
        let answer = client::get(caller.http_proxy(), "http://bank.example/").await;
        assert_eq!(answer.status, expected, "{workload}");
    }
}

#[tokio::test]
async fn only_the_hosts_ports_methods_and_paths_that_are_named_are_hit() {
    let app = Upstream::start("bank").await;
    for (more, hit) in [
        ("match: [{methods: [POST], paths: [/transfers/*]}]\n", [false, true, false]),
        ("match: [{methods: [GET]}, {paths: [/other]}]\n", [true, false, true]),
        ("ports: [80]\n", [true, true, true]),
        ("ports: [8080]\n", [false, false, false]),
    ] {
        let documents = experiment("abort: {httpStatus: 503}", more);
        let caller = Caller::of(&[app.address()], "HTTP", &documents).await;
        let asked = [("GET", "/transfers/1"), ("POST", "/transfers/1?x=/other"), ("POST", "/other")];
        for ((method, target), hit) in asked.into_iter().zip(hit) {
            let sent = client::request(method, &format!("http://bank.example{target}"), "");
            let status = caller.send(sent).await.status.as_u16();
            assert_eq!(status == 503, hit, "{more} {method} {target}");
        }
    }
}

/// One test request in the middle of everybody's traffic.
#[tokio::test]
async fn a_header_opts_in_a_single_request() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents = experiment("abort: {httpStatus: 503}", "match: [{headers: {x-fault-test: abc}}]\n");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    for n in 0..5 {
        assert_eq!(caller.call("POST", &n.to_string(), "").await.status, 200);
    }
    for (value, expected) in [("abc", 503), ("abcd", 200), ("ABC", 200)] {
        let mut sent = request("POST", value, "");
        sent.headers_mut().insert("x-fault-test", value.parse().unwrap());
        assert_eq!(caller.send(sent).await.status, expected, "{value}");
    }
    assert_eq!(injected(&caller.sidecar, "abort").await, 1.0);
    assert_eq!(bank.delivered().len(), 7);
}

#[tokio::test]
async fn a_share_is_a_share() {
    let bank = Wild::http1(|_| Act::Answer(200)).await;
    let documents = experiment("abort: {httpStatus: 503}", "percentage: {value: 50}\n");
    let caller = Caller::of(&[bank.address()], "HTTP", &documents).await;
    let mut aborted = 0;
    for n in 0..200 {
        aborted += usize::from(caller.call("POST", &n.to_string(), "").await.status == 503);
    }
    // 100 are due; the odds against leaving these bounds are beyond one in a million.
    assert!((65..=135).contains(&aborted), "{aborted}");
    assert_eq!(bank.delivered().len(), 200 - aborted);
}

#[tokio::test]
async fn copies_for_mirrors_are_left_alone() {
    let app = Upstream::start("bank").await;
    let route = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank, namespace: payments}
spec:
  hosts: [bank.example]
  http: [{name: all, route: [{destination: {host: bank.example}}], mirror: {host: bank.example}}]
";
    let documents = all(&[&experiment("reset: {}", ""), route]);
    let caller = Caller::of(&[app.address()], "HTTP", &documents).await;
    assert_eq!(caller.call("POST", "1", "pay").await.status, 502);
    let fields = [("response_code", json!(200))];
    let copy = &caller.sidecar.records_with(1, &fields).await[0];
    assert!(copy.get("mirror_of").is_some() && copy.get("fault").is_none(), "{copy}");
    assert_eq!(app.received().len(), 1, "the copy");
}
