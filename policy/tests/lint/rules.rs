//! Rules of AuthorizationPolicy.

use palisade_policy::Severity;

use crate::{EDGE, STRICT, document, policy, severity, table};

fn allow(rules: &str) -> String {
    policy("a", &format!("{{rules: [{rules}]}}"))
}

fn deny(rules: &str) -> String {
    policy("d", &format!("{{action: DENY, rules: [{rules}]}}"))
}

#[test]
fn a_deny_takes_all_that_a_rule_allows() {
    let get = "{from: [{source: {principals: [t/ns/a/sa/b]}}], to: [{operation: {methods: [GET], paths: ['/a/x']}}]}";
    let with = |denied: &str| format!("{}{}{STRICT}", allow(get), deny(denied));
    table(
        "PAL3101",
        &[
            (with("{}"), &["spec.rules[0]"]),
            (with("{to: [{operation: {paths: ['/a/*', '/a']}}]}"), &["spec.rules[0]"]),
            (with("{to: [{operation: {methods: ['*']}}]}"), &["spec.rules[0]"]),
            (with("{from: [{source: {principals: ['*']}}]}"), &["spec.rules[0]"]),
            // Near misses: another path, one method of two, one caller more, a condition more.
            (with("{to: [{operation: {paths: ['/a/y']}}]}"), &[]),
            (with("{to: [{operation: {methods: [POST]}}]}"), &[]),
            (with("{from: [{source: {principals: [t/ns/a/sa/c]}}]}"), &[]),
            (with("{from: [{source: {notPrincipals: ['*']}}]}"), &[]),
            (with("{to: [{operation: {notPaths: ['/b']}}]}"), &[]),
            (with("{when: [{key: source.ip, values: [10.0.0.1]}]}"), &[]),
            (with("{to: [{operation: {paths: ['/a/{*}/b']}}]}"), &[]),
        ],
    );
}

#[test]
fn only_what_is_enforced_for_all_its_workloads_takes_something_away() {
    let rule = "{to: [{operation: {methods: [GET]}}]}";
    let of = |selector: &str, dry: &str| {
        format!(
            "{}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: d, namespace: bank, \
             annotations: {{istio.io/dry-run: '{dry}'}}}}\nspec: {{selector: {{matchLabels: {{{selector}}}}}, action: \
             DENY, rules: [{{}}]}}\n",
            policy("a", &format!("{{selector: {{matchLabels: {{app: x}}}}, rules: [{rule}]}}"))
        )
    };
    table(
        "PAL3101",
        &[
            (of("app: x", "false"), &["spec.rules[0]"]),
            (of("app: x", "true"), &[]),
            (of("app: y", "false"), &[]),
            (of("app: x, version: v1", "false"), &[]),
        ],
    );
}

#[test]
fn another_rule_does_all_that_a_rule_does() {
    let two = |a: &str, b: &str| format!("{}{STRICT}", allow(&format!("{a}, {b}")));
    let get = "{to: [{operation: {methods: [GET], paths: ['/a']}}]}";
    table(
        "PAL3102",
        &[
            (two(get, get), &["spec.rules[1]"]),
            (two(get, "{to: [{operation: {methods: [GET, PUT], paths: ['/a*']}}]}"), &["spec.rules[0]"]),
            (two(get, "{}"), &["spec.rules[0]"]),
            (
                two(
                    "{from: [{source: {serviceAccounts: [x]}}]}",
                    "{from: [{source: {serviceAccounts: [bank/x, y]}}]}",
                ),
                &["spec.rules[0]"],
            ),
            (
                two(
                    "{from: [{source: {ipBlocks: [10.1.0.0/16]}}]}",
                    "{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}",
                ),
                &["spec.rules[0]"],
            ),
            (
                two(
                    "{to: [{operation: {hosts: [A.example]}}]}",
                    "{to: [{operation: {hosts: ['*.example']}}]}",
                ),
                &["spec.rules[0]"],
            ),
            (two(get, "{to: [{operation: {methods: [PUT], paths: ['/a']}}]}"), &[]),
            (two(get, "{to: [{operation: {methods: [GET], paths: ['/a/*']}}]}"), &[]),
            (two(get, "{to: [{operation: {notMethods: [GET]}}]}"), &[]),
            (two("{from: [{source: {namespaces: [a]}}]}", "{from: [{source: {namespaces: [b]}}]}"), &[]),
            (two("{}", "{}"), &["spec.rules[1]"]),
        ],
    );
}

