//! FaultExperiment: what is taken, what is refused, and for which calls of whom it is compiled.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use palisade_policy::compile::Destination;
use palisade_policy::document::time;
use palisade_policy::experiment::{DelayLength, Experiment, Harm, Pace};
use palisade_policy::fault::AbortAnswer;
use palisade_policy::kind::Spec;
use palisade_policy::kind::request_match::MatchView;
use palisade_policy::projection::project;
use palisade_policy::{Finding, MeshService, PolicySet, Severity, Snapshot, Workload};
use support::{findings, parse_ok, service, workload};

fn experiment(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: palisade.mesh/v1\nkind: FaultExperiment\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

const CALLER: &str = "callers: [corp.example/ns/bank/sa/payments]";
const WHEN: &str = "startsAt: 2026-11-30T12:00:00Z, duration: 5m";

/// Of payments' calls to the ledger, with this fault and whatever else.
fn slow(rest: &str) -> String {
    let fault = if rest.contains("fault:") { "" } else { "fault: {delay: {fixed: 2s}}, " };
    experiment("bank", "slow", &format!("{CALLER}, hosts: [ledger], {WHEN}, {fault}{rest}"))
}

fn mesh(faults: &str) -> String {
    format!(
        "---\napiVersion: palisade.mesh/v1\nkind: MeshConfig\n\
         metadata: {{name: default, namespace: palisade-system}}\nspec: {{faults: {{{faults}}}}}\n"
    )
}

#[track_caller]
fn refused(text: &str, code: &str, help: &str) {
    let found = findings(text);
    let fits = |f: &Finding| f.code == code && f.help.as_deref().unwrap_or_default().contains(help);
    assert!(found.has_errors() && found.0.iter().any(fits), "{text}: {found:?}");
    assert!(found.0.iter().all(|f| f.position.is_some()), "{text}: {found:?}");
}

#[test]
fn a_document_says_who_what_and_until_when() {
    let fault = "fault: {reset: {}}";
    let rows = [
        (format!("hosts: [ledger], {WHEN}, {fault}"), "PAL0012", "name the workloads"),
        (format!("callers: [], hosts: [ledger], {WHEN}, {fault}"), "PAL2401", "name the workloads"),
        (format!("{CALLER}, {WHEN}, {fault}"), "PAL0012", "name the services"),
        (format!("{CALLER}, hosts: [], {WHEN}, {fault}"), "PAL2401", "name the services"),
        (format!("{CALLER}, hosts: [ledger], duration: 5m, {fault}"), "PAL0012", "startsAt: 2026"),
        (format!("{CALLER}, hosts: [ledger], startsAt: 2026-11-30T12:00:00Z, {fault}"), "PAL0012", "5m"),
        (format!("{CALLER}, hosts: [ledger], {WHEN}"), "PAL0012", "delay: {fixed: 2s}"),
    ];
    for (spec, code, help) in rows {
        refused(&experiment("bank", "x", &spec), code, help);
    }
}

#[test]
fn refuses_what_is_out_of_range_or_cannot_be() {
    let rows = [
        ("hosts: [ledger], callers: ['spiffe://corp.example/ns/bank/sa/x']", "PAL1004", "without the scheme"),
        ("hosts: [ledger], callers: [payments]", "PAL1016", "<trust-domain>/ns/"),
        ("hosts: [ledger], callers: [corp.example/operator/eve]", "PAL1016", "<trust-domain>/ns/"),
        ("hosts: [ledger], callers: ['corp.example/*/sa/payments']", "PAL1016", "at the start or at the end"),
        ("hosts: [ledger], callers: [corp.example/ns/shop/sa/web]", "PAL2404", "\"palisade-system\""),
        ("hosts: [ledger], callers: ['corp.example/ns/shop/*']", "PAL2404", "\"shop\""),
        ("callers: ['*'], hosts: ['Ledger:80']", "PAL1201", "without wildcard, port"),
        ("callers: ['*'], hosts: ['*']", "PAL1201", "without wildcard"),
    ];
    for (who, code, help) in rows {
        refused(&experiment("bank", "x", &format!("{who}, {WHEN}, fault: {{reset: {{}}}}")), code, help);
    }
    let rows = [
        ("startsAt: noon, duration: 5m", "PAL0021", "2026-11-30T12:00:00Z"),
        ("startsAt: 1796040000, duration: 5m", "PAL0010", "quotes"),
        ("startsAt: 2026-11-30T12:00:00Z, duration: 999ms", "PAL2402", ""),
        ("startsAt: 2026-11-30T12:00:00Z, duration: 25h", "PAL2402", ""),
        ("startsAt: 2026-11-30T12:00:00Z, duration: 5", "PAL0010", ""),
    ];
    for (when, code, help) in rows {
        let spec = format!("{CALLER}, hosts: [ledger], {when}, fault: {{reset: {{}}}}");
        refused(&experiment("bank", "x", &spec), code, help);
    }
    let rows = [
        ("ports: []", "PAL1011", "every port"),
        ("ports: [0]", "PAL1006", ""),
        ("match: []", "PAL1011", "every request"),
        ("match: [{}]", "PAL1011", ""),
        ("match: [{hosts: [ledger]}]", "PAL2405", "methods, paths, routes and headers"),
        ("match: [{methods: [post]}]", "PAL1016", "\"POST\""),
        ("match: [{header: {a: b}}]", "PAL0008", "headers"),
        ("match: [{headers: {':path': b}}]", "PAL2405", "x-fault-test"),
        ("match: [{headers: {Authorization: b}}]", "PAL2405", "no place for a credential"),
        ("match: [{headers: {X_Forwarded_For: b}}]", "PAL2405", "writes or removes"),
        ("match: [{headers: {host: b}}]", "PAL2405", "writes or removes"),
        ("match: [{headers: {x-a: ''}}]", "PAL2405", "exact value"),
        ("match: [{headers: {x-a: ' b'}}]", "PAL2405", "exact value"),
        ("match: [{headers: {x-a: \"b\\n\"}}]", "PAL2405", "exact value"),
        ("match: [{headers: {x-a: b, X-A: c}}]", "PAL2405", "case makes no difference"),
        ("percentage: {value: 101}", "PAL2402", "0 to 100"),
        ("percentage: 50", "PAL0010", ""),
        ("percent: 50", "PAL0009", "percentage"),
        ("maxActive: 0", "PAL2402", ""),
        ("maxActive: 10001", "PAL2402", ""),
        ("selector: {}", "PAL0009", "callers"),
    ];
    for (rest, code, help) in rows {
        refused(&slow(rest), code, help);
    }
}

#[test]
fn refuses_faults_that_do_nothing_or_do_not_go_together() {
    let rows = [
        ("{}", "PAL2403", "write delay, abort"),
        ("{response: {}}", "PAL2403", "write delay, abort"),
        ("{delay: {}}", "PAL2403", "fixed: 2s"),
        ("{delay: {fixed: 1s, uniform: {min: 1s, max: 2s}}}", "PAL2403", "fixed: 2s"),
        ("{delay: {fixed: 0s}}", "PAL2402", ""),
        ("{delay: {fixed: 61m}}", "PAL2402", ""),
        ("{delay: {uniform: {min: 3s, max: 2s}}}", "PAL2402", ""),
        ("{delay: {uniform: {min: 3s}}}", "PAL0012", "500ms"),
        ("{delay: {exponential: {mean: 1s, max: 2h}}}", "PAL2402", ""),
        ("{delay: {exponential: {mean: 3s, max: 2s}}}", "PAL2402", ""),
        ("{delay: {fixedDelay: 1s}}", "PAL0009", "fixed"),
        ("{abort: {}}", "PAL2403", "httpStatus: 503"),
        ("{abort: {httpStatus: 99}}", "PAL2402", "503"),
        ("{abort: {httpStatus: 70000}}", "PAL2402", ""),
        ("{abort: {grpcStatus: UNAVAILABEL}}", "PAL2403", "UNAVAILABLE"),
        ("{abort: {httpStatus: 503, percentage: {value: 1}}}", "PAL0008", ""),
        ("{reset: true}", "PAL0010", ""),
        ("{reset: {after: 1s}}", "PAL0008", ""),
        ("{reset: {}, abort: {httpStatus: 503}}", "PAL2403", "delay goes with each"),
        ("{reset: {}, response: {drop: {}}}", "PAL2403", "keep one"),
        ("{response: {drop: {}, truncate: {afterBytes: 1}}}", "PAL2403", "keep one"),
        ("{response: {drop: {}, slow: {everyBytes: 1, pause: 1s}}}", "PAL2403", "keep one"),
        ("{reset: {}, response: {bandwidth: {bytesPerSecond: 1}}}", "PAL2403", "keep one"),
        (
            "{response: {slow: {everyBytes: 1, pause: 1s}, bandwidth: {bytesPerSecond: 1}}}",
            "PAL2403",
            "keep one",
        ),
        ("{response: {slow: {everyBytes: 0, pause: 1s}}}", "PAL2402", "1 or more"),
        ("{response: {slow: {everyBytes: 1, pause: 2h}}}", "PAL2402", ""),
        ("{response: {slow: {everyBytes: 1}}}", "PAL0012", "200ms"),
        ("{response: {bandwidth: {bytesPerSecond: 0}}}", "PAL2402", "1 or more"),
        ("{response: {truncate: {afterBytes: -1}}}", "PAL0018", ""),
        ("{response: {truncate: {}}}", "PAL0012", "afterBytes: 100"),
        ("{delay: {fixed: 1s}, percentage: {value: 1}}", "PAL0009", "beside fault"),
    ];
    for (fault, code, help) in rows {
        refused(&slow(&format!("fault: {fault}")), code, help);
    }
}

/// As payments of the namespace bank has it, where ledger and vault have joined.
fn compiled(text: &str, workload: &Workload) -> Snapshot {
    let (set, _) = parse_ok(text);
    support::snapshot(&set, &joined(), workload)
}

fn joined() -> [MeshService; 2] {
    [service("bank", "ledger"), service("bank", "vault")]
}

fn payments() -> Workload {
    workload("bank", "payments")
}

#[track_caller]
fn of<'s>(snapshot: &'s Snapshot, host: &str) -> &'s Arc<Destination> {
    snapshot.destination(host, 80).unwrap()
}

