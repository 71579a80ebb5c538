//! What a Rehearsal may say, and what becomes of `${name}` in it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is test code")]

use std::time::{Duration, SystemTime};

use palisade_policy::Finding;
use palisade_policy::document::{Parsed, SourceFile, parse, parse_all};
use palisade_policy::finding::code;
use palisade_policy::kind::Spec;
use palisade_policy::rehearsal::{Rehearsal, Traffic, Values};

const LOAD: &str = "load: {requests: [{url: 'http://127.0.0.1:8080/'}]}";
const REST: &str = "
  steadyState: {successRate: 99}
  steps: [{name: dead, for: 1s, command: [stop], undo: [start]}]
  abortWhen: {successRateBelow: 20}";

fn parsed(spec: &str) -> Parsed {
    let text = format!(
        "apiVersion: palisade.mesh/v1\nkind: Rehearsal\nmetadata: {{name: r, namespace: bank}}\nspec:\n{spec}\n"
    );
    parse_all(&[SourceFile { name: "r.yaml".into(), text }])
}

/// With these values.
fn filled(spec: &str, values: &[(&str, &str)]) -> Result<Rehearsal, String> {
    let parsed = parsed(spec);
    assert!(!parsed.findings.has_errors(), "{spec}\n{}", parsed.findings);
    let values: Values =
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parsed.rehearsals[0].fill(&values).map_err(|findings| findings.to_string())
}

