use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// An RSA key that signs tokens. Made at start, never written.
pub(super) struct Signer {
    pair: RsaKeyPair,
    kid: String,
    /// Modulus and exponent, as a JWK spells them.
    public: (String, String),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn generate() -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok().context("cannot make an RSA key")?;
        let der: PublicKeyX509Der<'_> =
            pair.public_key().as_der().ok().context("the key has no public half")?;
        let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref())?;
        let PublicKey::RSA(public) = info.parsed()? else { anyhow::bail!("an RSA key is expected") };
        let public = (unsigned(public.modulus), unsigned(public.exponent));
        Ok(Self { kid: thumbprint(&public.0, &public.1), public, pair })
    }

    /// The public half, as RFC 7517 writes it.
    pub(super) fn jwks(&self) -> Value {
        let (n, e) = &self.public;
        json!({ "keys": [{ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e }] })
    }

    /// A JWT of RFC 7519 in the compact form of RFC 7515.
    pub(super) fn sign(&self, claims: &Value) -> Result<String> {
        let head = json!({ "alg": "RS256", "typ": "JWT", "kid": self.kid });
        let mut token = format!("{}.{}", encoded(head.to_string()), encoded(claims.to_string()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .ok()
            .context("cannot sign")?;
        token.push('.');
        token.push_str(&encoded(signature));
        Ok(token)
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// DER puts a zero before a number whose first bit is set; a JWK does not.
fn unsigned(integer: &[u8]) -> String {
    let start = integer.iter().position(|byte| *byte != 0).unwrap_or(integer.len());
    encoded(integer.get(start..).unwrap_or_default())
}

/// RFC 7638: the same key has the same name everywhere, another key another.
fn thumbprint(n: &str, e: &str) -> String {
    encoded(digest(&SHA256, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#).as_bytes()))
}
