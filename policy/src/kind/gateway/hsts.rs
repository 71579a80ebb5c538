//! `Strict-Transport-Security` (RFC 6797) for the hosts of a Gateway, asked for by an annotation.

use http::HeaderValue;

use crate::kind::Meta;

/// What browsers are told to remember of a Gateway's hosts in TLS: the value of the header.
pub const HSTS_ANNOTATION: &str = "palisade.mesh/strict-transport-security";

/// Ten years. Nobody means more, and clients may overflow.
const MAX_AGE_MAX: u64 = 315_360_000;
/// What lists of preloaded hosts ask for: one year (<https://hstspreload.org>).
const PRELOAD_AGE_MIN: u64 = 31_536_000;

/// The header of a Gateway, `None` where it asks for none. `Err`: what is wrong and what to write.
pub(crate) fn hsts(meta: &Meta) -> Result<Option<HeaderValue>, String> {
    meta.annotations.get(HSTS_ANNOTATION).map(|text| parse(text)).transpose()
}

/// `max-age=SECONDS[; includeSubDomains][; preload]` in any order and case. A directive that clients do not know they
/// ignore, and then nothing is protected: so none is taken here.
fn parse(text: &str) -> Result<HeaderValue, String> {
    let (mut max_age, mut below, mut preload) = (None, false, false);
    for directive in text.split(';').map(str::trim) {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name.trim_end().to_ascii_lowercase(), Some(value.trim_start())),
            None => (directive.to_ascii_lowercase(), None),
        };
        let again = match (name.as_str(), value) {
            ("max-age", Some(value)) => max_age.replace(seconds(value)?).is_some(),
            ("max-age", None) => return Err("max-age needs seconds: max-age=31536000".into()),
            ("includesubdomains", None) => std::mem::replace(&mut below, true),
            ("preload", None) => std::mem::replace(&mut preload, true),
            _ => {
                return Err(format!(
                    "{directive:?} is neither max-age=SECONDS, includeSubDomains nor preload"
                ));
            }
        };
        if again {
            return Err(format!("{name} stands there twice"));
        }
    }
    let Some(max_age) = max_age else {
        return Err("without max-age browsers ignore the header; write max-age=31536000".into());
    };
    if preload && !(below && max_age >= PRELOAD_AGE_MIN) {
        return Err(format!("preload goes with includeSubDomains and a max-age from {PRELOAD_AGE_MIN} on"));
    }
    let mut value = format!("max-age={max_age}");
    for (asked, directive) in [(below, "; includeSubDomains"), (preload, "; preload")] {
        if asked {
            value.push_str(directive);
        }
    }
    HeaderValue::try_from(value).map_err(|_never| "the value is no header".into())
}

fn seconds(text: &str) -> Result<u64, String> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let digits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.then(|| bare.parse().ok()).flatten().filter(|seconds| *seconds <= MAX_AGE_MAX);
    seconds.ok_or_else(|| format!("max-age is 0 to {MAX_AGE_MAX} seconds, not {text:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;

    #[test]
    fn what_browsers_understand_is_taken_and_written_one_way() {
        for (text, header) in [
            ("max-age=31536000", "max-age=31536000"),
            ("max-age=0", "max-age=0"),
            ("MAX-AGE = \"600\" ;includesubdomains", "max-age=600; includeSubDomains"),
            ("preload; includeSubDomains; max-age=31536000", "max-age=31536000; includeSubDomains; preload"),
        ] {
            assert_eq!(parse(text).unwrap(), header, "{text}");
        }
    }

    #[test]
    fn what_they_would_ignore_is_refused() {
        for text in [
            "",
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1y",
            "max-age=+5",
            "max-age=99999999999999999999",
            "max-age=315360001",
            "max-age=1; max-age=2",
            "max-age=1;",
            "includeSubDomains",
            "max-age=1; includeSubDomain",
            "max-age=1; includeSubDomains=1",
            "max-age=600; includeSubDomains; preload",
            "max-age=31536000; preload",
            "max-age=1\r\nset-cookie: a=b",
            "max-age=1, includeSubDomains",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
