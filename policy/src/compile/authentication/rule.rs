//! One issuer: where its tokens are looked for, what they are verified with, and what they must say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::kind::jwt_policy::IssuerSpec;
use crate::kind::jwt_policy::{PUBLIC_ALGORITHMS, SECRET_ALGORITHM};
use crate::kind::request_authentication::{ClaimToHeader, FromHeader, JwtRuleSpec};
use crate::request::token::{Times, Token};

/// How far the issuer's clock may be from ours. 60 s, as Istio has it.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// 8 KiB: what common servers take in one header line.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Between two looks at a key set. 5 min: issuers publish new keys hours before they use them.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// Between two looks that unknown key ids ask for. 10 s.
const REFETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// From the question to DNS to the last byte of a key set. 5 s, as Istio has it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRule {
    /// Stable across snapshots: `namespace/name/index`.
    pub id: Arc<str>,
    pub issuer: String,
    /// Empty: any.
    pub audiences: Vec<String>,
    /// Shared, so that a request compares and copies no key set.
    pub keys: Arc<KeySource>,
    pub locations: Locations,
    pub forward_original_token: bool,
    /// Header that gets the payload, base64url.
    pub output_payload_to_header: Option<String>,
    /// Header and path of the claim that it gets.
    pub output_claims: Vec<(String, Vec<String>)>,
    /// Names of RFC 7518.
    pub algorithms: Vec<String>,
    pub clock_skew: Duration,
    /// Since `iat`, which is then required.
    pub max_age: Option<Duration>,
    pub required_claims: Vec<String>,
    pub max_token_bytes: usize,
    /// Claims whose text is a list with spaces, besides those that always are.
    pub space_delimited: Arc<[String]>,
}

/// Where keys come from, and how often that is looked at. Rules that say the same share one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    pub origin: KeyOrigin,
    /// Between two looks while all is well. Retried sooner after a failure.
    pub refresh: Duration,
    /// From the end of one look to the next one that an unknown key id may cause.
    pub refetch_min: Duration,
    /// For one fetch.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A JWK set in the policy.
    Inline(Arc<str>),
    Url {
        url: String,
        /// Loopback and private networks may be asked, and there by `http://` too.
        allow_private: bool,
        /// Roots to check the server by, PEM, on the proxy's host; absent: the system's.
        ca_certificates: Option<PathBuf>,
    },
    /// A file on the proxy's host with the secret of HS256: its bytes, without one line end behind them.
    Secret(PathBuf),
}

/// Where tokens of one issuer are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// Name in lower case, and what stands before the token.
    pub headers: Vec<(String, String)>,
    pub params: Vec<String>,
    pub cookies: Vec<String>,
}

impl Locations {
    /// Where nothing is said: `Authorization: Bearer` and `access_token` in the query, as Istio has it.
    fn new(spec: &JwtRuleSpec) -> Self {
        if spec.from_headers.is_empty() && spec.from_params.is_empty() && spec.from_cookies.is_empty() {
            return Self {
                headers: vec![("authorization".into(), "Bearer ".into())],
                params: vec!["access_token".into()],
                cookies: Vec::new(),
            };
        }
        let header = |from: &FromHeader| (from.name.to_ascii_lowercase(), from.prefix.clone());
        Self {
            headers: spec.from_headers.iter().map(header).collect(),
            params: spec.from_params.clone(),
            cookies: spec.from_cookies.clone(),
        }
    }
}

/// Why a token with a good signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error("of another issuer")]
    Issuer,
    #[error("for another audience")]
    Audience,
    #[error("expired, or without an end")]
    Expired,
    #[error("not valid yet")]
    NotYet,
    #[error("issued in the future")]
    FutureIssue,
    #[error("older than allowed, or of unknown age")]
    TooOld,
    #[error("without a claim that is required")]
    MissingClaim,
}

impl TokenRefusal {
    /// Machine-readable, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::Issuer => "token_issuer_unknown",
            Self::Audience => "token_audience",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet_valid",
            Self::FutureIssue => "token_issued_in_future",
            Self::TooOld => "token_too_old",
            Self::MissingClaim => "token_claim_missing",
        }
    }
}

