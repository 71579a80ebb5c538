//! Routes chosen by the case of a path, by headers that are not there, and by the query.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use palisade_tests::Upstream;

use super::door::{Door, HOST, request, request_h2, with};
use super::routes::{external, routes};

/// Two services, so that a request that takes the wrong route arrives at the wrong one.
struct Two {
    door: Door,
    other: Upstream,
}

impl Two {
    /// What `item` matches goes to the other service, `rest` may stand beside it; all else goes to the ledger.
    async fn open(item: &str, rest: &str) -> Self {
        let other = Upstream::start("other").await;
        let http = format!(
            "  - {{name: chosen, match: [{item}], route: [{{destination: {{host: other.example}}}}]{rest}}}
  - {{name: all, route: [{{destination: {{host: ledger}}}}]}}
"
        );
        let documents = format!("{}---{}", routes(&http), external("other.example", other.address()));
        Self { door: Door::open(&documents).await, other }
    }

    /// The target that the other service was asked for, or else the ledger.
    async fn reached(&self, sent: Request<Full<Bytes>>) -> Result<String, String> {
        self.other.clear();
        self.door.app().clear();
        let answer = match sent.uri().authority() {
            Some(_) => self.door.send_h2(sent).await,
            None => self.door.send(sent).await,
        };
        assert_eq!(answer.status, StatusCode::OK);
        let target = |upstream: &Upstream| upstream.received().pop().map(|one| one.target);
        match (target(&self.other), target(self.door.app())) {
            (Some(target), None) => Ok(target),
            (None, Some(target)) => Err(target),
            both => panic!("not exactly one service was reached: {both:?}"),
        }
    }

    /// Both protocols.
    async fn get(&self, target: &str, headers: &[(&'static str, &str)]) -> Result<String, String> {
        let first = self.reached(with(request("GET", target, ""), headers)).await;
        let second = self.reached(with(request_h2("GET", HOST, target, ""), headers)).await;
        assert_eq!(first, second, "HTTP/1.1 and HTTP/2");
        first
    }
}

fn same(target: &str) -> String {
    target.to_owned()
}

#[tokio::test]
async fn a_route_without_a_header_is_taken_by_requests_that_surely_do_not_have_it() {
    let two = Two::open("{withoutHeaders: {x-beta: {exact: 'yes'}, x-debug: {}}}", "").await;
    let free: [&[(&'static str, &str)]; 3] = [&[], &[("x-beta", "no")], &[("x-beta", "yes, yes")]];
    for headers in free {
        assert_eq!(two.get("/", headers).await, Ok(same("/")), "{headers:?}");
    }
    let bound: [&[(&'static str, &str)]; 5] = [
        &[("x-beta", "yes")],
        // Each value on its own: a second line hides nothing.
        &[("x-beta", "no"), ("x-beta", "yes")],
        &[("x-debug", "")],
        &[("x-debug", "1")],
        &[("x-beta", "no"), ("x-debug", "1")],
    ];
    for headers in bound {
        assert_eq!(two.get("/", headers).await, Err(same("/")), "{headers:?}");
    }
    // What ends at this hop is not there for anybody, neither for the route nor for the service.
    let nominated = [("x-debug", "1"), ("connection", "x-debug, close")];
    assert_eq!(two.reached(with(request("GET", "/", ""), &nominated)).await, Ok(same("/")));
    assert!(!two.other.last().headers.contains_key("x-debug"));
}

#[tokio::test]
async fn a_path_without_case_takes_the_route_and_arrives_with_its_case() {
    let two = Two::open(
        "{uri: {prefix: /Files/}, ignoreUriCase: true}, {uri: {exact: /Top}, ignoreUriCase: true}",
        "",
    )
    .await;
    for target in ["/files/A", "/FILES/a?X=Y", "/fIlEs/", "/top", "/TOP?a=B", "/%66ILES/a"] {
        let sent = target.replace("%66", "f");
        assert_eq!(two.get(target, &[]).await, Ok(sent), "{target}");
    }
    for target in ["/files", "/file/A", "/tops", "/a/files/", "/a/TOP"] {
        assert_eq!(two.get(target, &[]).await, Err(same(target)), "{target}");
    }
}

#[tokio::test]
async fn a_rewrite_replaces_the_prefix_in_whatever_case_it_came() {
    let two = Two::open("{uri: {prefix: /V1/}, ignoreUriCase: true}", ", rewrite: {uri: /api/}").await;
    for (target, received) in [("/v1/A", "/api/A"), ("/V1/v1/b?c=D", "/api/v1/b?c=D"), ("/v1/", "/api/")] {
        assert_eq!(two.get(target, &[]).await, Ok(same(received)), "{target}");
    }
    assert_eq!(two.get("/v2/A", &[]).await, Err(same("/v2/A")));
}

#[tokio::test]
async fn a_route_by_the_query_reads_it_as_it_was_sent_and_passes_it_on_unchanged() {
    let two = Two::open("{queryParams: {v: {exact: '2'}, flag: {}}}", "").await;
    for target in ["/a?v=2&flag", "/a?flag=&v=2", "/a?x=%41&flag=no&v=2&y", "/?v=2&flag=1&v=1"] {
        assert_eq!(two.get(target, &[]).await, Ok(same(target)), "{target}");
    }
    for target in [
        "/a",
        "/a?v=2",
        "/a?flag",
        "/a?v=1&flag",
        // The first of several counts.
        "/a?v=1&v=2&flag",
        // Names and values have case, and are not decoded.
        "/a?V=2&flag",
        "/a?%76=2&flag",
        "/a?v=%32&flag",
        "/a?v=2&flags",
        "/a?v=2;flag",
    ] {
        assert_eq!(two.get(target, &[]).await, Err(same(target)), "{target}");
    }
}
