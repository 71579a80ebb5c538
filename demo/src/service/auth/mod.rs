//! auth: logs users in and signs their tokens; says with which keys, as an identity provider does.

mod signer;
mod users;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Reply};
use signer::Signer;
use users::User;

const ISSUER: &str = "https://auth.shop.example";
/// For whom tokens are made. The first is meant when a login names none.
const AUDIENCES: [&str; 2] = ["https://shop.example", "https://reports.example"];
/// Of a token.
const LIFETIME_SECONDS: i64 = 300;
const HOUR_SECONDS: i64 = 3600;

#[derive(Debug)]
pub(super) struct Auth {
    signer: Signer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user: String,
    password: String,
    audience: Option<String>,
}

impl Auth {
    /// With a key of its own, which is gone when the process is.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { signer: Signer::generate()? })
    }

    /// `POST /login`, `GET /.well-known/jwks.json`, and `POST /demo/expired-token`: the same as a login an hour ago.
    /// No policy lets anybody reach the last one through the mesh; the demo's scenes ask on loopback.
    pub(super) fn answer(&self, call: &Call) -> Result<Reply> {
        match (&call.method, call.path.as_str()) {
            (&Method::GET, "/.well-known/jwks.json") => Ok(Reply(StatusCode::OK, self.signer.jwks())),
            (&Method::POST, "/login") => self.login(&call.body, now()?),
            (&Method::POST, "/demo/expired-token") => self.login(&call.body, now()? - HOUR_SECONDS),
            _ => Ok(Reply::not_found()),
        }
    }

    fn login(&self, body: &Value, now: i64) -> Result<Reply> {
        let Ok(login) = serde_json::from_value::<Login>(body.clone()) else {
            return Ok(Reply::wrong("a login has user, password and perhaps audience"));
        };
        let Some(user) = users::find(&login.user, &login.password) else {
            return Ok(Reply(StatusCode::UNAUTHORIZED, json!({ "error": "user or password is wrong" })));
        };
        let wanted = login.audience.as_deref().unwrap_or(AUDIENCES[0]);
        let Some(audience) = AUDIENCES.into_iter().find(|known| *known == wanted) else {
            return Ok(Reply::wrong("no such audience"));
        };
        let token = self.signer.sign(&claims(user, audience, now))?;
        Ok(Reply(
            StatusCode::OK,
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "scope": user.scope }),
        ))
    }
}

fn claims(user: &User, audience: &str, now: i64) -> Value {
    json!({
        "iss": ISSUER,
        "sub": user.name,
        "aud": audience,
        "iat": now,
        "exp": now + LIFETIME_SECONDS,
        "scope": user.scope,
    })
}

/// Seconds since 1970.
fn now() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(i64::try_from(since.as_secs())?)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn ask(auth: &Auth, path: &str, body: Value) -> Reply {
        let method = if body.is_null() { Method::GET } else { Method::POST };
        auth.answer(&Call { method, path: path.into(), headers: Value::Null, body }).unwrap()
    }

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_who_for_whom_and_how_long_and_verifies_with_the_published_key() {
        let auth = Auth::new().unwrap();
        let Reply(status, body) = ask(&auth, "/login", json!({ "user": "alice", "password": "wonderland" }));
        assert_eq!(status, StatusCode::OK);
        let token = body["access_token"].as_str().unwrap();
        let (head, claims) = (part(token, 0), part(token, 1));
        assert_eq!((&head["alg"], &claims["sub"]), (&json!("RS256"), &json!("alice")));
        assert_eq!((&claims["aud"], &claims["iss"]), (&json!(AUDIENCES[0]), &json!(ISSUER)));
        let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(lifetime, LIFETIME_SECONDS);

        let Reply(_, jwks) = ask(&auth, "/.well-known/jwks.json", Value::Null);
        let key = &jwks["keys"][0];
        assert_eq!(key["kid"], head["kid"]);
        let member = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
        let public = aws_lc_rs::rsa::PublicKeyComponents { n: member("n"), e: member("e") };
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let algorithm = &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
        public.verify(algorithm, signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn an_expired_token_is_a_true_one_but_for_its_time() {
        let auth = Auth::new().unwrap();
        let login = json!({ "user": "rita", "password": "library" });
        let Reply(_, body) = ask(&auth, "/demo/expired-token", login);
        let claims = part(body["access_token"].as_str().unwrap(), 1);
        assert!(claims["exp"].as_i64().unwrap() < now().unwrap() - 600);
        assert_eq!(claims["scope"], "accounts:read");
    }

    #[test]
    fn refuses_logins_without_saying_what_was_wrong() {
        let auth = Auth::new().unwrap();
        for (user, password) in [("alice", "Wonderland"), ("alice", ""), ("nobody", "wonderland")] {
            let Reply(status, body) = ask(&auth, "/login", json!({ "user": user, "password": password }));
            assert_eq!(
                (status, body),
                (StatusCode::UNAUTHORIZED, json!({ "error": "user or password is wrong" }))
            );
        }
        let odd =
            json!({ "user": "alice", "password": "wonderland", "audience": "https://elsewhere.example" });
        for body in [odd, json!({ "user": "alice" }), json!([])] {
            assert_eq!(ask(&auth, "/login", body).0, StatusCode::BAD_REQUEST);
        }
    }
}
