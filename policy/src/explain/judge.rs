//! What a proxy asks, in the order in which it asks (a sidecar: `pipeline/inbound.rs` of the proxy). Each answer comes from
//! what answers there: nothing is decided here.

use std::sync::Arc;

use super::question::Question;
use super::received::Received;
use super::{Target, TracedRule, edge, tcp};
use crate::compile::{Moment, Snapshot};
use crate::decision::{Decision, Grant, Observations, Refusal, RuleRef};
use crate::kind::Kind;
use crate::kind::request_match::MatchView;
use crate::projection::Workload;
use crate::request::RequestView;

pub(super) const NO_ALLOW_MATCHED: &str = "no_allow_matched";
/// Names that are told where there are more.
pub(super) const NAMES_MAX: usize = 8;

/// What holds for clients from outside.
const EDGE: &str = "this is an edge, and the caller was judged as at a sidecar: its clients come without an identity of the mesh, ask \
                    with --plaintext";

/// Where a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// At the caller's own sidecar; at an edge where the route leads.
    Destination,
    Path,
    /// Gateway and VirtualService.
    Route,
    Guard,
    Cors,
    Token,
    /// PeerAuthentication.
    Plaintext,
    Authorization,
}

/// Where and why a request ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stage: Stage,
    pub(super) reason: String,
    pub(super) why: String,
    pub(super) decider: Option<Decider>,
}

/// What decides.
#[derive(Debug)]
pub(super) enum Decider {
    Rule(Kind, RuleRef),
    /// Where no rule does: the object whose hosts or routes do, by namespace and name.
    Object(Kind, Arc<str>, Arc<str>),
}

/// Why a request does not end.
#[derive(Debug)]
pub(super) enum Passed {
    Granted(Grant),
    /// The edge answers it before any rule of access is asked.
    Answered {
        stage: Stage,
        reason: &'static str,
        why: &'static str,
    },
}

/// What was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) host: String,
    pub(super) path: Option<String>,
    /// The id of the route at an edge, and where it is written.
    pub(super) route: Option<(Arc<str>, RuleRef)>,
    /// Whether rules and observations are wanted. They cost far more than the decision.
    pub(super) traced: bool,
    pub(super) rules: Vec<TracedRule>,
    pub(super) observations: Observations,
    pub(super) notes: Vec<String>,
}

impl Judged {
    pub(super) fn new(target: &Target, question: &Question) -> Self {
        let usual =
            || target.usual_host(question.port).unwrap_or_else(|_several| target.own_host(question.port));
        let host = question.host.clone().unwrap_or_else(usual);
        Self { host, traced: true, ..Self::default() }
    }
}

impl End {
    pub(super) fn new(stage: Stage, reason: impl Into<String>, why: impl Into<String>) -> Self {
        Self { stage, reason: reason.into(), why: why.into(), decider: None }
    }

    pub(super) fn by(self, kind: Kind, rule: &RuleRef) -> Self {
        Self { decider: Some(Decider::Rule(kind, rule.clone())), ..self }
    }

    pub(super) fn at(self, kind: Kind, namespace: &Arc<str>, name: &Arc<str>) -> Self {
        Self { decider: Some(Decider::Object(kind, namespace.clone(), name.clone())), ..self }
    }

    pub(super) fn unknown(workload: &Workload) -> Self {
        let why = format!(
            "the caller's sidecar is not told of {}: no policy there could let any request of this caller in",
            workload.id.principal()
        );
        Self::new(Stage::Destination, Refusal::UnknownDestination.code(), why)
    }
}

/// Takes a question through all that is asked where it arrives.
pub(super) fn judge(target: &Target, question: &Question, judged: &mut Judged) -> Result<Passed, End> {
    if question.tcp {
        return tcp::judge(target, question, judged).map(Passed::Granted);
    }
    if target.is_edge() && question.caller.is_none() {
        return edge::judge(target, question, judged);
    }
    if target.is_edge() {
        judged.notes.push(EDGE.to_owned());
    }
    inbound(target, question, judged).map(Passed::Granted)
}

