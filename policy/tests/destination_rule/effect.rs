use std::time::Duration;

use palisade_policy::traffic::{Balance, HashKey, Keepalive, PoolBounds, RetryBudget, Traffic, Warmup};

use crate::support::{parse_ok, service, snapshot, workload};
use crate::{find, payments, policy, rule, traffic};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_not_said_is_bounded_all_the_same() {
    assert_eq!(traffic(""), Traffic::default());
    assert_eq!(
        traffic(&policy("loadBalancer: {}, connectionPool: {tcp: {}}, retryBudget: {}")),
        Traffic::default()
    );
}

#[test]
fn every_way_to_choose_an_endpoint_is_understood() {
    let header = |name: &'static str| Balance::ConsistentHash(HashKey::Header(name.parse().unwrap()));
    let cookie = |path: Option<&str>, ttl| {
        Balance::ConsistentHash(HashKey::Cookie { name: "user".into(), path: path.map(Into::into), ttl })
    };
    for (balancer, balance) in [
        ("simple: LEAST_REQUEST", Balance::LeastRequest),
        ("simple: LEAST_CONN", Balance::LeastRequest),
        ("simple: ROUND_ROBIN", Balance::RoundRobin),
        ("simple: RANDOM", Balance::Random),
        ("consistentHash: {httpHeaderName: X-User}", header("x-user")),
        ("consistentHash: {httpCookie: {name: user}}", cookie(None, None)),
        (
            "consistentHash: {httpCookie: {name: user, path: /a, ttl: 0s}}",
            cookie(Some("/a"), Some(seconds(0))),
        ),
        ("consistentHash: {useSourceIp: true}", Balance::ConsistentHash(HashKey::SourceIp)),
        (
            "consistentHash: {httpQueryParameterName: account}",
            Balance::ConsistentHash(HashKey::QueryParameter("account".into())),
        ),
    ] {
        assert_eq!(traffic(&policy(&format!("loadBalancer: {{{balancer}}}"))).balance, balance, "{balancer}");
    }
    let warmup =
        |text: &str| traffic(&policy(&format!("loadBalancer: {{warmup: {{{text}}}}}"))).warmup.unwrap();
    assert_eq!(warmup("duration: 60s"), Warmup { duration: seconds(60), minimum_percent: 10 });
    assert_eq!(warmup("duration: 1m, minimumPercent: 25").minimum_percent, 25);
}

#[test]
fn every_bound_of_a_pool_is_understood() {
    let pool = traffic(&policy(
        "connectionPool: {tcp: {maxConnections: 7, connectTimeout: 2s, idleTimeout: 3s, maxConnectionDuration: 4m, \
         tcpKeepalive: {probes: 5, time: 6s, interval: 7s}}, http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, \
         maxRequestsPerConnection: 10, maxRetries: 11, idleTimeout: 12s, maxConcurrentStreams: 13}}",
    ))
    .pool;
    let expected = PoolBounds {
        max_connections: 7,
        max_pending: 8,
        max_requests: 9,
        max_retries: Some(11),
        max_requests_per_connection: Some(10),
        max_concurrent_streams: Some(13),
        connect_timeout: Some(seconds(2)),
        idle_timeout: Some(seconds(12)),
        max_connection_duration: Some(seconds(240)),
        keepalive: Some(Keepalive { probes: Some(5), time: Some(seconds(6)), interval: Some(seconds(7)) }),
    };
    assert_eq!(pool, expected);
    let zero = "connectionPool: {http: {maxRequestsPerConnection: 0}}";
    assert_eq!(traffic(&policy(zero)).pool, PoolBounds::default());
}

#[test]
fn bounds_of_tcp_are_for_http_where_http_has_none_and_never_the_other_way() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: e, namespace: bank}\nspec: {hosts: [a.example], resolution: DNS, \
                 ports: [{number: 80, name: http, protocol: HTTP}, {number: 5432, name: db, protocol: TCP}]}\n";
    let idle = |pool: &str, port: u16| {
        let rule =
            rule("bank", "r", &format!("host: a.example, trafficPolicy: {{connectionPool: {{{pool}}}}}"));
        find(&payments(&(entry.to_owned() + &rule)), &format!("a.example:{port}")).traffic.pool.idle_timeout
    };
    let both = "tcp: {idleTimeout: 1s}, http: {idleTimeout: 2s}";
    assert_eq!((idle(both, 80), idle(both, 5432)), (Some(seconds(2)), Some(seconds(1))));
    assert_eq!(idle("tcp: {idleTimeout: 1s}", 80), Some(seconds(1)));
    assert_eq!(idle("http: {idleTimeout: 2s}", 5432), None);
    let rule = rule(
        "bank",
        "r",
        "host: a.example, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}, http: {http2MaxRequests: 9}}}",
    );
    let snapshot = payments(&(entry.to_owned() + &rule));
    let bounds = |port| {
        let pool = &find(&snapshot, &format!("a.example:{port}")).traffic.pool;
        (pool.max_connections, pool.max_requests)
    };
    assert_eq!((bounds(80), bounds(5432)), ((3, 9), (3, 3)));
}

