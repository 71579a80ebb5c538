//! A VirtualService survives the wire whole, and a half one does not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_policy::kind::virtual_service::cors::{CorsPolicy, UnmatchedPreflights};
use palisade_policy::kind::virtual_service::fault::{AbortStatus, FaultAbort, FaultDelay};
use palisade_policy::kind::virtual_service::rewrite::{RegexRewrite, Rewrite};
use palisade_policy::kind::virtual_service::{
    DestinationRef, DirectResponse, HeaderChanges, Headers, HttpFault, HttpMatch, HttpRetry, HttpRoute,
    Mirror, Redirect, RouteDestination, StringMatch,
};
use palisade_policy::kind::{Meta, Named, VirtualServiceSpec};
use palisade_proto::v1;

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn headers(name: &str) -> Headers {
    let one = |value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let changes = HeaderChanges { set: one("s"), add: one(""), remove: vec!["x-gone".into()] };
    Headers { request: changes, response: HeaderChanges::default() }
}

fn by_name(value: Option<StringMatch>) -> BTreeMap<String, Option<StringMatch>> {
    BTreeMap::from([("n".into(), value)])
}

fn forwarding() -> HttpRoute {
    let destination = |port: Option<u16>| DestinationRef {
        host: "accounts".into(),
        port,
        subset: port.map(|_| "v1".to_owned()),
    };
    HttpRoute {
        name: Some("transfers".into()),
        matches: vec![
            HttpMatch {
                uri: Some(StringMatch::Prefix("/v1".into())),
                ignore_uri_case: true,
                method: Some(exact("POST")),
                authority: Some(StringMatch::Regex("a.*".into())),
                scheme: Some(exact("https")),
                port: Some(443),
                headers: by_name(None),
                without_headers: by_name(Some(exact("v"))),
                query_params: by_name(Some(exact(""))),
                gateways: vec!["mesh".into()],
                source_labels: BTreeMap::from([("app".into(), "shop".into())]),
                source_namespace: Some("bank".into()),
            },
            HttpMatch::default(),
        ],
        route: vec![
            RouteDestination {
                destination: destination(Some(8080)),
                weight: Some(90),
                headers: headers("a"),
            },
            RouteDestination { destination: destination(None), weight: None, headers: Headers::default() },
        ],
        rewrite: Some(Rewrite {
            uri: Some("/x".into()),
            authority: Some("y".into()),
            uri_regex: Some(RegexRewrite { pattern: "a".into(), replacement: "b".into() }),
        }),
        timeout: Some(Duration::from_millis(1500)),
        mirrors: vec![Mirror { destination: destination(Some(1)), share_ppm: 125_000 }],
        cors: Some(CorsPolicy {
            allow_origins: vec![exact("https://app.example")],
            allow_methods: vec!["GET".into()],
            allow_headers: vec!["a".into()],
            expose_headers: vec!["b".into()],
            max_age: Some(Duration::ZERO),
            allow_credentials: true,
            unmatched_preflights: UnmatchedPreflights::Ignore,
        }),
        headers: headers("b"),
        retries: Some(HttpRetry {
            attempts: 3,
            per_try_timeout: Some(Duration::from_millis(250)),
            retry_on: Some("5xx,503".into()),
            backoff: Some(Duration::from_millis(10)),
            ignore_previous_hosts: Some(false),
        }),
        fault: Some(HttpFault {
            delay: Some(FaultDelay { share_ppm: 500_000, fixed_delay: Duration::from_secs(2) }),
            abort: Some(FaultAbort { share_ppm: 1, status: AbortStatus::Grpc("UNAVAILABLE".into()) }),
        }),
        ..HttpRoute::default()
    }
}

fn object() -> Named<VirtualServiceSpec> {
    let redirect = Redirect {
        uri: Some("/x".into()),
        authority: Some("y".into()),
        scheme: Some("https".into()),
        port: Some(8443),
        code: Some(308),
    };
    let direct = |body| Some(DirectResponse { status: 503, body });
    let http = vec![
        forwarding(),
        HttpRoute { redirect: Some(redirect), ..HttpRoute::default() },
        HttpRoute { redirect: Some(Redirect::default()), ..HttpRoute::default() },
        HttpRoute { direct_response: direct(None), ..HttpRoute::default() },
        HttpRoute {
            retries: Some(HttpRetry::default()),
            fault: Some(HttpFault {
                delay: None,
                abort: Some(FaultAbort { share_ppm: 0, status: AbortStatus::Http(503) }),
            }),
            ..HttpRoute::default()
        },
        HttpRoute { direct_response: direct(Some(vec![0, 255])), ..HttpRoute::default() },
    ];
    let spec = VirtualServiceSpec {
        hosts: vec!["*".into()],
        gateways: vec!["a/b".into()],
        export_to: vec![".".into()],
        http,
    };
    Named { meta: Meta { namespace: "n".into(), name: "v".into(), ..Meta::default() }, spec }
}

#[test]
fn what_is_sent_is_what_is_understood() {
    assert_eq!(Named::try_from(v1::VirtualService::from(&object())).unwrap(), object());
}

#[test]
fn names_the_field_that_is_wrong() {
    type Change = fn(&mut v1::VirtualService);
    let rows: &[(Change, &str)] = &[
        (|o| o.meta = None, "meta"),
        (|o| o.http[0].headers = None, "http[0].headers"),
        (|o| o.http[0].headers.as_mut().unwrap().request = None, "http[0].headers.request"),
        (|o| o.http[0].r#match[0].uri.as_mut().unwrap().pattern = None, "http[0].match[0].uri.pattern"),
        (|o| o.http[0].r#match[0].port = 65_536, "http[0].match[0].port"),
        (
            |o| {
                let item = &mut o.http[0].r#match[0];
                item.uri = item.headers.get("n").cloned();
            },
            "http[0].match[0].uri.pattern",
        ),
        (|o| o.http[0].route[1].destination = None, "http[0].route[1].destination"),
        (|o| o.http[0].mirrors[0].share_ppm = 1_000_001, "http[0].mirrors[0].share_ppm"),
        (|o| o.http[0].cors.as_mut().unwrap().unmatched_preflights = 0, "http[0].cors.unmatched_preflights"),
        (
            |o| o.http[0].fault.as_mut().unwrap().delay.as_mut().unwrap().share_ppm += 1_000_000,
            "http[0].fault.delay.share_ppm",
        ),
        (
            |o| o.http[0].fault.as_mut().unwrap().abort.as_mut().unwrap().status = None,
            "http[0].fault.abort.status",
        ),
        (|o| o.http[1].redirect.as_mut().unwrap().code = 70_000, "http[1].redirect.code"),
        (|o| o.http[3].direct_response.as_mut().unwrap().status = 70_000, "http[3].direct_response.status"),
    ];
    for (change, field) in rows {
        let mut wire = v1::VirtualService::from(&object());
        change(&mut wire);
        assert_eq!(Named::<VirtualServiceSpec>::try_from(wire).unwrap_err().field, *field);
    }
}
