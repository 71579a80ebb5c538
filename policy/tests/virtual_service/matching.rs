//! The first route that fits is taken.

use super::{Asked, edge_with, get};

const TO: &str = "route: [{destination: {host: accounts}}]";

/// `match` of the only route, a request, and whether it is taken.
#[track_caller]
fn check(item: &str, rows: &[(Asked, bool)]) {
    let snapshot = edge_with(&format!("{{match: [{item}], {TO}}}"));
    for (asked, expected) in rows {
        assert_eq!(asked.route(&snapshot).is_some(), *expected, "{item}: {asked:?}");
    }
}

#[test]
fn the_first_in_the_document_wins_even_where_a_later_one_is_closer() {
    let snapshot = edge_with(&format!(
        "{{name: a, match: [{{uri: {{prefix: /a}}}}], {TO}}}, {{name: b, match: [{{uri: {{exact: /a/b}}}}], {TO}}}, \
         {{match: [{{method: {{exact: POST}}}}, {{uri: {{exact: /c}}}}], {TO}}}, {{name: rest, {TO}}}"
    ));
    let rows = [(get("/a/b"), "a"), (get("/c"), "2"), (get("/z").method("POST"), "2"), (get("/b"), "rest")];
    for (asked, name) in rows {
        assert_eq!(asked.name(&snapshot).as_deref(), Some(name), "{asked:?}");
    }
    assert_eq!(&*get("/a/b").route(&snapshot).unwrap().id, "bank/v/a");
}

#[test]
fn without_a_fitting_route_there_is_none() {
    let snapshot = edge_with(&format!("{{match: [{{uri: {{exact: /a}}}}], {TO}}}"));
    assert!(get("/b").route(&snapshot).is_none());
}

#[test]
fn paths_are_compared_without_query_and_with_case() {
    check(
        "{uri: {exact: /a}}",
        &[
            (get("/a"), true),
            (get("/a?x=1"), true),
            (get("/A"), false),
            (get("/a/"), false),
            (get("/ab"), false),
        ],
    );
    // A prefix is text, not segments, as in Istio.
    check(
        "{uri: {prefix: /info}}",
        &[(get("/info/x"), true), (get("/information"), true), (get("/in"), false)],
    );
    check(
        "{uri: {regex: '/v[0-9]+/.*'}}",
        &[(get("/v12/x"), true), (get("/x/v1/x"), false), (get("/v1"), false)],
    );
    check("{uri: {exact: /a}, ignoreUriCase: true}", &[(get("/A"), true)]);
    check("{uri: {prefix: /a}, ignoreUriCase: true}", &[(get("/AB"), true)]);
}

#[test]
fn all_fields_of_an_item_must_fit() {
    check(
        "{uri: {prefix: /a}, method: {regex: 'GET|HEAD'}, port: 443, scheme: {exact: https}}",
        &[
            (get("/a"), true),
            (get("/a").method("HEAD"), true),
            (get("/a").method("POST"), false),
            (get("/b"), false),
            (get("/a").plaintext(), false),
        ],
    );
}

#[test]
fn no_spelling_of_a_host_gets_around_its_route() {
    check(
        "{authority: {exact: api.bank.example}}",
        &[
            (get("/"), true),
            (get("/").authority("API.bank.example"), true),
            (get("/").authority("api.bank.example:443"), true),
            (get("/").authority("api.bank.example."), true),
            (get("/").authority("xapi.bank.example"), false),
        ],
    );
    check(
        "{authority: {regex: '[a-z]+[.]bank[.]example'}}",
        &[
            (get("/").authority("API.BANK.example:8443"), true),
            (get("/").authority("a.b.bank.example"), false),
        ],
    );
}

#[test]
fn headers_are_compared_value_by_value() {
    check(
        "{headers: {x-a: {exact: b}}}",
        &[
            (get("/").header("x-a", b"b"), true),
            (get("/").header("x-a", b"c").header("x-a", b"b"), true),
            (get("/").header("x-a", b"b,c"), false),
            (get("/").header("x-a", b"B"), false),
            (get("/"), false),
        ],
    );
    check("{headers: {x-a: {}}}", &[(get("/").header("x-a", b""), true), (get("/"), false)]);
    check("{headers: {x-a: {prefix: b}}}", &[(get("/").header("x-a", b"b\xff"), true)]);
    check(
        "{withoutHeaders: {x-a: {exact: b}}}",
        &[
            (get("/"), true),
            (get("/").header("x-a", b"c"), true),
            (get("/").header("x-a", b"c").header("x-a", b"b"), false),
        ],
    );
    check("{withoutHeaders: {x-a: {}}}", &[(get("/"), true), (get("/").header("x-a", b""), false)]);
}

#[test]
fn query_parameters_are_compared_as_they_were_sent_and_the_first_of_a_name_counts() {
    check(
        "{queryParams: {v: {exact: '1'}}}",
        &[
            (get("/?v=1"), true),
            (get("/?a=2&v=1&b"), true),
            (get("/?v=2&v=1"), false),
            (get("/?v=%31"), false),
            (get("/?xv=1"), false),
            (get("/"), false),
        ],
    );
    check("{queryParams: {v: {}}}", &[(get("/?v"), true), (get("/?v=1"), true), (get("/?w"), false)]);
    check(
        "{queryParams: {v: {exact: ''}}}",
        &[(get("/?v"), true), (get("/?v="), true), (get("/?v=1"), false)],
    );
    check("{queryParams: {v: {regex: '[0-9]+'}}}", &[(get("/?v=12"), true), (get("/?v=1x"), false)]);
}
