//! Routes of sidecars: whose requests take them, and where they lead.

use std::collections::BTreeMap;

use palisade_policy::projection::project;
use palisade_policy::{MeshService, PolicySet, ServicePort, Severity, Snapshot, Workload};

use super::support::{file, findings, parse_ok, service, snapshot, workload};
use super::{GATEWAY, edge, forward, get, virtual_service};

/// Routes of a namespace for calls of a host, which lead to `to`.
fn calls(namespace: &str, name: &str, host: &str, to: &str) -> String {
    let spec = format!("{{hosts: [{host}], http: [{{route: [{{destination: {{host: {to}}}}}]}}]}}");
    virtual_service(namespace, name, &spec)
}

fn services() -> Vec<MeshService> {
    vec![service("bank", "accounts"), service("bank", "ledger"), service("shop", "cards")]
}

/// What the sidecar of a caller makes of these documents.
#[track_caller]
fn sidecar(text: &str, namespace: &str, account: &str) -> Snapshot {
    snapshot(&parse_ok(text).0, &services(), &workload(namespace, account))
}

/// Where the route of a request leads.
fn leads_to(snapshot: &Snapshot, authority: &str) -> Option<String> {
    let destination = snapshot.destination(authority, 80)?;
    let table = snapshot.mesh_routes(destination)?;
    let target = forward(table.routes().next()?).choose(0)?.destination.clone()?;
    Some(format!("{}:{}", target.host, target.port))
}

#[test]
fn every_name_and_port_of_a_host_takes_its_routes_and_other_hosts_take_none() {
    let snapshot = sidecar(&calls("bank", "v", "ledger", "accounts"), "bank", "payments");
    for authority in
        ["ledger:8080", "LEDGER.bank:8080", "ledger.bank.svc:8080", "ledger.bank.svc.cluster.local.:8080"]
    {
        assert_eq!(leads_to(&snapshot, authority).as_deref(), Some("accounts.bank:8080"), "{authority}");
    }
    assert_eq!(leads_to(&snapshot, "accounts:8080"), None);
    assert_eq!(leads_to(&snapshot, "cards.shop:8080"), None);
}

#[test]
fn gateways_absent_or_mesh_means_sidecars() {
    let with = |gateways: &str| {
        let spec =
            format!("{{hosts: [ledger], {gateways} http: [{{route: [{{destination: {{host: ledger}}}}]}}]}}");
        GATEWAY.to_owned() + &virtual_service("bank", "v", &spec)
    };
    let rows = [
        ("", true, false),
        ("gateways: [mesh],", true, false),
        ("gateways: [mesh, public],", true, true),
        ("gateways: [public],", false, true),
    ];
    for (gateways, at_sidecars, at_edge) in rows {
        let text = with(gateways);
        let called = get("/").called(&sidecar(&text, "bank", "payments"), "ledger:8080");
        let served = get("/").authority("ledger").route(&edge(&text));
        assert_eq!((called.is_some(), served.is_some()), (at_sidecars, at_edge), "{gateways}");
    }
}

/// ISTIO-SECURITY-2026-002: a namespace took what others send to the service of a third one.
#[test]
fn a_namespace_routes_calls_of_its_own_and_of_its_own_hosts_alone() {
    let of = |namespace: &str| calls(namespace, "v", "ledger.bank", "cards.shop");
    let rows = [
        // Of the host's namespace: every caller.
        ("bank", "bank", true),
        ("bank", "shop", true),
        // Of another one: its own callers.
        ("shop", "shop", true),
        ("shop", "bank", false),
        ("shop", "other", false),
        ("palisade-system", "other", true),
    ];
    for (owner, caller, routed) in rows {
        let led = leads_to(&sidecar(&of(owner), caller, "payments"), "ledger.bank:8080");
        assert_eq!(led.is_some(), routed, "routes of {owner}, calls of {caller}");
    }
    let told = |caller: &str| {
        let (set, _) = parse_ok(&of("shop"));
        project(&set, &services(), &workload(caller, "payments")).virtual_services.len()
    };
    assert_eq!((told("shop"), told("bank")), (1, 0));
}

