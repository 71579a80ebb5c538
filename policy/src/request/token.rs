//! What a token says (RFC 7519). Read strictly, since two readers of one token must not come to two people.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json;

/// Times beyond this many seconds from 1970 are no times: 2^53, where JSON numbers stop being exact.
const SECONDS_MAX: i64 = 1 << 53;

/// The claims of a token whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub issuer: String,
    pub subject: Option<String>,
    /// `iss/sub`, with `%` and `/` of the subject escaped; absent where there is no subject.
    pub principal: Option<String>,
    pub audiences: Vec<String>,
    /// `azp`: whom the token was given to.
    pub presenter: Option<String>,
    pub claims: Map<String, Value>,
    /// Claims whose text is a list with spaces, as the rule that took the token says.
    pub space_delimited: Arc<[String]>,
}

/// The claims that are times, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub exp: Option<i64>,
    pub nbf: Option<i64>,
    pub iat: Option<i64>,
}

/// Why claims cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("the payload is not one JSON object with each name once")]
    Malformed,
    #[error("the claim {0} has a type that it may not have")]
    Type(&'static str),
    #[error("there is no issuer")]
    NoIssuer,
}

impl ClaimError {
    /// Machine-readable, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "token_claims",
            Self::Type(_) => "token_claim_type",
            Self::NoIssuer => "token_issuer_unknown",
        }
    }
}

impl Token {
    /// Reads a payload. Nothing it says may be believed before the signature was verified.
    pub fn parse(payload: &[u8]) -> Result<(Self, Times), ClaimError> {
        let claims = json::object(payload).map_err(|_not_strict| ClaimError::Malformed)?;
        let issuer = text(&claims, "iss")?.filter(|issuer| !issuer.is_empty()).ok_or(ClaimError::NoIssuer)?;
        let subject = text(&claims, "sub")?;
        // The last slash ends the issuer. In the subject it is escaped, and so is the escape character whether or not
        // there is a slash: otherwise `b/c` and `b%2Fc` would be one person.
        let principal = subject
            .as_ref()
            .map(|subject| format!("{issuer}/{}", subject.replace('%', "%25").replace('/', "%2F")));
        let times = Times {
            exp: seconds(&claims, "exp")?,
            nbf: seconds(&claims, "nbf")?,
            iat: seconds(&claims, "iat")?,
        };
        let audiences = audiences(&claims)?;
        let presenter = text(&claims, "azp")?;
        let space_delimited = Arc::default();
        Ok((Self { issuer, subject, principal, audiences, presenter, claims, space_delimited }, times))
    }

    /// A claim by its path: `["realm", "role"]` is the member `role` of the claim `realm`.
    pub fn claim<S: AsRef<str>>(&self, path: &[S]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.claims.get(first.as_ref())?;
        for name in rest {
            value = value.as_object()?.get(name.as_ref())?;
        }
        Some(value)
    }

    /// Whether the token carries a scope: `scope` or `scp`, a list delimited by spaces (RFC 8693 section 4.2) or an
    /// array.
    pub fn has_scope(&self, wanted: &str) -> bool {
        ["scope", "scp"].into_iter().filter_map(|name| self.claims.get(name)).any(|scopes| match scopes {
            Value::String(list) => list.split(' ').any(|scope| scope == wanted),
            Value::Array(list) => list.iter().any(|scope| scope == wanted),
            _ => false,
        })
    }
}

fn text(claims: &Map<String, Value>, name: &'static str) -> Result<Option<String>, ClaimError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ClaimError::Type(name)),
    }
}

/// NumericDate: seconds, perhaps with a fraction, which is cut off.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, ClaimError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let wrong = ClaimError::Type(name);
    let whole = match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole,
            // Display of a truncated float of this size is an integer's text.
            (None, Some(float)) => format!("{:.0}", float.trunc()).parse().map_err(|_too_large| wrong)?,
            (None, None) => return Err(wrong),
        },
        _ => return Err(wrong),
    };
    if (-SECONDS_MAX..=SECONDS_MAX).contains(&whole) { Ok(Some(whole)) } else { Err(wrong) }
}

