//! Which headers the policies of a workload go by, and what is removed of their like.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use http::{HeaderMap, HeaderName, HeaderValue};
use palisade_policy::Snapshot;
use support::{parse_ok, snapshot, workload};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: bank}
spec: {action: DENY, rules: [{when: [{key: 'request.headers[X-Role]', values: [admin]}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: b, namespace: bank}
spec: {action: AUDIT, rules: [{when: [{key: 'request.headers[x_odd-name]', notValues: [a]}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: a, namespace: bank}
spec:
  jwtRules:
  - issuer: https://auth.example
    jwksUri: https://auth.example/k
    fromHeaders: [{name: X-Token}]
    outputPayloadToHeader: X-Payload
    outputClaimToHeaders: [{header: x-user, claim: sub}]
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: a, namespace: bank}
spec: {limits: [{name: a, key: [{header: X-Tenant}], limit: 1, window: 60s}]}
---
apiVersion: palisade.mesh/v1
kind: RateLimitPolicy
metadata: {name: of-others, namespace: bank}
spec: {selector: {matchLabels: {app: other}}, limits: [{name: a, key: [{header: x-elsewhere}], limit: 1, window: 60s}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: bank}
spec: {selector: {app: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: bank}
spec:
  hosts: ['*']
  gateways: [public]
  http:
  - match: [{headers: {x-version: {exact: v2}}, withoutHeaders: {x-old-client: {}}}]
    headers: {request: {set: {x-tier-set: a}, add: {x-tier-add: a}, remove: [X-Removed]}, response: {remove: [x-answer]}}
    route: [{destination: {host: ledger.bank}, headers: {request: {set: {x-of-target: a}}}}]
";

const OF_ALL: [&str; 6] = ["x-role", "x_odd-name", "x-token", "x-payload", "x-user", "x-tenant"];
const OF_ROUTES: [&str; 6] =
    ["x-version", "x-old-client", "x-tier-set", "x-tier-add", "x-removed", "x-of-target"];
const OF_NOBODY: [&str; 5] = ["x-elsewhere", "x-answer", "x-roles", "x_plain", "accept"];

fn map(names: impl IntoIterator<Item = String>) -> HeaderMap {
    let one =
        |name: String| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
    names.into_iter().map(one).collect()
}

fn left(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn sorted<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names
}

#[test]
fn every_header_that_a_policy_of_the_workload_names_is_guarded_and_no_other() {
    let set = parse_ok(POLICIES).0;
    for (name, judged) in [("edge", [&OF_ALL[..], &OF_ROUTES].concat()), ("ledger", OF_ALL.to_vec())] {
        let snapshot = snapshot(&set, &[support::service("bank", "ledger")], &workload("bank", name));
        let guarded = snapshot.judged_headers();
        let own = || judged.iter().copied().chain(OF_NOBODY).map(str::to_owned);
        let respelled =
            || judged.iter().flat_map(|name| [name.replace('-', "_"), name.replacen('-', "_", 1)]);
        let odd = "x-odd_name".to_owned();

        let mut headers = map(own().chain(respelled()).chain([odd.clone()]));
        guarded.strip_respelled(&mut headers);
        assert_eq!(left(&headers), sorted(judged.iter().copied().chain(OF_NOBODY)), "{name}");

        let mut trailers = map(own().chain(respelled()).chain([odd]));
        guarded.strip_trailers(&mut trailers);
        assert_eq!(left(&trailers), sorted(OF_NOBODY), "{name}");
    }
}

#[test]
fn where_no_policy_goes_by_a_header_nothing_is_removed() {
    let snapshot = snapshot(&parse_ok("").0, &[], &workload("bank", "ledger"));
    let mut headers = map(["x_role".to_owned(), "x-role".to_owned()]);
    snapshot.judged_headers().strip_respelled(&mut headers);
    snapshot.judged_headers().strip_trailers(&mut headers);
    assert_eq!(headers.len(), 2);
    assert!(snapshot.judged_headers().is_empty());
}

#[test]
fn what_rules_and_routes_ask_for_is_kept_of_a_request_and_nothing_else() {
    let set = parse_ok(POLICIES).0;
    let ledger = [support::service("bank", "ledger")];
    let edge = snapshot(&set, &ledger, &workload("bank", "edge"));
    let sidecar = snapshot(&set, &ledger, &workload("bank", "ledger"));
    let none = snapshot(&parse_ok("").0, &[], &workload("bank", "ledger"));
    let mut headers = HeaderMap::new();
    for name in OF_ALL.iter().chain(&OF_ROUTES).chain(&["x-version", "authorization"]) {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("a"));
    }
    headers.append("x-role", HeaderValue::from_static("b"));
    let kept = sidecar.judged_headers().asked_of(&headers);
    assert_eq!(kept.get_all("x-role").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(kept.len(), 3, "{kept:?}");
    let kept = edge.judged_headers().asked_of(&headers);
    assert!(kept.contains_key("x-version") && kept.contains_key("x_odd-name"), "{kept:?}");
    assert!(none.judged_headers().asked_of(&headers).is_empty());

    let asks = |new: &Snapshot, old: Option<&Snapshot>| {
        new.judged_headers().asks_no_more_than(old.map(|old| &**old.judged_headers()))
    };
    assert!(asks(&sidecar, Some(&edge)) && asks(&sidecar, Some(&sidecar)) && asks(&none, None));
    assert!(!asks(&edge, Some(&sidecar)) && !asks(&sidecar, None));
}
