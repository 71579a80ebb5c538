//! Vectors that others wrote: Project Wycheproof and RFC 7520.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::fault::TokenFault;
use super::jwk::parse_set;
use super::jws::Jws;
use super::verify::{KeySet, Secret};

const SIGNATURES: &str = include_str!("../../tests/data/wycheproof/json_web_signature_test.json");
const KEYS: &str = include_str!("../../tests/data/wycheproof/json_web_key_test.json");

/// Judged otherwise here, and why.
const DIFFERING: &[(u64, &str)] = &[
    (346, "valid there: PS384 by a key that is for PS256"),
    (350, "valid there: PS384 by a key that is for PS256"),
    (347, "valid there: ES512, which is not served"),
    (351, "valid there: ES512, which is not served"),
    (372, "valid there: a foreign character in base64url"),
    (373, "valid there: a foreign character in base64url"),
    (367, "refused there, though it is the very text of case 357, which is valid"),
    (370, "refused there, though it is the very text of case 357, which is valid"),
];

/// As a deployment would have it: a secret by itself, public keys as a set.
fn key_set(keys: &[Value]) -> Option<KeySet> {
    let all_secret = keys.iter().all(|key| key["kty"] == "oct");
    match keys {
        [key] if all_secret && key["alg"] == "HS256" => {
            let bytes = URL_SAFE_NO_PAD.decode(key["k"].as_str()?).ok()?;
            Secret::new(&bytes).map(KeySet::Secret)
        }
        keys => parse_set(json!({ "keys": keys }).to_string().as_bytes()).ok().map(KeySet::Public),
    }
}

fn accepts(keys: &[Value], token: &str) -> bool {
    let Some(set) = key_set(keys) else { return false };
    Jws::parse(token.as_bytes(), 64 * 1024).is_ok_and(|jws| set.verify(&jws).is_ok())
}