impl JwtRule {
    /// `issuer`: what a JwtPolicy says of this issuer for the same workload.
    pub(super) fn new(id: Arc<str>, spec: &JwtRuleSpec, issuer: Option<&IssuerSpec>) -> Self {
        let plain = IssuerSpec::default();
        let issuer = issuer.unwrap_or(&plain);
        let keys = Arc::new(KeySource {
            origin: origin(spec, issuer),
            refresh: issuer.keys.refresh_interval.unwrap_or(REFRESH_INTERVAL),
            refetch_min: issuer.keys.refetch_interval_min.unwrap_or(REFETCH_INTERVAL_MIN),
            timeout: spec.timeout.unwrap_or(FETCH_TIMEOUT),
        });
        let algorithms = match (&*issuer.algorithms, &issuer.secret_file) {
            ([], None) => PUBLIC_ALGORITHMS.iter().map(|&name| name.to_owned()).collect(),
            ([], Some(_)) => vec![SECRET_ALGORITHM.to_owned()],
            (named, _) => named.to_vec(),
        };
        let bytes = issuer.max_token_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let claim = |to: &ClaimToHeader| {
            (to.header.to_ascii_lowercase(), to.claim.split('.').map(str::to_owned).collect())
        };
        Self {
            id,
            issuer: spec.issuer.clone(),
            audiences: spec.audiences.clone(),
            keys,
            locations: Locations::new(spec),
            forward_original_token: spec.forward_original_token,
            output_payload_to_header: spec
                .output_payload_to_header
                .as_ref()
                .map(|name| name.to_ascii_lowercase()),
            output_claims: spec.output_claim_to_headers.iter().map(claim).collect(),
            algorithms,
            clock_skew: issuer.clock_skew.unwrap_or(CLOCK_SKEW),
            max_age: issuer.max_token_age,
            required_claims: issuer.required_claims.clone(),
            max_token_bytes: bytes.unwrap_or(TOKEN_BYTES_MAX),
            space_delimited: spec.space_delimited_claims.as_slice().into(),
        }
    }

    /// Headers that it writes what a token says into, in lower case.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let claims = self.output_claims.iter().map(|(header, _)| header);
        claims.chain(&self.output_payload_to_header).map(String::as_str)
    }

    /// The headers that this token's claims are written into, with the text that each gets.
    pub fn claims_for_headers<'t>(&'t self, token: &'t Token) -> impl Iterator<Item = (&'t str, String)> {
        let claims = self.output_claims.iter();
        claims.filter_map(|(name, path)| Some((name.as_str(), token.claim(path).and_then(claim_text)?)))
    }

    /// Judges a token by what it says, at `now` in seconds since 1970. Times are taken with the rule's skew.
    pub fn check(&self, token: &Token, times: &Times, now: i64) -> Result<(), TokenRefusal> {
        let skew = seconds(self.clock_skew);
        if token.issuer != self.issuer {
            return Err(TokenRefusal::Issuer);
        }
        // A token without an end would be good for ever.
        if times.exp.is_none_or(|exp| now >= exp.saturating_add(skew)) {
            return Err(TokenRefusal::Expired);
        }
        if times.nbf.is_some_and(|nbf| now.saturating_add(skew) < nbf) {
            return Err(TokenRefusal::NotYet);
        }
        if times.iat.is_some_and(|iat| now.saturating_add(skew) < iat) {
            return Err(TokenRefusal::FutureIssue);
        }
        if let Some(age) = self.max_age
            && times.iat.is_none_or(|iat| now >= iat.saturating_add(seconds(age)).saturating_add(skew))
        {
            return Err(TokenRefusal::TooOld);
        }
        if self.required_claims.iter().any(|name| token.claims.get(name).is_none_or(Value::is_null)) {
            return Err(TokenRefusal::MissingClaim);
        }
        let ours = |audience: &String| token.audiences.contains(audience);
        if !self.audiences.is_empty() && !self.audiences.iter().any(ours) {
            return Err(TokenRefusal::Audience);
        }
        Ok(())
    }
}

