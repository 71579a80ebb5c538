//! RateLimitPolicy: what is taken, what is refused, and which limits a request counts against.

mod support;

use palisade_policy::compile::Moment;
use palisade_policy::kind::request_match::MatchView;
use support::{findings, parse_ok, snapshot, workload};

fn policy(limits: &str) -> String {
    format!(
        "apiVersion: palisade.mesh/v1\nkind: RateLimitPolicy\nmetadata: {{name: p, namespace: bank}}\n\
         spec: {{selector: {{matchLabels: {{app: ledger}}}}, limits: [{limits}]}}\n"
    )
}

#[test]
fn refuses_what_is_out_of_range_or_says_nothing() {
    let rows = [
        ("", "PAL2001"),
        ("{name: a, limit: 0, window: 60s}", "PAL2002"),
        ("{name: a, limit: 1000000001, window: 60s}", "PAL2002"),
        ("{name: a, limit: 1, window: 999ms}", "PAL2002"),
        ("{name: a, limit: 1, window: 25h}", "PAL2002"),
        ("{name: a, limit: 1, window: 60s, burst: 0}", "PAL2002"),
        ("{name: a, limit: 5, window: 60s, cost: 6}", "PAL2002"),
        ("{name: a, limit: 5, window: 60s, cost: 0}", "PAL2002"),
        ("{name: a, limit: 5, window: 60}", "PAL0010"),
        ("{name: a, limit: 5, window: a}", "PAL0017"),
        ("{name: a, limit: -5, window: 60s}", "PAL0018"),
        ("{name: a, limit: 5}", "PAL0012"),
        ("{name: 'a b', limit: 5, window: 60s}", "PAL0014"),
        ("{name: a, limit: 5, window: 60s}, {name: a, limit: 6, window: 60s}", "PAL2003"),
        ("{name: a, limit: 5, window: 60s, key: [{}]}", "PAL2004"),
        ("{name: a, limit: 5, window: 60s, key: [{claim: a, header: b}]}", "PAL2004"),
        ("{name: a, limit: 5, window: 60s, key: [{header: 'a b'}]}", "PAL2004"),
        ("{name: a, limit: 5, window: 60s, scope: Mesh}", "PAL0011"),
        ("{name: a, limit: 5, window: 60s, scope: mesh}", "PAL0012"),
        ("{name: a, limit: 5, window: 60s, scope: mesh, onStoreFailure: open}", "PAL0011"),
        ("{name: a, limit: 5, window: 60s, scope: mesh, onStoreFailure: [deny]}", "PAL0010"),
        ("{name: a, limit: 5, window: 60s, onStoreFailure: deny}", "PAL2005"),
        ("{name: a, limit: 5, window: 60s, scope: instance, onStoreFailure: deny}", "PAL2005"),
        ("{name: a, limit: 5, window: 60s, match: [{paths: [x]}]}", "PAL1016"),
    ];
    for (limits, code) in rows {
        let found = findings(&policy(limits));
        let codes: Vec<_> = found.0.iter().map(|f| f.code).collect();
        assert!(found.has_errors() && codes.contains(&code), "{limits}: {codes:?}");
    }
}

