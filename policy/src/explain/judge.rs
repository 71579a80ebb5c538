//! What a sidecar asks of a request, in the order in which it asks (`pipeline/inbound.rs` of the proxy). Each answer comes
//! from what answers there: nothing is decided here.

use http::HeaderMap;
use palisade_identity::SpiffeId;
use serde_json::{Map, Value};

use super::question::{GivenToken, Question};
use super::{Target, TracedRule, tcp};
use crate::compile::ambiguous::{keeping, rejecting};
use crate::compile::{Moment, Snapshot};
use crate::decision::{Decision, Grant, Observations, Refusal, RuleRef};
use crate::kind::jwt_policy::access::Lack;
use crate::kind::mesh_config::AmbiguousPaths;
use crate::kind::request_guard::names::remove_where;
use crate::kind::request_guard::rule::{GuardRule, GuardView, Measure};
use crate::kind::request_match::MatchView;
use crate::kind::{Kind, MeshConfigSpec};
use crate::projection::Workload;
use crate::request::path::{PathError, is_ambiguous, normalize};
use crate::request::token::Token;
use crate::request::{RequestView, is_preflight};

/// Seconds that a token is good for whose end is not said.
const TOKEN_LIFE: i64 = 300;
pub(super) const NO_ALLOW_MATCHED: &str = "no_allow_matched";

/// What an edge asks beside.
const EDGE: &str = "this is an edge: its routes, and guards and demands for tokens that name routes, are not looked at; ask \
                    about the service behind it with the edge as the caller";

/// Where a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// At the caller's own sidecar.
    Destination,
    Path,
    Guard,
    Token,
    /// PeerAuthentication.
    Plaintext,
    Authorization,
}

/// Why a request ends.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) stage: Stage,
    pub(super) reason: String,
    pub(super) why: String,
    pub(super) rule: Option<(Kind, RuleRef)>,
}

/// What was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) host: String,
    pub(super) path: Option<String>,
    /// Whether rules and observations are wanted. They cost far more than the decision.
    pub(super) traced: bool,
    pub(super) rules: Vec<TracedRule>,
    pub(super) observations: Observations,
    pub(super) notes: Vec<String>,
}

impl Judged {
    pub(super) fn new(target: &Target, question: &Question) -> Self {
        let name = target.snapshot.workload.id.workload();
        let own = name.map(|name| format!("{}.{}", name.service_account, name.namespace));
        let own = match (own, question.port) {
            (Some(own), 80) => own,
            (own, port) => format!("{}:{port}", own.unwrap_or_default()),
        };
        Self { host: question.host.clone().unwrap_or(own), traced: true, ..Self::default() }
    }
}

impl Refused {
    fn new(stage: Stage, reason: impl Into<String>, why: impl Into<String>) -> Self {
        Self { stage, reason: reason.into(), why: why.into(), rule: None }
    }

    fn by(self, kind: Kind, rule: &RuleRef) -> Self {
        Self { rule: Some((kind, rule.clone())), ..self }
    }

    pub(super) fn unknown(workload: &Workload) -> Self {
        let why = format!(
            "the caller's sidecar is not told of {}: no policy there could let any request of this caller in",
            workload.id.principal()
        );
        Self::new(Stage::Destination, Refusal::UnknownDestination.code(), why)
    }
}

/// Takes a request through everything but rate limits.
pub(super) fn judge(target: &Target, question: &Question, judged: &mut Judged) -> Result<Grant, Refused> {
    if question.tcp {
        return tcp::judge(target, question, judged);
    }
    let snapshot = &target.snapshot;
    let sent = question.path.split('?').next().unwrap_or_default();
    let (path, kept) = normalized(snapshot, question, &judged.host, sent)?;
    judged.path = Some(path.clone());
    let host = judged.host.clone();
    let matched = MatchView { host: &host, method: &question.method, path: &path, route: None };
    let mut headers = question.headers.clone();
    if target.is_edge() {
        judged.notes.push(EDGE.to_owned());
    }
    let readings = guarded(snapshot, question, &matched, kept, sent, &mut headers)?;
    let token = believed(target, question, &mut headers, judged)?;
    snapshot.judged_headers().strip_respelled(&mut headers);
    for path in std::iter::once(&path).chain(&readings) {
        demanded(snapshot, &MatchView { path, ..matched }, token.as_ref())?;
    }
    note_limits(snapshot, &matched, judged);
    let view = RequestView {
        peer: question.caller.as_ref(),
        source_ip: question.source_ip,
        remote_ip: question.remote_ip.unwrap_or(question.source_ip),
        destination_ip: question.destination_ip,
        destination_port: question.port,
        method: &question.method,
        path: &path,
        host: &host,
        headers: &headers,
        sni: question.sni.as_deref(),
        token: token.as_ref(),
    };
    if judged.traced {
        judged.observations = snapshot.observe(&view);
    }
    let grant = authorized(target, &view, judged)?;
    for path in &readings {
        let other = RequestView { path, ..view };
        authorized(target, &other, judged).map_err(|refused| Refused {
            why: format!("{} (with the path read as {path:?}, as a server may do)", refused.why),
            ..refused
        })?;
    }
    Ok(grant)
}

