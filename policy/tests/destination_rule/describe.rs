use std::time::Duration;

use palisade_policy::Snapshot;
use palisade_policy::describe::{Described, DescribedExperiment, OfProxy, describe};
use palisade_policy::projection::project;

use crate::rule;
use crate::support::{parse_ok, service, workload};

const PROXY: OfProxy = OfProxy {
    connect_timeout: Duration::from_secs(5),
    response_timeout: Duration::from_secs(60),
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
    let tls = [
        "mode = SIMPLE",
        "sni = db.example",
        "subjectAltNames = db.example",
        "caCertificates = the system's",
    ];
    assert_eq!(lines(https, "tls"), tls.map(|value| format!("tls.{value} <- default")));
    assert_eq!(lines(db, "tls"), ["tls.mode = DISABLE <- default"]);
    assert!(lines(db, "connectionPool.http").is_empty() && lines(db, "retryBudget").is_empty());
    assert_eq!(lines(db, "connectionPool.tcp.idle"), ["connectionPool.tcp.idleTimeout = 1h <- default"]);
    let keepalive = "connectionPool.tcp.tcpKeepalive = time 1m <- default";
    assert_eq!(lines(db, "connectionPool.tcp.tcpKeepalive"), [keepalive]);
    assert!(described(entry, "other.example").is_empty());
    assert!(described(entry, "db.example:80").is_empty());
}

#[test]
fn every_field_of_a_rule_is_shown_with_what_it_says() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: e, namespace: bank}\nspec: {hosts: [api.example], location: MESH_EXTERNAL, \
                 resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}]}\n";
    let all = "host: api.example, trafficPolicy: {\
        loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 20s, minimumPercent: 30}}, \
        connectionPool: {tcp: {maxConnections: 11, connectTimeout: 12ms, idleTimeout: 13s, maxConnectionDuration: 14m, \
        tcpKeepalive: {probes: 3, time: 15s, interval: 16s}}, http: {http1MaxPendingRequests: 17, \
        http2MaxRequests: 18, maxRequestsPerConnection: 19, maxRetries: 21, idleTimeout: 22s, \
        maxConcurrentStreams: 23}}, \
        outlierDetection: {consecutive5xxErrors: 24, consecutiveGatewayErrors: 25, \
        splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 26, interval: 27s, \
        baseEjectionTime: 28m, maxEjectionPercent: 29, minHealthPercent: 31}, \
        retryBudget: {percent: 32, minRetryConcurrency: 33}, \
        tls: {mode: MUTUAL, sni: front.example, subjectAltNames: [a.example, b.example], \
        caCertificates: /roots.pem, clientCertificate: /us.pem, privateKey: /us.key}}";
    let text = rule("bank", "r", all)
        .replace("name: r,", "name: r, annotations: {palisade.mesh/success-rate-ejection: 'off'},");
    let [found] = &described(&(entry.to_owned() + &text), "api.example")[..] else { panic!("one port") };
    let rows = [
        ("loadBalancer.simple", "ROUND_ROBIN"),
        ("loadBalancer.warmup", "20s, from 30 %"),
        ("connectionPool.tcp.maxConnections", "11"),
        ("connectionPool.tcp.connectTimeout", "12ms"),
        ("connectionPool.tcp.maxConnectionDuration", "14m"),
        ("connectionPool.tcp.tcpKeepalive", "probes 3, time 15s, interval 16s"),
        // Of HTTP it is the one below `http` that counts.
        ("connectionPool.http.idleTimeout", "22s"),
        ("connectionPool.http.http1MaxPendingRequests", "17"),
        ("connectionPool.http.http2MaxRequests", "18"),
        ("connectionPool.http.maxRequestsPerConnection", "19"),
        ("connectionPool.http.maxRetries", "21"),
        ("connectionPool.http.maxConcurrentStreams", "23"),
        ("outlierDetection.consecutive5xxErrors", "24"),
        ("outlierDetection.consecutiveGatewayErrors", "25"),
        ("outlierDetection.splitExternalLocalOriginErrors", "true"),
        ("outlierDetection.consecutiveLocalOriginFailures", "26"),
        ("outlierDetection.interval", "27s"),
        ("outlierDetection.baseEjectionTime", "28m, growing to 28m"),
        ("outlierDetection.maxEjectionPercent", "29"),
        ("outlierDetection.minHealthPercent", "31"),
        ("success-rate ejection", "off"),
        ("retryBudget.percent", "32"),
        ("retryBudget.minRetryConcurrency", "33"),
        ("tls.mode", "MUTUAL"),
        ("tls.sni", "front.example"),
        ("tls.subjectAltNames", "a.example b.example"),
        ("tls.caCertificates", "/roots.pem"),
        ("tls.clientCertificate", "/us.pem"),
        ("tls.privateKey", "/us.key"),
    ];
    let expected = rows.map(|(name, value)| match name {
        "success-rate ejection" => {
            format!("{name} = {value} <- metadata.annotations.palisade.mesh/success-rate-ejection")
        }
        _ => format!("{name} = {value} <- spec.trafficPolicy.{name}"),
    });
    assert_eq!(lines(found, ""), expected);
}

#[test]
fn what_holds_without_routes_and_what_is_repeated_and_injected_is_told() {
    let retry = "---\napiVersion: palisade.mesh/v1\nkind: RetryPolicy\nmetadata: {name: p, namespace: bank}\n\
                 spec: {host: ledger, rules: [{match: [{methods: [POST, PATCH], paths: [/transfers, '/t/*']}], \
                 idempotencyKey: Idempotency-Key}, {match: [{methods: [PUT]}, {paths: [/x]}], idempotent: true}], \
                 duplicates: {window: 5m, maxKeys: 2000, onDuplicate: Refuse}}\n";
    let experiment = "---\napiVersion: palisade.mesh/v1\nkind: FaultExperiment\n\
                      metadata: {name: slow, namespace: bank}\nspec: {callers: ['*'], hosts: [ledger], \
                      startsAt: 2026-11-30T12:00:00Z, duration: 5m, percentage: {value: 12.5}, maxActive: 7, \
                      match: [{methods: [POST]}], fault: {delay: {fixed: 2s}}}\n";
    let text = format!("{retry}{experiment}{}", rule("bank", "r", "subsets: [{name: v1}]"));
    let [port, subset] = &described(&text, "ledger")[..] else { panic!("a port and a subset") };
    let unrouted = port.unrouted.as_ref().unwrap();
    assert_eq!(unrouted.timeout, "60s to the answer's head, gRPC none");
    assert_eq!(
        unrouted.retries,
        "2 on connect-failure,refused-stream, backoff 25ms, growing to 250ms, other endpoints first"
    );
    assert_eq!(subset.unrouted, None);
    let repeats = port.repeats.as_ref().unwrap();
    assert_eq!(
        repeats.rules,
        ["POST|PATCH /transfers|/t/* with Idempotency-Key", "PUT or any /x, idempotent"]
    );
    let watch = repeats.duplicates.as_ref().unwrap();
    assert_eq!((&*watch.window, watch.max_keys, watch.on_duplicate), ("5m", 2000, "Refuse"));
    let [experiment] = &port.experiments[..] else { panic!("one experiment") };
    let DescribedExperiment { requests, fault, percent, max_active, .. } = experiment;
    assert_eq!((&**requests, &**fault, &**percent, *max_active), ("POST", "delay 2s", "12.5", 7));
}
