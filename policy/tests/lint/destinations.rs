//! Traffic policies that leave nobody to call, or that change nothing.

use palisade_policy::Severity;

use super::{document, severity, table};

fn rule(spec: &str) -> String {
    document("networking.istio.io/v1", "DestinationRule", "d", &format!("{{host: api.example, {spec}}}"))
}

fn policy(text: &str) -> String {
    rule(&format!("trafficPolicy: {{{text}}}"))
}

/// One HTTP port, 80; in flow style what follows.
fn entry(more: &str) -> String {
    let ports =
        if more.contains("ports:") { "" } else { "ports: [{number: 80, name: http, protocol: HTTP}], " };
    let spec = format!("{{hosts: [api.example], resolution: STATIC, {ports}{more}}}");
    document("networking.istio.io/v1", "ServiceEntry", "e", &spec)
}

const TWO: &str =
    "endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]";

#[test]
fn an_ejection_that_may_leave_nobody_is_reported() {
    let at: &[&str] = &["spec.trafficPolicy.outlierDetection.maxEjectionPercent"];
    let outliers = |text: &str| policy(&format!("outlierDetection: {{{text}}}"));
    let rows = [
        (outliers("maxEjectionPercent: 100"), at),
        (outliers("maxEjectionPercent: 100, minHealthPercent: 0"), at),
        (outliers("maxEjectionPercent: 100, minHealthPercent: 30"), &[]),
        (outliers("maxEjectionPercent: 99"), &[]),
        (
            rule(
                "subsets: [{name: s, trafficPolicy: {portLevelSettings: [{port: {number: 80}, \
                  outlierDetection: {maxEjectionPercent: 100}}]}}]",
            ),
            &["spec.subsets[0].trafficPolicy.portLevelSettings[0].outlierDetection.maxEjectionPercent"],
        ),
    ];
    table("PAL3211", &rows);
    assert_eq!(severity(&rows[0].0, "PAL3211"), Severity::Warning);
}

#[test]
fn the_only_endpoint_of_a_host_may_be_left_out_and_that_is_said() {
    let at: &[&str] = &["spec.trafficPolicy.outlierDetection"];
    let with =
        |endpoints: &str| policy("outlierDetection: {}") + &entry(&format!("endpoints: [{endpoints}]"));
    let one = "{address: 10.0.0.1}";
    let rows = [
        (with(one), at),
        (with(&format!("{one}, {{address: 10.0.0.2, weight: 0}}")), at),
        (with(&format!("{one}, {{address: 10.0.0.2}}")), &[]),
        (with("{address: many.example}").replace("STATIC", "DNS"), &[]),
        (policy("connectionPool: {tcp: {}}") + &entry(&format!("endpoints: [{one}]")), &[]),
        // How many instances have joined is not in documents.
        (policy("outlierDetection: {}"), &[]),
    ];
    table("PAL3212", &rows);
    assert_eq!(severity(&rows[0].0, "PAL3212"), Severity::Note);
}

#[test]
fn a_subset_that_no_route_names_is_reported() {
    let bare: &[&str] = &["spec.subsets[0]"];
    let with_policy: &[&str] = &["spec.subsets[0].trafficPolicy"];
    let policy = "subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]";
    let route = |destination: &str| {
        let spec =
            format!("{{hosts: [api.example], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}");
        document("networking.istio.io/v1", "VirtualService", "v", &spec)
    };
    let mirror = "{hosts: [api.example], http: [{route: [{destination: {host: api.example}}], \
                  mirrors: [{destination: {host: api.example, subset: v1}}]}]}";
    let rows = [
        (rule("subsets: [{name: v1}]"), bare),
        (rule(policy), with_policy),
        (rule(policy) + &route("host: api.example"), with_policy),
        (rule(policy) + &route("host: api.example, subset: v2"), with_policy),
        (rule(policy) + &route("host: other.example, subset: v1"), with_policy),
        (rule(policy) + &route("host: api.example, subset: v1"), &[]),
        (rule(policy) + &document("networking.istio.io/v1", "VirtualService", "v", mirror), &[]),
        (
            rule(policy).replace("host: api.example", "host: ledger")
                + &route("host: ledger.bank, subset: v1"),
            &[],
        ),
    ];
    table("PAL3213", &rows);
    assert_eq!(severity(&rows[0].0, "PAL3213"), Severity::Note);
    assert_eq!(severity(&rows[1].0, "PAL3213"), Severity::Warning);
}