#[test]
fn signatures_are_judged_as_wycheproof_does() {
    let file: Value = serde_json::from_str(SIGNATURES).unwrap();
    let (mut count, mut wrong) = (0, Vec::new());
    for group in file["testGroups"].as_array().unwrap() {
        let key = group.get("public").unwrap_or(&group["private"]);
        for test in group["tests"].as_array().unwrap() {
            count += 1;
            let id = test["tcId"].as_u64().unwrap();
            let differs = DIFFERING.iter().any(|(known, _)| *known == id);
            let expected = (test["result"] == "valid") != differs;
            if accepts(std::slice::from_ref(key), test["jws"].as_str().unwrap()) != expected {
                wrong.push(format!("{id} {} {}", group["comment"], test["comment"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    assert_eq!(count, 401);
}

/// Valid there, refused here: HS256 takes one secret from a file, never a set; no HS384, no HS512.
const KEYS_STRICTER: &[u64] = &[2, 14, 15];

#[test]
fn keys_are_judged_as_wycheproof_does() {
    let file: Value = serde_json::from_str(KEYS).unwrap();
    let mut wrong = Vec::new();
    for group in file["testGroups"].as_array().unwrap() {
        let keys = group.get("public").unwrap_or(&group["private"])["keys"].as_array().unwrap();
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let expected = test["result"] == "valid" && !KEYS_STRICTER.contains(&id);
            if accepts(keys, test["jws"].as_str().unwrap()) != expected {
                wrong.push(format!("{id} {} {}", group["comment"], test["comment"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_examples_of_rfc_7520_verify() {
    let rows = [
        include_str!("../../tests/data/jose-cookbook/4_1.rsa_v15_signature.json"),
        include_str!("../../tests/data/jose-cookbook/4_2.rsa-pss_signature.json"),
        include_str!("../../tests/data/jose-cookbook/4_4.hmac-sha2_integrity_protection.json"),
    ];
    for row in rows {
        let example: Value = serde_json::from_str(row).unwrap();
        let mut key = example["input"]["key"].clone();
        // The cookbook signs PS384 with a key that has no `alg`; its private half is left out here.
        let members = key.as_object_mut().unwrap();
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            members.remove(private);
        }
        let token = example["output"]["compact"].as_str().unwrap();
        assert!(accepts(&[key.clone()], token), "{}", example["title"]);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (_, rest) = signature.split_at(1);
        let swapped = if signature.starts_with('A') { "B" } else { "A" };
        assert!(!accepts(&[key], &format!("{signed}.{swapped}{rest}")), "{}", example["title"]);
    }
}

/// The rest of RFC 7520 section 4: an algorithm that is not served, a payload that is elsewhere, and the two JSON forms,
/// which no header, query or cookie carries.
#[test]
fn the_examples_of_rfc_7520_that_are_no_tokens_of_ours_are_refused() {
    let rows = [
        (include_str!("../../tests/data/jose-cookbook/4_3.ecdsa_signature.json"), "ES512"),
        (include_str!("../../tests/data/jose-cookbook/4_5.signature_with_detached_content.json"), "detached"),
        (include_str!("../../tests/data/jose-cookbook/4_6.protecting_specific_header_fields.json"), "JSON"),
        (include_str!("../../tests/data/jose-cookbook/4_7.protecting_content_only.json"), "JSON"),
        (include_str!("../../tests/data/jose-cookbook/4_8.multiple_signatures.json"), "JSON"),
    ];
    for (row, what) in rows {
        let example: Value = serde_json::from_str(row).unwrap();
        let keys = match example["input"]["key"].clone() {
            Value::Array(keys) => keys,
            one => vec![one],
        };
        let forms = example["output"].as_object().unwrap();
        assert!(forms.contains_key("compact") || what == "JSON", "{}", example["title"]);
        for form in forms.values() {
            let text = form.as_str().map_or_else(|| form.to_string(), str::to_owned);
            for key in &keys {
                assert!(!accepts(std::slice::from_ref(key), &text), "{}: {text}", example["title"]);
            }
        }
    }
}

/// RFC 7515 appendix A and RFC 8037 appendix A.4, by all their public keys at once.
#[test]
fn the_examples_of_rfc_7515_and_rfc_8037_verify_with_their_keys_and_no_other() {
    let keys = parse_set(include_str!("../../tests/data/rfc-tokens/keys.json").as_bytes()).unwrap();
    let set = KeySet::Public(keys);
    let verifies = |token: &str| set.verify(&Jws::parse(token.as_bytes(), 8192)?);
    let tokens: Vec<&str> = include_str!("../../tests/data/rfc-tokens/signed.txt").lines().collect();
    let [hs256, public @ ..] = tokens.as_slice() else { panic!("no tokens") };
    assert_eq!(verifies(hs256), Err(TokenFault::KeyMismatch));
    assert_eq!(public.len(), 3);
    for (place, token) in public.iter().enumerate() {
        assert_eq!(verifies(token), Ok(()), "{token}");
        for other in public.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, other)| other) {
            // The signature of one under the head of another.
            let (_, signature) = token.rsplit_once('.').unwrap();
            let (signed, _) = other.rsplit_once('.').unwrap();
            assert_eq!(verifies(&format!("{signed}.{signature}")), Err(TokenFault::Signature));
        }
    }
}

/// RFC 7515 appendices A.4 (ES512), A.5 (no signature) and E (an extension that must be understood).
#[test]
fn the_examples_of_rfc_7515_that_must_be_refused_are() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rows = [
        ("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB3\
          4XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
            .to_owned(), TokenFault::Algorithm),
        (format!("eyJhbGciOiJub25lIn0.{payload}."), TokenFault::Algorithm),
        ("eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9V\
          TkRFRklORUQiOnRydWUNCn0.RkFJTA.".to_owned(), TokenFault::Critical),
    ];
    for (token, fault) in rows {
        assert_eq!(Jws::parse(token.as_bytes(), 8192).unwrap_err(), fault, "{token}");
    }
}

/// RFC 7515 appendix A.1: HS256, its secret in a file as a deployment has it.
#[test]
fn the_example_of_rfc_7515_with_a_shared_secret_verifies() {
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leG\
                 FtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
    let (secret, _) = super::secret::read(&path).unwrap();
    let set = KeySet::Secret(secret);
    let verify = |token: &str| set.verify(&Jws::parse(token.as_bytes(), 8192).unwrap()).is_ok();
    assert!(verify(token));
    assert!(!verify(&token.replace("dBjf", "dBjg")));
    // As a set of keys, the same secret is none: whoever publishes one has none.
    let jwk = json!({"kty": "oct", "k": key, "alg": "HS256"});
    assert_eq!(parse_set(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap().len(), 0);
}
