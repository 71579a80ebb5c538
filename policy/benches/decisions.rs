//! What it costs to decide: authorization among few and many policies, and the route of a request at an edge.
//! `cargo bench -p palisade-policy`

#![allow(clippy::expect_used, clippy::panic, reason = "a bench without its policies has nothing to measure")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use divan::{AllocProfiler, Bencher, black_box};
use http::HeaderMap;
use palisade_identity::SpiffeId;
use palisade_policy::compile::routes::RouteView;
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::projection::{Projection, project};
use palisade_policy::{Decision, PolicySet, RequestView, Snapshot, Workload};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Rules of each policy.
const RULES: usize = 10;

fn main() {
    divan::main();
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://corp.example/ns/bank/sa/{account}")).expect("a SPIFFE id")
}

fn set(text: &str) -> PolicySet {
    // Files have a bound on their size, as those of users have.
    let file = |(n, text): (usize, &str)| SourceFile { name: format!("{n}.yaml"), text: text.into() };
    let files: Vec<SourceFile> = text.split("---\n").enumerate().map(file).collect();
    let (objects, findings) = parse(&files);
    assert!(!findings.has_errors(), "{findings:?}");
    match PolicySet::new(objects, &[]) {
        Ok((set, _)) => set,
        Err(findings) => panic!("{findings:?}"),
    }
}

fn projection(text: String, account: &str) -> Projection {
    let labels = BTreeMap::from([("app".into(), account.into())]);
    project(&set(&text), &[], &Workload { id: id(account), labels })
}

fn compile(projection: &Projection) -> Snapshot {
    Snapshot::compile(1, projection).expect("a snapshot")
}

/// `count` ALLOW policies of ten rules each; `rule` writes the one of this number.
fn policies(count: usize, rule: impl Fn(usize) -> String) -> Projection {
    let mut text = String::new();
    for policy in 0..count {
        let _infallible = write!(
            text,
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p{policy}, namespace: bank}}\n\
             spec:\n  selector: {{matchLabels: {{app: ledger}}}}\n  action: ALLOW\n  rules:\n"
        );
        let numbers = policy * RULES..(policy + 1) * RULES;
        text.extend(numbers.map(|number| format!("  - {}\n", rule(number))));
    }
    projection(text, "ledger")
}

/// For a caller of its own, with a method and two paths.
fn of_one_caller(number: usize) -> String {
    format!(
        "{{from: [{{source: {{principals: [corp.example/ns/bank/sa/c{number}]}}}}], \
         to: [{{operation: {{methods: [POST], paths: [/entries/{number}, /accounts/*]}}}}]}}"
    )
}

/// For anybody: nothing tells which of the rules could match.
fn of_anybody(number: usize) -> String {
    format!("{{to: [{{operation: {{methods: [POST], paths: [/entries/{number}]}}}}]}}")
}

fn decide(bencher: Bencher<'_, '_>, projection: &Projection, caller: &str, path: &str, allowed: bool) {
    let snapshot = compile(projection);
    let (peer, headers) = (id(caller), HeaderMap::new());
    let address = IpAddr::from([10, 0, 0, 1]);
    let view = RequestView {
        peer: Some(&peer),
        source_ip: address,
        remote_ip: address,
        destination_ip: address,
        destination_port: 8080,
        method: "POST",
        path,
        host: "ledger.bank",
        headers: &headers,
        sni: None,
        token: None,
    };
    assert_eq!(matches!(snapshot.authorize(&view), Decision::Allow { .. }), allowed);
    bencher.bench(|| snapshot.authorize(black_box(&view)));
}

#[divan::bench(args = [1, 100, 1000])]
fn allowed_by_the_last_policy(bencher: Bencher<'_, '_>, count: usize) {
    let last = count * RULES - 1;
    decide(bencher, &policies(count, of_one_caller), &format!("c{last}"), &format!("/entries/{last}"), true);
}

#[divan::bench(args = [1, 100, 1000])]
fn refused_because_nothing_allows(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, &policies(count, of_one_caller), "nobody", "/entries/0", false);
}

#[divan::bench(args = [1, 10, 100])]
fn refused_after_every_rule_was_tried(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, &policies(count, of_anybody), "nobody", "/entries/none", false);
}

#[divan::bench(args = [1, 100, 1000], sample_count = 10)]
fn compiled(bencher: Bencher<'_, '_>, count: usize) {
    let projection = policies(count, of_one_caller);
    bencher.bench(|| compile(black_box(&projection)));
}

/// The route of a request, the last of so many prefixes.
#[divan::bench(args = [1, 10, 100])]
fn route_of_a_request(bencher: Bencher<'_, '_>, count: usize) {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: public, namespace: bank}\n\
         spec: {selector: {app: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: bank}\n\
         spec:\n  hosts: [api.example]\n  gateways: [public]\n  http:\n",
    );
    for route in 0..count {
        let _infallible = writeln!(
            text,
            "  - match: [{{uri: {{prefix: /service-{route}/}}, method: {{exact: GET}}}}]\n    \
             directResponse: {{status: 200}}"
        );
    }
    let snapshot = compile(&projection(text, "edge"));
    let (path, headers) = (format!("/service-{}/x", count - 1), HeaderMap::new());
    let view = RouteView {
        path: &path,
        query: None,
        method: "GET",
        headers: &headers,
        authority: "api.example",
        scheme: "http",
        port: 80,
    };
    let find = || {
        let server = snapshot.edge().port(80)?.server_for_host(black_box("api.example"))?;
        server.routes_for("api.example")?.find(black_box(&view))
    };
    assert!(find().is_some());
    bencher.bench(|| find().map(|route| route.id.len()));
}
