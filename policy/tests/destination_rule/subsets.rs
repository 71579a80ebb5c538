use std::sync::Arc;

use palisade_policy::compile::{Destination, Target, Transport};
use palisade_policy::document::parse;
use palisade_policy::traffic::Balance;
use palisade_policy::{Decision, PolicySet, Snapshot, projection};

use crate::support::{file, service, workload};
use crate::{find, payments, rule};

fn endpoints(destination: &Destination) -> Vec<(&str, u32)> {
    fn name(target: &Target) -> &str {
        match target {
            Target::Address { instance, .. } => instance,
            Target::Name { host, .. } => host,
        }
    }
    destination.endpoints.iter().map(|target| (name(target), target.weight())).collect()
}

const VERSIONS: &str = "subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}, \
                        {name: ledger, labels: {app: ledger}}, {name: all}]";

#[test]
fn a_subset_has_the_endpoints_with_all_of_its_labels() {
    let snapshot = payments(&rule("bank", "r", VERSIONS));
    let whole = find(&snapshot, "ledger");
    assert_eq!((whole.subset.as_deref(), &*whole.cluster), (None, "outbound|8080||ledger.bank"));
    let both = [("ledger-1", 1), ("ledger-2", 1)];
    assert_eq!(endpoints(whole), both);
    let v1 = snapshot.subset(whole, "v1").unwrap();
    assert_eq!((v1.subset.as_deref(), &*v1.cluster), (Some("v1"), "outbound|8080|v1|ledger.bank"));
    assert_eq!(endpoints(v1), [("ledger-1", 1)]);
    assert_eq!(endpoints(snapshot.subset(whole, "ledger").unwrap()), both);
    assert_eq!(endpoints(snapshot.subset(whole, "all").unwrap()), both);
    // Nobody is there now; that is another thing than a subset that nobody defined.
    assert!(endpoints(snapshot.subset(whole, "v3").unwrap()).is_empty());
    assert!(snapshot.subset(whole, "v2").is_none());
    assert!(snapshot.subset(v1, "v1").is_none());
    let names: Vec<_> = snapshot.subsets(whole).iter().filter_map(|s| s.subset.as_deref()).collect();
    assert_eq!(names, ["v1", "v3", "ledger", "all"]);
}

#[test]
fn a_subset_is_a_destination_that_the_workload_was_told_of_and_a_copy_of_it_is_not() {
    let text = rule("bank", "r", VERSIONS);
    let (ours, others) = (payments(&text), payments(&text));
    let of = |snapshot: &Snapshot| {
        let whole = find(snapshot, "ledger.bank.svc.cluster.local");
        Arc::clone(snapshot.subset(whole, "v1").unwrap())
    };
    let (v1, other) = (of(&ours), of(&others));
    assert!(matches!(ours.authorize_outbound(&v1), Decision::Allow { .. }));
    assert!(matches!(ours.authorize_outbound(&other), Decision::Refuse { .. }));
    assert!(ours.subset(find(&others, "ledger"), "v1").is_none());
}

#[test]
fn what_a_subset_says_takes_the_place_of_what_the_host_says_part_by_part() {
    let text = |subset: &str| {
        let subset = if subset.is_empty() { String::new() } else { format!(", trafficPolicy: {{{subset}}}") };
        rule(
            "bank",
            "r",
            &format!(
                "trafficPolicy: {{loadBalancer: {{simple: RANDOM}}, retryBudget: {{percent: 5}}, \
                 connectionPool: {{tcp: {{maxConnections: 7}}, http: {{http2MaxRequests: 8}}}}}}, \
                 subsets: [{{name: s{subset}}}]"
            ),
        )
    };
    let summary = |subset: &str| {
        let snapshot = payments(&text(subset));
        let traffic = &snapshot.subset(find(&snapshot, "ledger"), "s").unwrap().traffic;
        let pool = &traffic.pool;
        (traffic.balance.clone(), pool.max_connections, pool.max_requests, traffic.retry_budget.millipercent)
    };
    assert_eq!(summary(""), (Balance::Random, 7, 8, 5000));
    // A part is taken as a whole: the host's maxConnections do not come through.
    let pool = "connectionPool: {http: {http2MaxRequests: 9}}";
    assert_eq!(summary(pool), (Balance::Random, 1024, 9, 5000));
    assert_eq!(summary("retryBudget: {percent: 6}"), (Balance::Random, 7, 8, 6000));
    // Settings of a port stand in for all that the host says too, but for the budget.
    let port = format!("portLevelSettings: [{{port: {{number: 8080}}, {pool}}}]");
    assert_eq!(summary(&port), (Balance::LeastRequest, 1024, 9, 5000));
    let other_port = format!("portLevelSettings: [{{port: {{number: 9090}}, {pool}}}]");
    assert_eq!(summary(&other_port), (Balance::Random, 7, 8, 5000));
}

const ENTRY: &str = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                     metadata: {name: e, namespace: bank}\nspec: {hosts: [a.example], resolution: DNS, \
                     ports: [{number: 8080, name: http, protocol: HTTP}], endpoints: [\
                     {address: one.example, labels: {version: v1}, weight: 9}, \
                     {address: two.example, labels: {version: v1}, weight: 0}, \
                     {address: three.example, labels: {version: v2}}]}\n";

#[test]
fn an_endpoint_has_its_weight_and_one_of_weight_0_gets_nothing() {
    let snapshot =
        payments(&(ENTRY.to_owned() + &rule("bank", "r", &format!("host: a.example, {VERSIONS}"))));
    let whole = find(&snapshot, "a.example");
    assert_eq!(endpoints(whole), [("one.example", 9), ("three.example", 1)]);
    assert_eq!(endpoints(snapshot.subset(whole, "v1").unwrap()), [("one.example", 9)]);
}

#[test]
fn a_subset_may_be_reached_otherwise_than_its_host() {
    let spec = "host: a.example, trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: same}, \
                {name: old, labels: {version: v1}, trafficPolicy: {tls: {mode: DISABLE}}}]";
    let snapshot = payments(&(ENTRY.to_owned() + &rule("bank", "r", spec)));
    let whole = find(&snapshot, "a.example");
    assert!(matches!(whole.transport, Transport::Tls { .. }));
    assert!(matches!(snapshot.subset(whole, "same").unwrap().transport, Transport::Tls { .. }));
    assert_eq!(snapshot.subset(whole, "old").unwrap().transport, Transport::Plaintext);
}

#[test]
fn no_subset_leads_to_a_registered_service_in_plaintext() {
    let text = rule("bank", "r", "subsets: [{name: s, trafficPolicy: {tls: {mode: DISABLE}}}]");
    let (objects, _) = parse(&[file(&text)]);
    let refused = PolicySet::new(objects.clone(), &["ledger.bank".into()]).unwrap_err();
    assert!(refused.0.iter().any(|finding| finding.code == "PAL1302"), "{refused}");
    // A control plane that let it pass changes nothing.
    let (set, _) = PolicySet::new(objects, &[]).unwrap();
    let services = [service("bank", "ledger")];
    let told = projection::project(&set, &services, &workload("bank", "payments"));
    let snapshot = Snapshot::compile(1, &told).unwrap();
    let subset = snapshot.subset(find(&snapshot, "ledger"), "s").unwrap();
    assert!(matches!(subset.transport, Transport::Mesh { .. }));
}
