//! Why a request is let in or refused: what decides is asked, and then what it looked at is told.
//!
//! `mesh` is what documents tell of a mesh, `question` a request, `judge` takes it through what a sidecar asks in the order
//! in which it asks (`tcp` one of which nothing is read, `edge` what an edge asks), `nearest` finds the rules that would almost have let it in, and `recorded` takes the question from a
//! decision record.

mod certain;
mod edge;
mod judge;
mod mesh;
mod nearest;
mod question;
mod received;
pub mod recorded;
mod target;
mod tcp;

use serde::Serialize;

pub use crate::compile::{Role, TracedRule};
use crate::decision::{Grant, Refusal, RuleRef};
use crate::finding::{Findings, Position};
use crate::kind::Kind;
pub use crate::kind::authorization_policy::trace::{Attribute, ClauseTrace, RuleTrace};
use crate::projection::Workload;
pub use certain::{Verdict, verdict};
pub use judge::Stage;
use judge::{Decider, End, Judged, Passed, inbound, judge};
pub use mesh::{Mesh, MeshError};
pub(crate) use mesh::{authorization, principals};
pub use question::{GivenToken, Question};
pub use target::Target;

/// What becomes of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub allowed: bool,
    /// As in decision records: `rule`, `no_allow_matched`, ...
    pub reason: String,
    pub stage: Stage,
    /// The reason in words.
    pub why: String,
    /// SPIFFE id; `null` for a caller without a certificate.
    pub caller: Option<String>,
    pub workload: String,
    /// `http`, or `tcp`: then method, paths and host are `null`, since nobody reads what is carried.
    pub protocol: &'static str,
    pub method: Option<String>,
    /// As it was sent.
    pub sent_path: Option<String>,
    /// The one that was judged, and would be forwarded; `null` where no policy was asked.
    pub path: Option<String>,
    pub host: Option<String>,
    pub port: u16,
    /// The rule that decided, if one did.
    pub rule: Option<RulePlace>,
    /// Where no rule decided: the Gateway or VirtualService that has no such host or route.
    pub object: Option<RulePlace>,
    /// The route that the request takes at an edge.
    pub route: Option<RoutePlace>,
    /// What that rule asks for.
    pub asked: Vec<Asked>,
    /// For a refusal because no ALLOW rule matched: those that lack least, the nearest first.
    pub nearest: Vec<NearMiss>,
    /// AUDIT rules that match.
    pub audited: Vec<RulePlace>,
    /// What policies in dry run alone would have decided; `null` where there are none.
    pub dry_run: Option<DryRun>,
    /// What was taken for granted, and what was not looked at.
    pub notes: Vec<String>,
    /// Every rule of an AuthorizationPolicy that matches, whether or not it decides.
    #[serde(skip)]
    pub matching: Vec<RuleRef>,
}

/// A rule, or a policy where `rule` is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RulePlace {
    pub kind: &'static str,
    pub namespace: String,
    pub policy: String,
    /// From 0.
    pub rule: Option<usize>,
    pub position: Option<Position>,
}

/// A route of a VirtualService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoutePlace {
    /// `namespace/virtualservice/name-or-index`, as decision records name it.
    pub id: String,
    pub position: Option<Position>,
}

/// One thing that a rule asks of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    pub field: String,
    pub wanted: String,
    pub got: Option<String>,
    pub holds: bool,
}

/// An ALLOW rule that does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    pub rule: RulePlace,
    pub lacks: Vec<Asked>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    pub allowed: bool,
    pub rule: Option<RulePlace>,
    pub nearest: Vec<NearMiss>,
}

/// Judges a request of a caller to a workload of the mesh, and says why. A caller with an identity asks through its
/// own sidecar, which has to know the workload.
pub fn explain(
    mesh: &Mesh<'_>,
    target: &Target,
    caller: Option<&Workload>,
    question: &Question,
) -> Result<Explanation, Findings> {
    let known = match caller {
        Some(caller) => mesh.way(caller, &target.snapshot.workload, question.port)?.is_some(),
        None => true,
    };
    let mut told = explain_reached(mesh, target, known, question);
    // Of a connection of TCP nothing is read that a route could be chosen by.
    let caller = caller.filter(|_| !question.tcp);
    let routes = caller.map(|caller| mesh.routes_of_calls(caller, &target.snapshot.workload, question.port));
    if let Some(service) = routes.transpose()?.flatten() {
        told.notes.push(format!(
            "the caller's sidecar takes the routes of VirtualService {service}, which may lead elsewhere: this is about a \
             request that they lead here"
        ));
    }
    Ok(told)
}

/// The same, where it was looked up before whether the caller's sidecar knows the workload ([`Mesh::way`]).
pub fn explain_reached(mesh: &Mesh<'_>, target: &Target, known: bool, question: &Question) -> Explanation {
    let mut judged = Judged::new(target, question);
    let outcome = match known {
        true => judge(target, question, &mut judged),
        false => Err(End::unknown(&target.snapshot.workload)),
    };
    told(mesh, target, question, judged, outcome)
}

