//! What is made of a request: forwarding, redirects, answers, rewrites, headers.

use http::{HeaderMap, HeaderValue};
use palisade_policy::compile::routes::Action;
use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::mesh_config::PathNormalization;

use super::{edge_with, forward, get};

#[test]
fn every_destination_gets_its_share() {
    let snapshot = edge_with(
        "{route: [{destination: {host: accounts}, weight: 70}, {destination: {host: ledger.bank}, weight: 0}, \
         {destination: {host: cards.shop.svc.cluster.local, port: {number: 8080}}, weight: 30}]}",
    );
    let route = get("/").route(&snapshot).unwrap();
    let forward = forward(&route);
    assert_eq!(forward.total_weight(), 100);
    let mut count = std::collections::BTreeMap::new();
    for value in 0..200 {
        let target = forward.choose(value).unwrap();
        *count.entry(target.destination.as_ref().unwrap().host.to_string()).or_insert(0) += 1;
    }
    assert_eq!(
        count.into_iter().collect::<Vec<_>>(),
        [("accounts.bank".into(), 140), ("cards.shop".into(), 60)]
    );
}

#[test]
fn an_only_destination_gets_everything_whatever_its_weight() {
    let snapshot = edge_with("{route: [{destination: {host: accounts}, weight: 0}]}");
    let route = get("/").route(&snapshot).unwrap();
    assert_eq!(&*forward(&route).choose(7).unwrap().host, "accounts");
}

#[test]
fn a_destination_that_nobody_was_told_of_spoils_nothing_else() {
    let snapshot = edge_with(
        "{match: [{uri: {exact: /a}}], route: [{destination: {host: nowhere}}]}, \
         {match: [{uri: {exact: /b}}], route: [{destination: {host: accounts, port: {number: 9}}}]}, \
         {route: [{destination: {host: accounts}}]}",
    );
    let known = |path| {
        let route = get(path).route(&snapshot).unwrap();
        forward(&route).choose(0).unwrap().destination.is_some()
    };
    assert_eq!((known("/a"), known("/b"), known("/c")), (false, false, true));
}

#[test]
fn redirects_keep_what_they_do_not_name() {
    let rows = [
        ("scheme: https", "api.bank.example", "https://api.bank.example/a?q=1"),
        ("scheme: https", "api.bank.example:80", "https://api.bank.example/a?q=1"),
        ("scheme: https", "api.bank.example:8080", "https://api.bank.example:8080/a?q=1"),
        ("scheme: https, port: 8443", "api.bank.example:80", "https://api.bank.example:8443/a?q=1"),
        ("authority: www.bank.example", "api.bank.example", "http://www.bank.example/a?q=1"),
        ("uri: /new", "api.bank.example:8080", "http://api.bank.example:8080/new?q=1"),
        ("uri: '/new?z=2'", "api.bank.example", "http://api.bank.example/new?z=2"),
        ("authority: 'h:81', uri: /", "api.bank.example", "http://h:81/?q=1"),
        ("port: 81", "[::1]:80", "http://[::1]:81/a?q=1"),
    ];
    for (fields, authority, expected) in rows {
        let snapshot = edge_with(&format!("{{redirect: {{{fields}, redirectCode: 308}}}}"));
        let route = get("/").plaintext().route(&snapshot).unwrap();
        let Action::Redirect(location) = &route.action else { panic!("{route:?}") };
        let value = location.value("http", &authority.parse().unwrap(), "/a", Some("q=1")).unwrap();
        assert_eq!(
            (location.status.as_u16(), value.to_str().unwrap()),
            (308, expected),
            "{fields} {authority}"
        );
    }
    let snapshot = edge_with("{redirect: {uri: /}}");
    let route = get("/").route(&snapshot).unwrap();
    let Action::Redirect(location) = &route.action else { panic!("{route:?}") };
    assert_eq!(location.status.as_u16(), 301);
}

#[test]
fn answers_have_status_and_body() {
    let rows: [(&str, u16, Option<&[u8]>); 3] = [
        ("status: 503, body: {string: closed}", 503, Some(b"closed")),
        ("status: 200, body: {bytes: AP8=}", 200, Some(&[0, 255])),
        ("status: 204", 204, None),
    ];
    for (fields, status, body) in rows {
        let route = get("/").route(&edge_with(&format!("{{directResponse: {{{fields}}}}}"))).unwrap();
        let Action::Direct(answer) = &route.action else { panic!("{route:?}") };
        assert_eq!((answer.status.as_u16(), answer.body.as_deref()), (status, body));
    }
}

