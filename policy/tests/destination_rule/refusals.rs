use palisade_policy::Severity;

use crate::policy;
use crate::rule;
use crate::support::{file, findings};

/// Exactly one error, with this code, at this path below `spec`.
#[track_caller]
fn refused(text: &str, code: &str, path: &str) {
    let all = findings(text);
    let errors: Vec<_> = all.0.iter().filter(|f| f.severity == Severity::Error).collect();
    let rendered = all.render(&[file(text)]);
    let [error] = errors.as_slice() else { panic!("{} errors for {text}\n{rendered}", errors.len()) };
    assert_eq!((error.code, error.path.as_str()), (code, format!("spec.{path}").as_str()), "{rendered}");
}

/// Every row below `trafficPolicy`, and again below a port and below a subset.
#[track_caller]
fn refused_everywhere(settings: &str, code: &str, path: &str) {
    refused(&policy(settings), code, &format!("trafficPolicy.{path}"));
    let port = format!(
        "portLevelSettings: [{{port: {{number: 1}}, loadBalancer: {{}}}}, {{port: {{number: 80}}, {settings}}}]"
    );
    refused(&policy(&port), code, &format!("trafficPolicy.portLevelSettings[1].{path}"));
    let subset = format!("subsets: [{{name: v1, trafficPolicy: {{{settings}}}}}]");
    refused(&rule("bank", "r", &subset), code, &format!("subsets[0].trafficPolicy.{path}"));
}

#[test]
fn what_istio_has_and_this_mesh_does_not_is_refused_by_name() {
    for (settings, path) in [
        ("loadBalancer: {simple: PASSTHROUGH}", "loadBalancer.simple"),
        ("loadBalancer: {localityLbSetting: {}}", "loadBalancer.localityLbSetting"),
        ("loadBalancer: {warmupDurationSecs: 60s}", "loadBalancer.warmupDurationSecs"),
        ("loadBalancer: {warmup: {duration: 60s, aggression: 2}}", "loadBalancer.warmup.aggression"),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}}}",
            "loadBalancer.consistentHash.ringHash",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}",
            "loadBalancer.consistentHash.maglev",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 1024}}",
            "loadBalancer.consistentHash.minimumRingSize",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: []}}}",
            "loadBalancer.consistentHash.httpCookie.attributes",
        ),
        ("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}", "connectionPool.http.h2UpgradePolicy"),
        ("connectionPool: {http: {useClientProtocol: true}}", "connectionPool.http.useClientProtocol"),
        ("outlierDetection: {consecutiveErrors: 5}", "outlierDetection.consecutiveErrors"),
    ] {
        refused_everywhere(settings, "PAL0009", path);
    }
    for (settings, path) in [
        ("tunnel: {}", "tunnel"),
        ("proxyProtocol: {}", "proxyProtocol"),
        ("retryBudget: {budgetInterval: 10s}", "retryBudget.budgetInterval"),
        (
            "portLevelSettings: [{port: {number: 80}, loadBalancer: {}, retryBudget: {percent: 20}}]",
            "portLevelSettings[0].retryBudget",
        ),
    ] {
        refused(&policy(settings), "PAL0009", &format!("trafficPolicy.{path}"));
    }
    refused(&rule("bank", "r", "exportTo: ['.']"), "PAL0009", "exportTo");
    refused(&rule("bank", "r", "workloadSelector: {}"), "PAL0009", "workloadSelector");
}

#[test]
fn what_nobody_knows_is_refused_by_name() {
    for (settings, code, path) in [
        ("loadBalancer: {simple: LEAST}", "PAL0011", "loadBalancer.simple"),
        ("loadBalancer: {simples: RANDOM}", "PAL0008", "loadBalancer.simples"),
        ("connectionPool: {maxConnections: 5}", "PAL0008", "connectionPool.maxConnections"),
        ("connectionPool: {tcp: {maxConnections: '5'}}", "PAL0010", "connectionPool.tcp.maxConnections"),
        ("outlierDetection: {consecutive5xx: 5}", "PAL0008", "outlierDetection.consecutive5xx"),
        ("outlierDetection: {interval: 10}", "PAL0010", "outlierDetection.interval"),
    ] {
        refused_everywhere(settings, code, path);
    }
    refused(&rule("bank", "r", "subsets: [{labels: {a: b}}]"), "PAL0012", "subsets[0].name");
    refused(
        &policy("portLevelSettings: [{port: {}, loadBalancer: {}}]"),
        "PAL0012",
        "trafficPolicy.portLevelSettings[0].port.number",
    );
}

