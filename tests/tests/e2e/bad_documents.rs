//! Documents that cannot be applied: each is refused with what, where and what to do, and nothing changes.

use palisade_tests::World;

use crate::PALISADE;
use crate::fleet::{ALLOW_WEB, assert_refused};

/// name, document, words that must be said
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "unknown kind",
        "apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\nmetadata: {name: a, namespace: b}\nspec: {}\n",
        &["bad.yaml:2", "AuthorisationPolicy", "AuthorizationPolicy"],
    ),
    (
        "unknown field",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: b}\nspec:\n  action: DENY\n  rule: []\n",
        &["bad.yaml:6", "rule", "rules"],
    ),
    (
        "unknown enum value",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: b}\nspec: {mtls: {mode: STRCIT}}\n",
        &["bad.yaml:4", "STRCIT", "STRICT"],
    ),
    (
        "unknown condition key",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: b}\nspec: {rules: [{when: [{key: source.princpal, values: [x]}]}]}\n",
        &["bad.yaml:4", "source.princpal"],
    ),
    (
        "two documents with one name",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: same, namespace: b}\nspec: {}\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: same, namespace: b}\nspec: {}\n",
        &["bad.yaml", "same"],
    ),
    ("not YAML", "kind: [unclosed\n  : : {\n", &["bad.yaml"]),
    ("binary", "\u{0}\u{1}\u{2}PK\u{3}\u{4}", &["bad.yaml"]),
    ("a text", "just words\n", &["bad.yaml"]),
    (
        "no workload's principal",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: b}\nspec: {hosts: ['x y'], ports: [{number: 1, name: a, protocol: HTTP}]}\n",
        &["bad.yaml:4", "x y"],
    ),
];

#[tokio::test]
async fn each_is_refused_with_its_place_and_nothing_is_applied() {
    let world = World::start(PALISADE).await;
    for (name, text, words) in REFUSED {
        let path = world.write("bad.yaml", &format!("{text}---{ALLOW_WEB}"));
        let done = world.operator(&["apply", &path]).await;
        eprintln!("--- {name}\n{}{}", done.stdout, done.stderr);
        assert_refused(&done, 2, words);
        let linted = world.palisade(&["lint", &path]).await;
        assert_refused(&linted, 2, words);
    }
    let left = world.operator(&["get"]).await;
    assert!(!left.stdout.contains("web-calls-ledger"), "{left:?}");
}

#[tokio::test]
async fn all_findings_of_all_files_are_told_at_once() {
    let world = World::start(PALISADE).await;
    let one = world.write("one.yaml", REFUSED[0].1);
    let two = world.write("two.yaml", REFUSED[2].1);
    let done = world.operator(&["apply", &one, &two]).await;
    assert_refused(&done, 2, &["one.yaml:2", "AuthorisationPolicy", "two.yaml:4", "STRCIT"]);
}

#[tokio::test]
async fn a_policy_that_names_an_unknown_service_is_applied_with_a_warning() {
    let world = World::start(PALISADE).await;
    let _published = world.publish(&world.join("payments/web").await, "127.0.0.1:1001").await;
    let path = world.write("policy.yaml", &ALLOW_WEB.replace("sa/web]", "sa/wbe]"));
    let done = world.operator(&["apply", &path, "--wait", "0s"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(
        said.contains("warning") && said.contains("wbe.payments") && said.contains("did you mean"),
        "{said}"
    );
    let got = world.operator(&["get", "AuthorizationPolicy", "web-calls-ledger", "-n", "payments"]).await;
    assert!(got.stdout.contains("web-calls-ledger"), "{got:?}");
}

#[tokio::test]
async fn a_yaml_bomb_and_a_file_of_ten_megabytes_are_refused_at_once() {
    let world = World::start(PALISADE).await;
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, of) in ('b'..='z').zip('a'..) {
        bomb.push_str(&format!("{name}: &{name} [*{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}, *{of}]\n"));
    }
    let deep = format!("a: {}", "[".repeat(100_000));
    let large = format!("# {}\n{ALLOW_WEB}", "x".repeat(10 * 1024 * 1024));
    for (name, text) in [("bomb.yaml", bomb), ("deep.yaml", deep), ("large.yaml", large)] {
        let path = world.write(name, &text);
        for done in [world.palisade(&["lint", &path]).await, world.operator(&["apply", &path]).await] {
            assert_refused(&done, 2, &[name]);
            assert!(done.stdout.len() + done.stderr.len() < 16 * 1024, "{name}: too much is said");
        }
    }
    // The control plane is as it was.
    world.apply(ALLOW_WEB).await;
}

#[tokio::test]
async fn the_control_plane_bounds_what_an_operators_own_client_sends() {
    let world = World::start(PALISADE).await;
    let mut admin = world.admin().await;
    let request = |text: String| palisade_proto::v1::ApplyRequest {
        files: vec![palisade_proto::v1::SourceFile { name: "own.yaml".into(), text }],
        ..Default::default()
    };
    let huge = admin.apply(request("x".repeat(20 * 1024 * 1024))).await.unwrap_err();
    assert!(matches!(huge.code(), tonic::Code::OutOfRange | tonic::Code::ResourceExhausted), "{huge:?}");
    let mut admin = world.admin().await;
    let deep = admin.apply(request(format!("a: {}", "[".repeat(100_000)))).await.unwrap().into_inner();
    assert!(deep.findings.iter().any(|finding| finding.severity == "error"), "{deep:?}");
    world.apply(ALLOW_WEB).await;
}