fn normalized(
    snapshot: &Snapshot,
    question: &Question,
    host: &str,
    sent: &str,
) -> Result<(String, bool), Refused> {
    let MeshConfigSpec { path_normalization, ambiguous_paths, .. } = snapshot.mesh;
    let first = normalize(sent, path_normalization, ambiguous_paths);
    if first == Err(PathError::Ambiguous) && snapshot.may_keep_ambiguous(host, &question.method) {
        let kept = normalize(sent, path_normalization, AmbiguousPaths::Keep).map_err(bad_path)?;
        return Ok((kept.into_owned(), true));
    }
    Ok((first.map_err(bad_path)?.into_owned(), false))
}

fn bad_path(error: PathError) -> Refused {
    let reason = match error {
        PathError::NotAbsolute => "path_not_absolute",
        PathError::Ambiguous => "path_ambiguous",
        PathError::Malformed => "path_malformed",
    };
    Refused::new(Stage::Path, reason, format!("{error}; no policy is asked about such a path"))
}

/// The other readings of a path that a guard keeps. Takes out of the headers what guards strip.
fn guarded(
    snapshot: &Snapshot,
    question: &Question,
    matched: &MatchView<'_>,
    kept: bool,
    sent: &str,
    headers: &mut HeaderMap,
) -> Result<Vec<String>, Refused> {
    let rules: Vec<_> = snapshot.guards(*matched).collect();
    let guard = |rule: &GuardRule| (Kind::RequestGuard, rule.name.clone());
    let mut readings = Vec::new();
    if kept || is_ambiguous(sent) {
        if let Some(rule) = rejecting(&rules) {
            return Err(Refused { rule: Some(guard(rule)), ..bad_path(PathError::Ambiguous) });
        }
        if kept {
            let found = keeping(snapshot, &rules, matched);
            readings = found.ok_or_else(|| bad_path(PathError::Ambiguous))?.1;
        }
    }
    let view = GuardView {
        method: matched.method,
        measure: Measure::of(headers, question.path.len()),
        headers,
        has_body: question.body_bytes > 0,
        body_bytes: question.body_bytes,
        preflight: false,
    };
    for rule in &rules {
        if let Err(violation) = rule.check(&view) {
            let why = format!("a RequestGuard does not take the form of the request ({})", violation.code());
            return Err(Refused::new(Stage::Guard, violation.code(), why).by(Kind::RequestGuard, &rule.name));
        }
    }
    rules.iter().for_each(|rule| rule.strip(headers));
    Ok(readings)
}

/// The token that the workload's sidecar believes, if the request brings one. Writes what it says into the headers that
/// policies name for it.
fn believed(
    target: &Target,
    question: &Question,
    headers: &mut HeaderMap,
    judged: &mut Judged,
) -> Result<Option<Token>, Refused> {
    let authentication = target.snapshot.authentication();
    if authentication.rules.is_empty() {
        if question.token != GivenToken::None {
            let workload = target.snapshot.workload.id.principal();
            judged
                .notes
                .push(format!("no RequestAuthentication selects {workload}: tokens are not read there"));
        }
        return Ok(None);
    }
    let authorization = http::header::AUTHORIZATION;
    remove_where(headers, |name| authentication.outputs.has(name) && name != authorization.as_str());
    if is_preflight(&question.method, headers) {
        return Ok(None);
    }
    let claims = match &question.token {
        GivenToken::None => return Ok(None),
        GivenToken::Invalid => {
            let why = "the token's signature is not good";
            return Err(Refused::new(Stage::Token, "token_signature", why));
        }
        GivenToken::Claims(claims) => claims,
    };
    let refused = |reason: &str, why: String| Refused::new(Stage::Token, reason, why);
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
                    set(headers, name, &value);
                }
                return Ok(Some(token));
            }
            Err(why) => error = refused(why.code(), format!("the token is {why}")),
        }
    }
    Err(error)
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

fn demanded(snapshot: &Snapshot, view: &MatchView<'_>, token: Option<&Token>) -> Result<(), Refused> {
    snapshot.authentication().demand(view, token).map_err(|unmet| {
        let why = match &unmet.lack {
            Lack::Token => "a JwtPolicy asks for a token of an end user, and there is none".to_owned(),
            Lack::Scope(scope) => format!("a JwtPolicy asks for a token with the scope {scope:?}"),
            Lack::Audience => "a JwtPolicy asks for a token for another audience".to_owned(),
        };
        Refused::new(Stage::Token, unmet.code(), why).by(Kind::JwtPolicy, &unmet.rule)
    })
}

