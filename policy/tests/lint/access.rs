//! What is about JwtPolicies, and about who can come to an edge at all.

use crate::{EDGE, STRICT, document, limits, policy, routes, table};

const TO: &str = "route: [{destination: {host: accounts}}]";
const USERS: &str =
    "{selector: {matchLabels: {app: edge}}, jwtRules: [{issuer: i, jwksUri: 'https://i.example/k'}]}";

fn users() -> String {
    document("security.istio.io/v1", "RequestAuthentication", "users", USERS)
}

fn jwt(rules: &str) -> String {
    let spec = format!("{{selector: {{matchLabels: {{app: edge}}}}, rules: [{rules}]}}");
    users() + &document("palisade.mesh/v1", "JwtPolicy", "access", &spec)
}

fn rule(name: &str, matches: &str, access: &str) -> String {
    format!("{{name: {name}, match: [{matches}], access: {access}}}")
}

#[test]
fn a_rule_behind_a_wider_one_never_decides() {
    let two = |first: &str, second: &str| {
        jwt(&format!("{}, {}", rule("a", first, "public"), rule("b", second, "token")))
    };
    let second: &[&str] = &["spec.rules[1]"];
    table(
        "PAL3010",
        &[
            (two("{paths: ['/a/*']}", "{paths: ['/a/admin']}"), second),
            (two("{paths: ['/a/*']}", "{methods: [POST], paths: ['/a/b', '/a/c/*']}"), second),
            (two("{routes: [pay]}", "{routes: [pay], methods: [GET]}"), second),
            (two("{hosts: ['*.example']}", "{hosts: [a.example]}"), second),
            // Near misses.
            (two("{paths: ['/a/*']}", "{paths: ['/a/b', '/c']}"), &[]),
            (two("{paths: ['/a/admin']}", "{paths: ['/a/*']}"), &[]),
            (two("{methods: [GET], paths: ['/a/*']}", "{paths: ['/a/b']}"), &[]),
            (two("{routes: [pay]}", "{paths: ['/a']}"), &[]),
            (two("{hosts: ['a.example:8443']}", "{hosts: [a.example]}"), &[]),
        ],
    );
}

#[test]
fn a_public_prefix_ends_where_a_segment_ends() {
    let of = |path: &str, access: &str| jwt(&rule("a", &format!("{{paths: ['{path}']}}"), access));
    let at: &[&str] = &["spec.rules[0].match[0].paths[0]"];
    table(
        "PAL3104",
        &[
            (of("/info*", "public"), at),
            (of("/info/*", "public"), &[]),
            (of("/info", "public"), &[]),
            (of("/info*", "token"), &[]),
        ],
    );
}

#[test]
fn nobody_who_comes_to_an_edge_has_an_identity_of_the_mesh() {
    let at = |labels: &str, rule: &str| {
        let spec = format!("{{selector: {{matchLabels: {{{labels}}}}}, rules: [{rule}]}}");
        format!("{EDGE}{}", policy("a", &spec))
    };
    let named = "{from: [{source: {principals: ['*']}}]}";
    let from: &[&str] = &["spec.rules[0].from"];
    table(
        "PAL3011",
        &[
            (at("app: edge", named), from),
            (at("app: edge, zone: a", named), from),
            (at("app: edge", "{when: [{key: source.namespace, values: [a]}]}"), &["spec.rules[0].when[0]"]),
            // Near misses.
            (at("app: accounts", named), &[]),
            (
                at(
                    "app: edge",
                    "{from: [{source: {principals: ['*']}}, {source: {requestPrincipals: ['*']}}]}",
                ),
                &[],
            ),
            (at("app: edge", "{from: [{source: {notPrincipals: ['*']}}]}"), &[]),
            // For everybody in the namespace, the edge among them.
            (format!("{EDGE}{}", policy("a", &format!("{{rules: [{named}]}}"))), &[]),
        ],
    );
}

#[test]
fn a_scope_for_reading_opens_no_write_by_a_jwt_policy() {
    let route = |method: &str| {
        EDGE.to_owned()
            + STRICT
            + &routes(&format!("{{match: [{{uri: {{prefix: /accounts/}}{method}}}], {TO}}}"))
    };
    let of = |rules: &str| jwt(rules);
    let read = "{name: r, access: token, scopes: ['accounts:read']}";
    let get = "{name: g, match: [{methods: [GET]}], access: token, scopes: ['accounts:read']}";
    let post = "{name: p, match: [{methods: [POST, PUT, PATCH, DELETE]}], access: token, scopes: ['accounts:write']}";
    let any = route("");
    let allow = policy(
        "a",
        "{selector: {matchLabels: {app: edge}}, rules: [{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {methods: \
         [POST]}}], when: [{key: 'request.auth.claims[scope]', values: ['accounts:write']}]}]}",
    );
    let first: &[&str] = &["spec.rules[0]"];
    table(
        "PAL3003",
        &[
            (format!("{any}{}", of(read)), first),
            (of(read), first),
            (format!("{}{}", route(", method: {exact: DELETE}"), of(read)), first),
            // Near misses.
            (format!("{}{}", route(", method: {exact: GET}"), of(read)), &[]),
            (format!("{any}{}", of(get)), &[]),
            (format!("{any}{}", of(&format!("{post}, {read}"))), &[]),
            (
                format!(
                    "{any}{}",
                    of("{name: r, access: token, scopes: ['accounts:read', 'accounts:write']}")
                ),
                &[],
            ),
            (format!("{any}{}", of("{name: r, access: token}")), &[]),
            // Another policy lets only other writes in, and asks them for more.
            (format!("{any}{}{allow}", of(read)), &[]),
        ],
    );
}