/// The ids of the experiments for calls of `caller` to `host`.
fn ids(text: &str, caller: &Workload, host: &str) -> Vec<String> {
    let snapshot = compiled(text, caller);
    of(&snapshot, host).experiments.iter().map(|experiment| experiment.id.to_string()).collect()
}

fn one(text: &str) -> Arc<Experiment> {
    let snapshot = compiled(text, &payments());
    let experiments = Arc::clone(&of(&snapshot, "ledger:8080").experiments);
    assert_eq!(experiments.len(), 1, "{text}");
    experiments.first().map(Arc::clone).unwrap()
}

#[test]
fn what_is_left_out_has_its_default() {
    let found = one(&slow(""));
    assert_eq!(&*found.id, "bank/slow");
    assert_eq!(time::write(found.starts_at), "2026-11-30T12:00:00Z");
    assert_eq!(
        (found.duration, found.share_ppm, found.max_active),
        (Duration::from_secs(300), 1_000_000, 100)
    );
    assert_eq!((found.harm, found.pace), (None, None));
    assert!(found.fits(&MatchView { host: "", method: "GET", path: "/", route: None }, &HeaderMap::new()));
    let all = one(&slow("percentage: {value: 12.5}, maxActive: 10000, ports: [8080, 9090]"));
    assert_eq!((all.share_ppm, all.max_active), (125_000, 10_000));
}

