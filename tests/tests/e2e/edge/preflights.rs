//! Preflights from origins without leave: `unmatchedPreflights`.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use palisade_tests::client::Answer;

use super::door::{Door, HOST, request, request_h2, with};
use super::routes::routes;

const PAGE: &str = "https://app.bank.example";
const EVIL: &str = "https://evil.example";

/// One route for each value of the field.
async fn open() -> Door {
    let cors = |unmatched: &str| {
        format!(
            "corsPolicy: {{allowOrigins: [{{exact: '{PAGE}'}}], allowMethods: [POST], allowHeaders: [x-a], maxAge: 60s{unmatched}}}"
        )
    };
    let route = |name: &str, cors: String| {
        format!(
            "  - {{name: {name}, match: [{{uri: {{exact: /{name}}}}}], {cors}, route: [{{destination: {{host: ledger}}}}]}}\n"
        )
    };
    let http = [
        route("unsaid", cors("")),
        route("forward", cors(", unmatchedPreflights: FORWARD")),
        route("ignore", cors(", unmatchedPreflights: IGNORE")),
    ];
    Door::open(&routes(&http.concat())).await
}

fn asking(sent: Request<Full<Bytes>>, origin: &str) -> Request<Full<Bytes>> {
    with(sent, &[("origin", origin), ("access-control-request-method", "POST")])
}

/// Both protocols.
async fn preflights(door: &Door, path: &str, origin: &str) -> [Answer; 2] {
    let http1 = door.send(asking(request("OPTIONS", path, ""), origin)).await;
    [http1, door.send_h2(asking(request_h2("OPTIONS", HOST, path, ""), origin)).await]
}

/// Every header by which an answer could give leave.
fn leaves(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(http::HeaderName::as_str);
    names.filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test]
async fn a_preflight_without_leave_is_a_request_like_others_or_is_answered_without_leave() {
    let door = open().await;
    for path in ["/unsaid", "/forward"] {
        for answer in preflights(&door, path, EVIL).await {
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (StatusCode::OK, "hello from ledger"),
                "{path}"
            );
            assert!(leaves(&answer).is_empty(), "{path}: {:?}", answer.headers);
            let last = door.app().last();
            assert_eq!((last.method, &*last.target), (Method::OPTIONS, path));
            assert_eq!(last.headers["origin"], EVIL);
        }
        assert_eq!(door.app().received().len(), 2, "{path}");
        door.app().clear();
    }
    for answer in preflights(&door, "/ignore", EVIL).await {
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, ""));
        assert!(leaves(&answer).is_empty(), "{:?}", answer.headers);
        // A cache must not show it to the page that has leave.
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    door.app().assert_untouched();
}

#[tokio::test]
async fn a_preflight_with_leave_is_answered_at_the_edge_whatever_is_said_of_others() {
    let door = open().await;
    for path in ["/unsaid", "/forward", "/ignore"] {
        for answer in preflights(&door, path, PAGE).await {
            assert_eq!(answer.status, StatusCode::OK);
            for (name, value) in [
                ("access-control-allow-origin", PAGE),
                ("access-control-allow-methods", "POST"),
                ("access-control-allow-headers", "x-a"),
                ("access-control-max-age", "60"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{path}");
            }
        }
    }
    door.app().assert_untouched();
}

#[tokio::test]
async fn options_that_is_no_preflight_reaches_the_service_on_every_route() {
    let door = open().await;
    for path in ["/unsaid", "/forward", "/ignore"] {
        let lines: [&[(&'static str, &str)]; 3] =
            [&[], &[("origin", EVIL)], &[("access-control-request-method", "POST")]];
        for headers in lines {
            let answer = door.send(with(request("OPTIONS", path, ""), headers)).await;
            assert_eq!(answer.text(), "hello from ledger", "{path} {headers:?}");
            assert!(leaves(&answer).is_empty(), "{path}: {:?}", answer.headers);
            assert_eq!((door.app().last().method, &*door.app().last().target), (Method::OPTIONS, path));
        }
    }
    // Another method that looks like one is none either.
    let answer = door.send(asking(request("GET", "/ignore", ""), EVIL)).await;
    assert_eq!(answer.text(), "hello from ledger");
    assert_eq!(door.app().received().len(), 10);
}
