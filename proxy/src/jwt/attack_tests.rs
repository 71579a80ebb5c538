//! What others were broken with: each is a token that must not verify.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::fault::TokenFault;
use super::jwk::{KeyRefusal, PublicKeys, SetError, parse_set};
use super::jws::Jws;
use super::verify::{KeySet, Secret};

const CLAIMS: &str = r#"{"iss":"https://auth.example","sub":"alice"}"#;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(CLAIMS));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

fn verify(set: &KeySet, token: &str) -> Result<(), TokenFault> {
    set.verify(&Jws::parse(token.as_bytes(), 8192)?)
}

struct Ec(EcdsaKeyPair);

impl Ec {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        let point = self.0.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": b64(&point[1..33]), "y": b64(&point[33..])})
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

fn rsa() -> (RsaKeyPair, Value) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RSAPublicKey: the modulus is the 256 bytes behind the fixed head 30 82 01 0a 02 82 01 01 00.
    let modulus = b64(&pair.public_key().as_ref()[9..265]);
    (pair, json!({"kty": "RSA", "kid": "r1", "n": modulus, "e": "AQAB"}))
}

fn rsa_sign(pair: &RsaKeyPair, pss: bool, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    let padding = if pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
    pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::Public(read(keys))
}

fn read(keys: &[Value]) -> PublicKeys {
    parse_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn refusals(keys: &[Value]) -> Vec<(usize, KeyRefusal)> {
    read(keys).refused
}

#[test]
fn good_tokens_of_each_kind_of_key_verify() {
    let (pair, jwk) = rsa();
    let ec = Ec::new();
    let ed = Ed25519KeyPair::generate().unwrap();
    let okp = json!({"kty": "OKP", "crv": "Ed25519", "kid": "o1", "x": b64(ed.public_key().as_ref())});
    let keys = set(&[jwk, ec.jwk("e1"), okp]);
    let rows = [
        token(&json!({"alg": "RS256", "kid": "r1"}), |m| rsa_sign(&pair, false, m)),
        token(&json!({"alg": "PS256", "kid": "r1"}), |m| rsa_sign(&pair, true, m)),
        token(&json!({"alg": "ES256", "kid": "e1"}), |m| ec.sign(m)),
        token(&json!({"alg": "ES256"}), |m| ec.sign(m)),
        token(&json!({"alg": "EdDSA", "kid": "o1"}), |m| ed.sign(m).as_ref().to_vec()),
    ];
    for row in rows {
        assert_eq!(verify(&keys, &row), Ok(()), "{row}");
    }
    let crossed = token(&json!({"alg": "PS256", "kid": "r1"}), |m| rsa_sign(&pair, false, m));
    assert_eq!(verify(&keys, &crossed), Err(TokenFault::Signature));
    let other_key = token(&json!({"alg": "ES256", "kid": "r1"}), |m| ec.sign(m));
    assert_eq!(verify(&keys, &other_key), Err(TokenFault::KeyMismatch));
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let (pair, jwk) = rsa();
    let der = pair.public_key().as_ref().to_vec();
    let pem =
        format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", STANDARD.encode(&der));
    let modulus = der[9..265].to_vec();
    let text = jwk["n"].as_str().unwrap().as_bytes().to_vec();
    let keys = set(&[jwk]);
    for secret in [der, pem.into_bytes(), modulus, text] {
        for header in [json!({"alg": "HS256", "kid": "r1"}), json!({"alg": "HS256"})] {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let forged = token(&header, |message| hmac::sign(&key, message).as_ref().to_vec());
            assert_eq!(verify(&keys, &forged), Err(TokenFault::KeyMismatch));
        }
    }
}

#[test]
fn a_secret_verifies_hs256_and_nothing_else() {
    let bytes = [7; 32];
    assert!(Secret::new(&bytes[..31]).is_none());
    let keys = KeySet::Secret(Secret::new(&bytes).unwrap());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
    let good = token(&json!({"alg": "HS256"}), |message| hmac::sign(&key, message).as_ref().to_vec());
    assert_eq!(verify(&keys, &good), Ok(()));
    let (pair, _) = rsa();
    let other = token(&json!({"alg": "RS256"}), |message| rsa_sign(&pair, false, message));
    assert_eq!(verify(&keys, &other), Err(TokenFault::KeyMismatch));
    let empty = token(&json!({"alg": "HS256"}), |_| Vec::new());
    assert_eq!(verify(&keys, &empty), Err(TokenFault::Signature));
}

#[test]
fn psychic_empty_and_der_signatures_are_refused() {
    let ec = Ec::new();
    let keys = set(&[ec.jwk("e1")]);
    let header = json!({"alg": "ES256", "kid": "e1"});
    for signature in [vec![0; 64], Vec::new(), vec![0; 63], vec![0; 65]] {
        assert_eq!(verify(&keys, &token(&header, |_| signature)), Err(TokenFault::Signature));
    }
    let der_pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8(&ec).as_ref()).unwrap();
    let der = token(&header, |m| der_pair.sign(&SystemRandom::new(), m).unwrap().as_ref().to_vec());
    assert_eq!(verify(&keys, &der), Err(TokenFault::Signature));
    assert_eq!(verify(&keys, &token(&header, |m| ec.sign(m))), Ok(()));
}

fn pkcs8(ec: &Ec) -> impl AsRef<[u8]> {
    ec.0.to_pkcs8v1().unwrap()
}

#[test]
fn a_key_that_the_token_brings_is_not_used() {
    let (ours, attacker) = (Ec::new(), Ec::new());
    let keys = set(&[ours.jwk("e1")]);
    let mut public = attacker.jwk("e1");
    for member in ["jwk", "jku", "x5u", "x5c"] {
        let header = json!({"alg": "ES256", "kid": "e1", member: public.take()});
        let forged = token(&header, |message| attacker.sign(message));
        assert_eq!(verify(&keys, &forged), Err(TokenFault::EmbeddedKey));
        public = attacker.jwk("e1");
    }
}