#[test]
fn numbers_and_durations_have_ranges() {
    let tcp = |field: &str| format!("connectionPool: {{tcp: {{{field}}}}}");
    let http = |field: &str| format!("connectionPool: {{http: {{{field}}}}}");
    let outliers = |field: &str| format!("outlierDetection: {{{field}}}");
    let rows = [
        (tcp("maxConnections: 0"), "connectionPool.tcp.maxConnections"),
        (tcp("maxConnections: 2147483648"), "connectionPool.tcp.maxConnections"),
        (tcp("maxConnections: 5000000000"), "connectionPool.tcp.maxConnections"),
        (tcp("connectTimeout: 0s"), "connectionPool.tcp.connectTimeout"),
        (tcp("connectTimeout: 2h"), "connectionPool.tcp.connectTimeout"),
        (tcp("idleTimeout: 0s"), "connectionPool.tcp.idleTimeout"),
        (tcp("idleTimeout: 25h"), "connectionPool.tcp.idleTimeout"),
        (tcp("maxConnectionDuration: 0s"), "connectionPool.tcp.maxConnectionDuration"),
        (tcp("maxConnectionDuration: 8761h"), "connectionPool.tcp.maxConnectionDuration"),
        (tcp("tcpKeepalive: {probes: 0}"), "connectionPool.tcp.tcpKeepalive.probes"),
        (tcp("tcpKeepalive: {probes: 128}"), "connectionPool.tcp.tcpKeepalive.probes"),
        (tcp("tcpKeepalive: {time: 10h}"), "connectionPool.tcp.tcpKeepalive.time"),
        (tcp("tcpKeepalive: {interval: 1s500ms}"), "connectionPool.tcp.tcpKeepalive.interval"),
        (http("http1MaxPendingRequests: 0"), "connectionPool.http.http1MaxPendingRequests"),
        (http("http2MaxRequests: 0"), "connectionPool.http.http2MaxRequests"),
        (http("maxRequestsPerConnection: 536870913"), "connectionPool.http.maxRequestsPerConnection"),
        (http("maxRetries: 0"), "connectionPool.http.maxRetries"),
        (http("idleTimeout: 0s"), "connectionPool.http.idleTimeout"),
        (http("maxConcurrentStreams: 0"), "connectionPool.http.maxConcurrentStreams"),
        (outliers("interval: 0s"), "outlierDetection.interval"),
        (outliers("baseEjectionTime: 25h"), "outlierDetection.baseEjectionTime"),
        (outliers("maxEjectionPercent: 0"), "outlierDetection.maxEjectionPercent"),
        (outliers("maxEjectionPercent: 101"), "outlierDetection.maxEjectionPercent"),
        (outliers("minHealthPercent: 101"), "outlierDetection.minHealthPercent"),
        ("loadBalancer: {warmup: {duration: 0s}}".into(), "loadBalancer.warmup.duration"),
        (
            "loadBalancer: {warmup: {duration: 1s, minimumPercent: 0}}".into(),
            "loadBalancer.warmup.minimumPercent",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 500ms}}}".into(),
            "loadBalancer.consistentHash.httpCookie.ttl",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 9601h}}}".into(),
            "loadBalancer.consistentHash.httpCookie.ttl",
        ),
    ];
    for (settings, path) in rows {
        refused_everywhere(&settings, "PAL1303", path);
    }
    for (budget, field) in [
        ("percent: 101", "percent"),
        ("percent: 0.0001", "percent"),
        ("percent: '20'", "percent"),
        ("minRetryConcurrency: 0", "minRetryConcurrency"),
    ] {
        let text = policy(&format!("retryBudget: {{{budget}}}"));
        refused(&text, "PAL1303", &format!("trafficPolicy.retryBudget.{field}"));
    }
}

