//! Whose tokens are taken, and what becomes of them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use palisade_tests::jwks::{Issuer, KeyServer, in_seconds};
use palisade_tests::until;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Call, Place, data, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(rename = "istio")]
    _source: String,
    tokens: BTreeMap<String, Value>,
    policies: BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "service")]
    host: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    status: u16,
    /// Istio's status, where ours is another one on purpose: docs/reference/istio-semantics.md says why.
    istio: Option<u16>,
    /// What the service gets in these headers; null: nothing.
    #[serde(default)]
    received: BTreeMap<String, Option<String>>,
}

fn get() -> String {
    "GET".into()
}

fn root() -> String {
    "/".into()
}

fn service() -> String {
    "b.ns1".into()
}

/// A server of keys that takes connections and says nothing.
struct Silent {
    url: String,
    asked: Arc<AtomicBool>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicBool::new(false));
        let flag = asked.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                flag.store(true, Ordering::SeqCst);
                open.push(socket);
            }
        });
        Self { url, asked }
    }
}

/// The signed tokens by the names that the table gives them.
struct Tokens(BTreeMap<String, String>);

impl Tokens {
    fn sign(issuer: &Issuer, claims: &BTreeMap<String, Value>) -> Self {
        let signed = claims.iter().map(|(name, claims)| {
            let mut claims = claims.clone();
            if claims.get("exp").is_none() {
                claims["exp"] = json!(in_seconds(600));
            }
            (name.clone(), issuer.token(&claims))
        });
        Self(signed.collect())
    }

    /// Writes them in place of `$name`; `$payload:name` is a token's middle part.
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, token) in self.0.iter().rev() {
            let payload = token.split('.').nth(1).unwrap();
            text = text.replace(&format!("$payload:{name}"), payload).replace(&format!("${name}"), token);
        }
        text
    }
}

async fn check(place: &Place, policies: &str, case: &Case, tokens: &Tokens) {
    let what = format!("{policies}: {}", case.name);
    let headers: Vec<_> =
        case.headers.iter().map(|(name, value)| (name.clone(), tokens.fill(value))).collect();
    let call = Call {
        from: "ns1/a",
        port: 18080,
        http2: false,
        method: &case.method,
        path: &tokens.fill(&case.path),
        host: &case.host,
        headers: &headers,
    };
    let (answer, arrived) = place.call(&call).await;
    assert_eq!(answer.status.as_u16(), case.status, "{what}: {}", answer.text());
    assert_eq!(arrived, case.status == 200, "{what}");
    if let Some(istio) = case.istio {
        assert!(istio == 200 && case.status != 200, "{what}: a difference that is not stricter");
    }
    for (name, expected) in &case.received {
        let received = place.app.last().headers;
        let value = received.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(value, expected.as_deref().map(|text| tokens.fill(text)), "{what}: {name}");
    }
}

async fn is_taken(place: &Place, token: &str) -> bool {
    let headers = [("authorization".to_owned(), format!("Bearer {token}"))];
    let call = Call {
        from: "ns1/a",
        port: 18080,
        http2: false,
        method: "GET",
        path: "/",
        host: "b.ns1",
        headers: &headers,
    };
    place.call(&call).await.1
}

#[tokio::test]
async fn a_sidecar_gives_istios_answers_to_tokens_and_the_service_gets_what_it_would() {
    let table: Table = serde_json::from_value(read("jwt.json")).unwrap();
    let issuer = Issuer::new("k1");
    let tokens = Tokens::sign(&issuer, &table.tokens);
    let (keys, nonsense) = (KeyServer::start(&issuer.jwks()).await, KeyServer::start("no keys").await);
    let silent = Silent::start().await;
    let place = Place::start().await;
    let mut cases = 0;
    for (name, of_policies) in &table.policies {
        let text = fs::read_to_string(data().join(format!("jwt/{name}.yaml"))).unwrap();
        let text = text.replace("$KEYS", &issuer.jwks()).replace("$URL", &keys.url());
        let text = text.replace("$NONSENSE", &nonsense.url()).replace("$SILENT", &silent.url);
        place.enforce(name, &text).await;
        // Keys are fetched beside the requests; before there are any, no token is good.
        until("keys to be asked for, and read where there are some", || async {
            let done = match name.as_str() {
                "remote" => is_taken(&place, &tokens.0["one"]).await,
                "invalid-keys" => nonsense.asked() > 0,
                "timeout" => silent.asked.load(Ordering::SeqCst),
                _ => true,
            };
            if done { Ok(()) } else { Err(place.sidecar.process.log()) }
        })
        .await;
        for case in of_policies {
            check(&place, name, case, &tokens).await;
        }
        cases += of_policies.len();
    }
    eprintln!("{cases} cases of tokens over the wire");
    assert_eq!(cases, 51);
}