#[test]
fn every_fault_is_compiled_to_what_it_says() {
    let (ms, bytes) = (Duration::from_millis, |n: u64| n.try_into().unwrap());
    let rows = [
        ("{delay: {fixed: 1ms}}", Some(DelayLength::Fixed(ms(1))), None, None),
        (
            "{delay: {uniform: {min: 1s, max: 3s}}, reset: {}}",
            Some(DelayLength::Uniform { min: ms(1000), max: ms(3000) }),
            Some(Harm::Reset),
            None,
        ),
        (
            "{delay: {exponential: {mean: 500ms, max: 1h}}, response: {drop: {}}}",
            Some(DelayLength::Exponential { mean: ms(500), max: ms(3_600_000) }),
            Some(Harm::Drop),
            None,
        ),
        ("{abort: {httpStatus: 503}}", None, Some(Harm::Abort(AbortAnswer::Http(503))), None),
        ("{abort: {grpcStatus: UNAVAILABLE}}", None, Some(Harm::Abort(AbortAnswer::Grpc(14))), None),
        (
            "{response: {truncate: {afterBytes: 0}, slow: {everyBytes: 1024, pause: 200ms}}}",
            None,
            Some(Harm::Truncate { after_bytes: 0 }),
            Some(Pace::Slow { every_bytes: bytes(1024), pause: ms(200) }),
        ),
        (
            "{response: {bandwidth: {bytesPerSecond: 10240}}}",
            None,
            None,
            Some(Pace::Bandwidth { bytes_per_second: bytes(10_240) }),
        ),
    ];
    for (fault, delay, harm, pace) in rows {
        let found = one(&slow(&format!("fault: {fault}")));
        assert_eq!((found.delay, found.harm, found.pace), (delay, harm, pace), "{fault}");
    }
}