#[test]
fn a_load_balancer_hashes_one_thing_or_does_not_hash() {
    for (balancer, path) in [
        ("simple: RANDOM, consistentHash: {useSourceIp: true}", ""),
        ("consistentHash: {}", ".consistentHash"),
        ("consistentHash: {useSourceIp: true, httpHeaderName: x}", ".consistentHash"),
        ("consistentHash: {useSourceIp: false}", ".consistentHash.useSourceIp"),
        ("consistentHash: {httpHeaderName: ':authority'}", ".consistentHash.httpHeaderName"),
        ("consistentHash: {httpCookie: {name: 'a;b'}}", ".consistentHash.httpCookie.name"),
        ("consistentHash: {httpCookie: {name: a, path: b}}", ".consistentHash.httpCookie.path"),
        ("consistentHash: {httpCookie: {name: a, path: '/; Domain=x'}}", ".consistentHash.httpCookie.path"),
        ("consistentHash: {useSourceIp: true}, warmup: {duration: 1s}", ".warmup"),
    ] {
        refused_everywhere(
            &format!("loadBalancer: {{{balancer}}}"),
            "PAL1304",
            &format!("loadBalancer{path}"),
        );
    }
}

#[test]
fn what_says_nothing_and_what_nothing_counts_is_refused_as_in_istio() {
    refused_everywhere("connectionPool: {}", "PAL1308", "connectionPool");
    refused(&policy(""), "PAL1308", "trafficPolicy");
    refused(
        &rule("bank", "r", "subsets: [{name: s, trafficPolicy: {}}]"),
        "PAL1308",
        "subsets[0].trafficPolicy",
    );
    let port = policy("portLevelSettings: [{port: {number: 80}}]");
    refused(&port, "PAL1308", "trafficPolicy.portLevelSettings[0]");
    let local = "consecutiveLocalOriginFailures: 3";
    let path = "outlierDetection.consecutiveLocalOriginFailures";
    refused_everywhere(&format!("outlierDetection: {{{local}}}"), "PAL1309", path);
    refused_everywhere(
        &format!("outlierDetection: {{{local}, splitExternalLocalOriginErrors: false}}"),
        "PAL1309",
        path,
    );
    refused(
        &rule("bank", "r", "subsets: [{name: s, labels: {version: 'v*'}}]"),
        "PAL0014",
        "subsets[0].labels.version",
    );
}

#[test]
fn subsets_have_names_of_their_own() {
    for name in ["V1", "a.b", "a|b", "a_b", "-a", "10.0.0.1"] {
        let text = rule("bank", "r", &format!("subsets: [{{name: '{name}'}}]"));
        refused(&text, "PAL1305", "subsets[0].name");
    }
    refused(&rule("bank", "r", "subsets: [{name: a}, {name: b}, {name: a}]"), "PAL1305", "subsets[2].name");
}

#[test]
fn a_port_has_settings_once_and_is_warned_of_where_they_drop_tls() {
    let twice = policy(
        "portLevelSettings: [{port: {number: 80}, loadBalancer: {}}, {port: {number: 80}, loadBalancer: {}}]",
    );
    refused(&twice, "PAL1204", "trafficPolicy.portLevelSettings[1].port");
    let codes = |text: &str| -> Vec<_> {
        let text = rule("bank", "r", text).replace("ledger.bank", "a.example");
        findings(&text).0.iter().map(|f| f.code).filter(|code| *code != "PAL0102").collect()
    };
    let tls = "tls: {mode: SIMPLE}";
    let dropped = format!(
        "trafficPolicy: {{{tls}, portLevelSettings: [{{port: {{number: 80}}, loadBalancer: {{}}}}]}}"
    );
    assert_eq!(codes(&dropped), ["PAL1306"]);
    let kept = format!("trafficPolicy: {{{tls}, portLevelSettings: [{{port: {{number: 80}}, {tls}}}]}}");
    assert!(codes(&kept).is_empty());
}

#[test]
fn the_annotation_about_success_rates_is_on_or_off() {
    let with = |value: &str| {
        let annotation = format!("annotations: {{palisade.mesh/success-rate-ejection: {value}}}, name: r");
        policy("outlierDetection: {}").replace("name: r", &annotation)
    };
    let errors = |text: &str| -> Vec<_> {
        let errors = findings(text).0.into_iter().filter(|f| f.severity == Severity::Error);
        errors.map(|f| f.code).collect()
    };
    assert!(errors(&with("'off'")).is_empty());
    assert!(errors(&with("'on'")).is_empty());
    assert_eq!(errors(&with("'no'")), ["PAL1307"]);
    assert_eq!(errors(&with("'off'").replace("rate-ejection", "rate-ejections")), ["PAL0020"]);
}
