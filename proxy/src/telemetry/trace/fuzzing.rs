//! What must hold for any headers of a trace (see `crate::fuzzing`).

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Context, TRACEPARENT, TRACESTATE, is_state_valid, state};

/// Lines of `name: value`. A context that is read is written in the same trace and span, and read again the same; one that
/// is not read breaks a rule when it is looked at the long way; a state that is passed on is a list of at most 32 pairs.
pub fn trace(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let lines: Vec<&[u8]> = headers.get_all(TRACEPARENT).iter().map(HeaderValue::as_bytes).collect();
    let expected = if let [line] = lines.as_slice() { the_long_way(line) } else { None };
    let read = Context::of(&headers);
    let written = read.map(Context::header);
    assert_eq!(written.as_ref().and_then(|header| header.to_str().ok()), expected.as_deref(), "{lines:?}");
    assert_eq!(written.map(|header| Context::parse(header.as_bytes())), read.map(Some));
    if is_state_valid(&headers) {
        check_state(&headers);
    }
}

/// As version 00, or `None`.
fn the_long_way(line: &[u8]) -> Option<String> {
    // Of a version to come nobody knows what may follow.
    let text = String::from_utf8_lossy(line);
    let mut parts = text.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, len: usize| {
        part.len() == len && part.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    let good = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && version != "ff";
    let zero = trace.chars().all(|c| c == '0') || span.chars().all(|c| c == '0');
    if !good || zero || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let known = if version == "00" { 3 } else { 1 };
    Some(format!("00-{trace}-{span}-{:02x}", u8::from_str_radix(flags, 16).ok()? & known))
}

fn check_state(headers: &HeaderMap) {
    let text = state(headers);
    let members: Vec<&str> = text.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    assert!(members.len() <= 32, "{text:?}");
    for member in members {
        let parts: Vec<&str> = member.split('=').collect();
        assert!(parts.len() == 2 && parts.iter().all(|part| (1..=256).contains(&part.len())), "{text:?}");
    }
    let mut alone = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(text) {
        alone.insert(TRACESTATE, value);
    }
    assert!(is_state_valid(&alone), "{alone:?}");
}
