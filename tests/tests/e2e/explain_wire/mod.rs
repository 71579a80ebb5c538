//! `palisade explain` and the wire say the same: each request of a table is sent through a real sidecar or edge, and put to
//! `palisade explain` with the very documents that the proxy reads. Decision, reason, rule and route of the decision record are
//! those of the explanation.

mod edge;
mod sidecar;

use http::{HeaderValue, Request};
use palisade_tests::jwks::{Issuer, in_seconds};
use palisade_tests::world::TRUST_DOMAIN;
use palisade_tests::{Sidecar, World, until};
use serde_json::{Value, json};

const ISSUER: &str = "https://auth.bank.example";

/// The end user's token.
#[derive(Clone, Copy, Debug)]
enum Token {
    None,
    /// With these claims on top of those that every token has.
    Of(&'static str),
    /// Of another key.
    Forged,
    Expired,
}

/// The issuer that the documents name, and one that says it was it.
struct Issuers {
    good: Issuer,
    forger: Issuer,
}

impl Issuers {
    fn new() -> Self {
        Self { good: Issuer::new("k1"), forger: Issuer::new("k1") }
    }

    /// A RequestAuthentication for the workload.
    fn believed_by(&self, app: &str) -> String {
        let keys = self.good.jwks();
        format!(
            "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  jwtRules: [{{issuer: '{ISSUER}', audiences: [bank], jwks: '{keys}', outputClaimToHeaders: [{{header: x-user, claim: sub}}]}}]
"
        )
    }

    /// Puts the token into the request, and gives the words by which it is asked about.
    fn add<B>(&self, token: Token, request: &mut Request<B>) -> Vec<String> {
        let mut claims = json!({"iss": ISSUER, "aud": "bank", "sub": "alice", "iat": in_seconds(0), "exp": in_seconds(600)});
        let (issuer, forged) = match token {
            Token::None => return Vec::new(),
            Token::Of(more) => {
                let more: Value = serde_json::from_str(more).unwrap();
                more.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
                (&self.good, false)
            }
            Token::Expired => {
                claims["exp"] = in_seconds(-600).into();
                (&self.good, false)
            }
            Token::Forged => (&self.forger, true),
        };
        let value = HeaderValue::from_str(&format!("Bearer {}", issuer.token(&claims))).unwrap();
        request.headers_mut().insert("authorization", value);
        if forged {
            return vec!["--invalid-token".to_owned()];
        }
        let said = |(name, value): (&String, &Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            ["--claim".to_owned(), format!("{name}={text}")]
        };
        claims.as_object().unwrap().iter().flat_map(said).collect()
    }
}

/// What the documents of the world say of a question.
async fn explained(world: &World, question: &[String]) -> Value {
    let policies = world.folder().join("policies").display().to_string();
    let fixed = ["explain", "--policies", &policies, "--trust-domain", TRUST_DOMAIN, "--output", "json"];
    let words: Vec<&str> = fixed.into_iter().chain(question.iter().map(String::as_str)).collect();
    let done = world.palisade(&words).await;
    let told: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(done.code, Some(i32::from(told["allowed"] == false)), "{done:?}");
    told
}

/// The record that comes after `before` others.
async fn record_after(proxy: &Sidecar, before: usize) -> Value {
    until("the record of the request", || async {
        proxy.records().get(before).cloned().ok_or("there is none yet")
    })
    .await
}

/// Panics unless the explanation says what the record says.
fn assert_same(told: &Value, record: &Value, row: &str) {
    let decider = |place: &Value| match place.is_null() {
        true => (Value::Null, Value::Null),
        false => {
            let name = |key: &str| place[key].as_str().unwrap().to_owned();
            (json!(format!("{}/{}", name("namespace"), name("policy"))), place["rule"].clone())
        }
    };
    assert_eq!(told["allowed"] == true, record["decision"] == "allowed", "{row}: {told:#} {record:#}");
    assert_eq!(told["reason"], record["reason"], "{row}: {told:#} {record:#}");
    assert_eq!(decider(&told["rule"]), (record["policy"].clone(), record["rule"].clone()), "{row}: {told:#}");
    let route = if told["route"].is_null() { json!("default") } else { told["route"]["id"].clone() };
    assert_eq!(route, record["route_name"], "{row}: {told:#} {record:#}");
}

/// Whatever decided is named with the line where it is written: a rule, or the object that has no such host or route.
fn assert_placed(told: &Value, row: &str) {
    for place in
        ["rule", "object", "route"].map(|key| &told[key]).into_iter().filter(|place| !place.is_null())
    {
        assert!(place["position"]["line"].as_u64() > Some(0), "{row}: {told:#}");
    }
}
