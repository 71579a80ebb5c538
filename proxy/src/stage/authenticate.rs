//! Tokens of end users: found, verified, taken out, and handed on as policy says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::uri::PathAndQuery;
use palisade_policy::compile::authentication::{Authentication, JwtRule, TokenRefusal};
use palisade_policy::kind::jwt_policy::access::{Lack, Unmet};
use palisade_policy::request::is_preflight;
use palisade_policy::request::token::{ClaimError, Times, Token};

use crate::error::ProxyError;
use crate::http::headers;
use crate::jwt::{self, Jws, Place, TokenFault, TokenKey, Verified};
use crate::telemetry::record::Record;
use crate::worker::Worker;

/// Why a caller's token, or its absence, ends a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Before or at the signature.
    #[error("{}", .0.code())]
    Fault(TokenFault),
    #[error("{}", .0.code())]
    Claims(ClaimError),
    #[error("{}", .0.code())]
    Refused(TokenRefusal),
    /// A JwtPolicy asks for more than the request brings.
    #[error("{}", .0.code())]
    Unmet(Unmet),
}

impl TokenError {
    /// Machine-readable, stable: docs/reference/tokens.md lists them.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.code(),
            Self::Claims(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::Unmet(unmet) => unmet.code(),
        }
    }

    /// 403 where the token is good and not good enough, as Istio answers; otherwise 401.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Refused(refusal) => *refusal == TokenRefusal::Audience,
            Self::Unmet(unmet) => unmet.lack != Lack::Token,
            Self::Fault(_) | Self::Claims(_) => false,
        }
    }

    /// `WWW-Authenticate` (RFC 6750 section 3): all that the caller hears of the reason. Whoever brought no token is told
    /// no error, since none was made. Scopes were checked to need no escaping.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        let error = match self {
            Self::Fault(fault) if fault.is_about_request() => "invalid_request",
            Self::Fault(_) | Self::Claims(_) => "invalid_token",
            Self::Refused(TokenRefusal::Audience) | Self::Unmet(Unmet { lack: Lack::Audience, .. }) => {
                return None;
            }
            Self::Refused(_) => "invalid_token",
            Self::Unmet(Unmet { lack: Lack::Token, .. }) => {
                return Some(HeaderValue::from_static(r#"Bearer realm="api""#));
            }
            Self::Unmet(Unmet { lack: Lack::Scope(scope), .. }) => {
                let text = format!(r#"Bearer realm="api", error="insufficient_scope", scope="{scope}""#);
                return HeaderValue::try_from(text).ok();
            }
        };
        HeaderValue::try_from(format!(r#"Bearer realm="api", error="{error}""#)).ok()
    }
}

impl From<TokenFault> for TokenError {
    fn from(fault: TokenFault) -> Self {
        Self::Fault(fault)
    }
}

/// A token that was verified, and until when it says that it is good.
pub(crate) struct Believed {
    pub(crate) token: Arc<Token>,
    /// `exp`, without the clock skew that a new request is granted; `None` where no clock can hold it.
    pub(crate) expires: Option<SystemTime>,
}

/// Verifies the token of a request, if there is one, and leaves in the head what may go further. `target` loses a
/// token in its query. A request without a token passes; whether it needed one is for `demand` and authorization to say.
/// May wait, within bounds, for keys.
pub(crate) async fn authenticate(
    worker: &Worker,
    authentication: &Authentication,
    head: &mut request::Parts,
    target: &mut PathAndQuery,
    record: &mut Record,
) -> Result<Option<Believed>, ProxyError> {
    let rules = &authentication.rules;
    if rules.is_empty() {
        return Ok(None);
    }
    let found = jwt::find(rules, &head.headers, target).map_err(refused)?;
    // No caller writes what only a verified token may say, least of all one without a token.
    let outputs = &authentication.outputs;
    headers::remove_where(&mut head.headers, |name| outputs.has(name) && name != AUTHORIZATION);
    let Some((text, place)) = found else { return Ok(None) };
    // As in Istio, a preflight is anonymous whatever it carries, so that an old token does not keep a page from asking. What
    // was not verified goes no further.
    if is_preflight(head.method.as_str(), &head.headers) {
        jwt::remove(&place, &mut head.headers, target).map_err(refused)?;
        return Ok(None);
    }
    let now = unix_seconds(record.at());
    let (rule, token, times) =
        Box::pin(believe(worker, rules, &text, &place, now)).await.map_err(ProxyError::Token)?;
    if !rule.forward_original_token {
        jwt::remove(&place, &mut head.headers, target).map_err(refused)?;
    }
    set_outputs(&rule, &text, &token, &mut head.headers);
    record.request_principal = token.principal.clone();
    Ok(Some(Believed { expires: times.exp.and_then(system_time), token }))
}

fn refused(fault: TokenFault) -> ProxyError {
    ProxyError::Token(fault.into())
}

/// The rule that takes this token, and the token. A signature that this worker has verified with the keys in force is
/// not verified again; everything else is judged each time.
async fn believe(
    worker: &Worker,
    rules: &[Arc<JwtRule>],
    text: &[u8],
    place: &Place,
    now: i64,
) -> Result<(Arc<JwtRule>, Arc<Token>, Times), TokenError> {
    let key = TokenKey::of(text);
    let known = worker.tokens.get(key);
    if let Some(verified) = &known
        && let Some(rule) = rules.iter().find(|rule| still_counts(worker, rule, verified, text, place))
    {
        rule.check(&verified.token, &verified.times, now).map_err(TokenError::Refused)?;
        return Ok((rule.clone(), verified.token.clone(), verified.times));
    }
    let longest = rules.iter().map(|rule| rule.max_token_bytes).max().unwrap_or(0);
    let jws = Jws::parse(text, longest)?;
    // Read before it is verified, to find out whose keys to ask. Nothing of it goes anywhere until then.
    let (mut token, times) = Token::parse(&jws.payload).map_err(TokenError::Claims)?;
    let mut error = TokenError::Fault(TokenFault::UnknownIssuer);
    let mut found = None;
    for rule in rules.iter().filter(|rule| rule.issuer == token.issuer && place.is_of(&rule.locations)) {
        match verify(worker, rule, &jws, text, &token, times, now).await {
            Ok(generation) => {
                found = Some((rule, generation));
                break;
            }
            Err(why) => error = why,
        }
    }
    let Some((rule, generation)) = found else { return Err(error) };
    token.space_delimited = rule.space_delimited.clone();
    let token = Arc::new(token);
    let (id, algorithm) = (rule.id.clone(), jws.algorithm());
    let verified = Verified { rule: id, generation, algorithm, token: token.clone(), times };
    worker.tokens.put(key, Arc::new(verified), text.len());
    Ok((rule.clone(), token, times))
}

fn still_counts(worker: &Worker, rule: &JwtRule, verified: &Verified, text: &[u8], place: &Place) -> bool {
    rule.id == verified.rule
        && rule.issuer == verified.token.issuer
        && rule.space_delimited == verified.token.space_delimited
        && text.len() <= rule.max_token_bytes
        && place.is_of(&rule.locations)
        && allows(rule, verified.algorithm.name())
        && worker.shared.keys.generation(&rule.id, &rule.keys) == Some(verified.generation)
}

fn allows(rule: &JwtRule, algorithm: &str) -> bool {
    rule.algorithms.iter().any(|allowed| allowed == algorithm)
}

/// The generation of the keys that verify the token.
async fn verify(
    worker: &Worker,
    rule: &JwtRule,
    jws: &Jws<'_>,
    text: &[u8],
    token: &Token,
    times: Times,
    now: i64,
) -> Result<u64, TokenError> {
    if text.len() > rule.max_token_bytes {
        return Err(TokenFault::TooLarge.into());
    }
    if !allows(rule, jws.algorithm().name()) {
        return Err(TokenFault::AlgorithmNotAllowed.into());
    }
    let loaded = worker.shared.keys.verify(&rule.id, &rule.keys, jws).await?;
    rule.check(token, &times, now).map_err(TokenError::Refused)?;
    Ok(loaded.generation)
}

/// Lets a route change headers, but none that a claim was written to, or would have been.
pub(crate) fn with_outputs_kept(
    authentication: &Authentication,
    headers: &mut HeaderMap,
    change: impl FnOnce(&mut HeaderMap),
) {
    let names = authentication.rules.iter().flat_map(|rule| rule.outputs());
    let kept: Vec<(HeaderName, Option<HeaderValue>)> = names
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .map(|name| {
            let value = headers.get(&name).cloned();
            (name, value)
        })
        .collect();
    change(headers);
    for (name, value) in kept {
        jwt::remove_folded(headers, name.as_str());
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

fn set_outputs(rule: &JwtRule, text: &[u8], token: &Token, headers: &mut HeaderMap) {
    if let Some(name) = &rule.output_payload_to_header
        && let Some(payload) = text.split(|byte| *byte == b'.').nth(1)
    {
        set(headers, name, payload);
    }
    for (name, value) in rule.claims_for_headers(token) {
        set(headers, name, value.as_bytes());
    }
}

/// A value that cannot be a header (control characters) is left out rather than bent into one.
fn set(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    let whole = !value.iter().any(u8::is_ascii_control);
    if let (true, Ok(name), Ok(value)) =
        (whole, HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
    {
        headers.insert(name, value);
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A time before 1970 is over, whenever it was.
fn system_time(seconds: i64) -> Option<SystemTime> {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since)
}
