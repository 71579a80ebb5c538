//! ServiceEntry and DestinationRule: where a request goes, and how the server is checked.

#![expect(clippy::panic, reason = "test code")]

mod support;

use std::collections::BTreeSet;

use palisade_policy::compile::{Destination, Target, Transport};
use palisade_policy::kind::destination_rule::TlsMode;
use palisade_policy::kind::service_entry::Protocol;
use palisade_policy::{Decision, Snapshot};
use support::{id, parse_ok, snapshot, workload};

fn entry(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn rule(namespace: &str, host: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: r, namespace: {namespace}}}\nspec: {{host: {host}, trafficPolicy: {{{policy}}}}}\n"
    )
}

const EXTERNAL: &str = "hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}, \
                        {number: 80, name: http, protocol: HTTP}, {number: 5432, name: db, protocol: TCP}]";
const INTERNAL: &str = "hosts: [ledger.bank], location: MESH_INTERNAL, resolution: STATIC, \
                        ports: [{number: 8080, name: http, protocol: HTTP2, targetPort: 15006}], \
                        endpoints: [{address: 10.0.0.1, serviceAccount: ledger}, \
                        {address: '2001:db8::1', serviceAccount: ledger, ports: {http: 9}}]";

fn payments(text: &str) -> Snapshot {
    let (set, _) = parse_ok(text);
    snapshot(&set, &[], &workload("bank", "payments"))
}

#[track_caller]
fn find<'s>(snapshot: &'s Snapshot, authority: &str) -> &'s Destination {
    snapshot.destination(authority, 80).unwrap_or_else(|| panic!("{authority} is unknown"))
}

#[test]
fn outside_the_mesh_the_protocol_says_how_to_connect() {
    let snapshot = payments(&entry("api", "bank", EXTERNAL));
    let Transport::Tls { settings, server_name } = &find(&snapshot, "api.example.com:443").transport else {
        panic!("no TLS")
    };
    assert_eq!((settings.mode, &**server_name), (TlsMode::Simple, "api.example.com"));
    let plain = find(&snapshot, "API.example.com.");
    assert_eq!((plain.port, &plain.transport), (80, &Transport::Plaintext));
    assert_eq!(plain.endpoints, [Target::Name { host: "api.example.com".into(), port: 80, weight: 1 }]);
    assert_eq!(find(&snapshot, "api.example.com:5432").protocol, Protocol::Tcp);
    for unknown in
        ["api.example.com:81", "x.api.example.com", "api", "api.example.com:http", "api.example.com:"]
    {
        assert!(snapshot.destination(unknown, 80).is_none(), "{unknown}");
    }
}

#[test]
fn inside_the_mesh_the_endpoints_say_who_may_answer() {
    let snapshot = payments(&entry("ledger", "bank", INTERNAL));
    for authority in ["ledger:8080", "ledger.bank:8080", "ledger.bank.svc.cluster.local:8080"] {
        let destination = find(&snapshot, authority);
        let Transport::Mesh { identities } = &destination.transport else { panic!("no mesh TLS") };
        assert_eq!(**identities, BTreeSet::from([id("corp.example/ns/bank/sa/ledger")]));
        let addresses: Vec<String> = destination
            .endpoints
            .iter()
            .map(|e| match e {
                Target::Address { address, .. } => address.to_string(),
                Target::Name { .. } => panic!("a name"),
            })
            .collect();
        assert_eq!(addresses, ["10.0.0.1:15006", "[2001:db8::1]:9"]);
        assert!(matches!(snapshot.authorize_outbound(destination), Decision::Allow { .. }));
    }
}

#[test]
fn a_rule_of_the_callers_namespace_wins_over_the_hosts_and_the_roots() {
    let disable = "tls: {mode: DISABLE}";
    let simple = "tls: {mode: SIMPLE, sni: front.example.com}";
    let host = "api.example.com";
    let tls =
        |text: &str| matches!(find(&payments(text), "api.example.com:80").transport, Transport::Tls { .. });
    let entry = entry("api", "shared", EXTERNAL);
    assert!(!tls(&entry));
    assert!(tls(&(entry.clone() + &rule("palisade-system", host, simple))));
    assert!(tls(&(entry.clone() + &rule("shared", host, simple))));
    assert!(!tls(&(entry.clone() + &rule("elsewhere", host, simple))));
    assert!(!tls(&(entry.clone() + &rule("bank", host, disable) + &rule("shared", host, simple))));
    let ports = "portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: p.example.com}}]";
    let snapshot = payments(&(entry + &rule("bank", host, ports)));
    let Transport::Tls { server_name, .. } = &find(&snapshot, "api.example.com:80").transport else {
        panic!("no TLS")
    };
    assert_eq!(&**server_name, "p.example.com");
    assert!(matches!(find(&snapshot, "api.example.com:5432").transport, Transport::Plaintext));
}

#[test]
fn an_entry_that_is_not_exported_stays_in_its_namespace() {
    let private = entry("api", "shared", &format!("{EXTERNAL}, exportTo: ['.']"));
    assert!(payments(&private).destination("api.example.com", 80).is_none());
    let own = entry("api", "bank", &format!("{EXTERNAL}, exportTo: ['.']"));
    assert!(payments(&own).destination("api.example.com", 80).is_some());
}

#[test]
fn an_entry_takes_no_host_away_from_a_registered_service() {
    let (set, _) = parse_ok(&entry("ledger", "bank", INTERNAL));
    let snapshot = snapshot(&set, &[support::service("bank", "ledger")], &workload("bank", "payments"));
    let destination = find(&snapshot, "ledger:8080");
    assert!(
        matches!(&destination.endpoints[..], [Target::Address { instance, .. }] if &**instance == "ledger-1")
    );
}
