//! Faults and retries of routes.

use palisade_policy::Severity;
use palisade_policy::document::time::parse;
use palisade_policy::lint::lint;

use super::{document, severity, table};
use crate::support::parse_ok;

fn calls(route: &str) -> String {
    let spec =
        format!("{{hosts: [ledger], http: [{{{route}, route: [{{destination: {{host: ledger}}}}]}}]}}");
    document("networking.istio.io/v1", "VirtualService", "v", &spec)
}

#[test]
fn a_fault_that_nobody_ends_is_reported() {
    let at: &[&str] = &["spec.http[0].fault"];
    let rows = [
        (calls("fault: {delay: {percentage: {value: 1}, fixedDelay: 1s}}"), at),
        (calls("fault: {abort: {percentage: {value: 0.1}, httpStatus: 503}}"), at),
        (calls("fault: {abort: {percentage: {value: 0}, httpStatus: 503}}"), &[]),
        (calls("timeout: 1s"), &[]),
    ];
    table("PAL3201", &rows);
    assert_eq!(severity(&rows[0].0, "PAL3201"), Severity::Warning);
}

fn experiment(starts_at: &str, rest: &str) -> String {
    let spec = format!(
        "{{callers: ['*'], hosts: [ledger], startsAt: {starts_at}, duration: 5m, fault: {{reset: {{}}}}, {rest}}}"
    );
    document("palisade.mesh/v1", "FaultExperiment", "x", &spec)
}

#[test]
fn an_experiment_that_is_over_is_reported() {
    let text = experiment("2026-11-30T12:00:00Z", "");
    let at = |time: &str| {
        let report = lint(parse_ok(&text).0.objects(), parse(time).unwrap());
        let over = report.findings.0.into_iter().filter(|f| f.code == "PAL3231");
        over.map(|f| (f.severity, f.path, f.message)).collect::<Vec<_>>()
    };
    assert_eq!(at("2026-11-30T11:00:00Z"), []);
    assert_eq!(at("2026-11-30T12:04:59Z"), []);
    let over = (Severity::Warning, "spec.startsAt".into(), "it was over at 2026-11-30T12:05:00Z".into());
    assert_eq!(at("2026-11-30T12:05:00Z"), [over]);
}

#[test]
fn an_experiment_for_ports_without_http_is_reported() {
    let entry = |ports: &str| {
        let spec = format!("{{hosts: [ledger], ports: [{ports}], resolution: DNS, location: MESH_EXTERNAL}}");
        document("networking.istio.io/v1", "ServiceEntry", "ledger", &spec)
    };
    let (http, tcp) = ("{number: 80, name: web, protocol: HTTP}", "{number: 5432, name: sql, protocol: TCP}");
    let (both, start) = (format!("{http}, {tcp}"), "2026-11-30T12:00:00Z");
    let at: &[&str] = &["spec.hosts[0]"];
    let rows = [
        (entry(tcp) + &experiment(start, ""), at),
        (entry(&both) + &experiment(start, ""), &[]),
        (entry(&both) + &experiment(start, "ports: [80]"), &[]),
        (entry(&both) + &experiment(start, "ports: [5432]"), at),
        (entry(&both) + &experiment(start, "ports: [81]"), at),
        // What registers itself is not known here.
        (experiment(start, "ports: [5432]"), &[]),
    ];
    table("PAL3232", &rows);
}

#[test]
fn retries_that_will_not_be_made_for_writes_are_explained() {
    let at: &[&str] = &["spec.http[0].retries"];
    let retries = "retries: {attempts: 2, retryOn: '5xx,reset'}";
    let rows = [
        (calls(retries), at),
        (calls(&format!("match: [{{method: {{exact: POST}}}}], {retries}")), at),
        (calls(&format!("match: [{{method: {{regex: 'GET|PATCH'}}}}], {retries}")), at),
        (calls(&format!("match: [{{method: {{regex: 'GET|HEAD'}}}}], {retries}")), &[]),
        (calls(&format!("match: [{{method: {{exact: PUT}}}}], {retries}")), &[]),
        (calls("retries: {attempts: 2, retryOn: 'connect-failure,refused-stream'}"), &[]),
        (calls("retries: {attempts: 2}"), &[]),
        (calls("retries: {attempts: 0}"), &[]),
    ];
    table("PAL3202", &rows);
    assert_eq!(severity(&rows[0].0, "PAL3202"), Severity::Note);
}