/// What rules make of a request that reaches the workload's proxy, at an edge without regard to routes: the rule that lets it in (`None`: no ALLOW policy is
/// there), or the reason for refusing it.
pub(crate) fn decide(target: &Target, question: &Question) -> Result<Option<RuleRef>, String> {
    let mut judged = Judged { traced: false, ..Judged::new(target, question) };
    match inbound(target, question, &mut judged) {
        Ok(Grant::Rule(rule)) => Ok(Some(rule)),
        Ok(_) => Ok(None),
        Err(end) => Err(end.reason),
    }
}

fn told(
    mesh: &Mesh<'_>,
    target: &Target,
    question: &Question,
    judged: Judged,
    outcome: Result<Passed, End>,
) -> Explanation {
    let Judged { host, path, route, rules, observations, mut notes, .. } = judged;
    notes.extend(names(mesh, target, question));
    let place = |kind, rule: &RuleRef| RulePlace::of(mesh, kind, rule);
    let (allowed, end) = match outcome {
        Ok(passed) => (true, passed.told(target)),
        Err(end) => (false, end),
    };
    let End { stage, reason, why, decider } = end;
    let (rule, object) = match decider {
        Some(Decider::Rule(kind, rule)) => (Some((kind, rule)), None),
        Some(Decider::Object(kind, namespace, name)) => {
            (None, Some(RulePlace::of_object(mesh, kind, &namespace, &name)))
        }
        None => (None, None),
    };
    let deciding = |traced: &&TracedRule| rule.as_ref().is_some_and(|(_, name)| *name == traced.name);
    let of_access = rule.as_ref().is_some_and(|(kind, _)| *kind == Kind::AuthorizationPolicy);
    let asked = rules.iter().find(deciding).filter(|_| of_access).map(|rule| nearest::asked(&rule.trace));
    let unmatched = reason == judge::NO_ALLOW_MATCHED;
    let read = |text: &String| (!question.tcp).then(|| text.clone());
    let misses = |role| nearest::nearest(mesh, &rules, role);
    let dry_run = observations.dry_run.map(|outcome| dry_run(mesh, &rules, &outcome));
    Explanation {
        allowed,
        reason,
        stage,
        why,
        caller: question.caller.as_ref().map(|id| id.as_str().to_owned()),
        workload: target.snapshot.workload.id.as_str().to_owned(),
        protocol: if question.tcp { "tcp" } else { "http" },
        method: read(&question.method),
        sent_path: read(&question.path),
        path,
        host: read(&host),
        port: question.port,
        rule: rule.as_ref().map(|(kind, rule)| place(*kind, rule)),
        object,
        route: route.map(|(id, place)| RoutePlace::of(mesh, &id, &place)),
        asked: asked.unwrap_or_default(),
        nearest: if unmatched { misses(Role::Allow) } else { Vec::new() },
        audited: observations.audited.iter().map(|rule| place(Kind::AuthorizationPolicy, rule)).collect(),
        dry_run,
        notes,
        matching: rules.iter().filter(|rule| rule.trace.matches()).map(|rule| rule.name.clone()).collect(),
    }
}

fn dry_run(mesh: &Mesh<'_>, rules: &[TracedRule], outcome: &Result<Grant, Refusal>) -> DryRun {
    let nearest = || nearest::nearest(mesh, rules, Role::DryRunAllow);
    DryRun {
        allowed: outcome.is_ok(),
        rule: judge::rule_of(outcome).map(|rule| RulePlace::of(mesh, Kind::AuthorizationPolicy, rule)),
        nearest: if outcome.is_ok() { Vec::new() } else { nearest() },
    }
}

/// Names that may be misspelled: policies know others that look like them.
fn names(mesh: &Mesh<'_>, target: &Target, question: &Question) -> Vec<String> {
    // An edge is known by its Gateway.
    let asked = [question.caller.as_ref(), Some(target.id()).filter(|_| !target.is_edge())];
    let near = asked.into_iter().flatten().filter_map(|id| Some((id, mesh.near_name(id)?)));
    near.map(|(id, near)| format!("no policy names {}; did you mean {near}?", id.principal())).collect()
}

impl RoutePlace {
    fn of(mesh: &Mesh<'_>, id: &str, place: &RuleRef) -> Self {
        Self { id: id.to_owned(), position: mesh.place(Kind::VirtualService, place) }
    }
}

impl RulePlace {
    pub(crate) fn of(mesh: &Mesh<'_>, kind: Kind, rule: &RuleRef) -> Self {
        Self {
            kind: kind.name(),
            namespace: rule.namespace.to_string(),
            policy: rule.policy.to_string(),
            rule: Some(rule.rule),
            position: mesh.place(kind, rule),
        }
    }

    fn of_object(mesh: &Mesh<'_>, kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind: kind.name(),
            namespace: namespace.to_owned(),
            policy: name.to_owned(),
            rule: None,
            position: mesh.object_place(kind, namespace, name),
        }
    }
}
