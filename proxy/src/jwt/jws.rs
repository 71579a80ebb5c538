//! Compact JWS (RFC 7515 section 7.1), taken apart strictly. Nothing in here is believed before `verify`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use palisade_policy::request::json;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::fault::TokenFault;

/// Longest header, in bytes of JSON. 4 KiB: real ones have some 100.
const HEADER_BYTES_MAX: usize = 4096;
/// Longest key id. 256: a hash in hex has 128.
const KEY_ID_BYTES_MAX: usize = 256;
/// Members by which a token would bring the key that it is to be verified with (RFC 7515 section 4.1). Thumbprints
/// (`x5t`) bring none, and large issuers send them.
const EMBEDDED: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];

/// A token in its parts, each decoded once.
#[derive(Debug)]
pub(crate) struct Jws<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What was signed: the first two parts with their dot, as they came.
    pub(super) signed: &'t [u8],
    pub(crate) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Takes apart a token of at most `bytes_max` bytes.
    pub(crate) fn parse(token: &'t [u8], bytes_max: usize) -> Result<Self, TokenFault> {
        if token.len() > bytes_max {
            return Err(TokenFault::TooLarge);
        }
        let [header, payload, signature] = parts(token)?;
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(TokenFault::NotCompact)?;
        let (algorithm, key_id) = read_header(&decode(header)?)?;
        Ok(Self { algorithm, key_id, signed, payload: decode(payload)?, signature: decode(signature)? })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
}

fn parts(token: &[u8]) -> Result<[&[u8]; 3], TokenFault> {
    let mut parts = token.split(|byte| *byte == b'.');
    let three = (parts.next(), parts.next(), parts.next());
    match (three, parts.count()) {
        ((Some(header), Some(payload), Some(signature)), 0) => Ok([header, payload, signature]),
        // Five parts: JWE (RFC 7516 section 7.1).
        (_, 2) => Err(TokenFault::Encrypted),
        _ => Err(TokenFault::NotCompact),
    }
}

/// The engine refuses padding, other alphabets, white space, and set bits behind the last byte: each text has one
/// spelling, so that a cache or a list of revoked tokens cannot be slipped past by respelling.
fn decode(part: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_respelled| TokenFault::Base64)
}

fn read_header(text: &[u8]) -> Result<(Algorithm, Option<String>), TokenFault> {
    if text.len() > HEADER_BYTES_MAX {
        return Err(TokenFault::Header);
    }
    let header = json::object(text).map_err(|_not_strict| TokenFault::Header)?;
    if header.contains_key("crit") || header.contains_key("b64") {
        // We know no extension, so any that must be understood is one too many (RFC 7515 section 4.1.11).
        return Err(TokenFault::Critical);
    }
    if header.contains_key("enc") || header.contains_key("zip") {
        return Err(TokenFault::Encrypted);
    }
    if EMBEDDED.into_iter().any(|name| header.contains_key(name)) {
        return Err(TokenFault::EmbeddedKey);
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => Algorithm::parse(name).ok_or(TokenFault::Algorithm)?,
        _ => return Err(TokenFault::Header),
    };
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) if !id.is_empty() && id.len() <= KEY_ID_BYTES_MAX => Some(id.clone()),
        Some(_) => return Err(TokenFault::Header),
    };
    for name in ["typ", "cty"] {
        if header.get(name).is_some_and(|value| !value.is_string()) {
            return Err(TokenFault::Header);
        }
    }
    match header.get("typ").and_then(Value::as_str) {
        Some(kind) if is_of_another_kind(kind) => Err(TokenFault::Kind),
        _ => Ok((algorithm, key_id)),
    }
}

