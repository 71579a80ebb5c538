//! The routes of a sidecar, as they are described to operators.

use std::time::Duration;

use palisade_policy::Snapshot;
use palisade_policy::describe::{DescribedRoutes, OfProxy, describe};
use palisade_policy::projection::project;

use super::support::{parse_ok, service, workload};
use super::virtual_service;

fn described(documents: &str) -> Vec<Option<DescribedRoutes>> {
    let proxy = OfProxy {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(60),
        http_idle_timeout: Duration::from_secs(50),
        tcp_idle_timeout: Duration::from_secs(3600),
        concurrent_streams: 100,
        tcp_keepalive: Duration::from_secs(60),
    };
    let (set, _) = parse_ok(documents);
    let services = [service("bank", "ledger"), service("bank", "accounts")];
    let projection = project(&set, &services, &workload("bank", "payments"));
    let snapshot = Snapshot::compile(1, &projection).unwrap();
    describe(&projection, &snapshot, "ledger", proxy).into_iter().map(|found| found.routes).collect()
}

#[test]
fn routes_are_told_with_shares_timeouts_retries_and_faults() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: r, namespace: bank}\nspec: {host: ledger, subsets: [{name: v1}]}\n";
    let http = "[{name: beta, match: [{headers: {x-beta: {}}}], timeout: 2s, \
        retries: {attempts: 3, perTryTimeout: 500ms, retryOn: 'reset,503,resource-exhausted', backoff: 40ms, \
        retryIgnorePreviousHosts: false}, mirrors: [{destination: {host: accounts}, percentage: {value: 12.5}}, \
        {destination: {host: nowhere}}], \
        route: [{destination: {host: ledger, subset: v1}, weight: 1}, {destination: {host: nowhere}, weight: 2}]}, \
        {match: [{sourceNamespace: shop}], directResponse: {status: 200}}, \
        {match: [{uri: {prefix: /old}}], redirect: {uri: /new}}, \
        {retries: {attempts: 0}, fault: {delay: {percentage: {value: 12.5}, fixedDelay: 1500ms}, \
        abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}}, route: [{destination: {host: accounts}}]}]";
    let routes = virtual_service("bank", "v", &format!("{{hosts: [ledger], http: {http}}}"));
    let [port, subset] = &described(&format!("{rule}{routes}"))[..] else { panic!("a port and a subset") };
    assert_eq!(*subset, None);
    let found = port.as_ref().unwrap();
    assert_eq!(found.service, "bank/v");
    let rows: Vec<_> = found
        .routes
        .iter()
        .map(|r| {
            let (timeout, fault) = (r.timeout.as_deref(), r.fault.as_deref());
            let (retries, mirrors) = (r.retries.as_deref(), r.mirrors.join("; "));
            (r.name.as_str(), r.takes_all, r.to.join("; "), timeout, retries, fault, mirrors)
        })
        .collect();

    let expected = [
        (
            "beta",
            false,
            "outbound|8080|v1|ledger.bank 33.3333%; nowhere, which the caller was not told of 66.6666%"
                .to_owned(),
            Some("2s"),
            Some(
                "3 on reset,503,resource-exhausted, 500ms each, backoff 40ms, growing to 400ms, any endpoint",
            ),
            None,
            "outbound|8080||accounts.bank 12.5%; nowhere, which the caller was not told of".to_owned(),
        ),
        ("2", false, "redirect, 301".to_owned(), None, None, None, String::new()),
        (
            "3",
            true,
            "outbound|8080||accounts.bank".to_owned(),
            Some("60s to the answer's head, gRPC none"),
            Some("none"),
            Some("delay 1.5s for 12.5%, abort UNAVAILABLE for 100%"),
            String::new(),
        ),
    ];
    assert_eq!(rows, expected);
    assert_eq!(described(""), [None]);
}