#[test]
fn the_callers_namespace_goes_before_the_hosts_and_that_before_the_root() {
    let of = |namespace: &str, to: &str| calls(namespace, "v", "ledger.bank", to);
    let (caller, host, root) =
        (of("shop", "cards.shop"), of("bank", "accounts.bank"), of("palisade-system", "ledger.bank"));
    let rows = [
        (format!("{root}{host}{caller}"), "cards.shop:8080"),
        (format!("{caller}{host}{root}"), "cards.shop:8080"),
        (format!("{root}{host}"), "accounts.bank:8080"),
        (root, "ledger.bank:8080"),
    ];
    for (text, led) in rows {
        assert_eq!(leads_to(&sidecar(&text, "shop", "till"), "ledger.bank:8080").as_deref(), Some(led));
    }
}

#[test]
fn export_to_keeps_routes_within_their_namespace() {
    let text = calls("bank", "v", "ledger", "accounts").replace("{hosts", "{exportTo: ['.'], hosts");
    assert!(leads_to(&sidecar(&text, "bank", "payments"), "ledger.bank:8080").is_some());
    assert_eq!(leads_to(&sidecar(&text, "shop", "till"), "ledger.bank:8080"), None);
    let bound = virtual_service(
        "shop",
        "v",
        "{exportTo: ['.'], hosts: [a.example], gateways: [bank/public], http: [{directResponse: {status: 200}}]}",
    );
    let codes: Vec<_> = findings(&format!("{GATEWAY}{bound}")).0.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["PAL1206"]);
}

#[test]
fn who_calls_is_matched_by_namespace_and_labels_of_the_caller() {
    let answer = |name: &str, item: &str| {
        format!("{{name: {name}, match: [{item}], directResponse: {{status: 200}}}}")
    };
    let http = [
        answer("shop", "{sourceNamespace: shop}"),
        answer("labelled", "{sourceLabels: {app: payments}, uri: {prefix: /a}}, {sourceLabels: {app: none}}"),
        answer("rest", "{uri: {prefix: /}}"),
    ];
    let text = virtual_service("bank", "v", &format!("{{hosts: [ledger], http: [{}]}}", http.join(", ")));
    let rows = [
        ("shop", "payments", "/a", "shop"),
        ("bank", "payments", "/a", "labelled"),
        ("bank", "payments", "/b", "rest"),
        ("bank", "accounts", "/a", "rest"),
    ];
    for (namespace, account, path, name) in rows {
        let called = get(path).called(&sidecar(&text, namespace, account), "ledger.bank:8080");
        assert_eq!(called, Some(format!("bank/v/{name}")), "{namespace}/{account} {path}");
    }
}

/// A route of which no item is left would be for every request.
#[test]
fn a_route_for_other_callers_is_no_route_at_all() {
    let text = virtual_service(
        "bank",
        "v",
        "{hosts: [ledger], http: [{match: [{sourceNamespace: shop}], directResponse: {status: 200}}]}",
    );
    let snapshot = sidecar(&text, "bank", "payments");
    assert!(snapshot.mesh_routes(snapshot.destination("ledger:8080", 80).unwrap()).is_some());
    assert_eq!(get("/").called(&snapshot, "ledger:8080"), None);
}

#[test]
fn items_may_be_for_some_of_the_gateways() {
    let answer = |name: &str, item: &str| {
        format!("{{name: {name}, match: [{item}], directResponse: {{status: 200}}}}")
    };
    let http = [
        answer("inside", "{gateways: [mesh], uri: {prefix: /a}}"),
        answer("outside", "{gateways: [public], uri: {prefix: /a}}"),
        answer("both", "{uri: {prefix: /a}}"),
    ];
    let spec = format!("{{hosts: [ledger], gateways: [mesh, public], http: [{}]}}", http.join(", "));
    let text = GATEWAY.to_owned() + &virtual_service("bank", "v", &spec);
    let at_edge = get("/a").authority("ledger").name(&edge(&text));
    assert_eq!(at_edge.as_deref(), Some("outside"));
    let called = get("/a").called(&sidecar(&text, "bank", "payments"), "ledger:8080");
    assert_eq!(called.as_deref(), Some("bank/v/inside"));
}

