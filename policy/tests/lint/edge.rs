//! What is about routes of an edge.

use palisade_policy::Severity;

use crate::{EDGE, TOKENS, document, limits, policy, routes, severity, table};

const TO: &str = "route: [{destination: {host: accounts}}]";

fn edge(http: &str, more: &str) -> String {
    format!("{EDGE}{}{more}", routes(http))
}

fn deny(rule: &str) -> String {
    policy("d", &format!("{{selector: {{matchLabels: {{app: edge}}}}, action: DENY, rules: [{rule}]}}"))
}

fn allow(rule: &str) -> String {
    policy("a", &format!("{{selector: {{matchLabels: {{app: edge}}}}, rules: [{rule}]}}"))
}

#[test]
fn every_route_needs_a_token_or_a_public_mark() {
    let get = format!("{{match: [{{uri: {{prefix: /accounts/}}, method: {{exact: GET}}}}], {TO}}}");
    let with = |more: &str| edge(&get, more);
    let open: &[&str] = &["spec.http[0]"];
    let tokenless = "from: [{source: {notRequestPrincipals: ['*']}}]";
    table(
        "PAL3001",
        &[
            (with(""), open),
            // A DENY of what has no token.
            (with(&deny(&format!("{{{tokenless}}}"))), &[]),
            (with(&deny("{when: [{key: request.auth.principal, notValues: ['*']}]}")), &[]),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{paths: ['/accounts/*']}}}}]}}"))), &[]),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{notPaths: ['/login']}}}}]}}"))), &[]),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{hosts: [api.example]}}}}]}}"))), &[]),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{methods: [GET]}}}}]}}"))), &[]),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{methods: [POST]}}}}]}}"))), open),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{paths: ['/accounts/x']}}}}]}}"))), open),
            (
                with(&deny(&format!("{{{tokenless}, to: [{{operation: {{notPaths: ['/accounts/x']}}}}]}}"))),
                open,
            ),
            (with(&deny(&format!("{{{tokenless}, to: [{{operation: {{ports: ['443']}}}}]}}"))), open),
            (
                with(&deny(&format!("{{{tokenless}, to: [{{operation: {{hosts: ['api.example:443']}}}}]}}"))),
                open,
            ),
            (with(&deny(&format!("{{{tokenless}, when: [{{key: source.ip, values: [10.0.0.1]}}]}}"))), open),
            (with(&deny("{from: [{source: {notRequestPrincipals: ['*'], ipBlocks: [10.0.0.1]}}]}")), open),
            (with(&deny("{from: [{source: {requestPrincipals: ['*']}}]}")), open),
            // An ALLOW that only tokens fit.
            (with(&allow("{from: [{source: {requestPrincipals: ['*']}}]}")), &[]),
            (with(&allow("{when: [{key: 'request.auth.claims[scope]', values: [a]}]}")), &[]),
            (with(&allow("{from: [{source: {principals: ['*']}}]}")), &[]),
            (with(&allow("{to: [{operation: {paths: ['/login']}}]}")), &[]),
            (with(&allow("{to: [{operation: {paths: ['/accounts/x']}}]}")), open),
            (with(&allow("{when: [{key: 'request.auth.claims[scope]', notValues: [a]}]}")), open),
            (
                with(&allow(
                    "{from: [{source: {requestPrincipals: ['*']}}, {source: {ipBlocks: [10.0.0.1]}}]}",
                )),
                open,
            ),
            (with(&policy("a", "{}")), &[]),
        ],
    );
    assert_eq!(severity(&with(""), "PAL3001"), Severity::Error);
}

#[test]
fn a_jwt_policy_says_who_needs_a_token_and_what_is_public() {
    let get =
        format!("{{name: get, match: [{{uri: {{prefix: /accounts/}}, method: {{exact: GET}}}}], {TO}}}");
    let users = document(
        "security.istio.io/v1",
        "RequestAuthentication",
        "users",
        "{selector: {matchLabels: {app: edge}}, jwtRules: [{issuer: i, jwksUri: 'https://i.example/k'}]}",
    );
    let of = |selector: &str, rules: &str| {
        let spec = format!("{{selector: {{matchLabels: {{{selector}}}}}, rules: [{rules}]}}");
        let jwt = document("palisade.mesh/v1", "JwtPolicy", "api", &spec);
        edge(&get, &format!("{users}{jwt}"))
    };
    let with = |rules: &str| of("app: edge", rules);
    let open: &[&str] = &["spec.http[0]"];
    let rule = |matches: &str, access: &str| format!("{{name: r, match: [{matches}], access: {access}}}");
    table(
        "PAL3001",
        &[
            (with("{name: all, access: token}"), &[]),
            (with("{name: all, access: public}"), &[]),
            (with(&rule("{routes: [get]}", "public")), &[]),
            (with(&rule("{paths: ['/accounts/*']}", "token")), &[]),
            (with(&rule("{paths: ['/accounts/x']}", "token")), open),
            (with(&rule("{methods: [POST]}", "token")), open),
            (with(&rule("{routes: [other]}", "public")), open),
            (
                with(&format!(
                    "{}, {{name: all, access: token}}",
                    rule("{paths: ['/accounts/x']}", "public")
                )),
                &[],
            ),
            (of("app: edge, colour: blue", "{name: all, access: token}"), open),
        ],
    );
    let public = with("{name: all, access: public}");
    table("PAL3002", &[(with("{name: all, access: token}"), &[]), (public, &["spec"])]);
}

