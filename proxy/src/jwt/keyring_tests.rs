//! Key sources against a server that misbehaves, on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::fault::TokenFault;
use super::fetch::FetchError;
use super::jws::Jws;
use super::keyring::{Keeper, KeyOrigin, KeyRing, KeySource};

/// A signing key and the set that has it.
struct Issuer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Issuer {
    fn new(id: &'static str) -> Self {
        Self { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn set(&self) -> String {
        Self::set_of(&[self])
    }

    fn set_of(issuers: &[&Self]) -> String {
        let keys: Vec<_> = issuers.iter().map(|issuer| issuer.key()).collect();
        json!({ "keys": keys }).to_string()
    }

    fn key(&self) -> serde_json::Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": x, "y": y})
    }

    fn token(&self) -> String {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let signed = format!("{}.e30", URL_SAFE_NO_PAD.encode(header));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Answers every request with what it has been told last, and counts.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
    answer: tokio::sync::watch::Sender<String>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://localhost:{}/keys?a=b", listener.local_addr().unwrap().port());
        let (answer, told) = tokio::sync::watch::channel(answer);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let (told, counter) = (told.clone(), counter.clone());
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let n = stream.read(&mut head).await.unwrap_or(0);
                    assert!(head[..n].starts_with(b"GET /keys?a=b HTTP/1.1\r\n"));
                    counter.fetch_add(1, Ordering::SeqCst);
                    let text = told.borrow().clone();
                    if text.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    let _closed = stream.write_all(text.as_bytes()).await;
                });
            }
        });
        Self { url, asked, answer }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn say(&self, answer: String) {
        self.answer.send_replace(answer);
    }

    fn spec(&self, refetch_min: Duration) -> Arc<KeySource> {
        spec(url(&self.url, true), refetch_min)
    }
}

fn spec(origin: KeyOrigin, refetch_min: Duration) -> Arc<KeySource> {
    let (refresh, timeout) = (Duration::from_secs(300), Duration::from_secs(5));
    Arc::new(KeySource { origin, refresh, refetch_min, timeout })
}

fn url(url: &str, allow_private: bool) -> KeyOrigin {
    KeyOrigin::Url { url: url.into(), allow_private, ca_certificates: None }
}

async fn fetch(text: &str, allow_private: bool) -> Result<bytes::Bytes, FetchError> {
    super::fetch::fetch(&spec(url(text, allow_private), Duration::ZERO)).await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn ring(spec: &Arc<KeySource>) -> (Arc<KeyRing>, Keeper) {
    let ring = Arc::new(KeyRing::default());
    let mut keeper = Keeper::new(ring.clone());
    keeper.sync(vec![("rule".into(), spec.clone())]);
    (ring, keeper)
}

async fn ask(ring: &KeyRing, spec: &Arc<KeySource>, token: &str) -> Result<u64, TokenFault> {
    let jws = Jws::parse(token.as_bytes(), 8192)?;
    ring.verify("rule", spec, &jws).await.map(|loaded| loaded.generation)
}

#[tokio::test]
async fn odd_answers_are_refused_by_kind() {
    let rows = [
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(), FetchError::Status),
        ("HTTP/1.1 204 None\r\n\r\n".to_owned(), FetchError::Status),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n".into(),
            FetchError::Redirect,
        ),
        ("not http at all\r\n\r\n".to_owned(), FetchError::Protocol),
        (ok(&"x".repeat(10 * 1024 * 1024)), FetchError::TooLarge),
        (
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(1024 * 1024 + 1)),
            FetchError::TooLarge,
        ),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024)), FetchError::Protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_owned(), FetchError::Protocol),
    ];
    for (answer, expected) in rows {
        let head: String = answer.chars().take(30).collect();
        let server = Server::start(answer).await;
        server.answer.subscribe();
        let found = fetch(&server.url, true).await;
        // A body that was cut short is closed by the server's end of the connection only in part of the cases.
        assert_eq!(found.unwrap_err(), expected, "{head}");
        assert_eq!(server.asked(), 1, "{head}");
    }
}