#[test]
fn what_is_left_out_has_its_default() {
    let rehearsal = filled(&format!("  {LOAD}{REST}"), &[]).unwrap();
    let Traffic::Load(load) = &rehearsal.traffic else { panic!("{rehearsal:?}") };
    let request = &load.requests[0];
    assert_eq!((request.method.as_str(), request.body.as_str()), ("GET", ""));
    assert_eq!(load.address(request), Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!((load.per_second, load.max_in_flight, load.timeout.as_secs()), (10, 256, 10));
    let command = rehearsal.steps[0].command.as_ref().unwrap();
    let seconds = [rehearsal.warm_up, rehearsal.window, rehearsal.recover_within, command.timeout];
    assert_eq!(seconds.map(|length| length.as_secs()), [5, 5, 30, 10]);
    assert_eq!(
        rehearsal.addresses(),
        [("spec.load.requests[0].url".to_owned(), "127.0.0.1:8080".parse().unwrap())]
    );
}

#[test]
fn a_step_holds_what_the_steady_state_does_but_for_what_it_says() {
    let spec = format!(
        "  {LOAD}
  observe: {{ledger: '127.0.0.1:15000'}}
  steadyState: {{successRate: 99.5, p99: 100ms, duplicateDeliveries: 0}}
  steps:
  - {{name: a, for: 1s, command: [stop], undo: [start]}}
  - {{name: b, for: 1s, command: [stop], undo: [start], hold: {{successRate: 0, p50: 1s, breakerOpensWithin: 2s}}}}
  abortWhen: {{p99Above: 5s, duplicateDeliveriesAbove: 0}}"
    );
    let rehearsal = filled(&spec, &[]).unwrap();
    let [a, b] = &rehearsal.steps[..] else { panic!("{rehearsal:?}") };
    assert_eq!(a.hold, rehearsal.steady);
    assert_eq!((b.hold.success_ppm, b.hold.duplicates), (Some(0), Some(0)));
    let lengths = [b.hold.p50, b.hold.p99, b.hold.breaker_within].map(|length| length.map(|l| l.as_millis()));
    assert_eq!(lengths, [Some(1000), Some(100), Some(2000)]);
}

#[test]
fn names_are_filled_in_from_outside_else_from_the_document() {
    let spec = "  values: {for: 20s, path: entries}
  load:
    requests: [{url: 'http://ledger.bank:8080/${path}', headers: {x-run: 'a ${run} b'}, body: '${run}${run}'}]
    via: ${payments.outbound}
  observe: {payments: '${payments.admin}'}
  steadyState: {successRate: 99}
  steps: [{name: dead, for: '${for}', command: [kill, '${ledger.pid}'], undo: ['true']}]
  abortWhen: {successRateBelow: 20}";
    let given = [
        ("payments.outbound", "127.0.0.1:1"),
        ("payments.admin", "[::1]:2"),
        ("ledger.pid", "7"),
        ("run", "${for}"),
    ];
    let rehearsal = filled(spec, &given).unwrap();
    let Traffic::Load(load) = &rehearsal.traffic else { panic!("{rehearsal:?}") };
    assert_eq!(load.requests[0].url, "http://ledger.bank:8080/entries");
    assert_eq!(load.requests[0].headers["x-run"], "a ${for} b", "what is filled in is not read again");
    assert_eq!(load.requests[0].body, "${for}${for}");
    assert_eq!(rehearsal.steps[0].command.as_ref().unwrap().run, ["kill", "7"]);
    assert_eq!(rehearsal.steps[0].length, Duration::from_secs(20));
    let addresses: Vec<_> = rehearsal.addresses().iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(addresses, ["[::1]:2", "127.0.0.1:1"]);

    let long = filled(spec, &[&given[..], &[("for", "2m")]].concat()).unwrap();
    assert_eq!(long.steps[0].length, Duration::from_secs(120));
    let missing = filled(spec, &given[1..]).unwrap_err();
    let expected =
        "r.yaml:8:10: error[PAL2501]: nothing is known to stand for ${payments.outbound} (at spec.load.via)";
    assert!(missing.contains(expected), "{missing}");
    let wrong = filled(spec, &[&given[1..], &[("payments.outbound", "localhost")]].concat()).unwrap_err();
    assert!(wrong.contains("\"localhost\" is no address with a port"), "{wrong}");
}

#[test]
fn what_cannot_be_played_is_refused_where_it_stands() {
    let step = |step: &str| {
        format!(
            "  {LOAD}\n  steadyState: {{successRate: 99}}\n  steps: [{step}]\n  abortWhen: {{successRateBelow: 20}}"
        )
    };
    let load = |load: &str| format!("  load: {load}{REST}");
    let request = |request: &str| load(&format!("{{requests: [{{{request}}}]}}"));
    let dead = "name: dead, for: 1s, command: [stop], undo: [start]";
    let rows = [
        (format!("  steadyState: {{}}{REST}"), "already written"),
        (REST.trim_start_matches('\n').to_owned(), "there are no requests to judge by"),
        (format!("  {LOAD}\n  live: {{proxies: [a]}}{REST}"), "load and live stand beside each other"),
        (format!("  live: {{proxies: [a]}}{REST}"), "there is no \"a\" in spec.observe"),
        (
            format!("  {LOAD}\n  steadyState: {{window: 1s}}\n  steps: []\n  abortWhen: {{}}"),
            "nothing is asked",
        ),
        (
            step(&format!("{{{dead}}}")).replace("{successRateBelow: 20}", "{}"),
            "nothing ends the rehearsal early",
        ),
        (step(""), "0 steps are written"),
        (step("{name: a, for: 1s}"), "the step breaks nothing"),
        (step("{name: a, for: 1s, command: [stop]}"), "nothing mends what the command breaks"),
        (step("{name: a, for: 1s, command: [], undo: [start]}"), "this is no command"),
        (step(&format!("{{{dead}, commandTimeout: 2m}}")), "2m is out of its range"),
        (step(&format!("{{{dead}, flap: {{down: 1s}}}}")), "the field \"up\" is missing"),
        (step(&format!("{{{dead}, hold: {{successRate: 101}}}}")), "this is no percentage"),
        (step(&format!("{{{dead}, hold: {{p99: 1}}}}")), "a text is expected"),
        (step(&format!("{{{dead}, hold: {{duplicateDeliveries: 0}}}}")), "no proxy is observed"),
        (step(&format!("{{{dead}, hold: {{breakerOpensWithin: 1s}}}}")), "no proxy is observed"),
        (step(&format!("{{{dead}, hold: {{retries: 0}}}}")), "no proxy is observed"),
        (step("{name: a, for: 11m, command: [stop], undo: [start]}"), "11m is out of its range"),
        (step(&vec![format!("{{{}}}", dead.replace("1s", "10m")); 6].join(", ")), "it takes"),
        (load("{requests: []}"), "0 requests are written"),
        (load("{requests: [{url: 'http://127.0.0.1:1/'}], ratePerSecond: 1001}"), "1001 is out of its range"),
        (load("{requests: [{url: 'http://127.0.0.1:1/'}], maxInFlight: 0}"), "0 is out of its range"),
        (
            load("{requests: [{url: 'http://127.0.0.1:1/'}], idempotencyKey: Host}"),
            "Host is written by whoever sends",
        ),
        (load("{requests: [{url: 'http://a/'}], via: '127.0.0.1:0'}"), "is no address with a port"),
        (request("method: GET"), "the field \"url\" is missing"),
        (request("url: 'https://127.0.0.1/'"), "is no URL of http"),
        (request("url: 'http://u@127.0.0.1/'"), "is no URL of http"),
        (request("url: /entries"), "is no URL of http"),
        (request("url: 'http://ledger.bank:8080/'"), "names no address, and names are not looked up"),
        (request("url: 'http://127.0.0.1:1/', method: CONNECT"), "is no method that can be sent"),
        (
            request("url: 'http://127.0.0.1:1/', headers: {content-length: '5'}"),
            "is written by whoever sends",
        ),
        (request("url: 'http://127.0.0.1:1/', headers: {a: \"b\\nc\"}"), "this is no value of a header"),
        (request("url: 'http://127.0.0.1:1/${', body: x"), "begins no name of a value"),
        (format!("  values: {{'a b': c}}\n  {LOAD}{REST}"), "is no name of a value"),
        (format!("  {LOAD}\n  observe: {{\"a\\u0007\": '127.0.0.1:1'}}{REST}"), "is no name for a proxy"),
        (format!("  {LOAD}\n  warmup: 1s{REST}"), "did you mean \"warmUp\"?"),
    ];
    for (spec, expected) in rows {
        let findings = parsed(&spec).findings;
        let found = findings.0.iter().any(|finding| {
            let text = finding.to_string();
            text.contains(expected) && finding.position.is_some()
        });
        assert!(found && findings.has_errors(), "{spec}\nshould say {expected:?}:\n{findings}");
    }
}

const FAULT: &str = "fault: {callers: [corp.example/ns/bank/sa/payments], hosts: [ledger], percentage: {value: 12.5}, fault: {delay: {fixed: 2s}}}";

#[test]
fn a_fault_is_an_experiment_whose_time_is_that_of_its_step() {
    let spec = format!(
        "  controlPlane: {{server: '127.0.0.1:15012', operatorDir: '${{dir}}'}}
  {LOAD}
  observe: {{payments: '127.0.0.1:15000'}}
  steadyState: {{successRate: 99}}
  steps: [{{name: slow, for: 20s, {FAULT}}}]
  abortWhen: {{successRateBelow: 20}}"
    );
    let rehearsal = filled(&spec, &[("dir", "/operator")]).unwrap();
    assert_eq!(rehearsal.control_plane.as_ref().unwrap().operator_dir, "/operator");
    let step = &rehearsal.steps[0];
    assert_eq!((step.command.is_none(), step.fault_length_max()), (true, Duration::from_secs(60)));
    let starts_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_040_000);
    let fault = step.fault.as_ref().unwrap();
    let text = fault.document("bank", "rehearsal-r-1", starts_at, Duration::from_millis(65_500));
    let (objects, findings) = parse(&[SourceFile { name: "fault".into(), text }]);
    assert!(findings.0.is_empty(), "{findings}");
    let Spec::FaultExperiment(read) = &objects[0].spec else { panic!("{objects:?}") };
    assert_eq!((read.starts_at, read.duration), (starts_at, Duration::from_millis(65_500)));
    assert_eq!((read.share_ppm, &read.hosts[..]), (125_000, &["ledger".to_owned()][..]));
}