#[test]
fn limits_that_need_a_token_or_a_route_come_late_and_the_others_early() {
    let text = policy(
        "{name: address, limit: 5, window: 60s, key: [{address: {}}]}, {name: all, limit: 9, window: 1m}, \
         {name: user, limit: 5, window: 60s, key: [{address: {}}, {claim: sub}]}, \
         {name: route, limit: 5, window: 60s, match: [{routes: [pay]}]}, \
         {name: posts, limit: 5, window: 60s, match: [{methods: [POST], paths: ['/pay*']}]}",
    );
    let (set, _) = parse_ok(&text);
    let ledger = snapshot(&set, &[], &workload("bank", "ledger"));
    let names = |method, path, route, moment| {
        let view = MatchView { host: "h", method, path, route };
        ledger.limits(view, moment).map(|limit| limit.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("GET", "/", None, Moment::BeforeToken), ["address", "all"]);
    assert_eq!(names("POST", "/pay", None, Moment::BeforeToken), ["address", "all", "posts"]);
    assert_eq!(names("GET", "/", None, Moment::AfterToken), ["user"]);
    assert_eq!(names("GET", "/", Some("bank/api/pay"), Moment::AfterToken), ["user", "route"]);
    let payments = snapshot(&set, &[], &workload("bank", "payments"));
    let view = MatchView { host: "h", method: "GET", path: "/", route: None };
    assert_eq!(payments.limits(view, Moment::BeforeToken).count(), 0);
}

#[test]
fn a_limit_by_a_header_that_tokens_write_comes_late_and_never_counts_what_a_caller_wrote_there() {
    let text = policy(
        "{name: user, limit: 5, window: 60s, key: [{address: {}}, {header: X-User}]}, \
         {name: folded, limit: 5, window: 60s, key: [{header: x_payload}]}, \
         {name: device, limit: 5, window: 60s, key: [{header: x-device}]}",
    );
    let authentication = "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {name: users, namespace: bank}\nspec:\n  selector: {matchLabels: {app: ledger}}\n  jwtRules:\n  \
         - {issuer: 'https://id.example', jwksUri: 'https://id.example/jwks', outputPayloadToHeader: x-payload,\n     \
         outputClaimToHeaders: [{header: x-user, claim: sub}]}\n";
    let (set, _) = parse_ok(&(text + authentication));
    let ledger = snapshot(&set, &[], &workload("bank", "ledger"));
    let view = MatchView { host: "h", method: "GET", path: "/", route: None };
    let names = |moment| ledger.limits(view, moment).map(|limit| limit.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(Moment::BeforeToken), ["device"]);
    assert_eq!(names(Moment::AfterToken), ["user", "folded"]);
}

#[test]
fn the_state_of_a_limit_outlives_a_push_that_does_not_change_its_numbers() {
    let id = |text: &str| {
        let ledger = snapshot(&parse_ok(text).0, &[], &workload("bank", "ledger"));
        let view = MatchView { host: "h", method: "GET", path: "/", route: None };
        ledger.limits(view, Moment::BeforeToken).next().map(|limit| limit.id.to_string())
    };
    let first = id(&policy("{name: a, limit: 5, window: 60s}"));
    assert_eq!(first, id(&policy("{name: a, limit: 5, window: 1m, mode: shadow}")));
    assert_ne!(first, id(&policy("{name: a, limit: 5, window: 60s, burst: 5}")));
    assert_ne!(first, id(&policy("{name: a, limit: 6, window: 60s}")));
    assert_ne!(first, id(&policy("{name: a, limit: 5, window: 61s}")));
    assert_ne!(first, id(&policy("{name: a, limit: 5, window: 60s, key: [{address: {}}]}")));
}

#[test]
fn a_limit_of_the_mesh_says_what_becomes_of_requests_while_its_store_is_away() {
    use palisade_policy::kind::rate_limit_policy::{OnStoreFailure, Scope};
    let rows = [
        ("", Scope::Instance, false),
        (", scope: instance", Scope::Instance, false),
        (", scope: mesh, onStoreFailure: local", Scope::Mesh(OnStoreFailure::Local), true),
        (", scope: mesh, onStoreFailure: deny", Scope::Mesh(OnStoreFailure::Deny), true),
        (", scope: mesh, onStoreFailure: allow", Scope::Mesh(OnStoreFailure::Allow), true),
    ];
    for (fields, scope, needs_store) in rows {
        let text = policy(&format!("{{name: a, limit: 5, window: 60s{fields}}}"));
        let ledger = snapshot(&parse_ok(&text).0, &[], &workload("bank", "ledger"));
        let view = MatchView { host: "h", method: "GET", path: "/", route: None };
        assert_eq!(
            ledger.limits(view, Moment::BeforeToken).map(|limit| limit.scope).collect::<Vec<_>>(),
            [scope]
        );
        assert_eq!(ledger.has_mesh_limits(), needs_store, "{fields}");
    }
}
