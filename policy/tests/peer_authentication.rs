//! PeerAuthentication: the narrowest object that says something counts.

mod support;

use palisade_policy::kind::peer_authentication::MtlsMode::{self, Disable, Permissive, Strict};
use support::{parse_ok, snapshot, workload};

fn object(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

#[track_caller]
fn check(objects: &[&String], port: u16, expected: MtlsMode) {
    let (set, _) = parse_ok(&objects.iter().map(|o| o.as_str()).collect::<String>());
    let ledger = snapshot(&set, &[], &workload("bank", "ledger"));
    assert_eq!(ledger.mtls_mode(port), expected, "{objects:?}");
}

#[test]
fn port_then_workload_then_namespace_then_root_then_permissive() {
    let root = object("root", "palisade-system", "mtls: {mode: STRICT}");
    let namespace = object("ns", "bank", "mtls: {mode: DISABLE}");
    let ledger = "selector: {matchLabels: {app: ledger}}";
    let own = object("own", "bank", &format!("{ledger}, mtls: {{mode: PERMISSIVE}}"));
    let ports = object("ports", "bank", &format!("{ledger}, portLevelMtls: {{'9090': {{mode: DISABLE}}}}"));
    check(&[], 8080, Permissive);
    check(&[&root], 8080, Strict);
    check(&[&root, &namespace], 8080, Disable);
    check(&[&root, &namespace, &own], 8080, Permissive);
    check(&[&root, &ports], 8080, Strict);
    check(&[&root, &ports], 9090, Disable);
    check(&[&root, &object("u", "bank", "mtls: {mode: UNSET}")], 8080, Strict);
    check(&[&root, &object("other", "other", "mtls: {mode: DISABLE}")], 8080, Strict);
    let stricter = object("own2", "bank", &format!("{ledger}, mtls: {{mode: STRICT}}"));
    check(&[&own, &stricter], 8080, Strict);
}