#[test]
fn a_fault_that_no_mesh_would_take_is_refused_where_it_stands() {
    let of = |fault: &str| {
        format!(
            "  controlPlane: {{server: a, operatorDir: b}}
  {LOAD}
  observe: {{payments: '127.0.0.1:15000'}}
  steadyState: {{successRate: 99}}
  steps:
  - {{name: a, for: 1s, command: [stop], undo: [start]}}
  - {{name: slow, for: 20s, {fault}}}
  abortWhen: {{successRateBelow: 20}}"
        )
    };
    let rows = [
        (of(&FAULT.replace("bank", "shop")), "PAL2404", "spec.steps[1].fault.callers[0]", 11),
        (
            of(&FAULT.replace("fixed: 2s", "fixed: 2h")),
            "PAL2402",
            "spec.steps[1].fault.fault.delay.fixed",
            11,
        ),
        (of(&FAULT.replace("hosts:", "duration: 5m, hosts:")), "PAL0009", "spec.steps[1].fault.duration", 11),
        (of(&FAULT.replace("hosts: [ledger], ", "")), "PAL0012", "spec.steps[1].fault.hosts", 11),
        (
            of(FAULT).replace("controlPlane: {server: a, operatorDir: b}", ""),
            "PAL2501",
            "spec.steps[1].fault",
            11,
        ),
        (
            of(FAULT).replace("observe: {payments: '127.0.0.1:15000'}", ""),
            "PAL2501",
            "spec.steps[1].fault",
            11,
        ),
        (of(FAULT).replace("server: a, ", ""), "PAL0012", "spec.controlPlane.server", 5),
        (of(&format!("{FAULT}, undo: [start]")), "PAL2501", "spec.steps[1]", 11),
    ];
    for (spec, code, path, line) in rows {
        let findings = parsed(&spec).findings;
        let place = |finding: &Finding| finding.position.as_ref().map(|position| position.line);
        let found = findings.0.iter().any(|f| f.code == code && f.path == path && place(f) == Some(line));
        assert!(found, "{spec}\nshould say {code} at {path}, line {line}:\n{findings}");
    }
}