fn origin(spec: &JwtRuleSpec, issuer: &IssuerSpec) -> KeyOrigin {
    match (&spec.jwks, &spec.jwks_uri, &issuer.secret_file) {
        (None, None, Some(file)) => KeyOrigin::Secret(file.into()),
        (Some(text), None, None) => KeyOrigin::Inline(text.as_str().into()),
        (None, Some(url), None) => KeyOrigin::Url {
            url: url.clone(),
            allow_private: issuer.keys.allow_private_addresses,
            ca_certificates: issuer.keys.ca_certificates.as_ref().map(PathBuf::from),
        },
        // Such a rule was refused; if it ever came here, it would take no token.
        _ => KeyOrigin::Inline("".into()),
    }
}

/// As Istio does, but for text with blanks around it: readers of headers cut those off, so ` alice` would be taken for
/// `alice`, who is somebody else. Text, numbers and truth values as they are, lists and objects as base64url of their JSON.
fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => (text.trim() == text).then(|| text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => Some(URL_SAFE_NO_PAD.encode(value.to_string())),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn rule() -> JwtRule {
        JwtRule {
            id: "ns/rule/0".into(),
            issuer: "i".into(),
            audiences: vec!["api".into(), "other".into()],
            keys: Arc::new(KeySource {
                origin: KeyOrigin::Inline("".into()),
                refresh: REFRESH_INTERVAL,
                refetch_min: REFETCH_INTERVAL_MIN,
                timeout: FETCH_TIMEOUT,
            }),
            locations: Locations::default(),
            forward_original_token: false,
            output_payload_to_header: None,
            output_claims: Vec::new(),
            algorithms: Vec::new(),
            clock_skew: Duration::from_secs(60),
            max_age: Some(Duration::from_secs(3600)),
            required_claims: vec!["sub".into()],
            max_token_bytes: 8192,
            space_delimited: Arc::default(),
        }
    }

    #[test]
    fn each_claim_is_judged_to_the_second() {
        let good = r#""iss":"i","sub":"s","aud":["x","api"],"#;
        let rows: &[(String, Result<(), TokenRefusal>)] = &[
            (format!(r#"{good}"exp":{NOW},"iat":{NOW},"nbf":{NOW}"#), Ok(())),
            (format!(r#"{good}"exp":{},"iat":{NOW}"#, NOW - 59), Ok(())),
            (format!(r#"{good}"exp":{},"iat":{NOW}"#, NOW - 60), Err(TokenRefusal::Expired)),
            (format!(r#"{good}"iat":{NOW}"#), Err(TokenRefusal::Expired)),
            (format!(r#"{good}"exp":{NOW},"iat":{NOW},"nbf":{}"#, NOW + 60), Ok(())),
            (format!(r#"{good}"exp":{NOW},"iat":{NOW},"nbf":{}"#, NOW + 61), Err(TokenRefusal::NotYet)),
            (format!(r#"{good}"exp":{NOW},"iat":{}"#, NOW + 60), Ok(())),
            (format!(r#"{good}"exp":{NOW},"iat":{}"#, NOW + 61), Err(TokenRefusal::FutureIssue)),
            (format!(r#"{good}"exp":{NOW},"iat":{}"#, NOW - 3659), Ok(())),
            (format!(r#"{good}"exp":{NOW},"iat":{}"#, NOW - 3660), Err(TokenRefusal::TooOld)),
            (format!(r#"{good}"exp":{NOW}"#), Err(TokenRefusal::TooOld)),
            (format!(r#""iss":"i","aud":"api","exp":{NOW},"iat":{NOW}"#), Err(TokenRefusal::MissingClaim)),
            (
                format!(r#""iss":"j","sub":"s","aud":"api","exp":{NOW},"iat":{NOW}"#),
                Err(TokenRefusal::Issuer),
            ),
            (format!(r#""iss":"i","sub":"s","aud":"api","exp":{NOW},"iat":{NOW}"#), Ok(())),
            (
                format!(r#""iss":"i","sub":"s","aud":"api-admin","exp":{NOW},"iat":{NOW}"#),
                Err(TokenRefusal::Audience),
            ),
            (format!(r#""iss":"i","sub":"s","exp":{NOW},"iat":{NOW}"#), Err(TokenRefusal::Audience)),
        ];
        for (claims, expected) in rows {
            let (token, times) = Token::parse(format!("{{{claims}}}").as_bytes()).unwrap();
            assert_eq!(rule().check(&token, &times, NOW), *expected, "{claims}");
        }
    }
}