#[test]
fn a_key_id_is_only_ever_compared() {
    let ec = Ec::new();
    let keys = set(&[ec.jwk("e1"), Ec::new().jwk("e2")]);
    for id in ["../../dev/null", "e1' OR '1'='1", "E1", "e1 ", "e1\u{0}", "e2/../e1", "https://evil.example"]
    {
        let odd = token(&json!({"alg": "ES256", "kid": id}), |message| ec.sign(message));
        assert_eq!(verify(&keys, &odd), Err(TokenFault::UnknownKey), "{id}");
    }
    let other = token(&json!({"alg": "ES256", "kid": "e2"}), |message| ec.sign(message));
    assert_eq!(verify(&keys, &other), Err(TokenFault::Signature));
    let none = token(&json!({"alg": "ES256"}), |message| ec.sign(message));
    assert_eq!(verify(&keys, &none), Ok(()));
    let many: Vec<Value> = (0..5).map(|n| Ec::new().jwk(&n.to_string())).collect();
    assert_eq!(verify(&set(&many), &none), Err(TokenFault::KeyAmbiguous));
}

#[test]
fn a_bad_key_is_left_out_with_a_code_and_the_good_ones_stay() {
    let ec = Ec::new();
    let with = |member: &str, value: Value| {
        let mut key = Ec::new().jwk("other");
        key[member] = value;
        key
    };
    let (_, good_rsa) = rsa();
    let rsa_with = |member: &str, value: &str| {
        let mut key = good_rsa.clone();
        key[member] = json!(value);
        key
    };
    let small_order = json!({"kty": "OKP", "crv": "Ed25519", "x": b64([0; 32])});
    let rows = [
        (with("use", json!("enc")), KeyRefusal::Use),
        (with("key_ops", json!(["sign"])), KeyRefusal::Use),
        (with("key_ops", json!("verify")), KeyRefusal::Malformed),
        (with("alg", json!("RS256")), KeyRefusal::Algorithm),
        (with("alg", json!("none")), KeyRefusal::Algorithm),
        (with("alg", json!("HS256")), KeyRefusal::Algorithm),
        (with("crv", json!("P-521")), KeyRefusal::Curve),
        (with("crv", json!("secp256k1")), KeyRefusal::Curve),
        (with("crv", json!("P-384")), KeyRefusal::Point),
        (with("x", json!(b64([1; 32]))), KeyRefusal::Point),
        (with("x", json!(b64([1; 31]))), KeyRefusal::Point),
        (with("x", json!("AAAA=")), KeyRefusal::Malformed),
        (with("d", json!("AAAA")), KeyRefusal::Private),
        (with("kid", json!(7)), KeyRefusal::Malformed),
        (with("kty", json!("oct")), KeyRefusal::KeyType),
        (with("kty", json!("RSA")), KeyRefusal::Malformed),
        (rsa_with("e", "AQ"), KeyRefusal::Weak),
        (rsa_with("e", "Aw"), KeyRefusal::Weak),
        (rsa_with("n", &b64([0xfd; 128])), KeyRefusal::Weak),
        (rsa_with("n", &b64(vec![0xfd; 2048])), KeyRefusal::Weak),
        (rsa_with("n", &b64([0; 256])), KeyRefusal::Malformed),
        (small_order, KeyRefusal::Weak),
        (json!({"kty": "OKP", "crv": "X25519", "x": b64([9; 32])}), KeyRefusal::Curve),
        (json!("a key"), KeyRefusal::Malformed),
        (json!({}), KeyRefusal::Malformed),
    ];
    let good = token(&json!({"alg": "ES256", "kid": "e1"}), |message| ec.sign(message));
    for (bad, expected) in rows {
        let keys = [bad.clone(), ec.jwk("e1")];
        assert_eq!(refusals(&keys), [(0, expected)], "{bad}");
        assert_eq!(verify(&set(&keys), &good), Ok(()), "{bad}");
    }
}

#[test]
fn two_keys_of_one_id_are_both_left_out() {
    let (one, two, third) = (Ec::new(), Ec::new(), Ec::new());
    let keys = [one.jwk("same"), two.jwk("same"), third.jwk("e3")];
    assert_eq!(refusals(&keys), [(0, KeyRefusal::DuplicateId), (1, KeyRefusal::DuplicateId)]);
    let forged = token(&json!({"alg": "ES256", "kid": "same"}), |message| two.sign(message));
    assert_eq!(verify(&set(&keys), &forged), Err(TokenFault::UnknownKey));
}

#[test]
fn what_is_no_key_set_is_refused_whole() {
    let many = json!({"keys": vec![json!({}); 101]}).to_string();
    let deep = format!("{{\"keys\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let rows: [(&[u8], SetError); 8] = [
        (b"<html><body>Sign in</body></html>", SetError::Malformed),
        (b"", SetError::Malformed),
        (b"[]", SetError::Malformed),
        (b"{}", SetError::Malformed),
        (br#"{"keys":{}}"#, SetError::Malformed),
        (br#"{"keys":[],"keys":[]}"#, SetError::Malformed),
        (deep.as_bytes(), SetError::Malformed),
        (many.as_bytes(), SetError::TooMany),
    ];
    for (text, expected) in rows {
        assert_eq!(parse_set(text).unwrap_err(), expected);
    }
    assert_eq!(parse_set(&vec![b' '; 10 * 1024 * 1024]).unwrap_err(), SetError::TooLarge);
    assert_eq!(parse_set(br#"{"keys":[]}"#).unwrap().len(), 0);
}