#[test]
fn so_many_requests_that_memory_could_not_hold_them_are_refused() {
    let steps = ["{name: a, for: 10m, command: [stop], undo: [start]}"; 3].join(", ");
    let spec = |rate: u32| {
        format!(
            "  load: {{requests: [{{url: 'http://127.0.0.1:8080/'}}], ratePerSecond: {rate}}}
  steadyState: {{successRate: 99}}\n  steps: [{steps}]\n  abortWhen: {{successRateBelow: 20}}"
        )
    };
    assert!(!parsed(&spec(400)).findings.has_errors());
    let findings = parsed(&spec(1000)).findings;
    let finding = findings.0.iter().find(|finding| finding.code == code::REHEARSAL).unwrap();
    assert_eq!(finding.path, "spec.load.ratePerSecond");
}

#[test]
fn values_that_are_yet_to_come_are_no_error_of_the_form() {
    let spec = format!("  load: {{requests: [{{url: 'http://${{a}}/'}}], timeout: '${{t}}'}}{REST}");
    let parsed = parsed(&spec);
    assert!(parsed.findings.0.is_empty(), "{}", parsed.findings);
    assert_eq!(parsed.rehearsals.len(), 1);
    assert!(parsed.rehearsals[0].asks_for("t") && !parsed.rehearsals[0].asks_for("u"));
}
