use std::time::Duration;

use palisade_policy::Snapshot;
use palisade_policy::describe::{Described, OfProxy, describe};
use palisade_policy::projection::project;

use crate::rule;
use crate::support::{parse_ok, service, workload};

const PROXY: OfProxy = OfProxy {
    connect_timeout: Duration::from_secs(5),
    http_idle_timeout: Duration::from_secs(50),
    tcp_idle_timeout: Duration::from_secs(3600),
    concurrent_streams: 100,
    tcp_keepalive: Duration::from_secs(60),
};

fn described(text: &str, host: &str) -> Vec<Described> {
    let (set, _) = parse_ok(text);
    let projection = project(&set, &[service("bank", "ledger")], &workload("bank", "payments"));
    describe(&projection, &Snapshot::compile(1, &projection).unwrap(), host, PROXY)
}

/// `name = value <- where it is written`, of values below `prefix`.
fn lines(found: &Described, prefix: &str) -> Vec<String> {
    let values = found.values.iter().filter(|value| value.name.starts_with(prefix));
    values
        .map(|v| format!("{} = {} <- {}", v.name, v.value, v.from.as_deref().unwrap_or("default")))
        .collect()
}

#[test]
fn every_value_has_its_origin_and_without_a_rule_that_is_the_default() {
    let [found] = &described("", "ledger")[..] else { panic!("one port") };
    assert_eq!(
        (found.port, found.rule.as_deref(), &*found.cluster),
        (8080, None, "outbound|8080||ledger.bank")
    );
    assert!(found.values.iter().all(|value| value.from.is_none()));
    let expected = [
        "connectionPool.tcp.maxConnections = 1024 <- default",
        "connectionPool.tcp.connectTimeout = 5s <- default",
        "connectionPool.tcp.maxConnectionDuration = as long as its certificates are valid <- default",
        "connectionPool.tcp.tcpKeepalive = off <- default",
    ];
    assert_eq!(lines(found, "connectionPool.tcp."), expected);
    assert_eq!(
        lines(found, "connectionPool.http.idle"),
        ["connectionPool.http.idleTimeout = 50s <- default"]
    );
    assert_eq!(lines(found, "outlier"), ["outlierDetection = none <- default"]);
    assert_eq!(lines(found, "tls"), ["tls.mode = ISTIO_MUTUAL <- default"]);
    let names: Vec<_> = found.endpoints.iter().map(|e| (e.name.as_str(), e.weight)).collect();
    assert_eq!(names, [("ledger-1", 1)]);
}

#[test]
fn the_place_of_a_value_is_that_of_the_part_that_counts() {
    let text = rule(
        "bank",
        "r",
        "trafficPolicy: {loadBalancer: {simple: RANDOM}, retryBudget: {percent: 12.5}, tls: {mode: ISTIO_MUTUAL}, \
         outlierDetection: {interval: 90s}, portLevelSettings: [{port: {number: 9}, loadBalancer: {}}, {port: {number: 8080}, \
         connectionPool: {tcp: {idleTimeout: 2m}, http: {maxRetries: 4}}}]}, subsets: [{name: v1, trafficPolicy: \
         {loadBalancer: {consistentHash: {httpCookie: {name: c, path: /, ttl: 2h}}}}}]",
    );
    let found = described(&text, "ledger.bank:8080");
    let [port, subset] = &found[..] else { panic!("{found:?}") };
    assert_eq!(port.rule.as_deref(), Some("bank/r"));
    // The port has settings of its own, so the host's do not count for it.
    assert_eq!(lines(port, "loadBalancer.simple"), ["loadBalancer.simple = LEAST_REQUEST <- default"]);
    assert_eq!(lines(port, "outlier"), ["outlierDetection = none <- default"]);
    assert_eq!(lines(port, "tls"), ["tls.mode = ISTIO_MUTUAL <- default"]);
    let pool = "spec.trafficPolicy.portLevelSettings[1].connectionPool";
    for (name, value) in [("tcp.idleTimeout", "2m"), ("http.maxRetries", "4")] {
        let name = format!("connectionPool.{name}");
        let path = name.replace("connectionPool", pool);
        assert_eq!(lines(port, &name), [format!("{name} = {value} <- {path}")]);
    }
    let budget = "retryBudget.percent = 12.5 <- spec.trafficPolicy.retryBudget.percent";
    assert_eq!(lines(port, "retryBudget.percent"), [budget]);
    assert_eq!(subset.subset.as_deref(), Some("v1"));
    let hash = "loadBalancer.consistentHash = httpCookie c path /, given for 2h <- \
                spec.subsets[0].trafficPolicy.loadBalancer.consistentHash";
    assert_eq!(lines(subset, "loadBalancer.consistentHash"), [hash]);
    assert_eq!(lines(subset, "retryBudget.percent"), [budget]);
}

#[test]
fn ejection_by_success_rate_is_shown_with_the_annotation_that_turns_it_off() {
    let text = rule("bank", "r", "trafficPolicy: {outlierDetection: {baseEjectionTime: 10m}}");
    let on = described(&text, "ledger");
    assert_eq!(
        lines(&on[0], "success-rate"),
        [
            "success-rate ejection = below the mean minus 1.9 standard deviations, of 5 endpoints with 100 requests each \
          <- default"
        ]
    );
    let base = "outlierDetection.baseEjectionTime = 10m, growing to 10m <- \
                spec.trafficPolicy.outlierDetection.baseEjectionTime";
    assert_eq!(lines(&on[0], "outlierDetection.base"), [base]);
    let off = text.replace("name: r,", "name: r, annotations: {palisade.mesh/success-rate-ejection: 'off'},");
    assert_eq!(
        lines(&described(&off, "ledger")[0], "success-rate"),
        ["success-rate ejection = off <- metadata.annotations.palisade.mesh/success-rate-ejection"]
    );
}

#[test]
fn a_port_of_tcp_shows_what_is_for_tcp_and_a_host_that_nobody_told_of_shows_nothing() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: e, namespace: bank}\nspec: {hosts: [db.example], resolution: DNS, ports: \
                 [{number: 5432, name: db, protocol: TCP}, {number: 443, name: https, protocol: HTTPS}]}\n";
    let found = described(entry, "DB.example.");
    let [https, db] = &found[..] else { panic!("{found:?}") };
    assert_eq!((https.port, db.port), (443, 5432));
    assert_eq!(lines(https, "tls"), ["tls.mode = SIMPLE <- default"]);
    assert_eq!(lines(db, "tls"), ["tls.mode = DISABLE <- default"]);
    assert!(lines(db, "connectionPool.http").is_empty() && lines(db, "retryBudget").is_empty());
    assert_eq!(lines(db, "connectionPool.tcp.idle"), ["connectionPool.tcp.idleTimeout = 1h <- default"]);
    let keepalive = "connectionPool.tcp.tcpKeepalive = time 1m <- default";
    assert_eq!(lines(db, "connectionPool.tcp.tcpKeepalive"), [keepalive]);
    assert!(described(entry, "other.example").is_empty());
    assert!(described(entry, "db.example:80").is_empty());
}
