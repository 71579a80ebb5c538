//! RequestGuard: what is taken, what is refused, and what its rules say of requests.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use http::{HeaderMap, HeaderName};
use palisade_policy::kind::request_guard::rule::{GuardRule, GuardView, Measure, Violation};
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::request::readings::other_readings;
use palisade_policy::{Severity, Snapshot};
use support::{findings, parse_ok, snapshot, workload};

fn guard(rules: &str) -> String {
    format!(
        "apiVersion: palisade.mesh/v1\nkind: RequestGuard\nmetadata: {{name: g, namespace: bank}}\n\
         spec: {{selector: {{matchLabels: {{app: ledger}}}}, rules: [{rules}]}}\n"
    )
}

fn compiled(rules: &str) -> Snapshot {
    snapshot(&parse_ok(&guard(rules)).0, &[], &workload("bank", "ledger"))
}

#[test]
fn refuses_what_is_out_of_range_or_says_nothing() {
    let rows = [
        ("", "PAL2101", "write at least one rule"),
        ("{name: a}", "PAL2101", "write what requests must be"),
        ("{name: a, match: [{paths: [/a]}]}", "PAL2101", ""),
        ("{allowedMethods: [GET]}", "PAL0012", ""),
        ("{name: 'a b', maxHeaders: 5}", "PAL0014", ""),
        ("{name: a, maxHeaders: 5}, {name: a, maxHeaders: 6}", "PAL2102", ""),
        ("{name: a, maxHeaders: 0}", "PAL2103", ""),
        ("{name: a, maxHeaders: 101}", "PAL2103", ""),
        ("{name: a, maxHeaderBytes: 63}", "PAL2103", ""),
        ("{name: a, maxHeaderBytes: 65537}", "PAL2103", ""),
        ("{name: a, maxUriBytes: 0}", "PAL2103", ""),
        ("{name: a, maxUriBytes: 65537}", "PAL2103", ""),
        ("{name: a, maxBodyBytes: 1099511627777}", "PAL2103", ""),
        ("{name: a, maxBodyBytes: -1}", "PAL0018", ""),
        ("{name: a, maxBodyBytes: 16KiB}", "PAL0010", ""),
        ("{name: a, maxBodyByte: 1}", "PAL0008", "did you mean \"maxBodyBytes\"?"),
        ("{name: a, maxBodySize: 1}", "PAL0009", "write maxBodyBytes"),
        ("{name: a, methods: [GET]}", "PAL0009", "write allowedMethods"),
        ("{name: a, allowedMethods: [post]}", "PAL2104", "write \"POST\""),
        ("{name: a, allowedMethods: ['*']}", "PAL2104", "leave allowedMethods out"),
        ("{name: a, allowedMethods: [CONNECT]}", "PAL2104", ""),
        ("{name: a, allowedMethods: ['GE T']}", "PAL2104", ""),
        ("{name: a, contentTypes: ['*/*']}", "PAL2105", "type/subtype"),
        ("{name: a, contentTypes: ['application/json; charset=utf-8']}", "PAL2105", "without parameters"),
        ("{name: a, contentTypes: [json]}", "PAL2105", ""),
        ("{name: a, forbidHeaders: ['x debug']}", "PAL2106", ""),
        ("{name: a, forbidHeaders: ['x-*-y']}", "PAL2106", ""),
        ("{name: a, forbidHeaders: ['*']}", "PAL2106", ""),
        ("{name: a, forbidHeaders: [Host]}", "PAL2106", "framing headers"),
        ("{name: a, forbidHeaders: [content_length]}", "PAL2106", "framing headers"),
        ("{name: a, stripHeaders: [Transfer-Encoding]}", "PAL2106", "framing headers"),
        ("{name: a, stripHeaders: [connection]}", "PAL2106", ""),
        ("{name: a, stripHeaders: ['tr*']}", "PAL2106", ""),
        ("{name: a, stripHeaders: ['x*']}", "PAL2106", ""),
        ("{name: a, stripHeaders: [X_Forwarded_For]}", "PAL2106", ""),
        ("{name: a, stripHeaders: [x-palisade-flagged]}", "PAL2106", ""),
        ("{name: a, forbidDuplicates: ['a b']}", "PAL2106", ""),
        ("{name: a, underscores: REFUSE}", "PAL0011", "one of REJECT, KEEP"),
        ("{name: a, ambiguousPaths: KEPT}", "PAL0011", "did you mean KEEP?"),
        ("{name: a, maxHeaders: 5, match: [{paths: [x]}]}", "PAL1016", ""),
    ];
    for (rules, code, help) in rows {
        let found = findings(&guard(rules));
        assert!(found.has_errors(), "{rules}: {found:?}");
        let fits = |f: &palisade_policy::Finding| {
            f.code == code && f.help.as_deref().unwrap_or_default().contains(help)
        };
        assert!(found.0.iter().any(fits), "{rules}: {found:?}");
    }
}

