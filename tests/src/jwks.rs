//! An issuer of tokens.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Signs with ES256 under one key id.
#[derive(Debug)]
pub struct Issuer {
    pub key_id: String,
    pair: EcdsaKeyPair,
}

impl Issuer {
    pub fn new(key_id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { key_id: key_id.to_owned(), pair }
    }

    /// The public key as a JWK set.
    pub fn jwks(&self) -> String {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": self.key_id, "x": x, "y": y}]}).to_string()
    }

    /// The public keys of several as one set.
    pub fn jwks_of(issuers: &[&Self]) -> String {
        let keys = issuers.iter().map(|issuer| {
            let set: Value = serde_json::from_str(&issuer.jwks()).unwrap();
            set["keys"][0].clone()
        });
        json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": "ES256", "kid": self.key_id, "typ": "JWT"}), claims)
    }

    /// A token with a header that a test makes up, properly signed by this key.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// So many seconds from now.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// A token of HS256 under a shared secret.
pub fn hs256(secret: &[u8], claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": "HS256", "typ": "JWT"})), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}

/// Publishes a key set by `http://` on loopback, and may be told to say something else, or to go away.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl KeyServer {
    pub async fn start(keys: &str) -> Self {
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            answer: Arc::new(Mutex::new((StatusCode::OK, keys.to_owned()))),
            asked: Arc::default(),
            task: None,
        };
        server.resume().await;
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn say(&self, status: StatusCode, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    /// Closes the port.
    pub async fn stop(&mut self) {
        let task = self.task.take().expect("it runs");
        task.abort();
        let _aborted = task.await;
    }

    /// Listens, at the address that it had.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (answer, asked) = (self.answer.clone(), self.asked.clone());
        self.task = Some(tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer.lock().unwrap().clone();
                let _head = socket.read(&mut [0; 4096]).await;
                let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _gone = socket.write_all(text.as_bytes()).await;
            }
        }));
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
