//! HTTP/2 as no library sends it: refused at the edge, or harmless; nothing of it becomes a second request upstream.

use http::StatusCode;
use palisade_tests::raw_h2::{self, Outcome, RawH2, data, frame, headers};

use serde_json::json;

use super::door::{Door, HOST, request_h2};
use super::framing::door;
use crate::kit::HTTP2;

type Field<'a> = (&'a [u8], &'a [u8]);

const METHOD: Field<'static> = (b":method", b"POST");
const SCHEME: Field<'static> = (b":scheme", b"https");
const PATH: Field<'static> = (b":path", b"/public");
const AUTHORITY: Field<'static> = (b":authority", HOST.as_bytes());

async fn open(door: &Door) -> RawH2<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    RawH2::open(door.connect(HTTP2).await).await
}

/// What becomes of one request with these fields and this body.
async fn ask(door: &Door, fields: &[Field<'_>], body: &[u8]) -> Outcome {
    let mut connection = open(door).await;
    let mut bytes = headers(1, body.is_empty(), fields);
    if !body.is_empty() {
        bytes.extend(data(1, true, body));
    }
    connection.send(&bytes).await;
    connection.outcome(1).await
}

/// The four, with others in place of those of the same name, and more behind them.
fn with<'a>(change: &[Field<'a>]) -> Vec<Field<'a>> {
    let base = [METHOD, SCHEME, PATH, AUTHORITY];
    let kept = base.iter().map(|field| change.iter().find(|c| c.0 == field.0).copied().unwrap_or(*field));
    let more = change.iter().filter(|c| base.iter().all(|field| field.0 != c.0));
    kept.chain(more.copied()).collect()
}

#[tokio::test]
async fn header_fields_that_http2_forbids_are_refused_and_go_nowhere() {
    let door = door().await;
    assert_eq!(ask(&door, &with(&[]), b"").await, Outcome::Status(200));
    door.app().clear();
    let smuggled: &[u8] =
        b"1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let rows: &[(&str, Field<'_>)] = &[
        ("CR LF in a value", (b"x-a", smuggled)),
        ("CR in a value", (b"x-a", b"1\r2")),
        ("LF in a value", (b"x-a", b"1\n2")),
        ("NUL in a value", (b"x-a", b"1\x002")),
        ("CR LF in a name", (b"x-a: 1\r\nx-b", b"2")),
        ("upper case in a name", (b"X-A", b"1")),
        ("a colon in a name", (b"x:a", b"1")),
        ("a blank in a name", (b"x a", b"1")),
        ("NUL in a name", (b"x\0a", b"1")),
        ("no name", (b"", b"1")),
        ("connection", (b"connection", b"x-a")),
        ("transfer-encoding", (b"transfer-encoding", b"chunked")),
        ("keep-alive", (b"keep-alive", b"timeout=5")),
        ("proxy-connection", (b"proxy-connection", b"keep-alive")),
        ("upgrade", (b"upgrade", b"websocket")),
        ("te of other codings", (b"te", b"gzip")),
        ("a pseudo-header that is none", (b":evil", b"1")),
        (":status", (b":status", b"200")),
        (":protocol without CONNECT", (b":protocol", b"websocket")),
        ("a pseudo-header behind a header", (b":path", b"/late")),
    ];
    for (what, field) in rows {
        let mut fields = with(&[(b"x-first", b"1")]);
        fields.push(*field);
        let outcome = ask(&door, &fields, b"").await;
        assert!(outcome.is_refusal(), "{what}: {outcome:?}");
        let received = door.app().received();
        assert!(received.is_empty(), "{what}: {received:?}");
    }
}