#[test]
fn a_policy_protects_only_where_it_surely_holds() {
    let route = format!("{{{TO}}}");
    let rules = "action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]";
    let of = |selector: &str| {
        edge(&route, &policy("d", &format!("{{selector: {{matchLabels: {{{selector}}}}}, {rules}}}")))
    };
    let elsewhere = of("app: edge").replace("{name: d, namespace: bank}", "{name: d, namespace: shop}");
    let root = of("app: edge").replace("{name: d, namespace: bank}", "{name: d, namespace: palisade-system}");
    let dry = of("app: edge").replace(
        "{name: d, namespace: bank}",
        "{name: d, namespace: bank, annotations: {istio.io/dry-run: 'true'}}",
    );
    let open: &[&str] = &["spec.http[0]"];
    table(
        "PAL3001",
        &[
            (of("app: edge"), &[]),
            (of(""), &[]),
            (root, &[]),
            (of("app: edge, colour: blue"), open),
            (of("app: other"), open),
            (elsewhere, open),
            (dry, open),
        ],
    );
}

#[test]
fn what_no_service_answers_needs_no_token() {
    let redirect = EDGE.replace(
        "{number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: api}",
        "{number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}",
    );
    table(
        "PAL3001",
        &[
            (edge("{redirect: {uri: /new}}", ""), &[]),
            (edge("{directResponse: {status: 503}}", ""), &[]),
            (routes(&format!("{{{TO}}}")), &[]),
            (format!("{redirect}{}", routes(&format!("{{{TO}}}"))), &[]),
        ],
    );
}

#[test]
fn tokens_that_are_read_are_needed_somewhere() {
    let tokens = document(
        "security.istio.io/v1",
        "RequestAuthentication",
        "users",
        "{selector: {matchLabels: {app: edge}}, jwtRules: [{issuer: i, jwksUri: 'https://i.example/k'}]}",
    );
    let other = policy(
        "d",
        "{selector: {matchLabels: {app: x}}, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
    );
    table(
        "PAL3002",
        &[
            (tokens.clone(), &["spec"]),
            (format!("{tokens}{}", allow("{to: [{operation: {methods: [GET]}}]}")), &["spec"]),
            (format!("{tokens}{other}"), &["spec"]),
            (format!("{tokens}{}", deny("{from: [{source: {notRequestPrincipals: ['*']}}]}")), &[]),
            (format!("{tokens}{}", allow("{when: [{key: request.auth.audiences, values: [a]}]}")), &[]),
        ],
    );
}

#[test]
fn routes_that_take_credentials_have_a_limit() {
    let route = |uri: &str| format!("{{match: [{{uri: {uri}}}], {TO}}}");
    let login = route("{exact: /v1/login}");
    let count = |limit: &str| {
        limits(&format!(
            "{{selector: {{matchLabels: {{app: edge}}}}, limits: [{{name: l, key: [{{address: {{}}}}], limit: 5, window: 60s{limit}}}]}}"
        ))
    };
    let at: &[&str] = &["spec.http[0]"];
    table(
        "PAL3004",
        &[
            (edge(&login, TOKENS), at),
            (edge(&route("{prefix: /oauth2/}"), ""), at),
            (edge(&route("{regex: '/(login|logout)'}"), ""), at),
            (edge(&route("{exact: /reset-password}"), ""), at),
            (edge(&login, &count(", match: [{paths: ['/transfers']}]")), at),
            (edge(&login, &count(", mode: shadow")), at),
            (edge(&login, &count("").replace("app: edge", "app: other")), at),
            // Near misses.
            (edge(&login, &count("")), &[]),
            (edge(&login, &count(", match: [{methods: [POST], paths: ['/v1/login']}]")), &[]),
            (edge(&login, &count(", match: [{routes: ['0']}]")), &[]),
            (edge(&login, &count("").replace("app: edge", "app: accounts")), &[]),
            (edge(&route("{exact: /catalogin}"), ""), &[]),
            (edge(&route("{prefix: /authors}"), ""), &[]),
            (edge(&login.replace("uri:", "method: {exact: GET}, uri:"), ""), &[]),
            (edge("{match: [{uri: {exact: /login}}], redirect: {uri: /v1/login}}", ""), &[]),
        ],
    );
}

