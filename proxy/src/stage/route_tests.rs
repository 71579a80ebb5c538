#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Request};
use palisade_identity::SpiffeId;
use palisade_policy::compile::routes::Route;
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::projection::project;
use palisade_policy::{MeshService, PolicySet, ServicePort, Snapshot, Workload};

use super::route::{Forwarding, find, forwarding, own_answer, view};
use crate::error::ProxyError;

/// An edge with these routes, in flow style, on every host.
pub(super) fn routes(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: public, namespace: bank}}\n\
         spec: {{selector: {{app: edge}}, servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: bank}}\n\
         spec: {{hosts: ['*'], gateways: [public], http: [{http}]}}\n"
    )
}

fn snapshot(text: &str) -> Snapshot {
    let (objects, findings) = parse(&[SourceFile { name: "t".into(), text: text.into() }]);
    assert!(!findings.has_errors(), "{findings:?}");
    let (set, _) = PolicySet::new(objects, &[]).unwrap();
    let id = |account: &str| SpiffeId::parse(&format!("spiffe://corp.example/ns/bank/sa/{account}")).unwrap();
    let service = |name: &str| MeshService {
        name: name.into(),
        namespace: "bank".into(),
        ports: vec![ServicePort { number: 8080, name: "http".into(), protocol: Protocol::Http }],
        identities: BTreeSet::from([id(name)]),
        endpoints: Vec::new(),
    };
    let edge = Workload { id: id("edge"), labels: BTreeMap::from([("app".into(), "edge".into())]) };
    Snapshot::compile(1, &project(&set, &[service("accounts"), service("ledger")], &edge)).unwrap()
}

pub(super) fn only_route(text: &str) -> Arc<Route> {
    let snapshot = snapshot(text);
    let server = snapshot.edge().port(80).unwrap().server_for_host("h").unwrap();
    server.routes_for("h").unwrap().routes().next().unwrap().clone()
}

struct Asked {
    head: Parts,
    authority: Authority,
    path: PathAndQuery,
}

fn get(target: &str) -> Asked {
    let (head, ()) = Request::get(target).body(()).unwrap().into_parts();
    Asked { head, authority: Authority::from_static("api.example:80"), path: target.parse().unwrap() }
}

fn forwarded(http: &str, target: &str, roll: u32) -> Result<Option<Forwarding>, ProxyError> {
    let snapshot = snapshot(&routes(http));
    let Asked { head, authority, path } = get(target);
    let view = view(&head, &authority, &path, "http", 80, Some(("bank", "public")));
    let server = snapshot.edge().port(80).unwrap().server_for_host(authority.as_str()).unwrap();
    let route = find(server, &view)?;
    forwarding(&route, &view, &authority, &path, &MeshConfigSpec::default(), |below| roll % below)
}

#[test]
fn the_upstream_gets_the_rewritten_target_and_the_query_as_it_came() {
    let http = "{match: [{uri: {prefix: /api}}], rewrite: {uri: /v1, authority: accounts.internal}, \
                route: [{destination: {host: accounts}}]}";
    let to = forwarded(http, "/api/x?a=/api&b=%2f", 0).unwrap().unwrap();
    assert_eq!((to.path.as_str(), to.authority.as_str()), ("/v1/x?a=/api&b=%2f", "accounts.internal"));
    assert_eq!(&*to.destination.host, "accounts.bank");
    let plain = forwarded("{route: [{destination: {host: accounts}}]}", "/a?b", 0).unwrap().unwrap();
    assert_eq!((plain.path.as_str(), plain.authority.as_str()), ("/a?b", "api.example:80"));
}

#[test]
fn the_dice_choose_by_weight() {
    let http =
        "{route: [{destination: {host: accounts}, weight: 3}, {destination: {host: ledger}, weight: 1}]}";
    let hosts: Vec<String> = (0..4)
        .map(|roll| forwarded(http, "/", roll).unwrap().unwrap().destination.host.to_string())
        .collect();
    assert_eq!(hosts, ["accounts.bank", "accounts.bank", "accounts.bank", "ledger.bank"]);
}

#[test]
fn each_failure_has_its_reason() {
    let to = "route: [{destination: {host: accounts}}]";
    let rows = [
        (format!("{{match: [{{uri: {{exact: /a}}}}], {to}}}"), "/b", "no_route", 404),
        ("{route: [{destination: {host: nowhere}}]}".into(), "/", "route_target_unknown", 503),
        (
            format!("{{match: [{{uri: {{prefix: /f}}}}], rewrite: {{uri: /data/}}, {to}}}"),
            "/f../secret",
            "rewrite_unclean",
            400,
        ),
    ];
    for (http, target, reason, status) in rows {
        let consequence = forwarded(&http, target, 0).unwrap_err().consequence();
        assert_eq!((consequence.reason, consequence.status.as_u16()), (reason, status));
    }
}

#[test]
fn changes_of_route_and_destination_are_both_made() {
    let http = "{headers: {request: {set: {x-a: route}}, response: {remove: [server]}}, \
                route: [{destination: {host: accounts}, headers: {request: {set: {x-b: target}}, response: {set: {x-c: target}}}}]}";
    let to = forwarded(http, "/", 0).unwrap().unwrap();
    let mut request = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("h"))]);
    to.change_request(&mut request);
    assert_eq!(
        (&request["x-a"], &request["x-b"], request.len()),
        (&"route".parse().unwrap(), &"target".parse().unwrap(), 3)
    );
    let mut response = HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("s"))]);
    to.change_response(&mut response);
    assert_eq!((response.len(), &response["x-c"]), (1, &HeaderValue::from_static("target")));
}

#[test]
fn redirects_and_direct_answers_need_no_upstream() {
    let Asked { authority, path, .. } = get("/a?b=1");
    let answer = |http: &str| own_answer(&only_route(&routes(http)), "http", &authority, &path);
    let moved = answer("{redirect: {scheme: https}, headers: {response: {set: {x-a: b}}}}").unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (301, &"https://api.example/a?b=1".parse().unwrap())
    );
    assert_eq!(moved.headers()["x-a"], "b");
    let direct = answer("{directResponse: {status: 503, body: {string: later}}}").unwrap();
    assert_eq!((direct.status().as_u16(), &direct.body()[..]), (503, &b"later"[..]));
    assert_eq!(direct.headers()["content-type"], "text/plain");
    assert!(answer("{route: [{destination: {host: accounts}}]}").is_none());
    assert!(forwarded("{directResponse: {status: 200}}", "/", 0).unwrap().is_none());
}