#[tokio::test]
async fn targets_that_two_readers_could_take_for_two_are_refused_in_http2() {
    let door = door().await;
    let rows: &[(&str, &[Field<'_>])] = &[
        ("no path", &[(b":path", b"")]),
        ("asterisk", &[(b":path", b"*")]),
        ("asterisk for OPTIONS", &[(b":method", b"OPTIONS"), (b":path", b"*")]),
        ("no leading slash", &[(b":path", b"public")]),
        ("only a query", &[(b":path", b"?x")]),
        ("absolute form", &[(b":path", b"https://evil.example/public")]),
        ("a blank in the path", &[(b":path", b"/public /x")]),
        ("a version behind the path", &[(b":path", b"/public HTTP/1.1\r\nx-a: 1")]),
        ("CR LF in the path", &[(b":path", b"/public\r\n")]),
        ("a tab in the path", &[(b":path", b"/a\tb")]),
        ("NUL in the path", &[(b":path", b"/a\0b")]),
        ("an escaped NUL", &[(b":path", b"/a%00b")]),
        ("a byte that is no ASCII", &[(b":path", b"/a\xffb")]),
        ("a blank in the method", &[(b":method", b"GET /admin")]),
        ("CR LF in the method", &[(b":method", b"GET\r\n")]),
        ("no method", &[(b":method", b"")]),
        ("TRACE", &[(b":method", b"TRACE")]),
        ("CONNECT with a path", &[(b":method", b"CONNECT")]),
        ("CONNECT with :protocol", &[(b":method", b"CONNECT"), (b":protocol", b"websocket")]),
        ("no authority", &[(b":authority", b"")]),
        ("user information", &[(b":authority", b"me@api.bank.example")]),
        ("a path in the authority", &[(b":authority", b"api.bank.example/admin")]),
        ("two authorities in one", &[(b":authority", b"api.bank.example,evil.example")]),
        ("CR LF in the authority", &[(b":authority", b"api.bank.example\r\nx-a: 1")]),
        ("another host", &[(b"host", b"evil.example")]),
        ("a second host", &[(b"host", b"api.bank.example"), (b"host", b"api.bank.example")]),
        ("CR LF in the scheme", &[(b":scheme", b"https\r\n")]),
    ];
    for (what, change) in rows {
        let outcome = ask(&door, &with(change), b"").await;
        assert!(outcome.is_refusal(), "{what}: {outcome:?}");
        let received = door.app().received();
        assert!(received.is_empty(), "{what}: {received:?}");
    }
    for (what, fields) in [
        ("two paths", vec![METHOD, SCHEME, PATH, AUTHORITY, (b":path".as_slice(), b"/other".as_slice())]),
        ("two methods", vec![METHOD, METHOD, SCHEME, PATH, AUTHORITY]),
        ("two authorities", vec![METHOD, SCHEME, PATH, AUTHORITY, (b":authority", b"evil.example")]),
        ("two schemes", vec![METHOD, SCHEME, SCHEME, PATH, AUTHORITY]),
        ("no method", vec![SCHEME, PATH, AUTHORITY]),
        ("no scheme", vec![METHOD, PATH, AUTHORITY]),
        ("no path", vec![METHOD, SCHEME, AUTHORITY]),
        ("neither authority nor host", vec![METHOD, SCHEME, PATH]),
        ("plain CONNECT", vec![(b":method", b"CONNECT"), AUTHORITY]),
    ] {
        let outcome = ask(&door, &fields, b"").await;
        assert!(outcome.is_refusal(), "{what}: {outcome:?}");
        door.app().assert_untouched();
    }
}

/// CVE-2023-35944: the scheme a client writes chooses nothing. What upstreams are told is how it came.
#[tokio::test]
async fn the_spelling_of_a_scheme_changes_nothing_and_another_scheme_is_refused() {
    let door = door().await;
    for scheme in ["ftp", "wss", "httpx", ""] {
        let outcome = ask(&door, &with(&[(b":scheme", scheme.as_bytes())]), b"").await;
        assert!(outcome.is_refusal(), "{scheme}: {outcome:?}");
        door.app().assert_untouched();
    }
    for scheme in ["https", "http", "HTTPS", "hTtP"] {
        let outcome = ask(&door, &with(&[(b":scheme", scheme.as_bytes())]), b"").await;
        assert_eq!(outcome, Outcome::Status(200), "{scheme}");
        assert_eq!(door.app().last().headers["x-forwarded-proto"], "https", "{scheme}");
        let admin = ask(&door, &with(&[(b":scheme", scheme.as_bytes()), (b":path", b"/admin")]), b"").await;
        assert_eq!(admin, Outcome::Status(403), "{scheme}");
    }
    // Without :authority a Host is what counts, and must be one.
    let host = [METHOD, SCHEME, PATH, (b"host".as_slice(), HOST.as_bytes())];
    assert_eq!(ask(&door, &host, b"").await, Outcome::Status(200));
    assert_eq!(door.app().last().headers["host"], HOST);
}

#[tokio::test]
async fn a_length_that_is_not_that_of_the_data_is_refused_and_upstream_gets_no_whole_request() {
    let door = door().await;
    let hidden = b"abcGET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let rows: &[(&str, &[Field<'_>], &[u8])] = &[
        ("less than the data", &[(b"content-length", b"3")], hidden),
        ("more than the data", &[(b"content-length", b"300")], hidden),
        ("0, with data", &[(b"content-length", b"0")], hidden),
        ("more, without data", &[(b"content-length", b"3")], b""),
        ("two different", &[(b"content-length", b"3"), (b"content-length", b"4")], b"abc"),
        ("list", &[(b"content-length", b"3, 3")], b"abc"),
        ("with a plus", &[(b"content-length", b"+3")], b"abc"),
        ("2^64", &[(b"content-length", b"18446744073709551616")], b"abc"),
        ("empty", &[(b"content-length", b"")], b"abc"),
    ];
    for (what, change, body) in rows {
        door.app().clear();
        let outcome = ask(&door, &with(change), body).await;
        assert!(outcome.is_refusal(), "{what}: {outcome:?}");
        for received in door.app().received() {
            assert!(received.target == "/public" && !received.complete, "{what}: {received:?}");
        }
    }
}

#[tokio::test]
async fn frames_out_of_place_end_the_connection_and_another_one_is_served() {
    let door = door().await;
    let block = raw_h2::block(&with(&[]));
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("HEADERS on stream 0", frame(raw_h2::HEADERS, 5, 0, &block)),
        ("HEADERS on an even stream", frame(raw_h2::HEADERS, 5, 2, &block)),
        ("DATA on an idle stream", data(1, true, b"abc")),
        ("DATA on stream 0", data(0, true, b"abc")),
        ("PUSH_PROMISE", frame(5, 4, 1, &[&3_u32.to_be_bytes()[..], &block].concat())),
        ("CONTINUATION of nothing", frame(raw_h2::CONTINUATION, 4, 1, &block)),
        ("DATA within a header block", [frame(raw_h2::HEADERS, 1, 1, &block), data(1, true, b"a")].concat()),
        ("a block that does not decode", frame(raw_h2::HEADERS, 5, 1, &[0xff; 8])),
        ("padding beyond the frame", frame(raw_h2::HEADERS, 5 | 8, 1, &[&[255], block.as_slice()].concat())),
        (
            "a stream that waits for itself",
            frame(raw_h2::HEADERS, 5 | 32, 1, &[&1_u32.to_be_bytes()[..], &[0], &block].concat()),
        ),
        ("a frame over the limit", frame(raw_h2::DATA, 0, 1, &vec![0; 20_000])),
        ("SETTINGS of a wrong length", frame(raw_h2::SETTINGS, 0, 0, &[0; 5])),
        ("an HTTP/1.1 request", b"GET /public HTTP/1.1\r\nhost: api.bank.example\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in rows {
        let mut connection = open(&door).await;
        connection.send(&bytes).await;
        let outcome = connection.outcome(1).await;
        assert!(outcome.is_refusal(), "{what}: {outcome:?}");
        door.app().assert_untouched();
    }
    // A lower stream than one that was opened.
    let mut connection = open(&door).await;
    let bytes = [headers(3, true, &with(&[])), headers(1, true, &with(&[]))].concat();
    connection.send(&bytes).await;
    assert!(connection.outcome(1).await.is_refusal());
    assert!(door.app().received().len() <= 1);
    assert_eq!(door.send_h2(request_h2("GET", HOST, "/public", "")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn trailers_carry_nothing_that_was_judged_and_no_pseudo_header() {
    let door = door().await;
    let good = [
        headers(1, false, &with(&[(b":path", b"/echo"), (b"te", b"trailers")])),
        data(1, false, b"abc"),
        headers(
            1,
            true,
            &[
                (b"authorization", b"Bearer forged"),
                (b"x-forwarded-for", b"6.6.6.6"),
                (b"x-forwarded-client-cert", b"URI=admin"),
                (b"x_forwarded_client_cert", b"URI=admin"),
                (b"x-palisade-flagged", b"no"),
                (b"host", b"evil.example"),
                (b"content-length", b"99"),
                (b"x-fine", b"1"),
            ],
        ),
    ];
    let mut connection = open(&door).await;
    connection.send(&good.concat()).await;
    assert_eq!(connection.outcome(1).await, Outcome::Status(200));
    palisade_tests::until("the request's end", async || {
        if door.app().received().iter().any(|one| one.complete) { Ok(()) } else { Err(door.app().received()) }
    })
    .await;
    let received = door.app().last();
    assert_eq!(received.body, b"abc");
    for (name, value) in received.trailers.iter().flatten() {
        assert_eq!((name.as_str(), value.as_bytes()), ("x-fine", b"1".as_slice()));
    }
    assert!(!received.headers.contains_key("authorization"));
    assert_ne!(received.headers["x-forwarded-for"], "6.6.6.6");
    // The h2 crate drops pseudo-headers of trailers.
    let bytes =
        [headers(1, false, &with(&[])), data(1, false, b"abc"), headers(1, true, &[(b":path", b"/admin")])]
            .concat();
    let mut connection = open(&door).await;
    connection.send(&bytes).await;
    assert_eq!(connection.outcome(1).await, Outcome::Status(200));
    let received = door.app().last();
    assert_eq!((received.target.as_str(), received.trailers), ("/public", None));
    for (what, trailers) in [
        ("trailers without an end", headers(1, false, &[(b"x-fine", b"1")])),
        ("transfer-encoding", headers(1, true, &[(b"transfer-encoding", b"chunked")])),
        ("CR LF", headers(1, true, &[(b"x-fine", b"1\r\nx: y")])),
    ] {
        door.app().clear();
        let mut connection = open(&door).await;
        let bytes = [headers(1, false, &with(&[])), data(1, false, b"abc"), trailers].concat();
        connection.send(&bytes).await;
        let outcome = connection.outcome(1).await;
        assert!(outcome.is_refusal(), "{what}: {outcome:?}");
        assert!(door.app().received().iter().all(|one| !one.complete), "{what}: {:?}", door.app().received());
    }
}

/// The codec resets such streams by itself: that must leave traces, and not fill the disk.
#[tokio::test]
async fn what_the_codec_refuses_leaves_a_record_each_up_to_a_bound_and_is_counted() {
    let door = door().await;
    let mut connection = open(&door).await;
    for n in 0..20 {
        connection.send(&headers(2 * n + 1, true, &with(&[(b"connection", b"x-a")]))).await;
        assert_eq!(connection.outcome(2 * n + 1).await, Outcome::Reset(1));
    }
    // The same connection goes on.
    connection.send(&headers(41, true, &with(&[]))).await;
    assert_eq!(connection.outcome(41).await, Outcome::Status(200));
    let records = door.edge.records_with(8, &[("reason", json!("request_malformed"))]).await;
    for record in &records {
        assert_eq!((&record["response_code"], &record["requested_server_name"]), (&json!(0), &json!(HOST)));
        assert_eq!((&record["protocol"], &record["method"]), (&json!("HTTP/2"), &json!(null)));
    }
    let counted = async |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        door.edge.metric("palisade_codec_refusals_total", &["direction=\"edge\"", &reason]).await
    };
    assert_eq!(counted("request_malformed").await, 20.0);

    let long = "a".repeat(15_000);
    let many: Vec<Field<'_>> = (0..5).map(|_| (b"x-long".as_slice(), long.as_bytes())).collect();
    let block = raw_h2::block(&with(&many));
    let (first, rest) = block.split_at(16_000);
    let mut bytes = frame(raw_h2::HEADERS, 1, 1, first);
    for (at, part) in rest.chunks(16_000).enumerate() {
        let last = (at + 1) * 16_000 >= rest.len();
        bytes.extend(frame(raw_h2::CONTINUATION, if last { 4 } else { 0 }, 1, part));
    }
    let mut connection = open(&door).await;
    connection.send(&bytes).await;
    assert_eq!(connection.outcome(1).await, Outcome::Status(431));
    door.edge.records_with(1, &[("reason", json!("head_too_large")), ("response_code", json!(431))]).await;

    let mut connection = open(&door).await;
    connection.send(&data(0, true, b"abc")).await;
    assert_eq!(connection.outcome(1).await, Outcome::GoAway(1));
    door.edge.records_with(1, &[("reason", json!("connection_malformed"))]).await;
    assert_eq!(counted("connection_malformed").await, 1.0);

    // A body that breaks its stream belongs to a request that has a record already.
    let before = door.edge.records().len();
    assert!(ask(&door, &with(&[(b"content-length", b"3")]), b"abcd").await.is_refusal());
    assert_eq!(ask(&door, &with(&[(b":path", b"/last")]), b"").await, Outcome::Status(200));
    door.edge.records_with(1, &[("path", json!("/last"))]).await;
    palisade_tests::until("both records", async || {
        let records = door.edge.records();
        if records.len() == before + 2 { Ok(()) } else { Err(records[before..].to_vec()) }
    })
    .await;
}
