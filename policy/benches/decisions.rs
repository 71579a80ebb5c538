//! What it costs to decide: authorization among few and many policies, and the route of a request at an edge.
//! `cargo bench -p palisade-policy`

#![allow(clippy::expect_used, clippy::panic, reason = "a bench without its policies has nothing to measure")]
#![allow(clippy::disallowed_types, clippy::print_stdout, reason = "time is what a bench measures and prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use divan::{AllocProfiler, Bencher, black_box};
use http::HeaderMap;
use palisade_identity::SpiffeId;
use palisade_policy::compile::routes::RouteView;
use palisade_policy::document::{SourceFile, parse};
use palisade_policy::projection::{Projection, project};
use palisade_policy::request::token::Token;
use palisade_policy::{Decision, PolicySet, RequestView, Snapshot, Workload};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Rules of each policy.
const RULES: usize = 10;

fn main() {
    divan::main();
    tails();
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

/// For anybody: only the path tells which of the rules could match.
fn of_anybody(number: usize) -> String {
    format!("{{to: [{{operation: {{methods: [POST], paths: [/entries/{number}]}}}}]}}")
}

/// For a role of the user's: only the claim tells.
fn of_a_role(number: usize) -> String {
    format!(
        "{{to: [{{operation: {{methods: [POST], paths: [/entries/*]}}}}], \
         when: [{{key: 'request.auth.claims[role]', values: [r{number}]}}]}}"
    )
}

/// For callers from some addresses.
fn of_addresses(number: usize) -> String {
    format!("{{from: [{{source: {{ipBlocks: [10.{}.{}.0/24]}}}}]}}", number / 256, number % 256)
}

/// For anybody from outside: nothing tells, and each rule is tried.
fn of_others(number: usize) -> String {
    format!("{{from: [{{source: {{notIpBlocks: [10.0.0.0/8, 192.168.0.{}]}}}}]}}", number % 256)
}

/// Hands a request of this caller to `ask`.
fn asked<R>(caller: &str, path: &str, role: &str, ask: impl FnOnce(&RequestView<'_>) -> R) -> R {
    let (peer, headers) = (id(caller), HeaderMap::new());
    let address = IpAddr::from([10, 0, 0, 1]);
    let payload = format!(r#"{{"iss":"https://issuer","role":"{role}"}}"#);
    let (token, _times) = Token::parse(payload.as_bytes()).expect("a token");
    ask(&RequestView {
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
        token: Some(&token),
    })
}

fn decide(bencher: Bencher<'_, '_>, projection: &Projection, caller: &str, path: &str, allowed: bool) {
    let snapshot = compile(projection);
    asked(caller, path, "none", |view| {
        assert_eq!(matches!(snapshot.authorize(view), Decision::Allow { .. }), allowed);
        bencher.bench(|| snapshot.authorize(black_box(view)));
    });
}

/// Single decisions among 1,000 policies of ten rules, timed one by one: requests that some rule allows, each another
/// rule, and as many that none does. The clock's own 20 to 40 ns are in it.
fn tails() {
    type WriteRule = fn(usize) -> String;
    let kinds: [(&str, WriteRule); 5] = [
        ("rules name callers", of_one_caller),
        ("rules name paths", of_anybody),
        ("rules name claims", of_a_role),
        ("rules name address blocks", of_addresses),
        ("rules only say who is not", of_others),
    ];
    println!("one decision among 1,000 policies of {RULES} rules, ns");
    for (name, rule) in kinds {
        let snapshot = compile(&policies(1000, rule));
        let mut times: Vec<u128> = (0..20_000_usize)
            .map(|number| {
                let number = number.wrapping_mul(7919) % (2 * 1000 * RULES);
                let at = u32::try_from(number).unwrap_or(0) << 8;
                let address = IpAddr::from((u32::from(Ipv4Addr::new(10, 0, 0, 1)) + at).to_be_bytes());
                let (caller, path, role) =
                    (format!("c{number}"), format!("/entries/{number}"), format!("r{number}"));
                asked(&caller, &path, &role, |view| {
                    let view = RequestView { source_ip: address, ..*view };
                    let start = Instant::now();
                    let _decision = black_box(snapshot.authorize(black_box(&view)));
                    start.elapsed().as_nanos()
                })
            })
            .collect();
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        println!("  {name:26} p50 {:>6}  p99 {:>6}", at(50), at(99));
    }
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

#[divan::bench(args = [1, 100, 1000])]
fn refused_where_rules_name_no_caller(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, &policies(count, of_anybody), "nobody", "/entries/none", false);
}

#[divan::bench(args = [1, 100, 1000])]
fn refused_where_rules_name_claims(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, &policies(count, of_a_role), "nobody", "/entries/none", false);
}

#[divan::bench(args = [1, 10, 100])]
fn refused_after_every_rule_was_tried(bencher: Bencher<'_, '_>, count: usize) {
    decide(bencher, &policies(count, of_others), "nobody", "/entries/none", false);
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
        binding: Some(("bank", "public")),
    };
    let find = || {
        let server = snapshot.edge().port(80)?.server_for_host(black_box("api.example"))?;
        server.routes_for("api.example")?.find(black_box(&view))
    };
    assert!(find().is_some());
    bencher.bench(|| find().map(|route| route.id.len()));
}
