//! At a sidecar: HTTP in mutual TLS and in plaintext, and raw TCP.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use palisade_tests::world::expecting;
use palisade_tests::{Sidecar, TcpService, Upstream, World, client};
use tokio::net::TcpStream;

use super::{Issuers, Token, assert_placed, assert_same, explained, record_after};
use crate::PALISADE;
use crate::istio::is_greeted;
use crate::kit::{HTTP1, LEDGER, STRICT, request};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: health, namespace: payments}
spec: {selector: {matchLabels: {app: ledger}}, mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: PERMISSIVE}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: payments}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: ['/admin*'], notMethods: [GET], ports: ['8080']}}]
  - from: [{source: {principals: [test.mesh/ns/payments/sa/banned]}}]
  - when: [{key: 'request.headers[x-mode]', values: [debug*]}]
    to: [{operation: {ports: ['8080']}}]
    from: [{source: {principals: ['*/sa/web']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [test.mesh/ns/payments/sa/web]}}]
    to:
    - operation: {methods: [GET, POST], paths: [/entries, '/v1/{*}/entries']}
    - operation: {methods: [HEAD]}
  - from: [{source: {namespaces: [audit]}}]
    to: [{operation: {methods: [GET], paths: ['/balances/*']}}]
    when: [{key: 'request.headers[x-purpose]', values: [audit]}]
  - from: [{source: {requestPrincipals: ['https://auth.bank.example/*']}}]
    to: [{operation: {paths: [/me]}}]
    when: [{key: 'request.auth.claims[role]', values: [clerk]}]
  - to: [{operation: {paths: [/healthz], ports: ['8081']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: database, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [test.mesh/ns/payments/sa/batch]}}]
    to: [{operation: {ports: ['5432']}}]
