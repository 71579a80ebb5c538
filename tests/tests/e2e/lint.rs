//! What documents lead to is said when they are applied, and refuses nothing.

use palisade_tests::World;

use crate::PALISADE;

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: mtls-strict, \
                      namespace: palisade-system}\nspec: {mtls: {mode: STRICT}}\n";
const DENY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no-reports, namespace: \
                    bank}\nspec: {action: DENY, rules: [{from: [{source: {namespaces: [reports]}}]}]}\n";

#[tokio::test]
async fn apply_warns_and_looks_at_all_that_is_in_force() {
    let world = World::start(PALISADE).await;
    let deny = world.write("deny.yaml", DENY);
    let alone = world.operator(&["apply", &deny]).await;
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert!(alone.stderr.contains("warning[PAL3103]: a caller in plaintext"), "{alone:?}");
    assert!(alone.stderr.contains("deny.yaml:4:"), "{alone:?}");
    assert!(alone.stdout.contains("created AuthorizationPolicy bank/no-reports"), "{alone:?}");

    let strict = world.write("strict.yaml", STRICT);
    let quiet = world.operator(&["apply", &strict]).await;
    assert!(quiet.code == Some(0) && quiet.stderr.is_empty(), "{quiet:?}");
    // Nothing changed in the file; what is in force beside it did.
    let again = world.operator(&["apply", "--dry-run", &deny]).await;
    assert!(again.code == Some(0) && again.stderr.is_empty(), "{again:?}");
}

#[tokio::test]
async fn what_lint_calls_an_error_is_applied_with_a_warning() {
    let world = World::start(PALISADE).await;
    let path = world.write(
        "edge.yaml",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: public, namespace: bank}\nspec: {selector: \
         {app: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\napiVersion: \
         networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: api, namespace: bank}\nspec: {hosts: ['*'], \
         gateways: [public], http: [{route: [{destination: {host: accounts}}]}]}\n",
    );
    let linted = world.palisade(&["lint", &path]).await;
    assert_eq!(linted.code, Some(2), "{linted:?}");
    assert!(linted.stderr.contains("error[PAL3001]"), "{linted:?}");
    let applied = world.operator(&["apply", "-o", "json", &path]).await;
    assert_eq!(applied.code, Some(0), "{applied:?}");
    let answer: serde_json::Value = serde_json::from_str(&applied.stdout).unwrap();
    let found = |f: &&serde_json::Value| f["code"] == "PAL3001" && f["severity"] == "warning";
    assert!(answer["findings"].as_array().unwrap().iter().any(|f| found(&f)), "{answer}");
}