#[test]
fn a_single_test_request_is_known_by_its_header() {
    let items = "match: [{methods: [POST], paths: ['/transfers/*'], headers: {X-Fault-Test: abc}}, {routes: [canary]}]";
    let found = one(&slow(items));
    let rows = [
        ("POST", "/transfers/1", Some("abc"), None, true),
        ("POST", "/transfers/1", Some("abd"), None, false),
        ("POST", "/transfers/1", None, None, false),
        ("GET", "/transfers/1", Some("abc"), None, false),
        ("POST", "/refunds/1", Some("abc"), None, false),
        ("GET", "/refunds/1", None, Some("bank/ledger/canary"), true),
        ("GET", "/refunds/1", None, Some("bank/ledger/other"), false),
    ];
    for (method, path, value, route, expected) in rows {
        let name = HeaderName::from_static("x-fault-test");
        let headers: HeaderMap = value.iter().map(|value| (name.clone(), value.parse().unwrap())).collect();
        let view = MatchView { host: "ledger.bank", method, path, route };
        assert_eq!(found.fits(&view, &headers), expected, "{method} {path} {value:?} {route:?}");
    }
    let alone = one(&slow("match: [{headers: {x-fault-test: abc}}]"));
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-fault-test"), "abc".parse().unwrap())]);
    let view = MatchView { host: "ledger.bank", method: "DELETE", path: "/", route: None };
    assert!(alone.fits(&view, &headers) && !alone.fits(&view, &HeaderMap::new()));
}

#[test]
fn it_is_for_the_callers_and_the_hosts_and_the_ports_that_it_names() {
    let rest = format!("hosts: [ledger.bank, ledger], {WHEN}, fault: {{reset: {{}}}}");
    let of =
        |namespace: &str, callers: &str| experiment(namespace, "x", &format!("callers: [{callers}], {rest}"));
    let (named, none): (&[&str], &[&str]) = (&["bank/x"], &[]);
    let rows = [
        (of("bank", "corp.example/ns/bank/sa/payments"), named),
        (of("bank", "'*'"), named),
        (of("bank", "'corp.example/ns/bank/sa/pay*'"), named),
        (of("bank", "'*/sa/payments'"), named),
        (of("bank", "cluster.local/ns/bank/sa/payments"), named),
        (of("bank", "corp.example/ns/bank/sa/other"), none),
        (of("bank", "other.example/ns/bank/sa/payments"), none),
        // Of another namespace, whatever it names.
        (of("shop", "'*'"), none),
        (of("palisade-system", "corp.example/ns/bank/sa/payments"), &["palisade-system/x"]),
    ];
    for (text, expected) in rows {
        assert_eq!(ids(&text, &payments(), "ledger:8080"), expected, "{text}");
        assert_eq!(ids(&text, &payments(), "vault:8080"), none, "another host: {text}");
    }
    assert_eq!(ids(&slow("ports: [8080]"), &payments(), "ledger:8080"), ["bank/slow"]);
    assert_eq!(ids(&slow("ports: [9090]"), &payments(), "ledger:8080"), none);
    assert_eq!(ids(&slow(""), &workload("bank", "ledger"), "vault:8080"), none, "it is another caller");
}

