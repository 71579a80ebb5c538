//! The 26 places where Istio's configuration surprises, each with what is decided here. docs/reference/istio-semantics.md
//! has a line for each; a test compares the two.

use http::HeaderMap;
use palisade_policy::compile::routes::RouteView;
use palisade_policy::decision::{Grant, Refusal};
use palisade_policy::kind::mesh_config::{AmbiguousPaths, PathNormalization};
use palisade_policy::kind::peer_authentication::MtlsMode;
use palisade_policy::request::path::normalize;
use palisade_policy::request::token::Token;
use palisade_policy::traffic::Retries;
use palisade_policy::{Decision, Snapshot};

use super::support::{Ask, findings, parse_ok, service, snapshot, workload};

fn object(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    let group = match kind {
        "VirtualService" | "DestinationRule" | "Gateway" | "ServiceEntry" => "networking.istio.io",
        _ => "security.istio.io",
    };
    format!(
        "---\napiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// An AuthorizationPolicy of the namespace of the service, named after its place.
fn policy(spec: &str) -> String {
    object("AuthorizationPolicy", &format!("p{}", spec.len()), "bank", spec)
}

fn deny(rule: &str) -> String {
    policy(&format!("{{action: DENY, rules: [{rule}]}}"))
}

fn allow(rule: &str) -> String {
    policy(&format!("{{rules: [{rule}]}}"))
}

/// The service `bank/ledger` under these documents.
#[track_caller]
fn ledger(documents: &str) -> Snapshot {
    snapshot(&parse_ok(documents).0, &[], &workload("bank", "ledger"))
}

#[track_caller]
fn decide(documents: &str, ask: &Ask) -> Result<Grant, Refusal> {
    match ask.of(&ledger(documents)) {
        Decision::Allow { grant, .. } => Ok(grant),
        Decision::Refuse { refusal } => Err(refusal),
    }
}

#[track_caller]
fn check(documents: &str, rows: &[(Ask, bool)]) {
    let snapshot = ledger(documents);
    for (ask, allowed) in rows {
        assert_eq!(ask.allowed(&snapshot), *allowed, "{documents}\n{ask:?}");
    }
}

fn codes(documents: &str) -> Vec<&'static str> {
    findings(documents).0.iter().map(|finding| finding.code).collect()
}

const REQUEST: fn() -> Ask = Ask::new;

#[test]
fn point_01_without_a_policy_everything_is_allowed_and_the_first_allow_ends_that() {
    assert_eq!(decide("", &REQUEST()), Ok(Grant::NoPolicy));
    let get = allow("{to: [{operation: {methods: [GET]}}]}");
    check(&get, &[(REQUEST(), true), (REQUEST().method("POST"), false)]);
    let elsewhere = get.replace("namespace: bank", "namespace: shop");
    check(&elsewhere, &[(REQUEST().method("POST"), true)]);
}

#[test]
fn point_02_an_empty_spec_allows_nothing_and_an_empty_rule_matches_everything() {
    assert_eq!(decide(&policy("{}"), &REQUEST()), Err(Refusal::NoAllowMatched));
    assert!(matches!(decide(&allow("{}"), &REQUEST()), Ok(Grant::Rule(_))));
    assert!(matches!(decide(&deny("{}"), &REQUEST()), Err(Refusal::Denied(_))));
    assert_eq!(codes(&policy("{action: DENY}")), ["PAL1001"]);
}

#[test]
fn point_03_deny_comes_before_allow_audit_decides_nothing_and_custom_is_refused() {
    assert!(matches!(decide(&(allow("{}") + &deny("{}")), &REQUEST()), Err(Refusal::Denied(_))));
    let audit = policy("{action: AUDIT, rules: [{}]}");
    assert_eq!(decide(&audit, &REQUEST()), Ok(Grant::NoPolicy));
    assert_eq!(decide(&(audit + &policy("{}")), &REQUEST()), Err(Refusal::NoAllowMatched));
    assert_eq!(codes(&policy("{action: CUSTOM, provider: {name: x}, rules: [{}]}")), ["PAL1002"]);
}

#[test]
fn point_04_plaintext_has_no_principal_so_an_allow_by_principal_is_shut_and_a_deny_open() {
    let plaintext = REQUEST().plaintext();
    assert_eq!(ledger("").mtls_mode(8080), MtlsMode::Permissive);
    for source in ["principals: ['*']", "namespaces: ['*']", "serviceAccounts: [payments]"] {
        let rule = format!("{{from: [{{source: {{{source}}}}}]}}");
        check(&allow(&rule), &[(REQUEST(), true), (plaintext.clone(), false)]);
        check(&deny(&rule), &[(REQUEST(), false), (plaintext.clone(), true)]);
    }
    let anonymous = deny("{from: [{source: {notPrincipals: ['*']}}]}");
    check(&anonymous, &[(REQUEST(), true), (plaintext, false)]);
}

#[test]
fn point_05_a_path_that_is_read_in_two_ways_passes_neither_kind_of_rule() {
    // Istio lets it pass rules that refuse by what they do not name. Here it is refused before any rule is asked.
    let mesh = ledger("").mesh;
    for path in ["/public%2f..%2fadmin", "/admin;x", "/admin%5c", "/%2561dmin"] {
        assert!(normalize(path, mesh.path_normalization, mesh.ambiguous_paths).is_err(), "{path}");
    }
    let admin = "paths: [/admin, '/admin/*']";
    for documents in [
        deny(&format!("{{to: [{{operation: {{{admin}}}}}]}}")),
        allow(&format!("{{to: [{{operation: {{{}}}}}]}}", admin.replace("paths", "notPaths"))),
        allow("{to: [{operation: {paths: ['/public', '/public/*']}}]}"),
        deny("{to: [{operation: {notPaths: ['/public', '/public/*']}}]}"),
    ] {
        let public = REQUEST().path("/public");
        check(&documents, &[(REQUEST().path("/admin"), false), (public, true)]);
    }
}

#[test]
fn point_06_a_prefix_does_not_end_where_a_segment_ends() {
    let prefix = allow("{to: [{operation: {paths: ['/info*']}}]}");
    check(&prefix, &[(REQUEST().path("/information"), true), (REQUEST().path("/inf"), false)]);
    let segments = allow("{to: [{operation: {paths: ['/info/{**}']}}]}");
    check(&segments, &[(REQUEST().path("/information"), false), (REQUEST().path("/info/x"), true)]);
}

#[test]
fn point_07_a_star_alone_is_present_and_not_empty() {
    let header = "{when: [{key: 'request.headers[x-a]', values: ['*']}]}";
    let sent = |value: &str| REQUEST().header("x-a", value);
    check(&allow(header), &[(sent("b"), true), (sent(""), false), (REQUEST(), false)]);
    check(&deny(header), &[(sent("b"), false), (sent(""), true), (REQUEST(), true)]);
}

#[test]
fn point_08_templates_need_their_slashes_and_one_star_needs_a_segment() {
    let template = |paths: &str| allow(&format!("{{to: [{{operation: {{paths: ['{paths}']}}}}]}}"));
    let rows = |rows: &[(&str, bool)]| -> Vec<(Ask, bool)> {
        rows.iter().map(|(path, allowed)| (REQUEST().path(path), *allowed)).collect()
    };
    check(&template("/allow/admin/{**}"), &rows(&[("/allow/admin/", true), ("/allow/admin", false)]));
    check(&template("/foo/{*}/bar/x"), &rows(&[("/foo/a/bar/x", true), ("/foo//bar/x", false)]));
    check(&template("/store/{**}/cart"), &rows(&[("/store//cart", true), ("/store/cart", false)]));
}

#[test]
fn point_09_on_tcp_a_deny_about_http_takes_the_whole_port_and_such_an_allow_nothing() {
    let http = "{to: [{operation: {methods: [GET]}}]}";
    let connects = |documents: &str| {
        let decision = ledger(documents).authorize_tcp(&REQUEST().connection());
        matches!(decision, Decision::Allow { .. })
    };
    assert!(!connects(&deny(http)) && !connects(&allow(http)));
    assert!(!connects(&deny("{to: [{operation: {methods: [GET], ports: ['8080']}}]}")));
    assert!(connects(&deny("{to: [{operation: {methods: [GET], ports: ['5432']}}]}")));
}

#[test]
fn point_10_a_bad_value_neither_shrinks_nor_widens_a_rule_the_document_is_refused() {
    for (field, code) in [
        ("to: [{operation: {ports: [http, '8080']}}]", "PAL1006"),
        ("from: [{source: {ipBlocks: [10.0.0.0/33]}}]", "PAL1007"),
        ("when: [{key: 'request.header[x]', values: [a]}]", "PAL1008"),
        ("to: [{operation: {paths: ['/a/{id}']}}]", "PAL1009"),
        ("from: [{source: {serviceAccounts: ['a*']}}]", "PAL1012"),
    ] {
        for action in ["ALLOW", "DENY", "AUDIT"] {
            let document = policy(&format!("{{action: {action}, rules: [{{{field}}}]}}"));
            assert!(codes(&document).contains(&code), "{document}");
        }
    }
}

#[test]
fn point_11_fields_of_one_item_are_joined_by_and_items_by_or() {
    let stranger = REQUEST().peer("corp.example/ns/shop/sa/payments");
    let from_elsewhere = REQUEST().source("192.0.2.1");
    let one = allow("{from: [{source: {namespaces: [bank], ipBlocks: [10.0.0.0/8]}}]}");
    check(&one, &[(REQUEST(), true), (stranger.clone(), false), (from_elsewhere.clone(), false)]);
    let two = allow("{from: [{source: {namespaces: [bank]}}, {source: {ipBlocks: [10.0.0.0/8]}}]}");
    check(&two, &[(stranger, true), (from_elsewhere, true)]);
}

#[test]
fn point_12_hosts_ignore_case_and_need_their_port_paths_do_not_ignore_case_and_have_no_query() {
    let host = allow("{to: [{operation: {hosts: [Ledger.bank]}}]}");
    let at = |host: &str| REQUEST().host(host);
    check(&host, &[(at("ledger.BANK"), true), (at("ledger.bank:8080"), false)]);
    check(&allow("{to: [{operation: {hosts: ['ledger.bank:*']}}]}"), &[(at("ledger.bank:8080"), true)]);
    let path = allow("{to: [{operation: {paths: [/a]}}]}");
    check(&path, &[(REQUEST().path("/a"), true), (REQUEST().path("/A"), false)]);
}

#[test]
fn point_13_a_request_without_a_token_passes_until_a_policy_asks_for_a_user() {
    let users = object(
        "RequestAuthentication",
        "users",
        "bank",
        "{jwtRules: [{issuer: i, jwksUri: 'https://auth.example/k'}]}",
    );
    let user = REQUEST().token(r#"{"iss":"i","sub":"s"}"#);
    check(&users, &[(REQUEST(), true), (user.clone(), true)]);
    let demand = users.clone() + &deny("{from: [{source: {notRequestPrincipals: ['*']}}]}");
    check(&demand, &[(REQUEST(), false), (user.clone(), true)]);
    let demand = users + &allow("{from: [{source: {requestPrincipals: ['*']}}]}");
    check(&demand, &[(REQUEST(), false), (user, true)]);
}

#[test]
fn point_14_two_request_authentications_of_a_workload_are_one_list_of_issuers() {
    let users = |name: &str, namespace: &str, issuer: &str| {
        let spec = format!("{{jwtRules: [{{issuer: {issuer}, jwksUri: 'https://{issuer}.example/k'}}]}}");
        object("RequestAuthentication", name, namespace, &spec)
    };
    let both = ledger(&(users("a", "bank", "one") + &users("b", "palisade-system", "two")));
    let mut issuers: Vec<_> = both.authentication().rules.iter().map(|rule| rule.issuer.as_str()).collect();
    issuers.sort_unstable();
    assert_eq!(issuers, ["one", "two"]);
    let (token, times) = Token::parse(br#"{"iss":"three","sub":"s","exp":9999999999}"#).unwrap();
    assert!(both.authentication().rules.iter().all(|rule| rule.check(&token, &times, 0).is_err()));
}

#[test]
fn point_15_a_user_is_issuer_and_subject_and_the_last_slash_divides_them() {
    let rule = |name: &str| allow(&format!("{{from: [{{source: {{requestPrincipals: ['{name}']}}}}]}}"));
    let user =
        |issuer: &str, subject: &str| REQUEST().token(&format!(r#"{{"iss":"{issuer}","sub":"{subject}"}}"#));
    let exact = rule("https://auth.example/tenant/alice");
    let (whole, shifted) =
        (user("https://auth.example/tenant", "alice"), user("https://auth.example", "tenant/alice"));
    check(&exact, &[(whole.clone(), true), (shifted, false)]);
    check(&rule("https://auth.example/tenant/*"), &[(whole.clone(), true)]);
    check(&rule("*/alice"), &[(whole.clone(), true), (user("i", "malice"), false)]);
    check(&rule("*"), &[(whole, true), (REQUEST().token(r#"{"iss":"i"}"#), false)]);
}

#[test]
fn point_16_an_expired_token_lives_sixty_seconds_longer() {
    let users = object(
        "RequestAuthentication",
        "users",
        "bank",
        "{jwtRules: [{issuer: i, jwksUri: 'https://auth.example/k'}]}",
    );
    let snapshot = ledger(&users);
    let rule = &snapshot.authentication().rules[0];
    let (token, times) = Token::parse(br#"{"iss":"i","sub":"s","exp":1000}"#).unwrap();
    for (now, is_good) in [(999, true), (1000, true), (1059, true), (1060, false)] {
        assert_eq!(rule.check(&token, &times, now).is_ok(), is_good, "{now}");
    }
}

#[test]
fn point_18_the_first_route_that_fits_is_taken_and_no_second_object_has_the_host() {
    let gateway = object(
        "Gateway",
        "g",
        "bank",
        "{selector: {app: ledger}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
    );
    let routes = |name: &str| {
        let answer = |name: &str, uri: &str| {
            format!("{{name: {name}, match: [{{uri: {{{uri}}}}}], directResponse: {{status: 204}}}}")
        };
        let http = [answer("wide", "prefix: /a"), answer("close", "exact: /a/b")].join(", ");
        object(
            "VirtualService",
            name,
            "bank",
            &format!("{{hosts: [a.example], gateways: [g], http: [{http}]}}"),
        )
    };
    let one = gateway + &routes("v");
    let snapshot = ledger(&one);
    let server = snapshot.edge().port(80).unwrap().server_for_host("a.example").unwrap();
    let headers = HeaderMap::new();
    let view = RouteView {
        path: "/a/b",
        query: None,
        method: "GET",
        headers: &headers,
        authority: "a.example",
        scheme: "http",
        port: 80,
        binding: Some(("bank", "g")),
    };
    let route = server.routes_for("a.example").unwrap().find(&view).unwrap();
    assert_eq!(&*route.id, "bank/v/wide");
    assert!(codes(&(one + &routes("w"))).contains(&"PAL0103"));
}

#[test]
fn point_19_a_subset_counts_where_a_route_names_it_and_retries_are_two_unless_a_route_says_otherwise() {
    let spec = "{host: ledger, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {connectionPool: {http: \
                {http2MaxRequests: 1}}}}], trafficPolicy: {retryBudget: {percent: 20}}}";
    let set = parse_ok(&object("DestinationRule", "d", "bank", spec)).0;
    let snapshot = snapshot(&set, &[service("bank", "ledger")], &workload("bank", "payments"));
    let whole = snapshot.destination("ledger", 8080).unwrap();
    assert_eq!(whole.traffic.pool.max_requests, 1024);
    assert_eq!(snapshot.subset(whole, "v1").unwrap().traffic.pool.max_requests, 1);
    assert!(snapshot.destination("v1.ledger.bank", 8080).is_none());
    let route = |more: &str| {
        let spec =
            format!("{{hosts: [ledger], http: [{{route: [{{destination: {{host: ledger, {more}}}}}]}}]}}");
        object("VirtualService", "v", "bank", &spec)
    };
    let rule = object("DestinationRule", "d", "bank", spec);
    assert!(!codes(&(rule + &route("subset: v1"))).contains(&"PAL0109"));
    assert_eq!(codes(&route("subset: v1")), ["PAL0109"]);
    assert_eq!(Retries::default().attempts, 2);
    let none = route("").replace("http: [{", "http: [{retries: {attempts: 0}, ");
    assert_eq!(codes(&none), Vec::<&str>::new());
}

#[test]
fn point_20_faults_of_routes_are_taken_as_istio_writes_them() {
    let spec = "{hosts: [ledger], http: [{fault: {abort: {httpStatus: 503, percentage: {value: 1}}, \
                delay: {fixedDelay: 5s, percentage: {value: 0.1}}}, route: [{destination: {host: ledger}}]}]}";
    assert_eq!(codes(&object("VirtualService", "v", "bank", spec)), Vec::<&str>::new());
}

#[test]
fn point_21_a_dry_run_allow_does_not_end_allow_by_default() {
    let dry =
        policy("{}").replace("namespace: bank", "namespace: bank, annotations: {istio.io/dry-run: 'true'}");
    assert_eq!(decide(&dry, &REQUEST()), Ok(Grant::NoPolicy));
    let would_have = REQUEST().with_view(|view| ledger(&dry).observe(view)).dry_run;
    assert_eq!(would_have, Some(Err(Refusal::NoAllowMatched)));
    assert_eq!(codes(&dry.replace("'true'", "maybe")), ["PAL1013"]);
    let audit = dry.replace("spec: {}", "spec: {action: AUDIT, rules: [{}]}");
    assert_ne!(audit, dry);
    assert_eq!(codes(&audit), ["PAL1013"], "it decides nothing that could be tried");
}

#[test]
fn point_22_each_value_of_a_repeated_header_is_matched_on_its_own() {
    let rule = "{when: [{key: 'request.headers[x-role]', values: [admin]}]}";
    let both = REQUEST().header("x-role", "user").header("x-role", "admin");
    let joined = REQUEST().header("x-role", "user,admin");
    check(&deny(rule), &[(both.clone(), false), (joined.clone(), true)]);
    // Stricter than Istio: a good value does not carry a bad one in with it.
    check(&allow(rule), &[(both, false), (joined, false), (REQUEST().header("x-role", "admin"), true)]);
}

#[test]
fn point_23_ip_blocks_see_the_socket_and_remote_ip_blocks_the_client_behind_trusted_hops() {
    // The caller's socket is 10.1.2.3, the client behind it 203.0.113.9.
    let rule = |field: &str, block: &str| allow(&format!("{{from: [{{source: {{{field}: [{block}]}}}}]}}"));
    check(&rule("ipBlocks", "10.0.0.0/8"), &[(REQUEST(), true)]);
    check(&rule("ipBlocks", "203.0.113.0/24"), &[(REQUEST(), false)]);
    check(&rule("remoteIpBlocks", "203.0.113.0/24"), &[(REQUEST(), true)]);
    check(&rule("remoteIpBlocks", "10.0.0.0/8"), &[(REQUEST(), false)]);
}

#[test]
fn point_24_paths_are_judged_after_normalization_which_is_base_where_nothing_is_said() {
    let mesh = ledger("").mesh;
    assert_eq!(mesh.path_normalization, PathNormalization::Base);
    for (sent, judged) in
        [("/a/../admin", "/admin"), ("/%61dmin", "/admin"), ("/a\\b", "/a/b"), ("/a//b", "/a//b")]
    {
        let normal = normalize(sent, mesh.path_normalization, AmbiguousPaths::Keep).unwrap();
        assert_eq!(normal, judged);
    }
}

#[test]
fn point_25_labels_of_a_caller_are_matched_at_the_caller_and_are_no_boundary() {
    let routes = |to: &str, item: &str| {
        let spec =
            format!("{{hosts: [ledger], {to} http: [{{match: [{item}], directResponse: {{status: 200}}}}]}}");
        object("VirtualService", "v", "bank", &spec)
    };
    for item in ["{sourceLabels: {app: web}}", "{sourceNamespace: bank}"] {
        assert_eq!(codes(&routes("", item)), Vec::<&str>::new(), "{item}");
        // Clients of a Gateway have neither.
        assert!(codes(&routes("gateways: [g],", item)).contains(&"PAL1701"), "{item}");
    }
}

#[test]
fn point_26_root_policies_add_to_local_ones_and_root_modes_give_way_to_them() {
    let root_deny = object(
        "AuthorizationPolicy",
        "r",
        "palisade-system",
        "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}",
    );
    check(&(root_deny + &allow("{}")), &[(REQUEST().path("/x"), false), (REQUEST(), true)]);
    let root_allow = object(
        "AuthorizationPolicy",
        "r",
        "palisade-system",
        "{rules: [{to: [{operation: {paths: [/x]}}]}]}",
    );
    let local = allow("{to: [{operation: {paths: [/y]}}]}");
    check(
        &(root_allow + &local),
        &[(REQUEST().path("/x"), true), (REQUEST().path("/y"), true), (REQUEST(), false)],
    );
    let mode = |name: &str, namespace: &str, mode: &str| {
        object("PeerAuthentication", name, namespace, &format!("{{mtls: {{mode: {mode}}}}}"))
    };
    let strict = mode("r", "palisade-system", "STRICT");
    assert_eq!(ledger(&strict).mtls_mode(8080), MtlsMode::Strict);
    assert_eq!(ledger(&(strict + &mode("l", "bank", "PERMISSIVE"))).mtls_mode(8080), MtlsMode::Permissive);
}