#[test]
fn the_port_is_the_services_and_a_destination_without_one_means_that_one() {
    let mut both = service("bank", "ledger");
    both.ports.push(ServicePort { number: 9090, name: "more".into(), ..both.ports[0].clone() });
    let http = "{name: more, match: [{port: 9090}], directResponse: {status: 200}}, \
                {name: rest, route: [{destination: {host: ledger}}]}";
    let text = virtual_service("bank", "v", &format!("{{hosts: [ledger], http: [{http}]}}"));
    let snapshot = snapshot(&parse_ok(&text).0, &[both], &workload("bank", "payments"));
    assert_eq!(get("/").called(&snapshot, "ledger:9090").as_deref(), Some("bank/v/more"));
    assert_eq!(get("/").called(&snapshot, "ledger:8080").as_deref(), Some("bank/v/rest"));
    for port in [8080, 9090] {
        let destination = snapshot.destination(&format!("ledger:{port}"), 80).unwrap();
        let table = snapshot.mesh_routes(destination).unwrap();
        let target = forward(table.routes().nth(1).unwrap()).choose(0).unwrap();
        assert_eq!(target.destination.as_ref().unwrap().port, port);
    }
}

#[test]
fn a_subset_is_one_of_the_rule_for_the_host_and_without_one_it_is_nothing() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: r, namespace: bank}\nspec: {host: ledger, subsets: [{name: v1, labels: {version: v1}}, {name: all}]}\n";
    let to = |subset: &str| calls("bank", "v", "ledger", &format!("ledger, subset: {subset}"));
    for (documents, found) in [
        (rule.to_owned() + &to("all"), Some((Some("all"), 1))),
        (rule.to_owned() + &to("v1"), Some((Some("v1"), 0))),
        (rule.to_owned() + &to("v2"), None),
        (to("all"), None),
    ] {
        let snapshot = sidecar(&documents, "bank", "payments");
        let table = snapshot.mesh_routes(snapshot.destination("ledger:8080", 80).unwrap()).unwrap();
        let target = forward(table.routes().next().unwrap()).choose(0).unwrap();
        let led = target.destination.as_ref().map(|d| (d.subset.as_deref(), d.endpoints.len()));
        assert_eq!(led, found, "{documents}");
        // A subset has no routes of its own: it is not called by a name.
        assert!(target.destination.as_ref().is_none_or(|d| snapshot.mesh_routes(d).is_none()));
    }
}

#[test]
fn a_destination_that_the_caller_may_not_know_is_none() {
    let deny = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: {name: d, namespace: shop}\nspec: {action: DENY, rules: [{}]}\n";
    let text = calls("bank", "v", "ledger", "cards.shop") + deny;
    let snapshot = sidecar(&text, "bank", "payments");
    let destination = snapshot.destination("ledger:8080", 80).unwrap();
    let table = snapshot.mesh_routes(destination).unwrap();
    assert!(forward(table.routes().next().unwrap()).choose(0).unwrap().destination.is_none());
}

#[test]
fn hosts_outside_the_mesh_belong_to_the_namespace_of_their_entry() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: psp, namespace: bank}\n\
                 spec: {hosts: [psp.example], location: MESH_EXTERNAL, resolution: DNS, \
                 ports: [{number: 443, name: h, protocol: HTTPS}]}\n";
    let text = |owner: &str| entry.to_owned() + &calls(owner, "v", "psp.example", "psp.example");
    let led = |owner: &str, caller: &str| {
        leads_to(&sidecar(&text(owner), caller, "payments"), "psp.example:443").is_some()
    };
    assert!(led("bank", "shop"));
    assert!(led("shop", "shop"));
    assert!(!led("example", "shop"), "the last label of a name outside is no namespace");
}

