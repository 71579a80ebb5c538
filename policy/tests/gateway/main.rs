//! Gateway: what is taken, what is refused, and which server a name leads to.

#[path = "../support/mod.rs"]
mod support;

use palisade_policy::Snapshot;
use support::{findings, parse_ok, snapshot, workload};

fn gateway(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {spec}\n"
    )
}

fn servers(servers: &str) -> String {
    gateway("public", &format!("{{selector: {{app: edge}}, servers: [{servers}]}}"))
}

fn https(port: u16, hosts: &str, tls: &str) -> String {
    format!("{{port: {{number: {port}, name: https, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}}}")
}

fn http(port: u16, hosts: &str) -> String {
    format!("{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: [{hosts}]}}")
}

fn edge(text: &str) -> Snapshot {
    snapshot(&parse_ok(text).0, &[], &workload("bank", "edge"))
}

const SIMPLE: &str = "mode: SIMPLE, credentialName: api";

#[test]
fn the_most_specific_host_wins() {
    let list = [
        https(443, "'*'", SIMPLE),
        https(443, "'*.example'", SIMPLE),
        https(443, "'*.b.example'", SIMPLE),
        https(443, "a.b.example", SIMPLE),
    ];
    let snapshot = edge(&servers(&list.join(",")));
    let port = snapshot.edge().port(443).unwrap();
    assert!(port.tls);
    let rows = [
        ("a.b.example", "3"),
        ("A.B.Example:443", "3"),
        ("a.b.example.", "3"),
        ("c.b.example", "2"),
        ("x.a.b.example", "2"),
        ("b.example", "1"),
        ("example", "0"),
        (".example", "0"),
        ("[::1]:443", "0"),
    ];
    for (host, index) in rows {
        assert_eq!(*port.server_for_host(host).unwrap().id, *format!("bank/public/{index}"), "{host}");
    }
    assert_eq!(&*port.server_for_sni(None).unwrap().id, "bank/public/0");
}

#[test]
fn a_client_that_names_no_host_gets_no_server_of_one_host() {
    let snapshot = edge(&servers(&https(443, "a.example", SIMPLE)));
    let port = snapshot.edge().port(443).unwrap();
    assert!(port.server_for_sni(None).is_none());
    assert!(port.server_for_sni(Some("b.example")).is_none());
    assert!(port.server_for_sni(Some("a.example")).is_some());
    assert!(snapshot.edge().port(80).is_none());
}

#[test]
fn a_gateway_is_for_the_workloads_it_selects_in_its_namespace() {
    let (set, _) = parse_ok(&servers(&http(80, "'*'")));
    assert!(snapshot(&set, &[], &workload("bank", "edge")).edge().port(80).is_some());
    assert!(snapshot(&set, &[], &workload("bank", "ledger")).edge().port(80).is_none());
    assert!(snapshot(&set, &[], &workload("shop", "edge")).edge().port(80).is_none());
}

