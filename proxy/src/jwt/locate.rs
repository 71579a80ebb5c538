//! Finding the token of a request, and taking it out again.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use palisade_policy::compile::authentication::{JwtRule, Locations};
use percent_encoding::percent_decode_str;

use super::fault::TokenFault;
use crate::http::headers;

/// Where a token was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Name, and the prefix that was asked for.
    Header(String, String),
    Param(String),
    Cookie(String),
}

impl Place {
    pub(crate) fn is_of(&self, locations: &Locations) -> bool {
        match self {
            Self::Header(name, prefix) => locations.headers.iter().any(|(n, p)| n == name && p == prefix),
            Self::Param(name) => locations.params.contains(name),
            Self::Cookie(name) => locations.cookies.contains(name),
        }
    }
}

/// The one token of a request, with its place. More than one, in whatever places and even if they are the same: it
/// would be a guess which of them others go by.
pub(crate) fn find(
    rules: &[Arc<JwtRule>],
    headers: &HeaderMap,
    target: &PathAndQuery,
) -> Result<Option<(Vec<u8>, Place)>, TokenFault> {
    let mut places = Vec::new();
    for rule in rules {
        let headers =
            rule.locations.headers.iter().map(|(name, prefix)| Place::Header(name.clone(), prefix.clone()));
        let params = rule.locations.params.iter().cloned().map(Place::Param);
        let cookies = rule.locations.cookies.iter().cloned().map(Place::Cookie);
        for place in headers.chain(params).chain(cookies) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    let mut found = None;
    for place in places {
        for token in tokens_at(&place, headers, target)? {
            if found.replace((token, place.clone())).is_some() {
                return Err(TokenFault::Several);
            }
        }
    }
    Ok(found)
}

fn tokens_at(place: &Place, headers: &HeaderMap, target: &PathAndQuery) -> Result<Vec<Vec<u8>>, TokenFault> {
    match place {
        Place::Header(name, prefix) => Ok(in_header(headers, name, prefix)?.into_iter().collect()),
        Place::Param(name) => in_query(target.query().unwrap_or_default(), name),
        Place::Cookie(name) => Ok(cookies(headers)
            .filter_map(|cookie| value_of(cookie, name))
            .map(|value| value.to_vec())
            .collect()),
    }
}

/// A header that carries tokens may be there once, and under this name alone: a server that reads `_` as `-` would take
/// what stands under another spelling for the token that was verified.
fn in_header(headers: &HeaderMap, name: &str, prefix: &str) -> Result<Option<Vec<u8>>, TokenFault> {
    if headers.keys().any(|other| headers::is_folded(other.as_str(), name) && other != name) {
        return Err(TokenFault::Location);
    }
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(TokenFault::Location);
    }
    let value = value.as_bytes();
    let token = if prefix.trim_end().eq_ignore_ascii_case("bearer") {
        match bearer(value) {
            None => return Ok(None),
            Some(token) => token.ok_or(TokenFault::Location)?,
        }
    } else {
        match value.strip_prefix(prefix.as_bytes()) {
            None => return Ok(None),
            Some(token) => token,
        }
    };
    if token.is_empty() || !token.iter().all(|byte| is_token_byte(*byte)) {
        return Err(TokenFault::Location);
    }
    Ok(Some(token.to_vec()))
}

/// `Bearer`, in any case, one space, the token (RFC 6750 section 2.1, RFC 9110 section 11.1). `None`: another scheme.
/// `Some(None)`: the scheme, and no space behind it.
fn bearer(value: &[u8]) -> Option<Option<&[u8]>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    match rest.split_first() {
        Some((b' ', token)) => Some(Some(token)),
        Some((next, _)) if next.is_ascii_alphanumeric() || *next == b'-' => None,
        _ => Some(None),
    }
}

/// Parameters end at `&` (WHATWG URL section 5). Some servers end them at `;` too, and would find a token that we do not.
fn in_query(query: &str, name: &str) -> Result<Vec<Vec<u8>>, TokenFault> {
    let mut tokens = Vec::new();
    for pair in pairs(query) {
        if pair.split(';').skip(1).any(|part| key_of(part) == name) {
            return Err(TokenFault::Location);
        }
        if key_of(pair) == name {
            tokens.push(decoded(pair.split_once('=').map_or("", |(_, value)| value)));
        }
    }
    Ok(tokens)
}

/// RFC 6750's b64token.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&')
}

/// As applications read names: an escaped spelling is the same name.
fn key_of(pair: &str) -> String {
    let key = pair.split_once('=').map_or(pair, |(key, _)| key);
    String::from_utf8_lossy(&decoded(key)).into_owned()
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
}

fn value_of<'c>(cookie: &'c [u8], name: &str) -> Option<&'c [u8]> {
    let at = cookie.iter().position(|byte| *byte == b'=')?;
    let (key, value) = cookie.split_at_checked(at)?;
    (key.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
}

/// Takes a token out of a request, so that it goes no further.
pub(crate) fn remove(
    place: &Place,
    headers: &mut HeaderMap,
    target: &mut PathAndQuery,
) -> Result<(), TokenFault> {
    match place {
        Place::Header(name, _) => {
            headers.remove(name.as_str());
        }
        Place::Param(name) => {
            let kept: Vec<&str> =
                pairs(target.query().unwrap_or_default()).filter(|pair| key_of(pair) != *name).collect();
            let path = target.path();
            let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
            *target = PathAndQuery::try_from(text).map_err(|_cannot_be| TokenFault::Location)?;
        }
        Place::Cookie(name) => {
            let kept: Vec<&[u8]> =
                cookies(headers).filter(|cookie| value_of(cookie, name).is_none()).collect();
            let line =
                HeaderValue::from_bytes(&kept.join(&b"; "[..])).map_err(|_cannot_be| TokenFault::Location)?;
            headers.remove(COOKIE);
            if !line.is_empty() {
                headers.insert(COOKIE, line);
            }
        }
    }
    Ok(())
}

