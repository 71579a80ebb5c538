//! The headers of W3C Trace Context: `traceparent` and `tracestate`.

use std::num::NonZero;

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The caller records its part of the trace (section 3.2.2.5.1).
const SAMPLED: u8 = 0x01;
/// The trace id's lower 56 bits are random (level 2). Passed on; of other flags nobody knows what they will mean.
const RANDOM: u8 = 0x02;
/// Members of `tracestate` (section 3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;
/// All of `tracestate`. Section 3.3.1.5 asks for 512 at least.
const STATE_BYTES_MAX: usize = 4096;
/// A key or a value of a member.
const STATE_PART_BYTES_MAX: usize = 256;

/// Never zero (section 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(NonZero<u128>);

/// Never zero (section 3.2.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(NonZero<u64>);

impl TraceId {
    pub(crate) fn random() -> Self {
        Self(NonZero::new(rand::random()).unwrap_or(NonZero::<u128>::MIN))
    }

    pub(crate) fn number(self) -> u128 {
        self.0.get()
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.number().to_be_bytes()
    }
}

impl SpanId {
    pub(crate) fn random() -> Self {
        Self(NonZero::new(rand::random()).unwrap_or(NonZero::<u64>::MIN))
    }

    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    flags: u8,
}

impl Context {
    pub(crate) fn new(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self { trace, span, flags: if sampled { SAMPLED } else { 0 } }
    }

    /// The same trace, one step further.
    pub(crate) fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }

    pub(crate) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub(crate) fn flags(self) -> u8 {
        self.flags
    }

    /// The caller's; `None` where there is none or none that is valid. Several are none (section 3.2.1).
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?;
        Self::parse(line.as_bytes())
    }

    /// Reads `VERSION-TRACE-SPAN-FLAGS`. Of versions to come the known beginning (section 4.1).
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (version, rest) = field(text, 2)?;
        let (trace, rest) = field(rest, 32)?;
        let (span, rest) = field(rest, 16)?;
        let (flags, end) = rest.split_at_checked(2)?;
        let (version, flags) = (lower_hex(version)?, lower_hex(flags)?);
        match (version, end.first()) {
            (0xff, _) => return None,
            (_, None) => {}
            (1.., Some(b'-')) => {}
            _ => return None,
        }
        let trace = TraceId(NonZero::new(lower_hex(trace)?)?);
        let span = SpanId(NonZero::new(u64::try_from(lower_hex(span)?).ok()?)?);
        let known = if version == 0 { SAMPLED | RANDOM } else { SAMPLED };
        Some(Self { trace, span, flags: u8::try_from(flags).ok()? & known })
    }

    /// As version 00.
    pub(crate) fn header(self) -> HeaderValue {
        let Self { trace, span, flags } = self;
        let text = format!("00-{:032x}-{:016x}-{flags:02x}", trace.0, span.0);
        HeaderValue::try_from(text).unwrap_or_else(|_never| HeaderValue::from_static("00"))
    }
}

/// The first `len` bytes, and what stands behind the dash that follows them.
fn field(text: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let (field, rest) = text.split_at_checked(len)?;
    Some((field, rest.strip_prefix(b"-")?))
}

/// At most 32 digits; capitals are none (section 3.2.2).
fn lower_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Whether all lines of `tracestate` together are a list that may be passed on (section 3.3). No line is one.
pub(crate) fn is_state_valid(headers: &HeaderMap) -> bool {
    let (mut bytes, mut members) = (0, 0);
    for line in headers.get_all(TRACESTATE) {
        bytes += line.len() + 1;
        for member in line.as_bytes().split(|byte| *byte == b',') {
            let member = trim(member);
            if member.is_empty() {
                continue;
            }
            members += 1;
            if bytes > STATE_BYTES_MAX || members > STATE_MEMBERS_MAX || !is_member(member) {
                return false;
            }
        }
    }
    true
}

/// All lines of `tracestate` as one. For those that are valid.
pub(crate) fn state(headers: &HeaderMap) -> String {
    let lines = headers.get_all(TRACESTATE).iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}