#[test]
fn cors_is_for_pages_that_are_named() {
    let cors = |policy: &str| edge(&format!("{{{TO}, corsPolicy: {{{policy}}}}}"), TOKENS);
    let regex = |text: &str| cors(&format!("allowOrigins: [{{regex: '{text}'}}]"));
    let at: &[&str] = &["spec.http[0].corsPolicy.allowOrigins[0]"];
    table(
        "PAL3005",
        &[
            (cors("allowOrigins: [{exact: '*'}], allowMethods: [GET, POST]"), at),
            (cors("allowOrigins: [{exact: '*'}], allowHeaders: [authorization]"), at),
            (regex("https://.*"), at),
            (regex("https://app.bank.example"), at),
            (regex("https://.*bank\\.example"), at),
            (regex("https://.*\\.bank.example(:\\d+)?"), at),
            (cors("allowOrigins: [{exact: 'http://app.example'}], allowCredentials: true"), at),
            // Near misses.
            (cors("allowOrigins: [{exact: '*'}], allowMethods: [GET, HEAD]"), &[]),
            (cors("allowOrigins: [{exact: '*'}]"), &[]),
            (
                cors(
                    "allowOrigins: [{exact: 'https://app.example'}], allowCredentials: true, allowMethods: [POST]",
                ),
                &[],
            ),
            (regex("https://app\\.bank\\.example"), &[]),
            (regex("https://[a-z0-9-]+\\.bank\\.example(:\\d+)?"), &[]),
            (regex("https://.*\\.bank\\.example"), &[]),
            (regex("https://(app|www)\\.bank\\.example"), &[]),
            (cors("allowOrigins: [{exact: 'http://localhost:3000'}], allowCredentials: true"), &[]),
        ],
    );
    let wide = "allowOrigins: [{regex: 'https://app.bank\\.example'}]";
    assert_eq!(severity(&cors(wide), "PAL3005"), Severity::Warning);
    assert_eq!(severity(&cors(&format!("{wide}, allowCredentials: true")), "PAL3005"), Severity::Error);
}

#[test]
fn every_route_gets_requests() {
    let two = |a: &str, b: &str| edge(&format!("{{{a} {TO}}}, {{{b} {TO}}}"), TOKENS);
    let on = |uri: &str, more: &str| format!("match: [{{uri: {uri}{more}}}],");
    let second: &[&str] = &["spec.http[1]"];
    table(
        "PAL3006",
        &[
            (two("", &on("{exact: /a}", "")), second),
            (two(&on("{prefix: /a}", ""), &on("{exact: /a/b}", "")), second),
            (two(&on("{prefix: /a}", ""), &on("{prefix: /a}", "")), second),
            (two(&on("{prefix: /}", ""), ""), second),
            (two(&on("{prefix: /a}", ""), &on("{prefix: /a}", ", method: {exact: GET}")), second),
            (two(&on("{regex: '/a/[0-9]+'}", ""), &on("{exact: /a/1}", "")), second),
            (
                two(
                    &on("{exact: /a}", ", headers: {x: {}}"),
                    &on("{exact: /a}", ", headers: {x: {exact: b}}"),
                ),
                second,
            ),
            (two(&on("{exact: /A}", ", ignoreUriCase: true"), &on("{exact: /a}", "")), second),
            (two("", ""), second),
            // Near misses.
            (two(&on("{exact: /a/b}", ""), &on("{prefix: /a}", "")), &[]),
            (two(&on("{exact: /a}", ""), ""), &[]),
            (two(&on("{prefix: /a/}", ""), &on("{exact: /a}", "")), &[]),
            (two(&on("{prefix: /a}", ", method: {exact: GET}"), &on("{prefix: /a}", "")), &[]),
            (
                two(
                    &on("{exact: /a}", ", headers: {x: {exact: b}}"),
                    &on("{exact: /a}", ", headers: {x: {}}"),
                ),
                &[],
            ),
            (two(&on("{exact: /a}", ", withoutHeaders: {x: {}}"), &on("{exact: /a}", "")), &[]),
            (two(&on("{exact: /a}", ", queryParams: {x: {exact: b}}"), &on("{exact: /a}", "")), &[]),
            (two(&on("{exact: /a}", ", port: 80"), &on("{exact: /a}", "")), &[]),
            (two(&on("{exact: /a}", ""), &on("{exact: /A}", ", ignoreUriCase: true")), &[]),
            (two(&on("{regex: '/a.*'}", ""), &on("{prefix: /a}", "")), &[]),
        ],
    );
}