---
apiVersion: palisade.mesh/v1
kind: RequestGuard
metadata: {name: forms, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - {name: json, match: [{paths: [/entries]}], contentTypes: [application/json], maxBodyBytes: 8}
  - {name: all, maxUriBytes: 60, forbidHeaders: [x-debug]}
---
apiVersion: palisade.mesh/v1
kind: JwtPolicy
metadata: {name: me, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - {name: me, match: [{paths: [/me]}], access: token, scopes: [profile]}
  - {name: rest, access: public}
";

/// Who calls (`-`: without a certificate), port, method, path, a header, token, body, and the reason to come.
type Row = (&'static str, u16, &'static str, &'static str, &'static str, Token, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("payments/web", 8080, "GET", "/entries", "", Token::None, "", "rule"),
    ("payments/web", 8080, "GET", "/entries?from=/admin", "", Token::None, "", "rule"),
    ("payments/web", 8080, "GET", "/v1/7/entries", "", Token::None, "", "rule"),
    ("payments/web", 8080, "GET", "/x/../entries", "", Token::None, "", "rule"),
    ("payments/web", 8080, "HEAD", "/anything", "", Token::None, "", "rule"),
    ("payments/web", 8080, "POST", "/entries", "content-type: application/json", Token::None, "{}", "rule"),
    ("payments/web", 8080, "DELETE", "/entries", "", Token::None, "", "no_allow_matched"),
    ("payments/web", 8080, "GET", "/Entries", "", Token::None, "", "no_allow_matched"),
    ("payments/web", 8080, "GET", "/v1/7/8/entries", "", Token::None, "", "no_allow_matched"),
    ("payments/web", 8080, "GET", "/entries%2f", "", Token::None, "", "path_ambiguous"),
    ("payments/web", 8080, "POST", "/admin", "", Token::None, "", "denied_by_rule"),
    ("payments/web", 8080, "POST", "/x/%2e%2e/admin/x", "", Token::None, "", "denied_by_rule"),
    ("payments/web", 8080, "GET", "/entries", "x-mode: debug-1", Token::None, "", "denied_by_rule"),
    (
        "payments/web",
        8080,
        "POST",
        "/entries",
        "content-type: text/xml",
        Token::None,
        "<a/>",
        "guard_content_type",
    ),
    (
        "payments/web",
        8080,
        "POST",
        "/entries",
        "content-type: application/json",
        Token::None,
        "[1,2,3,4]",
        "guard_body_bytes",
    ),
    ("payments/web", 8080, "GET", "/entries", "x-debug: 1", Token::None, "", "guard_header_forbidden"),
    (
        "payments/web",
        8080,
        "GET",
        "/entries?x=0123456789012345678901234567890123456789012345678901234567890",
        "",
        Token::None,
        "",
        "guard_uri_bytes",
    ),
    ("payments/banned", 8080, "GET", "/entries", "", Token::None, "", "denied_by_rule"),
    ("payments/other", 8080, "GET", "/entries", "", Token::None, "", "no_allow_matched"),
    ("audit/reports", 8080, "GET", "/balances/7", "x-purpose: audit", Token::None, "", "rule"),
    ("audit/reports", 8080, "GET", "/balances/7", "x_purpose: audit", Token::None, "", "no_allow_matched"),
    ("audit/reports", 8080, "GET", "/balances/7", "", Token::None, "", "no_allow_matched"),
    ("payments/web", 8080, "GET", "/me", "", Token::None, "", "token_required"),
    (
        "payments/web",
        8080,
        "GET",
        "/me",
        "",
        Token::Of(r#"{"scope": "profile", "role": "clerk"}"#),
        "",
        "rule",
    ),
    (
        "payments/web",
        8080,
        "GET",
        "/me",
        "",
        Token::Of(r#"{"scope": "profile", "role": ["a", "clerk"]}"#),
        "",
        "rule",
    ),
    (
        "payments/web",
        8080,
        "GET",
        "/me",
        "",
        Token::Of(r#"{"scope": "profile", "role": "guest"}"#),
        "",
        "no_allow_matched",
    ),
    (
        "payments/web",
        8080,
        "GET",
        "/me",
        "",
        Token::Of(r#"{"scope": "other", "role": "clerk"}"#),
        "",
        "token_scope",
    ),
    ("payments/web", 8080, "GET", "/entries", "", Token::Of(r#"{"aud": "shop"}"#), "", "token_audience"),
    (
        "payments/web",
        8080,
        "GET",
        "/entries",
        "",
        Token::Of(r#"{"iss": "https://else.example"}"#),
        "",
        "token_issuer_unknown",
    ),
    ("payments/web", 8080, "GET", "/entries", "", Token::Forged, "", "token_signature"),
    ("payments/web", 8080, "GET", "/entries", "", Token::Expired, "", "token_expired"),
    ("-", 8080, "GET", "/healthz", "", Token::None, "", "plaintext_refused"),
    ("-", 8081, "GET", "/healthz", "", Token::None, "", "rule"),
    ("-", 8081, "GET", "/entries", "", Token::None, "", "no_allow_matched"),
    ("payments/web", 8081, "GET", "/healthz", "", Token::None, "", "rule"),
    // Raw TCP: method and path say nothing.
    ("payments/batch", 5432, "", "", "", Token::None, "", "rule"),
    ("payments/web", 5432, "", "", "", Token::None, "", "no_allow_matched"),
    ("payments/banned", 5432, "", "", "", Token::None, "", "denied_by_rule"),
    ("-", 5432, "", "", "", Token::None, "", "plaintext_refused"),
];

struct Place {
    world: World,
    app: Upstream,
    database: TcpService,
    sidecar: Sidecar,
    issuers: Issuers,
}

impl Place {
    async fn start() -> Self {
        let (world, issuers) = (World::of_files(PALISADE), Issuers::new());
        let (app, database) = (Upstream::start("ledger").await, TcpService::start().await);
        world.policy("strict.yaml", STRICT);
        world.policy("policies.yaml", &format!("{POLICIES}---{}", issuers.believed_by("ledger")));
        let builder = world.file_sidecar("payments/ledger").workers(1).serve(8080, app.address());
        let builder = builder.serve(8081, app.address()).serve_as(5432, "tcp", database.address());
        let sidecar = builder.start().await;
        Self { world, app, database, sidecar, issuers }
    }

    /// Who asks for what, as words of the command.
    fn words(row: &Row) -> Vec<String> {
        let (from, port, ..) = row;
        let port = port.to_string();
        let caller = if *from == "-" { vec!["--plaintext"] } else { vec!["--from", from] };
        let fixed = ["--to", "payments/ledger", "--port", &port];
        caller.into_iter().chain(fixed).map(str::to_owned).collect()
    }

    /// Whether the service was reached, and the words for what was sent.
    async fn send(&self, row: &Row) -> (bool, Vec<String>) {
        let (from, port, method, path, header, token, body, _) = *row;
        let mut words = Self::words(row);
        let address = self.sidecar.inbound(port);
        if method.is_empty() {
            words.extend(["--protocol".to_owned(), "tcp".to_owned()]);
            let before = self.database.heard().len();
            let greeted = match from {
                "-" => is_greeted(TcpStream::connect(address).await.unwrap()).await,
                _ => is_greeted(self.connect(from, port, &[]).await).await,
            };
            assert_eq!(self.database.heard().len(), before + usize::from(greeted));
            return (greeted, words);
        }
        let mut request: Request<Full<Bytes>> = request(method, path, body);
        words.extend(["--method", method, "--path", path, "--host", LEDGER].map(str::to_owned));
        if let Some((name, value)) = header.split_once(": ") {
            request.headers_mut().insert(name, value.parse().unwrap());
            words.extend(["--header".to_owned(), header.to_owned()]);
        }
        words.extend(["--body-bytes".to_owned(), body.len().to_string()]);
        words.extend(self.issuers.add(token, &mut request));
        self.app.clear();
        let answered = match from {
            "-" => client::send_on(TcpStream::connect(address).await.unwrap(), request).await,
            _ => client::send_on(self.connect(from, port, HTTP1).await, request).await,
        };
        // A caller in plaintext is cut off where nothing but TLS is taken.
        assert!(answered.is_ok() || from == "-", "{row:?}: {answered:?}");
        (!self.app.received().is_empty(), words)
    }

    async fn connect(
        &self,
        from: &str,
        port: u16,
        alpn: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let (svid, bundle) = (self.world.pki.svid(from), &self.world.pki.bundle);
        let at = self.sidecar.inbound(port);
        client::connect_tls(at, Some(&svid), bundle, expecting("payments/ledger"), alpn).await.unwrap()
    }
}

#[tokio::test]
async fn a_sidecar_and_explain_give_the_same_decision_for_the_same_reason_by_the_same_rule() {
    let place = Place::start().await;
    for row in ROWS {
        let before = place.sidecar.records().len();
        let (reached, words) = place.send(row).await;
        let record = record_after(&place.sidecar, before).await;
        let (told, row_text) = (explained(&place.world, &words).await, format!("{row:?}"));
        assert_eq!(record["reason"], row.7, "{row_text}: {record:#}");
        assert_same(&told, &record, &row_text);
        assert_placed(&told, &row_text);
        assert_eq!(told["allowed"], reached, "{row_text}: {told:#}");
    }
}