#[test]
fn rules_for_different_actions_or_workloads_stand_beside_each_other() {
    let of = |name: &str, app: &str| {
        policy(
            name,
            &format!(
                "{{selector: {{matchLabels: {{app: {app}}}}}, rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]}}"
            ),
        )
    };
    table(
        "PAL3102",
        &[
            (format!("{}{}", of("a", "x"), of("b", "x")), &["spec.rules[0]"]),
            (format!("{}{}", of("a", "x"), of("b", "y")), &[]),
            (
                format!(
                    "{}{}",
                    of("a", "x"),
                    policy("b", "{rules: [{to: [{operation: {methods: [GET]}}]}]}")
                ),
                &["spec.rules[0]"],
            ),
        ],
    );
}

#[test]
fn a_deny_by_identity_needs_strict_mutual_tls() {
    let named = "{from: [{source: {principals: ['*/sa/x']}}]}";
    let peers = |name: &str, spec: &str| document("security.istio.io/v1", "PeerAuthentication", name, spec);
    let selected = "{selector: {matchLabels: {app: x}}, mtls: {mode: PERMISSIVE}}";
    let port =
        "{selector: {matchLabels: {app: x}}, mtls: {mode: STRICT}, portLevelMtls: {'80': {mode: DISABLE}}}";
    table(
        "PAL3103",
        &[
            (deny(named), &["spec.rules[0].from"]),
            (deny("{from: [{source: {namespaces: [a]}}]}"), &["spec.rules[0].from"]),
            (deny("{when: [{key: source.principal, values: [a]}]}"), &["spec.rules[0].when[0]"]),
            // From another address, a passes in plaintext.
            (
                deny("{from: [{source: {ipBlocks: [10.0.0.1]}}, {source: {principals: [a]}}]}"),
                &["spec.rules[0].from[1]"],
            ),
            (format!("{}{STRICT}{}", deny(named), peers("p", selected)), &["spec.rules[0].from"]),
            (format!("{}{STRICT}{}", deny(named), peers("p", port)), &["spec.rules[0].from"]),
            (
                format!("{}{STRICT}{}", deny(named), peers("p", "{mtls: {mode: PERMISSIVE}}")),
                &["spec.rules[0].from"],
            ),
            // Near misses.
            (format!("{}{STRICT}", deny(named)), &[]),
            (format!("{}{}", deny(named), peers("p", "{mtls: {mode: STRICT}}")), &[]),
            (format!("{}{STRICT}{}", deny(named), peers("p", "{mtls: {mode: UNSET}}")), &[]),
            (allow(named), &[]),
            (deny("{from: [{source: {notPrincipals: ['*']}}]}"), &[]),
            (deny(&format!("{named}, {{from: [{{source: {{notPrincipals: ['*']}}}}]}}")), &[]),
            (deny("{from: [{source: {notPrincipals: [a]}}]}"), &[]),
            (deny("{from: [{source: {ipBlocks: [10.0.0.1]}}]}"), &[]),
            (deny("{from: [{source: {principals: [a]}}, {source: {notPrincipals: ['*']}}]}"), &[]),
        ],
    );
}