#[test]
fn several_come_in_the_order_of_their_ids_and_are_the_same_for_every_destination() {
    let text = slow("hosts: [ledger, vault]").replace("hosts: [ledger], ", "");
    let more = text.replace("name: slow", "name: a-first");
    let other = text
        .replace("namespace: bank", "namespace: palisade-system")
        .replace("hosts: [ledger, vault]", "hosts: [ledger.bank]");
    let snapshot = compiled(&(other + &text + &more), &payments());
    let listed: Vec<&str> = of(&snapshot, "ledger:8080").experiments.iter().map(|e| &*e.id).collect();
    assert_eq!(
        listed,
        ["bank/a-first", "bank/slow", "palisade-system/x"].map(|id| id.replace("/x", "/slow"))
    );
    let (ledger, vault) =
        (&of(&snapshot, "ledger:8080").experiments, &of(&snapshot, "vault:8080").experiments);
    assert!(ledger.iter().zip(vault.iter()).all(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn subsets_and_hosts_outside_are_meant_and_raw_tcp_is_not() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: l, namespace: bank}\n\
                spec: {host: ledger, subsets: [{name: v1, labels: {app: ledger}}]}\n";
    let snapshot = compiled(&(slow("") + rule), &payments());
    let ledger = of(&snapshot, "ledger:8080");
    assert_eq!(snapshot.subset(ledger, "v1").unwrap().experiments.len(), 1);
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: bank}\n\
                 spec: {hosts: [api.example], resolution: DNS, location: MESH_EXTERNAL, ports: [{number: 80, name: web, \
                 protocol: HTTP}, {number: 5432, name: sql, protocol: TCP}]}\n";
    let text = slow("").replace("hosts: [ledger]", "hosts: [api.example]") + entry;
    assert_eq!(ids(&text, &payments(), "api.example"), ["bank/slow"]);
    assert_eq!(ids(&text, &payments(), "api.example:5432"), [""; 0]);
}

/// A document, what the mesh says of faults, and the finding.
type Row = (String, &'static str, Option<(&'static str, &'static str)>);

#[test]
fn what_is_named_exactly_and_protected_or_too_long_is_refused() {
    let vault = slow("").replace("hosts: [ledger]", "hosts: [vault]");
    let any = slow("").replace("[corp.example/ns/bank/sa/payments]", "['*']");
    let outside = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: bank}\n\
                   spec: {hosts: [ledger], resolution: STATIC, location: MESH_INTERNAL, ports: [{number: 80, name: web, \
                   protocol: HTTP}], endpoints: [{address: 127.0.0.1, serviceAccount: vault}]}\n";
    let listed = outside.replace(
        "endpoints: [{address: 127.0.0.1, serviceAccount: vault}]",
        "endpoints: [{address: \
                 127.0.0.1}], subjectAltNames: ['spiffe://corp.example/ns/bank/sa/vault']",
    );
    let protected = |patterns: &str| mesh(&format!("protected: [{patterns}]"));
    let rows: [Row; 14] = [
        (slow(""), "maxDuration: 5m", None),
        (slow(""), "maxDuration: 299s", Some(("PAL2406", "spec.duration"))),
        (slow("").replace("duration: 5m", "duration: 61m"), "", Some(("PAL2406", "spec.duration"))),
        (slow("").replace("duration: 5m", "duration: 24h"), "maxDuration: 24h", None),
        (slow(""), "corp.example/ns/bank/sa/payments", Some(("PAL2407", "spec.callers[0]"))),
        (slow(""), "'*/sa/payments'", Some(("PAL2407", "spec.callers[0]"))),
        (slow(""), "cluster.local/ns/bank/sa/payments", Some(("PAL2407", "spec.callers[0]"))),
        (slow(""), "'corp.example/ns/shop/*'", None),
        (any.clone(), "corp.example/ns/bank/sa/payments", None),
        (any.clone(), "corp.example/ns/bank/sa/ledger", Some(("PAL2407", "spec.hosts[0]"))),
        (vault, "'corp.example/ns/bank/sa/vau*'", Some(("PAL2407", "spec.hosts[0]"))),
        (any.clone() + outside, "'*/ns/bank/sa/vault'", Some(("PAL2407", "spec.hosts[0]"))),
        (any.clone() + &listed, "'*/ns/bank/sa/vault'", Some(("PAL2407", "spec.hosts[0]"))),
        (any, "'*'", Some(("PAL2407", "spec.hosts[0]"))),
    ];
    for (text, faults, expected) in rows {
        let mesh =
            if faults.is_empty() || faults.contains("Duration") { mesh(faults) } else { protected(faults) };
        let found = findings(&(text.clone() + &mesh));
        let errors = found.0.iter().filter(|f| f.severity == Severity::Error);
        let errors: Vec<_> = errors.map(|f| (f.code, f.path.as_str())).collect();
        let first = errors.iter().find(|(code, _)| code.starts_with("PAL24")).copied();
        assert_eq!(first, expected, "{faults}: {text}{found:?}");
        assert_eq!(errors.is_empty(), expected.is_none(), "{faults}: {text}{found:?}");
    }
}

