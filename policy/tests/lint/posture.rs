//! What a posture says of routes, and that it says of holes what lint says.

use palisade_policy::posture::{Authentication, EdgeAccess, Mtls, Posture, RoutePosture, posture};

use crate::support::parse_ok;
use crate::{EDGE, STRICT, TOKENS, document, limits, paths, policy, report, routes};

const ROUTE: &str = "{name: get, match: [{uri: {prefix: /accounts/}, method: {exact: GET}}], route: [{destination: {host: accounts}}]}";
const USERS: &str = "{selector: {matchLabels: {app: edge}}, jwtRules: [{issuer: i, audiences: [a], jwksUri: 'https://i.example/k'}]}";
/// Mutual TLS, and nobody calls a service whom no policy names.
const CLOSED: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: default-deny, namespace: palisade-system}
spec: {}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
";

fn users() -> String {
    document("security.istio.io/v1", "RequestAuthentication", "users", USERS)
}

fn access(rules: &str) -> String {
    let spec = format!("{{selector: {{matchLabels: {{app: edge}}}}, rules: [{rules}]}}");
    document("palisade.mesh/v1", "JwtPolicy", "access", &spec)
}

fn behind(name: &str, rules: &str) -> String {
    policy(name, &format!("{{selector: {{matchLabels: {{app: accounts}}}}, rules: [{rules}]}}"))
}

fn all(http: &str, more: &[String]) -> String {
    format!("{EDGE}{}{}", routes(http), more.concat())
}

#[track_caller]
fn rows(text: &str) -> Posture {
    posture(parse_ok(text).0.objects())
}