#[test]
fn outliers_are_looked_for_only_when_asked_and_by_success_rate_unless_said() {
    assert_eq!(traffic(&policy("connectionPool: {tcp: {}}")).outliers, None);
    let found = traffic(&policy("outlierDetection: {}")).outliers.unwrap();
    assert_eq!(found, Default::default());
    assert!(found.success_rate.is_some());
    let text = policy(
        "outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
         consecutiveGatewayErrors: 3, consecutive5xxErrors: 0, interval: 1s, baseEjectionTime: 10m, \
         maxEjectionPercent: 50, minHealthPercent: 40}",
    );
    let annotated = "name: r, annotations: {palisade.mesh/success-rate-ejection: 'off'}";
    let found = traffic(&text.replace("name: r", annotated)).outliers.unwrap();
    assert_eq!(
        (found.split_local, found.consecutive_local, found.consecutive_gateway, found.consecutive_5xx),
        (true, 2, 3, 0)
    );
    assert_eq!(
        (found.interval, found.base_ejection, found.max_ejection),
        (seconds(1), seconds(600), seconds(600))
    );
    assert_eq!((found.max_ejection_percent, found.min_health_percent), (50, 40));
    assert_eq!(found.success_rate, None);
}

#[test]
fn a_retry_budget_is_kept_to_a_thousandth_of_a_percent() {
    for (budget, millipercent, min_concurrency) in [
        ("percent: 12.5", 12_500, 3),
        ("percent: 0.001, minRetryConcurrency: 9", 1, 9),
        ("percent: 0", 0, 3),
        ("minRetryConcurrency: 1, budgetInterval: 0s", 20_000, 1),
    ] {
        let found = traffic(&policy(&format!("retryBudget: {{{budget}}}"))).retry_budget;
        assert_eq!(found, RetryBudget { millipercent, min_concurrency }, "{budget}");
    }
}

#[test]
fn settings_of_a_port_stand_in_for_all_others_but_the_budget_is_of_all_ports() {
    let port = |number: u16, more: &str| {
        traffic(&policy(&format!(
            "loadBalancer: {{simple: RANDOM}}, outlierDetection: {{}}, retryBudget: {{percent: 5}}, \
             portLevelSettings: [{{port: {{number: {number}}}, {more}}}]"
        )))
    };
    let own = port(8080, "connectionPool: {http: {http2MaxRequests: 5}}");
    assert_eq!((own.balance, own.outliers, own.pool.max_requests), (Balance::LeastRequest, None, 5));
    assert_eq!(own.retry_budget.millipercent, 5000);
    let other = port(9090, "connectionPool: {http: {http2MaxRequests: 5}}");
    assert_eq!((other.balance, other.pool.max_requests), (Balance::Random, 1024));
}

/// Of the caller's namespace, else of the host's, else of the root: one rule, as a whole.
#[test]
fn one_rule_counts_and_what_it_does_not_say_no_other_says() {
    let seen_by = |caller: &str, text: &str| {
        let (set, _) = parse_ok(text);
        let snapshot = snapshot(&set, &[service("bank", "ledger")], &workload(caller, "web"));
        let pool = find(&snapshot, "ledger.bank").traffic.pool.clone();
        (pool.max_requests, pool.max_connections)
    };
    let requests = |n: u32| format!("trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {n}}}}}}}");
    let root = rule("palisade-system", "r", &requests(1));
    let hosts = rule("bank", "r", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}}}");
    let callers = rule("shop", "r", &requests(3));
    let strangers = rule("elsewhere", "r", &requests(4));
    assert_eq!(seen_by("shop", &strangers), (1024, 1024));
    assert_eq!(seen_by("shop", &root), (1, 1024));
    assert_eq!(seen_by("shop", &(root.clone() + &hosts)), (1024, 2));
    assert_eq!(seen_by("shop", &(root.clone() + &hosts + &callers)), (3, 1024));
    assert_eq!(seen_by("bank", &(root + &hosts + &callers)), (1024, 2));
}

#[test]
fn a_rule_is_for_its_host_under_all_of_its_names() {
    for host in ["ledger", "ledger.bank", "ledger.bank.svc", "ledger.bank.svc.cluster.local"] {
        let text =
            rule("bank", "r", &format!("host: {host}, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}"));
        assert_eq!(traffic(&text).balance, Balance::Random, "{host}");
    }
    let short = rule("shop", "r", "host: ledger, trafficPolicy: {loadBalancer: {simple: RANDOM}}");
    assert_eq!(traffic(&short).balance, Balance::LeastRequest);
}
