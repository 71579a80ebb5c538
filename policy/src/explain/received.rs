//! A request on its way through a proxy: in its normal form, asked about by guards, with the token that is believed.

use http::HeaderMap;
use palisade_identity::SpiffeId;
use serde_json::{Map, Value};

use super::Target;
use super::judge::{End, Judged, Stage};
use super::question::{GivenToken, Question};
use crate::compile::Snapshot;
use crate::compile::ambiguous::{keeping, rejecting};
use crate::kind::jwt_policy::access::Lack;
use crate::kind::mesh_config::AmbiguousPaths;
use crate::kind::request_guard::names::remove_where;
use crate::kind::request_guard::rule::{GuardRule, GuardView, Measure};
use crate::kind::request_match::MatchView;
use crate::kind::{Kind, MeshConfigSpec};
use crate::request::path::{PathError, is_ambiguous, normalize};
use crate::request::token::Token;
use crate::request::{RequestView, is_preflight};

/// Seconds that a token is good for whose end is not said.
const TOKEN_LIFE: i64 = 300;

/// What is left of a question's request, step by step.
pub(super) struct Received<'q> {
    question: &'q Question,
    /// Without the query.
    sent: &'q str,
    pub(super) query: Option<&'q str>,
    pub(super) host: String,
    pub(super) path: String,
    /// The path is ambiguous, and a guard may keep it.
    kept: bool,
    measure: Measure,
    pub(super) headers: HeaderMap,
}