#[tokio::test]
async fn only_public_addresses_are_asked_unless_policy_says_so() {
    let server = Server::start(ok(&Issuer::new("k").set())).await;
    let https = server.url.replace("http://", "https://");
    assert_eq!(fetch(&https, false).await, Err(FetchError::PrivateAddress));
    assert_eq!(fetch(&server.url, false).await, Err(FetchError::Plaintext));
    for host in
        ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "2130706433", "0x7f.1", "169.254.169.254"]
    {
        assert_eq!(
            fetch(&format!("https://{host}/keys"), false).await,
            Err(FetchError::PrivateAddress),
            "{host}"
        );
    }
    for host in ["169.254.169.254", "169.254.170.2", "0.0.0.0", "[fe80::1]"] {
        assert_eq!(
            fetch(&format!("http://{host}/keys"), true).await,
            Err(FetchError::PrivateAddress),
            "{host}"
        );
    }
    for url in
        ["file:///etc/passwd", "ftp://host/x", "/keys", "https://", "https://user@host/keys", "gopher://x"]
    {
        assert_eq!(fetch(url, true).await, Err(FetchError::Url), "{url}");
    }
    assert_eq!(server.asked(), 0);
    assert!(fetch(&server.url, true).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_five_seconds() {
    let server = Server::start(String::new()).await;
    let started = tokio::time::Instant::now();
    assert_eq!(fetch(&server.url, true).await, Err(FetchError::Timeout));
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_token_of_a_new_key_causes_one_look_however_many_come_and_a_removed_key_is_gone() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let server = Server::start(ok(&old.set())).await;
    let spec = server.spec(Duration::ZERO);
    let (ring, _keeper) = ring(&spec);
    let first = ask(&ring, &spec, &old.token()).await.unwrap();
    assert_eq!(ring.generation("rule", &spec), Some(first));
    assert_eq!(server.asked(), 1);
    server.say(ok(&new.set()));
    let token = new.token();
    let asking = (0..50).map(|_| ask(&ring, &spec, &token));
    for answer in futures_util::future::join_all(asking).await {
        assert!(answer.unwrap() > first);
    }
    assert_eq!(server.asked(), 2);
    assert_eq!(ask(&ring, &spec, &old.token()).await, Err(TokenFault::UnknownKey));
}

#[tokio::test]
async fn unknown_keys_do_not_make_us_ask_more_often_than_allowed() {
    let issuer = Issuer::new("known");
    let server = Server::start(ok(&issuer.set())).await;
    let spec = server.spec(Duration::from_secs(600));
    let (ring, _keeper) = ring(&spec);
    ask(&ring, &spec, &issuer.token()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&ring, &spec, &Issuer::new("stranger").token()).await, Err(TokenFault::UnknownKey));
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn keys_that_policy_has_written_out_are_all_there_are_and_an_unknown_one_is_refused_at_once() {
    let issuer = Issuer::new("known");
    let spec = spec(KeyOrigin::Inline(issuer.set().into()), Duration::ZERO);
    let (ring, _keeper) = ring(&spec);
    let started = tokio::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&ring, &spec, &Issuer::new("stranger").token()).await, Err(TokenFault::UnknownKey));
    }
    assert!(started.elapsed().as_secs() < 2, "20 in less than one wait");
    ask(&ring, &spec, &issuer.token()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_waited_for_in_vain_is_not_waited_for_again_and_good_once_it_comes() {
    let (issuer, late) = (Issuer::new("known"), Issuer::new("late"));
    let server = Server::start(ok(&issuer.set())).await;
    let spec = server.spec(Duration::from_secs(1));
    let (ring, _keeper) = ring(&spec);
    ask(&ring, &spec, &issuer.token()).await.unwrap();
    server.say(String::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&ring, &spec, &late.token()).await, Err(TokenFault::UnknownKey));
    let started = tokio::time::Instant::now();
    assert_eq!(ask(&ring, &spec, &late.token()).await, Err(TokenFault::UnknownKey));
    assert!(started.elapsed().as_secs() < 1, "known to be unknown");
    // The look that nobody waits for fails, and the one after it brings the key.
    server.say(ok(&Issuer::set_of(&[&issuer, &late])));
    let taken = async {
        while ask(&ring, &spec, &late.token()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), taken).await.unwrap();
}

#[tokio::test]
async fn the_last_good_keys_stay_while_the_server_fails_and_nothing_passes_before_there_are_any() {
    let (issuer, stranger) = (Issuer::new("known"), Issuer::new("stranger"));
    let server = Server::start(ok("<html>")).await;
    let spec = server.spec(Duration::ZERO);
    let (ring, _keeper) = ring(&spec);
    assert_eq!(ask(&ring, &spec, &issuer.token()).await, Err(TokenFault::NoKeys));
    server.say(ok(&issuer.set()));
    let generation = ask(&ring, &spec, &issuer.token()).await.unwrap();
    for failure in ["HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(), ok("<html>"), ok("")] {
        server.say(failure);
        assert_eq!(ask(&ring, &spec, &stranger.token()).await, Err(TokenFault::UnknownKey));
        assert_eq!(ask(&ring, &spec, &issuer.token()).await, Ok(generation));
    }
    server.say(ok(r#"{"keys":[]}"#));
    let another = Issuer::new("another");
    assert_eq!(ask(&ring, &spec, &another.token()).await, Err(TokenFault::UnknownKey));
    assert_eq!(ask(&ring, &spec, &issuer.token()).await, Err(TokenFault::UnknownKey));
}

#[tokio::test]
async fn rules_that_say_something_else_never_see_each_others_keys() {
    let issuer = Issuer::new("k");
    let inline = |text: String| spec(KeyOrigin::Inline(text.into()), Duration::from_secs(600));
    let (ours, other) = (inline(issuer.set()), inline(Issuer::new("k").set()));
    let (ring, mut keeper) = ring(&ours);
    let generation = ask(&ring, &ours, &issuer.token()).await.unwrap();
    assert_eq!(ring.generation("rule", &other), None);
    keeper.sync(vec![("rule".into(), other.clone())]);
    assert_eq!(ring.generation("rule", &ours), None);
    assert_eq!(ask(&ring, &other, &issuer.token()).await, Err(TokenFault::Signature));
    // The same words in another snapshot are the same source.
    let again = Arc::new(KeySource::clone(&other));
    assert_eq!(ring.generation("rule", &again), ring.generation("rule", &other));
    keeper.sync(vec![("rule".into(), ours.clone())]);
    assert!(ask(&ring, &ours, &issuer.token()).await.unwrap() > generation);
}

#[tokio::test]
async fn a_secret_comes_from_a_file_of_at_least_32_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (content, expected) in [
        ("short", TokenFault::NoKeys),
        ("0123456789abcdef0123456789abcde\n", TokenFault::NoKeys),
        ("0123456789abcdef0123456789abcdef\n", TokenFault::KeyMismatch),
    ] {
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        let origin = KeyOrigin::Secret(path);
        let spec = spec(origin, Duration::from_secs(600));
        let (ring, _keeper) = ring(&spec);
        // The token is of ES256: a secret that was taken says so.
        assert_eq!(ask(&ring, &spec, &Issuer::new("k").token()).await, Err(expected), "{content}");
    }
}
