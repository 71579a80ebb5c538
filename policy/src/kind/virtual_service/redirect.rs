//! Answers that need no upstream.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, StatusCode};

use super::rewrite::{is_clean, plain_authority};
use crate::finding::code;
use crate::finding::problem::Problems;

/// Bodies are part of every snapshot; Istio warns from here on.
const BODY_BYTES_MAX: usize = 100 * 1024;
/// 1xx is not an answer; Envoy takes 200 to 599 as well.
const STATUS: RangeInclusive<u16> = 200..=599;
const REDIRECT_CODES: [u16; 5] = [301, 302, 303, 307, 308];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// In place of the whole path. With a query of its own the request's is dropped.
    pub uri: Option<String>,
    pub authority: Option<String>,
    pub scheme: Option<String>,
    pub port: Option<u16>,
    /// Absent: 301.
    pub code: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectResponse {
    pub status: u16,
    pub body: Option<Vec<u8>>,
}

/// A compiled redirect.
#[derive(Clone, Debug)]
pub struct Location {
    pub status: StatusCode,
    uri: Option<Box<str>>,
    authority: Option<Authority>,
    scheme: Option<Box<str>>,
    port: Option<u16>,
}

/// A compiled answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Option<Bytes>,
}

impl Location {
    pub(crate) fn new(redirect: &Redirect, path: &str, problems: &mut Problems) -> Option<Self> {
        let Redirect { uri, authority, scheme, port, code: status } = redirect;
        let mut wrong = |field: &str, message: String| {
            problems.error(code::BAD_REWRITE, format!("{path}{field}"), message);
        };
        if uri.is_none() && authority.is_none() && scheme.is_none() && port.is_none() {
            wrong(
                "",
                "this redirect leads to where it came from; write uri, authority, scheme or port".into(),
            );
        }
        if let Some(uri) = uri
            && !is_redirect_target(uri)
        {
            wrong(".uri", format!("{uri:?} is no path: it starts with one slash, and a query may follow"));
        }
        let parsed = authority.as_deref().and_then(plain_authority);
        if authority.is_some() && parsed.is_none() {
            wrong(".authority", "this is no host, and no host:port".into());
        }
        if let Some(scheme) = scheme
            && !["http", "https"].contains(&scheme.as_str())
        {
            wrong(".scheme", format!("{scheme:?} is neither http nor https"));
        }
        let number = status.unwrap_or(301);
        let known = REDIRECT_CODES.contains(&number);
        if !known {
            let message = format!("{number} is no redirect; write one of 301, 302, 303, 307, 308");
            problems.error(code::ROUTE_RANGE, format!("{path}.redirectCode"), message);
        }
        Some(Self {
            status: StatusCode::from_u16(number).ok().filter(|_| known)?,
            uri: uri.as_deref().map(Into::into),
            authority: parsed,
            scheme: scheme.as_deref().map(Into::into),
            port: *port,
        })
    }

    /// The value of `Location`. Where nothing else is said, scheme and authority are those of the request; the port of
    /// the authority goes when another is written, or when it was the default of a scheme that changes.
    pub fn value(
        &self,
        scheme: &str,
        authority: &Authority,
        path: &str,
        query: Option<&str>,
    ) -> Option<HeaderValue> {
        let new_scheme = self.scheme.as_deref().unwrap_or(scheme);
        let base = self.authority.as_ref().unwrap_or(authority);
        let default_of = |scheme: &str| if scheme == "https" { 443 } else { 80 };
        let stale = new_scheme != scheme && base.port_u16() == Some(default_of(scheme));
        let host = if self.port.is_some() || (self.authority.is_none() && stale) {
            base.host()
        } else {
            base.as_str()
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = self.uri.as_deref().unwrap_or(path);
        let query = query.filter(|_| !path.contains('?')).map(|q| format!("?{q}")).unwrap_or_default();
        HeaderValue::try_from(format!("{new_scheme}://{host}{port}{path}{query}")).ok()
    }
}

fn is_redirect_target(uri: &str) -> bool {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let visible = |b: u8| (0x21..0x7f).contains(&b) && b != b'#';
    is_clean(path) && query.is_none_or(|q| q.bytes().all(visible))
}

impl Answer {
    pub(crate) fn new(response: &DirectResponse, path: &str, problems: &mut Problems) -> Option<Self> {
        let mut wrong = |field: &str, message: String| {
            problems.error(code::ROUTE_RANGE, format!("{path}.{field}"), message);
        };
        let known = STATUS.contains(&response.status);
        if !known {
            wrong(
                "status",
                format!("{} is not within {} and {}", response.status, STATUS.start(), STATUS.end()),
            );
        }
        if let Some(body) = &response.body {
            if body.len() > BODY_BYTES_MAX {
                wrong(
                    "body",
                    format!("the body has {} bytes, at most {BODY_BYTES_MAX} are taken", body.len()),
                );
            }
            // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
            if [204, 205, 304].contains(&response.status) {
                wrong("body", format!("an answer with status {} has no body", response.status));
            }
        }
        Some(Self {
            status: StatusCode::from_u16(response.status).ok().filter(|_| known)?,
            body: response.body.clone().map(Bytes::from),
        })
    }
}