#[test]
fn what_the_edge_could_not_keep_is_refused() {
    let rows = [
        (gateway("g", "{servers: []}"), "PAL1601"),
        (servers(&https(443, "'*'", "credentialName: api")), "PAL1602"),
        (servers(&https(443, "'*'", "mode: SIMPLE")), "PAL1602"),
        (servers(&https(443, "'*'", "mode: SIMPLE, credentialName: ../x")), "PAL1602"),
        (servers(&https(443, "'*'", "mode: SIMPLE, credentialName: a, privateKey: k")), "PAL1602"),
        (servers(&https(443, "'*'", "mode: MUTUAL, serverCertificate: c, privateKey: k")), "PAL1602"),
        (
            servers(&https(
                443,
                "'*'",
                "mode: SIMPLE, serverCertificate: c, privateKey: k, caCertificates: a",
            )),
            "PAL1602",
        ),
        (servers(&https(443, "'*'", &format!("{SIMPLE}, httpsRedirect: true"))), "PAL1602"),
        (servers(&http(80, "'*', 'x/a.example', './b.example', '*/c.example'")), ""),
        (servers(&https(443, "A.example", SIMPLE)), "PAL1201"),
        (servers(&https(443, "'*a.example'", SIMPLE)), "PAL1201"),
        (servers(&https(443, "'a.example:443'", SIMPLE)), "PAL1201"),
        (servers(&https(443, "'a b/a.example'", SIMPLE)), "PAL1201"),
        (servers(&https(443, "'*'", "mode: PASSTHROUGH, credentialName: a")), "PAL0009"),
        (servers(&https(443, "'*'", "mode: ISTIO_MUTUAL, credentialName: a")), "PAL0009"),
        (servers(&https(443, "'*'", "mode: simple, credentialName: a")), "PAL0011"),
        (servers(&https(443, "'*'", &format!("{SIMPLE}, minProtocolVersion: TLSV1_0"))), "PAL0009"),
        (servers(&https(443, "'*'", &format!("{SIMPLE}, cipherSuites: [X]"))), "PAL0009"),
        (servers(&https(443, "'*'", &format!("{SIMPLE}, httpsRedirect: 'true'"))), "PAL0010"),
        (servers(&http(80, "'*'").replace("HTTP}", "TCP}")), "PAL0009"),
        (
            servers(&http(80, "'*'").replace("hosts: ['*']", "hosts: ['*'], tls: {credentialName: a}")),
            "PAL1602",
        ),
        (servers(&format!("{}, {}", http(80, "a.example"), http(80, "a.example"))), "PAL1603"),
        (servers(&format!("{}, {}", http(80, "a.example"), https(80, "b.example", SIMPLE))), "PAL1603"),
    ];
    for (text, code) in rows {
        let all = findings(&text);
        let codes: Vec<_> = all.0.iter().map(|finding| finding.code).collect();
        if code.is_empty() {
            assert!(codes.is_empty(), "{text}{codes:?}");
        } else {
            assert!(codes.contains(&code), "{text}{codes:?}");
        }
    }
}

#[test]
fn two_gateways_of_one_edge_cannot_share_a_host() {
    let one = |name, selector| {
        gateway(name, &format!("{{selector: {{{selector}}}, servers: [{}]}}", http(80, "a.example")))
    };
    let all = findings(&(one("a", "app: edge") + &one("b", "app: edge")));
    assert_eq!(all.0[0].code, "PAL1603");
    assert!(findings(&(one("a", "app: edge") + &one("b", "app: other"))).0.is_empty());
}

#[test]
fn an_annotation_of_ours_that_nobody_reads_is_an_error_and_foreign_ones_are_not() {
    let annotated = |annotation: &str| {
        servers(&https(443, "a.example", SIMPLE))
            .replace("namespace: bank}", &format!("namespace: bank, annotations: {{{annotation}}}}}"))
    };
    let bad = findings(&annotated("palisade.mesh/strict-transport-securty: max-age=600")).0.remove(0);
    assert_eq!(bad.code, "PAL0020");
    assert!(bad.help.as_ref().unwrap().contains("palisade.mesh/strict-transport-security"));
    let bad = findings(&annotated("palisade.mesh/strict-transport-security: '600'")).0.remove(0);
    assert_eq!(bad.code, "PAL1602");
    assert_eq!(bad.path, "metadata.annotations.palisade.mesh/strict-transport-security");
    for good in ["palisade.mesh/strict-transport-security: max-age=600", "example.com/owner: team-a"] {
        assert!(findings(&annotated(good)).is_empty(), "{good}");
    }
}

#[test]
fn strict_transport_security_reaches_the_edge_that_it_is_for() {
    let text = servers(&https(443, "a.example", SIMPLE)).replace(
        "namespace: bank}",
        "namespace: bank, annotations: {palisade.mesh/strict-transport-security: max-age=600}}",
    );
    let snapshot = edge(&text);
    let server = snapshot.edge().port(443).unwrap().server_for_host("a.example").unwrap();
    assert_eq!(server.hsts.as_ref().unwrap(), "max-age=600");
}