#[test]
fn two_objects_of_one_namespace_cannot_have_one_host() {
    let codes = |text: String| findings(&text).0.iter().map(|f| f.code).collect::<Vec<_>>();
    let both = |other: String| codes(calls("bank", "a", "ledger", "ledger") + &other);
    assert_eq!(both(calls("bank", "b", "ledger.bank.svc", "ledger")), ["PAL0103"]);
    assert!(both(calls("shop", "b", "ledger.bank", "ledger.bank")).is_empty());
    assert!(both(calls("bank", "b", "accounts", "ledger")).is_empty());
    let at_gateway = virtual_service(
        "bank",
        "b",
        "{hosts: [ledger], gateways: [public], http: [{directResponse: {status: 200}}]}",
    );
    assert!(both(GATEWAY.to_owned() + &at_gateway).is_empty());
}

#[test]
fn what_concerns_fewer_calls_than_it_seems_to_is_said() {
    let said = |text: &str| {
        let (objects, findings) = palisade_policy::document::parse(&[file(text)]);
        assert!(!findings.has_errors(), "{findings:?}");
        let known = ["ledger.bank".to_owned(), "cards.shop".to_owned()];
        let (_, findings) = PolicySet::new(objects, &known).unwrap();
        findings.0.into_iter().map(|f| (f.code, f.severity, f.help)).collect::<Vec<_>>()
    };
    assert_eq!(said(&calls("bank", "v", "ledger", "ledger")), []);
    assert_eq!(said(&calls("palisade-system", "v", "ledger.bank", "ledger.bank")), []);
    let others = said(&calls("shop", "v", "ledger.bank", "ledger.bank"));
    assert_eq!((others[0].0, others[0].1, others.len()), ("PAL1716", Severity::Note, 1));
    let typo = said(&calls("bank", "v", "ledgre", "ledger"));
    assert_eq!((typo[0].0, typo[0].1, typo.len()), ("PAL0102", Severity::Warning, 1));
    assert_eq!(typo[0].2.as_deref(), Some("did you mean \"ledger.bank\"?"));
    // Served at a Gateway, a host need be no service's.
    let both =
        "{hosts: [ledger, api.example], gateways: [mesh, public], http: [{directResponse: {status: 200}}]}";
    assert_eq!(said(&(GATEWAY.to_owned() + &virtual_service("bank", "v", both))), []);
}

/// The application is not to be kept from what its own sidecar goes by.
#[test]
fn headers_that_routes_of_sidecars_go_by_are_none_that_callers_are_judged_by() {
    let spec = "{hosts: [ledger], gateways: [GW], http: [{match: [{headers: {x-a: {}}}], \
                directResponse: {status: 200}}]}";
    let judged = |gateways: &str, account: &str| {
        let text = GATEWAY.to_owned() + &virtual_service("bank", "v", &spec.replace("GW", gateways));
        sidecar(&text, "bank", account).judged_headers().asks_any()
    };
    assert!(!judged("mesh", "payments"));
    assert!(!judged("'mesh', public", "payments"));
    assert!(judged("public", "edge"));
}

#[test]
fn labels_of_callers_are_matched_whole() {
    let text = virtual_service(
        "bank",
        "v",
        "{hosts: [ledger], http: [{match: [{sourceLabels: {app: payments, version: v2}}], directResponse: {status: 200}}]}",
    );
    let mut caller = workload("bank", "payments");
    let called = |caller: &Workload| {
        let snapshot = snapshot(&parse_ok(&text).0, &services(), caller);
        get("/").called(&snapshot, "ledger:8080").is_some()
    };
    assert!(!called(&caller));
    caller.labels.extend(BTreeMap::from([("version".to_owned(), "v2".to_owned())]));
    assert!(called(&caller));
}
