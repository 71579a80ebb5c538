//! Keys from a server that rotates them, fails and comes back.

use std::time::Duration;

use http::StatusCode;
use palisade_tests::jwks::{Issuer, KeyServer};
use palisade_tests::until;
use serde_json::json;
use tokio::time::Instant;

use crate::jwt_policy::{ISSUER, ask, claims, policies};
use crate::kit::Mesh;

/// A mesh whose ledger takes tokens by the keys of this server, looked at again every `refresh`.
async fn mesh(server: &KeyServer, refresh: &str) -> Mesh {
    let spec = format!(
        "
  issuers:
  - {{issuer: '{ISSUER}',
     keys: {{allowPrivateAddresses: true, refreshInterval: {refresh}, refetchIntervalMin: 1s}}}}
  rules: [{{name: rest, access: token}}]"
    );
    Mesh::start(&policies(&format!("jwksUri: '{}', timeout: 2s", server.url()), &spec)).await
}

async fn status(mesh: &Mesh, issuer: &Issuer) -> StatusCode {
    ask(mesh, "GET", "/entries", &issuer.token(&claims(&json!({})))).await.status
}

async fn until_taken(mesh: &Mesh, issuer: &Issuer) {
    until(&format!("a token of {} to be taken", issuer.key_id), || async {
        let status = status(mesh, issuer).await;
        if status == StatusCode::OK { Ok(()) } else { Err(status) }
    })
    .await;
}

async fn until_logged(mesh: &Mesh, word: &str) {
    until(&format!("{word} in the log"), || async {
        if mesh.sidecar.process.log().contains(word) { Ok(()) } else { Err("not yet") }
    })
    .await;
}

#[tokio::test]
async fn a_new_key_is_fetched_once_when_its_first_token_comes_and_a_removed_one_is_refused_at_once() {
    let (old, new) = (Issuer::new("k1"), Issuer::new("k2"));
    let server = KeyServer::start(&old.jwks()).await;
    let mesh = mesh(&server, "1h").await;
    until_taken(&mesh, &old).await;
    assert_eq!(server.asked(), 1);
    server.say(StatusCode::OK, &Issuer::jwks_of(&[&old, &new]));
    until_taken(&mesh, &new).await;
    assert_eq!(server.asked(), 2);
    assert_eq!(status(&mesh, &old).await, StatusCode::OK);
    assert_eq!(server.asked(), 2);

    // The old key is taken back. The next look, whoever causes it, ends the tokens under it: verified ones too.
    server.say(StatusCode::OK, &new.jwks());
    until("the old key to be gone", || async {
        let _refused = status(&mesh, &Issuer::new("unheard-of")).await;
        let status = status(&mesh, &old).await;
        if status == StatusCode::UNAUTHORIZED { Ok(()) } else { Err(status) }
    })
    .await;
    mesh.sidecar.records_with(1, &[("reason", json!("token_key_unknown"))]).await;
    assert_eq!(status(&mesh, &new).await, StatusCode::OK);
    mesh.app.clear();
    assert_eq!(status(&mesh, &old).await, StatusCode::UNAUTHORIZED);
    mesh.app.assert_untouched();
}

#[tokio::test]
async fn the_last_good_keys_stay_in_force_while_the_server_is_away() {
    let (issuer, stranger) = (Issuer::new("k1"), Issuer::new("k2"));
    let mut server = KeyServer::start(&issuer.jwks()).await;
    let mesh = mesh(&server, "1s").await;
    until_taken(&mesh, &issuer).await;
    server.stop().await;
    until_logged(&mesh, "jwks_connect").await;
    assert_eq!(status(&mesh, &issuer).await, StatusCode::OK);
    assert_eq!(status(&mesh, &stranger).await, StatusCode::UNAUTHORIZED);
    server.say(StatusCode::OK, "<html>maintenance</html>");
    server.resume().await;
    until_logged(&mesh, "jwks_malformed").await;
    assert_eq!(status(&mesh, &issuer).await, StatusCode::OK);
    server.say(StatusCode::OK, &stranger.jwks());
    until_taken(&mesh, &stranger).await;
    assert_eq!(status(&mesh, &issuer).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn before_there_were_any_keys_every_token_is_refused() {
    let issuer = Issuer::new("k1");
    let server = KeyServer::start("").await;
    server.say(StatusCode::SERVICE_UNAVAILABLE, &issuer.jwks());
    let mesh = mesh(&server, "1s").await;
    assert_eq!(status(&mesh, &issuer).await, StatusCode::UNAUTHORIZED);
    until_logged(&mesh, "jwks_status").await;
    mesh.sidecar.records_with(1, &[("reason", json!("token_no_keys"))]).await;
    mesh.app.assert_untouched();
    server.say(StatusCode::OK, &issuer.jwks());
    until_taken(&mesh, &issuer).await;
}

#[tokio::test]
async fn unknown_keys_against_inline_ones_are_refused_at_once_however_many_come() {
    let issuer = Issuer::new("k1");
    let keys = format!("jwks: '{}'", issuer.jwks());
    let spec = format!(
        "
  issuers: [{{issuer: '{ISSUER}', keys: {{refetchIntervalMin: 1s}}}}]
  rules: [{{name: rest, access: token}}]"
    );
    let mesh = Mesh::start(&policies(&keys, &spec)).await;
    until_taken(&mesh, &issuer).await;
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    // Until after a look would be due.
    for number in 0.. {
        if number >= 20 && start.elapsed() > Duration::from_millis(2_500) {
            break;
        }
        let asked = Instant::now();
        let stranger = Issuer::new(&format!("unheard-of-{number}"));
        assert_eq!(status(&mesh, &stranger).await, StatusCode::UNAUTHORIZED);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
    mesh.sidecar.records_with(20, &[("reason", json!("token_key_unknown"))]).await;
    assert_eq!(status(&mesh, &issuer).await, StatusCode::OK);
}