#[test]
fn a_prefix_that_opens_ends_where_a_segment_ends() {
    let path = |value: &str| allow(&format!("{{to: [{{operation: {{paths: ['{value}']}}}}]}}"));
    let at: &[&str] = &["spec.rules[0].to[0].operation.paths[0]"];
    table(
        "PAL3104",
        &[
            (path("/info*"), at),
            (path("/v1/accounts*"), at),
            (path("/info/*"), &[]),
            (path("/info"), &[]),
            (path("/v*"), &[]),
            (path("/file-*"), &[]),
            (path("/info/{**}"), &[]),
            (path("*info"), &[]),
            (path("/*"), &[]),
            // A DENY by a prefix refuses more than it says.
            (deny("{to: [{operation: {paths: ['/info*']}}]}"), &[]),
            (
                deny("{to: [{operation: {notPaths: ['/public*']}}]}"),
                &["spec.rules[0].to[0].operation.notPaths[0]"],
            ),
        ],
    );
    let text = path("/info*");
    assert!(crate::report(&text).findings.0[0].message.contains("\"/information\""));
    assert_eq!(severity(&text, "PAL3104"), Severity::Warning);
}

#[test]
fn a_deny_below_a_path_names_the_path_itself() {
    let paths = |values: &str| deny(&format!("{{to: [{{operation: {{paths: [{values}]}}}}]}}"));
    let at: &[&str] = &["spec.rules[0].to[0].operation.paths[0]"];
    table(
        "PAL3105",
        &[
            (paths("'/admin/*'"), at),
            (paths("'/admin/{**}'"), at),
            (paths("'/admin/*', '/admin'"), &[]),
            (paths("'/admin/*', '/adm*'"), &[]),
            (paths("'/admin*'"), &[]),
            (paths("'/a/{*}/b/{**}'"), &[]),
            (allow("{to: [{operation: {paths: ['/admin/*']}}]}"), &[]),
        ],
    );
}

#[test]
fn rules_that_refuse_by_path_need_one_reading_of_paths() {
    let mesh = |spec: &str| {
        format!(
            "---\napiVersion: palisade.mesh/v1\nkind: MeshConfig\nmetadata: {{name: default, namespace: palisade-system}}\n\
             spec: {spec}\n"
        )
    };
    let denied = deny("{to: [{operation: {paths: ['/admin*']}}]}");
    let except = allow("{to: [{operation: {notPaths: ['/admin*']}}]}");
    let keep = mesh("{ambiguousPaths: KEEP}");
    let guard = |how: &str| {
        let spec =
            format!("{{rules: [{{name: a, match: [{{paths: ['/admin/*']}}], ambiguousPaths: {how}}}]}}");
        document("palisade.mesh/v1", "RequestGuard", "g", &spec)
    };
    table(
        "PAL3106",
        &[
            (format!("{denied}{keep}"), &["spec.rules[0].to[0].operation.paths"]),
            (format!("{except}{keep}"), &["spec.rules[0].to[0].operation.notPaths"]),
            (
                format!("{denied}{}", mesh("{pathNormalization: {normalization: NONE}}")),
                &["spec.rules[0].to[0].operation.paths"],
            ),
            (format!("{denied}{}", guard("KEEP")), &["spec.rules[0].to[0].operation.paths"]),
            (format!("{denied}{}", guard("REJECT")), &[]),
            (denied.clone(), &[]),
            (format!("{denied}{}", mesh("{ambiguousPaths: REJECT}")), &[]),
            (format!("{}{keep}", allow("{to: [{operation: {paths: ['/a']}}]}")), &[]),
        ],
    );
}

#[test]
fn a_deny_by_path_counts_on_the_case_of_letters() {
    let at: &[&str] = &["spec.rules[0].to[0].operation.paths[0]"];
    table(
        "PAL3107",
        &[
            (deny("{to: [{operation: {paths: ['/admin*']}}]}"), at),
            (deny("{to: [{operation: {paths: ['/1*']}}]}"), &[]),
            (allow("{to: [{operation: {paths: ['/admin']}}]}"), &[]),
        ],
    );
    assert_eq!(severity(&deny("{to: [{operation: {paths: ['/a']}}]}"), "PAL3107"), Severity::Note);
}