#[track_caller]
fn row(text: &str) -> RoutePosture {
    let mut rows = rows(text).routes;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

#[test]
fn a_row_says_what_a_route_needs() {
    use Authentication::{Mixed, None, Optional, Public, Refused, Required};
    let part = "{name: p, match: [{paths: ['/accounts/public']}], access: public}";
    let deny = "{selector: {matchLabels: {app: edge}}, action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}";
    let allow =
        |rule: &str| policy("a", &format!("{{selector: {{matchLabels: {{app: edge}}}}, rules: [{rule}]}}"));
    let rows = [
        (vec![], None),
        (vec![users()], Optional),
        (vec![users(), access("{name: all, access: token}")], Required),
        (vec![users(), access("{name: all, access: public}")], Public),
        (vec![users(), access(&format!("{part}, {{name: all, access: token}}"))], Mixed),
        // The rest of the route is not spoken of.
        (vec![users(), access(part)], Optional),
        (vec![users(), policy("d", deny)], Required),
        (vec![users(), allow("{from: [{source: {requestPrincipals: ['*']}}]}")], Required),
        (vec![users(), allow("{to: [{operation: {methods: [GET]}}]}")], Optional),
        (vec![users(), allow("{to: [{operation: {methods: [POST]}}]}")], Refused),
        // Nobody from outside has an identity of the mesh.
        (vec![users(), allow("{from: [{source: {principals: ['*']}}]}")], Refused),
    ];
    for (more, expected) in rows {
        let text = all(ROUTE, &more);
        assert_eq!(row(&text).authentication, expected, "{text}");
    }
    let answered = row(&all("{redirect: {uri: /new}}", &[]));
    assert_eq!(answered.authentication, Authentication::NotNeeded);
    assert_eq!((answered.answer.as_deref(), answered.holes), (Some("redirect"), vec![]));
}

#[test]
fn a_row_names_issuers_scopes_limits_and_cors() {
    let rule =
        "{name: read, match: [{methods: [GET]}], access: token, scopes: ['accounts:read'], audiences: [b]}";
    let counts = limits(
        "{selector: {matchLabels: {app: edge}}, limits: [{name: clients, key: [{address: {}}], limit: 600, window: 60s}, \
         {name: users, match: [{paths: ['/accounts/x']}], key: [{claim: sub}], limit: 5, window: 1h, mode: shadow}]}",
    );
    let cors = ROUTE.replace(
        "route:",
        "corsPolicy: {allowOrigins: [{exact: 'https://a.example'}], allowCredentials: true}, route:",
    );
    let row = row(&all(&cors, &[users(), access(rule), counts]));
    assert_eq!(
        (row.issuers[0].issuer.as_str(), row.issuers[0].audiences.as_slice()),
        ("i", &["a".to_owned()][..])
    );
    let [rule] = row.rules.as_slice() else { panic!("{row:?}") };
    assert_eq!((rule.rule.as_str(), rule.token), ("bank/access/read", true));
    assert_eq!(
        (rule.scopes.as_slice(), rule.audiences.as_slice()),
        (&["accounts:read".to_owned()][..], &["b".to_owned()][..])
    );
    let [clients, users] = row.limits.as_slice() else { panic!("{row:?}") };
    assert_eq!((clients.key.join(""), clients.partly, clients.enforced), ("address".into(), false, true));
    assert_eq!((users.window_seconds, users.partly, users.enforced), (3600, true, false));
    let cors = row.cors.unwrap();
    assert_eq!((cors.origins, cors.credentials), (vec!["https://a.example".to_owned()], true));
    assert_eq!((row.servers, row.hosts), (vec!["443 HTTPS".to_owned()], vec!["api.example".to_owned()]));
    assert_eq!((row.methods, row.paths), (vec!["GET".to_owned()], vec!["/accounts/*".to_owned()]));
}

#[test]
fn a_row_says_who_else_is_let_in_behind() {
    let from =
        |who: &str| format!("{{from: [{{source: {{{who}}}}}], to: [{{operation: {{methods: [GET]}}}}]}}");
    let edge = from("principals: ['corp.example/ns/bank/sa/edge']");
    let deny = |rule: &str| {
        policy(
            "d",
            &format!("{{selector: {{matchLabels: {{app: accounts}}}}, action: DENY, rules: [{rule}]}}"),
        )
    };
    // Policies, anyone, callers, whether the edge is let in.
    let rows: Vec<(Vec<String>, bool, &[&str], EdgeAccess)> = vec![
        (vec![], false, &[], EdgeAccess::No),
        (vec![behind("e", &edge)], false, &["corp.example/ns/bank/sa/edge"], EdgeAccess::Yes),
        (vec![behind("e", &edge.replace("GET", "POST"))], false, &[], EdgeAccess::No),
        (
            vec![behind("e", &edge.replace("sa/edge", "sa/web"))],
            false,
            &["corp.example/ns/bank/sa/web"],
            EdgeAccess::No,
        ),
        (vec![behind("e", "{to: [{operation: {methods: [GET]}}]}")], true, &[], EdgeAccess::Yes),
        (vec![behind("e", &from("serviceAccounts: [edge]"))], false, &["*/ns/bank/sa/edge"], EdgeAccess::Yes),
        (vec![behind("e", &from("namespaces: [bank]"))], false, &["namespace bank"], EdgeAccess::Yes),
        (
            vec![behind("e", &from("principals: ['*'], notPrincipals: ['*/sa/edge']"))],
            false,
            &["*"],
            EdgeAccess::No,
        ),
        (
            vec![
                behind("e", &from("namespaces: [bank]")),
                deny(&from("notPrincipals: ['corp.example/ns/bank/sa/web']")),
            ],
            false,
            &["namespace bank"],
            EdgeAccess::No,
        ),
        (
            vec![behind("e", &edge), deny("{to: [{operation: {paths: ['/accounts/*']}}]}")],
            false,
            &[],
            EdgeAccess::No,
        ),
    ];
    for (policies, anyone, callers, edge) in rows {
        let text = all(ROUTE, &[CLOSED.to_owned(), policies.concat()]);
        let row = row(&text);
        let [upstream] = row.upstreams.as_slice() else { panic!("{row:?}") };
        let seen: Vec<&str> = upstream.callers.iter().map(String::as_str).collect();
        assert_eq!((upstream.anyone, upstream.mtls), (anyone, Some(Mtls::Strict)), "{text}");
        assert_eq!(seen, callers, "{text}");
        assert_eq!(upstream.edge, edge, "{text}");
    }
}

#[test]
fn a_deny_of_all_but_the_edge_lets_in_the_edge() {
    let spec = "{selector: {matchLabels: {app: accounts}}, action: DENY, rules: [{from: [{source: {notPrincipals: \
                ['*/ns/bank/sa/edge']}}]}]}";
    let row = row(&all(ROUTE, &[TOKENS.to_owned(), STRICT.to_owned(), policy("d", spec)]));
    let upstream = &row.upstreams[0];
    assert_eq!((upstream.anyone, upstream.edge), (false, EdgeAccess::Yes));
    assert_eq!((upstream.callers.as_slice(), row.holes.len()), (&["*/ns/bank/sa/edge".to_owned()][..], 0));
}

#[test]
fn a_service_is_asked_about_the_path_that_it_gets() {
    let rewritten = ROUTE.replace("route:", "rewrite: {uri: /v2/}, route:");
    let rule = |path: &str| {
        behind(
            "e",
            &format!(
                "{{from: [{{source: {{serviceAccounts: [edge]}}}}], to: [{{operation: {{paths: ['{path}']}}}}]}}"
            ),
        )
    };
    for (path, expected) in [("/v2/*", EdgeAccess::Yes), ("/accounts/*", EdgeAccess::No)] {
        let row = row(&all(&rewritten, &[CLOSED.to_owned(), rule(path)]));
        assert_eq!(row.upstreams[0].edge, expected, "{path}");
    }
}

#[test]
fn what_is_outside_the_mesh_is_asked_nothing() {
    let entry = document(
        "networking.istio.io/v1",
        "ServiceEntry",
        "x",
        "{hosts: [api.partner.example], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS}",
    );
    let row =
        row(&all(&ROUTE.replace("host: accounts", "host: api.partner.example"), &[TOKENS.to_owned(), entry]));
    assert!(!row.upstreams[0].in_mesh && row.upstreams[0].mtls.is_none());
    assert_eq!(row.holes, []);
}

/// The codes of holes, as posture and as lint see them.
const CODES: [&str; 7] = ["PAL3001", "PAL3003", "PAL3004", "PAL3005", "PAL3008", "PAL3009", "PAL3013"];

fn codes_of_both(text: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut seen: Vec<_> = rows(text).routes.iter().flat_map(|r| &r.holes).map(|h| h.code).collect();
    let report = report(text);
    let findings = report.findings.0.iter().chain(report.ignored.iter().map(|i| &i.finding));
    let mut found: Vec<_> = findings.map(|f| f.code).filter(|code| CODES.contains(code)).collect();
    for codes in [&mut seen, &mut found] {
        codes.sort_unstable();
        codes.dedup();
    }
    (seen, found)
}

#[test]
fn every_hole_is_a_finding_of_lint_and_every_such_finding_is_a_hole() {
    let login = "{match: [{uri: {exact: /login}}], route: [{destination: {host: accounts}}]}";
    let wide =
        ROUTE.replace("route:", "corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: [POST]}, route:");
    let any = ROUTE.replace(", method: {exact: GET}", "");
    let reader = "{name: r, access: token, scopes: ['accounts:read']}";
    let edge = behind("e", "{from: [{source: {serviceAccounts: [edge]}}]}");
    let mut rows: Vec<(String, &[&str])> = vec![
        (all(ROUTE, &[]), &["PAL3001", "PAL3008", "PAL3009"]),
        (all(ROUTE, &[TOKENS.into()]), &["PAL3008", "PAL3009"]),
        (all(ROUTE, &[TOKENS.into(), STRICT.into()]), &["PAL3009"]),
        (all(ROUTE, &[TOKENS.into(), edge.clone()]), &["PAL3008"]),
        (all(ROUTE, &[TOKENS.into(), STRICT.into(), edge.clone()]), &[]),
        (all(login, &[TOKENS.into(), STRICT.into(), edge.clone()]), &["PAL3004"]),
        (all(&wide, &[TOKENS.into(), STRICT.into(), edge.clone()]), &["PAL3005"]),
        (all(ROUTE, &[users(), access(reader), STRICT.into(), edge.clone()]), &[]),
        (all(&any, &[users(), access(reader), STRICT.into(), edge]), &["PAL3003"]),
    ];
    let plain = "  servers:\n  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n";
    let both = all(
        ROUTE,
        &[TOKENS.into(), STRICT.into(), behind("e", "{from: [{source: {serviceAccounts: [edge]}}]}")],
    );
    rows.push((both.replace("  servers:\n", plain), &["PAL3013"]));
    for (text, expected) in rows {
        let (seen, found) = codes_of_both(&text);
        assert_eq!(seen, expected, "posture of {text}");
        assert_eq!(found, expected, "lint of {text}");
    }
}

#[test]
fn an_accepted_hole_says_why_and_is_open_no_more() {
    let text = all(ROUTE, &[TOKENS.into(), STRICT.into()]);
    let accepted = text.replace(
        "kind: VirtualService\nmetadata: {name: api, namespace: bank}",
        "kind: VirtualService\nmetadata: {name: api, namespace: bank, annotations: {palisade.mesh/lint-ignore: 'PAL3009: soon'}}",
    );
    assert_eq!((rows(&text).open_holes(), rows(&accepted).open_holes()), (1, 0));
    assert_eq!(row(&accepted).holes[0].accepted.as_deref(), Some("soon"));
}

#[test]
fn a_row_names_the_rules_of_guards_and_lint_says_where_no_body_is_bounded() {
    let http = "{name: pay, match: [{uri: {exact: /pay}, method: {exact: POST}}], route: [{destination: {host: ledger}}]}, \
                {name: look, match: [{uri: {prefix: /look/}, method: {exact: GET}}], route: [{destination: {host: ledger}}]}, \
                {name: rest, route: [{destination: {host: ledger}}]}";
    let guard = |rules: &str| {
        let spec = format!("{{selector: {{matchLabels: {{app: edge}}}}, rules: [{rules}]}}");
        format!(
            "{EDGE}{STRICT}{TOKENS}{}{}",
            routes(http),
            document("palisade.mesh/v1", "RequestGuard", "g", &spec)
        )
    };
    let pay = "{name: pay, match: [{routes: [pay]}], contentTypes: [application/json], maxBodyBytes: 100}";
    let some =
        "{name: some, match: [{methods: [POST], paths: ['/a']}], maxBodyBytes: 5, forbidDuplicates: ['*']}";
    let text = guard(&format!("{pay}, {some}"));
    let rows = rows(&text).routes;
    let guards = |route: &str| {
        let row = rows.iter().find(|row| row.route.ends_with(route)).unwrap();
        row.guards
            .iter()
            .map(|g| (g.rule.clone(), g.body_bytes_max, g.others.clone(), g.partly))
            .collect::<Vec<_>>()
    };
    assert_eq!(guards("/pay"), [("bank/g/pay".to_owned(), Some(100), vec![], false)]);
    assert_eq!(guards("/look"), []);
    assert_eq!(guards("/rest"), [("bank/g/some".to_owned(), Some(5), vec!["headers"], true)]);
    assert_eq!(paths(&text, "PAL3012"), ["spec.http[2]"]);
    assert_eq!(paths(&guard("{name: all, maxBodyBytes: 100}"), "PAL3012"), [""; 0]);
    assert_eq!(paths(&guard("{name: all, maxHeaders: 9}"), "PAL3012"), ["spec.http[0]", "spec.http[2]"]);
}
