//! What must hold for any path and any bytes of a connection (see `crate::fuzzing`).

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use httparse::Status;
use palisade_policy::kind::MeshConfigSpec;
use palisade_policy::kind::mesh_config::{AmbiguousPaths, PathNormalization};
use palisade_policy::request::path::normalize;
use tokio::io::{AsyncRead, ReadBuf};

use super::framing::Guarded;
use crate::fuzzing::panic_on;

use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None as AsItCame};

/// Paths. What is accepted is in one spelling, which a second reading does not change, and climbs nowhere.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for normalization in [AsItCame, Base, MergeSlashes, DecodeAndMergeSlashes] {
        for ambiguous in [AmbiguousPaths::Reject, AmbiguousPaths::Keep] {
            if !text.contains('?') {
                path_alone(text, normalization, ambiguous);
            }
            let mesh = MeshConfigSpec {
                path_normalization: normalization,
                ambiguous_paths: ambiguous,
                ..MeshConfigSpec::default()
            };
            path_of_a_request(text, &mesh);
        }
    }
}

fn path_alone(text: &str, normalization: PathNormalization, ambiguous: AmbiguousPaths) {
    let Ok(once) = normalize(text, normalization, ambiguous) else { return };
    let twice = normalize(&once, normalization, ambiguous);
    assert_eq!(twice.as_deref(), Ok(&*once), "{text:?} by {normalization:?}, {ambiguous:?}");
    check_normal(&once, normalization, ambiguous);
}

fn check_normal(path: &str, normalization: PathNormalization, ambiguous: AmbiguousPaths) {
    let input = (path, normalization, ambiguous);
    assert!(path.starts_with('/'), "{input:?}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{input:?}");
    let lower = path.to_ascii_lowercase();
    assert!(!lower.contains("%00"), "{input:?}");
    if ambiguous == AmbiguousPaths::Reject {
        for sign in ["%2f", "%5c", "%25", "%3b", ";"] {
            assert!(!lower.contains(sign), "{input:?}");
        }
        assert!(percent_encoding::percent_decode_str(path).decode_utf8().is_ok(), "{input:?}");
    }
    if normalization == AsItCame {
        return;
    }
    assert!(!path.contains('\\') && !lower.contains("%2e"), "{input:?}");
    assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{input:?}");
    if ambiguous == AmbiguousPaths::Reject {
        // Also to an upstream that decodes everything once more.
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let climbs = decoded.split(['/', '\\', ';']).any(|segment| segment == "." || segment == "..");
        assert!(!climbs, "{input:?}");
    }
    if normalization != Base {
        assert!(!path.contains("//"), "{input:?}");
    }
    if normalization == DecodeAndMergeSlashes {
        assert!(!lower.contains("%2f") && !lower.contains("%5c"), "{input:?}");
    }
}

/// The same through the head of a request, as it is judged and forwarded.
fn path_of_a_request(text: &str, mesh: &MeshConfigSpec) {
    let Ok(uri) = text.parse::<Uri>() else { return };
    let query = uri.query().map(str::to_owned);
    let (mut head, ()) = Request::new(()).into_parts();
    head.uri = uri;
    if head.uri.authority().is_none() {
        head.headers.insert(HOST, HeaderValue::from_static("host.example"));
    }
    let Ok(target) = super::normalize::normalize(&mut head, mesh) else { return };
    check_normal(target.path.path(), mesh.path_normalization, mesh.ambiguous_paths);
    assert_eq!(target.path.query(), query.as_deref(), "{text:?}");
    assert!(super::authority::is_plain(&target.authority), "{text:?}");
}

/// Bytes of a connection. The verdict does not depend on how they arrive, nothing is passed on that did not come, and
/// what is passed whole a lenient reader takes apart at the same places.
pub fn framing(data: &[u8]) {
    // A last byte that the guard never makes up: bytes that end as its poison does would look passed.
    let data = [data, b"Z"].concat();
    let data = data.as_slice();
    let whole = passed(data, usize::MAX);
    let clear = whole == data;
    for step in [1, 2, 7] {
        let parts = passed(data, step);
        assert_eq!(parts == data, clear, "in steps of {step}: {:?}", String::from_utf8_lossy(data));
    }
    if clear {
        read_on(data);
    }
}

/// What comes out of the guard when at most `step` bytes come at once.
fn passed(data: &[u8], step: usize) -> Vec<u8> {
    let mut guarded = pin!(Guarded::requests(data));
    let mut context = Context::from_waker(Waker::noop());
    let mut out = Vec::new();
    loop {
        let mut buffer = vec![0; step.min(data.len() + 16)];
        let mut buffer = ReadBuf::new(&mut buffer);
        match guarded.as_mut().poll_read(&mut context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
            Poll::Ready(Ok(())) => out.extend_from_slice(buffer.filled()),
            // Refused within a body; what would have made it whole has not been passed.
            Poll::Ready(Err(_)) => break,
            Poll::Pending => panic_on("a slice is always ready", data),
        }
    }
    let good = out.iter().zip(data).take_while(|(a, b)| a == b).count();
    let rest = out.get(good..).unwrap_or_default();
    assert!(rest.is_empty() || b"\0\r\n\r\n".ends_with(rest), "made up: {rest:?} after {data:?}");
    out
}

/// Follows requests with httparse, which hyper reads with, to the end or to something that it does not take.
fn read_on(data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() {
        let mut space = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut space);
        let Ok(Status::Complete(head)) = request.parse(rest) else { return };
        let named = |name: &str| {
            let is = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
            request.headers.iter().filter(is).map(|header| header.value).collect::<Vec<_>>()
        };
        let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "smuggled: {:?}", String::from_utf8_lossy(data));
        if !named("upgrade").is_empty() {
            return;
        }
        let body = rest.get(head..).unwrap_or_default();
        let length = match (lengths.first(), codings.first()) {
            (Some(length), _) => std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()),
            (None, Some(_)) => match chunked(body) {
                Some(length) => Some(length),
                None => return,
            },
            (None, None) => Some(0),
        };
        let Some(length) = length else { panic_on("a length that is none", data) };
        rest = body.get(length..).unwrap_or_default();
    }
}

/// The bytes of a chunked body; `None` where it is not whole, or none to httparse either.
fn chunked(body: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let Ok(Status::Complete((line, size))) = httparse::parse_chunk_size(body.get(at..)?) else {
            return None;
        };
        at = at.checked_add(line)?;
        if size == 0 {
            let mut space = [httparse::EMPTY_HEADER; 64];
            let trailers = httparse::parse_headers(body.get(at..)?, &mut space);
            let Ok(Status::Complete((trailers, _))) = trailers else { return None };
            return at.checked_add(trailers);
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        let behind = body.get(at..)?;
        if !behind.starts_with(b"\r\n") {
            // The guard judges a line when it has come whole.
            assert!(!behind.contains(&b'\n'), "behind a chunk of {:?}", String::from_utf8_lossy(body));
            return None;
        }
        at = at.checked_add(2)?;
    }
}
