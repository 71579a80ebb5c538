//! An explanation as text.

use std::fmt::Write as _;

use palisade_policy::explain::recorded::UNKNOWN;
use palisade_policy::explain::{Asked, Explanation, NearMiss, RulePlace};
use palisade_policy::finding::Position;
use palisade_policy::record::{Outcome, Record};

use super::printable;

/// All of it.
pub(crate) fn render(told: &Explanation) -> String {
    let word = if told.allowed { "ALLOWED" } else { "REFUSED" };
    let mut text = format!("{word}: {} ({})\n", told.why, told.reason);
    let principal = |id: &'_ str| id.strip_prefix("spiffe://").unwrap_or(id).to_owned();
    let caller = told.caller.as_deref().map_or("without a certificate".to_owned(), principal);
    line(&mut text, "caller", &caller);
    line(&mut text, "service", &format!("{}, port {}", principal(&told.workload), told.port));
    line(&mut text, "request", &request(told));
    let sent = told.sent_path.as_deref().and_then(|path| path.split('?').next());
    if let Some(path) = told.path.as_deref().filter(|path| Some(*path) != sent) {
        line(&mut text, "judged as", path);
    }
    if let Some(route) = &told.route {
        line(&mut text, "route", &at(&route.id, route.position.as_ref()));
    }
    why(&mut text, told);
    for rule in &told.audited {
        line(&mut text, "audit", &rule_name(rule));
    }
    if let Some(dry_run) = &told.dry_run {
        let word = if dry_run.allowed { "would be allowed" } else { "would be refused" };
        let by = dry_run.rule.as_ref().map(|rule| format!(" by {}", rule_name(rule)));
        line(&mut text, "dry run", &format!("{word}{}", by.unwrap_or_default()));
        dry_run.nearest.iter().for_each(|miss| near_miss(&mut text, miss));
    }
    for note in &told.notes {
        line(&mut text, "note", note);
    }
    printable(text.trim_end())
}

/// An explanation of a record, what the record says, and what neither knows.
pub(crate) fn render_recorded(told: &Explanation, record: &Record, agrees: bool, notes: &[String]) -> String {
    let mut text = String::new();
    let said = if record.outcome == Outcome::Allowed { "ALLOWED" } else { "REFUSED" };
    if !agrees {
        let _infallible = writeln!(
            text,
            "DIFFERS: the record says {said}{}; asked again with what the record holds, these policies say:",
            recorded_rule(record),
        );
    }
    let _infallible = writeln!(text, "{}", render(told));
    let version = record.policy_version;
    let recorded = format!("{said}{} ({}), policy version {version}", recorded_rule(record), record.reason);
    line(&mut text, "record", &recorded);
    line(&mut text, "unknown", &format!("{UNKNOWN}; the path is the normalized one"));
    for note in notes {
        line(&mut text, "note", note);
    }
    printable(text.trim_end())
}

fn recorded_rule(record: &Record) -> String {
    record.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default()
}

fn request(told: &Explanation) -> String {
    match (&told.method, &told.sent_path, &told.host) {
        (Some(method), Some(path), Some(host)) => format!("{method} {path} of host {host}"),
        _ => "a connection of raw TCP".to_owned(),
    }
}

/// Why, on a few lines, indented.
pub(crate) fn why(text: &mut String, told: &Explanation) {
    if let Some(rule) = &told.rule {
        line(text, "rule", &rule_name(rule));
        asked(text, &told.asked);
    }
    if let Some(object) = &told.object {
        line(text, "object", &rule_name(object));
    }
    told.nearest.iter().for_each(|miss| near_miss(text, miss));
}

fn near_miss(text: &mut String, miss: &NearMiss) {
    line(text, "nearest", &rule_name(&miss.rule));
    asked(text, &miss.lacks);
}

fn asked(text: &mut String, asked: &[Asked]) {
    for Asked { field, wanted, got, holds } in asked {
        let got = got.as_deref().unwrap_or("none");
        let word = if *holds { "is" } else { "is not" };
        let _infallible = writeln!(text, "    {field} {got} {word} {wanted}");
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    let _infallible = writeln!(text, "  {name:<9} {value}");
}

/// `AuthorizationPolicy bank/ledger, rule 0, at ledger.yaml:14:5`.
pub(crate) fn rule_name(place: &RulePlace) -> String {
    let mut text = format!("{} {}/{}", place.kind, place.namespace, place.policy);
    if let Some(rule) = place.rule {
        let _infallible = write!(text, ", rule {rule}");
    }
    at(&text, place.position.as_ref())
}

fn at(text: &str, position: Option<&Position>) -> String {
    position.map_or_else(|| text.to_owned(), |position| format!("{text}, at {position}"))
}