/// `OWS`: spaces and tabs.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// `KEY=VALUE`, by the grammar of level 2, which takes all that level 1 takes.
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = member.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    let within = |part: &[u8]| (1..=STATE_PART_BYTES_MAX).contains(&part.len());
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let in_key = |byte: &u8| begins(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    let in_value = |byte: &u8| matches!(byte, 0x20..=0x7e) && *byte != b'=';
    within(key)
        && within(value)
        && key.first().is_some_and(begins)
        && key.iter().all(in_key)
        && value.iter().all(in_value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn lines(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn written(text: &str) -> Option<String> {
        let context = Context::of(&lines("traceparent", &[text]))?;
        Some(context.header().to_str().unwrap().to_owned())
    }

    #[test]
    fn reads_what_the_recommendation_calls_valid() {
        let rows = [
            (format!("00-{TRACE}-{SPAN}-01"), "01"),
            (format!("00-{TRACE}-{SPAN}-00"), "00"),
            (format!("00-{TRACE}-{SPAN}-03"), "03"),
            (format!("00-{TRACE}-{SPAN}-ff"), "03"),
            (format!("00-{TRACE}-{SPAN}-fe"), "02"),
            // Versions to come: whatever follows the flags, and no flag but the oldest.
            (format!("cc-{TRACE}-{SPAN}-01"), "01"),
            (format!("cc-{TRACE}-{SPAN}-ff"), "01"),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), "01"),
            (format!("01-{TRACE}-{SPAN}-00-"), "00"),
        ];
        for (text, flags) in rows {
            assert_eq!(written(&text), Some(format!("00-{TRACE}-{SPAN}-{flags}")), "{text}");
        }
    }

    #[test]
    fn what_is_not_valid_is_no_trace() {
        let zeroes = "00000000000000000000000000000000";
        let rows = [
            String::new(),
            "00".into(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeroes}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("0A-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01."),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("000-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}1-01"),
            format!("00-.{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-.{}-01", &SPAN[1..]),
            format!("00-{TRACE}-{SPAN}-.0"),
            format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-not-be-like"),
            format!("cc-{TRACE}-{SPAN}-011"),
        ];
        for text in rows {
            assert_eq!(written(&text), None, "{text:?}");
        }
        let good = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(Context::of(&lines("traceparent", &[&good, &good])), None, "two are none");
        assert_eq!(Context::of(&HeaderMap::new()), None);
    }

    #[test]
    fn states_are_passed_on_when_they_are_lists_of_pairs() {
        let many = |count: usize| (0..count).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        let long = |key: usize, value: usize| format!("{}={}", "k".repeat(key), "v".repeat(value));
        let rows = [
            (vec![], true),
            (vec![String::new()], true),
            (vec!["foo=1".into()], true),
            (vec!["foo=1 \t , \t bar=2, baz=3".into()], true),
            (vec!["foo=1,".into(), ",bar=2".into(), String::new()], true),
            (vec!["fw529a3039@dt=FfAZ,4b1a@x=~ !\"#$%&'()*+-./:;<>?@[]^_`{|}".into()], true),
            (vec!["0a_-*/=x".into()], true),
            (vec![many(32)], true),
            (vec![many(33)], false),
            (vec![many(20), many(13)], false),
            (vec![long(256, 256)], true),
            (vec![long(257, 1)], false),
            (vec![long(1, 257)], false),
            (vec![vec![long(256, 256); 8].join(",")], false),
            (vec!["foo".into()], false),
            (vec!["=1".into()], false),
            (vec!["foo=".into()], false),
            (vec!["foo=1=2".into()], false),
            (vec!["foo =1".into()], false),
            (vec!["FOO=1".into()], false),
            (vec!["foo.bar=1".into()], false),
            (vec!["@foo=1".into()], false),
            (vec!["foo=1\tbar".into()], false),
            (vec!["foo=1;bar=2".into()], false),
        ];
        for (values, valid) in rows {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(is_state_valid(&lines("tracestate", &values)), valid, "{values:?}");
        }
        assert!(!is_state_valid(&{
            let mut headers = HeaderMap::new();
            headers.insert(TRACESTATE, HeaderValue::from_bytes(b"foo=\xff").unwrap());
            headers
        }));
        assert_eq!(state(&lines("tracestate", &["a=1", "b=2"])), "a=1,b=2");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let (trace, span) = (TraceId(NonZero::new(trace).unwrap()), SpanId(NonZero::new(span).unwrap()));
            let context = Context::new(trace, span, sampled);
            prop_assert_eq!(Context::parse(context.header().as_bytes()), Some(context));
        }

        #[test]
        fn whatever_is_read_has_the_form(text in "(00|cc|ff|0F)-[0-9a-fA-F]{31,33}-[0-9a-f]{16}-[0-9a-f]{2}.{0,2}") {
            if let Some(context) = Context::parse(text.as_bytes()) {
                let again = context.header();
                prop_assert_eq!(&again.as_bytes()[2..53], &text.as_bytes()[2..53]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _any = Context::parse(&bytes);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(TRACESTATE, value);
                let _any = is_state_valid(&headers);
            }
        }
    }
}