#[test]
fn a_subset_without_endpoints_is_reported_where_they_are_all_known() {
    let subsets =
        "subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}, {name: all}]";
    let rows = [
        (rule(subsets) + &entry(TWO), &["spec.subsets[1].labels"][..]),
        (rule(subsets), &[]),
        (rule(&subsets.replace("v3}", "v2}")) + &entry(TWO), &[]),
        (
            rule(&subsets.replace("v3}", "v2}")) + &entry(&TWO.replace("v2}}", "v2}, weight: 0}")),
            &["spec.subsets[1].labels"],
        ),
    ];
    table("PAL3214", &rows);
}

#[test]
fn a_setting_that_changes_nothing_is_reported() {
    let outliers = |text: &str| policy(&format!("outlierDetection: {{{text}}}"));
    let tcp = || entry(&format!("ports: [{{number: 5432, name: db, protocol: TCP}}], {TWO}"));
    let gateway: &[&str] = &["spec.trafficPolicy.outlierDetection.consecutiveGatewayErrors"];
    let port = |number: u16| {
        policy(&format!("portLevelSettings: [{{port: {{number: {number}}}, loadBalancer: {{}}}}]"))
    };
    let rows = [
        (outliers("consecutiveGatewayErrors: 5"), gateway),
        (outliers("consecutiveGatewayErrors: 3, consecutive5xxErrors: 2"), gateway),
        (outliers("consecutiveGatewayErrors: 4"), &[]),
        (outliers("consecutiveGatewayErrors: 9, consecutive5xxErrors: 0"), &[]),
        (port(81) + &entry(TWO), &["spec.trafficPolicy.portLevelSettings[0].port"]),
        (port(80) + &entry(TWO), &[]),
        (port(81), &[]),
        (
            policy("connectionPool: {http: {maxRetries: 1}}") + &tcp(),
            &["spec.trafficPolicy.connectionPool.http"],
        ),
        (policy("connectionPool: {tcp: {maxConnections: 1}}") + &tcp(), &[]),
        (policy("connectionPool: {http: {maxRetries: 1}}") + &entry(TWO), &[]),
        (
            policy("loadBalancer: {consistentHash: {httpHeaderName: x}}") + &tcp(),
            &["spec.trafficPolicy.loadBalancer.consistentHash"],
        ),
        (policy("loadBalancer: {consistentHash: {useSourceIp: true}}") + &tcp(), &[]),
    ];
    table("PAL3215", &rows);
}

#[test]
fn a_rule_before_another_whose_tls_it_hides_is_reported() {
    let at: &[&str] = &["spec.trafficPolicy"];
    let root =
        |tls: &str| policy(tls).replace("name: d, namespace: bank", "name: r, namespace: palisade-system");
    let simple = "tls: {mode: SIMPLE}";
    let rows = [
        (policy("connectionPool: {tcp: {}}") + &root(simple) + &entry(TWO), at),
        (policy("tls: {mode: DISABLE}") + &root(simple) + &entry(TWO), &[]),
        (policy("connectionPool: {tcp: {}}") + &root("tls: {mode: DISABLE}") + &entry(TWO), &[]),
        (
            policy("connectionPool: {tcp: {}}")
                + &root(simple)
                + &entry(TWO).replace("protocol: HTTP", "protocol: HTTPS"),
            &[],
        ),
        (policy(simple) + &root("connectionPool: {tcp: {}}") + &entry(TWO), &[]),
        (policy("connectionPool: {tcp: {}}") + &root(simple), &[]),
        // The host's own rule is the nearer one for callers of the host's namespace, and there it counts.
        (
            policy("connectionPool: {tcp: {}}").replace("namespace: bank", "namespace: shop")
                + &policy(simple)
                + &entry(TWO),
            at,
        ),
    ];
    table("PAL3216", &rows);
    assert_eq!(severity(&rows[0].0, "PAL3216"), Severity::Warning);
}