/// The path that the upstream gets; `None` where the request is refused.
#[track_caller]
fn rewritten(fields: &str, path: &str, mesh: &MeshConfigSpec) -> Option<String> {
    let snapshot = edge_with(&format!("{{{fields}, route: [{{destination: {{host: accounts}}}}]}}"));
    let asked = get(path);
    let route = asked.route(&snapshot).unwrap();
    asked.view(|view| route.rewritten_path(view, mesh).ok().map(std::borrow::Cow::into_owned))
}

#[test]
fn a_rewrite_replaces_what_matched() {
    let prefix =
        |prefix: &str, uri: &str| format!("match: [{{uri: {{prefix: {prefix}}}}}], rewrite: {{uri: {uri}}}");
    let regex = |pattern: &str, new: &str| {
        format!(
            "match: [{{uri: {{prefix: /}}}}], rewrite: {{uriRegexRewrite: {{match: '{pattern}', rewrite: '{new}'}}}}"
        )
    };
    let rows = [
        (prefix("/api", "/v1"), "/api/x", Some("/v1/x")),
        (prefix("/api", "/v1"), "/api", Some("/v1")),
        (prefix("/api/", "/"), "/api/x", Some("/x")),
        (prefix("/api", "/"), "/api/x", Some("/x")),
        (prefix("/api", "/"), "/api", Some("/")),
        ("match: [{uri: {exact: /a}}], rewrite: {uri: /b}".into(), "/a", Some("/b")),
        ("match: [{uri: {regex: '/a.*'}}], rewrite: {uri: /b}".into(), "/a/c", Some("/b")),
        ("match: [{uri: {exact: /x}}, {uri: {prefix: /y}}], rewrite: {uri: /b}".into(), "/y/c", Some("/b/c")),
        ("rewrite: {uri: /b/}".into(), "/a", Some("/b/a")),
        ("rewrite: {authority: h}".into(), "/a", Some("/a")),
        (regex("^/v1/([^/]+)/(.*)$", r"/\2/for/\1"), "/v1/me/a/b", Some("/a/b/for/me")),
        (regex("x", "$1"), "/axbx", Some("/a$1b$1")),
        (regex("y", "z"), "/a", Some("/a")),
    ];
    for (fields, path, expected) in rows {
        assert_eq!(
            rewritten(&fields, path, &MeshConfigSpec::default()).as_deref(),
            expected,
            "{fields} {path}"
        );
    }
}

/// nginx's alias traversal, and what else could be joined at the seam of a rewrite.
#[test]
fn no_rewrite_makes_a_path_that_normalization_would_have_changed() {
    let none = MeshConfigSpec { path_normalization: PathNormalization::None, ..MeshConfigSpec::default() };
    let rows = [
        ("match: [{uri: {prefix: /files}}], rewrite: {uri: /data/}", "/files../secret"),
        ("match: [{uri: {prefix: /files}}], rewrite: {uri: /data/}", "/files./secret"),
        ("match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: '^/f', rewrite: ''}}", "/f/../a"),
        ("match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: '^/f', rewrite: ''}}", "/fx"),
        ("match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: '^/f', rewrite: '/'}}", "/f/a"),
        ("match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: 'Q', rewrite: '?a='}}", "/fQ"),
        ("match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: 'Q', rewrite: '%2f'}}", "/fQ"),
        (
            "match: [{uri: {prefix: /f}}], rewrite: {uriRegexRewrite: {match: 'Q', rewrite: ' HTTP/1.1'}}",
            "/fQ",
        ),
    ];
    for (fields, path) in rows {
        for mesh in [&MeshConfigSpec::default(), &none] {
            assert_eq!(rewritten(fields, path, mesh), None, "{fields} {path}");
        }
    }
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let snapshot = edge_with(
        "{headers: {request: {set: {x-a: '1', x-p: '50%%'}, add: {x-b: '2'}, remove: [x-c, x-a]}}, \
         route: [{destination: {host: accounts}, headers: {response: {remove: [server]}}}]}",
    );
    let route = get("/").route(&snapshot).unwrap();
    let mut headers = HeaderMap::new();
    for name in ["x-a", "x-b", "x-c", "x-d"] {
        headers.append(name, HeaderValue::from_static("old"));
        headers.append(name, HeaderValue::from_static("old too"));
    }
    route.request_headers.apply(&mut headers);
    let values = |name| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(values("x-a"), ["1"]);
    assert_eq!(values("x-b"), ["old", "old too", "2"]);
    assert_eq!(values("x-c"), [""; 0]);
    assert_eq!(values("x-d"), ["old", "old too"]);
    assert_eq!(values("x-p"), ["50%"]);
    let mut answer = HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static("x"))]);
    forward(&route).choose(0).unwrap().response_headers.apply(&mut answer);
    assert!(answer.is_empty());
}