#[test]
fn a_limit_on_logins_is_one_that_a_stranger_cannot_get_around() {
    let login = |path: &str| format!("{EDGE}{}", routes(&format!("{{match: [{{uri: {{{path}}}}}], {TO}}}")));
    let exact = |path: &str| login(&format!("exact: {path}"));
    let limit = |key: &str, more: &str| {
        limits(&format!(
            "{{selector: {{matchLabels: {{app: edge}}}}, limits: [{{name: l, key: [{key}], limit: 5, window: 60s{more}}}]}}"
        ))
    };
    let open: &[&str] = &["spec.http[0]"];
    let address = "{address: {}}";
    let whole = format!("{EDGE}{}", routes(&format!("{{{TO}}}")));
    let public =
        jwt(&format!("{}, {{name: rest, access: token}}", rule("l", "{paths: ['/v1/login']}", "public")));
    let rows: Vec<(String, &[&str])> = vec![
        (exact("/login") + &limit(address, ""), &[]),
        (exact("/login") + &limit("", ""), &[]),
        // Without a token there is no claim, and a header is written anew.
        (exact("/login") + &limit("{claim: sub}", ""), open),
        (exact("/login") + &limit("{principal: {}}", ""), open),
        (exact("/login") + &limit("{header: x-device}", ""), open),
        (exact("/login") + &limit(&format!("{address}, {{header: x-device}}"), ""), open),
        // For another path of the prefix only.
        (login("prefix: /auth/") + &limit(address, ", match: [{paths: ['/auth/health']}]"), open),
        (login("prefix: /auth/") + &limit(address, ", match: [{paths: ['/auth/*']}]"), &[]),
        // However it is spelled.
        (exact("/api/signIn"), open),
        (exact("/users/reset_password"), open),
        (exact("/customer-login"), open),
        (exact("/api/v1/sessions"), open),
        (exact("/verifyOTP"), open),
        (exact("/catalogin"), &[]),
        (exact("/cards/tokenization"), &[]),
        (exact("/pinned"), &[]),
        // A login within a route for everything is known by its public mark.
        (format!("{whole}{public}"), open),
        (format!("{whole}{public}{}", limit(address, ", match: [{paths: ['/v1/login']}]")), &[]),
    ];
    table("PAL3004", &rows);
    let deny = |paths: &str| {
        let rule = format!(
            "{{from: [{{source: {{notRequestPrincipals: ['*']}}}}], to: [{{operation: {{notPaths: [{paths}]}}}}]}}"
        );
        policy("d", &format!("{{selector: {{matchLabels: {{app: edge}}}}, action: DENY, rules: [{rule}]}}"))
    };
    table(
        "PAL3004",
        &[
            (format!("{whole}{}", deny("'/health', '/login'")), open),
            (format!("{whole}{}", deny("'/health'")), &[]),
        ],
    );
}

#[test]
fn what_is_served_in_tls_is_not_served_in_plaintext_too() {
    let plain = |hosts: &str, more: &str| {
        EDGE.replace("  servers:\n", &format!("  servers:\n  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{hosts}]{more}}}\n"))
            + &routes(&format!("{{{TO}}}"))
    };
    table(
        "PAL3013",
        &[
            (plain("'*'", ""), &["spec.servers[0]"]),
            (plain("api.example", ""), &["spec.servers[0]"]),
            (plain("'*'", ", tls: {httpsRedirect: true}"), &[]),
            (plain("other.example", ""), &[]),
            // Behind a load balancer that has the TLS.
            (
                EDGE.replace(
                    "{number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: api}",
                    "{number: 80, name: http, protocol: HTTP}, hosts: ['*']",
                ) + &routes(&format!("{{{TO}}}")),
                &[],
            ),
        ],
    );
}

#[test]
fn a_token_is_needed_by_what_tells_it_from_none() {
    let deny = |rule: &str| {
        users()
            + &policy(
                "d",
                &format!("{{selector: {{matchLabels: {{app: edge}}}}, action: DENY, rules: [{rule}]}}"),
            )
    };
    table(
        "PAL3002",
        &[
            (deny("{from: [{source: {notRequestPrincipals: ['*']}}]}"), &[]),
            // Refuses some users, and lets in who shows no token.
            (deny("{from: [{source: {requestPrincipals: ['i/mallory']}}]}"), &["spec"]),
        ],
    );
}
