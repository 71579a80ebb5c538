//! From text to decision in one go, as the control plane and the sidecar do it.

mod support;

use palisade_policy::decision::{Decision, Grant, Refusal};
use palisade_policy::kind::peer_authentication::MtlsMode;
use support::{Ask, parse_ok, service, snapshot, workload};

const POLICIES: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: default-deny, namespace: palisade-system}
spec: {}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mtls-strict, namespace: palisade-system}
spec:
  mtls: {mode: STRICT}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ledger-callers, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - from:
    - source: {principals: ["corp.example/ns/bank/sa/payments"]}
    to:
    - operation: {methods: [GET, POST], paths: ["/v1/*"]}
"#;

#[test]
fn payments_may_call_the_ledger_and_nobody_else_may() {
    let (set, _) = parse_ok(POLICIES);
    let ledger = snapshot(&set, &[], &workload("bank", "ledger"));
    let ask = Ask::new().path("/v1/entries").peer("corp.example/ns/bank/sa/payments");
    let Decision::Allow { grant: Grant::Rule(rule), .. } = ask.of(&ledger) else { panic!("refused") };
    assert_eq!(rule.envoy_name(), "ns[bank]-policy[ledger-callers]-rule[0]");

    let refusal = |ask: &Ask| match ask.of(&ledger) {
        Decision::Refuse { refusal } => refusal,
        Decision::Allow { .. } => panic!("allowed"),
    };
    assert_eq!(refusal(&ask.clone().method("DELETE")), Refusal::NoAllowMatched);
    assert_eq!(refusal(&ask.clone().path("/admin")), Refusal::NoAllowMatched);
    assert_eq!(refusal(&ask.clone().peer("corp.example/ns/bank/sa/notifications")), Refusal::NoAllowMatched);
    assert_eq!(refusal(&ask.clone().peer("corp.example.evil/ns/bank/sa/payments")), Refusal::NoAllowMatched);
    assert_eq!(refusal(&ask.plaintext()), Refusal::PlaintextRefused);
    assert_eq!(ledger.mtls_mode(8080), MtlsMode::Strict);
}

#[test]
fn a_workload_is_told_of_its_namespace_and_of_who_may_let_it_in() {
    let (set, _) = parse_ok(POLICIES);
    let services = [service("bank", "ledger"), service("other", "reports")];
    let payments = snapshot(&set, &services, &workload("bank", "payments"));
    for name in ["ledger", "ledger.bank", "LEDGER.bank.", "ledger.bank.svc.cluster.local"] {
        let destination = payments.destination(name, 8080).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(&*destination.host, "ledger.bank");
        assert!(matches!(payments.authorize_outbound(destination), Decision::Allow { .. }));
    }
    assert!(payments.destination("ledger.bank:8080", 80).is_some());
    assert!(payments.destination("ledger.bank", 80).is_none());
    assert!(payments.destination("reports.other", 8080).is_none());
    assert!(payments.destination("reports", 8080).is_none());
    let elsewhere = snapshot(&set, &services, &workload("other", "reports"));
    assert!(elsewhere.destination("ledger", 8080).is_none());
    let foreign = payments.destination("ledger", 8080).unwrap();
    assert!(matches!(elsewhere.authorize_outbound(foreign), Decision::Refuse { .. }));
}