#[test]
fn http_is_not_looked_for_on_tcp_ports() {
    let entry = |ports: &str| {
        let spec = format!(
            "{{hosts: [db.bank], ports: [{ports}], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{{address: \
             10.0.0.1, labels: {{app: db}}, serviceAccount: db}}]}}"
        );
        document("networking.istio.io/v1", "ServiceEntry", "db", &spec)
    };
    let rule = |operation: &str| {
        policy(
            "a",
            &format!(
                "{{selector: {{matchLabels: {{app: db}}}}, rules: [{{to: [{{operation: {operation}}}]}}]}}"
            ),
        )
    };
    let rule_of = |parts: &str| {
        policy("a", &format!("{{selector: {{matchLabels: {{app: db}}}}, rules: [{{{parts}}}]}}"))
    };
    let tcp = "{number: 5432, name: pg, protocol: TCP}";
    let both = "{number: 5432, name: pg, protocol: TCP}, {number: 80, name: http, protocol: HTTP}";
    let at: &[&str] = &["spec.rules[0].to[0].operation.methods"];
    table(
        "PAL3108",
        &[
            (format!("{}{}", rule("{methods: [GET]}"), entry(tcp)), at),
            (format!("{}{}", rule("{methods: [GET], ports: ['5432']}"), entry(both)), at),
            (format!("{}{}", rule("{methods: [GET], ports: ['80']}"), entry(both)), &[]),
            (format!("{}{}", rule("{methods: [GET]}"), entry(both)), &[]),
            (format!("{}{}", rule("{ports: ['5432']}"), entry(tcp)), &[]),
            (format!("{}{}", rule("{methods: [GET]}").replace("app: db", "app: x"), entry(tcp)), &[]),
            // Tokens and headers are HTTP too.
            (
                format!("{}{}", rule_of("from: [{source: {requestPrincipals: ['*']}}]"), entry(tcp)),
                &["spec.rules[0].from[0].source.requestPrincipals"],
            ),
            (
                format!("{}{}", rule_of("when: [{key: 'request.headers[x]', values: [a]}]"), entry(tcp)),
                &["spec.rules[0].when[0]"],
            ),
            (format!("{}{}", rule_of("when: [{key: source.ip, values: [10.0.0.1]}]"), entry(tcp)), &[]),
            (format!("{}{}", rule_of("from: [{source: {requestPrincipals: ['*']}}]"), entry(both)), &[]),
        ],
    );
}

#[test]
fn nobody_in_the_mesh_is_known_by_a_server_name() {
    let rule = |selector: &str, values: &str| {
        let when = format!(
            "when: [{{key: source.ip, values: [10.0.0.1]}}, {{key: connection.sni, {values}: ['*.bank']}}]"
        );
        policy("a", &format!("{{{selector}action: DENY, rules: [{{{when}}}]}}"))
    };
    let at: &[&str] = &["spec.rules[0].when[1].key"];
    let ledger = "selector: {matchLabels: {app: ledger}}, ";
    let edge = "selector: {matchLabels: {app: edge}}, ";
    table(
        "PAL3111",
        &[
            (rule(ledger, "values"), at),
            (rule(ledger, "notValues"), at),
            (rule(ledger, "values") + EDGE, at),
            (rule(edge, "values") + EDGE, &[]),
            (rule("", "values") + EDGE, &[]),
            (
                rule(ledger, "values")
                    .replace("connection.sni", "destination.ip")
                    .replace("*.bank", "10.0.0.2"),
                &[],
            ),
        ],
    );
}