/// Whether a `typ` says that the object is for something else than access: issuers sign logout tokens, proofs of possession
/// and requests with the same keys (RFC 8725 section 3.11). Those have types of their own, by rule with `+jwt` at the end;
/// `JWT` and what else issuers write says nothing.
fn is_of_another_kind(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    let of_access = kind == "at+jwt" || kind.ends_with("-at+jwt");
    kind == "jwe" || (kind.ends_with("+jwt") && !of_access)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    fn fault(token: &str) -> TokenFault {
        Jws::parse(token.as_bytes(), 8192).unwrap_err()
    }

    #[test]
    fn a_plain_header_is_read() {
        let text = token(r#"{"alg":"ES256","kid":"k1","typ":"at+jwt","other":1}"#);
        let jws = Jws::parse(text.as_bytes(), 8192).unwrap();
        assert_eq!((jws.algorithm.name(), jws.key_id()), ("ES256", Some("k1")));
        assert_eq!((jws.payload.as_slice(), jws.signature.as_slice()), (&b"{}"[..], &[0][..]));
        assert!(text.as_bytes().starts_with(jws.signed));
    }

    #[test]
    fn types_of_access_tokens_and_those_that_say_nothing_are_taken() {
        for kind in [
            "JWT",
            "jwt",
            "at+jwt",
            "application/at+jwt",
            "application/okta-internal-at+jwt",
            "JOSE",
            "Bearer",
            "",
        ] {
            let text = token(&format!(r#"{{"alg":"RS256","typ":"{kind}"}}"#));
            assert!(Jws::parse(text.as_bytes(), 8192).is_ok(), "{kind}");
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let long = "k".repeat(257);
        let long_kid = format!(r#"{{"alg":"RS256","kid":"{long}"}}"#);
        let rows: &[(&str, TokenFault)] = &[
            (r#"{"alg":"none"}"#, TokenFault::Algorithm),
            (r#"{"alg":"None"}"#, TokenFault::Algorithm),
            (r#"{"alg":"nOnE"}"#, TokenFault::Algorithm),
            (r#"{"alg":"NONE"}"#, TokenFault::Algorithm),
            (r#"{"alg":"rs256"}"#, TokenFault::Algorithm),
            (r#"{"alg":"HS384"}"#, TokenFault::Algorithm),
            (r#"{"alg":"ES256K"}"#, TokenFault::Algorithm),
            (r#"{"alg":"RS256 "}"#, TokenFault::Algorithm),
            (r#"{"alg":""}"#, TokenFault::Algorithm),
            (r#"{"alg":null}"#, TokenFault::Header),
            (r#"{"alg":["RS256"]}"#, TokenFault::Header),
            (r#"{"typ":"JWT"}"#, TokenFault::Header),
            (r#"{"alg":"RS256","alg":"none"}"#, TokenFault::Header),
            (r#"{"alg":"RS256","\u0061lg":"none"}"#, TokenFault::Header),
            (r#"{"alg":"RS256","crit":["exp"]}"#, TokenFault::Critical),
            (r#"{"alg":"RS256","crit":[]}"#, TokenFault::Critical),
            (r#"{"alg":"RS256","b64":false}"#, TokenFault::Critical),
            (r#"{"alg":"RS256","enc":"A128GCM"}"#, TokenFault::Encrypted),
            (r#"{"alg":"RS256","jwk":{"kty":"RSA"}}"#, TokenFault::EmbeddedKey),
            (r#"{"alg":"RS256","jku":"https://evil.example/keys"}"#, TokenFault::EmbeddedKey),
            (r#"{"alg":"RS256","x5u":"https://evil.example/cert"}"#, TokenFault::EmbeddedKey),
            (r#"{"alg":"RS256","x5c":["MII"]}"#, TokenFault::EmbeddedKey),
            (r#"{"alg":"RS256","kid":7}"#, TokenFault::Header),
            (r#"{"alg":"RS256","kid":null}"#, TokenFault::Header),
            (r#"{"alg":"RS256","kid":""}"#, TokenFault::Header),
            (&long_kid, TokenFault::Header),
            (r#"{"alg":"RS256","typ":1}"#, TokenFault::Header),
            (r#"{"alg":"RS256","typ":"JWT","cty":1}"#, TokenFault::Header),
            (r#"{"alg":"RS256","typ":"logout+jwt"}"#, TokenFault::Kind),
            (r#"{"alg":"RS256","typ":"application/dpop+JWT"}"#, TokenFault::Kind),
            (r#"{"alg":"RS256","typ":"secevent+jwt"}"#, TokenFault::Kind),
            (r#"{"alg":"RS256","typ":"format+jwt"}"#, TokenFault::Kind),
            (r#"{"alg":"RS256","typ":"JWE"}"#, TokenFault::Kind),
            (r#"["RS256"]"#, TokenFault::Header),
            ("", TokenFault::Header),
        ];
        for (header, expected) in rows {
            assert_eq!(fault(&token(header)), *expected, "{header}");
        }
    }

    #[test]
    fn other_shapes_than_three_parts_are_refused() {
        let good = token(r#"{"alg":"RS256"}"#);
        let rows = [
            (String::new(), TokenFault::NotCompact),
            ("a.b".into(), TokenFault::NotCompact),
            (format!("{good}."), TokenFault::NotCompact),
            (format!("{good}.e30.AA"), TokenFault::Encrypted),
            (format!("{good}.a.b.c"), TokenFault::NotCompact),
            (format!("{good}="), TokenFault::Base64),
            (format!("{good}\n"), TokenFault::Base64),
            (good.replace(".AA", ".AB"), TokenFault::Base64),
            (good.replace(".AA", ".A+"), TokenFault::Base64),
            (good.replace(".AA", ".A/"), TokenFault::Base64),
            (format!(" {good}"), TokenFault::Base64),
            (format!("{good}{}", "A".repeat(8192)), TokenFault::TooLarge),
            (r#"{"payload":"e30","signature":"AA","protected":"e30"}"#.into(), TokenFault::NotCompact),
        ];
        for (text, expected) in rows {
            assert_eq!(fault(&text), expected, "{text}");
        }
    }
}