#[test]
fn warns_of_what_is_hardly_meant() {
    let rows = [
        ("{name: a, allowedMethods: [PSOT]}", "PAL2104"),
        ("{name: a, contentTypes: [aplication/json]}", "PAL2105"),
        ("{name: a, allowedMethods: [POST], match: [{methods: [POST]}]}", "PAL2104"),
        (
            "{name: a, allowedMethods: [POST, PUT], match: [{methods: [POST], paths: [/a]}, {methods: [PUT]}]}",
            "PAL2104",
        ),
    ];
    for (rules, code) in rows {
        let found = findings(&guard(rules)).0;
        let warned = found.iter().any(|f| f.code == code && f.severity == Severity::Warning);
        assert!(warned && found.len() == 1, "{rules}: {found:?}");
    }
    for rules in [
        "{name: a, allowedMethods: [PROPFIND]}",
        "{name: a, allowedMethods: [POST], match: [{methods: [POST, PUT]}]}",
        "{name: a, contentTypes: [x-custom/thing, application/vnd.bank.transfer+json, image/*]}",
        "{name: a, maxBodyBytes: 0, underscores: KEEP}",
        "{name: a, forbidHeaders: [x-debug, 'x-internal-*', x-http-method-override], forbidDuplicates: [host]}",
    ] {
        assert!(findings(&guard(rules)).is_empty(), "{rules}");
    }
}

type Lines<'l> = &'l [(&'l str, &'l str)];

/// A request with these header lines; a body of `body` bytes where there is one.
#[track_caller]
fn verdict(rules: &str, method: &str, lines: Lines<'_>, body: Option<u64>) -> Result<(), Violation> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let request = GuardView {
        method,
        measure: Measure::of(&headers, 10),
        headers: &headers,
        has_body: body.is_some(),
        body_bytes: body.unwrap_or_default(),
        preflight: false,
    };
    let view = MatchView { host: "h", method, path: "/", route: None };
    compiled(rules).guards(view).try_for_each(|rule| rule.check(&request))
}

#[test]
fn methods_are_compared_as_they_are_and_all_matching_rules_must_agree() {
    let both = "{name: a, allowedMethods: [GET, POST]}, {name: b, allowedMethods: [POST, PUT]}";
    for (method, allowed) in
        [("POST", true), ("GET", false), ("PUT", false), ("HEAD", false), ("post", false), ("OPTIONS", false)]
    {
        let expected = if allowed { Ok(()) } else { Err(Violation::Method) };
        assert_eq!(verdict(both, method, &[], None), expected, "{method}");
    }
}

