//! Explanations: that they agree with what decides, and what they say.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use palisade_policy::explain::{Explanation, GivenToken, Mesh, Question, Role, Stage, TracedRule, explain};
use palisade_policy::{Decision, PolicySet, Workload};
use proptest::prelude::*;
use support::arbitrary::{request, set};
use support::{parse_ok, snapshot, workload};

const LEDGER: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: default-deny, namespace: palisade-system}
spec: {}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mtls-strict, namespace: palisade-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ledger, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - from: [{source: {principals: [corp.example/ns/bank/sa/payments]}}]
    to:
    - operation: {methods: [GET, POST], paths: [/entries, '/v1/{*}/entries']}
    - operation: {methods: [HEAD]}
  - from: [{source: {principals: [corp.example/ns/bank/sa/accounts]}}]
    to: [{operation: {methods: [GET], paths: ['/balances/*']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  action: DENY
  rules:
  - to: [{operation: {paths: ['/admin*'], notHosts: [admin.bank]}}]
";

fn ask(set: &PolicySet, caller: Option<&str>, change: impl FnOnce(&mut Question)) -> Explanation {
    let mesh = Mesh::new(set, None).unwrap();
    let target = mesh.target(&workload("bank", "ledger")).unwrap();
    let id = caller.map(|name| mesh.identity(name, Some("bank")).unwrap());
    let caller = id.clone().map(|id| mesh.workload(id, [].into()));
    let mut question = Question::new(id, 8080);
    change(&mut question);
    explain(&mesh, &target, caller.as_ref(), &question).unwrap()
}

fn of(caller: &str, method: &str, path: &str) -> Explanation {
    ask(&parse_ok(LEDGER).0, Some(caller), |q| (q.method, q.path) = (method.into(), path.into()))
}

#[test]
fn an_allowed_request_is_told_the_rule_that_let_it_in_and_where_it_is_written() {
    let told = of("payments", "POST", "/v1/7/entries?x=1");
    let rule = told.rule.unwrap();
    assert!(told.allowed);
    assert_eq!((told.reason.as_str(), rule.policy.as_str(), rule.rule), ("rule", "ledger", Some(0)));
    assert_eq!(rule.position.map(|p| (p.line, p.column)), Some((17, 5)));
    let paths: Vec<_> = told.asked.iter().filter(|a| a.field == "path").map(|a| a.wanted.as_str()).collect();
    assert_eq!(paths, ["/entries or /v1/{*}/entries"]);
}

#[test]
fn that_the_callers_own_routes_may_lead_elsewhere_is_noted() {
    let routes = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: bank}\n\
                  spec: {hosts: [ledger], http: [{route: [{destination: {host: other}}]}]}\n";
    let notes = |text: &str, tcp: bool| {
        ask(&parse_ok(text).0, Some("payments"), |q| (q.path, q.tcp) = ("/entries".into(), tcp)).notes
    };
    let routed = notes(&format!("{LEDGER}{routes}"), false);
    assert!(routed.iter().any(|note| note.contains("routes of VirtualService bank/v")), "{routed:?}");
    let none = |notes: Vec<String>| assert!(!notes.iter().any(|note| note.contains("VirtualService")));
    none(notes(LEDGER, false));
    none(notes(&format!("{LEDGER}{routes}"), true));
}

#[test]
fn a_refused_request_is_told_what_it_lacks_by_the_nearest_rule() {
    let told = of("payments", "DELETE", "/entries");
    assert_eq!((told.allowed, told.reason.as_str()), (false, "no_allow_matched"));
    let nearest = &told.nearest[0];
    assert_eq!((nearest.rule.policy.as_str(), nearest.rule.rule), ("ledger", Some(0)));
    let lack = &nearest.lacks[0];
    assert_eq!(
        (nearest.lacks.len(), lack.field.as_str(), lack.wanted.as_str()),
        (1, "method", "GET or POST")
    );
    assert_eq!(lack.got.as_deref(), Some("DELETE"));
}

#[test]
fn among_equals_the_rule_about_this_caller_is_told() {
    let told = of("payments", "GET", "/balances/7");
    let rules: Vec<_> =
        told.nearest.iter().map(|miss| (miss.rule.rule, miss.lacks[0].field.as_str())).collect();
    assert_eq!(rules, [(Some(0), "path")]);
    let told = of("edge", "GET", "/balances/7");
    assert_eq!((told.nearest[0].rule.rule, told.nearest[0].lacks[0].field.as_str()), (Some(1), "caller"));
}

#[test]
fn a_denied_request_is_told_the_deny_rule_and_what_matched() {
    let told = of("payments", "GET", "/x/../admin");
    assert_eq!((told.reason.as_str(), told.path.as_deref()), ("denied_by_rule", Some("/admin")));
    assert_eq!(told.rule.unwrap().policy, "no-admin");
    assert!(told.asked.iter().all(|asked| asked.holds));
    assert!(told.asked.iter().any(|asked| asked.wanted == "anything but admin.bank"), "{:?}", told.asked);
}

#[test]
fn what_comes_before_authorization_is_told() {
    let (set, _) = parse_ok(LEDGER);
    let plaintext = ask(&set, None, |_| {});
    assert_eq!((plaintext.stage, plaintext.reason.as_str()), (Stage::Plaintext, "plaintext_refused"));
    assert!(plaintext.why.contains("palisade-system/mtls-strict"), "{}", plaintext.why);
    let ambiguous = of("payments", "GET", "/entries%2fx");
    assert_eq!((ambiguous.stage, ambiguous.path), (Stage::Path, None));
    let stranger = ask(&set, Some("other/reports"), |_| {});
    assert_eq!((stranger.stage, stranger.reason.as_str()), (Stage::Destination, "unknown_destination"));
    let token = ask(&set, Some("payments"), |q| q.token = GivenToken::Invalid);
    assert!(token.notes.iter().any(|note| note.contains("tokens are not read")), "{:?}", token.notes);
}

const USERS: &str = "
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: users, namespace: bank}
spec:
  jwtRules:
  - {issuer: https://auth.example, audiences: [bank], jwksUri: https://auth.example/jwks, outputClaimToHeaders: [{header: x-user, claim: sub}]}
---
apiVersion: palisade.mesh/v1
kind: JwtPolicy
metadata: {name: users, namespace: bank}
spec:
  rules:
  - {name: all, access: token, scopes: [ledger]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clerks, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - when:
    - {key: 'request.auth.claims[role]', values: [clerk]}
    - {key: 'request.headers[x-user]', values: [alice]}
";

#[test]
fn tokens_are_judged_as_sidecars_judge_them_but_for_their_signature() {
    let set = parse_ok(&format!("{LEDGER}{USERS}")).0;
    let with = |claims: serde_json::Value| {
        let claims = claims.as_object().unwrap().clone();
        ask(&set, Some("payments"), move |q| {
            q.token = GivenToken::Claims(claims);
            q.headers.insert("x-user", "alice".parse().unwrap());
            q.now = 1_700_000_000;
        })
    };
    let good = serde_json::json!({"iss": "https://auth.example", "aud": "bank", "scope": "ledger", "sub": "alice", "role": "clerk"});
    let change = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        with(claims)
    };
    assert_eq!(with(good.clone()).rule.unwrap().policy, "clerks");
    // What the caller writes under that name itself counts for nothing.
    let bob = change("sub", "bob".into());
    let lacks: Vec<_> = bob.nearest.iter().flat_map(|n| &n.lacks).map(|l| l.field.as_str()).collect();
    assert!(lacks.contains(&"header x-user"), "{lacks:?}");
    let rows = [
        (change("iss", "https://other.example".into()), "token_issuer_unknown"),
        (change("aud", "shop".into()), "token_audience"),
        (change("exp", 1_600_000_000.into()), "token_expired"),
        (change("scope", "other".into()), "token_scope"),
        (change("sub", 7.into()), "token_claim_type"),
        (ask(&set, Some("payments"), |q| q.token = GivenToken::Invalid), "token_signature"),
        (ask(&set, Some("payments"), |_| {}), "token_required"),
    ];
    for (told, reason) in rows {
        assert_eq!((told.stage, told.reason.as_str()), (Stage::Token, reason), "{}", told.why);
    }
}

#[test]
fn names_that_policies_do_not_know_are_pointed_at() {
    let told = of("paymnts", "GET", "/entries");
    assert!(told.notes[0].contains("did you mean bank/payments?"), "{:?}", told.notes);
    assert!(of("payments", "GET", "/entries").notes.is_empty());
}

const DATABASE: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - from: [{source: {principals: [corp.example/ns/bank/sa/web]}}]
    to: [{operation: {methods: [GET], ports: ['8080']}}]
  - from: [{source: {principals: [corp.example/ns/bank/sa/batch]}}]
    to: [{operation: {ports: ['8080']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: bank}
spec:
  selector: {matchLabels: {app: ledger}}
  action: DENY
  rules:
  - from: [{source: {principals: [corp.example/ns/bank/sa/admin]}}]
    to: [{operation: {paths: [/admin]}}]
";

#[test]
fn a_connection_of_tcp_is_explained_by_the_rules_as_they_read_there() {
    let set = parse_ok(DATABASE).0;
    let connect = |caller: &str| ask(&set, Some(caller), |q| q.tcp = true);
    let told = connect("batch");
    assert_eq!((told.allowed, told.reason.as_str(), told.protocol), (true, "rule", "tcp"));
    assert_eq!(told.rule.as_ref().map(|rule| rule.rule), Some(Some(1)));
    assert_eq!((told.method, told.sent_path, told.path, told.host), (None, None, None, None));

    // A rule about HTTP lets nothing in where nothing is read, and says so.
    let told = connect("web");
    let nearest = &told.nearest[0];
    let lack = &nearest.lacks[0];
    assert_eq!((told.reason.as_str(), nearest.rule.rule), ("no_allow_matched", Some(0)));
    assert_eq!((nearest.lacks.len(), lack.field.as_str(), lack.wanted.as_str()), (1, "protocol", "HTTP"));
    assert_eq!(lack.got.as_deref(), Some("TCP"));
    assert_eq!(nearest.rule.position.as_ref().map(|p| p.line), Some(7));

    // A DENY loses what it says of HTTP and catches more.
    let told = connect("admin");
    assert_eq!((told.reason.as_str(), told.rule.unwrap().policy.as_str()), ("denied_by_rule", "no-admin"));
    assert!(told.asked.iter().all(|asked| asked.field == "caller" && asked.holds), "{:?}", told.asked);
}

const DOOR: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: bank}
spec:
  selector: {app: edge}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: bank}
spec:
  hosts: ['*']
  gateways: [public]
  http:
  - {match: [{uri: {exact: /shut}}], route: [{destination: {host: vault.deep}}]}
  - {match: [{uri: {exact: /gone}}], route: [{destination: {host: api.nowhere.example}}]}
  - name: shared
    match: [{uri: {exact: /shared}}]
    route: [{destination: {host: vault.deep}, weight: 1}, {destination: {host: ledger, port: {number: 9000}}, weight: 9}]
  - {name: open, route: [{destination: {host: ledger}}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: vault, namespace: deep}
spec: {action: ALLOW, rules: [{from: [{source: {principals: [corp.example/ns/bank/sa/ledger]}}]}]}
";

#[test]
fn a_route_of_an_edge_that_leads_nowhere_is_told_and_where_it_is_written() {
    let set = parse_ok(DOOR).0;
    let mesh = Mesh::new(&set, None).unwrap();
    let edge = mesh.target(&workload("bank", "edge")).unwrap();
    let get = |path: &str| {
        let mut question = Question::new(None, edge.usual_port());
        question.path = path.to_owned();
        explain(&mesh, &edge, None, &question).unwrap()
    };
    for (path, host, line) in [("/shut", "vault.deep", 15), ("/gone", "api.nowhere.example", 16)] {
        let told = get(path);
        assert_eq!(
            (told.stage, told.reason.as_str()),
            (Stage::Destination, "route_target_unknown"),
            "{path}"
        );
        assert!(told.why.contains(host), "{}", told.why);
        assert_eq!(told.route.unwrap().position.unwrap().line, line);
    }
    let told = get("/shared");
    assert_eq!((told.allowed, told.reason.as_str()), (true, "no_policy"));
    assert!(told.notes[0].contains("not told of vault.deep"), "{:?}", told.notes);
    let told = get("/anything");
    assert_eq!((told.allowed, told.route.unwrap().id.as_str()), (true, "bank/api/open"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn explain_agrees_with_what_decides(set in set(), ask in request()) {
        let ledger: Workload = workload("bank", "ledger");
        let compiled = snapshot(&set, &[], &ledger);
        let mesh = Mesh::new(&set, Some(ledger.id.trust_domain().clone())).unwrap();
        let target = mesh.target(&ledger).unwrap();
        let mut question = Question::new(ask.peer.clone(), ask.port);
        (question.method, question.path) = (ask.method.clone(), ask.path.clone());
        (question.host, question.headers) = (Some(ask.host.clone()), ask.headers.clone());
        let told = explain(&mesh, &target, None, &question).unwrap();
        let rules = ask.with_view(|view| compiled.trace(view));
        let matching = |role| rules.iter().filter(move |rule| rule.role == role && rule.trace.matches());
        match ask.of(&compiled) {
            Decision::Allow { .. } => prop_assert!(told.allowed && matching(Role::Deny).next().is_none()),
            Decision::Refuse { refusal } => {
                prop_assert!(!told.allowed);
                prop_assert_eq!(told.reason.as_str(), refusal.code());
            }
        }
        // What is told of a rule is what the rule says when it decides.
        if let Some(rule) = &told.rule {
            let is_it = |traced: &TracedRule| {
                *traced.name.policy == *rule.policy && Some(traced.name.rule) == rule.rule
            };
            let role = if told.allowed { Role::Allow } else { Role::Deny };
            prop_assert!(matching(role).any(is_it));
            prop_assert!(told.asked.iter().all(|asked| asked.holds));
        }
        if told.reason == "no_allow_matched" {
            prop_assert!(matching(Role::Allow).next().is_none());
            prop_assert_eq!(told.nearest.is_empty(), !rules.iter().any(|rule| rule.role == Role::Allow));
        }
        prop_assert!(told.nearest.iter().all(|miss| !miss.lacks.is_empty()));
        let audited = ask.with_view(|view| compiled.observe(view)).audited;
        prop_assert_eq!(audited.len(), matching(Role::Audit).count());
        prop_assert_eq!(audited.len(), told.audited.len());
    }

    #[test]
    fn explain_agrees_with_what_decides_on_tcp(set in set(), ask in request()) {
        let ledger: Workload = workload("bank", "ledger");
        let compiled = snapshot(&set, &[], &ledger);
        let mesh = Mesh::new(&set, Some(ledger.id.trust_domain().clone())).unwrap();
        let target = mesh.target(&ledger).unwrap();
        let connection = ask.connection();
        let mut question = Question::new(connection.peer.cloned(), connection.destination_port);
        question.tcp = true;
        question.sni = connection.sni.map(str::to_owned);
        (question.source_ip, question.remote_ip) = (connection.source_ip, Some(connection.remote_ip));
        question.destination_ip = connection.destination_ip;
        let told = explain(&mesh, &target, None, &question).unwrap();
        let rules = compiled.trace_tcp(&connection);
        let matching = |role| rules.iter().filter(move |rule| rule.role == role && rule.trace.matches());
        match compiled.authorize_tcp(&connection) {
            Decision::Allow { .. } => prop_assert!(told.allowed && matching(Role::Deny).next().is_none()),
            Decision::Refuse { refusal } => {
                prop_assert!(!told.allowed);
                prop_assert_eq!(told.reason.as_str(), refusal.code());
            }
        }
        if told.reason == "no_allow_matched" {
            prop_assert!(matching(Role::Allow).next().is_none());
            prop_assert_eq!(told.nearest.is_empty(), !rules.iter().any(|rule| rule.role == Role::Allow));
        }
        prop_assert!(told.asked.iter().all(|asked| asked.holds));
        prop_assert!(told.nearest.iter().all(|miss| !miss.lacks.is_empty()));
    }
}