/// Removes every header of a name, under any spelling that an application server may fold into it.
pub(crate) fn remove_folded(headers: &mut HeaderMap, name: &str) {
    // A rule that hands its payload on under the name of the credentials is refused when it is read.
    headers::remove_where(headers, |other| headers::is_folded(other, name) && other != AUTHORIZATION);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::rule_for_tests;

    fn rules() -> Vec<Arc<JwtRule>> {
        let mut rule = rule_for_tests();
        rule.locations = Locations {
            headers: vec![("authorization".into(), "Bearer ".into()), ("x-token".into(), String::new())],
            params: vec!["access_token".into()],
            cookies: vec!["session".into()],
        };
        vec![Arc::new(rule)]
    }

    fn request(lines: &[(&'static str, &'static str)], target: &str) -> (HeaderMap, PathAndQuery) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        (headers, target.parse().unwrap())
    }

    type Row<'r> = (&'r [(&'static str, &'static str)], &'r str, Result<Option<&'r str>, TokenFault>);

    #[test]
    fn one_token_is_found_wherever_it_is_and_two_are_refused() {
        let rows: &[Row<'_>] = &[
            (&[], "/", Ok(None)),
            (&[("authorization", "Bearer a.b.c")], "/", Ok(Some("a.b.c"))),
            (&[("authorization", "bEARER a.b.c")], "/", Ok(Some("a.b.c"))),
            (&[("authorization", "Basic YTpi")], "/", Ok(None)),
            (&[("authorization", "Bearers a.b.c")], "/", Ok(None)),
            (&[("authorization", "Bearer  a.b.c")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Bearer\ta.b.c")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Bearer")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Bearer ")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Bearer a, Bearer b")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Bearer a,b")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], "/", Err(TokenFault::Location)),
            (&[("authorization", "Basic a"), ("authorization", "Bearer a")], "/", Err(TokenFault::Location)),
            (&[("x-token", "a.b.c")], "/", Ok(Some("a.b.c"))),
            (&[("x-token", "a b")], "/", Err(TokenFault::Location)),
            (&[("x-token", "")], "/", Err(TokenFault::Location)),
            (&[("x-token", "a.b.c"), ("x_token", "forged")], "/", Err(TokenFault::Location)),
            (&[("x_token", "a.b.c")], "/", Err(TokenFault::Location)),
            (&[("x_tokens", "a.b.c")], "/", Ok(None)),
            (&[], "/?access_token=a.b.c", Ok(Some("a.b.c"))),
            (&[], "/?a=1;access_token=a.b.c", Err(TokenFault::Location)),
            (&[], "/?access_token=a.b.c&a=1;access%5Ftoken", Err(TokenFault::Location)),
            (&[], "/?a=1;b=2&access_token=a.b.c", Ok(Some("a.b.c"))),
            (&[], "/?x=1&access%5Ftoken=a.b.c", Ok(Some("a.b.c"))),
            (&[], "/?access_token=a&access_token=a", Err(TokenFault::Several)),
            (&[], "/?Access_token=a", Ok(None)),
            (&[("cookie", "a=1; session=x.y.z; b=2")], "/", Ok(Some("x.y.z"))),
            (&[("cookie", "a=1"), ("cookie", "session=x.y.z")], "/", Ok(Some("x.y.z"))),
            (&[("cookie", "session=x"), ("cookie", "session=y")], "/", Err(TokenFault::Several)),
            (&[("authorization", "Bearer a"), ("x-token", "a")], "/", Err(TokenFault::Several)),
            (&[("authorization", "Bearer a"), ("cookie", "session=b")], "/", Err(TokenFault::Several)),
            (&[("authorization", "Bearer a")], "/?access_token=b", Err(TokenFault::Several)),
        ];
        for (lines, target, expected) in rows {
            let (headers, path) = request(lines, target);
            let found = find(&rules(), &headers, &path);
            let text = found.map(|found| found.map(|(token, _)| String::from_utf8(token).unwrap()));
            assert_eq!(text, expected.map(|token| token.map(str::to_owned)), "{lines:?} {target}");
        }
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_as_it_was() {
        let (mut headers, mut path) = request(
            &[("cookie", "a=1; session=x"), ("cookie", "b=2"), ("authorization", "Bearer x")],
            "/p%20q?x=%41&access%5ftoken=t&y&=z",
        );
        for place in [
            Place::Header("authorization".into(), "Bearer ".into()),
            Place::Param("access_token".into()),
            Place::Cookie("session".into()),
        ] {
            remove(&place, &mut headers, &mut path).unwrap();
        }
        assert_eq!(path.as_str(), "/p%20q?x=%41&y&=z");
        assert_eq!((headers.len(), headers["cookie"].to_str().unwrap()), (1, "a=1; b=2"));
        let (mut headers, mut path) = request(&[("cookie", "session=x")], "/?access_token=t");
        remove(&Place::Param("access_token".into()), &mut headers, &mut path).unwrap();
        remove(&Place::Cookie("session".into()), &mut headers, &mut path).unwrap();
        assert_eq!((path.as_str(), headers.len()), ("/", 0));
    }
}