#[test]
fn a_body_needs_one_type_and_one_of_those_that_are_taken() {
    let json = "{name: a, contentTypes: [application/json, text/*]}";
    let kind = |value| [("content-type", value)];
    let rows: &[(Lines<'_>, Option<u64>, bool)] = &[
        (&[], None, true),
        (&[], Some(0), false),
        (&[], Some(5), false),
        (&kind("application/json"), Some(5), true),
        (&kind("APPLICATION/json;charset=utf-8"), Some(5), true),
        (&kind("text/csv"), Some(5), true),
        (&kind("application/jsonx"), Some(5), false),
        (&kind("application/xml"), Some(5), false),
        (&kind("application/xml"), None, false),
        (&kind("application/json, application/xml"), Some(5), false),
        (&kind(""), Some(5), false),
        (&[("content-type", "application/json"), ("content-type", "application/json")], Some(5), false),
        (&[("content_type", "application/json")], Some(5), false),
    ];
    for (lines, body, allowed) in rows {
        let expected = if *allowed { Ok(()) } else { Err(Violation::ContentType) };
        assert_eq!(verdict(json, "POST", lines, *body), expected, "{lines:?} {body:?}");
    }
}

#[test]
fn of_several_bounds_the_narrowest_counts() {
    let rules = "{name: a, maxBodyBytes: 10, maxHeaders: 3}, {name: b, maxBodyBytes: 5, maxHeaderBytes: 64}";
    assert_eq!(verdict(rules, "POST", &[], Some(5)), Ok(()));
    assert_eq!(verdict(rules, "POST", &[], Some(6)), Err(Violation::BodyBytes));
    let lines = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];
    assert_eq!(verdict(rules, "POST", &lines[..3], None), Ok(()));
    assert_eq!(verdict(rules, "POST", &lines, None), Err(Violation::Headers));
    let long = "x".repeat(63);
    assert_eq!(verdict(rules, "GET", &[("a", &long)], None), Ok(()));
    assert_eq!(verdict(rules, "GET", &[("ab", &long)], None), Err(Violation::HeaderBytes));
    assert_eq!(verdict("{name: a, maxUriBytes: 10}", "GET", &[], None), Ok(()));
    assert_eq!(verdict("{name: a, maxUriBytes: 9}", "GET", &[], None), Err(Violation::UriBytes));
}

#[test]
fn names_fold_whoever_spells_them_how() {
    let rules = "{name: a, forbidHeaders: [X-Debug, 'x-internal-*']}";
    for name in ["x-debug", "X-DEBUG", "x_debug", "x-internal-user", "X_Internal_User"] {
        assert_eq!(verdict(rules, "GET", &[(name, "1")], None), Err(Violation::Forbidden), "{name}");
    }
    for name in ["x-debugger", "xdebug", "x-internal"] {
        assert_eq!(verdict(rules, "GET", &[(name, "1")], None), Ok(()), "{name}");
    }
    let underscores = "{name: a, underscores: REJECT}";
    assert_eq!(verdict(underscores, "GET", &[("a_b", "1")], None), Err(Violation::Underscore));
    assert_eq!(verdict(underscores, "GET", &[("a-b", "_")], None), Ok(()));
}

#[test]
fn a_header_that_may_come_once_comes_once_under_all_of_its_spellings() {
    let named = "{name: a, forbidDuplicates: [Authorization, x-amount]}";
    let all = "{name: a, forbidDuplicates: ['*']}";
    let rows: &[(Lines<'_>, bool, bool)] = &[
        (&[("authorization", "a"), ("authorization", "a")], false, false),
        (&[("x-amount", "1"), ("x_amount", "2")], false, false),
        (&[("x_amount", "1"), ("X_Amount", "2")], false, false),
        (&[("x-amount", "1"), ("authorization", "2")], true, true),
        (&[("accept", "a"), ("accept", "b")], true, false),
        (&[("x-other", "1"), ("x_other", "2")], true, false),
        (&[("cookie", "a=1"), ("cookie", "b=2")], true, true),
    ];
    for (lines, by_name, by_all) in rows {
        for (rules, allowed) in [(named, by_name), (all, by_all)] {
            let expected = if *allowed { Ok(()) } else { Err(Violation::Duplicate) };
            assert_eq!(verdict(rules, "GET", lines, None), expected, "{lines:?} {rules}");
        }
    }
    let cookie = "{name: a, forbidDuplicates: ['*', cookie]}";
    assert_eq!(verdict(cookie, "GET", &[("cookie", "a"), ("cookie", "b")], None), Err(Violation::Duplicate));
}

#[test]
fn what_is_stripped_is_gone_under_every_spelling_and_from_trailers_with_all_that_a_rule_minds() {
    let policy = compiled(
        "{name: a, stripHeaders: [x-debug], forbidHeaders: [x-admin], forbidDuplicates: [x-amount], underscores: REJECT}",
    );
    let view = MatchView { host: "h", method: "GET", path: "/", route: None };
    let rule = policy.guards(view).next().unwrap();
    let names = ["x-debug", "x_debug", "x-admin", "x-amount", "a_b", "checksum"];
    let mut headers: HeaderMap =
        names.iter().map(|name| (name.parse::<HeaderName>().unwrap(), "1".parse().unwrap())).collect();
    let mut trailers = headers.clone();
    rule.strip(&mut headers);
    assert!(headers.len() == 4 && !headers.contains_key("x-debug") && !headers.contains_key("x_debug"));
    rule.strip_trailers(&mut trailers);
    assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["checksum"]);
}

