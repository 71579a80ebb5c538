//! Which server of which Gateway serves which routes.

use super::support::{findings, parse_ok, service, snapshot, workload};
use super::{GATEWAY, edge, forward, get, virtual_service};

const TO: &str = "http: [{route: [{destination: {host: accounts}}]}]";

fn gateway(name: &str, hosts: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{selector: {{app: edge}}, servers: [{{port: {{number: 443, name: http, protocol: HTTP}}, hosts: [{hosts}]}}]}}\n"
    )
}

fn codes(text: &str) -> Vec<&'static str> {
    findings(text).0.iter().map(|finding| finding.code).collect()
}

#[test]
fn the_closest_host_wins_and_only_hosts_of_the_gateway_are_served() {
    let text = gateway("public", "'*.bank.example', shop.example")
        + &virtual_service(
            "bank",
            "api",
            &format!("{{hosts: [api.bank.example], gateways: [public], {TO}}}"),
        )
        + &virtual_service(
            "bank",
            "wide",
            &format!("{{hosts: ['*.bank.example'], gateways: [bank/public], {TO}}}"),
        )
        + &virtual_service("bank", "any", &format!("{{hosts: ['*'], gateways: [public], {TO}}}"));
    let snapshot = edge(&text);
    let rows = [
        ("api.bank.example", Some("bank/api/0")),
        ("API.bank.example.:443", Some("bank/api/0")),
        ("x.bank.example", Some("bank/wide/0")),
        ("shop.example", Some("bank/any/0")),
        ("other.example", None),
    ];
    for (authority, id) in rows {
        let route = get("/").authority(authority).route(&snapshot);
        assert_eq!(route.as_ref().map(|r| &*r.id), id, "{authority}");
    }
}

#[test]
fn routes_are_for_the_gateways_that_they_name() {
    let text = gateway("public", "a.example")
        + &gateway("partner", "b.example")
        + &virtual_service("bank", "v", &format!("{{hosts: ['*'], gateways: [partner], {TO}}}"));
    let snapshot = edge(&text);
    assert!(get("/").authority("b.example").route(&snapshot).is_some());
    assert!(get("/").authority("a.example").route(&snapshot).is_none());
}

#[test]
fn only_the_edge_is_told_of_its_routes() {
    let text = GATEWAY.to_owned()
        + &virtual_service("bank", "v", &format!("{{hosts: ['*'], gateways: [public], {TO}}}"));
    let (set, _) = parse_ok(&text);
    let told = |account| {
        palisade_policy::projection::project(&set, &[], &workload("bank", account)).virtual_services.len()
    };
    assert_eq!((told("edge"), told("ledger")), (1, 0));
}

#[test]
fn a_short_name_is_one_of_the_namespace_of_the_routes_not_of_the_edge() {
    let text = gateway("public", "'*'")
        + &virtual_service("shop", "v", &format!("{{hosts: ['*'], gateways: [bank/public], {TO}}}"));
    let services = [service("bank", "accounts"), service("shop", "accounts")];
    let snapshot = snapshot(&parse_ok(&text).0, &services, &workload("bank", "edge"));
    let route = get("/").route(&snapshot).unwrap();
    let target = forward(&route).choose(0).unwrap();
    assert_eq!(&*target.destination.as_ref().unwrap().host, "accounts.shop");
    let elsewhere = service("bank", "accounts");
    let snapshot = super::support::snapshot(&parse_ok(&text).0, &[elsewhere], &workload("bank", "edge"));
    let route = get("/").route(&snapshot).unwrap();
    assert!(
        forward(&route).choose(0).unwrap().destination.is_none(),
        "another namespace's service was taken"
    );
}

/// ISTIO-SECURITY-2026-002: a namespace took the requests for a host of another.
#[test]
fn a_host_that_the_gateway_gives_to_one_namespace_is_no_other_ones() {
    let text = |namespace: &str| {
        gateway("public", "bank/api.bank.example")
            + &virtual_service(
                namespace,
                "v",
                &format!("{{hosts: [api.bank.example], gateways: [bank/public], {TO}}}"),
            )
    };
    assert!(codes(&text("bank")).is_empty());
    assert_eq!(codes(&text("shop")), ["PAL1704"]);
}

#[test]
fn two_objects_cannot_have_one_host_of_one_gateway() {
    let one = |namespace: &str, name: &str, host: &str, gateway: &str| {
        virtual_service(namespace, name, &format!("{{hosts: ['{host}'], gateways: [bank/{gateway}], {TO}}}"))
    };
    let gateways = gateway("public", "'*'") + &gateway("partner", "'*.p'");
    let both = |second: String| codes(&(gateways.clone() + &one("bank", "a", "h.p", "public") + &second));
    assert_eq!(both(one("bank", "b", "h.p", "public")), ["PAL0103"]);
    assert_eq!(both(one("shop", "a", "h.p", "public")), ["PAL0103"]);
    assert!(both(one("bank", "b", "h.p", "partner")).is_empty());
    assert!(both(one("bank", "b", "*.p", "public")).is_empty());
}

#[test]
fn what_leads_nowhere_yet_is_warned_about() {
    let routes = |hosts: &str, gateways: &str| {
        virtual_service("bank", "v", &format!("{{hosts: [{hosts}], gateways: [{gateways}], {TO}}}"))
    };
    let text = gateway("public", "api.bank.example") + &routes("api.bank.example", "pubilc");
    let all = findings(&text);
    assert_eq!((all.0[0].code, all.has_errors()), ("PAL1702", false));
    assert_eq!(all.0[0].help.as_deref(), Some("did you mean \"bank/public\"?"));
    let text = gateway("public", "api.bank.example") + &routes("www.bank.example", "public");
    let all = findings(&text);
    assert_eq!((all.0[0].code, all.has_errors()), ("PAL1703", false));
}
