//! Faults and retries of routes.

use palisade_policy::Severity;

use super::{document, severity, table};

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