fn authorized(target: &Target, view: &RequestView<'_>, judged: &mut Judged) -> Result<Grant, Refused> {
    let snapshot = &target.snapshot;
    // Clients of an edge have no identity of the mesh, and PeerAuthentication is not about them.
    let decision = match target.is_edge() && view.peer.is_none() {
        true => snapshot.authorize_answer(view),
        false => snapshot.authorize(view),
    };
    if judged.traced {
        judged.rules = snapshot.trace(view);
    }
    decided(target, view.destination_port, decision, judged)
}

/// What rules of access and PeerAuthentication said, in words. `judged` has the rules already.
pub(super) fn decided(
    target: &Target,
    port: u16,
    decision: Decision,
    judged: &Judged,
) -> Result<Grant, Refused> {
    let refusal = match decision {
        Decision::Allow { grant, .. } => return Ok(grant),
        Decision::Refuse { refusal } => refusal,
    };
    let (stage, why) = match &refusal {
        Refusal::Denied(_) => (Stage::Authorization, "a DENY rule matches".to_owned()),
        Refusal::NoAllowMatched => (Stage::Authorization, unmatched(judged)),
        Refusal::PlaintextRefused => {
            let why = format!("port {port} takes mutual TLS only: {}", strict(target));
            (Stage::Plaintext, why)
        }
        Refusal::UnknownDestination => (Stage::Destination, "the destination is not known".to_owned()),
    };
    let refused = Refused::new(stage, refusal.code(), why);
    Err(match &refusal {
        Refusal::Denied(rule) => refused.by(Kind::AuthorizationPolicy, rule),
        _ => refused,
    })
}

fn unmatched(judged: &Judged) -> String {
    let rules = judged.rules.iter().filter(|rule| rule.role == super::Role::Allow).count();
    match rules {
        0 => "ALLOW policies select the workload, and none of them has a rule: nothing is let in".to_owned(),
        1 => "the one ALLOW rule of this workload does not match".to_owned(),
        _ => format!("none of the {rules} ALLOW rules of this workload matches"),
    }
}

/// The PeerAuthentications that ask for certificates.
fn strict(target: &Target) -> String {
    use crate::kind::peer_authentication::MtlsMode::Strict;
    let objects = target.projection.peer_authentication.iter();
    let strict =
        objects.filter(|o| o.spec.mode == Strict || o.spec.port_level.values().any(|m| *m == Strict));
    let names: Vec<String> =
        strict.map(|o| format!("PeerAuthentication {}/{}", o.meta.namespace, o.meta.name)).collect();
    names.join(", ")
}

fn note_limits(snapshot: &Snapshot, matched: &MatchView<'_>, judged: &mut Judged) {
    let limits = Moment::ALL.iter().map(|moment| snapshot.limits(*matched, *moment).count()).sum::<usize>();
    if limits > 0 {
        let limits =
            if limits == 1 { "a rate limit counts".into() } else { format!("{limits} rate limits count") };
        judged.notes.push(format!("{limits} this request; whether one is used up is not looked at"));
    }
}

/// Whether it was allowed, the reason, where, in words, and by which rule.
pub(super) fn granted(
    target: &Target,
    grant: &Grant,
) -> (bool, String, Stage, String, Option<(Kind, RuleRef)>) {
    let stage = Stage::Authorization;
    match grant {
        Grant::Rule(rule) => {
            let rule = Some((Kind::AuthorizationPolicy, rule.clone()));
            (true, "rule".into(), stage, "an ALLOW rule matches, and no DENY rule does".into(), rule)
        }
        Grant::NoPolicy => {
            let workload = target.snapshot.workload.id.principal();
            let why =
                format!("no ALLOW policy selects {workload}, and no DENY rule matches: all else is let in");
            (true, "no_policy".into(), stage, why, None)
        }
        Grant::KnownDestination => {
            (true, "known_destination".into(), Stage::Destination, "the destination is known".into(), None)
        }
    }
}

pub(super) fn rule_of(outcome: &Result<Grant, Refusal>) -> Option<&RuleRef> {
    match outcome {
        Ok(Grant::Rule(rule)) | Err(Refusal::Denied(rule)) => Some(rule),
        _ => None,
    }
}

impl Target {
    /// Whether clients from outside come here.
    pub fn is_edge(&self) -> bool {
        !self.projection.gateways.is_empty()
    }

    pub fn id(&self) -> &SpiffeId {
        &self.snapshot.workload.id
    }

    /// Whether it is judged by the same documents.
    pub(crate) fn has_policies_of(&self, other: &Self) -> bool {
        self.projection == other.projection
    }
}