fn audiences(claims: &Map<String, Value>) -> Result<Vec<String>, ClaimError> {
    let wrong = ClaimError::Type("aud");
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(several)) => {
            several.iter().map(|one| one.as_str().map(str::to_owned).ok_or(wrong)).collect()
        }
        Some(_) => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(claims: &str) -> Result<(Token, Times), ClaimError> {
        Token::parse(claims.as_bytes())
    }

    #[test]
    fn claims_of_a_wrong_type_are_never_taken_for_absent() {
        for name in ["exp", "nbf", "iat"] {
            for value in
                [r#""9999999999""#, "null", "[1]", "{}", "true", "1e300", "-1e300", "9223372036854775807"]
            {
                let text = format!(r#"{{"iss":"i","{name}":{value}}}"#);
                assert_eq!(parse(&text), Err(ClaimError::Type(name)), "{text}");
            }
            assert_eq!(parse(&format!(r#"{{"iss":"i","{name}":1e400}}"#)), Err(ClaimError::Malformed));
        }
        for name in ["iss", "sub", "azp"] {
            for value in ["1", "null", r#"["a"]"#, "{}"] {
                let text = if name == "iss" {
                    format!(r#"{{"iss":{value}}}"#)
                } else {
                    format!(r#"{{"iss":"i","{name}":{value}}}"#)
                };
                assert_eq!(parse(&text), Err(ClaimError::Type(name)), "{text}");
            }
        }
        for value in ["1", "null", "[1]", r#"["a",null]"#, r#"{"a":1}"#] {
            assert_eq!(parse(&format!(r#"{{"iss":"i","aud":{value}}}"#)), Err(ClaimError::Type("aud")));
        }
        for text in [r#"{"sub":"a"}"#, r#"{"iss":""}"#] {
            assert_eq!(parse(text), Err(ClaimError::NoIssuer));
        }
        for text in [r#"{"iss":"i","sub":"a","sub":"b"}"#, r#"{"iss":"i"} x"#, r#""iss""#, "", "\u{feff}{}"] {
            assert_eq!(parse(text), Err(ClaimError::Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_right_is_read() {
        let text = r#"{"iss":"https://a/b","sub":"c","aud":["x","y"],"exp":10.9,"nbf":-3,"iat":1e3,"azp":"web",
            "scope":"read write:x","deep":{"er":{"role":"clerk"}},"deep.er":"flat"}"#;
        let (token, times) = parse(text).unwrap();
        assert_eq!(token.principal.as_deref(), Some("https://a/b/c"));
        assert_eq!(token.audiences, ["x", "y"]);
        assert_eq!(times, Times { exp: Some(10), nbf: Some(-3), iat: Some(1000) });
        assert!(token.has_scope("read") && token.has_scope("write:x"));
        assert!(!token.has_scope("write") && !token.has_scope("") && !token.has_scope("read write:x"));
        assert_eq!(token.claim(&["deep", "er", "role"]).and_then(Value::as_str), Some("clerk"));
        assert_eq!(token.claim(&["deep.er"]).and_then(Value::as_str), Some("flat"));
        assert_eq!(token.claim(&["deep", "er", "role", "x"]), None);
        assert_eq!(token.claim::<&str>(&[]), None);
    }

    #[test]
    fn issuer_and_subject_cannot_be_shifted_into_each_other() {
        let principal = |iss: &str, sub: &str| {
            parse(&format!(r#"{{"iss":"{iss}","sub":"{sub}"}}"#)).unwrap().0.principal.unwrap()
        };
        assert_ne!(principal("a", "b/c"), principal("a/b", "c"));
        assert_ne!(principal("a", "b/c"), principal("a", "b%2Fc/"));
        assert_ne!(principal("a", "b/c"), principal("a", "b%2Fc"));
        assert_eq!(principal("a", "b%c"), "a/b%25c");
        assert_eq!(principal("https://auth.example", "alice"), "https://auth.example/alice");
    }
}