impl<'q> Received<'q> {
    /// The request in its normal form. Refuses a path that has none.
    pub(super) fn new(target: &Target, question: &'q Question, judged: &mut Judged) -> Result<Self, End> {
        let (sent, query) = match question.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (question.path.as_str(), None),
        };
        let host = judged.host.clone();
        let (path, kept) = normalized(&target.snapshot, &question.method, &host, sent)?;
        judged.path = Some(path.clone());
        let (headers, measure) =
            (question.headers.clone(), Measure::of(&question.headers, question.path.len()));
        Ok(Self { question, sent, query, host, path, kept, measure, headers })
    }

    /// What guards, limits and JwtPolicies go by.
    pub(super) fn matched<'r>(&'r self, route: Option<&'r str>) -> MatchView<'r> {
        MatchView { host: &self.host, method: &self.question.method, path: &self.path, route }
    }

    /// The other readings of a path that a guard keeps. Takes out of the headers what guards strip. `preflight`: the edge
    /// answers it.
    pub(super) fn guarded(
        &mut self,
        snapshot: &Snapshot,
        route: Option<&str>,
        preflight: bool,
    ) -> Result<Vec<String>, End> {
        let matched = self.matched(route);
        let rules: Vec<_> = snapshot.guards(matched).collect();
        let by = |end: End, rule: &GuardRule| end.by(Kind::RequestGuard, &rule.name);
        let mut readings = Vec::new();
        if self.kept || is_ambiguous(self.sent) {
            if let Some(rule) = rejecting(&rules) {
                return Err(by(bad_path(PathError::Ambiguous), rule));
            }
            if self.kept {
                let found = keeping(snapshot, &rules, &matched);
                readings = found.ok_or_else(|| bad_path(PathError::Ambiguous))?.1;
            }
        }
        let view = GuardView {
            method: matched.method,
            measure: self.measure,
            headers: &self.headers,
            has_body: self.question.body_bytes > 0,
            body_bytes: self.question.body_bytes,
            preflight,
        };
        for rule in &rules {
            if let Err(violation) = rule.check(&view) {
                let why = "a RequestGuard does not take the form of the request";
                return Err(by(End::new(Stage::Guard, violation.code(), why), rule));
            }
        }
        rules.iter().for_each(|rule| rule.strip(&mut self.headers));
        Ok(readings)
    }

    /// The token that the workload's proxy believes, if the request brings one. Writes what it says into the headers that
    /// policies name for it.
    pub(super) fn believed(&mut self, target: &Target, judged: &mut Judged) -> Result<Option<Token>, End> {
        let authentication = target.snapshot.authentication();
        let question = self.question;
        if authentication.rules.is_empty() {
            if question.token != GivenToken::None {
                let workload = target.snapshot.workload.id.principal();
                let note = format!("no RequestAuthentication selects {workload}: tokens are not read there");
                judged.notes.push(note);
            }
            return Ok(None);
        }
        let authorization = http::header::AUTHORIZATION;
        remove_where(&mut self.headers, |name| {
            authentication.outputs.has(name) && name != authorization.as_str()
        });
        if is_preflight(&question.method, &self.headers) {
            return Ok(None);
        }
        let claims = match &question.token {
            GivenToken::None => return Ok(None),
            GivenToken::Invalid => {
                let why = "the token's signature is not good";
                return Err(End::new(Stage::Token, "token_signature", why));
            }
            GivenToken::Claims(claims) => claims,
        };
        let refused = |reason: &str, why: String| End::new(Stage::Token, reason, why);
        let payload = Value::Object(with_times(claims, question.now)).to_string();
        let (mut token, times) = Token::parse(payload.as_bytes())
            .map_err(|error| refused(error.code(), format!("the token cannot be read: {error}")))?;
        let issuers = authentication.rules.iter().filter(|rule| rule.issuer == token.issuer);
        let unknown = format!("no RequestAuthentication here takes tokens of the issuer {:?}", token.issuer);
        let mut error = refused("token_issuer_unknown", unknown);
        for rule in issuers {
            match rule.check(&token, &times, question.now) {
                Ok(()) => {
                    judged.notes.push("the token's signature is taken to be good".into());
                    token.space_delimited = rule.space_delimited.clone();
                    for (name, value) in rule.claims_for_headers(&token) {
                        set(&mut self.headers, name, &value);
                    }
                    return Ok(Some(token));
                }
                Err(why) => error = refused(why.code(), format!("the token is {why}")),
            }
        }
        Err(error)
    }

    /// Asks JwtPolicies about the path in every reading.
    pub(super) fn demanded(
        &self,
        snapshot: &Snapshot,
        route: Option<&str>,
        readings: &[String],
        token: Option<&Token>,
    ) -> Result<(), End> {
        for path in std::iter::once(&self.path).chain(readings) {
            let view = MatchView { path, ..self.matched(route) };
            snapshot.authentication().demand(&view, token).map_err(|unmet| {
                let why = match &unmet.lack {
                    Lack::Token => {
                        "a JwtPolicy asks for a token of an end user, and there is none".to_owned()
                    }
                    Lack::Scope(scope) => format!("a JwtPolicy asks for a token with the scope {scope:?}"),
                    Lack::Audience => "a JwtPolicy asks for a token for another audience".to_owned(),
                };
                End::new(Stage::Token, unmet.code(), why).by(Kind::JwtPolicy, &unmet.rule)
            })?;
        }
        Ok(())
    }

    /// All that rules of access may look at.
    pub(super) fn view<'r>(
        &'r self,
        peer: Option<&'r SpiffeId>,
        sni: Option<&'r str>,
        token: Option<&'r Token>,
    ) -> RequestView<'r> {
        let question = self.question;
        RequestView {
            peer,
            source_ip: question.source_ip,
            remote_ip: question.remote_ip.unwrap_or(question.source_ip),
            destination_ip: question.destination_ip,
            destination_port: question.port,
            method: &question.method,
            path: &self.path,
            host: &self.host,
            headers: &self.headers,
            sni,
            token,
        }
    }
}

/// The path in its normal form, and whether it is ambiguous and a guard may keep it.
fn normalized(snapshot: &Snapshot, method: &str, host: &str, sent: &str) -> Result<(String, bool), End> {
    let MeshConfigSpec { path_normalization, ambiguous_paths, .. } = snapshot.mesh;
    let first = normalize(sent, path_normalization, ambiguous_paths);
    if first == Err(PathError::Ambiguous) && snapshot.may_keep_ambiguous(host, method) {
        let kept = normalize(sent, path_normalization, AmbiguousPaths::Keep).map_err(bad_path)?;
        return Ok((kept.into_owned(), true));
    }
    Ok((first.map_err(bad_path)?.into_owned(), false))
}

fn bad_path(error: PathError) -> End {
    let reason = match error {
        PathError::NotAbsolute => "path_not_absolute",
        PathError::Ambiguous => "path_ambiguous",
        PathError::Malformed => "path_malformed",
    };
    End::new(Stage::Path, reason, format!("{error}; no policy is asked about such a path"))
}

fn with_times(claims: &Map<String, Value>, now: i64) -> Map<String, Value> {
    let mut claims = claims.clone();
    claims.entry("iat").or_insert_with(|| now.into());
    claims.entry("exp").or_insert_with(|| now.saturating_add(TOKEN_LIFE).into());
    claims
}

fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = http::HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}