#[test]
fn the_limits_of_the_mesh_are_checked_themselves() {
    let rows = [
        ("maxDuration: 0s", "PAL1402", "protected: [\"*\"]"),
        ("maxDuration: 25h", "PAL1402", ""),
        ("maxDuration: long", "PAL0017", ""),
        ("protected: ['spiffe://corp.example/ns/vault/sa/vault']", "PAL1004", "without the scheme"),
        ("protected: [vault]", "PAL1016", "<trust-domain>/ns/"),
        ("protected: ['corp.example/ns/*/sa/vault']", "PAL1016", "at the start or at the end"),
        ("protect: ['*']", "PAL0008", "protected"),
    ];
    for (faults, code, help) in rows {
        refused(&mesh(faults), code, help);
    }
}

/// Objects whose set no `PolicySet::new` accepts: what a control plane of another version might send.
fn sent(text: &str, mesh_text: &str, caller: &Workload) -> Result<Vec<String>, Vec<&'static str>> {
    let (set, _) = parse_ok(text);
    let mut projection = project(&set, &joined(), caller);
    let (objects, _) = palisade_policy::document::parse(&[support::file(text)]);
    for object in objects {
        if let Spec::FaultExperiment(spec) = object.spec {
            projection.fault_experiments = vec![palisade_policy::kind::Named { meta: object.meta, spec }];
        }
    }
    projection.mesh = parse_ok(mesh_text).0.mesh();
    match Snapshot::compile(1, &projection) {
        Ok(snapshot) => {
            Ok(of(&snapshot, "ledger:8080").experiments.iter().map(|e| e.id.to_string()).collect())
        }
        Err(found) => Err(found.0.iter().map(|f| f.code).collect()),
    }
}

#[test]
fn a_proxy_leaves_out_what_the_mesh_gives_no_leave_for_whatever_it_is_sent() {
    let named = || Ok(vec!["bank/slow".to_owned()]);
    let none = || Ok(Vec::new());
    let rows = [
        ("", named()),
        ("maxDuration: 5m", named()),
        ("maxDuration: 1m", none()),
        ("protected: [corp.example/ns/bank/sa/payments]", none()),
        ("protected: ['*/sa/vault', '*/sa/ledger']", none()),
        ("protected: [corp.example/ns/bank/sa/ledger]", none()),
        ("protected: [cluster.local/ns/bank/sa/ledger]", none()),
        ("protected: [corp.example/ns/bank/sa/vault]", named()),
        ("protected: ['*']", none()),
    ];
    for (faults, expected) in rows {
        assert_eq!(sent(&slow(""), &mesh(faults), &payments()), expected, "{faults}");
    }
    assert_eq!(sent(&slow(""), "", &workload("bank", "other")), Err(vec!["PAL1017"]));
    assert_eq!(sent(&slow(""), "", &workload("shop", "payments")), Err(vec!["PAL1017"]));
}

#[test]
fn only_whom_it_is_for_is_told_of_it() {
    let told = |text: &str, caller: &Workload| {
        let set: PolicySet = parse_ok(text).0;
        project(&set, &joined(), caller).fault_experiments.len()
    };
    assert_eq!(told(&slow(""), &payments()), 1);
    assert_eq!(told(&slow(""), &workload("bank", "other")), 0);
    assert_eq!(told(&slow("").replace("hosts: [ledger]", "hosts: [nobody]"), &payments()), 0);
    let any = slow("").replace("[corp.example/ns/bank/sa/payments]", "['*']");
    assert_eq!(told(&any, &workload("bank", "other")), 1);
    assert_eq!(
        told(&(any + &mesh("protected: [corp.example/ns/bank/sa/other]")), &workload("bank", "other")),
        0
    );
}

#[test]
fn names_that_nobody_has_are_warned_of() {
    let (objects, found) = palisade_policy::document::parse(&[support::file(&slow(""))]);
    assert!(!found.has_errors());
    let known = ["ledger.bank".to_owned(), "payment.bank".to_owned()];
    let (_, warnings) = PolicySet::new(objects.clone(), &known).unwrap();
    let said: Vec<_> = warnings.0.iter().map(|f| (f.code, f.path.as_str(), f.help.as_deref())).collect();
    assert_eq!(said, [("PAL0107", "spec.callers[0]", Some("did you mean \"payment.bank\"?"))]);
    let (_, warnings) = PolicySet::new(objects, &["payments.bank".to_owned()]).unwrap();
    let said: Vec<_> = warnings.0.iter().map(|f| (f.code, f.path.as_str())).collect();
    assert_eq!(said, [("PAL0102", "spec.hosts[0]")]);
}