#[test]
fn a_path_is_kept_only_where_the_rule_is_about_every_reading_of_it() {
    let policy = compiled("{name: a, ambiguousPaths: KEEP, match: [{hosts: [h], paths: ['/files/*']}]}");
    let keeps = |host, path| {
        let view = MatchView { host, method: "GET", path, route: None };
        let in_all = |rule: &GuardRule, others: &[String]| {
            rule.keeps(&view) && others.iter().all(|path| rule.keeps(&MatchView { path, ..view }))
        };
        other_readings(path).is_some_and(|others| policy.guards(view).any(|rule| in_all(rule, &others)))
    };
    for path in ["/files/a%2Fb", "/files/a;v=1/b", "/files/a%252Fb", "/files/a%5cb", "/files/%3f"] {
        assert!(keeps("h", path), "{path}");
    }
    for path in [
        "/other/a%2Fb",
        "/files%2Fa",
        "/files%2F..%2Fadmin",
        "/files/..%2Fadmin",
        "/files/..%252Fadmin",
        "/files/..;/admin",
        "/files/..%5cadmin",
        "/files/.%2Fa",
        "/files/a%3f%2f..%2f..%2fadmin",
        "/files/%25252525252541",
        "/files/%2500",
        "/files/%c0%af",
        "/%2Ffiles/a",
    ] {
        assert!(!keeps("h", path), "{path}");
    }
    // A spelling of the host that other rules are not asked about is not let off either.
    assert!(!keeps("h.", "/files/a%2Fb") && policy.may_keep_ambiguous("h", "GET"));
    assert!(!policy.may_keep_ambiguous("other", "GET"));
}

#[test]
fn a_guard_is_for_the_workloads_that_it_selects() {
    let (set, _) = parse_ok(&guard("{name: a, maxHeaders: 5}"));
    assert!(snapshot(&set, &[], &workload("bank", "ledger")).has_guards());
    assert!(!snapshot(&set, &[], &workload("bank", "web")).has_guards());
    assert!(!snapshot(&set, &[], &workload("shop", "ledger")).has_guards());
}

const EDGE: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: bank}
spec:
  selector: {app: ledger}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: bank}
spec: {hosts: ['*'], gateways: [public], http: [{name: transfers, route: [{destination: {host: ledger}}]}, {route: [{destination: {host: ledger}}]}]}
";

#[test]
fn a_rule_about_a_route_that_is_not_there_is_told_of() {
    let rows = [
        ("transfers", None),
        ("bank/api/transfers", None),
        ("bank/api/1", None),
        ("trasnfers", Some("did you mean \"transfers\"?")),
        ("bank/api/transfer", Some("did you mean \"bank/api/transfers\"?")),
        ("bank/other/transfers", Some("did you mean")),
        ("balances", Some("this matches nothing until one has")),
    ];
    for (route, help) in rows {
        let rule = format!("{{name: a, maxBodyBytes: 1, match: [{{routes: ['{route}']}}]}}");
        let found = findings(&format!("{}{EDGE}", guard(&rule))).0;
        let told: Vec<_> = found.iter().filter(|f| f.code == "PAL0108").collect();
        assert_eq!(told.len(), usize::from(help.is_some()), "{route}: {found:?}");
        for finding in told {
            assert_eq!(
                (finding.severity, finding.path.as_str()),
                (Severity::Warning, "spec.rules[0].match[0].routes[0]")
            );
            assert!(
                finding.help.as_deref().unwrap_or_default().contains(help.unwrap_or_default()),
                "{finding:?}"
            );
        }
    }
    // Without a Gateway there are no routes at all.
    let found = findings(&guard("{name: a, maxBodyBytes: 1, match: [{routes: [transfers]}]}")).0;
    assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), ["PAL1016"]);
}
