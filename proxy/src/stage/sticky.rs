//! What a request's endpoint is chosen by, where a destination balances by consistent hash.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use palisade_policy::traffic::HashKey;
use uuid::Uuid;

use crate::upstream::balance::of_bytes;

/// The hash of a request, and the cookie that its caller is to keep.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sticky {
    pub(crate) hash: Option<u64>,
    pub(crate) set_cookie: Option<HeaderValue>,
}

impl Sticky {
    /// `source`: whom the request comes from. `new_cookie`: a value that nobody else has.
    pub(crate) fn of(
        key: &HashKey,
        headers: &HeaderMap,
        path: &PathAndQuery,
        source: IpAddr,
        new_cookie: impl FnOnce() -> Uuid,
    ) -> Self {
        let hash = match key {
            HashKey::Header(name) => headers.get(name).map(|value| of_bytes(value.as_bytes())),
            HashKey::SourceIp => Some(match source.to_canonical() {
                IpAddr::V4(address) => of_bytes(&address.octets()),
                IpAddr::V6(address) => of_bytes(&address.octets()),
            }),
            HashKey::QueryParameter(name) => {
                path.query().and_then(|query| parameter(query, name)).map(|value| of_bytes(value.as_bytes()))
            }
            HashKey::Cookie { name, path, ttl } => match (cookie(headers, name), ttl) {
                (Some(value), _) => Some(of_bytes(value)),
                (None, None) => None,
                (None, Some(ttl)) => {
                    let value = new_cookie().simple().to_string();
                    let set_cookie = set_cookie(name, &value, path.as_deref(), *ttl);
                    return Self { hash: Some(of_bytes(value.as_bytes())), set_cookie };
                }
            },
        };
        Self { hash, set_cookie: None }
    }
}

/// The first parameter of that name, as it is written.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, v)| v))
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Nothing secret: whoever has it comes to the same endpoint, no more.
fn set_cookie(name: &str, value: &str, path: Option<&str>, ttl: Duration) -> Option<HeaderValue> {
    let mut text = format!("{name}={value}");
    if !ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs().max(1)));
    }
    if let Some(path) = path {
        text.push_str(&format!("; Path={path}"));
    }
    text.push_str("; HttpOnly");
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn sticky(key: &HashKey, headers: &[(&'static str, &str)], path: &str) -> Sticky {
        let lines = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        Sticky::of(key, &lines.collect(), &path.parse().unwrap(), SOURCE, Uuid::nil)
    }

    #[test]
    fn the_key_is_what_the_rule_names_and_nothing_else() {
        let cookie = |ttl| HashKey::Cookie { name: "s".into(), path: Some("/p".into()), ttl };
        let header = HashKey::Header(http::HeaderName::from_static("x-user"));
        let query = HashKey::QueryParameter("u".into());
        type Row<'r> = (&'r HashKey, &'r [(&'static str, &'r str)], &'r str, Option<&'r str>);
        let rows: &[Row<'_>] = &[
            (&header, &[("x-user", "ada")], "/", Some("ada")),
            (&header, &[("x-users", "ada")], "/", None),
            (&query, &[], "/?a=1&u=ada&u=bob", Some("ada")),
            (&query, &[], "/?uu=ada&u", None),
            (&cookie(None), &[("cookie", "a=1; s=ada; ss=bob")], "/", Some("ada")),
            (&cookie(None), &[("cookie", "ss=bob")], "/", None),
        ];
        for (key, headers, path, expected) in rows {
            let got = sticky(key, headers, path);
            assert_eq!(
                got.hash,
                expected.map(|text| of_bytes(text.as_bytes())),
                "{key:?} {headers:?} {path}"
            );
            assert_eq!(got.set_cookie, None);
        }
        assert_eq!(sticky(&HashKey::SourceIp, &[], "/").hash, Some(of_bytes(&[127, 0, 0, 1])));
        let given = sticky(&cookie(Some(Duration::from_secs(60))), &[], "/");
        let text = format!("s={}; Max-Age=60; Path=/p; HttpOnly", Uuid::nil().simple());
        assert_eq!(given.set_cookie.unwrap(), text);
        assert_eq!(given.hash, Some(of_bytes(Uuid::nil().simple().to_string().as_bytes())));
    }
}
