//! What must hold for any token, wherever it is found, and any key set (see `crate::fuzzing`).

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use palisade_policy::compile::authentication::{JwtRule, Locations};
use palisade_policy::request::token::Token;
use serde_json::Value;

use super::cache::{TokenCache, TokenKey};
use super::jwk::{PublicKeys, parse_set};
use super::jws::Jws;
use super::locate::{Place, find, remove};
use super::verify::{KeySet, Secret};
use crate::fuzzing::panic_on;

/// Keys of RFC 7515 appendices A.2 and A.3 and RFC 8037 appendix A, whose private halves everybody knows.
const KEYS: &str = include_str!("../../tests/data/rfc-tokens/keys.json");
/// Of RFC 7515 appendix A.1.
const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
/// The tokens that were signed with them, one a line.
pub const SIGNED: &str = include_str!("../../tests/data/rfc-tokens/signed.txt");

static KEY_SETS: LazyLock<[KeySet; 2]> = LazyLock::new(|| {
    let public = parse_set(KEYS.as_bytes()).unwrap_or_else(|error| panic_on("the keys", error));
    assert_eq!(public.len(), 3);
    let secret = URL_SAFE_NO_PAD.decode(SECRET).ok().and_then(|bytes| Secret::new(&bytes));
    let secret = secret.unwrap_or_else(|| panic_on("the secret", SECRET));
    [KeySet::Public(public), KeySet::Secret(secret)]
});

static RULES: LazyLock<Vec<Arc<JwtRule>>> = LazyLock::new(|| {
    let mut rule = super::rule_for_tests();
    rule.locations = Locations {
        headers: vec![("authorization".into(), "Bearer ".into()), ("x-token".into(), "JWT ".into())],
        params: vec!["access_token".into()],
        cookies: vec!["session".into()],
    };
    vec![Arc::new(rule)]
});

/// A request's credentials, four lines: `Authorization`, `X-Token`, `Cookie`, query. A token that is found is found once and
/// can be taken out; one that can be read has one reading; one that verifies is one that was signed.
pub fn token(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [AUTHORIZATION, http::HeaderName::from_static("x-token"), COOKIE] {
        if let Some(line) = lines.next().filter(|line| !line.is_empty())
            && let Ok(value) = HeaderValue::from_bytes(line)
        {
            headers.append(name, value);
        }
    }
    let query = lines.next().and_then(|query| std::str::from_utf8(query).ok()).unwrap_or_default();
    let Ok(mut target) = PathAndQuery::try_from(format!("/p?{query}")) else { return };
    let Ok(Some((text, place))) = find(&RULES, &headers, &target) else { return };
    if matches!(place, Place::Header(..)) {
        assert!(!text.is_empty() && text.iter().all(u8::is_ascii_graphic), "{text:?}");
    }
    if remove(&place, &mut headers, &mut target).is_ok() {
        assert_eq!(find(&RULES, &headers, &target), Ok(None), "{place:?} was taken out of {data:?}");
        assert_eq!(target.path(), "/p");
    }
    read(&text);
}

fn read(text: &[u8]) {
    let Ok(jws) = Jws::parse(text, 8192) else { return };
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic_on("not three parts", text) };
    assert!(text.starts_with(jws.signed) && jws.signed.len() == header.len() + 1 + payload.len());
    assert_eq!(URL_SAFE_NO_PAD.encode(&jws.payload).as_bytes(), *payload);
    assert_eq!(URL_SAFE_NO_PAD.encode(&jws.signature).as_bytes(), *signature);
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    assert_eq!(header.get("alg").and_then(Value::as_str), Some(jws.algorithm().name()));
    assert_eq!(header.get("kid").and_then(Value::as_str), jws.key_id());
    for refused in ["crit", "jwk", "jku", "x5u", "x5c", "enc"] {
        assert!(header.get(refused).is_none(), "{header}");
    }
    read_claims(&jws.payload);
    let verified = KEY_SETS.iter().any(|keys| keys.verify(&jws).is_ok());
    let signed = SIGNED
        .lines()
        .any(|line| line.as_bytes().rsplitn(2, |byte| *byte == b'.').nth(1) == Some(jws.signed));
    assert!(signed || !verified, "nobody signed {}", String::from_utf8_lossy(text));
}

fn read_claims(payload: &[u8]) {
    let Ok((token, times)) = Token::parse(payload) else { return };
    // The same to a reader that asks less.
    assert_eq!(serde_json::from_slice::<Value>(payload).ok(), Some(Value::Object(token.claims.clone())));
    assert!(!token.issuer.is_empty());
    assert_eq!(token.subject.is_some(), token.principal.is_some());
    if let (Some(principal), Some(subject)) = (&token.principal, &token.subject) {
        let (issuer, escaped) = principal.rsplit_once('/').unwrap_or_default();
        assert_eq!(issuer, token.issuer);
        let unescaped = percent_encoding::percent_decode_str(escaped).decode_utf8_lossy();
        assert!(unescaped == *subject || subject.contains('%'), "{principal} {subject}");
    }
    for (name, time) in [("exp", times.exp), ("nbf", times.nbf), ("iat", times.iat)] {
        assert_eq!(token.claims.contains_key(name), time.is_some(), "{name}");
    }
}

/// A key set. Each key of it is used or refused with a code; none that is used is secret, private or somebody's twin.
pub fn key_set(data: &[u8]) {
    let Ok(PublicKeys { keys, refused }) = parse_set(data) else { return };
    let set: Value = serde_json::from_slice(data).unwrap_or_default();
    let entries = set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    assert_eq!(keys.len() + refused.len(), entries.len());
    let mut ids = HashSet::new();
    let used = entries.iter().enumerate().filter(|(index, _)| !refused.iter().any(|(at, _)| at == index));
    for ((_, entry), key) in used.zip(&keys) {
        assert_eq!(entry.get("kid").and_then(Value::as_str), key.id.as_deref());
        assert!(key.id.is_none() || ids.insert(&key.id), "{:?} twice", key.id);
        assert!(!key.verifiers.is_empty());
        assert!(entry.get("kty").is_some_and(|kind| kind != "oct"), "{entry}");
        assert!(
            entry.get("d").is_none() && entry.get("use").is_none_or(|purpose| purpose == "sig"),
            "{entry}"
        );
        let bytes = |name| entry.get(name).and_then(Value::as_str).map_or(0, |text| text.len() * 3 / 4);
        assert!(bytes("n") >= 256 || bytes("x") >= 32, "{entry}");
    }
}

/// A token taken apart and its signature verified, as for one that was never seen. For benches/.
pub fn is_signed(token: &[u8]) -> bool {
    Jws::parse(token, 8192).is_ok_and(|jws| KEY_SETS.iter().any(|keys| keys.verify(&jws).is_ok()))
}

/// What a worker remembers of tokens that it has verified. For benches/.
#[derive(Debug, Default)]
pub struct Memory(TokenCache<()>);

impl Memory {
    pub fn put(&self, token: &[u8]) {
        self.0.put(TokenKey::of(token), Arc::new(()), token.len());
    }

    pub fn knows(&self, token: &[u8]) -> bool {
        self.0.get(TokenKey::of(token)).is_some()
    }
}