#[test]
fn one_dash_too_many_is_an_or() {
    let from = "from: [{source: {principals: [a]}}]";
    let to = "to: [{operation: {methods: [GET]}}]";
    table(
        "PAL3109",
        &[
            (allow(&format!("{{{from}}}, {{{to}}}")), &["spec.rules[1]"]),
            (
                allow("{to: [{operation: {methods: [GET]}}, {operation: {paths: ['/a']}}]}"),
                &["spec.rules[0].to[1]"],
            ),
            (allow(&format!("{{{from}, {to}}}")), &[]),
            (allow(&format!("{{{from}, {to}}}, {{{from}}}")), &[]),
            (allow(&format!("{{{to}}}, {{{from}}}")), &[]),
            (
                allow("{to: [{operation: {methods: [GET], paths: ['/a']}}, {operation: {paths: ['/b']}}]}"),
                &[],
            ),
        ],
    );
}

#[test]
fn a_host_is_allowed_as_it_is_written() {
    let hosts = |values: &str| allow(&format!("{{to: [{{operation: {{hosts: [{values}]}}}}]}}"));
    table(
        "PAL3110",
        &[
            (hosts("api.example"), &["spec.rules[0].to[0].operation.hosts"]),
            (hosts("api.example, 'api.example:*'"), &[]),
            (hosts("'api.example:8443'"), &[]),
            (hosts("'api*'"), &[]),
            (deny("{to: [{operation: {hosts: [api.example]}}]}"), &[]),
        ],
    );
}

#[test]
fn a_scope_for_reading_is_not_enough_to_write() {
    let rule = |to: &str, values: &str| {
        allow(&format!("{{{to} when: [{{key: 'request.auth.claims[scope]', values: [{values}]}}]}}"))
    };
    let post = "to: [{operation: {methods: [GET, POST]}}],";
    let at: &[&str] = &["spec.rules[0].to[0].operation.methods"];
    table(
        "PAL3003",
        &[
            (rule(post, "accounts.read"), at),
            (rule(post, "'read:accounts'"), at),
            (rule(post, "accounts.write, accounts.read"), at),
            (rule("", "accounts.read"), &["spec.rules[0]"]),
            (rule("to: [{operation: {paths: ['/a']}}],", "viewer"), &["spec.rules[0].to[0].operation"]),
            (rule("to: [{operation: {notMethods: [GET]}}],", "viewer"), at),
            (rule(post, "accounts.write"), &[]),
            (rule(post, "accounts.readwrite"), &[]),
            (rule(post, "'read-write'"), &[]),
            (rule(post, "threads"), &[]),
            (rule("to: [{operation: {methods: [GET, HEAD]}}],", "accounts.read"), &[]),
            (
                allow(
                    "{to: [{operation: {methods: [POST]}}], when: [{key: 'request.auth.claims[scope]', values: [a.read]}, \
                     {key: 'request.auth.claims[scope]', values: [a.write]}]}",
                ),
                &[],
            ),
        ],
    );
}

#[test]
fn unsafe_methods_that_are_said_to_be_idempotent_are_pointed_at() {
    let policy = |rule: &str| {
        document("palisade.mesh/v1", "RetryPolicy", "r", &format!("{{host: ledger, rules: [{rule}]}}"))
    };
    let at: &[&str] = &["spec.rules[0].idempotent"];
    table(
        "PAL3221",
        &[
            (policy("{idempotent: true}"), at),
            (policy("{match: [{methods: [POST]}], idempotent: true}"), at),
            (policy("{match: [{methods: ['P*']}], idempotent: true}"), at),
            (policy("{match: [{paths: [/search]}], idempotent: true}"), at),
            (policy("{match: [{methods: [POST], paths: ['/bank.Ledger/*']}], idempotent: true}"), at),
            (policy("{match: [{methods: [POST], paths: [/bank.Ledger/Balance]}], idempotent: true}"), &[]),
            (policy("{match: [{methods: [GET, QUERY]}], idempotent: true}"), &[]),
            (policy("{match: [{methods: [POST]}], idempotencyKey: Idempotency-Key}"), &[]),
        ],
    );
}