#[test]
fn every_item_of_a_match_gets_requests() {
    table(
        "PAL3007",
        &[
            (
                edge(
                    &format!("{{match: [{{uri: {{prefix: /a}}}}, {{uri: {{exact: /a/b}}}}], {TO}}}"),
                    TOKENS,
                ),
                &["spec.http[0].match[1]"],
            ),
            (
                edge(
                    &format!(
                        "{{match: [{{uri: {{prefix: /a}}}}], {TO}}}, {{match: [{{uri: {{exact: /a}}}}, {{uri: {{exact: /b}}}}], {TO}}}"
                    ),
                    TOKENS,
                ),
                &["spec.http[1].match[0]"],
            ),
            (
                edge(
                    &format!("{{match: [{{uri: {{exact: /a/b}}}}, {{uri: {{prefix: /a}}}}], {TO}}}"),
                    TOKENS,
                ),
                &[],
            ),
        ],
    );
}

#[test]
fn a_route_by_prefix_is_pointed_at() {
    let route = |uri: &str| edge(&format!("{{match: [{{uri: {{prefix: {uri}}}}}], {TO}}}"), TOKENS);
    table(
        "PAL3104",
        &[
            (route("/info"), &["spec.http[0].match[0].uri"]),
            (route("/info/"), &[]),
            (route("/"), &[]),
            (route("/v"), &[]),
        ],
    );
    assert_eq!(severity(&route("/info"), "PAL3104"), Severity::Note);
}

#[test]
fn limits_and_guards_for_one_spelling_of_a_path_let_others_pass() {
    let limit = |paths: &str| {
        let limit = format!("{{name: l, match: [{{paths: [{paths}]}}], limit: 1, window: 60s}}");
        limits(&format!("{{selector: {{matchLabels: {{app: edge}}}}, limits: [{limit}]}}"))
    };
    let elsewhere = |paths: &str| limit(paths).replace("app: edge", "app: ledger");
    let guard = |paths: &str| {
        let rule = format!("{{name: g, match: [{{paths: [{paths}]}}], allowedMethods: [GET]}}");
        document("palisade.mesh/v1", "RequestGuard", "g", &format!("{{rules: [{rule}]}}"))
    };
    let merged = "---\napiVersion: palisade.mesh/v1\nkind: MeshConfig\nmetadata: {name: default, namespace: palisade-system}\n\
                  spec: {pathNormalization: {normalization: MERGE_SLASHES}}\n";
    let (all, api) = (format!("{{{TO}}}"), format!("{{match: [{{uri: {{prefix: /api/}}}}], {TO}}}"));
    let exact = format!("{{match: [{{uri: {{exact: /login}}}}], {TO}}}");
    let (of_limit, of_rule) = ("spec.limits[0].match[0].paths[0]", "spec.rules[0].match[0].paths[0]");
    table(
        "PAL3014",
        &[
            (edge(&all, &limit("/login")), &[of_limit]),
            (edge(&all, &guard("/login")), &[of_rule]),
            // Slashes at the start are left, and end with MERGE_SLASHES.
            (edge(&all, &limit("'/login*'")), &[of_limit]),
            (edge(&all, &format!("{}{merged}", limit("'/login*'"))), &[]),
            (edge(&all, &format!("{}{merged}", limit("/login"))), &[of_limit]),
            (edge(&all, &format!("{}{merged}", limit("/login, '/login*'"))), &[]),
            (edge(&all, &format!("{}{merged}", limit("'/login/'"))), &[of_limit]),
            // What no route takes passes nothing.
            (edge(&exact, &limit("/login")), &[]),
            (edge(&api, &limit("/api/login")), &[of_limit]),
            (edge(&api, &limit("'/api/login*'")), &[]),
            (
                edge(
                    &all,
                    &format!("{}{}", limit("/login"), allow("{to: [{operation: {paths: [/login]}}]}")),
                ),
                &[],
            ),
            // Nor is anything said of what is not at an edge, and of templates.
            (edge(&all, &elsewhere("/login")), &[]),
            (edge(&all, &limit("'/a/{*}'")), &[]),
            (edge(&all, &limit("'*'")), &[]),
        ],
    );
    assert_eq!(severity(&edge(&all, &limit("/login")), "PAL3014"), Severity::Warning);
}