/// Takes a request through everything but rate limits, without regard to routes.
pub(super) fn inbound(target: &Target, question: &Question, judged: &mut Judged) -> Result<Grant, End> {
    let snapshot = &target.snapshot;
    let mut request = Received::new(target, question, judged)?;
    let readings = request.guarded(snapshot, None, false)?;
    let token = request.believed(target, judged)?;
    snapshot.judged_headers().strip_respelled(&mut request.headers);
    request.demanded(snapshot, None, &readings, token.as_ref())?;
    note_limits(snapshot, &request.matched(None), judged);
    let view = request.view(question.caller.as_ref(), question.sni.as_deref(), token.as_ref());
    // Clients of an edge have no identity of the mesh, and PeerAuthentication is not about them.
    let from_outside = target.is_edge() && question.caller.is_none();
    authorized(target, &view, &readings, judged, |view| match from_outside {
        true => snapshot.authorize_answer(view),
        false => snapshot.authorize(view),
    })
}

/// Asks rules of access about the path in every reading.
pub(super) fn authorized(
    target: &Target,
    view: &RequestView<'_>,
    readings: &[String],
    judged: &mut Judged,
    authorize: impl Fn(&RequestView<'_>) -> Decision,
) -> Result<Grant, End> {
    if judged.traced {
        judged.observations = target.snapshot.observe(view);
    }
    let mut ask = |view: &RequestView<'_>| {
        if judged.traced {
            judged.rules = target.snapshot.trace(view);
        }
        decided(target, view.destination_port, authorize(view), judged)
    };
    let grant = ask(view)?;
    for path in readings {
        ask(&RequestView { path, ..*view }).map_err(|end| End {
            why: format!("{} (with the path read as {path:?}, as a server may do)", end.why),
            ..end
        })?;
    }
    Ok(grant)
}

/// What rules of access and PeerAuthentication said, in words. `judged` has the rules already.
pub(super) fn decided(target: &Target, port: u16, decision: Decision, judged: &Judged) -> Result<Grant, End> {
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
    let refused = End::new(stage, refusal.code(), why);
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

/// Names the limits that a request counts against. Whether one is used up, nobody knows here.
pub(super) fn note_limits(snapshot: &Snapshot, matched: &MatchView<'_>, judged: &mut Judged) {
    let limits = Moment::ALL.iter().flat_map(|moment| snapshot.limits(*matched, *moment));
    let titles: Vec<&str> = limits.map(|limit| &*limit.title).collect();
    if !titles.is_empty() {
        let named = listed(titles.into_iter().map(str::to_owned));
        judged.notes.push(format!(
            "rate limits that count this request: {named}; whether one is used up is not looked at"
        ));
    }
}

/// A list that has an end.
pub(super) fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.get(..NAMES_MAX) {
        Some(first) if names.len() > NAMES_MAX => format!("{}, ...", first.join(", ")),
        _ => names.join(", "),
    }
}

impl Passed {
    /// The same as an end: by whom and why it was let in.
    pub(super) fn told(self, target: &Target) -> End {
        let end = |reason: &str, why: &str| End::new(Stage::Authorization, reason, why);
        match self {
            Self::Granted(Grant::Rule(rule)) => end("rule", "an ALLOW rule matches, and no DENY rule does")
                .by(Kind::AuthorizationPolicy, &rule),
            Self::Granted(Grant::NoPolicy) => {
                let workload = target.id().principal();
                let why = format!(
                    "no ALLOW policy selects {workload}, and no DENY rule matches: all else is let in"
                );
                end("no_policy", &why)
            }
            Self::Granted(Grant::KnownDestination) => {
                End::new(Stage::Destination, "known_destination", "the destination is known")
            }
            Self::Answered { stage, reason, why } => End::new(stage, reason, why),
        }
    }
}

pub(super) fn rule_of(outcome: &Result<Grant, Refusal>) -> Option<&RuleRef> {
    match outcome {
        Ok(Grant::Rule(rule)) | Err(Refusal::Denied(rule)) => Some(rule),
        _ => None,
    }
}
